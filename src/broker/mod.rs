//! Builds and runs everything: raises the descriptor limit, binds, starts the workers, drains them and stops them.
//!
//! ```text
//! builder       puts hub, store and workers together
//! handover      takes over the sockets that a service manager passes
//! listen        binds addresses, takes inherited sockets, removes the files of Unix sockets
//! log_lines     what the log says about the start and the end
//! engine        starts the engine, and applies the shared log to the hub
//! history       the history of topics across a restart
//! in_process    publishing, subscribing and inserting from within the process
//! insert        a record to be inserted from within the process, and what became of it
//! subscription  an iterator over events
//! records       opens the records, and waits for other programs
//! received      an event as a subscription receives it
//! run           the broker as a process: signals
//! systemd       the service manager: its sockets and notifications
//! error         why a broker can't start, publish or insert
//! ```

pub(crate) mod builder;
mod descriptors;
pub(crate) mod engine;
mod error;
#[cfg(feature = "cli")]
mod handover;
mod history;
mod in_process;
#[cfg(any(feature = "records", feature = "engine"))]
mod insert;
mod listen;
mod log_lines;
mod received;
mod records;
mod run;
mod subscription;
mod systemd;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::api::Service;
use crate::auth::{Auth, Role};
use crate::clock::{Clock, millis};
use crate::config::{Access, Config, ListenAddress, Settings};
pub use crate::hub::Published;
use crate::keys::{self, KeyFileError};
use crate::metrics::Metrics;
use crate::net::{MioPoller, Reactor as _};
use builder::HubOrder;
pub use error::{InsertError, PublishError, StartError};
#[cfg(any(feature = "records", feature = "engine"))]
pub use insert::{Insert, Inserted};
use listen::{InheritedListener, Listening};
pub use received::ReceivedEvent;
pub use run::run;
pub use subscription::{ReceiveError, Received, StartFrom, SubscribeError, Subscription};

/// How long [`Broker::start`] waits for another program that holds the database.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The time limit for stopping after `--drain`, in milliseconds: ten seconds, less what the process itself needs to end.
const STOP_MILLIS: u64 = 9_700;
/// The minimum time for closing the store, in milliseconds, even if the kernel took longer than planned to close very many
/// sockets.
const CLOSE_MILLIS: u64 = 700;
/// How long before the end of a stop the history is given up, in milliseconds, so that this can be logged.
const REPORT_MILLIS: u64 = 200;

/// A running broker. Dropping it stops it, as [`Broker::shutdown`] does.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use esker::{Broker, Config, Event};
///
/// let broker = Broker::start(Config::new().no_auth(true).in_memory().port(0))?;
/// let address = broker.local_addr().expect("it listens on TCP");
/// println!("listening on http://{address}");
/// let published = broker.publish("greeting1", &Event::new("hello"))?;
/// assert_eq!(published.events, 1);
/// broker.shutdown();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a broker stops it"]
pub struct Broker {
    service: Shared,
    listening: Listening,
    clock: Clock,
    workers: Vec<JoinHandle<()>>,
    engine: Option<engine::Running>,
}

