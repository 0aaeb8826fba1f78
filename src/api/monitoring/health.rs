//! `GET /healthz` (readiness): whether the broker accepts everything, including inserts and, with an engine, publishes. `GET /livez` (liveness): whether its
//! workers run. A supervisor that restarts the broker should use liveness: streams survive a full disk, and a restart would not
//! free space.

use crate::api::{Context, Plan, draining, insert};
use crate::engine;
use crate::http::{Problem, Response};
use crate::store::{Health, StoreError};

/// The duration of a loop iteration, in milliseconds, beyond which a worker counts as stuck.
const STUCK_MILLIS: u64 = 10_000;

/// How long another program may hold the database before the broker counts as not ready, in milliseconds. A backup that takes
/// less should not move clients to another broker.
const LOCK_MILLIS: u64 = 3_000;

/// What `Retry-After` says while the engine is the reason.
const ENGINE_RETRY_SECONDS: u32 = 5;

/// Plans `GET /healthz`.
pub(in crate::api) fn ready(context: Context<'_>) -> Plan {
    if context.service.is_draining() {
        return Plan::Refuse(draining());
    }
    if let Some(detail) = context.service.engine.as_ref().and_then(|engine| engine_problem(&engine.status().health)) {
        return Plan::Refuse(Problem::unavailable(detail, ENGINE_RETRY_SECONDS));
    }
    match context.service.store_status().health {
        Health::Ready | Health::Closed => healthy(),
        Health::Full(shortage) => Plan::Refuse(insert::store_problem(StoreError::Full(shortage))),
        Health::Failed { .. } => Plan::Refuse(insert::store_problem(StoreError::Failed)),
        Health::Removed { .. } => Plan::Refuse(insert::store_problem(StoreError::Removed)),
        // Anybody may ask, so the program is named only in the log.
        Health::Locked { millis, .. } if millis >= LOCK_MILLIS => {
            Plan::Refuse(insert::store_problem(StoreError::Locked))
        }
        Health::Locked { .. } => healthy(),
    }
}

/// Returns why the broker is not ready because of the engine. Anybody may ask, so the server's own words are only in the log and
/// in `/stats`.
fn engine_problem(health: &engine::Health) -> Option<&'static str> {
    match health {
        engine::Health::Ready | engine::Health::Closed => None,
        engine::Health::Starting => Some("the broker is still reading the engine's log"),
        engine::Health::Lost(_) => {
            Some("the engine can't be reached, or refuses events; the log and /stats say why; streams continue")
        }
        engine::Health::StandsStill => {
            Some("events in the engine's log don't reach this broker; it has connected again and keeps trying")
        }
        engine::Health::Unreadable(_) => Some(
            "the engine's log has an entry that this version of esker can't read; run the version of the other brokers",
        ),
    }
}

/// Plans `GET /livez`.
pub(in crate::api) fn live(context: Context<'_>) -> Plan {
    let longest = context.service.metrics.longest_iteration(context.now.millis);
    if longest <= STUCK_MILLIS {
        return healthy();
    }
    let detail = format!("a worker thread has been stuck for {} s; restart the broker", longest / 1000);
    Plan::Refuse(Problem::unavailable(detail, 5))
}

fn healthy() -> Plan {
    Plan::Respond(Response::new(200, "text/plain", "ok"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, ManualClock, Now};
    use crate::engine::Engine;
    use crate::fuzz::service;

    /// Returns the status and the detail of `GET /healthz` with an engine in a state.
    fn ready_with(prepare: impl FnOnce(&Engine)) -> (u16, String) {
        let manual = Arc::new(ManualClock::default());
        manual.advance(10_000_000);
        let engine = Engine::new(Clock::manual(manual));
        engine.note_ready();
        prepare(&engine);
        let service = service::configured(|config| config).with_engine(engine);
        let (tokens, now) = (RefCell::default(), Now { id_micros: 50, unix_millis: 0, millis: 0 });
        match ready(service::context(&service, &tokens, now)) {
            Plan::Respond(response) => (response.status, String::new()),
            Plan::Refuse(problem) => (problem.status, problem.detail.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_state_of_the_engine_is_reported_without_its_own_words() {
        assert_eq!(ready_with(|_| {}), (200, String::new()));
        assert_eq!(ready_with(|engine| engine.note_ahead(9, 2_000)), (200, String::new()));
        for (prepare, part) in [
            (&(|engine: &Engine| engine.note_lost("cut: 10.0.0.1")) as &dyn Fn(&Engine), "can't be reached"),
            (&|engine| engine.note_ahead(9, 3_000), "don't reach this broker"),
            (&|engine| engine.note_unreadable("entry 10.0.0.1"), "can't read"),
        ] {
            let (status, detail) = ready_with(prepare);
            assert!(status == 503 && detail.contains(part) && !detail.contains("10.0.0.1"), "{detail}");
        }
    }

    #[test]
    fn a_stuck_worker_fails_the_liveness_check() {
        let status_at = |began: u64, millis: u64| {
            service::with(false, 1, |service| {
                service.metrics.worker(0).iteration_began.set(began);
                let (tokens, now) = (RefCell::default(), Now { id_micros: 50, unix_millis: 0, millis });
                match live(service::context(service, &tokens, now)) {
                    Plan::Respond(response) => response.status,
                    Plan::Refuse(problem) => problem.status,
                    other => panic!("{other:?}"),
                }
            })
        };
        let hours = 10_000_000;
        assert_eq!(status_at(0, hours), 200, "it waits for events");
        assert_eq!(status_at(hours, hours), 200);
        assert_eq!(status_at(hours, hours + STUCK_MILLIS - 1), 200);
        assert_eq!(status_at(hours, hours + STUCK_MILLIS), 503);
    }
}
