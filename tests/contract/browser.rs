//! EventSource in a real browser, cross-origin, over connections that break: every event arrives once and in order, and the
//! browser reconnects by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::tokens::{self, SECRETS, now, subscriber_until};
use super::support::{Broker, Program, Proxy, TempDir};

/// A browser may start slowly on a busy machine.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(90);

/// The `readyState` of EventSource that a page reports with an error.
const CONNECTING: u64 = 0;
const CLOSED: u64 = 2;

/// A browser showing a page that reports what it sees.
pub struct Browser {
    program: Program,
    home: TempDir,
    reports: Receiver<Value>,
}

impl Browser {
    fn open(stream: &str) -> Self {
        Self::visit(Site::serve(String::new), stream)
    }

    /// Opens a site's page. If `stream` has a fragment, the page subscribes with the site's cookies.
    fn visit(site: Site, stream: &str) -> Self {
        let url = format!("{}/?{stream}", site.origin);
        Self::chromium(site, &url, &[])
    }

    /// Opens a page of the site in Chromium, with these arguments in addition to the usual ones.
    pub fn chromium(site: Site, url: &str, more: &[&str]) -> Self {
        let home = TempDir::new();
        let profile = format!("--user-data-dir={}", home.path.join("profile").display());
        let arguments = [
            "--headless",
            // The pages are this test's own, and the sandbox is unavailable to root.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            // Only the page may use the network.
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &profile,
            // Keeps the browser open after the page has loaded.
            "--remote-debugging-port=0",
        ];
        let arguments = [&arguments[..], more, &[url]].concat();
        let program = Program::start(&["chromium", "chromium-browser", "google-chrome"], &arguments, &home);
        Self { program, home, reports: site.reports }
    }

    /// Opens a page of the site in Firefox, which resolves `local_names` to this machine.
    pub fn firefox(site: Site, url: &str, local_names: &str) -> Self {
        let home = TempDir::new();
        let profile = home.path.join("profile");
        std::fs::create_dir(&profile).expect("a directory can be made");
        // Only the page may use the network.
        let preferences = format!(
            "user_pref(\"network.dns.localDomains\", \"{local_names}\");\n\
             user_pref(\"network.proxy.type\", 0);\n\
             user_pref(\"network.captive-portal-service.enabled\", false);\n\
             user_pref(\"network.connectivity-service.enabled\", false);\n\
             user_pref(\"app.normandy.enabled\", false);\n\
             user_pref(\"services.settings.server\", \"\");\n\
             user_pref(\"datareporting.policy.dataSubmissionEnabled\", false);\n\
             user_pref(\"browser.aboutwelcome.enabled\", false);\n\
             user_pref(\"browser.shell.checkDefaultBrowser\", false);\n"
        );
        std::fs::write(profile.join("user.js"), preferences).expect("a file can be written");
        let profile = profile.display().to_string();
        let arguments = ["--headless", "--no-remote", "--profile", &profile, url];
        let program = Program::start(&["firefox-esr", "firefox"], &arguments, &home);
        Self { program, home, reports: site.reports }
    }

    /// Returns the value of the next report of this kind, and drops reports of other kinds before it.
    pub fn report(&mut self, kind: &str) -> Value {
        let begin = Instant::now();
        loop {
            match self.reports.recv_timeout(BROWSER_TIMEOUT.saturating_sub(begin.elapsed())) {
                Ok(mut report) if report["kind"] == kind => return report["value"].take(),
                Ok(_) => {}
                Err(error) => {
                    panic!("no {kind:?}: {error}, browser: {:?}, {}", self.program.ended(), self.home.log())
                }
            }
        }
    }
}

/// Serves a page and receives the page's reports.
pub struct Site {
    pub origin: String,
    reports: Receiver<Value>,
}

impl Site {
    /// Serves the default page on a free port, with a cookie that is made for each request of the page. The host is
    /// `localhost`, so that the cookie is sent to the broker as well: cookies are not separated by port.
    fn serve(token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::with_page(include_str!("page.html"), token)
    }

    /// Serves another page like [`Site::serve`].
    pub fn with_page(page: &'static str, token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let origin = format!("http://localhost:{}", listener.local_addr().expect("a listener has an address").port());
        let (sender, reports) = channel();
        let token = Arc::new(token);
        // The thread ends with the process: a browser may connect at any time.
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (sender, token) = (sender.clone(), Arc::clone(&token));
                // Browsers open speculative connections and send nothing on them.
                std::thread::spawn(move || respond(socket, page, &sender, &*token));
            }
        });
        Self { origin, reports }
    }
}

