//! A broker that does nothing by itself: each loop iteration of a worker, and each step of the store and of the engine, is a
//! call.

use std::sync::Arc;

use super::engine::{EngineEnv, ManualEngine};
use crate::api::Service;
use crate::auth::Revocation;
use crate::broker::builder::{self, HubOrder};
use crate::broker::{StartError, open_auth};
use crate::clock::{Clock, ManualClock};
use crate::config::Config;
use crate::hub::{Hub, Snapshot};
use crate::metrics::Metrics;
use crate::net::{BoundListener, ListenerRole, Reactor};
use crate::store::{Location, ManualStore, Store, Tuning};
use crate::worker::Worker;

/// The descriptor limit, which no simulation reaches.
const DESCRIPTORS: usize = 1 << 20;

/// A broker that is run step by step. Dropping it has the effect of killing its process.
pub struct Broker<K: Reactor> {
    service: Arc<Service>,
    /// `None` for a worker that has ended.
    workers: Vec<Option<Worker<K>>>,
    /// `None` if the engine stores the records.
    store: Option<ManualStore>,
    engine: Option<ManualEngine>,
    continues_history: bool,
}

/// The simulated environment of a [`Broker`].
pub struct Env<'a, K: Reactor> {
    /// Where the records are stored.
    pub location: &'a Location,
    /// The store's limits.
    pub tuning: Tuning,
    /// The clock.
    pub clock: Arc<ManualClock>,
    /// One reactor for each worker.
    pub reactors: Vec<K>,
    /// Where connections are accepted.
    pub listener: K::Listener,
    /// The history that [`Broker::close`] has returned for the run before, if it stopped cleanly.
    pub history: Option<Vec<u8>>,
    /// The log that it shares with others, if the configuration has an engine.
    pub engine: Option<EngineEnv>,
}

impl<K: Reactor> Broker<K> {
    /// Starts a broker as [`crate::Broker::start`] does, but without threads.
    pub fn start(config: &Config, env: Env<'_, K>) -> Result<Self, StartError> {
        let settings = config.settle(DESCRIPTORS)?;
        let auth = open_auth(&settings)?;
        let is_stored = settings.data.is_some();
        let mut records = is_stored.then(|| Store::open_tuned(env.location, env.tuning)).transpose()?;
        let clock = Clock::manual(env.clock);
        builder::revoke_stored(&auth, records.as_ref().map_or(&[], |records| &records.revocations));
        let wakers = env.reactors.iter().map(Reactor::waker);
        let (hub, inboxes) = builder::hub(&settings, &clock, records.as_mut(), wakers);
        let ids_through = records.as_ref().map_or(0, |records| records.ids_through);
        let history = env.history.map(|bytes| Snapshot::read(&mut &bytes[..], bytes.len() as u64, ids_through));
        let history = history.and_then(Result::ok).map(|history| hub.restore(history, clock.now().id_micros));
        let order = HubOrder { hub: Arc::clone(&hub), clock: clock.clone() };
        let records = records.map(|records| records.retain(settings.retention));
        let started = records.map(|records| records.start_manual(Box::new(order), clock.clone())).transpose()?;
        let (store, manual_store) = started.unzip();
        let engine = env.engine.map(|engine| ManualEngine::start(engine, &hub, &clock)).transpose()?;
        let metrics = Metrics::new(env.reactors.len(), clock.now().unix_millis);
        let service = Service::new(hub, store, settings, auth, metrics);
        let service = Arc::new(match &engine {
            None => service,
            Some(manual) => service.with_engine(manual.engine().clone()),
        });
        let listeners = vec![BoundListener { listener: env.listener, role: ListenerRole::All }];
        let workers = builder::workers(&service, &clock, env.reactors, inboxes, listeners)?;
        let (workers, continues_history) = (workers.into_iter().map(Some).collect(), history.is_some());
        Ok(Self { service, workers, store: manual_store, engine, continues_history })
    }

    /// Returns the milliseconds until a worker must run even if nothing happens. `None` means that it waits for an event.
    pub fn timeout(&self, worker: usize) -> Option<u64> {
        self.workers[worker].as_ref()?.timeout()
    }

    /// Runs one loop iteration of a worker that has not ended.
    pub fn step(&mut self, worker: usize) {
        if let Some(running) = &mut self.workers[worker] {
            running.iterate();
            if running.is_over() {
                self.workers[worker] = None;
            }
        }
    }

    /// Runs one step of the store.
    pub fn step_store(&mut self) {
        self.store.iter_mut().for_each(ManualStore::step);
    }

    /// Revokes tokens, as another thread may at any moment.
    pub fn revoke(&self, revocation: &Revocation, second: u64) {
        if let Some(revocations) = self.service.auth.revocations() {
            revocations.revoke(revocation, second);
        }
    }

    /// Returns what runs the engine; `None` without one.
    pub fn engine(&mut self) -> Option<&mut ManualEngine> {
        self.engine.as_mut()
    }

    /// Returns the hub, which counts retained events and subscribers.
    pub fn hub(&self) -> &Hub {
        &self.service.hub
    }

    /// Returns the store; `None` if the engine stores the records.
    pub fn store(&self) -> Option<&Store> {
        self.service.store.as_ref()
    }

    /// Drains the broker, as SIGTERM does: it accepts nothing new, and streams end.
    pub fn drain(&mut self) {
        self.service.drain();
        (0..self.workers.len()).for_each(|worker| self.service.hub.wake(worker));
    }

    /// Returns whether a worker has ended, as it does after a drain.
    pub fn has_ended(&self, worker: usize) -> bool {
        self.workers[worker].is_none()
    }

    /// Returns whether it has continued the history of the run before.
    pub fn continues_history(&self) -> bool {
        self.continues_history
    }

    /// Closes the store. Called when all workers have ended, and then the engine. Returns the history for the next run; `None` if
    /// the store has failed, or the engine has the history.
    pub fn close(self) -> Option<Vec<u8>> {
        let (manual, store) = self.store.zip(self.service.store.as_ref())?;
        let (mark, mut bytes) = (manual.close(store)?, Vec::new());
        self.service.hub.snapshot()?.write(mark, &mut bytes).ok()?;
        Some(bytes)
    }
}
