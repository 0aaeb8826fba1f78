//! `GET /subscribe/{topic},…` and `GET /events`: from the request to the bytes a stream opens with.

use std::sync::Arc;

use crate::auth::{Grant, Principal, Role};
use crate::clock::millis;
use crate::http::{Head, Problem, ResponseParams, Version};
use crate::hub::{AtCapacity, Joined, Position, RecordStart, TopicName};
use crate::metrics::TurnedAway;
use crate::quota::{Permit, Quotas};
use crate::sse::{Framing, stream};

use super::authorize::{admit, demand, demand_topic};
use super::record::check_name;
use super::{Context, Plan, RECORDS};

/// The most topics of one subscription.
pub const MAX_TOPICS: usize = 64;
/// The most names of records that one subscription keeps.
const MAX_NAMES: usize = 64;

/// The query parameters that may carry a position. The last one counts: a polyfill appends its own to what the page wrote.
const POSITION_PARAMETERS: [&str; 5] =
    ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID", "evs_last_event_id"];

/// The span in milliseconds after which a client that finds the broker full is told to come back.
const COME_BACK_MILLIS: std::ops::RangeInclusive<u64> = 5_000..=15_000;

/// A stream to be opened.
#[derive(Debug)]
pub struct Request {
    wanted: Wanted,
    position: Option<String>,
    prime: bool,
    pub(super) expires: Option<u64>,
    holder: Option<Principal>,
}

/// What is to be heard.
#[derive(Debug)]
enum Wanted {
    Topics(Vec<TopicName>),
    /// Records of these names; all if there are none.
    Records(Arc<[Arc<str>]>, RecordStart),
}

/// What a worker needs to know of a stream that has been opened.
#[derive(Debug)]
pub struct OpenStream {
    /// What the hub said.
    pub joined: Joined,
    /// How the stream's bytes are delimited.
    pub framing: Framing,
    /// The second since the Unix epoch in which the stream is to end.
    pub expires: Option<u64>,
    /// To be kept as long as the stream lasts, if its token's subject has only so many.
    pub place: Option<Permit>,
}

/// What became of a [`Request`]; the bytes to send first are written in both cases.
#[derive(Debug)]
pub enum Opened {
    /// The subscriber is registered.
    Joined(OpenStream),
    /// The stream has ended before it began: it is to come back later.
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
    let grant = admit(Role::Subscriber, head, context)?;
    topics.iter().try_for_each(|topic| demand_topic(&grant, topic))?;
    let prime = head.target.query.has("prime");
    Ok(request(Wanted::Topics(topics), position_of(head), prime, &grant))
}

/// `GET /events`. Nothing to prime: without a position everything comes, each with its id.
pub(super) fn plan_records(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let mut names = head.target.query.all("event")?;
    if names.len() > MAX_NAMES {
        return Err(Problem::bad_request("a subscription has at most 64 names; open another one for the rest"));
    }
    names.iter().try_for_each(|name| check_name(name))?;
    names.sort_unstable();
    names.dedup();
    let grant = admit(Role::Subscriber, head, context)?;
    demand(&grant, RECORDS)?;
    let position = position_of(head);
    let start = position.as_deref().map_or(RecordStart::Newest, |text| context.service.hub.find_record(text));
    let wanted = Wanted::Records(names.into_iter().map(Arc::from).collect(), start);
    Ok(request(wanted, position, false, &grant))
}

fn request(wanted: Wanted, position: Option<String>, prime: bool, grant: &Grant) -> Plan {
    let (expires, holder) = (grant.expires(), grant.principal());
    Plan::Subscribe(Request { wanted, position, prime, expires, holder })
}

impl Request {
    /// Returns the id of a record of which the store is to be asked first whether it exists.
    pub fn lookup(&self) -> Option<u64> {
        match self.wanted {
            Wanted::Records(_, RecordStart::AfterStored(id)) => Some(id),
            Wanted::Records(..) | Wanted::Topics(_) => None,
        }
    }

    /// Puts the store's answer to that in. Without one it is in doubt, as if the record did not exist.
    #[must_use]
    pub fn settle(self, exists: bool) -> Self {
        let wanted = match self.wanted {
            Wanted::Records(names, start) => Wanted::Records(names, start.resolve(exists)),
            topics @ Wanted::Topics(_) => topics,
        };
        Self { wanted, ..self }
    }
}

fn position_of(head: &Head<'_>) -> Option<String> {
    let by_header = head.last_event_id.map(|id| String::from_utf8_lossy(id).into_owned());
    by_header.or_else(|| head.target.query.last_among(&POSITION_PARAMETERS))
}

