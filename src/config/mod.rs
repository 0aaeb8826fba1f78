//! What an operator can set. [`Config`] is what was asked for; [`Settings`] is what holds, with
//! every default filled in: every bound has a name and a unit.

mod address;
mod settings;
mod settle;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{KeyError, Role, Secret};
use crate::store::Location;

pub use address::{ListenAddress, ParseAddressError};
pub use settings::{Access, ConfigError, KeySource, MAX_ADMIN_CONNECTIONS, MAX_LISTENERS, Settings};
pub use settle::is_service_link;

/// How a broker is to run. Everything has the default that `esker --help` shows.
///
/// ```
/// use std::time::Duration;
/// let config = esker::Config::new().no_auth(true).port(0).heartbeat(Duration::from_secs(5)).origin("https://example.com");
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    bind: Option<IpAddr>,
    port: Option<u16>,
    listen: Vec<ListenAddress>,
    /// Sockets to listen on come from elsewhere.
    is_given_sockets: bool,
    unix_mode: u32,
    admin: Option<ListenAddress>,
    threads: Option<usize>,
    no_auth: bool,
    console: bool,
    publisher: RoleKeys,
    subscriber: RoleKeys,
    data: Location,
    latest_bytes: usize,
    origins: Vec<String>,
    history: usize,
    history_age: Duration,
    history_bytes: usize,
    heartbeat: Duration,
    retry: Duration,
    stall: Duration,
    request_timeout: Duration,
    keep_alive: Duration,
    max_body: usize,
    max_topics: usize,
    max_subscribers: Option<usize>,
    max_subscribers_per_sub: Option<usize>,
    max_connections: Option<usize>,
    max_connections_per_ip: Option<usize>,
    publish_rate: Option<usize>,
    publish_burst: Option<usize>,
}

