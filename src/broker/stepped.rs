//! A broker that does nothing by itself: its kernel, its clock and its disk are somebody else's, and each step of a worker or
//! of the store is a call. So a simulation drives the whole of it from one thread and one seed. Not part of the public API.

use std::sync::Arc;

use super::builder::{self, HubOrder};
use super::{StartError, open_auth};
use crate::api::Service;
use crate::clock::Clock;
pub use crate::clock::ManualClock;
use crate::config::Config;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::net::{BoundListener, ListenerRole, Reactor};
use crate::store::{Location, ManualStore, Store, Tuning};
use crate::worker::Worker;

/// Descriptors, of which a simulation has enough.
const DESCRIPTORS: usize = 1 << 20;

/// See the module's page. Dropped, it ends as a killed process does.
pub struct Stepped<K: Reactor> {
    service: Arc<Service>,
    /// Those that have not ended.
    workers: Vec<Option<Worker<K>>>,
    manual: ManualStore,
}

/// What it stands on.
pub struct Ground<'a, K: Reactor> {
    /// Where records are kept.
    pub place: &'a Location,
    /// The store's bounds.
    pub tuning: Tuning,
    /// What the clock shows.
    pub dial: Arc<ManualClock>,
    /// One for each worker.
    pub kernels: Vec<K>,
    /// Where connections come from.
    pub listener: K::Listener,
}

impl<K: Reactor> Stepped<K> {
    /// As [`Broker::start`](super::Broker::start), without threads and listeners of its own.
    pub fn start(config: &Config, ground: Ground<'_, K>) -> Result<Self, StartError> {
        let settings = config.settle(DESCRIPTORS)?;
        let auth = open_auth(&settings.access)?;
        let mut records = Store::open_tuned(ground.place, ground.tuning)?;
        let clock = Clock::manual(ground.dial);
        let bells = ground.kernels.iter().map(Reactor::waker);
        let (hub, inboxes) = builder::hub(&settings, &clock, &mut records, bells);
        let order = HubOrder { hub: Arc::clone(&hub), clock: clock.clone() };
        let (store, manual) = records.start_manual(Box::new(order), clock.clone())?;
        let metrics = Metrics::new(ground.kernels.len(), clock.now().unix_millis);
        let service = Arc::new(Service::new(hub, store, settings, auth, metrics));
        let doors = vec![BoundListener { listener: ground.listener, role: ListenerRole::All }];
        let workers = builder::workers(&service, &clock, ground.kernels, inboxes, doors)?;
        Ok(Self { service, workers: workers.into_iter().map(Some).collect(), manual })
    }

    /// Milliseconds until a worker wants a turn though nothing happens; none: not before something does.
    pub fn patience(&self, worker: usize) -> Option<u64> {
        self.workers[worker].as_ref()?.timeout()
    }

    /// One turn of a worker, unless it has ended.
    pub fn turn(&mut self, worker: usize) {
        if let Some(turning) = &mut self.workers[worker] {
            turning.iterate();
            if turning.is_over() {
                self.workers[worker] = None;
            }
        }
    }

    /// One turn of the store.
    pub fn turn_store(&mut self) {
        self.manual.step();
    }

    /// The hub, whose counts tell what is retained and who listens.
    pub fn hub(&self) -> &Hub {
        &self.service.hub
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.service.store
    }

    /// As a signal to end does it: nothing new is taken, streams end.
    pub fn drain(&mut self) {
        self.service.drain();
        (0..self.workers.len()).for_each(|worker| self.service.hub.wake(worker));
    }

    /// Whether a worker has ended, after a drain.
    pub fn has_ended(&self, worker: usize) -> bool {
        self.workers[worker].is_none()
    }

    /// The end, after a drain.
    pub fn close(self) {
        self.manual.close(&self.service.store);
    }
}
