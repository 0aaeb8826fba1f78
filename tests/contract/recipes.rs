//! The configurations in `scripts/proxy`, run unchanged except for ports and files, with HTTP/2 and TLS as browsers use them.
//! `h2.mjs` acts as the browser.

use std::net::SocketAddr;
use std::process::Command;

use super::proxies::{free_address, listens};
use super::support::tokens::{self, SECRETS};
use super::support::{Broker, Program, TempDir, finish, openssl};

const NAME: &str = "events.example.com";

/// A configuration, how to start its program, and what a test replaces in it. `{…}` stands for values known only at run time.
struct Recipe {
    program: &'static str,
    arguments: &'static [&'static str],
    text: &'static str,
    changes: &'static [(&'static str, &'static str)],
}

const NGINX: Recipe = Recipe {
    program: "nginx",
    arguments: &["-e", "stderr", "-p", ".", "-c", "config", "-g", "daemon off; master_process off;"],
    text: include_str!("../../scripts/proxy/nginx.conf"),
    changes: &[
        ("/run/nginx.pid", "pid"),
        ("worker_rlimit_nofile 131072;", ""),
        ("worker_connections 65536;", "worker_connections 1024;"),
        ("/var/log/nginx/access.log", "access"),
        ("listen 80;", "listen 127.0.0.1:{plain};"),
        ("listen [::]:80;", "listen [::1]:{plain};"),
        ("listen 443 ", "listen 127.0.0.1:{port} "),
        ("listen [::]:443 ", "listen [::1]:{port} "),
        ("/etc/ssl/certs/events.example.com.pem", "{home}/certificate.pem"),
        ("/etc/ssl/private/events.example.com.key", "{home}/private.pem"),
        ("server 127.0.0.1:3000;", "server {broker};"),
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
};

const HAPROXY: Recipe = Recipe {
    program: "haproxy",
    arguments: &["-db", "-f", "config"],
    text: include_str!("../../scripts/proxy/haproxy.cfg"),
    changes: &[
        ("maxconn 65536", "maxconn 1024"),
        ("log /dev/log local0", "log stdout format raw local0"),
        ("bind :80", "bind 127.0.0.1:{plain}"),
        ("bind :443 ", "bind 127.0.0.1:{port} "),
        ("/etc/haproxy/certs/events.example.com.pem", "{home}/both.pem"),
        ("server esker 127.0.0.1:3000", "server esker {broker}"),
    ],
};

const CADDY: Recipe = Recipe {
    program: "caddy",
    arguments: &["run", "--adapter", "caddyfile", "--config", "config"],
    text: include_str!("../../scripts/proxy/Caddyfile"),
    changes: &[
        (
            "\tgrace_period 10s",
            "grace_period 10s\nadmin off\ndefault_bind 127.0.0.1\nhttp_port {plain}\nhttps_port {port}",
        ),
        ("/etc/ssl/certs/events.example.com.pem", "{home}/certificate.pem"),
        ("/etc/ssl/private/events.example.com.key", "{home}/private.pem"),
        ("reverse_proxy 127.0.0.1:3000 ", "reverse_proxy {broker} "),
    ],
};

impl Recipe {
    /// Returns the configuration with this test's ports and files.
    fn config(&self, broker: SocketAddr, [port, plain]: [u16; 2], home: &str) -> String {
        let adapted = self.changes.iter().fold(self.text.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{} has no {from:?}", self.program);
            text.replace(from, to)
        });
        let adapted = adapted.replace("{home}", home).replace("{broker}", &broker.to_string());
        adapted.replace("{port}", &port.to_string()).replace("{plain}", &plain.to_string())
    }

    /// Starts the program on free ports, and tries others if a program takes one in the meantime.
    fn start(&self, broker: &Broker, certificate: &Certificate) -> (Program, TempDir, [u16; 2]) {
        for _ in 0..10 {
            let home = TempDir::new();
            let addresses = [free_address(), free_address()];
            let ports = addresses.map(|address| address.port());
            let config = self.config(broker.address, ports, &certificate.home.path.display().to_string());
            std::fs::write(home.path.join("config"), config).expect("a file can be written");
            let mut program = Program::start(&[self.program], self.arguments, &home);
            if addresses.iter().all(|&address| listens(&mut program, address)) {
                return (program, home, ports);
            }
            eprintln!("{}: {}", self.program, home.log());
        }
        panic!("{} does not start", self.program);
    }
}

/// A certificate for the host name in the configurations.
struct Certificate {
    home: TempDir,
}

impl Certificate {
    fn new() -> Self {
        let home = TempDir::new();
        let names = format!("subjectAltName=DNS:{NAME}");
        let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let files = ["-keyout", "private.pem", "-out", "certificate.pem", "-subj", "/CN=esker", "-addext", &names];
        openssl::openssl(&[&request[..], &files].concat(), &home.path);
        let read = |name: &str| std::fs::read(home.path.join(name)).expect("openssl has written it");
        let both = [read("certificate.pem"), read("private.pem")].concat();
        std::fs::write(home.path.join("both.pem"), both).expect("a file can be written");
        Self { home }
    }
}

fn assert_serves_browsers(recipe: &Recipe) {
    let broker = Broker::start_with_tokens(&["--heartbeat", "500ms"], &SECRETS);
    let certificate = Certificate::new();
    let (_program, home, [port, plain]) = recipe.start(&broker, &certificate);
    let mut browser = Command::new("node");
    browser
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/h2.mjs"))
        .args([port.to_string(), plain.to_string(), broker.address.to_string()])
        .arg(certificate.home.path.join("certificate.pem"))
        .args([tokens::publisher("*"), tokens::subscriber("*")]);
    let (code, out, err) = finish(&mut browser);
    assert_eq!(code, Some(0), "{out}{err}{}", home.log());
    println!("{}: {out}", recipe.program);
}

#[test]
fn the_nginx_recipe_works() {
    assert_serves_browsers(&NGINX);
}

#[test]
fn the_haproxy_recipe_works() {
    assert_serves_browsers(&HAPROXY);
}

#[test]
fn the_caddy_recipe_works() {
    assert_serves_browsers(&CADDY);
}
