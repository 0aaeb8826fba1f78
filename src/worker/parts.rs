//! What all steps of a turn share: the moment, the `Date` that goes with it, and the tokens by which
//! the poll names sockets.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use mio::Token;

use crate::api::{Context, Scope, Service};
use crate::auth::Verified;
use crate::clock::{Now, imf_fixdate};
use crate::http::response::House;
use crate::hub::WorkerId;

/// What a turn's steps read and none of them changes.
pub(super) struct Parts {
    pub(super) id: WorkerId,
    pub(super) service: Arc<Service>,
    pub(super) now: Now,
    verified: RefCell<Verified>,
    date: String,
    date_seconds: u64,
}

impl Parts {
    pub(super) fn new(id: WorkerId, service: Arc<Service>, now: Now) -> Self {
        Self { id, service, now, verified: RefCell::default(), date: String::new(), date_seconds: u64::MAX }
    }

    pub(super) fn context(&self, scope: Scope, address: Option<IpAddr>) -> Context<'_> {
        let house = House { date: &self.date, origins: &self.service.settings.origins };
        Context {
            service: &self.service,
            scope,
            address,
            house,
            now: self.now,
            worker: self.id,
            verified: &self.verified,
        }
    }

    /// Charges a client's address with the time that its request took, if a token in it failed verification.
    pub(super) fn charge_failed_verification(&self, address: Option<IpAddr>, micros: u64) {
        if self.verified.borrow_mut().take_failure() {
            let limiter = &self.service.quotas.verifications;
            limiter.charge(address.into(), micros, self.now.millis);
        }
    }

    /// Returns whether a token from this address may be verified now.
    pub(super) fn may_verify(&self, address: Option<IpAddr>) -> bool {
        self.service.quotas.verifications.check(address.into(), self.now.millis).is_ok()
    }

    pub(super) fn stamp(&self) -> u32 {
        self.now.millis as u32
    }

    pub(super) fn advance(&mut self, now: Now) {
        self.now = now.not_before(self.now);
        if self.date_seconds != now.unix_seconds() {
            self.date_seconds = now.unix_seconds();
            self.date = imf_fixdate(self.date_seconds);
        }
    }
}

/// A connection's or a subscriber's token.
#[derive(Clone, Copy)]
pub(super) enum Key {
    Connection(usize),
    Subscriber(u32),
}

impl Key {
    pub(super) fn token(self) -> Token {
        match self {
            Self::Connection(key) => Token(key << 1),
            Self::Subscriber(key) => Token((key as usize) << 1 | 1),
        }
    }

    pub(super) fn of(token: Token) -> Self {
        match token.0 & 1 {
            0 => Self::Connection(token.0 >> 1),
            _ => Self::Subscriber((token.0 >> 1) as u32),
        }
    }
}
