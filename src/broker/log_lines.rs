//! What the log says when a broker starts and when it stops: where its data is, its limits and its addresses; how many streams
//! it ends, and how long that takes.

use std::fmt::Display;
use std::time::Duration;

use super::{Broker, Shared};
use crate::clock::Clock;
use crate::config::{Access, Settings};
use crate::metrics::WorkerMetrics;
use crate::store::Location;
use crate::util::units::{seconds, size};

impl Broker {
    /// Logs the configuration, the addresses last: from then on, the broker serves.
    pub(super) fn log_start(&self) {
        let settings = &self.service.0.settings;
        if let Some(records) = describe_records(settings) {
            log::info!("{records}");
        }
        log::info!("limits: {}", describe_limits(settings));
        log::info!(
            "esker {} listens on {} with {} threads, up to {} connections, {}",
            env!("CARGO_PKG_VERSION"),
            self.listening.describe(),
            settings.threads,
            settings.max_connections,
            match &settings.access {
                Access::Everybody => "without authentication",
                Access::Tokens { .. } => "with tokens",
            },
        );
        warn_about(settings);
    }
}

fn warn_about(settings: &Settings) {
    if let Some(directory) = settings.unused_data.as_ref().and_then(Location::directory_with_records) {
        log::warn!(
            "the records in {} are not used, because --engine is set and records are stored in the engine; to move them, \
             stop all brokers and run: esker dump DIR | esker load URL",
            directory.display()
        );
    }
    if let Access::Tokens { publisher, subscriber } = &settings.access
        && (publisher.source == subscriber.source || publisher.accepts(&subscriber.source))
    {
        log::warn!("publishers and subscribers have the same key, so a subscriber token also allows publishing");
    }
}

/// Returns where records are stored; `None` if the library was built without them.
fn describe_records(settings: &Settings) -> Option<String> {
    if let Some(engine) = &settings.engine {
        return Some(format!(
            "events and records are stored in the engine, {engine} with the prefix {}",
            engine.prefix
        ));
    }
    let Some(path) = settings.data.as_ref()?.directory() else {
        return Some("records are in memory, and lost when the broker stops".into());
    };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Some(format!("records are stored in {}", path.display()))
}

/// Returns the limits as options.
fn describe_limits(settings: &Settings) -> String {
    let option = |limit: Option<u64>| limit.map_or_else(|| "off".to_owned(), |limit| limit.to_string());
    let count = |limit: Option<usize>| option(limit.map(|limit| limit as u64));
    let age = settings.retention.age.map_or_else(|| "off".to_owned(), |age| format!("{age:?}"));
    let versions = settings.retention.versions.map_or_else(|| "all".to_owned(), |versions| versions.to_string());
    let limits: [(&str, &dyn Display); 13] = [
        ("max-connections", &settings.max_connections),
        ("max-connections-per-ip", &count(settings.max_connections_per_ip)),
        ("max-subscribers", &settings.max_subscribers),
        ("max-subscribers-per-sub", &count(settings.max_subscribers_per_sub)),
        ("max-topics", &settings.max_topics),
        ("max-body", &size(settings.max_body)),
        ("publish-rate", &option(settings.publish_rate.map(|rate| rate.per_second))),
        ("history", &settings.history),
        ("history-age", &format_args!("{:?}", settings.history_age)),
        ("history-bytes", &size(settings.history_bytes)),
        ("latest-bytes", &size(settings.latest_bytes)),
        ("versions", &versions),
        ("versions-age", &age),
    ];
    limits.map(|(name, limit)| format!("--{name} {limit}")).join(", ")
}

/// The state of a broker when its drain began.
pub(super) struct DrainLog {
    service: Shared,
    clock: Clock,
    begin: u64,
    closed: u64,
}

impl DrainLog {
    /// Logs that the drain begins, which takes up to `limit`.
    pub(super) fn begin(broker: &Broker, limit: Duration) -> Self {
        let (service, clock) = (broker.service.clone(), broker.clock.clone());
        let (metrics, drain) = (&service.0.metrics, service.0.settings.drain);
        let closed = metrics.sum(|worker| worker.closed.sum());
        let open = metrics.sum(WorkerMetrics::subscribers);
        let over = if drain.is_zero() { "at once".to_owned() } else { format!("over {drain:?}") };
        log::info!("draining: {open} streams end {over}, within {limit:?}; a second signal exits immediately");
        Self { begin: clock.now().millis, service, clock, closed }
    }

    /// Logs that the broker has stopped.
    pub(super) fn end(self) {
        let metrics = &self.service.0.metrics;
        let ended = metrics.sum(|worker| worker.closed.sum()).saturating_sub(self.closed);
        let time = seconds(self.clock.now().millis.saturating_sub(self.begin));
        match metrics.sum(WorkerMetrics::subscribers) {
            0 => log::info!("stopped after {time}; {ended} streams have ended"),
            left => log::warn!("stopped after {time}; {ended} streams have ended, and {left} were cut off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn limits_are_written_as_options() {
        let config = Config::new().no_auth(true).max_connections(100).max_topics(7).history_bytes(64 << 20);
        let limits = describe_limits(&config.settle(1 << 20).unwrap());
        for part in
            ["--max-connections 100, ", "--max-connections-per-ip off, ", "--max-topics 7, ", "--history-age 600s, "]
        {
            assert!(limits.contains(part), "{limits}");
        }
        assert!(limits.ends_with("--latest-bytes 1G, --versions all, --versions-age off"), "{limits}");
    }

    #[cfg(feature = "records")]
    #[test]
    fn relative_directories_are_completed() {
        let settings = Config::new().no_auth(true).data("some/where").settle(1 << 20).unwrap();
        let directory = std::env::current_dir().unwrap().join("some/where");
        assert_eq!(describe_records(&settings), Some(format!("records are stored in {}", directory.display())));
    }

    #[cfg(feature = "engine")]
    #[test]
    fn the_engine_is_named_without_its_password() {
        let settings =
            Config::new().no_auth(true).engine("redis://me:hidden@db.example:1234/2").settle(1 << 20).unwrap();
        let records = describe_records(&settings).unwrap();
        assert!(records.contains("redis://me@db.example:1234/2") && !records.contains("hidden"), "{records}");
    }
}
