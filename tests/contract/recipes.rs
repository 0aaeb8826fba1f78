//! The configurations in `scripts/proxy`, run unchanged except for ports, files and a shorter idle time. `checks.mjs` acts as
//! the browser.

mod programs;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::proxies::{free_address, listens};
use super::support::tokens::{self, SECRETS};
use super::support::{Broker, Program, TempDir, finish_within, openssl};

const NAME: &str = "events.example.com";

/// When the broker notices that a client has disconnected, over any of the protocols.
#[derive(Clone, Copy)]
enum Departure {
    AtOnce,
    /// When the proxy can't forward a heartbeat.
    ByHeartbeat,
}

/// A configuration, how to start its program, what a test replaces in it, and what the recipe promises. `{…}` stands for values
/// known only at run time.
struct Recipe {
    program: &'static str,
    arguments: &'static [&'static str],
    /// Names and texts of files. The first is the configuration.
    files: &'static [(&'static str, &'static str)],
    /// Each is made in at least one file.
    changes: &'static [(&'static str, &'static str)],
    /// Whether the program encrypts connections.
    tls: bool,
    /// Whether browsers may use HTTP/2.
    http2: bool,
    /// Whether the broker is served below a path as well.
    prefix: bool,
    /// How many streams a test opens, over one connection with HTTP/2.
    streams: u32,
    departure: Departure,
    /// Whether a stream's request gets 200 and a `retry` field while the broker is not running, instead of 502 or 503.
    says_retry: bool,
}

/// What most recipes promise.
const USUAL: Recipe = Recipe {
    program: "",
    arguments: &[],
    files: &[],
    changes: &[],
    tls: true,
    http2: true,
    prefix: true,
    streams: 99,
    departure: Departure::AtOnce,
    says_retry: true,
};

/// The changes of every recipe that names the certificate's files.
const CERTIFICATE: [(&str, &str); 2] = [
    ("/etc/ssl/certs/events.example.com.pem", "{home}/certificate.pem"),
    ("/etc/ssl/private/events.example.com.key", "{home}/private.pem"),
];

impl Recipe {
    /// Returns the files with the changes.
    fn adapted(&self) -> Vec<(&'static str, String)> {
        let mut files: Vec<_> = self.files.iter().map(|&(name, text)| (name, text.to_owned())).collect();
        for (from, to) in self.changes {
            assert!(files.iter().any(|(_, text)| text.contains(from)), "{} has no {from:?}", self.program);
            files.iter_mut().for_each(|(_, text)| *text = text.replace(from, to));
        }
        for (from, to) in CERTIFICATE {
            files.iter_mut().for_each(|(_, text)| *text = text.replace(from, to));
        }
        files
    }

    /// Starts the program on free ports, and tries others if a program takes one in the meantime.
    fn start(&self, broker: &Broker) -> RunningProxy {
        for _ in 0..10 {
            let home = TempDir::new();
            write_certificate(&home);
            let addresses = [free_address(), free_address()];
            let ports = addresses.map(|address| address.port());
            let fill = |text: &str| fill(text, broker.address, ports, &home.path.display().to_string());
            for (name, text) in self.adapted() {
                std::fs::write(home.path.join(name), fill(&text)).expect("a file can be written");
            }
            let arguments: Vec<_> = self.arguments.iter().map(|argument| fill(argument)).collect();
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let mut program = Program::start(&[&fill(self.program)], &arguments, &home);
            if addresses.iter().all(|&address| listens(&mut program, address)) {
                return RunningProxy { ports, _program: program, home };
            }
            eprintln!("{}: {}", self.program, home.log());
        }
        panic!("{} does not start", self.program);
    }

    /// Checks everything that the recipe promises, in one run of the program.
    fn assert_works(&self) {
        let broker = Broker::start_with_tokens(&["--heartbeat", "300ms"], &SECRETS);
        let proxy = self.start(&broker);
        let [port, plain] = proxy.ports;
        let certificate = self.tls.then(|| proxy.home.path.join("certificate.pem"));
        let prefixes: &[_] = if self.prefix { &["", "/live"] } else { &[""] };
        let task = json!({
            "port": port, "plain": plain, "certificate": certificate,
            "address": broker.address.to_string(), "pid": broker.pid(), "program": env!("CARGO_BIN_EXE_esker"),
            "publisher": tokens::publisher("*"), "subscriber": tokens::subscriber("*"),
            "http2": self.http2, "prefixes": prefixes, "streams": self.streams, "saysRetry": self.says_retry,
            "departsAtOnce": matches!(self.departure, Departure::AtOnce), "idle": 1000,
        });
        let mut browser = Command::new("node");
        browser
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/recipes/checks.mjs"))
            .arg(task.to_string())
            .envs(SECRETS)
            .env("ESKER_DATA", ":memory:");
        let (code, out, err) = finish_within(&mut browser, Duration::from_secs(90));
        assert_eq!(code, Some(0), "{out}{err}{}", proxy.home.log());
        println!("{}: {out}", self.program);
    }
}

/// A proxy in front of a broker.
struct RunningProxy {
    /// Of HTTPS, or without TLS HTTP, and of the redirection to it.
    ports: [u16; 2],
    // Fields are dropped in this order: the program ends before its directory is removed.
    _program: Program,
    home: TempDir,
}

/// Replaces a test's ports and files in a configuration or an argument.
fn fill(text: &str, broker: SocketAddr, [port, plain]: [u16; 2], home: &str) -> String {
    let text = text.replace("{home}", home).replace("{broker}", &broker.to_string());
    let text = text.replace("{broker port}", &broker.port().to_string());
    let text = text.replace("{port}", &port.to_string()).replace("{plain}", &plain.to_string());
    text.replace("{target}", concat!(env!("CARGO_TARGET_TMPDIR"), "/.."))
}

/// Writes a certificate for the host name in the configurations, its key, and both in one file.
fn write_certificate(home: &TempDir) {
    let names = format!("subjectAltName=DNS:{NAME}");
    let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let files = ["-keyout", "private.pem", "-out", "certificate.pem", "-subj", "/CN=esker", "-addext", &names];
    openssl::openssl(&[&request[..], &files].concat(), &home.path);
    let read = |name: &str| std::fs::read(home.path.join(name)).expect("openssl has written it");
    let both = [read("certificate.pem"), read("private.pem")].concat();
    std::fs::write(home.path.join("both.pem"), both).expect("a file can be written");
}

#[test]
fn the_nginx_recipe_works() {
    programs::NGINX.assert_works();
}

#[test]
fn the_haproxy_recipe_works() {
    programs::HAPROXY.assert_works();
}

#[test]
fn the_caddy_recipe_works() {
    programs::CADDY.assert_works();
}

#[test]
fn the_apache_recipe_works() {
    programs::APACHE.assert_works();
}

#[test]
fn the_lighttpd_recipe_works() {
    programs::LIGHTTPD.assert_works();
}

#[test]
fn the_varnish_recipe_works() {
    programs::VARNISH.assert_works();
}

#[test]
fn the_h2o_recipe_works() {
    programs::H2O.assert_works();
}

#[test]
fn the_squid_recipe_works() {
    programs::SQUID.assert_works();
}

#[test]
fn the_traffic_server_recipe_works() {
    programs::TRAFFIC_SERVER.assert_works();
}

#[test]
fn the_envoy_recipe_works() {
    programs::ENVOY.assert_works();
}

#[test]
fn the_traefik_recipe_works() {
    programs::TRAEFIK.assert_works();
}
