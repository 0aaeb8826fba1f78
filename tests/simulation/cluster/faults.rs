//! What happens to the log, to connections and to brokers.

use std::sync::atomic::Ordering;

use esker::internals::engine::sim::{Faults, OldServer};
use esker::internals::sim::{appender_link, reader_link, tail_link};

use super::super::world::trace;
use super::world::{SITES, World};

/// The farthest that a clock is set, in microseconds. Less than the time for which the log knows a session.
const CLOCK_STEP: i64 = 400_000_000;

impl World {
    /// Some requests to the log fail for a while.
    pub(super) fn draw_faults(&mut self) {
        if !self.scenario.has_faults || self.rng.u8(0..20) != 0 {
            return;
        }
        let is_calm = self.rng.bool();
        let mut chance = |most: u16| if is_calm { 0 } else { self.rng.u16(0..most) };
        self.log.set_faults(Faults {
            unreachable: chance(300),
            lost_request: chance(80),
            lost_answer: chance(120),
            late: chance(120),
            not_writable: chance(40),
            out_of_memory: chance(40),
            unproven: chance(40),
            short: chance(500),
        });
    }

    /// Something happens to the log, to a broker's connections, or to a clock.
    pub(super) fn hurt(&mut self, site: usize) {
        let serial = self.sites[site].serial;
        let link = [appender_link, tail_link, reader_link][self.rng.usize(0..3)](serial);
        match self.rng.u8(0..12) {
            _ if !self.scenario.has_faults => {}
            0 | 1 => self.log.break_link(link),
            2 => {
                let is_cut = self.rng.bool();
                trace(self.step, &format!("link {link} is cut: {is_cut}"));
                self.log.cut(link, is_cut);
            }
            3 => self.log.stand_still(link),
            4 => {
                let is_away = self.rng.u8(0..3) == 0;
                trace(self.step, &format!("the log is away: {is_away}"));
                self.log.set_away(is_away);
            }
            5 => self.log.set_out_of_memory(self.rng.u8(0..3) == 0),
            6 => self.fail_over(),
            7..10 if self.scenario.has_losses => self.lose(),
            10 if self.scenario.has_clock_steps => self.step_clock(site),
            _ => {}
        }
    }

    fn old_server(&mut self) -> OldServer {
        let old = [OldServer::Gone, OldServer::Demoted, OldServer::Unaware][self.rng.usize(0..3)];
        if old == OldServer::Unaware && !self.scenario.has_losses { OldServer::Demoted } else { old }
    }

    /// A replica that has everything is promoted. An old server that goes on accepting appends loses them.
    fn fail_over(&mut self) {
        let old = self.old_server();
        trace(self.step, &format!("a failover: {old:?}"));
        self.log.fail_over(old);
    }

    fn lose(&mut self) {
        let (old, count) = (self.old_server(), self.rng.usize(1..6));
        match self.rng.u8(0..8) {
            0 => {
                self.oracle.was_flushed = true;
                self.log.flush();
            }
            1..4 => self.log.lose_changes(count, old),
            _ => self.log.lose_suffix(count, old),
        }
        trace(self.step, &format!("{} entries are lost: {old:?}", self.log.lost().len()));
    }

    fn step_clock(&mut self, site: usize) {
        let micros = self.rng.i64(-CLOCK_STEP..CLOCK_STEP);
        trace(self.step, &format!("a clock is set by {micros}"));
        if self.rng.bool() {
            self.oracle.clock_steps += micros.unsigned_abs();
            return self.log.step_clock(micros);
        }
        let clock = &self.sites[site].clock.unix_micros;
        clock.store(clock.load(Ordering::Relaxed).saturating_add_signed(micros), Ordering::Relaxed);
    }

    /// Removes all faults of the log and of connections to it.
    pub(super) fn heal(&mut self) {
        self.log.set_faults(Faults::default());
        self.log.set_out_of_memory(false);
        self.log.end_unaware_servers();
        self.log.set_away(false);
        for serial in 1..=self.serials {
            self.log.cut(appender_link(serial), false);
            self.log.cut(tail_link(serial), false);
            self.log.cut(reader_link(serial), false);
        }
    }

    /// Brokers are killed, drained or started.
    pub(super) fn restart(&mut self, site: usize) {
        match self.rng.u8(0..8) {
            0 | 1 => {
                trace(self.step, &format!("{} drains", self.sites[site].serial));
                self.sites[site].drain();
            }
            2 => (0..SITES).for_each(|site| self.kill(site)),
            3 | 4 => {}
            _ => self.kill(site),
        }
        for site in 0..SITES {
            if !self.sites[site].is_running() && self.rng.bool() {
                self.start(site);
            }
        }
    }

    fn kill(&mut self, site: usize) {
        trace(self.step, &format!("{} is killed", self.sites[site].serial));
        self.sites[site].kill();
        self.observe();
    }
}
