//! `GET /subscribe/{topic},…` and `GET /events`: opens a stream of topics or of records.

mod limits;
mod times;

use std::sync::Arc;

use crate::auth::{Grant, Principal, Role, Validity};
use crate::clock::millis;
use crate::http::{Head, Problem, ResponseParams, Version};
use crate::hub::{AtCapacity, Joined, Position, RecordStart, TopicName};
use crate::metrics::TurnedAway;
use crate::quota::StreamPermits;
use crate::sse::{Framing, stream};
use crate::stream::Poll;

use super::authorize::{authorize, require_name, require_topic};
use super::record::check_name;
use super::{Context, Plan, RECORDS, Service};
use times::{age_limit, jittered};

/// The maximum number of topics of one subscription.
pub const MAX_TOPICS: usize = 64;
/// The maximum number of record names to which one subscription can be limited.
const MAX_NAMES: usize = 64;

/// The query parameters that may contain a resume position. The last one counts: polyfills of EventSource append theirs to the
/// page's URL.
const POSITION_PARAMETERS: [&str; 5] =
    ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID", "evs_last_event_id"];

/// The range of the reconnection times, in milliseconds, that are sent to clients whose stream is not opened.
const RECONNECT_LATER_MILLIS: std::ops::RangeInclusive<u64> = 5_000..=15_000;

/// The reconnection time, in milliseconds, that is sent to clients that poll.
const POLL_RETRY_MILLIS: u64 = 100;

/// A request for a stream.
#[derive(Debug)]
pub struct Request {
    selection: Selection,
    /// The resume position that the client sent.
    position: Option<String>,
    /// Whether the newest id is sent with the opening; to a poll, also after a gap that no event follows.
    prime: bool,
    /// How the stream ends with its first events, if it does.
    poll: Option<Poll>,
    pub(super) validity: Validity,
    principal: Option<Principal>,
}

/// The events that a stream delivers.
#[derive(Debug)]
enum Selection {
    /// The events of these topics.
    Topics(Vec<TopicName>),
    /// Records.
    Records {
        /// The names that they have; any if there are none.
        names: Arc<[Arc<str>]>,
        start: RecordStart,
        /// How often all records had been replaced when the start was found.
        replacements: u64,
    },
}

/// A stream that was opened.
#[derive(Debug)]
pub struct OpenStream {
    /// The subscriber's registration with the hub.
    pub joined: Joined,
    /// How the response's body is delimited.
    pub framing: Framing,
    /// How the stream ends with its first events, if it does.
    pub poll: Option<Poll>,
    /// How long its token is valid. The stream ends with it.
    pub validity: Validity,
    /// When the stream ends because it reaches its maximum age, in seconds since the Unix epoch.
    pub age_limit: Option<u64>,
    /// The permits to keep while the stream is open.
    pub permits: StreamPermits,
}

/// The result of opening a stream. The first bytes of the response are written in both cases.
#[derive(Debug)]
pub enum Opened {
    /// The stream is open and its subscriber registered.
    Joined(OpenStream),
    /// The stream was refused; the response says when to reconnect.
    Ended,
}

pub(super) fn plan(topics: &str, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let topics = topics
        .split(',')
        .map(TopicName::parse)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|bad| Problem::bad_request(bad.to_string()))?;
    if topics.len() > MAX_TOPICS {
        return Err(Problem::bad_request("a subscription has at most 64 topics; open another one for the rest"));
    }
    let grant = authorize(Role::Subscriber, head, context)?;
    topics.iter().try_for_each(|topic| require_topic(&grant, topic))?;
    let prime = head.target.query.has("prime");
    Ok(request(Selection::Topics(topics), prime, head, &grant))
}

