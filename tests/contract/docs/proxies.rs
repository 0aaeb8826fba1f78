//! The guide's configurations of proxies, in the least that makes a program of each: an event published through them comes
//! through them, at once.

use super::super::records::insert;
use super::super::support::{Broker, Connection, Folder, PATIENCE, Program, Stream};
use super::{block, first_block};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Far more than a delivery takes, and less than a kernel holds back what it is told to collect.
const AT_ONCE: Duration = Duration::from_millis(150);

/// What comes before the location belongs outside of the server.
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

struct Kind {
    program: &'static str,
    arguments: &'static [&'static str],
    config: fn(&str, SocketAddr) -> String,
}

const NGINX: Kind = Kind { program: "nginx", arguments: &["-e", "stderr", "-p", ".", "-c", "config"], config: nginx };
const CADDY: Kind =
    Kind { program: "caddy", arguments: &["run", "--adapter", "caddyfile", "--config", "config"], config: caddy };
const HAPROXY: Kind = Kind { program: "haproxy", arguments: &["-db", "-f", "config"], config: haproxy };

/// Five events through the proxy; the quickest tells whether it holds them back, for the machine may be busy.
fn assert_works(kind: &Kind, shown: &str, prefix: &str) {
    let broker = Broker::start(&[]);
    let (address, _front) = start(kind, &shown.replace("127.0.0.1:3000", &broker.address.to_string()));
    let mut stream = Stream::open(Connection::open(address), &format!("{prefix}/subscribe/greeting"), "");
    stream.opening();
    let deliver = |number: u32| {
        let body = format!("data: {number}");
        let mut connection = Connection::open(address);
        let begin = Instant::now();
        connection.send(format!(
            "POST {prefix}/publish/greeting HTTP/1.1\r\nHost: esker\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(connection.response().status, 200);
        assert_eq!(stream.event().data, Some(number.to_string()));
        begin.elapsed()
    };
    let quickest = (0..5).map(deliver).min().expect("five of them");
    assert!(quickest < AT_ONCE, "{}: {quickest:?}", kind.program);
    keeps_names(&broker, address, prefix);
}

/// The name of a record arrives as it was sent.
fn keeps_names(broker: &Broker, address: SocketAddr, prefix: &str) {
    let id = insert(broker, "a/b", "1");
    insert(broker, "b", "2");
    let audit = |name: &str| {
        let mut connection = Connection::open(address);
        connection.send(format!("GET {prefix}/audit/{name} HTTP/1.1\r\nHost: esker\r\n\r\n"));
        connection.response()
    };
    assert_eq!(audit("a%2Fb").text(), format!("{{\"a/b_v_{id}\":1}}\n"));
    assert_eq!(audit("a%2F..%2Fb").status, 400);
}

/// On a free port; another program may take it in between: then on another one.
fn start(kind: &Kind, shown: &str) -> (SocketAddr, (Program, Folder)) {
    for _ in 0..10 {
        let home = Folder::new();
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("a listener has an address");
        drop(free);
        std::fs::write(home.path.join("config"), (kind.config)(shown, address)).expect("a file can be written");
        let mut program = Program::start(&[kind.program], kind.arguments, &home);
        let begin = Instant::now();
        while program.ended().is_none() {
            if TcpStream::connect(address).is_ok() {
                return (address, (program, home));
            }
            assert!(begin.elapsed() < PATIENCE, "{} never listens: {}", kind.program, home.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("{} does not start", kind.program);
}

#[test]
fn the_guides_nginx_passes_on_at_once() {
    assert_works(&NGINX, &block("proxies.md", "nginx", "location / {"), "");
}

#[test]
fn the_guides_nginx_takes_a_prefix_away() {
    assert_works(&NGINX, &block("proxies.md", "nginx", "map $request_uri"), "/live");
}

#[test]
fn the_guides_caddy_passes_on_at_once() {
    assert_works(&CADDY, &first_block("proxies.md", "caddy"), "");
}

#[test]
fn the_guides_caddy_takes_a_prefix_away() {
    assert_works(&CADDY, &block("proxies.md", "caddy", "handle_path"), "/live");
}

#[test]
fn the_guides_haproxy_passes_on_at_once() {
    assert_works(&HAPROXY, &block("proxies.md", "haproxy", "option http-no-delay"), "");
}
