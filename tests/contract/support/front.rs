//! Proxies in front of brokers: the configurations that the guide shows, each completed to a minimal file.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Program, TIMEOUT, TempDir};

/// The guide's page on several brokers.
const BROKERS: &str = include_str!("../../../src/guide/brokers.md");

/// Directives before the location belong outside the server block.
fn nginx(shown: &str, listen: SocketAddr) -> String {
    let (http, location) = shown.split_at(shown.find("location").expect("there is a location"));
    format!(
        "daemon off; master_process off; pid pid; events {{}}
        http {{
            access_log off;
            client_body_temp_path body; proxy_temp_path proxy;
            fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            {http}
            server {{ listen {listen}; {location} }}
        }}"
    )
}

fn caddy(directive: &str, listen: SocketAddr) -> String {
    format!("{{\n admin off\n}}\n:{} {{\n bind 127.0.0.1\n {directive}\n}}\n", listen.port())
}

fn haproxy(config: &str, listen: SocketAddr) -> String {
    config.replace("127.0.0.1:8080", &listen.to_string())
}

pub struct ProxyKind {
    pub program: &'static str,
    arguments: &'static [&'static str],
    config: fn(&str, SocketAddr) -> String,
}

pub const NGINX: ProxyKind =
    ProxyKind { program: "nginx", arguments: &["-e", "stderr", "-p", ".", "-c", "config"], config: nginx };
pub const CADDY: ProxyKind =
    ProxyKind { program: "caddy", arguments: &["run", "--adapter", "caddyfile", "--config", "config"], config: caddy };
pub const HAPROXY: ProxyKind = ProxyKind { program: "haproxy", arguments: &["-db", "-f", "config"], config: haproxy };

/// Returns the guide's configuration of a load balancer, in this language, for these addresses.
pub fn load_balancer(language: &str, brokers: [SocketAddr; 3], listen: SocketAddr) -> String {
    let (_, rest) = BROKERS.split_once(&format!("```{language}\n")).expect("the guide has this language");
    let (shown, _) = rest.split_once("```").expect("a block ends");
    let text = shown.replace("127.0.0.1:3000", &listen.to_string());
    let ports = ["127.0.0.1:3001", "127.0.0.1:3002", "127.0.0.1:3003"];
    ports.iter().zip(brokers).fold(text, |text, (port, address)| text.replace(port, &address.to_string()))
}

/// Starts the program on a free port, and tries another one if a program takes it in the meantime. `shown` is the guide's text for
/// the address.
pub fn start(kind: &ProxyKind, shown: impl Fn(SocketAddr) -> String) -> (SocketAddr, (Program, TempDir)) {
    for _ in 0..10 {
        let home = TempDir::new();
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("a listener has an address");
        drop(free);
        std::fs::write(home.path.join("config"), (kind.config)(&shown(address), address))
            .expect("a file can be written");
        let mut program = Program::start(&[kind.program], kind.arguments, &home);
        let begin = Instant::now();
        while program.ended().is_none() {
            if TcpStream::connect(address).is_ok() {
                return (address, (program, home));
            }
            assert!(begin.elapsed() < TIMEOUT, "{} never listens: {}", kind.program, home.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("{} does not start", kind.program);
}