fn respond(
    mut socket: TcpStream,
    page: &'static str,
    reports: &Sender<Value>,
    token: impl Fn() -> String,
) -> Option<()> {
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
    let mut words = request.split(' ');
    let (page, cookie) = match words.next()? {
        "POST" => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            reports.send(serde_json::from_slice(&body).ok()?).ok()?;
            ("", String::new())
        }
        _ if words.next()?.starts_with("/?") => (page, set_cookie(&token())),
        // For example the icon; it must not change the cookie.
        _ => ("", String::new()),
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: ";
    socket.write_all(format!("{head}{}\r\n{cookie}\r\n{page}", page.len()).as_bytes()).ok()
}

fn set_cookie(token: &str) -> String {
    format!("Set-Cookie: esker_token={token}; HttpOnly; Path=/\r\n")
}

/// Publishes an event and returns what a subscriber must see: `[type, lastEventId, data]`.
fn publish(broker: &Broker, name: Option<&str>, publisher_id: Option<&str>, data: &str) -> Value {
    let line = |field: &str, value: Option<&str>| value.map_or(String::new(), |value| format!("{field}: {value}\n"));
    let lines: String = data.split('\n').map(|text| line("data", Some(text))).collect();
    let response = broker.publish("topicone1", &(line("event", name) + &line("id", publisher_id) + &lines));
    let id = publisher_id.unwrap_or_else(|| response["id"].as_str().expect("an id"));
    json!([name.unwrap_or("message"), id, data])
}

/// Returns the stream's URL through the proxy.
fn stream_url(proxy: &Proxy, query: &str) -> String {
    format!("http://{}/subscribe/topicone1{query}", proxy.address)
}

fn publish_variety(broker: &Broker, number: usize) -> Value {
    let name = number.is_multiple_of(3).then_some("greeting");
    let publisher_id = number.is_multiple_of(7).then(|| format!("own/{number} é"));
    let long = "x".repeat(300);
    let tail = ["", "\nsecond line\n", " ☂ 🦀 déjà vu", &long][number % 4];
    publish(broker, name, publisher_id.as_deref(), &format!("{number}{tail}"))
}

/// Asserts that what was seen equals what was published, with a readable failure.
fn assert_equal_events(seen: &Value, published: &[Value]) {
    let seen = seen.as_array().expect("the page reports a list");
    let differs = (0..seen.len().max(published.len())).find(|&at| seen.get(at) != published.get(at));
    if let Some(at) = differs {
        panic!("event {at}: saw {:?}, published {:?}", seen.get(at), published.get(at));
    }
}

#[test]
fn every_event_arrives_once_and_in_order_over_a_breaking_connection() {
    const CUTS: usize = 25;
    let broker = Broker::start(&["--retry", "50ms", "--history", "100000"]);
    let proxy = Proxy::cutting(broker.address, 1..8000);
    publish(&broker, None, None, "before the page was there");
    let mut browser = Browser::open(&stream_url(&proxy, "?prime"));
    browser.report("open");
    let (begin, mut published) = (Instant::now(), Vec::new());
    while proxy.cuts() < CUTS {
        assert!(begin.elapsed() < BROWSER_TIMEOUT, "{} cuts after {} events", proxy.cuts(), published.len());
        published.push(publish_variety(&broker, published.len()));
        std::thread::sleep(Duration::from_millis(3));
    }
    proxy.stop_cutting();
    publish(&broker, Some("end"), None, "end");
    assert_equal_events(&browser.report("events"), &published);
    broker.assert_healthy();
}

#[test]
fn a_primed_subscriber_cut_off_before_its_first_event_loses_nothing() {
    let broker = Broker::start(&["--retry", "50ms"]);
    let proxy = Proxy::start(broker.address);
    publish(&broker, None, None, "before the page was there");
    let mut browser = Browser::open(&stream_url(&proxy, "?prime"));
    browser.report("open");
    proxy.cut_and_hold();
    browser.report("error");
    broker.wait_for("cut off", |stats| stats["subscribers"] == 0);
    let published = [publish(&broker, None, None, "while away"), publish(&broker, Some("greeting"), None, "as well")];
    proxy.release();
    browser.report("open");
    publish(&broker, Some("end"), None, "end");
    assert_equal_events(&browser.report("events"), &published);
}

