//! A real browser's EventSource, cross-origin, on lines that break: everything arrives once and in
//! order, and it comes back by itself whatever happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::tokens::{self, SECRETS, now, subscriber_until};
use super::support::{Broker, Folder, Program, Proxy};

/// A browser's start on a busy machine takes its time.
const BROWSER_PATIENCE: Duration = Duration::from_secs(90);

/// What a page reports with an error: EventSource's readyState.
const CONNECTING: u64 = 0;
const CLOSED: u64 = 2;

/// A browser with a page that reports what it sees.
pub struct Browser {
    program: Program,
    home: Folder,
    reports: Receiver<Value>,
}

impl Browser {
    fn open(stream: &str) -> Self {
        Self::visit(Site::serve(String::new), stream)
    }

    /// Opens a site's page; it listens to a stream with the site's cookies if a fragment is added.
    fn visit(site: Site, stream: &str) -> Self {
        let url = format!("{}/?{stream}", site.origin);
        Self::chromium(site, &url, &[])
    }

    /// Opens a page of the site in Chromium, which gets these arguments beside the usual ones.
    pub fn chromium(site: Site, url: &str, more: &[&str]) -> Self {
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
        ];
        let arguments = [&arguments[..], more, &[url]].concat();
        let program = Program::start(&["chromium", "chromium-browser", "google-chrome"], &arguments, &home);
        Self { program, home, reports: site.reports }
    }

    /// The same in Firefox, which takes these names for this machine's.
    pub fn firefox(site: Site, url: &str, local_names: &str) -> Self {
        let home = Folder::new();
        let profile = home.path.join("profile");
        std::fs::create_dir(&profile).expect("a folder can be made");
        // Nothing but the page may use the network.
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

    /// The value of the next report of that kind; those of other kinds before it are dropped.
    pub fn report(&mut self, kind: &str) -> Value {
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

/// A server of a page, and what the page reports.
pub struct Site {
    pub origin: String,
    reports: Receiver<Value>,
}

impl Site {
    /// Serves the page on a free port, with a cookie that is made when the page is asked for. It is `localhost`, so that
    /// the cookie belongs to the broker as well: cookies know no ports.
    fn serve(token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::of(include_str!("page.html"), token)
    }

    /// The same with another page.
    pub fn of(page: &'static str, token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let origin = format!("http://localhost:{}", listener.local_addr().expect("a listener has an address").port());
        let (sender, reports) = channel();
        let token = Arc::new(token);
        // Ends with the process: a browser may look in at any time.
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (sender, token) = (sender.clone(), Arc::clone(&token));
                // A browser opens connections on suspicion and says nothing on them.
                std::thread::spawn(move || answer(socket, page, &sender, &*token));
            }
        });
        Self { origin, reports }
    }
}

fn answer(
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
        // Such as the icon; it must not change the cookie.
        _ => ("", String::new()),
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: ";
    socket.write_all(format!("{head}{}\r\n{cookie}\r\n{page}", page.len()).as_bytes()).ok()
}

fn set_cookie(token: &str) -> String {
    format!("Set-Cookie: esker_token={token}; HttpOnly; Path=/\r\n")
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

/// The broker's stream by the name that the page has as well, so that the page's cookie goes there.
fn local(broker: &Broker, rest: &str) -> String {
    format!("http://localhost:{}/subscribe/topicone1{rest}", broker.address.port())
}

/// The target for [`Broker::publish`] with a token.
fn allowed() -> String {
    format!("topicone1?token={}", tokens::publisher("topicone1"))
}

#[test]
fn a_cookie_lets_a_page_of_a_listed_origin_listen_until_it_expires() {
    // As long as a browser may take from the page to its stream.
    let site = Site::serve(|| subscriber_until("topicone1", now() + 6));
    let broker = Broker::start_secured(&["--origin", &site.origin, "--retry", "50ms"], &SECRETS);
    let mut browser = Browser::visit(site, &local(&broker, "#cookie"));
    browser.report("open");
    let id = broker.publish(&allowed(), "event: greeting\ndata: with a cookie")["id"].take();
    let expired = json!(["expired", "{\"reason\":\"token expired\"}"]);
    let seen = json!([["greeting", id, "with a cookie"], expired]);
    assert_eq!(browser.report("expired"), seen);
    assert_eq!(browser.report("error"), CONNECTING, "it comes back");
    assert_eq!(browser.report("error"), CLOSED, "and gives up once it is refused");
    broker.wait_for("refused once", |stats| stats["requests_denied"] == 1 && stats["streams_expired"] == 1);
}

/// The cookie is a publisher's, and the stream's token comes before it.
#[test]
fn a_page_publishes_with_a_cookie_and_listens_with_a_token_in_the_query() {
    let site = Site::serve(|| tokens::publisher("topicone1"));
    let broker = Broker::start_secured(&["--origin", &site.origin], &SECRETS);
    let query = format!("?last_event_id=0&token={}#publish", tokens::subscriber("topicone1"));
    let mut browser = Browser::visit(site, &local(&broker, &query));
    assert_eq!(browser.report("published"), 200);
    broker.wait_for("heard", |stats| stats["events_published"] == 1 && stats["subscribers"] == 1);
    broker.publish(&allowed(), "event: end\ndata: end");
    let seen = browser.report("events");
    let data: Vec<_> = seen.as_array().expect("a list").iter().map(|event| (&event[0], &event[2])).collect();
    assert_eq!(data.last(), Some(&(&json!("message"), &json!("by the page"))), "{seen}");
}

#[test]
fn a_cookie_is_of_no_use_to_a_page_of_an_origin_that_is_not_listed() {
    let site = Site::serve(|| tokens::publisher("*"));
    let broker = Broker::start_secured(&["--origin", "http://page.test"], &SECRETS);
    // Good for a stream, if only the page could read it.
    let query = format!("?token={}#publish", tokens::subscriber("topicone1"));
    let browser = Browser::visit(site, &local(&broker, &query));
    let (mut error, mut published) = (Value::Null, Value::Null);
    while error.is_null() || published.is_null() {
        let report = browser.reports.recv_timeout(BROWSER_PATIENCE).expect("a report");
        match report["kind"].as_str() {
            Some("error") => error = report["value"].clone(),
            Some("published") => published = report["value"].clone(),
            other => panic!("it heard {other:?}"),
        }
    }
    assert_eq!((error, published), (json!(CLOSED), json!("TypeError")));
    broker.wait_for("left alone", |stats| stats["subscribers"] == 0 && stats["requests_denied"] == 1);
    assert_eq!(broker.stats()["events_published"], 0);
}
