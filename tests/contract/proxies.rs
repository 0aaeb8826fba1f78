//! nginx, HAProxy and Caddy as plain reverse proxies, configured as their manuals say: nothing is buffered, Last-Event-ID and
//! heartbeats pass, and the broker notices disconnects.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::support::{Broker, Connection, Program, Stream, TIMEOUT, TempDir};

/// Far more than a delivery takes, and less than the kernel's delay when an application asks it to coalesce packets.
const MAX_DELAY: Duration = Duration::from_millis(150);

/// A reverse proxy in front of a broker.
struct RunningProxy {
    address: SocketAddr,
    // Fields are dropped in this order: the program ends before its directory is removed.
    _program: Program,
    _home: TempDir,
}

/// How to configure and start a proxy. `{listen}` and `{broker}` stand for the ports.
struct ProxyKind {
    name: &'static str,
    arguments: &'static [&'static str],
    config: &'static str,
}

const NGINX: ProxyKind = ProxyKind {
    name: "nginx",
    arguments: &["-e", "stderr", "-p", ".", "-c", "config"],
    // The first lines make it a single process that a test can run; the server block is the manual's.
    config: "
        daemon off;
        master_process off;
        pid pid;
        events {}
        http {
            access_log off;
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            server {
                listen 127.0.0.1:{listen};
                location / {
                    proxy_pass http://127.0.0.1:{broker};
                }
            }
        }
    ",
};

const HAPROXY: ProxyKind = ProxyKind {
    name: "haproxy",
    arguments: &["-db", "-f", "config"],
    config: "
        defaults
            mode http
            timeout connect 5s
            timeout client 50s
            timeout server 50s
        frontend front
            bind 127.0.0.1:{listen}
            default_backend broker
        backend broker
            server broker 127.0.0.1:{broker}
    ",
};

/// HAProxy announces to the kernel that more data follows a chunk, and the kernel waits for it for 200 ms. This option disables
/// the delay.
const HAPROXY_WITHOUT_DELAY: ProxyKind = ProxyKind {
    config: "
        defaults
            mode http
            option http-no-delay
            timeout connect 5s
            timeout client 50s
            timeout server 50s
        frontend front
            bind 127.0.0.1:{listen}
            default_backend broker
        backend broker
            server broker 127.0.0.1:{broker}
    ",
    ..HAPROXY
};

const CADDY: ProxyKind = ProxyKind {
    name: "caddy",
    arguments: &["run", "--adapter", "caddyfile", "--config", "config"],
    config: "
        {
            admin off
        }
        :{listen} {
            bind 127.0.0.1
            reverse_proxy 127.0.0.1:{broker}
        }
    ",
};

impl ProxyKind {
    /// Starts the proxy on a free port, and tries another one if a program takes the port in the meantime.
    fn start(&self, broker: &Broker) -> RunningProxy {
        for _ in 0..10 {
            let home = TempDir::new();
            let address = free_address();
            let config = self
                .config
                .replace("{listen}", &address.port().to_string())
                .replace("{broker}", &broker.address.port().to_string());
            std::fs::write(home.path.join("config"), config.trim_end().to_owned() + "\n")
                .expect("a file can be written");
            let mut program = Program::start(&[self.name], self.arguments, &home);
            if listens(&mut program, address) {
                return RunningProxy { address, _program: program, _home: home };
            }
            eprintln!("{}: {}", self.name, home.log());
        }
        panic!("{} does not start", self.name);
    }
}

impl RunningProxy {
    fn subscribe(&self, fields: &str) -> Stream {
        Stream::open(Connection::open(self.address), "/subscribe/topicone1", fields)
    }

    /// Publishes through the proxy and returns the event's id.
    fn publish(&self, data: &str) -> String {
        let mut connection = Connection::open(self.address);
        let length = data.len();
        connection.send(format!(
            "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{data}"
        ));
        let response = connection.response();
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["id"].as_str().expect("an id").to_owned()
    }
}

pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a listener has an address")
}

/// Waits until the program listens. Returns false if it has exited instead.
pub fn listens(program: &mut Program, address: SocketAddr) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < TIMEOUT && program.ended().is_none() {
        if TcpStream::connect(address).is_ok() {
            return program.ended().is_none();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Checks everything that subscribers behind a proxy are promised. Returns the time within which two thirds of the events were
/// delivered.
fn assert_works(kind: &ProxyKind) -> Duration {
    let broker = Broker::start(&["--heartbeat", "500ms"]);
    let front = kind.start(&broker);
    let (ids, mut times): (Vec<_>, Vec<_>) = deliver_one_by_one(&broker, &front).into_iter().unzip();
    assert_resumes(&front, &ids);
    assert_passes_heartbeats(&front);
    broker.wait_for("free of subscribers", |stats| stats["subscribers"] == 0);
    let mut stream = front.subscribe("");
    broker.wait_for("subscribed to", |stats| stats["subscribers"] == 1);
    broker.signal("TERM");
    assert_eq!(stream.next(), None, "the end of the stream passes");
    assert_eq!(broker.wait().0, Some(0));
    times.sort();
    times[times.len() * 2 / 3]
}

/// Publishes events one by one, and returns their ids and delivery times.
fn deliver_one_by_one(broker: &Broker, front: &RunningProxy) -> Vec<(String, Duration)> {
    let mut stream = front.subscribe("");
    broker.wait_for("subscribed to", |stats| stats["subscribers"] == 1);
    let long = "x".repeat(100_000);
    let deliver = |number: usize| {
        let data = if number == 7 { format!("{number} {long}") } else { number.to_string() };
        let begin = Instant::now();
        let id = front.publish(&data);
        let event = stream.event();
        assert_eq!((event.id.as_ref(), event.data), (Some(&id), Some(data)));
        (id, begin.elapsed())
    };
    (0..30).map(deliver).collect()
}

fn assert_resumes(front: &RunningProxy, ids: &[String]) {
    let mut stream = front.subscribe(&format!("Last-Event-ID: {}\r\n", ids[20]));
    for id in &ids[21..] {
        assert_eq!(stream.event().id.as_ref(), Some(id));
    }
}

fn assert_passes_heartbeats(front: &RunningProxy) {
    let mut stream = front.subscribe("");
    let mut text = String::new();
    while text.matches(":\n").count() < 4 {
        text += &stream.chunk().expect("the stream continues");
    }
    assert!(!text.contains("\n\n"), "{text:?}");
}

#[test]
fn nginx_buffers_nothing() {
    assert!(assert_works(&NGINX) < MAX_DELAY);
}

#[test]
fn haproxy_delivers_each_event_before_the_next() {
    assert_works(&HAPROXY);
}

#[test]
fn haproxy_buffers_nothing_if_configured() {
    assert!(assert_works(&HAPROXY_WITHOUT_DELAY) < MAX_DELAY);
}

#[test]
fn caddy_buffers_nothing() {
    assert!(assert_works(&CADDY) < MAX_DELAY);
}