#[test]
fn a_browser_reconnects_to_a_broker_that_was_full() {
    let broker = Broker::start(&["--max-subscribers", "1"]);
    let proxy = Proxy::start(broker.address);
    let other = broker.subscribe("/subscribe/topicone1", "");
    let mut browser = Browser::open(&stream_url(&proxy, ""));
    assert_eq!(browser.report("error"), CONNECTING, "EventSource has not given up");
    drop(other);
    broker.wait_for("below the limit", |stats| stats["subscribers"] == 0);
    // The broker asked it to wait 5 to 15 seconds.
    browser.report("open");
    broker.wait_for("subscribed", |stats| stats["subscribers"] == 1);
    let published = [publish(&broker, None, None, "at last")];
    publish(&broker, Some("end"), None, "end");
    assert_equal_events(&browser.report("events"), &published);
}

#[test]
fn a_page_of_an_unlisted_origin_receives_nothing() {
    let broker = Broker::start(&["--origin", "http://page.test"]);
    let proxy = Proxy::start(broker.address);
    let mut browser = Browser::open(&stream_url(&proxy, ""));
    assert_eq!(browser.report("error"), CLOSED);
    broker.wait_for("free of subscribers", |stats| stats["subscribers"] == 0);
}

/// Returns the URL of the broker's stream with the host name of the page, so that the browser sends the page's cookie.
fn local_url(broker: &Broker, rest: &str) -> String {
    format!("http://localhost:{}/subscribe/topicone1{rest}", broker.address.port())
}

/// The target for [`Broker::publish`], with a token.
fn publish_target() -> String {
    format!("topicone1?token={}", tokens::publisher("topicone1"))
}

#[test]
fn a_cookie_allows_a_listed_origin_to_subscribe_until_it_expires() {
    // Long enough for a browser to get from the page to its stream.
    let site = Site::serve(|| subscriber_until("topicone1", now() + 6));
    let broker = Broker::start_with_tokens(&["--origin", &site.origin, "--retry", "50ms"], &SECRETS);
    let mut browser = Browser::visit(site, &local_url(&broker, "#cookie"));
    browser.report("open");
    let id = broker.publish(&publish_target(), "event: greeting\ndata: with a cookie")["id"].take();
    let expired = json!(["expired", "{\"reason\":\"token expired\"}"]);
    let seen = json!([["greeting", id, "with a cookie"], expired]);
    assert_eq!(browser.report("expired"), seen);
    assert_eq!(browser.report("error"), CONNECTING, "EventSource reconnects");
    assert_eq!(browser.report("error"), CLOSED, "and gives up once it is refused");
    broker.wait_for("refused once", |stats| stats["requests_denied"] == 1 && stats["streams_expired"] == 1);
}

/// The cookie holds a publisher's token, and the stream's query token takes precedence over it.
#[test]
fn a_page_publishes_with_a_cookie_and_subscribes_with_a_query_token() {
    let site = Site::serve(|| tokens::publisher("topicone1"));
    let broker = Broker::start_with_tokens(&["--origin", &site.origin], &SECRETS);
    let query = format!("?last_event_id=0&token={}#publish", tokens::subscriber("topicone1"));
    let mut browser = Browser::visit(site, &local_url(&broker, &query));
    assert_eq!(browser.report("published"), 200);
    broker.wait_for("published and subscribed", |stats| stats["events_published"] == 1 && stats["subscribers"] == 1);
    broker.publish(&publish_target(), "event: end\ndata: end");
    let seen = browser.report("events");
    let data: Vec<_> = seen.as_array().expect("a list").iter().map(|event| (&event[0], &event[2])).collect();
    assert_eq!(data.last(), Some(&(&json!("message"), &json!("by the page"))), "{seen}");
}

#[test]
fn a_cookie_does_not_help_a_page_of_an_unlisted_origin() {
    let site = Site::serve(|| tokens::publisher("*"));
    let broker = Broker::start_with_tokens(&["--origin", "http://page.test"], &SECRETS);
    // The token would allow the stream if the page could read the response.
    let query = format!("?token={}#publish", tokens::subscriber("topicone1"));
    let browser = Browser::visit(site, &local_url(&broker, &query));
    let (mut error, mut published) = (Value::Null, Value::Null);
    while error.is_null() || published.is_null() {
        let report = browser.reports.recv_timeout(BROWSER_TIMEOUT).expect("a report");
        match report["kind"].as_str() {
            Some("error") => error = report["value"].clone(),
            Some("published") => published = report["value"].clone(),
            other => panic!("the page received {other:?}"),
        }
    }
    assert_eq!((error, published), (json!(CLOSED), json!("TypeError")));
    broker.wait_for("free of subscribers", |stats| stats["subscribers"] == 0 && stats["requests_denied"] == 1);
    assert_eq!(broker.stats()["events_published"], 0);
}
