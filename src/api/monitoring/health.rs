//! `GET /healthz` (readiness): whether the broker accepts everything, including inserts. `GET /livez` (liveness): whether its
//! workers run. A supervisor that restarts the broker should use liveness: streams survive a full disk, and a restart would not
//! free space.

use crate::api::{Context, Plan, draining, insert};
use crate::http::{Problem, Response};
use crate::store::{Health, StoreError};

/// The duration of a loop iteration, in milliseconds, beyond which a worker counts as stuck.
const STUCK_MILLIS: u64 = 10_000;

/// Plans `GET /healthz`.
pub(in crate::api) fn ready(context: Context<'_>) -> Plan {
    if context.service.is_draining() {
        return Plan::Refuse(draining());
    }
    match context.service.store.status().health {
        Health::Ready | Health::Closed => healthy(),
        Health::Full(shortage) => Plan::Refuse(insert::store_problem(StoreError::Full(shortage))),
        Health::Failed { .. } => Plan::Refuse(insert::store_problem(StoreError::Failed)),
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

    use super::*;
    use crate::clock::Now;
    use crate::fuzz::service;

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
