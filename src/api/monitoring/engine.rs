//! The engine's rows of the table, and its object in `/stats`. Both exist only with an engine.

use serde_json::{Value, json};

use crate::api::Service;
use crate::engine::log::Peer;
use crate::engine::{EngineSettings, Health, Status};
use crate::metrics::{self, Family, Samples, View};

/// The states, in the order of [`index`].
const STATES: [&str; 6] = ["ready", "starting", "lost", "standstill", "unreadable", "closed"];

/// Returns the metrics of the engine; none without one.
pub(super) fn table(service: &Service) -> Vec<Family> {
    let Some(engine) = &service.engine else { return Vec::new() };
    let status = engine.status();
    let mut table = Vec::new();
    table.extend(state(&status));
    table.extend(appends(&status));
    table.extend(following(&status));
    table.extend(records(&status, service.settings.engine.as_ref()));
    table.extend(faults(&status));
    table
}

/// Returns the engine's object in `/stats`.
pub(super) fn object(service: &Service) -> Option<Value> {
    let (engine, settings) = (service.engine.as_ref()?, service.settings.engine.as_ref());
    let status = engine.status();
    let mut object = metrics::stats(&table(service));
    object["address"] = settings.map(EngineSettings::to_string).into();
    object["server"] = status.about.as_ref().map(|about| about.server.as_str()).into();
    let ack = status.about.as_ref().map(|about| about.ack).or_else(|| settings.and_then(|settings| settings.ack));
    object["ack"] = ack.map(|ack| ack.to_string()).into();
    object["reason"] = reason(&status.health).into();
    // Ids are text, as everywhere: they may be larger than the integers of JavaScript.
    object["records_refused"] = status.about.as_ref().and_then(|about| about.records_refused.as_deref()).into();
    object["brokers"] = status.peers.iter().map(broker).collect();
    object["newest_id"] = json!(status.last.to_string());
    object["applied_id"] = json!(status.applied.to_string());
    Some(object)
}

/// Describes a broker that uses the log.
fn broker(peer: &Peer) -> Value {
    json!({
        "broker": format!("{:016x}", peer.broker),
        "version": peer.version,
        "subscribers": peer.subscribers,
    })
}

fn index(health: &Health) -> usize {
    match health {
        Health::Ready => 0,
        Health::Starting => 1,
        Health::Lost(_) => 2,
        Health::StandsStill => 3,
        Health::Unreadable(_) => 4,
        Health::Closed => 5,
    }
}

fn reason(health: &Health) -> Option<&str> {
    match health {
        Health::Lost(why) | Health::Unreadable(why) => Some(why),
        Health::Ready | Health::Starting | Health::StandsStill | Health::Closed => None,
    }
}

fn state(status: &Status) -> [Family; 4] {
    let state = index(&status.health);
    let is_up = !matches!(status.health, Health::Lost(_) | Health::Starting | Health::Closed);
    [
        Family::gauge("esker_engine_up", "1 while the engine can be reached and accepts events, otherwise 0.", is_up)
            .shown(View::Bool("up")),
        Family::gauge(
            "esker_engine_state",
            "1 for the current state of the engine: ready, starting (the broker has not caught up yet), lost (it can't \
             be reached, or refuses), standstill (events in the log don't reach this broker), unreadable (the log has \
             an entry that this version can't read) or closed; 0 for the others.",
            Samples::by_word("state", &STATES, |index| (index == state).into()),
        )
        .shown(View::Word("state")),
        Family::gauge(
            "esker_engine_lag_seconds",
            "For how long the log has had an event that this broker has not applied; 0 if there is none.",
            seconds(status.behind_millis),
        )
        .shown_as("lag_seconds"),
        Family::gauge(
            "esker_engine_era",
            "How often the log has lost events, ever. The same at all brokers that follow it.",
            status.era,
        )
        .shown_as("era"),
    ]
}

fn appends(status: &Status) -> [Family; 6] {
    let (publishes, bytes) = status.queued;
    [
        Family::histogram(
            "esker_engine_append_seconds",
            "Duration of appends to the log, each of a batch of events or records, until they are as durable as \
             --engine-ack demands.",
            status.append_time,
        )
        .shown_as("append_seconds"),
        Family::counter(
            "esker_engine_batches_total",
            "Batches that this broker has appended to the log.",
            status.append_time.count(),
        )
        .shown_as("batches"),
        Family::counter(
            "esker_engine_events_appended_total",
            "Events that this broker has appended to the log; divided by the batches, the events per batch.",
            status.events_appended,
        )
        .shown_as("events_appended"),
        Family::gauge("esker_engine_queue_publishes", "Publishes and inserts that wait to be appended.", publishes)
            .shown_as("queued"),
        Family::gauge(
            "esker_engine_queue_bytes",
            "Bytes of the publishes and inserts that wait to be appended.",
            bytes,
        )
        .shown_as("queued_bytes"),
        Family::gauge(
            "esker_engine_waiting",
            "Responses and subscriptions that wait until this broker has applied what is in the log.",
            status.waiting,
        )
        .shown_as("waiting"),
    ]
}