/// Plans `GET /events`. Ignores `prime`, because without a position the stream begins with records, which have ids.
pub(super) fn plan_records(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let mut names = head.target.query.all("event")?;
    if names.len() > MAX_NAMES {
        return Err(Problem::bad_request("a subscription has at most 64 names; open another one for the rest"));
    }
    names.iter().try_for_each(|name| check_name(name))?;
    names.sort_unstable();
    names.dedup();
    let grant = authorize(Role::Subscriber, head, context)?;
    require_name(&grant, RECORDS)?;
    let position = position_of(head);
    let replacements = context.service.hub.record_replacements();
    let start = position.as_deref().map_or(RecordStart::Newest, |text| context.service.hub.find_record(text));
    let selection = Selection::Records { names: names.into_iter().map(Arc::from).collect(), start, replacements };
    Ok(request(selection, false, head, &grant))
}

fn request(selection: Selection, prime: bool, head: &Head<'_>, grant: &Grant) -> Plan {
    let position = position_of(head);
    let poll = head.target.query.has("poll").then_some(if prime { Poll::Primed } else { Poll::Plain });
    let (validity, principal) = (grant.validity(), grant.principal());
    Plan::Subscribe(Request { selection, position, prime, poll, validity, principal })
}

/// What another thread must look up before a stream is opened, because its position is not known in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Whether the store has a record with this id.
    Record(u64),
    /// The position may be of an event that another broker has accepted and this one has not yet received. Wait until it has
    /// received what the log has.
    Barrier,
}

/// The reply to a [`Lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupReply {
    /// The record exists, and this broker has it. Or this broker has received what the log has.
    Found,
    /// The record does not exist.
    Missing,
    /// There was no reply in time, or an error.
    Unavailable,
}

impl Lookup {
    /// Has it looked up. Another thread calls `reply`, or this one.
    pub fn run(self, service: &Service, reply: impl FnOnce(LookupReply) + Send + 'static) {
        match (self, &service.engine, &service.store) {
            (Self::Record(id), Some(engine), _) => engine.find_record(id, move |found| reply(found.into())),
            (Self::Record(id), None, Some(store)) => store.contains(id, move |found| reply(found.into())),
            (Self::Barrier, Some(engine), _) => engine.barrier(move |is_passed| {
                reply(if is_passed { LookupReply::Found } else { LookupReply::Unavailable });
            }),
            (_, None, _) => reply(LookupReply::Unavailable),
        }
    }
}

impl<E> From<Result<bool, E>> for LookupReply {
    fn from(found: Result<bool, E>) -> Self {
        match found {
            Ok(true) => Self::Found,
            Ok(false) => Self::Missing,
            Err(_) => Self::Unavailable,
        }
    }
}

impl Request {
    /// Returns what must be looked up before the stream is opened.
    pub fn lookup(&self, context: Context<'_>) -> Option<Lookup> {
        match &self.selection {
            Selection::Records { start: RecordStart::AfterStored(id), .. } => Some(Lookup::Record(*id)),
            Selection::Records { .. } => None,
            Selection::Topics(topics) => {
                let service = context.service;
                let is_needed = service.engine.is_some() && service.hub.needs_barrier(topics, self.start());
                is_needed.then_some(Lookup::Barrier)
            }
        }
    }

    /// Sets whether the record that was looked up exists.
    #[must_use]
    fn resolve_record(self, exists: bool) -> Self {
        let selection = match self.selection {
            Selection::Records { names, start, replacements } => {
                Selection::Records { names, start: start.resolve(exists), replacements }
            }
            topics @ Selection::Topics(_) => topics,
        };
        Self { selection, ..self }
    }

    /// Returns whether the stream ends right after its gap, with the newest id: it is a poll, and no event follows. Without an
    /// id the client would keep the position, and get the same gap with every poll.
    fn ends_after_gap(&self, joined: &Joined) -> bool {
        self.poll == Some(Poll::Primed) && joined.gap.is_some_and(|gap| gap.oldest.is_none())
    }

    fn start(&self) -> Position<'_> {
        self.position.as_deref().map_or(Position::Live, Position::After)
    }
}