/// The service, whose `Debug` output is empty.
#[derive(Clone)]
struct Shared(Arc<Service>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl Broker {
    /// Starts a broker: binds its addresses, opens the records and starts the workers. It then serves until it is shut down
    /// or dropped.
    ///
    /// ```
    /// # use esker::{Broker, Config};
    /// let error = Broker::start(Config::new().in_memory().port(0)).unwrap_err();
    /// assert!(error.to_string().contains("there are no keys"));
    /// ```
    ///
    /// # Errors
    ///
    /// If the configuration is invalid, an address can't be bound, or the records or a key file can't be read. If another program,
    /// such as a backup, holds the database of the records, this waits for up to five seconds; [`run`] waits until the program
    /// releases it.
    #[expect(clippy::needless_pass_by_value, reason = "a builder's value reads best handed over")]
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(&config, Vec::new(), Some(LOCK_WAIT), &mut || false)
    }

    /// Starts a broker. While another program holds the database, waits for `lock_wait`, or without a limit. With an engine, it
    /// listens only once it has caught up with the log. Gives up if `is_stopped` says so in the meantime.
    fn start_with(
        config: &Config,
        inherited: Vec<InheritedListener>,
        lock_wait: Option<Duration>,
        is_stopped: &mut dyn FnMut() -> bool,
    ) -> Result<Self, StartError> {
        let limit = descriptors::raise_limit();
        let settings = config.settle(limit.saturating_sub(listen::descriptors(&inherited)))?;
        descriptors::reserve(settings.descriptors);
        let auth = open_auth(&settings)?;
        let (mut listening, inherited) = match settings.engine {
            None => (Listening::open(&settings, inherited)?, Vec::new()),
            Some(_) => (Listening::default(), inherited),
        };
        let mut records = records::open(settings.data.as_ref(), lock_wait, is_stopped)?;
        let clock = Clock::new();
        builder::revoke_stored(&auth, records.as_ref().map_or(&[], |records| &records.revocations));
        let pollers = (0..settings.threads).map(|_| MioPoller::new()).collect::<io::Result<Vec<_>>>()?;
        let wakers = pollers.iter().map(MioPoller::waker);
        let (hub, inboxes) = builder::hub(&settings, &clock, records.as_mut(), wakers);
        records.iter().for_each(|records| history::restore(records, &hub, &clock));
        let order = HubOrder { hub: Arc::clone(&hub), clock: clock.clone() };
        let store = records.map(|records| records.retain(settings.retention).start(Box::new(order))).transpose()?;
        let engine = match &settings.engine {
            None => None,
            Some(engine) => {
                let running = engine::Running::start(engine, &hub, auth.revocations(), &clock, is_stopped)?;
                listening = Listening::open(&settings, inherited)?;
                Some(running)
            }
        };
        let metrics = Metrics::new(settings.threads, clock.now().unix_millis);
        let service = Service::new(hub, store, settings, auth, metrics).reached_by(listening.loopback_only());
        let service = Arc::new(match &engine {
            None => service,
            Some(running) => service.with_engine(running.engine.clone()),
        });
        let listeners = std::mem::take(&mut listening.listeners);
        let workers = builder::workers(&service, &clock, pollers, inboxes, listeners)?;
        let mut broker = Self { service: Shared(service), listening, clock, workers: Vec::new(), engine };
        for (id, worker) in workers.into_iter().enumerate() {
            let thread = std::thread::Builder::new().name(format!("esker-{id}")).spawn(|| worker.run())?;
            broker.workers.push(thread);
        }
        broker.log_start();
        Ok(broker)
    }

    /// Returns the first IP address that the broker listens on. If the configuration asked for port 0, its port is the one that
    /// the system chose. `None` if the broker listens only on Unix sockets.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().iter().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        })
    }

    /// Returns all addresses that the broker listens on, except the one for administration.
    pub fn local_addrs(&self) -> &[ListenAddress] {
        &self.listening.public
    }

    /// Reads the files of keys and secrets again, as the binary does on SIGHUP. The new keys verify the tokens of new requests;
    /// open streams continue. Returns whether there are such files: a secret without a file can't change while the broker runs.
    ///
    /// # Errors
    ///
    /// If a file can't be used. All keys then stay as they are.
    pub fn reload_keys(&self) -> Result<bool, KeyFileError> {
        let service = &self.service.0;
        let (Access::Tokens { publisher, subscriber }, Auth::Tokens(keyrings)) =
            (&service.settings.access, &service.auth)
        else {
            return Ok(false);
        };
        let new_publisher = keys::load(Role::Publisher, publisher)?;
        let new_subscriber = keys::load(Role::Subscriber, subscriber)?;
        keyrings.replace(Role::Publisher, new_publisher);
        keyrings.replace(Role::Subscriber, new_subscriber);
        Ok([publisher, subscriber].into_iter().any(|key| key.source.is_file()))
    }

    /// Stops the broker: accepts nothing new, ends all streams and subscriptions, responds to pending requests, saves the
    /// history of topics in the data directory and closes the store. The next broker that starts with this directory continues
    /// the history. Returns when that is done, after ten seconds at most and the time that [`Config::drain`] gives to the streams.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let begin = self.clock.now().millis;
        self.listening.remove_files();
        let service = &self.service.0;
        service.drain();
        service.hub.close_local();
        (0..self.workers.len()).for_each(|worker| service.hub.wake(worker));
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                log::error!("a worker thread panicked");
            }
        }
        if let Some(running) = self.engine.take() {
            running.stop(Duration::from_millis(self.left(begin)));
        }
        self.close_store(begin);
    }

    /// Returns how long, in milliseconds, the rest of a stop that began at this moment may take.
    fn left(&self, begin: u64) -> u64 {
        let limit = STOP_MILLIS + millis(self.service.0.settings.drain);
        limit.saturating_sub(self.clock.now().millis - begin).max(CLOSE_MILLIS)
    }

    /// Closes the store and saves the history. To be called after the last worker has ended, so that no more ids are assigned.
    /// Stops waiting if the disk hangs: acknowledged records are already stored.
    fn close_store(&self, begin: u64) {
        let service = self.service.clone();
        let (sender, closed) = crossbeam_channel::bounded(1);
        let (clock, left) = (self.clock.clone(), self.left(begin));
        let until = clock.now().millis + left.saturating_sub(REPORT_MILLIS);
        let closing = std::thread::Builder::new().name("esker-close".into()).spawn(move || {
            service.0.store.iter().for_each(|store| history::close_store(store, &service.0.hub, &clock, until));
            let _ = sender.send(());
        });
        if closing.is_err() || closed.recv_timeout(Duration::from_millis(left)).is_err() {
            log::error!("the store did not close in time; acknowledged records are stored");
            history::log_not_saved(&"there was not enough time");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Reads the keys that verify tokens.
pub(crate) fn open_auth(settings: &Settings) -> Result<Auth, KeyFileError> {
    match &settings.access {
        Access::Everybody => Ok(Auth::Open),
        Access::Tokens { publisher, subscriber } => {
            let publisher = keys::load(Role::Publisher, publisher)?;
            let subscriber = keys::load(Role::Subscriber, subscriber)?;
            Ok(Auth::tokens(publisher, subscriber, settings.claims.clone()))
        }
    }
}
