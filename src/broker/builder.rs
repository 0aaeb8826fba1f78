//! Creates the hub, its order for the store, and the workers. Independent of threads and sockets, so that a simulation can use
//! it.

use std::io;
use std::sync::Arc;

use crate::api::Service;
use crate::auth::{Auth, Revocation};
use crate::clock::{Clock, millis};
use crate::config::Settings;
use crate::hub::{Hub, HubLimits, Inbox, WakeFn, inbox};
use crate::ids::{Order, start_id};
use crate::net::{BoundListener, ConnectionLimiter, Reactor};
use crate::sse::{Frame, record_frame};
use crate::store::{Opening, Record};
use crate::worker::{Mailbox, Worker, WorkerParams};

/// Creates the hub with the records that were found, and the workers' inboxes. All ids are larger than the high-water mark.
pub(crate) fn hub(
    settings: &Settings,
    clock: &Clock,
    records: Option<&mut Opening>,
    wakers: impl Iterator<Item = WakeFn>,
) -> (Arc<Hub>, Vec<Inbox>) {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = wakers.map(inbox).unzip();
    clock.advance_ids(records.as_ref().map_or(0, |records| records.ids_through));
    let start = start_id(clock.now().id_micros);
    let hub = match settings.engine {
        None => Hub::new(hub_limits(settings), outboxes, start),
        Some(_) => Hub::following(hub_limits(settings), outboxes, start),
    };
    if settings.retention.is_limited() {
        hub.versions_are_limited();
    }
    if let Some(records) = records {
        hub.reset_records(std::mem::take(&mut records.latest).into_iter().map(Arc::new).collect());
        hub.set_erased_through(records.erased_through);
    }
    (Arc::new(hub), inboxes)
}

/// Revokes what was revoked before the start.
pub(crate) fn revoke_stored(auth: &Auth, stored: &[(String, u64)]) {
    let Some(revocations) = auth.revocations() else { return };
    for (text, second) in stored {
        match Revocation::from_text(text) {
            Some(revocation) => revocations.revoke(&revocation, *second),
            None => revocations.revoke_all(*second),
        }
    }
}

pub(crate) fn hub_limits(settings: &Settings) -> HubLimits {
    HubLimits {
        events_per_topic: settings.history,
        age_micros: millis(settings.history_age).saturating_mul(1000),
        bytes: settings.history_bytes,
        topics: settings.max_topics,
        subscribers: settings.max_subscribers,
        latest_bytes: settings.latest_bytes,
    }
}

fn frame_of(record: Record) -> Arc<Frame> {
    record_frame(&Arc::new(record))
}

/// Gives the store ids from the hub, by the clock's time, and publishes its records there.
pub(crate) struct HubOrder {
    pub hub: Arc<Hub>,
    pub clock: Clock,
}

impl Order<Record> for HubOrder {
    fn reserve(&self, count: usize) -> Option<u64> {
        self.hub.reserve(count, self.clock.now().id_micros)
    }

    fn newest(&self) -> u64 {
        self.hub.newest()
    }

    fn publish(&self, records: Vec<Record>) {
        self.hub.publish_records(records.into_iter().map(frame_of).collect());
    }

    fn publish_erasure(&self, name: &str, id: u64) {
        self.hub.publish_erasure(name, id);
    }

    fn newest_version(&self, name: &str) -> Option<u64> {
        self.hub.newest_version(name)
    }
}

/// Creates a worker on each reactor; the first one has the listeners.
pub(crate) fn workers<K: Reactor>(
    service: &Arc<Service>,
    clock: &Clock,
    reactors: Vec<K>,
    inboxes: Vec<Inbox>,
    mut listeners: Vec<BoundListener<K::Listener>>,
) -> io::Result<Vec<Worker<K>>> {
    let settings = &service.settings;
    let limiter = ConnectionLimiter::new(settings.max_connections, settings.max_connections_per_ip);
    let limiter = Arc::new(limiter.exempting(settings.trusted_proxies.clone()));
    let mailboxes = Mailbox::for_workers(reactors.len());
    let mut workers = Vec::with_capacity(reactors.len());
    if let Some(revocations) = service.auth.revocations() {
        let (hub, count) = (Arc::clone(&service.hub), reactors.len());
        revocations.on_change(move || (0..count).for_each(|worker| hub.wake(worker)));
    }
    for (id, ((reactor, inbox), mailbox)) in reactors.into_iter().zip(inboxes).zip(mailboxes).enumerate() {
        let params = WorkerParams {
            id,
            service: Arc::clone(service),
            limiter: Arc::clone(&limiter),
            clock: clock.clone(),
            inbox,
            mailbox,
            listeners: std::mem::take(&mut listeners),
        };
        workers.push(Worker::new(reactor, params)?);
    }
    Ok(workers)
}