/// What was given for one role.
#[derive(Clone, Debug, Default)]
struct RoleKeys {
    secret: Option<Result<Secret, KeyError>>,
    file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: None,
            port: None,
            listen: Vec::new(),
            is_given_sockets: false,
            unix_mode: 0o660,
            admin: None,
            threads: None,
            no_auth: false,
            console: true,
            publisher: RoleKeys::default(),
            subscriber: RoleKeys::default(),
            data: Location::Directory("esker-data".into()),
            latest_bytes: 1 << 30,
            origins: Vec::new(),
            history: 256,
            history_age: Duration::from_secs(600),
            history_bytes: 256 << 20,
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(3),
            stall: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(650),
            max_body: 1 << 20,
            max_topics: 1_000_000,
            max_subscribers: None,
            max_subscribers_per_sub: None,
            max_connections: None,
            max_connections_per_ip: None,
            publish_rate: None,
            publish_burst: None,
        }
    }
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The address to listen on; 127.0.0.1 by default.
    #[must_use]
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// The port to listen on, 0 for any free one. By default the environment's `PORT` (unless that is a
    /// container platform's `tcp://…`), else 3000.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Another address to listen on. Repeatable; if no address or port is given beside it, only these are listened on.
    #[must_use]
    pub fn listen(mut self, address: impl Into<ListenAddress>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Sockets to listen on come from elsewhere: no default address is needed.
    pub(crate) fn given_sockets(mut self) -> Self {
        self.is_given_sockets = true;
        self
    }

    /// The mode of the files of Unix sockets, 0o660 by default: whoever may write to one may connect.
    #[must_use]
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = mode;
        self
    }

    /// Takes `/metrics`, `/stats`, `/healthz` and `/livez` to an address of their own, where nothing else is served.
    #[must_use]
    pub fn admin(mut self, address: impl Into<ListenAddress>) -> Self {
        self.admin = Some(address.into());
        self
    }

    /// The number of worker threads; by default that of the processor's cores.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The HMAC secret of publishers' tokens: at least 32 bytes.
    #[must_use]
    pub fn publisher_secret(self, secret: impl Into<Vec<u8>>) -> Self {
        self.secret(Role::Publisher, Some(Secret::new(secret)))
    }

    /// The HMAC secret of subscribers' tokens: at least 32 bytes.
    #[must_use]
    pub fn subscriber_secret(self, secret: impl Into<Vec<u8>>) -> Self {
        self.secret(Role::Subscriber, Some(Secret::new(secret)))
    }

    pub(crate) fn secret(mut self, role: Role, secret: Option<Result<Secret, KeyError>>) -> Self {
        match role {
            Role::Publisher => self.publisher.secret = secret,
            Role::Subscriber => self.subscriber.secret = secret,
        }
        self
    }

    /// The file with the public key (PEM) of publishers' tokens. A file beside it whose name has
    /// `.previous` at its end holds the key before, whose tokens are still accepted.
    #[must_use]
    pub fn publisher_key(mut self, file: impl Into<PathBuf>) -> Self {
        self.publisher.file = Some(file.into());
        self
    }

    /// The same for subscribers' tokens.
    #[must_use]
    pub fn subscriber_key(mut self, file: impl Into<PathBuf>) -> Self {
        self.subscriber.file = Some(file.into());
        self
    }

    /// Lets everybody publish and subscribe, whatever keys there are.
    #[must_use]
    pub fn no_auth(mut self, no_auth: bool) -> Self {
        self.no_auth = no_auth;
        self
    }

    /// Leaves the console at `GET /` out.
    #[must_use]
    pub fn no_console(mut self, no_console: bool) -> Self {
        self.console = !no_console;
        self
    }

    /// The directory that records are kept in, `esker-data` by default; `:memory:` keeps them only as long as
    /// the broker runs.
    #[must_use]
    pub fn data(mut self, place: impl Into<PathBuf>) -> Self {
        let place = place.into();
        self.data = if place.as_os_str() == ":memory:" { Location::Memory } else { Location::Directory(place) };
        self
    }

    /// Bytes of memory for the newest record of every name; beyond it inserts are refused.
    #[must_use]
    pub fn latest_bytes(mut self, bytes: usize) -> Self {
        self.latest_bytes = bytes;
        self
    }

    /// Lets pages of this origin read answers, and write if there is no authentication. Repeatable. Also takes
    /// `https://*.example.com` for all subdomains, `null` for sandboxed pages, and `*` for every origin.
    ///
    /// The default is `*`. Without authentication it is the origins of this machine (`http://localhost` and the like), and a
    /// broker that listens only on loopback addresses refuses requests for hosts other than this machine and those listed.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Events that each topic retains.
    #[must_use]
    pub fn history(mut self, events: usize) -> Self {
        self.history = events;
        self
    }

    /// Age after which an event is no longer retained.
    #[must_use]
    pub fn history_age(mut self, age: Duration) -> Self {
        self.history_age = age;
        self
    }

    /// Bytes that all topics together retain.
    #[must_use]
    pub fn history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes = bytes;
        self
    }

    /// Silence after which a subscriber gets a comment line.
    #[must_use]
    pub fn heartbeat(mut self, silence: Duration) -> Self {
        self.heartbeat = silence;
        self
    }

    /// The reconnection time that clients are told, give or take a third.
    #[must_use]
    pub fn retry(mut self, retry: Duration) -> Self {
        self.retry = retry;
        self
    }

    /// Time after which a stream whose socket takes no byte is closed, and a connection that takes an answer more slowly than
    /// 8 KiB/s.
    #[must_use]
    pub fn stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Time that a request's head may take, and a body that is dropped; a body that is wanted may stand still for three times
    /// as long.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a connection is kept open for its next request; longer than proxies keep theirs, so that none sends a request
    /// into a connection that is being closed.
    #[must_use]
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = time;
        self
    }

    /// The largest request body in bytes.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Topics that retain an event or have a listener.
    #[must_use]
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.max_topics = topics;
        self
    }

    /// Subscribers; by default a few less than connections.
    #[must_use]
    pub fn max_subscribers(mut self, subscribers: usize) -> Self {
        self.max_subscribers = Some(subscribers);
        self
    }

    /// Subscribers whose tokens have the same `sub`; unlimited by default. Those whose token has none are not counted.
    #[must_use]
    pub fn max_subscribers_per_sub(mut self, subscribers: usize) -> Self {
        self.max_subscribers_per_sub = Some(subscribers);
        self
    }

    /// Connections; by default what the descriptor limit allows.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Connections from one address; unlimited by default.
    #[must_use]
    pub fn max_connections_per_ip(mut self, connections: usize) -> Self {
        self.max_connections_per_ip = Some(connections);
        self
    }

    /// Events per second that may be published and inserted over HTTP with the tokens of one `sub`, or with one token that has
    /// none; unlimited by default.
    #[must_use]
    pub fn publish_rate(mut self, events: usize) -> Self {
        self.publish_rate = Some(events);
        self
    }

    /// Events that may be published at once after a pause; by default those of ten seconds.
    #[must_use]
    pub fn publish_burst(mut self, events: usize) -> Self {
        self.publish_burst = Some(events);
        self
    }
}
