//! Settling, shutdown, kills and loss of power, and what must hold afterwards.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use esker::internals::sim;
use esker::internals::store::Health;

use super::erasures::Erased;
use super::oracle::Item;
use super::requester::Requester;
use super::subscriber::Subscriber;
use super::world::{NAMES, World, trace};

/// More rounds than anything takes.
const MAX_ROUNDS: usize = 20_000;

impl World {
    /// Removes all faults, lets every client read everything, and runs until nothing more happens. Then every client must have
    /// what it is due. At first no time passes, so that a periodic sweep cannot hide a lost wake-up.
    pub(super) fn settle(&mut self) {
        self.heal();
        self.run_until_idle();
        self.assert_served();
        self.assert_nothing_pending();
        for _ in 0..60 {
            self.dial.advance(50_000);
            self.run_until_idle();
        }
        self.assert_answered();
        self.assert_served();
        self.assert_nothing_pending();
        self.assert_not_full();
    }

    pub(super) fn heal(&mut self) {
        self.net.get().accept_fault = None;
        self.storage.heal();
        // Accepting resumes some time after descriptors ran out.
        self.dial.advance(1_000_000);
    }

    pub(super) fn run_until_idle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            self.deliver_all();
            self.pipes().into_iter().for_each(|pipe| self.net.get().give_room(pipe, Some(1 << 20)));
            let has_turned = self.iterate_all();
            self.turn_store();
            self.observe();
            self.remove_closed();
            if !has_turned && !(0..self.scenario.workers).any(|worker| self.would_wake(worker)) {
                return;
            }
        }
        panic!("the broker never becomes idle");
    }

    pub(super) fn assert_served(&self) {
        let net = self.net.get();
        for subscriber in
            self.subscribers.iter().filter(|subscriber| !subscriber.is_over && !net.is_over(subscriber.pipe))
        {
            subscriber.log.assert_complete(&self.oracle, true, &subscriber.description());
            assert!(!has_polled(subscriber), "a poll outlives its first events: {subscriber:?}");
            if subscriber.is_fast {
                subscriber.log.assert_every_record(&self.oracle);
            }
            let is_revoked = subscriber.is_revoked && subscriber.is_fast;
            assert!(!is_revoked || subscriber.log.opened.is_none(), "a stream outlives its revocation: {subscriber:?}");
            let expired = subscriber.expires.filter(|&expires| self.second() >= expires + 4 && subscriber.is_fast);
            assert!(
                expired.is_none() || subscriber.log.opened.is_none(),
                "a stream outlives its token: {subscriber:?}"
            );
        }
        let streams =
            self.subscribers.iter().filter(|subscriber| subscriber.log.opened.is_some() && !subscriber.is_over);
        let counted = self.broker.as_ref().map_or(0, |broker| broker.hub().counts().subscribers);
        assert_eq!(counted, streams.count() + self.crowd.len(), "subscribers are counted wrongly");
    }

    /// Checks that the store has noticed that its disk is no longer full.
    fn assert_not_full(&self) {
        let health = self.broker.as_ref().map(|broker| broker.store().expect("it has a store").status().health);
        assert!(!matches!(health, Some(Health::Full(_))), "a full disk does not recover: {health:?}");
    }

    /// Checks that every request on an accepted connection has a response.
    pub(super) fn assert_answered(&self) {
        if self.scenario.is_over_capacity {
            return;
        }
        for requester in &self.requesters {
            assert!(!requester.is_waiting(), "no response: {requester:?}");
        }
    }

    /// Removes closed connections. The broker must not have cut off a subscriber that reads everything.
    pub(super) fn remove_closed(&mut self) {
        let rules = self.rules();
        let (mut net, oracle) = (self.net.get(), &mut self.oracle);
        for mut requester in extract(&mut self.requesters, |requester| net.is_over(requester.pipe)) {
            requester.observe(&mut net, oracle, &self.scenario, 0);
            requester.lose_connection(oracle);
            net.reset(requester.pipe);
        }
        for mut subscriber in extract(&mut self.subscribers, |subscriber| net.is_over(subscriber.pipe)) {
            subscriber.observe(&mut net, oracle, rules);
            let is_cut_off = net.was_given_back(subscriber.pipe)
                && subscriber.log.opened.is_some()
                && !subscriber.is_over
                && !subscriber.was_broken;
            assert!(!(is_cut_off && subscriber.is_fast), "cut off without a final event: {subscriber:?}");
            subscriber.log.assert_complete(oracle, false, &subscriber.description());
            self.totals.expiries += usize::from(subscriber.has_expired && !subscriber.is_revoked);
            self.totals.revocations += usize::from(subscriber.has_expired && subscriber.is_revoked);
            net.reset(subscriber.pipe);
            if self.scenario.is_ending {
                self.ended.push(subscriber);
            }
        }
    }

    pub(super) fn restart(&mut self) {
        self.totals.restarts += 1;
        trace(self.oracle.step, "a restart");
        match self.rng.u8(0..5) {
            0 => {
                self.shut_down();
                self.back_up_or_restore();
            }
            1 => {
                self.kill();
                self.back_up_or_restore();
            }
            2 => return self.storage.cut_power_after(self.rng.u64(0..40)),
            _ => {
                self.storage.cut_power();
                self.lose_power();
            }
        }
        self.start_again();
    }

    /// A store that has failed accepts no records until the next start, so a supervisor kills the broker. The next one reads,
    /// and shows, what the kernel still holds of a log whose fsync failed: a loss of power must not take that back.
    pub(super) fn restart_failed_store(&mut self) {
        self.totals.restarts += 1;
        self.start_requests();
        self.iterate_all();
        self.kill();
        self.start_again();
        if self.rng.bool() {
            self.storage.cut_power();
            self.lose_power();
            self.start_again();
        }
    }

    pub(super) fn start_again(&mut self) {
        self.storage.heal();
        self.start();
        self.audit_all();
    }

    /// Drains the broker and closes the store.
    pub(super) fn shut_down(&mut self) {
        self.heal();
        self.start_requests();
        self.observe();
        // A poll may have ended with a heartbeat, before the last events.
        let is_due = |one: &&Subscriber| is_served(one) && !one.is_over;
        let due: BTreeSet<_> = self.subscribers.iter().filter(is_due).map(|one| one.pipe).collect();
        self.scenario.is_ending = true;
        let Some(mut broker) = self.broker.take() else { return };
        broker.drain();
        self.broker = Some(broker);
        let (begin, boot) = (self.millis(), self.oracle.boot);
        while (0..self.scenario.workers).any(|worker| !self.has_ended(worker)) {
            assert!(self.millis() - begin <= self.bounds.drain_millis(), "the drain takes too long");
            self.run_until_idle();
            if self.oracle.boot != boot {
                // Power was lost during the drain, and another broker runs.
                return self.shut_down();
            }
            self.dial.advance(20_000);
        }
        // Everything accepted, even in the last moment of the drain, was delivered before the streams ended.
        for subscriber in self.ended.iter().filter(|one| is_served(one) && due.contains(&one.pipe)) {
            subscriber.log.assert_complete(&self.oracle, true, &subscriber.description());
        }
        let is_ready = self
            .broker
            .as_ref()
            .is_some_and(|broker| broker.store().expect("it has a store").status().health == Health::Ready);
        let crashes = self.storage.crashes();
        self.history = self.broker.take().and_then(sim::Broker::close);
        self.observe();
        if is_ready && self.storage.crashes() == crashes {
            self.oracle.covered = self.oracle.newest;
        }
        self.scenario.is_ending = false;
        self.drop_connections();
    }

    /// Sends some requests that have no response yet, and some that have not arrived.
    fn start_requests(&mut self) {
        (0..4).for_each(|_| self.send_request());
        self.deliver_all();
        self.iterate_all();
        (0..4).for_each(|_| self.send_request());
        self.deliver();
    }

    pub(super) fn kill(&mut self) {
        trace(self.oracle.step, "killed");
        self.observe();
        self.storage.kill();
        self.broker = None;
        self.drop_connections();
    }

    pub(super) fn lose_power(&mut self) {
        self.totals.power_cuts += 1;
        trace(self.oracle.step, "power is lost");
        self.broker = None;
        self.drop_connections();
    }

    /// All connections are lost.
    pub(super) fn drop_connections(&mut self) {
        self.observe();
        if self.scenario.has_lying_disk {
            self.oracle.doubt_everything();
        }
        self.oracle.forget_ids_after(self.dial.unix_micros.load(Ordering::Relaxed));
        self.ended.clear();
        self.crowd.clear();
        for mut requester in self.requesters.drain(..) {
            requester.lose_connection(&mut self.oracle);
        }
        for subscriber in self.subscribers.drain(..) {
            subscriber.log.assert_complete(&self.oracle, false, &subscriber.description());
        }
    }

    /// Reads back every stored record.
    pub(super) fn audit_all(&mut self) {
        let pipe = self.net.get().connect(None);
        let mut requester = Requester::new(pipe, false);
        for name in 0..NAMES.len() {
            let request = requester.audit(name, &self.oracle, &self.scenario);
            self.net.get().send(pipe, request.as_bytes());
        }
        self.requesters.push(requester);
        self.settle();
    }

    /// Disconnects all clients. The broker must keep nothing of them.
    pub(super) fn disconnect_all(&mut self) {
        for pipe in self.pipes() {
            self.net.get().reset(pipe);
        }
        self.run_until_idle();
        assert_eq!(self.net.get().open(), 0, "sockets without a client are open");
        let broker = self.broker.as_ref().expect("it runs");
        assert_eq!(broker.hub().counts().subscribers, 0);
        let status = broker.store().expect("it has a store").status();
        assert_eq!((status.queued, status.queued_bytes), (0, 0));
        self.totals.records = self.oracle.items.iter().filter(|item| item.is_record() && item.is_seen).count();
        let is_erased = |item: &&Item| matches!(item.erased, Erased::Since(_));
        self.totals.erased = self.oracle.items.iter().filter(is_erased).count();
    }
}

/// Returns whether the subscriber must have everything: it reads at once, and its connection is whole.
fn is_served(subscriber: &Subscriber) -> bool {
    let is_whole = subscriber.log.opened.is_some() && !subscriber.was_broken && !subscriber.has_expired;
    subscriber.is_fast && is_whole && !has_polled(subscriber)
}

/// Returns whether the subscriber's stream is a poll that has had its events.
fn has_polled(subscriber: &Subscriber) -> bool {
    subscriber.is_poll && !subscriber.log.events.is_empty()
}

fn extract<T>(all: &mut Vec<T>, is_so: impl Fn(&T) -> bool) -> Vec<T> {
    let (out, kept) = std::mem::take(all).into_iter().partition(is_so);
    *all = kept;
    out
}
