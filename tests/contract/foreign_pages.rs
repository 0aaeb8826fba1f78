//! Pages of another site, in real browsers, against a broker that runs with `--no-auth` on the same machine.

use serde_json::{Value, json};

use super::browser::{Browser, Site};
use super::support::Broker;

/// A public host name that its owner has pointed to this machine.
const FOREIGN_HOST: &str = "stranger.example";
/// The `readyState` of an EventSource that has given up.
const CLOSED: u64 = 2;

fn site() -> (Site, String) {
    let site = Site::with_page(include_str!("foreign_page.html"), String::new);
    let origin = site.origin.replace("localhost", FOREIGN_HOST);
    (site, origin)
}

/// Asserts what the page can do to the guarded broker, by its address and by the page's own host name, and to the other broker.
fn assert_outcomes(open: impl FnOnce(Site, &str) -> Browser) {
    let guarded = Broker::start_with_default_origins(&["--port", "0"]);
    let for_all = Broker::start_with_default_origins(&["--port", "0", "--origin", "*"]);
    let [guarded_port, open_port] = [&guarded, &for_all].map(|broker| broker.address.port());
    let (site, origin) = site();
    let brokers = [
        format!("http://127.0.0.1:{guarded_port}"),
        format!("http://{FOREIGN_HOST}:{guarded_port}"),
        format!("http://127.0.0.1:{open_port}"),
    ];
    let mut browser = open(site, &format!("{origin}/?{}", brokers.join(",")));
    for _ in 0..2 {
        assert_eq!(browser.report("outcomes"), nothing_allowed());
    }
    let everything = browser.report("outcomes");
    assert_eq!(everything["listen"], "open");
    for attempt in ["publish", "insert", "read", "stats"] {
        assert_eq!(everything[attempt], 200, "the page can reach a broker: {everything}");
    }
    assert_eq!(written(&guarded), (0, 0));
    assert_eq!(written(&for_all), (2, 1));
}

fn nothing_allowed() -> Value {
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

/// Returns the number of published events and of record names.
fn written(broker: &Broker) -> (u64, u64) {
    let stats = broker.stats();
    let number = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("{name} is not in {stats}"));
    (number("events_published"), number("record_names"))
}

#[test]
fn a_foreign_page_cannot_use_an_open_broker_in_chromium() {
    let rules = format!("--host-resolver-rules=MAP {FOREIGN_HOST} 127.0.0.1");
    assert_outcomes(|site, url| Browser::chromium(site, url, &[&rules]));
}

#[test]
fn a_foreign_page_cannot_use_an_open_broker_in_firefox() {
    assert_outcomes(|site, url| Browser::firefox(site, url, FOREIGN_HOST));
}
