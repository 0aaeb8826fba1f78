//! The limits whose reaching is logged, and what the log says of them.

use crate::config::{MAX_ADMIN_CONNECTIONS, Settings};
use crate::util::units::size;

/// A limit of the broker. Limits per client have one entry for all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Open connections.
    Connections,
    /// Open connections to the address for administration.
    AdminConnections,
    /// File descriptors, or whatever else accepting a connection takes.
    Accepting,
    /// Open connections from one address.
    ConnectionsPerAddress,
    /// Open streams.
    Subscribers,
    /// Open streams of one `sub`.
    SubscribersPerSub,
    /// Topics that retain an event or have a listener.
    Topics,
    /// Memory of the names that streams of records are limited to.
    RecordNames,
    /// Memory of retained events.
    History,
    /// Memory of the newest record of every name.
    LatestRecords,
    /// Events per second of one publisher.
    PublishRate,
    /// Not a limit: tokens that are not valid, or not for what is requested.
    Tokens,
    /// CPU time for invalid signatures from one address.
    Verifications,
    /// Memory of request bodies.
    Bodies,
    /// Memory of audit pages.
    Pages,
    /// Memory of responses that clients have not read.
    Unread,
    /// Events on the way to a worker.
    Backlog,
    /// Inserts that wait for the store.
    Inserts,
    /// Publishes and inserts that wait for the engine.
    Engine,
}

/// How the log describes a limit.
#[derive(Debug)]
pub(super) struct Description {
    /// The option with its value, or what is limited.
    pub name: String,
    /// The predicate when the limit is reached.
    pub reached: &'static str,
    /// The predicate when the limit is no longer reached.
    pub over: &'static str,
    /// What that means for clients, and what to do about it.
    pub advice: &'static str,
}

impl Limit {
    /// All limits, in the order of the variants.
    pub const ALL: [Self; 19] = [
        Self::Connections,
        Self::AdminConnections,
        Self::Accepting,
        Self::ConnectionsPerAddress,
        Self::Subscribers,
        Self::SubscribersPerSub,
        Self::Topics,
        Self::RecordNames,
        Self::History,
        Self::LatestRecords,
        Self::PublishRate,
        Self::Tokens,
        Self::Verifications,
        Self::Bodies,
        Self::Pages,
        Self::Unread,
        Self::Backlog,
        Self::Inserts,
        Self::Engine,
    ];

    /// Returns the description with the configured value.
    pub(super) fn describe(self, settings: &Settings) -> Description {
        let (reached, over) = self.predicates();
        Description { name: self.name(settings), reached, over, advice: self.advice() }
    }

    fn name(self, settings: &Settings) -> String {
        let optional = |name: &str, limit: Option<usize>| match limit {
            Some(limit) => format!("{name} {limit}"),
            None => name.to_owned(),
        };
        let rate = settings.publish_rate.and_then(|rate| usize::try_from(rate.per_second).ok());
        match self {
            Self::Connections => format!("--max-connections {}", settings.max_connections),
            Self::AdminConnections => format!("the limit of {MAX_ADMIN_CONNECTIONS} connections to --admin"),
            Self::Accepting => "accepting connections".into(),
            Self::ConnectionsPerAddress => optional("--max-connections-per-ip", settings.max_connections_per_ip),
            Self::Subscribers => format!("--max-subscribers {}", settings.max_subscribers),
            Self::SubscribersPerSub => optional("--max-subscribers-per-sub", settings.max_subscribers_per_sub),
            Self::Topics => format!("--max-topics {}", settings.max_topics),
            Self::RecordNames => "the limit on names in /events?event= (a quarter of --latest-bytes)".into(),
            Self::History => format!("--history-bytes {}", size(settings.history_bytes)),
            Self::LatestRecords => format!("--latest-bytes {}", size(settings.latest_bytes)),
            Self::PublishRate => optional("--publish-rate", rate),
            Self::Tokens => "tokens".into(),
            Self::Verifications => "the limit on invalid signatures from an address".into(),
            Self::Bodies => "the memory for request bodies".into(),
            Self::Pages => "the memory for pages of /audit".into(),
            Self::Unread => "the memory for unread responses".into(),
            Self::Backlog => "a worker's queue of events".into(),
            Self::Inserts => "the store's queue".into(),
            Self::Engine => "the engine's queue".into(),
        }
    }

    fn predicates(self) -> (&'static str, &'static str) {
        match self {
            Self::Accepting => ("fails", "works again"),
            Self::Tokens => ("are refused", "are no longer refused"),
            Self::Bodies | Self::Pages | Self::Unread => ("is used up", "is free again"),
            Self::Backlog | Self::Inserts | Self::Engine => ("is full", "has room again"),
            _ => ("is reached", "is no longer reached"),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Connections => {
                "new connections wait, and idle ones are closed for them; raise the limit and the descriptor limit (ulimit -n), or \
                 limit each client with --max-connections-per-ip"
            }
            Self::AdminConnections => "new connections wait; find out which monitor leaves them open",
            Self::Accepting => "new connections wait in the backlog; raise the descriptor limit (ulimit -n)",
            Self::ConnectionsPerAddress => {
                "further connections from that address are closed; raise the limit if many clients share an address"
            }
            Self::Subscribers => {
                "further streams end immediately, and their clients reconnect after 5 to 15 s; raise the limit, or add \
                 brokers"
            }
            Self::SubscribersPerSub => {
                "further streams of that sub end immediately; find out which client leaves streams open, or raise the limit"
            }
            Self::Topics => "new topics are refused; raise the limit, or find out which client creates so many topics",
            Self::RecordNames => {
                "further such streams end immediately; raise --latest-bytes, or limit streams to fewer names"
            }
            Self::History => {
                "events are evicted before --history-age, and clients that resume later get a gap; raise the limit, or shorten \
                 --history-age"
            }
            Self::LatestRecords => "inserts are refused; raise the limit, or use fewer names",
            Self::PublishRate => "that publisher gets 429; raise the limit, or make the publisher send less",
            Self::Tokens => "their clients get 401 or 403; check the keys, the clocks and what the tokens allow",
            Self::Verifications => {
                "new tokens from that address are delayed or rejected; a client there sends forged tokens, or signs with an \
                 old key"
            }
            Self::Bodies => "large bodies are refused; find out who sends many at once",
            Self::Pages => "audits are refused; find out who requests many at once, and reads them slowly",
            Self::Unread => {
                "the connections that have read nothing for longest are closed; find out which clients don't read their responses"
            }
            Self::Backlog => "publishes wait and are then refused; the broker needs more CPU time, or more threads",
            Self::Inserts => "inserts are refused; the disk is too slow for them",
            Self::Engine => "publishes and inserts are refused; the engine is too slow for them",
        }
    }
}
