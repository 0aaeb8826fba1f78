//! Coming to rest, restarts, and what must hold then.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use esker::stepped::Stepped;
use esker::store::Health;

use super::asker::Asker;
use super::listener::Listener;
use super::world::{NAMES, World, tell};

/// A drain may take so long.
const DRAIN_MILLIS: u64 = 10_000;
/// More rounds than anything takes.
const MANY: usize = 20_000;

impl World {
    /// All troubles pass, everybody reads all, and nothing more happens: then everything owed is there. No time passes, for
    /// a wake-up that was lost must not be made good by a sweep.
    pub(super) fn settle(&mut self) {
        self.heal();
        self.come_to_rest();
        self.assert_served();
        self.assert_nothing_waits();
        for _ in 0..60 {
            self.dial.advance(50_000);
            self.come_to_rest();
        }
        self.assert_answered();
        self.assert_served();
        self.assert_nothing_waits();
    }

    pub(super) fn heal(&mut self) {
        self.net.get().accept_fault = None;
        self.storage.heal();
        // Whoever waits for descriptors is served when time has passed.
        self.dial.advance(1_000_000);
    }

    pub(super) fn come_to_rest(&mut self) {
        for _ in 0..MANY {
            self.deliver_all();
            self.pipes().into_iter().for_each(|pipe| self.net.get().give_room(pipe, Some(1 << 20)));
            let has_turned = self.turn_all();
            self.turn_store();
            self.look();
            self.forget();
            if !has_turned && !(0..self.traits.workers).any(|worker| self.would_wake(worker)) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    pub(super) fn assert_served(&self) {
        let net = self.net.get();
        for listener in self.listeners.iter().filter(|listener| !listener.is_over && !net.is_over(listener.pipe)) {
            listener.account.assert_whole(&self.truth, true, &listener.who());
            if listener.is_fast {
                listener.account.assert_every_record(&self.truth);
            }
            let expired = listener.expires.filter(|&expires| self.second() >= expires + 4 && listener.is_fast);
            assert!(
                expired.is_none() || listener.account.opened.is_none(),
                "a stream outlives its token: {listener:?}"
            );
        }
        let streams = self.listeners.iter().filter(|listener| listener.account.opened.is_some() && !listener.is_over);
        let counted = self.broker.as_ref().map_or(0, |broker| broker.hub().counts().subscribers);
        assert_eq!(counted, streams.count() + self.thronging.len(), "subscribers are counted wrongly");
    }

    /// Whoever was let in and asked something has an answer.
    pub(super) fn assert_answered(&self) {
        if self.traits.is_crowded {
            return;
        }
        for asker in &self.askers {
            assert!(!asker.is_waiting(), "no answer: {asker:?}");
        }
    }

    /// Lets go of connections that are over; nobody is cut off who reads everything.
    pub(super) fn forget(&mut self) {
        let rules = self.rules();
        let (mut net, truth) = (self.net.get(), &mut self.truth);
        for mut asker in extract(&mut self.askers, |asker| net.is_over(asker.pipe)) {
            asker.look(&mut net, truth, &self.traits, 0);
            asker.lose(truth);
            net.reset(asker.pipe);
        }
        for mut listener in extract(&mut self.listeners, |listener| net.is_over(listener.pipe)) {
            listener.look(&mut net, truth, rules);
            let is_cut_off = net.was_given_back(listener.pipe)
                && listener.account.opened.is_some()
                && !listener.is_over
                && !listener.was_broken;
            assert!(!(is_cut_off && listener.is_fast), "cut off without a word: {listener:?}");
            listener.account.assert_whole(truth, false, &listener.who());
            self.tally.expiries += usize::from(listener.has_expired);
            net.reset(listener.pipe);
            if self.traits.is_ending {
                self.ended.push(listener);
            }
        }
    }

    pub(super) fn restart(&mut self) {
        self.tally.restarts += 1;
        tell(self.truth.step, "a restart");
        match self.rng.u8(0..5) {
            0 => {
                self.shut();
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
        self.start_anew();
    }

    /// A store that has failed takes no more records until the next start, so whoever looks after it kills the broker. What the
    /// kernel still holds of a log whose fsync failed is then read, and shown: a loss of power must not take it back.
    pub(super) fn supervise(&mut self) {
        self.tally.restarts += 1;
        self.bustle();
        self.turn_all();
        self.kill();
        self.start_anew();
        if self.rng.bool() {
            self.storage.cut_power();
            self.lose_power();
            self.start_anew();
        }
    }

    pub(super) fn start_anew(&mut self) {
        self.storage.heal();
        self.start();
        self.audit_all();
    }

    /// A drain, and the store closed.
    pub(super) fn shut(&mut self) {
        self.heal();
        self.bustle();
        self.look();
        let heard: BTreeSet<_> = self.listeners.iter().filter(|one| is_served(one)).map(|one| one.pipe).collect();
        self.traits.is_ending = true;
        let Some(mut broker) = self.broker.take() else { return };
        broker.drain();
        self.broker = Some(broker);
        let (begin, boot) = (self.millis(), self.truth.boot);
        while (0..self.traits.workers).any(|worker| !self.has_ended(worker)) {
            assert!(self.millis() - begin <= DRAIN_MILLIS, "it does not drain");
            self.come_to_rest();
            if self.truth.boot != boot {
                // Power was lost in the midst of it, and another one runs.
                return self.shut();
            }
            self.dial.advance(20_000);
        }
        // Whatever was accepted, if in the drain's last moment, was delivered before the end.
        for listener in self.ended.iter().filter(|one| is_served(one) && heard.contains(&one.pipe)) {
            listener.account.assert_whole(&self.truth, true, &listener.who());
        }
        let is_ready = self.broker.as_ref().is_some_and(|broker| broker.store().status().health == Health::Ready);
        let crashes = self.storage.crashes();
        self.broker.take().into_iter().for_each(Stepped::close);
        self.look();
        if is_ready && self.storage.crashes() == crashes {
            self.truth.covered = self.truth.newest;
        }
        self.traits.is_ending = false;
        self.lose_all();
    }

    /// Some is asked for that is not answered yet, and some that has not arrived.
    fn bustle(&mut self) {
        (0..4).for_each(|_| self.ask());
        self.deliver_all();
        self.turn_all();
        (0..4).for_each(|_| self.ask());
        self.deliver();
    }

    pub(super) fn kill(&mut self) {
        tell(self.truth.step, "killed");
        self.look();
        self.storage.kill();
        self.broker = None;
        self.lose_all();
    }

    pub(super) fn lose_power(&mut self) {
        self.tally.power_cuts += 1;
        tell(self.truth.step, "power is lost");
        self.broker = None;
        self.lose_all();
    }

    /// All connections are gone.
    pub(super) fn lose_all(&mut self) {
        self.look();
        if self.traits.has_lying_disk {
            self.truth.doubt_everything();
        }
        self.truth.forget_ids_after(self.dial.unix_micros.load(Ordering::Relaxed));
        self.ended.clear();
        self.thronging.clear();
        for mut asker in self.askers.drain(..) {
            asker.lose(&mut self.truth);
        }
        for listener in self.listeners.drain(..) {
            listener.account.assert_whole(&self.truth, false, &listener.who());
        }
    }

    /// What is stored is read back.
    pub(super) fn audit_all(&mut self) {
        let pipe = self.net.get().connect(None);
        let mut asker = Asker::new(pipe, false);
        for name in 0..NAMES.len() {
            let request = asker.audit(name, &self.truth, &self.traits);
            self.net.get().send(pipe, request.as_bytes());
        }
        self.askers.push(asker);
        self.settle();
    }

    /// Everybody leaves, and nothing is left of them.
    pub(super) fn leave(&mut self) {
        for pipe in self.pipes() {
            self.net.get().reset(pipe);
        }
        self.come_to_rest();
        assert_eq!(self.net.get().open(), 0, "sockets that nobody has are open");
        let broker = self.broker.as_ref().expect("it runs");
        assert_eq!(broker.hub().counts().subscribers, 0);
        let status = broker.store().status();
        assert_eq!((status.queued, status.queued_bytes), (0, 0));
        self.tally.records = self.truth.items.iter().filter(|item| item.is_record() && item.is_seen).count();
    }
}

/// Whether it has everything, for it reads at once and nothing has happened to it.
fn is_served(listener: &Listener) -> bool {
    listener.is_fast && listener.account.opened.is_some() && !listener.was_broken && !listener.has_expired
}

fn extract<T>(all: &mut Vec<T>, is_so: impl Fn(&T) -> bool) -> Vec<T> {
    let (out, kept) = std::mem::take(all).into_iter().partition(is_so);
    *all = kept;
    out
}