fn following(status: &Status) -> [Family; 2] {
    [
        Family::counter(
            "esker_engine_events_followed_total",
            "Events of the log that this broker has applied, those of all brokers.",
            status.events_followed,
        )
        .shown_as("events_followed"),
        Family::gauge(
            "esker_engine_warm_up_seconds",
            "How long this broker took to read the log at its start.",
            seconds(status.warm_up_millis),
        )
        .shown_as("warm_up_seconds"),
    ]
}

fn records(status: &Status, settings: Option<&EngineSettings>) -> [Family; 5] {
    [
        Family::gauge(
            "esker_engine_records_bytes",
            "Memory that all records take in the engine, about; inserts are refused at --engine-records.",
            status.record_bytes,
        )
        .shown_as("records_bytes"),
        Family::gauge(
            "esker_engine_records_bytes_max",
            "Memory that records may take in the engine (--engine-records).",
            settings.map_or(0, |settings| settings.retention.record_bytes),
        )
        .shown_as("records_bytes_max"),
        Family::counter(
            "esker_engine_records_appended_total",
            "Records that this broker has stored in the engine.",
            status.records_appended,
        )
        .shown_as("records_appended"),
        Family::counter(
            "esker_engine_records_followed_total",
            "Records that this broker has read from the engine since it caught up, those of all brokers.",
            status.records_followed,
        )
        .shown_as("records_followed"),
        Family::gauge(
            "esker_engine_brokers",
            "Brokers that use the log, this one included; one that has ended counts for 10 s.",
            status.peers.len(),
        )
        .shown_as("broker_count"),
    ]
}

fn faults(status: &Status) -> [Family; 5] {
    let unknown = [status.unknown_kept, status.unknown_gone];
    [
        Family::counter(
            "esker_engine_reconnects_total",
            "Connections to the engine that were made again.",
            status.reconnects,
        )
        .shown_as("reconnects"),
        Family::counter(
            "esker_engine_fenced_total",
            "Appends that the log has refused because another connection has taken over.",
            status.fenced,
        )
        .shown_as("fenced"),
        Family::counter(
            "esker_engine_lost_suffixes_total",
            "How often this broker was told that the log has lost its newest events; all streams got a gap event.",
            status.losses,
        )
        .shown_as("lost_suffixes"),
        Family::counter(
            "esker_engine_trimmed_gaps_total",
            "How often events were trimmed before this broker had read them; all streams got a gap event.",
            status.trimmed,
        )
        .shown_as("trimmed_gaps"),
        Family::counter(
            "esker_engine_unknown_outcomes_total",
            "Appends without an answer, by what had become of them: kept (they were in the log) or gone (they were not, \
             and were repeated or refused).",
            Samples::by_word("outcome", &["kept", "gone"], |outcome| unknown[outcome]),
        )
        .shown(View::Each("unknown_outcomes")),
    ]
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::engine::Engine;
    use crate::fuzz::service;

    fn service_with(prepare: impl FnOnce(&Engine)) -> Service {
        let manual = Arc::new(ManualClock::default());
        manual.advance(10_000_000);
        let engine = Engine::new(Clock::manual(manual));
        engine.note_ready();
        prepare(&engine);
        let is_supported = cfg!(feature = "engine");
        let configured = service::configured(|config| match is_supported {
            true => config.engine("redis://me:s3cret@10.0.0.1/2"),
            false => config,
        });
        configured.with_engine(engine)
    }

    #[test]
    fn without_an_engine_nothing_is_shown() {
        let service = service::configured(|config| config);
        assert!(table(&service).is_empty() && object(&service).is_none());
    }

    #[test]
    fn stats_show_the_engine_without_its_password() {
        let object = object(&service_with(|engine| engine.note_ahead(1 << 60, 2_500))).unwrap();
        assert_eq!((&object["up"], &object["state"], &object["reason"]), (&json!(true), &json!("ready"), &Value::Null));
        assert_eq!((&object["lag_seconds"], &object["warm_up_seconds"]), (&json!(2.5), &json!(1.5)));
        assert_eq!((&object["newest_id"], &object["applied_id"]), (&json!("1152921504606846976"), &json!("0")));
        assert_eq!(object["unknown_outcomes"], json!({"kept": 0, "gone": 0}));
        assert_eq!(object["append_seconds"]["count"], 0);
        #[cfg(feature = "engine")]
        assert_eq!(object["address"], "redis://me@10.0.0.1:6379/2");
        assert!(!object.to_string().contains("s3cret"));
    }

    #[test]
    fn stats_say_why_the_engine_is_lost() {
        let object = object(&service_with(|engine| engine.note_lost("cut"))).unwrap();
        assert_eq!(
            (&object["up"], &object["state"], &object["reason"]),
            (&json!(false), &json!("lost"), &json!("cut"))
        );
    }
}
