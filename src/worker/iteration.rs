//! What all steps of a turn share: the moment, the `Date` that goes with it, and the tokens by which
//! the poll names sockets.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use mio::Token;

use crate::api::{Context, ListenerRole, Service};
use crate::auth::TokenCache;
use crate::clock::{Now, imf_fixdate};
use crate::http::response::CommonHeaders;
use crate::hub::WorkerId;

/// What a turn's steps read and none of them changes.
pub(crate) struct IterationContext {
    pub(crate) id: WorkerId,
    pub(crate) service: Arc<Service>,
    pub(crate) now: Now,
    verified: RefCell<TokenCache>,
    date: String,
    date_seconds: u64,
}

impl IterationContext {
    pub(crate) fn new(id: WorkerId, service: Arc<Service>, now: Now) -> Self {
        Self { id, service, now, verified: RefCell::default(), date: String::new(), date_seconds: u64::MAX }
    }

    pub(crate) fn context(&self, role: ListenerRole, address: Option<IpAddr>) -> Context<'_> {
        let house = CommonHeaders { date: &self.date, origins: &self.service.settings.origins };
        Context {
            service: &self.service,
            role,
            address,
            house,
            now: self.now,
            worker: self.id,
            verified: &self.verified,
        }
    }

    /// Charges a client's address with the time that its request took, if a token in it failed verification.
    pub(crate) fn charge_failed_verification(&self, address: Option<IpAddr>, micros: u64) {
        if self.verified.borrow_mut().take_failure() {
            let limiter = &self.service.quotas.verifications;
            limiter.charge(address.into(), micros, self.now.millis);
        }
    }

    /// Returns whether a token from this address may be verified now.
    pub(crate) fn may_verify(&self, address: Option<IpAddr>) -> bool {
        self.service.quotas.verifications.check(address.into(), self.now.millis).is_ok()
    }

    pub(crate) fn stamp(&self) -> u32 {
        self.now.millis as u32
    }

    pub(crate) fn advance(&mut self, now: Now) {
        self.now = now.not_before(self.now);
        if self.date_seconds != now.unix_seconds() {
            self.date_seconds = now.unix_seconds();
            self.date = imf_fixdate(self.date_seconds);
        }
    }
}

/// A connection's or a subscriber's token.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    Connection(usize),
    Subscriber(u32),
}

impl Key {
    pub(crate) fn token(self) -> Token {
        match self {
            Self::Connection(key) => Token(key << 1),
            Self::Subscriber(key) => Token((key as usize) << 1 | 1),
        }
    }

    pub(crate) fn of(token: Token) -> Self {
        match token.0 & 1 {
            0 => Self::Connection(token.0 >> 1),
            _ => Self::Subscriber((token.0 >> 1) as u32),
        }
    }
}
