//! What each recipe promises, and what a test changes in it: ports, files, limits that need a privilege, and the time for which
//! idle connections to the broker are kept, which is a second in the tests.

use super::{Departure, Recipe, USUAL};

/// Embeds a file of `scripts/proxy`.
macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("../../../scripts/proxy/", $name))
    };
}

pub(super) const NGINX: Recipe = Recipe {
    program: "nginx",
    arguments: &["-e", "stderr", "-p", ".", "-c", "config", "-g", "daemon off; master_process off;"],
    files: &[("config", text!("nginx.conf"))],
    changes: &[
        ("/run/nginx.pid", "pid"),
        ("worker_rlimit_nofile 131072;", ""),
        ("worker_connections 65536;", "worker_connections 1024;"),
        ("/var/log/nginx/access.log", "access"),
        ("/var/log/nginx/error.log", "error"),
        ("listen 80;", "listen 127.0.0.1:{plain};"),
        ("listen [::]:80;", "listen [::1]:{plain};"),
        ("listen 443 ", "listen 127.0.0.1:{port} "),
        ("listen [::]:443 ", "listen [::1]:{port} "),
        ("server 127.0.0.1:3000;", "server {broker};"),
        ("keepalive_timeout 60s;", "keepalive_timeout 1s;"),
        (
            "http {\n",
            "http {
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            ",
        ),
    ],
    ..USUAL
};

pub(super) const HAPROXY: Recipe = Recipe {
    program: "haproxy",
    arguments: &["-db", "-f", "config"],
    files: &[("config", text!("haproxy.cfg"))],
    changes: &[
        ("maxconn 65536", "maxconn 1024"),
        ("log /dev/log local0", "log stdout format raw local0"),
        ("bind :80", "bind 127.0.0.1:{plain}"),
        ("bind :443 ", "bind 127.0.0.1:{port} "),
        ("/etc/haproxy/certs/events.example.com.pem", "{home}/both.pem"),
        ("server esker 127.0.0.1:3000", "server esker {broker} pool-purge-delay 1s"),
    ],
    ..USUAL
};

pub(super) const CADDY: Recipe = Recipe {
    program: "caddy",
    arguments: &["run", "--adapter", "caddyfile", "--config", "config"],
    files: &[("config", text!("Caddyfile"))],
    changes: &[
        (
            "\tgrace_period 10s",
            "grace_period 10s\nadmin off\ndefault_bind 127.0.0.1\nhttp_port {plain}\nhttps_port {port}",
        ),
        ("reverse_proxy 127.0.0.1:3000 ", "reverse_proxy {broker} "),
        ("keepalive 2m", "keepalive 1s"),
    ],
    ..USUAL
};

/// The package without the service has no configuration: the first lines are what Debian's has.
pub(super) const APACHE: Recipe = Recipe {
    program: "apache2",
    arguments: &["-DFOREGROUND", "-d", "{home}", "-f", "{home}/config"],
    files: &[("config", text!("apache.conf"))],
    changes: &[
        (
            "# Apache in front",
            "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
            LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
            LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
            LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
            LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
            LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
            LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
            Listen 127.0.0.1:{plain}
            Listen 127.0.0.1:{port}
            PidFile {home}/pid
            ErrorLog /dev/stderr
            ServerName localhost
            # Apache in front",
        ),
        ("<VirtualHost *:80>", "<VirtualHost 127.0.0.1:{plain}>"),
        ("<VirtualHost *:443>", "<VirtualHost 127.0.0.1:{port}>"),
        ("/var/log/apache2/", "{home}/"),
        ("127.0.0.1:3000", "{broker}"),
        ("ttl=60", "ttl=1"),
    ],
    http2: false,
    departure: Departure::ByHeartbeat,
    says_retry: false,
    ..USUAL
};

pub(super) const LIGHTTPD: Recipe = Recipe {
    program: "lighttpd",
    arguments: &["-D", "-f", "config"],
    files: &[("config", text!("lighttpd.conf"))],
    changes: &[
        ("server.username = \"www-data\"\nserver.groupname = \"www-data\"\n", ""),
        ("/var/empty", "{home}"),
        ("/run/lighttpd.pid", "{home}/pid"),
        ("/var/log/lighttpd/", "{home}/"),
        ("server.max-fds = 16384\n", ""),
        ("server.port = 80", "server.bind = \"127.0.0.1\"\nserver.port = {plain}"),
        ("[::]:80", "[::1]:{plain}"),
        ("0.0.0.0:443", "127.0.0.1:{port}"),
        ("[::]:443", "[::1]:{port}"),
        ("\"port\" => 3000", "\"port\" => {broker port}"),
    ],
    // Of 8, one is for the publisher.
    streams: 7,
    departure: Departure::ByHeartbeat,
    says_retry: false,
    ..USUAL
};

pub(super) const VARNISH: Recipe = Recipe {
    program: "varnishd",
    #[rustfmt::skip]
    arguments: &[
        "-F", "-j", "none", "-n", "{home}/work", "-s", "malloc,10m", "-f", "{home}/config",
        "-a", "127.0.0.1:{plain}", "-a", "127.0.0.1:{port}", "-p", "feature=+http2", "-p", "h2_max_concurrent_streams=128",
        "-p", "backend_idle_timeout=1",
    ],
    files: &[("config", text!("varnish.vcl"))],
    changes: &[("\"3000\"", "\"{broker port}\""), ("== 80", "== {plain}")],
    tls: false,
    departure: Departure::ByHeartbeat,
    ..USUAL
};

