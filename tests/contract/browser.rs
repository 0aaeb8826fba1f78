//! A real browser's EventSource, cross-origin, on lines that break: everything arrives once and in
//! order, and it comes back by itself whatever happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Broker, Folder, Program, Proxy};

/// A browser's start on a busy machine takes its time.
const BROWSER_PATIENCE: Duration = Duration::from_secs(90);

/// What a page reports with an error: EventSource's readyState.
const CONNECTING: u64 = 0;
const CLOSED: u64 = 2;

/// A browser with a page whose EventSource listens to a stream.
struct Browser {
    program: Program,
    home: Folder,
    reports: Receiver<Value>,
}

impl Browser {
    fn open(stream: &str) -> Self {
        let (server, reports) = serve_page();
        let home = Folder::new();
        let profile = format!("--user-data-dir={}", home.path.join("profile").display());
        let arguments = [
            "--headless",
            // The pages are the test's own, and root can't have the sandbox.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            // Nothing but the page may use the network.
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &profile,
            // Keeps the browser open when the page has loaded.
            "--remote-debugging-port=0",
            &format!("http://{server}/?{stream}"),
        ];
        let program = Program::start(&["chromium", "chromium-browser", "google-chrome"], &arguments, &home);
        Self { program, home, reports }
    }

    /// The value of the next report of that kind; those of other kinds before it are dropped.
    fn report(&mut self, kind: &str) -> Value {
        let begin = Instant::now();
        loop {
            match self.reports.recv_timeout(BROWSER_PATIENCE.saturating_sub(begin.elapsed())) {
                Ok(mut report) if report["kind"] == kind => return report["value"].take(),
                Ok(_) => {}
                Err(error) => {
                    panic!("no {kind:?}: {error}, browser: {:?}, {}", self.program.ended(), self.home.log())
                }
            }
        }
    }
}

/// Serves the page on a free port; what it reports comes out of the channel.
fn serve_page() -> (SocketAddr, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address");
    let (sender, reports) = channel();
    // Ends with the process: a browser may look in at any time.
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let sender = sender.clone();
            // A browser opens connections on suspicion and says nothing on them.
            std::thread::spawn(move || answer(socket, &sender));
        }
    });
    (address, reports)
}

fn answer(mut socket: TcpStream, reports: &Sender<Value>) -> Option<()> {
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            length = value.trim().parse().ok()?;
        }
    }
    let page = match request.split(' ').next()? {
        "POST" => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            reports.send(serde_json::from_slice(&body).ok()?).ok()?;
            ""
        }
        _ => include_str!("page.html"),
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: ";
    socket.write_all(format!("{head}{}\r\n\r\n{page}", page.len()).as_bytes()).ok()
}

/// Publishes, and says what a listener must see: `[type, lastEventId, data]`.
fn publish(broker: &Broker, name: Option<&str>, own_id: Option<&str>, data: &str) -> Value {
    let line = |field: &str, value: Option<&str>| value.map_or(String::new(), |value| format!("{field}: {value}\n"));
    let lines: String = data.split('\n').map(|text| line("data", Some(text))).collect();
    let answer = broker.publish("topicone1", &(line("event", name) + &line("id", own_id) + &lines));
    let id = own_id.unwrap_or_else(|| answer["id"].as_str().expect("an id"));
    json!([name.unwrap_or("message"), id, data])
}

/// The stream's address through the proxy.
fn stream(proxy: &Proxy, query: &str) -> String {
    format!("http://{}/subscribe/topicone1{query}", proxy.address)
}

fn publish_variety(broker: &Broker, number: usize) -> Value {
    let name = number.is_multiple_of(3).then_some("greeting");
    let own_id = number.is_multiple_of(7).then(|| format!("own/{number} é"));
    let long = "x".repeat(300);
    let tail = ["", "\nsecond line\n", " ☂ 🦀 déjà vu", &long][number % 4];
    publish(broker, name, own_id.as_deref(), &format!("{number}{tail}"))
}

/// What was published and what was seen, compared in a way whose failure can be read.
fn assert_same(seen: &Value, published: &[Value]) {
    let seen = seen.as_array().expect("the page reports a list");
    let differs = (0..seen.len().max(published.len())).find(|&at| seen.get(at) != published.get(at));
    if let Some(at) = differs {
        panic!("event {at}: saw {:?}, published {:?}", seen.get(at), published.get(at));
    }
}

#[test]
fn on_a_line_that_keeps_breaking_every_event_arrives_once_and_in_order() {
    const CUTS: usize = 25;
    let broker = Broker::start(&["--retry", "50ms", "--history", "100000"]);
    let proxy = Proxy::cutting(broker.address, 1..8000);
    publish(&broker, None, None, "before the page was there");
    let mut browser = Browser::open(&stream(&proxy, "?prime"));
    browser.report("open");
    let (begin, mut published) = (Instant::now(), Vec::new());
    while proxy.cuts() < CUTS {
        assert!(begin.elapsed() < BROWSER_PATIENCE, "{} cuts after {} events", proxy.cuts(), published.len());
        published.push(publish_variety(&broker, published.len()));
        std::thread::sleep(Duration::from_millis(3));
    }
    proxy.mend();
    publish(&broker, Some("end"), None, "end");
    assert_same(&browser.report("events"), &published);
    broker.assert_well();
}

#[test]
fn a_primed_listener_cut_off_before_its_first_event_loses_nothing() {
    let broker = Broker::start(&["--retry", "50ms"]);
    let proxy = Proxy::start(broker.address);
    publish(&broker, None, None, "before the page was there");
    let mut browser = Browser::open(&stream(&proxy, "?prime"));
    browser.report("open");
    proxy.cut_and_hold();
    browser.report("error");
    broker.wait_for("cut off", |stats| stats["subscribers"] == 0);
    let published = [publish(&broker, None, None, "while away"), publish(&broker, Some("greeting"), None, "as well")];
    proxy.release();
    browser.report("open");
    publish(&broker, Some("end"), None, "end");
    assert_same(&browser.report("events"), &published);
}

#[test]
fn a_listener_turned_away_from_a_full_broker_comes_back_by_itself() {
    let broker = Broker::start(&["--max-subscribers", "1"]);
    let proxy = Proxy::start(broker.address);
    let seated = broker.subscribe("/subscribe/topicone1", "");
    let mut browser = Browser::open(&stream(&proxy, ""));
    assert_eq!(browser.report("error"), CONNECTING, "it has not given up");
    drop(seated);
    broker.wait_for("a free seat", |stats| stats["subscribers"] == 0);
    // It was told to wait 5 to 15 seconds.
    browser.report("open");
    broker.wait_for("seated", |stats| stats["subscribers"] == 1);
    let published = [publish(&broker, None, None, "at last")];
    publish(&broker, Some("end"), None, "end");
    assert_same(&browser.report("events"), &published);
}

#[test]
fn a_page_of_an_origin_that_is_not_listed_hears_nothing() {
    let broker = Broker::start(&["--origin", "http://page.test"]);
    let proxy = Proxy::start(broker.address);
    let mut browser = Browser::open(&stream(&proxy, ""));
    assert_eq!(browser.report("error"), CLOSED);
    broker.wait_for("left alone", |stats| stats["subscribers"] == 0);
}
