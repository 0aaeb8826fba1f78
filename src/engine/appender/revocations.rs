//! Stores revocations of tokens in the log, and applies those of all brokers. A revocation may be stored twice, so a caller that
//! gets no answer can safely repeat it.

use super::{Appender, Link};
use crate::auth::{MAX_REVOCATIONS, Revocation, Revocations};
use crate::engine::EngineError;
use crate::engine::handle::MICROS;
use crate::engine::log::{Connect, LogError, Refusal, Revocations as _, Revoke as Request, Revoked};
use crate::engine::queue::Revoke;

impl<C: Connect> Appender<C> {
    /// Applies what all brokers have revoked since the last time.
    pub(super) fn read_revocations(&mut self, now: u64) {
        let (Some(link), Some(table)) = (&mut self.link, &self.engine.revocations) else { return };
        match link.log.revoked(self.revoked_through) {
            Ok(revoked) => match revoked.last() {
                None => self.engine.shared.note_revocations(),
                Some(newest) => {
                    // There may be more.
                    (self.revoked_through, self.register_at) = (newest.time, now);
                    apply(&revoked, table);
                }
            },
            Err(error) => self.fail(&error),
        }
    }

    /// Stores revocations.
    pub(super) fn revoke(&mut self, revokes: Vec<Revoke>) {
        if revokes.is_empty() {
            return;
        }
        let Some(Link { log, hello }) = &mut self.link else {
            let error = EngineError::Unavailable(self.engine.shared.reason());
            return revokes.into_iter().for_each(|revoke| (revoke.done)(Err(error.clone())));
        };
        let texts: Vec<_> = revokes.iter().map(|revoke| revoke.text.clone()).collect();
        match log.revoke(&Request { hello: *hello, texts: &texts, max: MAX_REVOCATIONS }) {
            Ok(first) => revokes.into_iter().zip(first..).for_each(|(revoke, time)| (revoke.done)(Ok(time))),
            Err(error) => {
                let refusal = self.not_revoked(&error);
                revokes.into_iter().for_each(|revoke| (revoke.done)(Err(refusal.clone())));
            }
        }
    }

    /// Decides what it means that revocations were not stored.
    fn not_revoked(&mut self, error: &LogError) -> EngineError {
        match error {
            LogError::Refused(Refusal::Memory | Refusal::Setup | Refusal::Records, why) => {
                log::warn!("revocations are refused by the engine: {why}");
                EngineError::Unavailable("the engine refuses the revocation; the broker's log says why".into())
            }
            LogError::Unproven(_) => EngineError::Unknown("the engine could not prove that it is durable".into()),
            _ => {
                self.fail(error);
                EngineError::Unavailable(self.engine.shared.reason())
            }
        }
    }
}

/// Applies revocations that were read from the log.
fn apply(revoked: &[Revoked], table: &Revocations) {
    let removed_through = revoked.iter().map(|revoked| revoked.removed_through).max().unwrap_or(0);
    if removed_through > 0 {
        table.revoke_all(removed_through / MICROS);
    }
    for Revoked { time, text, .. } in revoked {
        match Revocation::from_text(text) {
            Some(revocation) => table.revoke(&revocation, time / MICROS),
            None => log::warn!("this version of Esker does not understand the revocation {time} in the engine"),
        }
    }
}
