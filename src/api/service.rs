//! The parts of the broker that all workers and the methods of `Broker` share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::auth::Auth;
use crate::config::Settings;
use crate::engine::Engine;
use crate::hub::{Hub, Published, Refused, TopicName, WorkerId};
use crate::metrics::Metrics;
use crate::net::ListenerRole;
use crate::quota::{BodyBudget, Limit, LimitLog, PageBudget, Quotas};
use crate::sse::UnsequencedFrame;
use crate::store::{self, Store};

/// The shared parts of a broker.
pub struct Service {
    /// The order and the history of events.
    pub hub: Arc<Hub>,
    /// The records of this broker. `None` if the engine has them, or if there are none.
    pub store: Option<Store>,
    /// The log that several brokers share, with their records. Without one, the hub alone orders events.
    pub engine: Option<Engine>,
    /// The configuration, with every default filled in.
    pub settings: Settings,
    /// How requests are authenticated.
    pub auth: Auth,
    /// The counters.
    pub metrics: Metrics,
    /// The limits per principal.
    pub quotas: Quotas,
    /// Which limits are reached, for the log.
    pub limits: LimitLog,
    /// The memory of request bodies that are being received, or whose publish is unfinished.
    pub bodies: BodyBudget,
    /// The memory of audit pages that are being read or sent, so that slow readers don't use memory without bound.
    pub pages: PageBudget,
    /// Whether the broker can only be reached from this machine.
    pub loopback_only: LoopbackOnly,
    /// The number of publishes and inserts that wait for a reply of the engine or the store.
    pending_events: Arc<AtomicUsize>,
    draining: AtomicBool,
}

/// A publish or an insert that waits for a reply, counted until this is dropped.
pub(super) struct PendingEvents(Arc<AtomicUsize>);

impl PendingEvents {
    pub(super) fn begin(service: &Service) -> Self {
        service.pending_events.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(&service.pending_events))
    }
}

impl Drop for PendingEvents {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether a broker can be reached by TCP only from this machine, because it listens only on loopback addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopbackOnly {
    /// For the addresses for clients.
    pub clients: bool,
    /// For the `--admin` addresses.
    pub administration: bool,
}

impl LoopbackOnly {
    /// Returns whether this holds for listeners of a role.
    pub(super) fn is_for(self, role: ListenerRole) -> bool {
        match role {
            ListenerRole::All | ListenerRole::Public => self.clients,
            ListenerRole::Administration => self.administration,
        }
    }
}

impl Service {
    /// Creates a service that is not draining.
    pub fn new(hub: Arc<Hub>, store: Option<Store>, settings: Settings, auth: Auth, metrics: Metrics) -> Self {
        let max_forwarded = settings.max_connections_per_ip.filter(|_| !settings.trusted_proxies.is_empty());
        let quotas = Quotas::new(settings.max_subscribers_per_sub, settings.publish_rate);
        let quotas = quotas.with_forwarded_streams(max_forwarded);
        let bodies = BodyBudget::new(settings.max_body);
        let limits = LimitLog::new(&settings);
        Self {
            hub,
            store,
            engine: None,
            settings,
            auth,
            metrics,
            quotas,
            limits,
            bodies,
            pages: PageBudget::default(),
            loopback_only: LoopbackOnly::default(),
            pending_events: Arc::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// Sets whether the broker can only be reached from this machine.
    #[must_use]
    pub fn reached_by(self, loopback_only: LoopbackOnly) -> Self {
        Self { loopback_only, ..self }
    }

    /// Adds the log that several brokers share.
    #[must_use]
    pub fn with_engine(self, engine: Engine) -> Self {
        Self { engine: Some(engine), ..self }
    }

    /// Returns whether the routes of records are served.
    pub fn has_records(&self) -> bool {
        self.store.is_some() || self.engine.is_some()
    }

    /// Returns the state and the counters of the store; those of an empty one if there is none.
    pub fn store_status(&self) -> store::Status {
        self.store.as_ref().map_or_else(store::Status::empty, Store::status)
    }

    /// Returns this moment in the time of the events' ids. `id_micros` is this broker's time of ids.
    pub fn event_time(&self, id_micros: u64) -> u64 {
        self.engine.as_ref().map_or(id_micros, Engine::log_time)
    }

    /// Publishes all frames, in order, or none, without an engine: see [`Hub::publish`]. Also reports the id to the store, so that no later run
    /// assigns it again.
    pub fn publish(
        &self,
        topic: &TopicName,
        frames: Vec<UnsequencedFrame>,
        id_micros: u64,
        from: Option<WorkerId>,
    ) -> Result<Published, Refused> {
        let published = self.hub.publish(topic, frames, id_micros, from)?;
        self.store.iter().for_each(|store| store.note_assigned_id(published.id));
        Ok(published)
    }

    /// Logs which limits are no longer reached. To be called about once a second.
    pub fn check_limits(&self, now_millis: u64) {
        // What the engine delivers, or the process itself publishes, has no client.
        self.limits.refuse_up_to(Limit::History, self.hub.evicted_for_bytes(), now_millis, || None);
        self.limits.check(now_millis);
    }

    /// Refuses new publishes, inserts and streams from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Returns whether publishes or inserts wait for a reply. The events of all others are in the workers' inboxes.
    pub fn has_pending_events(&self) -> bool {
        self.pending_events.load(Ordering::Acquire) > 0
    }

    /// Returns whether the broker is shutting down and refuses new work.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
