//! The metrics of the worker threads, and of what they wait for.

use crate::api::Service;
use crate::metrics::{Family, Samples};

/// Returns the metrics of the workers' loops and of the hub's lock.
pub(super) fn families(service: &Service) -> [Family; 4] {
    let waits = service.hub.lock_waits();
    [
        Family::gauge(
            "esker_worker_longest_iteration_seconds",
            "Longest loop iteration of any worker since the start, excluding the wait for events.",
            service.metrics.longest_completed_iteration() as f64 / 1e6,
        )
        .shown_as("worker_longest_iteration_seconds"),
        Family::counter(
            "esker_worker_wakeups_total",
            "Times that the worker was woken because of events or messages; at most once per loop iteration.",
            Samples::by_index("worker", service.hub.wakes()),
        )
        .shown_as("worker_wakeups"),
        Family::counter(
            "esker_hub_lock_waits_total",
            "Times that a thread found the hub's lock taken and had to wait for it.",
            waits.count,
        )
        .shown_as("hub_lock_waits"),
        Family::counter(
            "esker_hub_lock_wait_seconds_total",
            "Time that threads have waited for the hub's lock, of all threads together.",
            waits.time.as_secs_f64(),
        )
        .shown_as("hub_lock_wait_seconds"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::service;
    use crate::metrics::Exposition;

    #[test]
    fn the_numbers_of_all_workers_are_written_in_seconds() {
        service::with(false, 1, |service| {
            service.metrics.worker(0).longest_iteration_micros.raise_to(2_500);
            (0..3).for_each(|_| service.hub.wake(0));
            let text = Exposition(&families(service)).to_string();
            for line in [
                "# TYPE esker_worker_longest_iteration_seconds gauge",
                "esker_worker_longest_iteration_seconds 0.0025",
                "esker_worker_wakeups_total{worker=\"0\"} 1",
                "esker_hub_lock_waits_total 0",
                "esker_hub_lock_wait_seconds_total 0",
            ] {
                assert!(text.lines().any(|written| written == line), "{line}: {text}");
            }
        });
    }
}
