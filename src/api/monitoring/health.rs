//! `GET /healthz` and `GET /livez`: whether the broker takes all that it is there for, and whether it runs at all. What
//! restarts a broker asks the second one: streams outlive a full disk, and a restart would not empty it.

use crate::api::{Context, Plan, draining, insert};
use crate::http::{Problem, Response};
use crate::store::{Health, StoreError};

/// A worker whose loop iteration takes longer, in milliseconds, is stuck.
const STUCK_MILLIS: u64 = 10_000;

/// Readiness.
pub(in crate::api) fn ready(context: Context<'_>) -> Plan {
    if context.service.is_draining() {
        return Plan::Refuse(draining());
    }
    match context.service.store.status().health {
        Health::Ready | Health::Closed => well(),
        Health::Full(shortage) => Plan::Refuse(insert::refusal(StoreError::Full(shortage))),
        Health::Failed { .. } => Plan::Refuse(insert::refusal(StoreError::Failed)),
    }
}

/// Liveness.
pub(in crate::api) fn live(context: Context<'_>) -> Plan {
    let longest = context.service.metrics.longest_iteration(context.now.millis);
    if longest <= STUCK_MILLIS {
        return well();
    }
    let detail = format!("a worker thread has been stuck for {} s; restart the broker", longest / 1000);
    Plan::Refuse(Problem::unavailable(detail, 5))
}

fn well() -> Plan {
    Plan::Respond(Response::new(200, "text/plain", "ok"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::clock::Now;
    use crate::fuzz::service;

    #[test]
    fn a_worker_that_is_stuck_ends_liveness() {
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
