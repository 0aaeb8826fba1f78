//! Connections whose token waits to be verified, because their address has presented too many forged ones. Each worker has a
//! queue, from which at most one connection is released in each loop iteration. The requests of an address are verified in the
//! order in which they arrived, as its allowance permits; clients that share an address with a forger have to wait.

use std::collections::VecDeque;

use super::timeout::TimeoutKind;
use super::{ConnectionId, Connections, IterationContext};
use crate::metrics::LimitedVerification;
use crate::net::Stream;
use crate::util::shrink::Shrink;

/// The maximum number of connections that wait; others are refused at once. Each keeps up to 80 KiB of input.
const MAX_DELAYED: usize = 256;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Delayed(VecDeque<ConnectionId>);

impl Delayed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_DELAYED
    }
}

impl Shrink for Delayed {
    fn shrink_if_sparse(&mut self) {
        self.0.shrink_if_sparse();
    }
}

impl<S: Stream> Connections<S> {
    /// Puts a connection into the queue; at its front, if it was there before.
    pub(super) fn delay(&mut self, key: usize, cx: &IterationContext) {
        let id = self.id_of(key);
        let connection = &mut self.slab[key];
        connection.queues.is_delayed = true;
        // If it got a response in the meantime, this is its next request.
        if connection.timer.kind() == TimeoutKind::Verification && !connection.exchange.has_responded() {
            return self.delayed.0.push_front(id);
        }
        cx.metrics().limited_verifications.count(LimitedVerification::Delayed as usize);
        let context = cx.request_context(connection.role, connection.client_address());
        log::debug!(
            "a token from {} waits for verification: too many tokens with an invalid signature came from that address",
            context.client()
        );
        self.delayed.0.push_back(id);
    }

    /// Queues the first connection whose address has some allowance to be driven. Only one, because the cost of its token is
    /// known only afterwards. Forgets connections that were closed or refused since.
    pub(super) fn release_delayed(&mut self, cx: &IterationContext) {
        let Self { slab, delayed, .. } = self;
        delayed.0.retain(|id| {
            let connection = slab.get(id.key).filter(|connection| connection.serial == id.serial);
            connection.is_some_and(|connection| connection.queues.is_delayed)
        });
        let Some(first) = delayed.0.iter().position(|id| cx.may_verify(slab[id.key].client_address())) else { return };
        if let Some(id) = delayed.0.remove(first) {
            slab[id.key].queues.is_delayed = false;
            self.enqueue(id.key);
        }
    }

    /// Refuses the requests of all connections in the queue.
    pub(super) fn refuse_delayed(&mut self, cx: &IterationContext) {
        for id in std::mem::take(&mut self.delayed.0) {
            if self.get(id).is_some_and(|connection| connection.queues.is_delayed) {
                self.time_out_request(id.key, cx);
                self.enqueue(id.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::IpAddr;

    use crate::api::{Context, Service};
    use crate::auth::{ClaimRules, Secret, TokenCache, mint};
    use crate::clock::Now;
    use crate::conn::exchange::{Exchange, Step};
    use crate::conn::timeout::TimeoutKind;
    use crate::fuzz::service;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const SECONDS: u64 = 1_000_000;

    fn context<'a>(service: &'a Service, verified: &'a RefCell<TokenCache>, millis: u64) -> Context<'a> {
        let now = Now { id_micros: 50, unix_millis: SECONDS * 1000, millis };
        Context { address: Some(ADDRESS), ..service::context(service, verified, now) }
    }

    fn request(secret: &[u8], expires: u64) -> String {
        let secret = Secret::new(secret).unwrap();
        let token = mint(&secret, &["topicone1".to_owned()], SECONDS, expires, &ClaimRules::default()).unwrap();
        format!("HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n")
    }

    #[test]
    fn a_head_is_not_consumed_until_its_token_may_be_verified() {
        let text = request(service::SUBSCRIBER, SECONDS + 1);
        service::with(true, 1, |service| {
            let (verified, limiter) = (RefCell::default(), &service.quotas.verifications);
            let at = |millis| context(service, &verified, millis);
            // More than its allowance.
            limiter.charge(Some(ADDRESS).into(), 300_000, 1_000);
            let (mut exchange, mut out) = (Exchange::default(), Vec::new());
            for _ in 0..2 {
                assert!(matches!(exchange.advance(text.as_bytes(), at(1_000), &mut out), (0, Step::Delay)));
                assert_eq!((exchange.awaited(), out.len()), (TimeoutKind::Verification, 0));
            }
            let (taken, step) = exchange.advance(text.as_bytes(), at(60_000), &mut out);
            assert!(taken == text.len() && matches!(step, Step::Responded));
            assert!(out.starts_with(b"HTTP/1.1 200 ") && service.metrics.worker(0).requests.get() == 1);
            assert!(!verified.borrow_mut().take_failure(), "a good token costs its address nothing");
            // The token is cached now, so the address's allowance no longer matters.
            limiter.charge(Some(ADDRESS).into(), 900_000, 60_000);
            assert!(matches!(exchange.advance(text.as_bytes(), at(60_000), &mut out).1, Step::Responded));
        });
    }

    #[test]
    fn only_a_bad_signature_is_charged_as_a_failure() {
        service::with(true, 1, |service| {
            let verified = RefCell::default();
            let fails = |text: &str| {
                let (mut exchange, mut out) = (Exchange::default(), Vec::new());
                exchange.advance(text.as_bytes(), context(service, &verified, 1_000_000), &mut out);
                verified.borrow_mut().take_failure()
            };
            assert!(!fails(&request(service::SUBSCRIBER, SECONDS + 1)));
            assert!(!fails(&request(service::SUBSCRIBER, SECONDS)), "it is genuine, though expired");
            assert!(!fails("HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n"), "there is no token");
            assert!(fails(&request(service::PUBLISHER, SECONDS + 1)));
            assert!(fails(&request(service::PUBLISHER, SECONDS + 1)), "failures are not cached");
        });
    }
}
