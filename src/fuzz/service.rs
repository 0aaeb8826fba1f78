//! A service without workers, as the routes need it. Everything is new for each input, except the store, because opening one
//! takes longer than running an input. Independent of the requests.

use std::cell::RefCell;
use std::sync::Arc;

use crate::api::{Context, Service};
use crate::auth::{Auth, ClaimRules, Key, Keyring, Secret, TokenCache};
#[cfg(test)]
use crate::clock::Clock;
use crate::clock::Now;
use crate::config::Config;
#[cfg(test)]
use crate::engine::Engine;
use crate::http::access_log::AccessLogFormat;
use crate::http::response::CommonHeaders;
use crate::hub::{Hub, HubLimits, Inbox, inbox};
use crate::ids::Order;
use crate::metrics::Metrics;
use crate::net::ListenerRole;
use crate::quota::BodyBudget;
use crate::store::{Location, Record, Store};

/// The secret for publishers' tokens.
pub const PUBLISHER: &[u8] = b"the publisher's secret, of 32 bytes or more";
/// The secret for subscribers' tokens.
pub const SUBSCRIBER: &[u8] = b"the subscriber's secret, of 32 bytes or more";
/// The only other origin that may read the responses of the service with tokens.
pub const ORIGIN: &str = "https://a.example";
/// The maximum size of a body in bytes.
pub const MAX_BODY: usize = 3000;

const LIMITS: HubLimits = HubLimits {
    events_per_topic: 8,
    age_micros: 1 << 40,
    bytes: 20_000,
    topics: 4,
    subscribers: 2,
    latest_bytes: 2_000,
};

/// Assigns no ids, for a store into which nothing is inserted.
struct NoOrder;

impl Order<Record> for NoOrder {
    fn reserve(&self, _: usize) -> Option<u64> {
        None
    }

    fn newest(&self) -> u64 {
        0
    }

    fn publish(&self, _: Vec<Record>) {}

    fn publish_erasure(&self, _: &str, _: u64) {}

    fn newest_version(&self, _: &str) -> Option<u64> {
        None
    }
}

thread_local! {
    static OPEN: RefCell<Service> = RefCell::new(service(
        Config::new().max_body(MAX_BODY).access_log(AccessLogFormat::Common, |line| check_common_line(&line)),
        Auth::Open,
    ));
    static LOCKED: RefCell<Service> = RefCell::new(service(
        Config::new()
            .max_body(MAX_BODY)
            .origin(ORIGIN)
            .trusted_proxy("unix")
            .access_log(AccessLogFormat::Json, |line| check_json_line(&line)),
        Auth::tokens(keyring(PUBLISHER), keyring(SUBSCRIBER), ClaimRules::default()),
    ));
}

/// Lends an empty service that requires tokens, or one that does not. Its first id is larger than `first_id`.
pub fn with<T>(requires_tokens: bool, first_id: u64, run: impl FnOnce(&Service) -> T) -> T {
    let service = if requires_tokens { &LOCKED } else { &OPEN };
    service.with_borrow_mut(|service| {
        let (hub, _inbox) = hub(first_id);
        service.hub = Arc::new(hub);
        service.metrics = Metrics::new(1, 0);
        service.bodies = BodyBudget::new(MAX_BODY);
        run(service)
    })
}

/// Checks that a line of the access log can't be mistaken for another one, whatever the request was.
fn check_common_line(line: &str) {
    let rest = line.strip_prefix("unix - - [").and_then(|rest| rest.split_once("] \"")).expect("a time").1;
    let (request, response) = rest.rsplit_once("\" ").expect("a quoted request");
    assert!(request == "-" || request.split(' ').count() == 3, "{line}");
    assert!(request.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{line}");
    let words: Vec<_> = response.strip_suffix('\n').expect("a line end").split(' ').collect();
    assert!(words.len() == 2 && words[0].parse::<u16>().is_ok(), "{line}");
}

/// Checks that a line of the access log is an object on one line.
fn check_json_line(line: &str) {
    assert_eq!(line.find(char::is_control), Some(line.len() - 1), "{line}");
    let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert!(object["status"].is_u64() && object["client"].is_string(), "{line}");
}

/// Builds a service without tokens that nothing else uses, with this configuration.
#[cfg(test)]
pub fn configured(configure: impl FnOnce(Config) -> Config) -> Service {
    service(configure(Config::new()), Auth::Open)
}

/// Builds a service without tokens that nothing else uses, and its engine, which is ready and which a test answers by hand.
#[cfg(test)]
pub fn with_engine() -> (Service, Engine) {
    let engine = Engine::new(Clock::new());
    engine.note_ready();
    let mut service = configured(|config| config).with_engine(engine.clone());
    service.hub = Arc::new(Hub::following(LIMITS, vec![inbox(Box::new(|| {})).0], 1));
    (service, engine)
}

/// Returns the context of a request to a service at a moment.
pub fn context<'a>(service: &'a Service, tokens: &'a RefCell<TokenCache>, now: Now) -> Context<'a> {
    Context {
        service,
        role: ListenerRole::All,
        address: None,
        is_forwarded: false,
        headers: CommonHeaders { date: "now", origins: &service.settings.origins },
        now,
        worker: 0,
        token_cache: tokens,
    }
}

/// Returns a keyring with one secret.
pub fn keyring(secret: &[u8]) -> Keyring {
    Key::from_secret(&Secret::new(secret).expect("it is long enough")).into()
}

fn service(config: Config, auth: Auth) -> Service {
    let settings = config.no_auth(true).port(0).threads(1);
    let settings = settings.settle(1000).expect("the configuration is valid");
    let opening = Store::open(&Location::Memory).expect("memory can be opened");
    let store = opening.start(Box::new(NoOrder)).expect("threads can be started");
    Service::new(Arc::new(hub(1).0), Some(store), settings, auth, Metrics::new(1, 0))
}

fn hub(first_id: u64) -> (Hub, Inbox) {
    let (outbox, inbox) = inbox(Box::new(|| {}));
    (Hub::new(LIMITS, vec![outbox], first_id), inbox)
}
