//! The composition root: raises the descriptor limit, binds, starts the workers, and drains and
//! stops them again. What only the whole broker can do is here and nowhere else.

mod builder;
mod error;
mod listen;
mod run;
pub mod stepped;
mod systemd;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::api::Service;
use crate::api::record::Record;
use crate::auth::{Auth, Role};
use crate::clock::Clock;
use crate::config::{Access, Config, KeySource, ListenAddress};
use crate::hub::{Refused, TopicName};
use crate::keys::{self, KeyFileError};
use crate::metrics::Metrics;
use crate::net::{MioPoller, Reactor as _};
use crate::sse::Event;
use crate::store::Store;
use builder::HubOrder;
pub use error::{InsertError, PublishError, StartError};
use listen::{InheritedListener, Listening};
pub use run::run;

/// How long stopping may take: the contract's ten seconds, less what is left to do then.
const STOP_MILLIS: u64 = 9_700;
/// What the store gets of that at least: as much as after a drain that took all its time. The kernel may take longer than
/// that to close very many sockets, which is no fault of the store's.
const CLOSE_MILLIS: u64 = 700;

/// A running broker. Dropping it stops it as [`Broker::shutdown`] does.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use esker::{Broker, Config, Event};
///
/// let broker = Broker::start(Config::new().no_auth(true).data(":memory:").port(0))?;
/// println!("listening on http://{}", broker.local_addr());
/// let published = broker.publish("greeting1", &Event::new("hello"))?;
/// assert_eq!(published.events, 1);
/// broker.shutdown();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Broker {
    service: Shared,
    listening: Listening,
    clock: Clock,
    workers: Vec<JoinHandle<()>>,
}

