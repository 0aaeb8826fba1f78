//! Pushpin: its runner with condure (connections), pushpin-proxy, pushpin-handler (channels) and zurl (requests to the origin),
//! next to an nginx. Pushpin serves no streams by itself: for each subscriber it asks an origin, whose response names the
//! channel; here, nginx responds from its configuration. Pushpin's port for publishing closes the connection after each
//! request, so publishers also go through nginx, which keeps their connections open.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::launch;
use super::{Dialect, Failure, Running, Scratch};

/// With more connections opening at once, some get their head but never an event.
const GENTLY: usize = 10;

const DIALECT: Dialect =
    Dialect { prepare: None, subscribe, resume: None, publish, publish_many: None, connecting: GENTLY };

/// Keeps both in the foreground, and stops both.
const BOTH: &str = r#"
nginx -c "$1/nginx.conf" & origin=$!
pushpin --config "$1/pushpin.conf" & proxy=$!
trap 'kill "$origin" "$proxy"' TERM
wait
wait
"#;

/// Starts it on these cores.
pub fn start(core: &str) -> Result<Running, Failure> {
    let scratch = Scratch::new()?;
    let [address, control, origin] = launch::free_addresses()?;
    fs::write(scratch.path().join("nginx.conf"), origin_configuration(scratch.path(), origin, control))?;
    fs::write(scratch.path().join("routes"), format!("* {origin}\n"))?;
    fs::write(scratch.path().join("pushpin.conf"), configuration(scratch.path(), address, control))?;
    let root =
        launch::command(core, &scratch, Path::new("sh"))?.args(["-c", BOTH, "sh"]).arg(scratch.path()).spawn()?;
    let version = version()?;
    launch::delivering(Running { version, root, scratch, subscribe_at: address, publish_at: origin, dialect: DIALECT })
}

fn version() -> Result<String, Failure> {
    let [pushpin, condure, zurl] = ["pushpin", "condure", "zurl"].map(launch::package_version);
    Ok(format!("pushpin {}, condure {}, zurl {}", pushpin?, condure?, zurl?))
}

fn subscribe(topic: &str) -> String {
    format!("GET /subscribe/{topic} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
}

fn publish(topic: &str, data: &str) -> String {
    let body = format!(
        r#"{{"items":[{{"channel":"{topic}","formats":{{"http-stream":{{"content":"data: {data}\n\n"}}}}}}]}}"#
    );
    let length = body.len();
    format!(
        "POST /publish/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n\
         {body}"
    )
}

/// Debian's pushpin.conf, except for: its own zurl in its own directory; internal sockets in that directory as well; no log
/// line per request; no limit of 2 500 deliveries a second, which would delay an event to ten thousand subscribers by four
/// seconds; and room for more connections than descriptors allow, because condure's internal queues hold a twentieth of that
/// (half in each of its two workers): if an event has more subscribers than that, messages are lost and streams are cut. This
/// room costs about 200 MB once, and nothing per subscriber.
fn configuration(scratch: &Path, address: SocketAddr, control: SocketAddr) -> String {
    let (scratch, host, port) = (scratch.display(), control.ip(), control.port());
    format!(
        r#"
[global]
include={{libdir}}/internal.conf
rundir={scratch}/run
ipc_prefix=pushpin-
port_offset=0
stats_connection_ttl=120

[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port={address}
logdir={scratch}/logs
log_level=1
client_buffer_size=8192
client_maxconn=400000

[proxy]
routesfile=routes
debug=false
auto_cross_origin=false
accept_x_forwarded_protocol=false
set_x_forwarded_protocol=proto-only
x_forwarded_for=
accept_pushpin_route=false
log_from=false
log_user_agent=false
sig_iss=pushpin
sig_key=changeme
updates_check=off
zurl_out_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-in
zurl_out_stream_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-in-stream
zurl_in_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-out

[handler]
push_in_spec=ipc://{{rundir}}/{{ipc_prefix}}push-in
push_in_sub_specs=ipc://{{rundir}}/{{ipc_prefix}}push-in-sub
push_in_sub_connect=false
push_in_http_addr={host}
push_in_http_port={port}
push_in_http_max_headers_size=10000
push_in_http_max_body_size=1000000
stats_spec=ipc://{{rundir}}/{{ipc_prefix}}stats
command_spec=ipc://{{rundir}}/{{ipc_prefix}}command
message_rate=-1
message_hwm=-1
message_wait=5000
id_cache_ttl=60
connection_subscription_max=20
subscription_linger=60
stats_subscription_ttl=60
stats_report_interval=10
stats_format=tnetstring
"#
    )
}

/// The smallest possible origin: responds from its configuration, with one worker. The heartbeat is 15 seconds, Esker's
/// default.
fn origin_configuration(scratch: &Path, origin: SocketAddr, control: SocketAddr) -> String {
    let scratch = scratch.display();
    format!(
        r#"
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx.log;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    default_type text/event-stream;
    keepalive_requests 1000000000;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;

    server {{
        listen {origin} backlog=4096;

        location ~ ^/subscribe/(\w+)$ {{
            add_header Grip-Hold stream;
            add_header Grip-Channel $1;
            add_header Grip-Keep-Alive ":\\n\\n; format=cstring; timeout=15";
            return 200;
        }}

        location = /publish/ {{
            proxy_pass http://{control};
        }}
    }}
}}
"#
    )
}
