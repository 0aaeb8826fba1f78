//! Behind nginx, HAProxy and Caddy as their manuals set up a plain reverse proxy: nothing is held
//! back on the way, positions and heartbeats pass, and the broker notices who leaves.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::support::{Broker, Connection, Folder, PATIENCE, Program, Stream};

/// Far more than a delivery takes, and less than a kernel holds back what an application has it collect.
const AT_ONCE: Duration = Duration::from_millis(150);

/// A reverse proxy in front of a broker.
struct Front {
    address: SocketAddr,
    // In this order: the program ends before its folder goes.
    _program: Program,
    _home: Folder,
}

/// How a proxy is set up and started; `{listen}` and `{broker}` stand for the ports.
struct Kind {
    name: &'static str,
    arguments: &'static [&'static str],
    config: &'static str,
}

const NGINX: Kind = Kind {
    name: "nginx",
    arguments: &["-e", "stderr", "-p", ".", "-c", "config"],
    // The first lines make it one process that a test can run; the server is the manual's.
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

const HAPROXY: Kind = Kind {
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

/// HAProxy tells the kernel that after a chunk more will follow, and the kernel waits for it, for
/// 200 ms. This option is made against that.
const HAPROXY_WITHOUT_DELAY: Kind = Kind {
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

const CADDY: Kind = Kind {
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

impl Kind {
    /// Starts it on a free port. Another program may take the port in between: then on another one.
    fn start(&self, broker: &Broker) -> Front {
        for _ in 0..10 {
            let home = Folder::new();
            let address = free_address();
            let config = self
                .config
                .replace("{listen}", &address.port().to_string())
                .replace("{broker}", &broker.address.port().to_string());
            std::fs::write(home.path.join("config"), config.trim_end().to_owned() + "\n")
                .expect("a file can be written");
            let mut program = Program::start(&[self.name], self.arguments, &home);
            if listens(&mut program, address) {
                return Front { address, _program: program, _home: home };
            }
            eprintln!("{}: {}", self.name, home.log());
        }
        panic!("{} does not start", self.name);
    }
}

impl Front {
    fn subscribe(&self, fields: &str) -> Stream {
        Stream::open(Connection::open(self.address), "/subscribe/topicone1", fields)
    }

    /// Publishes through the proxy; the event's id.
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

/// Waits until it listens; false if it has ended instead.
pub fn listens(program: &mut Program, address: SocketAddr) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE && program.ended().is_none() {
        if TcpStream::connect(address).is_ok() {
            return program.ended().is_none();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// All that the contract promises to whoever listens through a proxy; how long most deliveries took at most.
fn works_through(kind: &Kind) -> Duration {
    let broker = Broker::start(&["--heartbeat", "500ms"]);
    let front = kind.start(&broker);
    let (ids, mut times): (Vec<_>, Vec<_>) = delivers_each_event_before_the_next(&broker, &front).into_iter().unzip();
    resumes(&front, &ids);
    passes_heartbeats(&front);
    broker.wait_for("rid of those who left", |stats| stats["subscribers"] == 0);
    let mut stream = front.subscribe("");
    broker.wait_for("listened to", |stats| stats["subscribers"] == 1);
    broker.signal("TERM");
    assert_eq!(stream.next(), None, "the end of the stream passes");
    assert_eq!(broker.wait().0, Some(0));
    times.sort();
    times[times.len() * 2 / 3]
}

/// The events' ids, and how long each took.
fn delivers_each_event_before_the_next(broker: &Broker, front: &Front) -> Vec<(String, Duration)> {
    let mut stream = front.subscribe("");
    broker.wait_for("listened to", |stats| stats["subscribers"] == 1);
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

fn resumes(front: &Front, ids: &[String]) {
    let mut stream = front.subscribe(&format!("Last-Event-ID: {}\r\n", ids[20]));
    for id in &ids[21..] {
        assert_eq!(stream.event().id.as_ref(), Some(id));
    }
}

fn passes_heartbeats(front: &Front) {
    let mut stream = front.subscribe("");
    let mut text = String::new();
    while text.matches(":\n").count() < 4 {
        text += &stream.chunk().expect("the stream goes on");
    }
    assert!(!text.contains("\n\n"), "{text:?}");
}

#[test]
fn nginx_holds_nothing_back() {
    assert!(works_through(&NGINX) < AT_ONCE);
}

#[test]
fn haproxy_delivers_each_event_before_the_next() {
    works_through(&HAPROXY);
}

#[test]
fn haproxy_holds_nothing_back_if_told_so() {
    assert!(works_through(&HAPROXY_WITHOUT_DELAY) < AT_ONCE);
}

#[test]
fn caddy_holds_nothing_back() {
    assert!(works_through(&CADDY) < AT_ONCE);
}