/// The service, which has nothing to show in a debug print.
#[derive(Clone)]
struct Shared(Arc<Service>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl Broker {
    /// Binds, starts the workers and returns; the broker then serves until it is shut down or dropped.
    #[expect(clippy::needless_pass_by_value, reason = "a builder's value reads best handed over")]
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(&config, Vec::new())
    }

    fn start_with(config: &Config, given: Vec<InheritedListener>) -> Result<Self, StartError> {
        let settings = config.settle(raise_descriptor_limit().saturating_sub(listen::descriptors(&given)))?;
        let auth = open_auth(&settings.access)?;
        let mut listening = Listening::open(&settings, given)?;
        let mut records = Store::open(&settings.data)?;
        let clock = Clock::new();
        let stations = (0..settings.threads).map(|_| MioPoller::new()).collect::<io::Result<Vec<_>>>()?;
        let bells = stations.iter().map(MioPoller::waker);
        let (hub, inboxes) = builder::hub(&settings, &clock, &mut records, bells);
        let store = records.start(Box::new(HubOrder { hub: Arc::clone(&hub), clock: clock.clone() }))?;
        let metrics = Metrics::new(settings.threads, clock.now().unix_millis);
        let service = Service::new(hub, store, settings, auth, metrics).reached_by(listening.loopback_only());
        let service = Arc::new(service);
        let doors = std::mem::take(&mut listening.doors);
        let workers = builder::workers(&service, &clock, stations, inboxes, doors)?;
        let mut broker = Self { service: Shared(service), listening, clock, workers: Vec::new() };
        for (id, worker) in workers.into_iter().enumerate() {
            let thread = std::thread::Builder::new().name(format!("esker-{id}")).spawn(|| worker.run())?;
            broker.workers.push(thread);
        }
        broker.announce();
        Ok(broker)
    }

    fn announce(&self) {
        let settings = &self.service.0.settings;
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
        if let Access::Tokens { publisher, subscriber } = &settings.access
            && publisher == subscriber
        {
            log::warn!("publishers and subscribers have the same key, so a subscriber token also allows publishing");
        }
    }

    /// The first IP address it listens on, with the port that was chosen if 0 was asked for; `0.0.0.0:0` if it listens on
    /// Unix sockets only.
    pub fn local_addr(&self) -> SocketAddr {
        let tcp = self.local_addrs().iter().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        });
        tcp.unwrap_or(SocketAddr::from(([0; 4], 0)))
    }

    /// All addresses it listens on; that of the administration is not among them.
    pub fn local_addrs(&self) -> &[ListenAddress] {
        &self.listening.public
    }

    /// Publishes one event, as `POST /publish/{topic}` does.
    pub fn publish(&self, topic: &str, event: &Event) -> Result<Published, PublishError> {
        let topic = TopicName::parse(topic).map_err(PublishError::Topic)?;
        let frame = event.to_frame().map_err(PublishError::Event)?;
        if self.service.0.is_draining() {
            return Err(PublishError::Draining);
        }
        let published = self.service.0.publish(&topic, vec![frame], self.clock.now().id_micros, None);
        published.map_err(|refused| match refused {
            Refused::Backpressure(_) | Refused::TooManyTopics => PublishError::Full,
        })
    }

    /// Stores one record, as `POST /insert` does, and waits until it is on the disk; answers its id.
    /// `json` is the record's data.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use esker::{Broker, Config};
    /// let broker = Broker::start(Config::new().no_auth(true).data(":memory:").port(0))?;
    /// let first = broker.insert("user", r#"{ "name": "Ada" }"#)?;
    /// assert!(broker.insert("user", "null")? > first);
    /// assert!(broker.insert("user", "no JSON").is_err() && broker.insert("", "1").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn insert(&self, name: &str, json: &str) -> Result<u64, InsertError> {
        let service = &self.service.0;
        if service.is_draining() {
            return Err(InsertError::Draining);
        }
        if !service.hub.has_room_for_records() {
            return Err(InsertError::Full);
        }
        let record = Record::new(name, json).map_err(|problem| InsertError::Record(problem.detail.into()))?;
        let (sender, answer) = crossbeam_channel::bounded(1);
        service.store.insert(record.name, record.data, move |stored| {
            let _ = sender.send(stored);
        });
        let stored = answer.recv().map_err(|_| InsertError::Draining)?;
        stored.map_err(InsertError::Store)
    }

    /// Reads the key files again, as SIGHUP does. New requests are judged by the new keys, streams that
    /// are open stay so. If one can't be used, all keys stay as they are. Answers whether there is any:
    /// secrets can be changed only by a new start.
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
        Ok([publisher, subscriber].into_iter().any(|source| matches!(source, KeySource::File(_))))
    }

    /// Ends all streams, answers what is being asked, takes nothing new, and returns when all
    /// workers have ended: after ten seconds at most.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let begin = self.clock.now().millis;
        self.listening.remove_files();
        self.service.0.drain();
        (0..self.workers.len()).for_each(|worker| self.service.0.hub.wake(worker));
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                log::error!("a worker thread panicked");
            }
        }
        self.close_store(begin);
    }

    /// After the last worker, for nobody gives ids any more. A disk that hangs is not waited for: what was
    /// acknowledged is on it.
    fn close_store(&self, begin: u64) {
        let (sender, closed) = crossbeam_channel::bounded(1);
        let service = self.service.clone();
        let closing = std::thread::Builder::new().name("esker-close".into()).spawn(move || {
            service.0.store.close();
            let _ = sender.send(());
        });
        let left = STOP_MILLIS.saturating_sub(self.clock.now().millis - begin).max(CLOSE_MILLIS);
        if closing.is_err() || closed.recv_timeout(Duration::from_millis(left)).is_err() {
            log::error!("the store did not close in time; acknowledged records are stored");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

pub use crate::hub::Published;

fn open_auth(access: &Access) -> Result<Auth, KeyFileError> {
    match access {
        Access::Everybody => Ok(Auth::Open),
        Access::Tokens { publisher, subscriber } => {
            Ok(Auth::tokens(keys::load(Role::Publisher, publisher)?, keys::load(Role::Subscriber, subscriber)?))
        }
    }
}

/// Raises the soft limit to the hard one, and answers it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.and_then(|current| usize::try_from(current).ok()).unwrap_or(1 << 30)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpStream};
    use std::sync::atomic::AtomicBool;

    use super::builder::hub_limits;
    use super::*;
    use crate::config::MAX_ADMIN_CONNECTIONS;
    use crate::engine::MAX_CLOCK_LEAD;

    #[test]
    fn history_may_be_for_ever() {
        let config = Config::new().no_auth(true).data(":memory:").port(0).history_age(Duration::MAX);
        let limits = hub_limits(&config.settle(1000).unwrap());
        assert_eq!(limits.age_micros, u64::MAX);
    }

    #[test]
    fn whoever_embeds_it_is_bounded_in_records_as_well() {
        let config = Config::new().no_auth(true).data(":memory:").port(0).threads(1).latest_bytes(1);
        let broker = Broker::start(config).unwrap();
        assert!(broker.insert("a", "1").is_ok());
        assert_eq!(broker.insert("b", "1"), Err(InsertError::Full));
    }

    /// A full broker is to say how it is through whichever door.
    #[test]
    fn sockets_from_elsewhere_leave_room_for_the_descriptors_they_need() {
        let config = Config::new().no_auth(true).data(":memory:").port(0).threads(1);
        let room = |names: &[bool]| {
            let given = |&is_admin: &bool| {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                InheritedListener { socket: listen::InheritedSocket::Tcp(listener), is_admin }
            };
            let broker = Broker::start_with(&config, names.iter().map(given).collect()).unwrap();
            broker.service.0.settings.max_connections
        };
        let all = room(&[]);
        assert_eq!(all - room(&[false]), 1);
        assert_eq!(all - room(&[false, true]), 2 + MAX_ADMIN_CONNECTIONS);
    }

    /// The ids are made to run ahead, so that a publish has to wait for the clock.
    #[test]
    fn the_end_of_a_client_whose_publish_waited_for_room_is_noticed() {
        let broker = Broker::start(Config::new().no_auth(true).data(":memory:").port(0).threads(1)).unwrap();
        let topic = TopicName::parse("topicone1").unwrap();
        let frames = vec![Event::new("x").to_frame().unwrap()];
        let ahead = broker.clock.now().id_micros + 2 * MAX_CLOCK_LEAD;
        broker.service.0.hub.publish(&topic, frames, ahead, None).unwrap();
        let mut client = TcpStream::connect(broker.local_addr()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
            .write_all(b"POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\ndata: x")
            .unwrap();
        std::thread::sleep(Duration::from_millis(50));
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert!(answers.ends_with("ok"));
    }

    /// The store refuses at once, so that each answer brings the next request of the pipeline.
    #[test]
    fn a_pipeline_of_refused_inserts_keeps_nobody_else_waiting() {
        let broker = Broker::start(Config::new().no_auth(true).data(":memory:").port(0).threads(1)).unwrap();
        broker.service.0.store.close();
        let is_answered = Arc::new(AtomicBool::new(false));
        let mut flood = TcpStream::connect(broker.local_addr()).unwrap();
        let mut drain = flood.try_clone().unwrap();
        let reader = std::thread::spawn(move || io::copy(&mut drain, &mut io::sink()));
        let is_over = Arc::clone(&is_answered);
        let writer = std::thread::spawn(move || {
            let body = "{\"event\":\"a\",\"data\":1}";
            let request =
                format!("POST /insert HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let (requests, begin) = (request.repeat(500), std::time::Instant::now());
            while !is_over.load(std::sync::atomic::Ordering::Acquire) && begin.elapsed() < Duration::from_secs(4) {
                flood.write_all(requests.as_bytes()).unwrap();
            }
            flood.shutdown(Shutdown::Both).unwrap();
        });
        std::thread::sleep(Duration::from_millis(300));
        let begin = std::time::Instant::now();
        let mut client = TcpStream::connect(broker.local_addr()).unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        client.read_to_string(&mut String::new()).unwrap();
        let waited = begin.elapsed();
        is_answered.store(true, std::sync::atomic::Ordering::Release);
        writer.join().unwrap();
        let _ = reader.join().unwrap();
        assert!(waited < Duration::from_secs(2), "{waited:?}");
    }

    #[test]
    fn pages_that_are_being_sent_have_a_bound() {
        let broker = Broker::start(Config::new().no_auth(true).data(":memory:").port(0).threads(1)).unwrap();
        broker.insert("user", "1").unwrap();
        let mut client = TcpStream::connect(broker.local_addr()).unwrap();
        let mut status = || {
            client.write_all(b"GET /audit/user HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut answer = [0; 4096];
            let len = client.read(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[9..12.min(len)]).into_owned()
        };
        let (pages, address) = (&broker.service.0.pages, broker.local_addr().ip());
        let others: Vec<_> = std::iter::from_fn(|| pages.reserve(Some(address).into())).collect();
        assert_eq!(status(), "503");
        drop(others);
        assert_eq!(status(), "200");
        assert_eq!(status(), "200");
        // What is sent is struck out, though perhaps a moment after it was read.
        let is_struck_out = || {
            std::thread::sleep(Duration::from_millis(1));
            pages.bytes() == 0
        };
        assert!((0..5_000).any(|_| is_struck_out()));
    }
}
