//! Connections whose token waits to be verified, because their address has shown too many forged ones: a queue for each
//! worker, from which one leaves in each loop iteration. So an address gets its allowance of verifications in the order in
//! which it asked for them, and clients that share it with a forger wait their turn.

use std::collections::VecDeque;

use super::{Reactor, Worker};
use crate::conn::connection::TimeoutKind;
use crate::metrics::LimitedVerification;
use crate::util::shrink::Shrink;

/// At most so many connections wait; others are refused at once. Each keeps what it has sent, 80 KiB at most.
const MAX_DELAYED: usize = 256;

/// A connection in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    key: usize,
    /// Which connection it was: another one may have its key by now.
    serial: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Delayed(VecDeque<Waiting>);

impl Delayed {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX_DELAYED
    }

    pub(crate) fn shrink_if_sparse(&mut self) {
        self.0.shrink_if_sparse();
    }
}

impl<K: Reactor> Worker<K> {
    /// Puts a connection into the queue; one that was there before comes first.
    pub(crate) fn delay(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        connection.is_delayed = true;
        let waiting = Waiting { key, serial: connection.serial };
        // Not if it was answered since, and this is its next request.
        if connection.patience == TimeoutKind::Verification && !connection.exchange.has_turned() {
            return self.delayed.0.push_front(waiting);
        }
        let metrics = self.parts.service.metrics.worker(self.parts.id);
        metrics.limited_verifications.count(LimitedVerification::Delayed as usize);
        let context = self.parts.context(connection.role, connection.address);
        log::debug!(
            "a token from {} waits for verification: too many tokens with an invalid signature came from \
                     that address",
            context.client()
        );
        self.delayed.0.push_back(waiting);
    }

    /// Lets the first connection go whose address has some allowance. Only one, for what its token takes is known only
    /// afterwards. Who has been closed or refused meanwhile is forgotten.
    pub(crate) fn release_delayed(&mut self) {
        let Self { connections, delayed, parts, .. } = self;
        delayed.0.retain(|waiting| {
            let connection = connections.get(waiting.key).filter(|connection| connection.serial == waiting.serial);
            connection.is_some_and(|connection| connection.is_delayed)
        });
        let may_go = |waiting: &Waiting| parts.may_verify(connections[waiting.key].address);
        let Some(first) = delayed.0.iter().position(may_go) else { return };
        if let Some(Waiting { key, .. }) = delayed.0.remove(first) {
            self.connections[key].is_delayed = false;
            self.enqueue(key);
        }
    }

    /// Refuses all that wait: the broker drains.
    pub(crate) fn refuse_delayed(&mut self) {
        for Waiting { key, serial } in std::mem::take(&mut self.delayed.0) {
            let connection = self.connections.get_mut(key).filter(|connection| connection.serial == serial);
            if let Some(connection) = connection.filter(|connection| connection.is_delayed) {
                connection.is_delayed = false;
                let context = self.parts.context(connection.role, connection.address);
                let step = connection.exchange.time_out(context, &mut connection.output);
                self.take_step(key, step);
                self.enqueue(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::IpAddr;

    use crate::api::{Context, ListenerRole, Service};
    use crate::auth::{Secret, TokenCache, mint};
    use crate::clock::Now;
    use crate::conn::connection::TimeoutKind;
    use crate::conn::exchange::{Exchange, Step};
    use crate::fuzz::service;
    use crate::http::response::CommonHeaders;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const SECONDS: u64 = 1_000_000;

    fn context<'a>(service: &'a Service, verified: &'a RefCell<TokenCache>, millis: u64) -> Context<'a> {
        Context {
            service,
            role: ListenerRole::All,
            address: Some(ADDRESS),
            house: CommonHeaders { date: "now", origins: &service.settings.origins },
            now: Now { id_micros: 50, unix_millis: SECONDS * 1000, millis },
            worker: 0,
            verified,
        }
    }

    fn request(secret: &[u8], expires: u64) -> String {
        let secret = Secret::new(secret).unwrap();
        let token = mint(&secret, &["topicone1".to_owned()], expires).unwrap();
        format!("HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n")
    }

    #[test]
    fn a_head_whose_token_may_not_be_verified_is_not_taken_and_begins_anew() {
        let text = request(service::SUBSCRIBER, SECONDS + 1);
        service::with(true, 1, |service| {
            let (verified, limiter) = (RefCell::default(), &service.quotas.verifications);
            let at = |millis| context(service, &verified, millis);
            // More than it is allowed at once.
            limiter.charge(Some(ADDRESS).into(), 300_000, 1_000);
            let (mut exchange, mut out) = (Exchange::default(), Vec::new());
            for _ in 0..2 {
                assert!(matches!(exchange.advance(text.as_bytes(), at(1_000), &mut out), (0, Step::Delay)));
                assert_eq!((exchange.patience(), out.len()), (TimeoutKind::Verification, 0));
            }
            let (taken, step) = exchange.advance(text.as_bytes(), at(60_000), &mut out);
            assert!(taken == text.len() && matches!(step, Step::Answered));
            assert!(out.starts_with(b"HTTP/1.1 200 ") && service.metrics.worker(0).requests.get() == 1);
            assert!(!verified.borrow_mut().take_failure(), "a good token costs its address nothing");
            // Now it is known, whatever the address owes.
            limiter.charge(Some(ADDRESS).into(), 900_000, 60_000);
            assert!(matches!(exchange.advance(text.as_bytes(), at(60_000), &mut out).1, Step::Answered));
        });
    }

    #[test]
    fn only_what_is_verified_in_vain_is_a_failure() {
        service::with(true, 1, |service| {
            let verified = RefCell::default();
            let fails = |text: &str| {
                let (mut exchange, mut out) = (Exchange::default(), Vec::new());
                exchange.advance(text.as_bytes(), context(service, &verified, 1_000_000), &mut out);
                verified.borrow_mut().take_failure()
            };
            assert!(!fails(&request(service::SUBSCRIBER, SECONDS + 1)));
            assert!(!fails(&request(service::SUBSCRIBER, SECONDS)), "it has expired, and is genuine");
            assert!(!fails("HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n"), "there is none");
            assert!(fails(&request(service::PUBLISHER, SECONDS + 1)));
            assert!(fails(&request(service::PUBLISHER, SECONDS + 1)), "it is not remembered");
        });
    }
}
