//! Carries out what connections ask for: prepares and begins streams, hands requests to other threads, and closes sockets.

use super::{Message, Worker};
use crate::api::DeferredReply;
use crate::api::subscribe::{LookupReply, OpenStream};
use crate::conn::Effect;
use crate::metrics::Close;
use crate::net::{ListenerRole, Reactor, SocketKey};
use crate::stream::PendingSubscription;

impl<K: Reactor> Worker<K> {
    /// Carries out all effects, in order. To be called after each connection that was driven: so their cost counts toward the
    /// budget, and a stream is prepared before the inbox is taken.
    pub(super) fn carry_out_effects(&mut self) {
        while let Some(effect) = self.connections.next_effect() {
            match effect {
                Effect::Defer(id, request) => {
                    let wrap = move |reply: DeferredReply| Message::Reply(id, reply);
                    request.run(&self.cx.service, self.mailbox.reply(&self.cx.service, wrap));
                }
                Effect::LookUp(id, lookup) => {
                    let wrap = move |reply: LookupReply| Message::LookedUp(id, reply);
                    lookup.run(&self.cx.service, self.mailbox.reply(&self.cx.service, wrap));
                }
                Effect::PrepareStream(key, stream) => self.prepare_stream(key, stream),
                Effect::BeginStream(key, socket, role) => self.begin_stream(key, socket, role),
                Effect::AbandonStream(key, why) => self.abandon_stream(key, why),
                Effect::Close(socket, role) => self.close(socket, role),
            }
        }
    }

    fn prepare_stream(&mut self, key: usize, stream: OpenStream) {
        self.cx.metrics().opened.add(1);
        let OpenStream { joined, framing, poll, validity, age_limit, permits } = stream;
        let pending = match poll {
            None => self.streams.admit(joined, framing, validity.expires),
            Some(poll) => self.streams.admit_poll(joined, framing, validity.expires, poll),
        };
        let pending = pending.with_age_limit(age_limit).with_permits(permits).with_token(validity.token);
        self.pending.insert(key, pending);
    }

    fn begin_stream(&mut self, key: usize, mut socket: K::Stream, role: ListenerRole) {
        let Some(pending) = self.pending.remove(&key) else { return self.close(socket, role) };
        let subscriber = SocketKey::Subscriber(self.streams.next_key());
        match self.reactor.register_both(&mut socket, subscriber.token()) {
            Ok(()) => self.streams.start(self.check_revoked(pending), socket, self.cx.timestamp()),
            Err(_) => {
                self.streams.abandon(pending, Close::Failed);
                self.close(socket, role);
            }
        }
    }

    /// Checks again whether the stream's token is revoked, because time has passed since the request was authorized. From now on,
    /// revocations find the stream among the registered ones.
    fn check_revoked(&self, pending: PendingSubscription) -> PendingSubscription {
        if self.cx.service.auth.is_revoked(pending.token()) { pending.revoked() } else { pending }
    }

    fn abandon_stream(&mut self, key: usize, why: Close) {
        if let Some(pending) = self.pending.remove(&key) {
            self.streams.abandon(pending, why);
        }
    }

    /// Closes the socket of a connection or a subscriber.
    pub(super) fn close(&self, socket: K::Stream, role: ListenerRole) {
        // Before the socket is closed, so that an observer of the closed socket never sees a stale count.
        let is_counted = role != ListenerRole::Administration;
        self.cx.metrics().connections.subtract(is_counted.into());
        self.release(socket, role);
    }

    /// Closes a socket and releases its slot; wakes the acceptor if it waits for one.
    pub(super) fn release(&self, socket: K::Stream, role: ListenerRole) {
        if self.limiter.release(socket, role) {
            self.cx.service.hub.wake(0);
        }
    }
}
