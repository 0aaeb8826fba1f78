//! A broker's parts without threads of its own: what the routes need to know, fresh for every input but for the store, which
//! takes longer to open than an input to run. Refuses to know what is asked of it.

use std::cell::RefCell;
use std::sync::Arc;

use crate::api::Service;
use crate::auth::{Auth, Key, Keyring, Secret};
use crate::config::Config;
use crate::engine::Order;
use crate::hub::{Hub, HubLimits, Inbox, inbox};
use crate::metrics::Metrics;
use crate::quota::BodyBudget;
#[cfg(test)]
use crate::quota::Quotas;
use crate::store::{Location, Record, Store};

/// What signs the publishers' tokens.
pub const PUBLISHER: &[u8] = b"the publisher's secret, of 32 bytes or more";
/// What signs the subscribers' tokens.
pub const SUBSCRIBER: &[u8] = b"the subscriber's secret, of 32 bytes or more";
/// The only other origin that the broker with tokens lets read its answers.
pub const ORIGIN: &str = "https://a.example";
/// The longest body.
pub const MAX_BODY: usize = 3000;

/// For a store into which nothing is inserted.
pub struct NoOrder;

impl Order<Record> for NoOrder {
    fn reserve(&self, _: usize) -> Option<u64> {
        None
    }

    fn newest(&self) -> u64 {
        0
    }

    fn publish(&self, _: Vec<Record>) {}
}

thread_local! {
    static OPEN: RefCell<Service> = RefCell::new(service(Config::new().no_auth(true), Auth::Open));
    static LOCKED: RefCell<Service> = RefCell::new(service(
        Config::new().no_auth(true).origin(ORIGIN),
        Auth::tokens(keyring(PUBLISHER), keyring(SUBSCRIBER)),
    ));
}

/// Lends the service that asks for tokens, or the one that lets everybody in, with nothing in it. Its first id is larger than
/// this one.
pub fn with<T>(asks_for_tokens: bool, first_id: u64, run: impl FnOnce(&Service) -> T) -> T {
    let service = if asks_for_tokens { &LOCKED } else { &OPEN };
    service.with_borrow_mut(|service| {
        let (hub, _inbox) = hub(first_id);
        service.hub = Arc::new(hub);
        service.metrics = Metrics::new(1, 0);
        service.bodies = BodyBudget::new(MAX_BODY);
        run(service)
    })
}

/// Lends a service that lets everybody in and that nothing else uses, with these limits per holder of tokens.
#[cfg(test)]
pub fn with_quotas<T>(quotas: Quotas, run: impl FnOnce(&Service) -> T) -> T {
    let mut service = service(Config::new().no_auth(true), Auth::Open);
    service.quotas = quotas;
    run(&service)
}

/// A role's only key.
pub fn keyring(secret: &[u8]) -> Keyring {
    Keyring { current: Key::from_secret(&Secret::new(secret).expect("it is long enough")), previous: None }
}

fn service(config: Config, auth: Auth) -> Service {
    let settings = config.port(0).threads(1).max_body(MAX_BODY).settle(1000).expect("it can be settled");
    let opening = Store::open(&Location::Memory).expect("memory can be opened");
    let store = opening.start(Box::new(NoOrder)).expect("threads can be started");
    Service::new(Arc::new(hub(1).0), store, settings, auth, Metrics::new(1, 0))
}

fn hub(first_id: u64) -> (Hub, Inbox) {
    let (outbox, inbox) = inbox(Box::new(|| {}));
    let limits = HubLimits {
        events_per_topic: 8,
        age_micros: 1 << 40,
        bytes: 20_000,
        topics: 4,
        subscribers: 2,
        latest_bytes: 2_000,
    };
    (Hub::new(limits, vec![outbox], first_id), inbox)
}
