//! Removes records: erases versions of a name, a part of them at a time with other work in between, and removes versions that are
//! not retained. Both can be repeated safely.

use super::{Appender, Link};
use crate::engine::EngineError;
use crate::engine::log::{
    Compacted, Connect, Erase as Request, Erased, LogError, Mark, Refusal, RemoveRecords as _, Swept,
};
use crate::engine::queue::Erase;

/// The time between two sweeps, in milliseconds.
const SWEEP_MILLIS: u64 = 1_000;
/// The time until the next sweep if there is more to remove, in milliseconds.
const SWEEP_AGAIN_MILLIS: u64 = 100;

/// An erasure that is being carried out.
pub(super) struct Erasing {
    request: Erase,
    /// Only versions with smaller ids are erased.
    before: Option<u64>,
    /// The versions that are gone so far.
    versions: u64,
}

impl<C: Connect> Appender<C> {
    /// Erases the next versions of the erasure that is being carried out, or the first of a new one.
    pub(super) fn erase(&mut self) {
        let begin = |request: Erase| Erasing { before: request.before, versions: 0, request };
        let next = self.erasing.take().or_else(|| self.engine.queue.take_erase().map(begin));
        let Some(erasing) = next else { return };
        self.batches += 1;
        let floor = self.engine.shared.floor();
        let Some(Link { log, hello }) = &mut self.link else { return self.end_erasing(erasing, None) };
        let name = &*erasing.request.name;
        let request = Request { hello: *hello, batch: self.batches, floor, name, before: erasing.before };
        let (session, token) = (hello.session, request.token());
        match log.erase(&request) {
            Ok(erased) => self.note_erased(erasing, &erased, session, &token),
            Err(error) => self.end_erasing(erasing, Some(&error)),
        }
    }

    /// Goes on with the erasure later, or has it acknowledged once the tail has passed it.
    fn note_erased(&mut self, erasing: Erasing, erased: &Erased, session: u64, token: &str) {
        let now = self.millis();
        if let Some(entry) = erased.entry {
            self.engine.shared.note_appended(session, Mark { entry, token: token.into() }, entry, now);
        }
        let versions = erasing.versions + erased.versions;
        if erased.rest.is_some() {
            self.erasing = Some(Erasing { before: erased.rest, versions, ..erasing });
            return;
        }
        self.engine.shared.accept(true, now);
        let done = erasing.request.done;
        self.engine.waiting.wait(erased.last, now, move |_| done(Ok(versions)));
    }

    /// Completes an erasure with an error. `None` stands for a missing connection.
    pub(super) fn end_erasing(&mut self, erasing: Erasing, error: Option<&LogError>) {
        let is_partial = erasing.versions > 0;
        let error = match error {
            Some(LogError::Refused(Refusal::Records, why)) => EngineError::Refused(why.as_str().into()),
            Some(LogError::Refused(Refusal::Memory | Refusal::Setup, why)) => {
                log::warn!("the engine refused an erasure: {why}");
                EngineError::Unavailable("the engine refuses it; the broker's log says why".into())
            }
            Some(LogError::Unproven(_)) => EngineError::Unknown("the engine could not prove that it is durable".into()),
            Some(error) => {
                let is_done = matches!(error, LogError::Broken(_) | LogError::Malformed(_));
                self.fail(error);
                let why = self.engine.shared.reason();
                if is_done { EngineError::Unknown(why) } else { EngineError::Unavailable(why) }
            }
            None => EngineError::Unavailable(self.engine.shared.reason()),
        };
        let error = match error {
            EngineError::Unavailable(why) | EngineError::Refused(why) if is_partial => EngineError::Unknown(why),
            error => error,
        };
        (erasing.request.done)(Err(error));
    }

    /// Removes versions that are not retained, if it is time.
    pub(super) fn sweep(&mut self) {
        let now = self.millis();
        let Some(link) = self.link.as_mut().filter(|_| self.sweep_at <= now) else { return };
        self.sweep_at = now + SWEEP_MILLIS;
        match link.log.sweep(link.hello) {
            Ok(swept) => self.compact(swept, now),
            Err(error) => self.not_removed(&error, now),
        }
    }

    /// Has the engine free some memory after a sweep.
    fn compact(&mut self, swept: Swept, now: u64) {
        let Some(link) = &mut self.link else { return };
        match link.log.compact(link.hello) {
            Ok(compacted) => {
                self.sweep_refusals.succeed(now);
                if swept.is_cut_short || !matches!(compacted, Compacted::Done) {
                    self.sweep_at = now + SWEEP_AGAIN_MILLIS;
                }
            }
            Err(error) => self.not_removed(&error, now),
        }
    }

    fn not_removed(&mut self, error: &LogError, now: u64) {
        match error {
            LogError::Refused(Refusal::Records | Refusal::Setup | Refusal::Memory, why) => {
                let warning = self.sweep_refusals.fail(why, now);
                warning.iter().for_each(|why| log::warn!("the engine does not remove old records: {why}"));
            }
            _ => self.fail(error),
        }
    }
}