/// Returns the resume position from `Last-Event-ID`, or else from the query.
fn position_of(head: &Head<'_>) -> Option<String> {
    let in_header = head.last_event_id.map(|id| String::from_utf8_lossy(id).into_owned());
    in_header.or_else(|| head.target.query.last_among(&POSITION_PARAMETERS))
}

/// Registers the subscriber and writes the response's head and the stream's opening.
pub fn open(request: &Request, params: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) -> Opened {
    let framing = framing(&params);
    let position = request.start();
    let service = context.service;
    let permits = match acquire_permits(request.principal, context) {
        Ok(permits) => permits,
        Err(why) => return turn_away(request, why, params, framing, context, out),
    };
    let joined = match &request.selection {
        Selection::Topics(topics) => service.hub.join(context.worker, topics, position),
        Selection::Records { names, start, replacements } => {
            service.hub.join_records(context.worker, Arc::clone(names), *start, *replacements)
        }
    };
    let joined = match joined {
        Ok(joined) if !service.is_draining() => joined,
        Ok(joined) => {
            service.hub.abandon(context.worker, &joined);
            return turn_away(request, TurnedAway::Draining, params, framing, context, out);
        }
        Err(AtCapacity::Subscribers) => return turn_away(request, TurnedAway::Full, params, framing, context, out),
        Err(AtCapacity::Topics) => return turn_away(request, TurnedAway::Topics, params, framing, context, out),
        Err(AtCapacity::Names) => return turn_away(request, TurnedAway::Names, params, framing, context, out),
    };
    write_start(request, &joined, params, context, out);
    if request.ends_after_gap(&joined) {
        stream::position(joined.newest, framing, out);
        out.extend_from_slice(stream::end(framing));
        service.hub.abandon(context.worker, &joined);
        return Opened::Ended;
    }
    let age_limit = service.settings.max_stream_age.map(|age| age_limit(context.now.unix_millis, millis(age)));
    let (poll, validity) = (request.poll, request.validity);
    Opened::Joined(OpenStream { joined, framing, poll, validity, age_limit, permits })
}

/// Writes what a stream starts with: the head, the opening, and the gap if there is one.
fn write_start(request: &Request, joined: &Joined, params: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) {
    let (framing, service) = (framing(&params), context.service);
    // A poll ends soon: a proxy must not use its connection for the next request.
    let keep_alive = params.keep_alive && request.poll.is_none();
    write_head(ResponseParams { keep_alive, ..params }, context, out);
    let retry = if request.poll.is_some() { POLL_RETRY_MILLIS } else { jittered(millis(service.settings.retry)) };
    let prime = (request.prime && request.position.is_none()).then_some(joined.newest);
    stream::opening(retry, prime, framing, out);
    if let (Some(gap), Some(after)) = (joined.gap, &request.position) {
        service.metrics.worker(context.worker).resume_gaps.add(1);
        stream::gap(after, gap.oldest, framing, out);
    }
}

/// Opens a stream with the reply to its lookup. If this broker's store can't be asked about a record, its position is in doubt,
/// so that the stream reports a gap. If the engine can't be asked, the client is to reconnect, perhaps to another broker.
pub fn open_after_lookup(
    request: Request,
    lookup: Lookup,
    reply: LookupReply,
    params: ResponseParams,
    context: Context<'_>,
    out: &mut Vec<u8>,
) -> Opened {
    let is_shared = context.service.engine.is_some();
    match (lookup, reply) {
        (_, LookupReply::Unavailable) if is_shared => {
            let is_draining = context.service.is_draining();
            let why = if is_draining { TurnedAway::Draining } else { TurnedAway::Engine };
            let framing = framing(&params);
            turn_away(&request, why, params, framing, context, out)
        }
        (Lookup::Record(_), reply) => {
            let exists = reply == LookupReply::Found;
            open(&request.resolve_record(exists), params, context, out)
        }
        (Lookup::Barrier, _) => open(&request, params, context, out),
    }
}

