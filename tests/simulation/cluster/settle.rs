//! Removes all faults and runs until everything is at rest. Then every client must know everything.

use super::super::engine::oracle::Truth;
use super::super::engine::records::RecordTruth;
use super::super::world::trace;
use super::world::{SITES, World};

/// More rounds than anything takes.
pub const ROUNDS: usize = 600;
/// For how many rounds all must be at rest. Brokers look for what they have appended once per second.
const CALM_ROUNDS: usize = 13;
/// The microseconds of a round.
pub const ROUND_MICROS: u64 = 100_000;

impl World {
    pub(super) fn settle(&mut self) {
        trace(self.step, "settle");
        self.heal();
        let mut calm = 0;
        for _ in 0..ROUNDS {
            self.run_round(true);
            calm = if self.is_calm() { calm + 1 } else { 0 };
            if calm == CALM_ROUNDS {
                self.audit_all();
                return self.assert_all(true);
            }
            self.advance(ROUND_MICROS);
        }
        self.explain_unrest();
    }

    /// Runs everything once. Every broker runs, and every client is connected, if `is_whole`.
    pub(super) fn run_round(&mut self, is_whole: bool) {
        for site in (0..SITES).filter(|_| is_whole) {
            if !self.sites[site].is_running() {
                self.start(site);
            }
        }
        for index in (0..self.subscribers.len()).filter(|_| is_whole) {
            if self.subscribers[index].link.is_none() {
                self.connect(index);
            }
        }
        if is_whole {
            self.connect_listeners();
        }
        for _ in 0..16 {
            self.flush_network();
            let has_run = self.run_all();
            self.observe();
            if !has_run {
                break;
            }
        }
    }

    fn is_calm(&mut self) -> bool {
        let last = self.log.last();
        let has_caught_up = self.sites.iter_mut().all(|site| {
            site.is_open() && site.is_ready() && site.status().is_some_and(|status| status.applied == last)
        });
        let are_connected = self.subscribers.iter().all(|subscriber| subscriber.is_connected());
        has_caught_up && are_connected && self.requests.is_empty() && self.records.are_calm()
    }

    fn explain_unrest(&mut self) {
        let last = self.log.last();
        let states: Vec<_> = self.sites.iter_mut().map(|site| (site.is_draining, site.status())).collect();
        let away: Vec<_> = self.subscribers.iter().filter(|subscriber| !subscriber.is_connected()).collect();
        panic!("not at rest; the newest id is {last}: {states:?}, {:?}, {away:?}, {:?}", self.requests, self.records);
    }

    /// Prints what the log has and what it has lost.
    fn describe_log(&self) {
        for (what, entries) in [("has", self.log.entries()), ("has lost", self.log.lost())] {
            let ids: Vec<_> = entries.iter().map(|entry| (entry.id, &entry.token)).collect();
            trace(self.step, &format!("the log {what} {ids:?}"));
        }
    }

    fn assert_all(&mut self, is_caught_up: bool) {
        self.oracle.running = self.sites.iter().map(|site| site.serial).collect();
        self.describe_log();
        let truth = Truth::new(&self.log);
        self.oracle.assert_answers(&truth);
        for subscriber in &self.subscribers {
            self.oracle.assert_received(subscriber, &truth, is_caught_up);
        }
        let has_losses = self.scenario.has_losses;
        self.records.assert_all(&RecordTruth::new(&self.log), has_losses, is_caught_up);
    }

    /// Drains all brokers at once.
    pub(super) fn shut_down(&mut self) {
        self.sites.iter_mut().for_each(|site| site.drain());
        for _ in 0..ROUNDS {
            self.run_round(false);
            if self.sites.iter().all(|site| !site.is_running()) {
                return self.assert_all(false);
            }
            self.advance(ROUND_MICROS);
        }
        self.explain_unrest();
    }
}
