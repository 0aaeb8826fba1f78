//! A page of the web, in real browsers, against a broker that runs with `--no-auth` on the same machine.

use serde_json::{Value, json};

use super::browser::{Browser, Site};
use super::support::Broker;

/// A name on the web that its owner has resolve to this machine.
const STRANGER: &str = "stranger.example";
/// What a page reports of an EventSource that has given up.
const CLOSED: u64 = 2;

fn site() -> (Site, String) {
    let site = Site::of(include_str!("stranger.html"), String::new);
    let origin = site.origin.replace("localhost", STRANGER);
    (site, origin)
}

/// What the page could do to the guarded broker at its address and by the page's own name, and to the other one.
fn outcomes(open: impl FnOnce(Site, &str) -> Browser) {
    let guarded = Broker::start_guarded(&["--port", "0"]);
    let for_all = Broker::start_guarded(&["--port", "0", "--origin", "*"]);
    let [guarded_port, open_port] = [&guarded, &for_all].map(|broker| broker.address.port());
    let (site, origin) = site();
    let brokers = [
        format!("http://127.0.0.1:{guarded_port}"),
        format!("http://{STRANGER}:{guarded_port}"),
        format!("http://127.0.0.1:{open_port}"),
    ];
    let mut browser = open(site, &format!("{origin}/?{}", brokers.join(",")));
    for _ in 0..2 {
        assert_eq!(browser.report("outcomes"), nothing());
    }
    let everything = browser.report("outcomes");
    assert_eq!(everything["listen"], "open");
    for attempt in ["publish", "insert", "read", "stats"] {
        assert_eq!(everything[attempt], 200, "the page can reach a broker: {everything}");
    }
    assert_eq!(written(&guarded), (0, 0));
    assert_eq!(written(&for_all), (2, 1));
}

fn nothing() -> Value {
    let [refused, unread] = ["TypeError", "opaque"];
    json!({
        "listen": CLOSED,
        "publish": refused,
        "publishUnread": unread,
        "insert": refused,
        "insertUnread": unread,
        "read": refused,
        "stats": refused,
    })
}

/// Events that were published, and names of records.
fn written(broker: &Broker) -> (u64, u64) {
    let stats = broker.stats();
    let number = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("{name} is not in {stats}"));
    (number("events_published"), number("record_names"))
}

#[test]
fn a_page_of_the_web_does_nothing_to_an_open_broker_in_chromium() {
    let rules = format!("--host-resolver-rules=MAP {STRANGER} 127.0.0.1");
    outcomes(|site, url| Browser::chromium(site, url, &[&rules]));
}

#[test]
fn a_page_of_the_web_does_nothing_to_an_open_broker_in_firefox() {
    outcomes(|site, url| Browser::firefox(site, url, STRANGER));
}