/// Acquires the permits for one more stream, as far as streams are limited. Tokens without a subject are not limited, because
/// many clients may share one. An address is limited here only if a trusted proxy has reported it; the acceptor limits the
/// connections of all others.
fn acquire_permits(principal: Option<Principal>, context: Context<'_>) -> Result<StreamPermits, TurnedAway> {
    let quotas = &context.service.quotas;
    let by_sub = match (&quotas.streams, principal) {
        (Some(limiter), Some(Principal::Subject(subject))) => Some(limiter.acquire(subject).ok_or(TurnedAway::Sub)?),
        _ => None,
    };
    let by_address = match (&quotas.forwarded_streams, context.address) {
        (Some(limiter), Some(address)) if context.is_forwarded => {
            Some(limiter.acquire(address).ok_or(TurnedAway::Address)?)
        }
        _ => None,
    };
    Ok(StreamPermits { by_sub, by_address })
}

/// Writes the response to a HEAD request for a stream.
pub fn head_only(params: &ResponseParams, context: Context<'_>, out: &mut Vec<u8>) {
    params.write_stream_head(context.headers, out);
}

/// Writes the head. A stream without chunks ends with its connection, so the connection isn't kept alive.
fn write_head(params: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) {
    let keep_alive = params.keep_alive && params.version == Version::Http11;
    ResponseParams { keep_alive, ..params }.write_stream_head(context.headers, out);
}

/// Refuses a stream with a 200 whose body has only a reconnection time. After any other status, an EventSource would not
/// reconnect (WHATWG HTML, section 9.2.3). This includes a subject's limit, because connections that a client has lost count
/// until the broker notices.
fn turn_away(
    request: &Request,
    why: TurnedAway,
    params: ResponseParams,
    framing: Framing,
    context: Context<'_>,
    out: &mut Vec<u8>,
) -> Opened {
    if let Some(limit) = limits::limit_of(why) {
        context.note_limit(limit, request);
    }
    refuse(why, params, framing, context, out)
}

/// Counts and logs a stream that is refused, and writes the response.
fn refuse(
    why: TurnedAway,
    params: ResponseParams,
    framing: Framing,
    context: Context<'_>,
    out: &mut Vec<u8>,
) -> Opened {
    context.service.metrics.worker(context.worker).turned_away.count(why as usize);
    log::debug!("no stream for {}: {}", context.client(), reason(why));
    write_head(ResponseParams { keep_alive: false, ..params }, context, out);
    stream::reconnect_later(reason(why), fastrand::u64(RECONNECT_LATER_MILLIS), framing, out);
    Opened::Ended
}

/// Refuses a stream whose token has waited too long to be verified.
pub fn turn_away_unverified(params: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) {
    let framing = framing(&params);
    refuse(TurnedAway::Unverified, params, framing, context, out);
}

fn framing(params: &ResponseParams) -> Framing {
    match params.version {
        Version::Http11 => Framing::Chunked,
        Version::Http10 => Framing::Plain,
    }
}

/// Returns the reason for which a stream is refused, which is sent as a comment and logged.
fn reason(why: TurnedAway) -> &'static str {
    match why {
        TurnedAway::Full => "the broker has reached --max-subscribers; reconnect later",
        TurnedAway::Topics => "the broker has reached --max-topics; reconnect later",
        TurnedAway::Draining => "the broker is shutting down; reconnect later",
        TurnedAway::Unverified => {
            "too many tokens with an invalid signature came from your address, so this one was not verified; \
             reconnect later"
        }
        TurnedAway::Engine => {
            "the broker can't reach the engine, and does not know your position without it; reconnect later"
        }
        TurnedAway::Names => {
            "the names that streams of records are limited to fill a quarter of --latest-bytes; reconnect later, or \
             limit streams to fewer names"
        }
        TurnedAway::Address => {
            "your address has reached --max-connections-per-ip; close another stream, or reconnect later"
        }
        TurnedAway::Sub => {
            "the token's sub has reached --max-subscribers-per-sub; close another stream, or reconnect later"
        }
    }
}