pub(super) const H2O: Recipe = Recipe {
    program: "h2o",
    arguments: &["-m", "worker", "-c", "config"],
    files: &[("config", text!("h2o.conf"))],
    changes: &[
        ("user: www-data\n", "num-threads: 1\n"),
        ("pid-file: /run/h2o.pid\n", ""),
        ("/var/log/h2o/", "{home}/"),
        ("port: 80\n", "host: 127.0.0.1\n      port: {plain}\n"),
        ("port: 443\n", "host: 127.0.0.1\n      port: {port}\n"),
        (":80\"", ":{plain}\""),
        (":443\"", ":{port}\""),
        ("127.0.0.1:3000", "{broker}"),
        ("keepalive: 60000", "keepalive: 1000"),
    ],
    departure: Departure::ByHeartbeat,
    says_retry: false,
    ..USUAL
};

pub(super) const SQUID: Recipe = Recipe {
    program: "squid",
    // The name is that of its shared memory.
    arguments: &["-N", "-n", "esker{port}", "-f", "{home}/config"],
    files: &[("config", text!("squid.conf"))],
    changes: &[
        (
            "https_port 443",
            "pid_filename {home}/pid
            shutdown_lifetime 0 seconds
            coredump_dir none
            memory_cache_shared off
            netdb_filename none
            pinger_enable off
            unlinkd_program /bin/true
            visible_hostname localhost
            https_port 127.0.0.1:{port}",
        ),
        ("localport 443", "localport {port}"),
        ("http_port 80", "http_port 127.0.0.1:{plain}"),
        ("127.0.0.1 parent 3000", "127.0.0.1 parent {broker port}"),
        ("access_log daemon:/var/log/squid/access.log", "access_log none"),
        ("max_filedescriptors 65536", "max_filedescriptors 1024"),
        ("server_idle_pconn_timeout 60 seconds", "server_idle_pconn_timeout 1 second"),
    ],
    http2: false,
    prefix: false,
    says_retry: false,
    ..USUAL
};

pub(super) const TRAFFIC_SERVER: Recipe = Recipe {
    program: "traffic_server",
    arguments: &["--run-root={home}/runroot.yaml"],
    files: &[
        ("records.config", text!("trafficserver/records.config")),
        ("remap.config", text!("trafficserver/remap.config")),
        ("ssl_multicert.config", text!("trafficserver/ssl_multicert.config")),
        ("storage.config", ""),
        ("ip_allow.yaml", "ip_allow: [{ apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL }]\n"),
        (
            "runroot.yaml",
            "prefix: {home}
exec_prefix: {home}
sysconfdir: {home}
datadir: {home}
localstatedir: {home}
runtimedir: {home}
logdir: {home}
cachedir: {home}
bindir: /usr/bin
sbindir: /usr/sbin
libdir: /usr/lib
includedir: /usr/include
libexecdir: /usr/lib/trafficserver/modules
",
        ),
    ],
    changes: &[
        ("80 80:ipv6 443:ssl 443:ssl:ipv6", "{plain}:ip-in=127.0.0.1 {port}:ssl:ip-in=127.0.0.1"),
        (
            "connections_throttle INT 60000",
            "connections_throttle INT 1000
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.crash_log_helper STRING NULL",
        ),
        ("no_activity_timeout_out INT 60\n# Must", "no_activity_timeout_out INT 1\n# Must"),
        ("map https://events.example.com/", "map https://events.example.com:{port}/"),
        ("127.0.0.1:3000", "{broker}"),
    ],
    departure: Departure::ByHeartbeat,
    says_retry: false,
    ..USUAL
};

pub(super) const ENVOY: Recipe = Recipe {
    program: "{target}/proxy/bin/envoy",
    arguments: &["-c", "{home}/config.yaml", "--concurrency", "1", "--disable-hot-restart"],
    files: &[("config.yaml", text!("envoy.yaml"))],
    changes: &[
        ("address: 0.0.0.0, port_value: 80 ", "address: 127.0.0.1, port_value: {plain} "),
        ("address: 0.0.0.0, port_value: 443 ", "address: 127.0.0.1, port_value: {port} "),
        ("port_value: 3000", "port_value: {broker port}"),
        ("{ idle_timeout: 60s", "{ idle_timeout: 1s"),
    ],
    says_retry: false,
    ..USUAL
};

pub(super) const TRAEFIK: Recipe = Recipe {
    program: "{target}/proxy/bin/traefik",
    arguments: &["--configfile={home}/traefik.yaml"],
    files: &[("traefik.yaml", text!("traefik/traefik.yaml")), ("esker.yaml", text!("traefik/esker.yaml"))],
    changes: &[
        ("/etc/traefik/esker.yaml", "{home}/esker.yaml"),
        ("\":80\"", "\"127.0.0.1:{plain}\""),
        ("\":443\"", "\"127.0.0.1:{port}\""),
        ("127.0.0.1:3000", "{broker}"),
        ("idleConnTimeout: 60s", "idleConnTimeout: 1s"),
    ],
    says_retry: false,
    ..USUAL
};