/// Registers the subscriber and writes the head and the opening, both for one and the same write.
pub fn open(request: &Request, reply: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) -> Opened {
    let framing = framing(&reply);
    let position = request.position.as_deref().map_or(Position::Live, Position::After);
    let service = context.service;
    let Ok(place) = take_place(request.holder, &service.quotas) else {
        return end_at_once(TurnedAway::Sub, reply, framing, context, out);
    };
    let joined = match &request.wanted {
        Wanted::Topics(topics) => service.hub.join(context.worker, topics, position),
        Wanted::Records(names, start) => service.hub.join_records(context.worker, Arc::clone(names), *start),
    };
    let joined = match joined {
        Ok(joined) if !service.is_draining() => joined,
        Ok(joined) => {
            service.hub.abandon(context.worker, &joined);
            return end_at_once(TurnedAway::Draining, reply, framing, context, out);
        }
        Err(AtCapacity::Subscribers) => return end_at_once(TurnedAway::Full, reply, framing, context, out),
        Err(AtCapacity::Topics) => return end_at_once(TurnedAway::Topics, reply, framing, context, out),
        Err(AtCapacity::Names) => return end_at_once(TurnedAway::Names, reply, framing, context, out),
    };
    write_head(reply, context, out);
    let prime = (request.prime && position == Position::Live).then_some(joined.newest);
    stream::opening(jittered(millis(service.settings.retry)), prime, framing, out);
    if let (Some(gap), Some(after)) = (joined.gap, &request.position) {
        service.metrics.worker(context.worker).resume_gaps.add(1);
        stream::gap(after, gap.oldest, framing, out);
    }
    Opened::Joined(OpenStream { joined, framing, expires: request.expires, place })
}

/// The subject has as many streams as it may.
struct NoPlace;

/// A place among its subject's streams, if they are counted. A token without a subject may be for a whole audience.
fn take_place(holder: Option<Principal>, quotas: &Quotas) -> Result<Option<Permit>, NoPlace> {
    match (&quotas.streams, holder) {
        (Some(streams), Some(Principal::Subject(subject))) => streams.acquire(subject).map(Some).ok_or(NoPlace),
        _ => Ok(None),
    }
}

/// HEAD on a stream: only the head, then done.
pub fn head_only(reply: &ResponseParams, context: Context<'_>, out: &mut Vec<u8>) {
    reply.write_stream_head(context.house, out);
}

/// A stream without chunks can end only with its connection.
fn write_head(reply: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) {
    let keep_alive = reply.keep_alive && reply.version == Version::Http11;
    ResponseParams { keep_alive, ..reply }.write_stream_head(context.house, out);
}

/// Any status but 200 would stop an EventSource for good, so a full broker answers 200, a time, and the end.
/// That holds for a subject's bound, too: connections that a client has lost count until the broker has noticed it.
fn end_at_once(
    why: TurnedAway,
    reply: ResponseParams,
    framing: Framing,
    context: Context<'_>,
    out: &mut Vec<u8>,
) -> Opened {
    context.service.metrics.worker(context.worker).turned_away.count(why as usize);
    log::debug!("no stream for {}: {}", context.client(), excuse(why));
    write_head(ResponseParams { keep_alive: false, ..reply }, context, out);
    stream::reconnect_later(excuse(why), fastrand::u64(COME_BACK_MILLIS), framing, out);
    Opened::Ended
}

/// The token has waited for too long to be verified.
pub fn turn_away_unverified(reply: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) {
    let framing = framing(&reply);
    end_at_once(TurnedAway::Unverified, reply, framing, context, out);
}

fn framing(reply: &ResponseParams) -> Framing {
    match reply.version {
        Version::Http11 => Framing::Chunked,
        Version::Http10 => Framing::Plain,
    }
}

/// What is said to whoever looks at the bytes.
fn excuse(why: TurnedAway) -> &'static str {
    match why {
        TurnedAway::Full => "the broker has reached --max-subscribers; reconnect later",
        TurnedAway::Topics => "the broker has reached --max-topics; reconnect later",
        TurnedAway::Draining => "the broker is shutting down; reconnect later",
        TurnedAway::Unverified => {
            "too many tokens with an invalid signature came from your address, so this one was not verified; \
             reconnect later"
        }
        TurnedAway::Names => {
            "the names that streams of records are limited to fill a quarter of --latest-bytes; reconnect later, or \
             limit streams to fewer names"
        }
        TurnedAway::Sub => {
            "the token's sub has reached --max-subscribers-per-sub; close another stream, or reconnect later"
        }
    }
}

/// The reconnection time ±33 %, so that clients that were cut off together don't come back together.
fn jittered(retry_millis: u64) -> u64 {
    let spread = retry_millis * 33 / 100;
    retry_millis - spread + fastrand::u64(0..=2 * spread)
}

#[cfg(test)]
mod tests {
    use super::jittered;

    #[test]
    fn reconnection_times_are_spread_by_33_percent() {
        let drawn: Vec<_> = (0..1000).map(|_| jittered(3000)).collect();
        assert!(drawn.iter().all(|millis| (2010..=3990).contains(millis)));
        assert!(drawn.iter().min() < Some(&2200) && drawn.iter().max() > Some(&3800));
        assert_eq!(jittered(1), 1);
    }
}
