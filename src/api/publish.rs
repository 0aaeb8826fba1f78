//! `POST /publish/{topic}`: publishes the body's events together and in order, or none of them.
//!
//! ```text
//! body ─► check, count ─► rate limit ─► room ─► encode ─► hub
//!            │              │            │                 │
//!            └ 400, 413     └ 429, 413   └ waits, 503      └ waits, 503
//! ```
//! With an engine, the encoded events are not published here, but deferred until the engine has appended them to the log:
//!
//! ```text
//! encode ─► topics ─► engine's queue ─► log ─► tail ─► hub ─► response
//!             │              │           │
//!             └ 503          └ 503       └ 503, 504
//! ```
//! A large body is checked and encoded in slices, between which the worker serves other connections. Everything that may refuse
//! the publish is checked before anything is encoded.

mod deferred;
mod limits;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::auth::{Principal, Role, Validity};
use crate::engine::blob::Part;
use crate::http::head::is_media_type;
use crate::http::target::Query;
use crate::http::{Head, Problem, Response};
use crate::hub::{ParseTopicError, Published, Refused, Room, TopicName};
use crate::metrics::PublishRefusal;
use crate::quota::{BodyReservation, Limit};
use crate::sse::{Check, EVENT_COST, Encoder, EventError, FieldScan, Slice, UnsequencedFrame, check_id, check_name};

use super::authorize::{authorize, require_topic, require_valid};
use super::body::{Body, check_coding};
use super::rate_limit::{check_rate, peek_rate};
use super::{Context, Outcome, Plan, advice};
pub use deferred::{DeferredPublish, REPLY_MILLIS, encode, no_reply, response, timed_out};

/// The maximum length of the response's JSON: the names of the members, and three numbers of at most 20 digits.
const MAX_RESPONSE: usize = 128;
/// The cost of one slice of work on a body, in the unit of [`Slice`]: less than half a millisecond.
const SLICE: usize = 256 << 10;

/// A publish whose body has not arrived yet.
#[derive(Debug)]
pub struct Request {
    topic: TopicName,
    format: BodyFormat,
    query: QueryFields,
    pub(super) validity: Validity,
    pub(super) principal: Option<Principal>,
}

/// How the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFormat {
    /// SSE text with any number of events.
    Sse,
    /// JSON that is the data of one event.
    Json,
    /// Text that is the data of one event.
    PlainText,
}

/// The event's fields that the query sets.
#[derive(Debug)]
struct QueryFields {
    name: Option<String>,
    id: Option<String>,
}

/// A publish whose body is complete, but that could not be finished at once.
#[derive(Debug)]
pub struct PausedPublish {
    request: Request,
    state: State,
    body: String,
    reservation: BodyReservation,
}

/// The state of a publish whose body is complete.
#[derive(Debug)]
enum State {
    /// SSE text is being checked and its events counted.
    Checking(Check),
    /// A text/plain body is being scanned, because it must not be SSE text.
    Scanning(FieldScan),
    /// The body is valid and within the rate limit. The number of events, and what encodes them.
    Valid(usize, Encoder),
    /// The events are being encoded.
    Encoding(Encoder),
    /// The events are encoded and can be published as soon as there is room.
    Encoded(Vec<UnsequencedFrame>),
}

/// Why a publish is refused: the reason for the metrics, and the error for the client.
struct Refusal(PublishRefusal, Problem);

/// The result of one slice of work.
enum SliceResult {
    /// The publish is finished.
    Published(Published),
    /// The slice is spent.
    Unfinished(State),
    /// The hub has no room now.
    Backpressure(State),
    /// The engine is to publish these events.
    Deferred(Part),
}

pub(super) fn plan(topic: &str, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let topic = TopicName::parse(topic).map_err(bad_topic)?;
    let grant = authorize(Role::Publisher, head, context)?;
    require_topic(&grant, &topic)?;
    check_coding(head)?;
    if !head.body.has_framing {
        return Err(Problem::new(
            411,
            "the request has no body (no Content-Length and no chunked coding); send an event in the body, such as \
             `data: hello`",
        ));
    }
    let query = head.target.query;
    let query = QueryFields { name: query_field(query, "event", check_name)?, id: query_field(query, "id", check_id)? };
    let format = BodyFormat::of(head.body.content_type);
    Ok(Plan::Publish(Request { topic, format, query, validity: grant.validity(), principal: grant.principal() }))
}

fn bad_topic(error: ParseTopicError) -> Problem {
    match error {
        ParseTopicError::Character(',') => Problem::bad_request(
            "the topic contains ','; each request publishes to one topic, so send a request for each",
        ),
        error => Problem::bad_request(error.to_string()),
    }
}

type CheckField = fn(Option<&str>) -> Result<Option<&str>, EventError>;

/// Returns a query parameter that sets a field of the event. `None` if it is missing or empty.
fn query_field(query: Query<'_>, parameter: &str, check: CheckField) -> Result<Option<String>, Problem> {
    let value = query.get(parameter)?;
    match check(value.as_deref()) {
        Ok(None) => Ok(None),
        Ok(Some(_)) => Ok(value),
        Err(error) => Err(Problem::bad_request(format!("the query parameter {parameter} can't be used: {error}"))),
    }
}

impl BodyFormat {
    /// Returns the format for a `Content-Type`. Any type but two, and none, means SSE text.
    fn of(content_type: Option<&str>) -> Self {
        match content_type {
            Some(text) if is_media_type(text, "application/json") => Self::Json,
            Some(text) if is_media_type(text, "text/plain") => Self::PlainText,
            _ => Self::Sse,
        }
    }
}

pub(super) fn finish(request: Request, body: Body<'_>, context: Context<'_>) -> Outcome {
    let started = body
        .into_text()
        .map_err(invalid)
        .and_then(|(text, reservation)| Ok((request.start(&text, context)?, text, reservation)));
    match started {
        Ok((state, text, reservation)) => advance(request, state, text, reservation, context),
        Err(refusal) => refuse(refusal, &request.topic, context),
    }
}

/// Continues a publish that was paused.
pub fn resume(paused: PausedPublish, context: Context<'_>) -> Outcome {
    let PausedPublish { request, state, body, reservation } = paused;
    if let Err(problem) = require_valid(request.validity, context) {
        context.count_denial(&problem);
        return Outcome::Respond(problem.into());
    }
    match check_not_draining(context) {
        Ok(()) => advance(request, state, body.into(), Some(reservation), context),
        Err(refusal) => refuse(refusal, &request.topic, context),
    }
}

fn advance(
    request: Request,
    state: State,
    body: Cow<'_, str>,
    reservation: Option<BodyReservation>,
    context: Context<'_>,
) -> Outcome {
    match request.run_slice(state, &body, context) {
        Ok(SliceResult::Published(published)) => Outcome::Respond(accepted(published)),
        Ok(SliceResult::Deferred(part)) => deferred::defer(&request, part, reservation, context),
        Ok(SliceResult::Unfinished(state)) => pause(request, state, body, reservation, context, Outcome::Work),
        Ok(SliceResult::Backpressure(state)) => pause(request, state, body, reservation, context, Outcome::Wait),
        Err(refusal) => refuse(refusal, &request.topic, context),
    }
}

/// Keeps a publish for later, in memory that is reserved like that of bodies being received. Returns 503 without such memory.
fn pause(
    request: Request,
    state: State,
    body: Cow<'_, str>,
    reservation: Option<BodyReservation>,
    context: Context<'_>,
    outcome: fn(Box<PausedPublish>) -> Outcome,
) -> Outcome {
    let body = if matches!(state, State::Encoded(_)) { String::new() } else { body.into_owned() };
    let mut reservation = reservation.unwrap_or_else(|| context.body_reservation(request.principal));
    match reservation.resize(body.len() + state.cost()) {
        Ok(()) => outcome(Box::new(PausedPublish { request, state, body, reservation })),
        Err(_) => Outcome::Respond(no_room(Limit::Bodies, &request.topic, context).into()),
    }
}

impl Request {
    /// Returns the first state. JSON is checked at once: it is parsed in one go.
    fn start(&self, body: &str, context: Context<'_>) -> Result<State, Refusal> {
        match self.format {
            BodyFormat::Sse => Ok(State::Checking(Check::new(body))),
            BodyFormat::PlainText => Ok(State::Scanning(FieldScan::new(body))),
            BodyFormat::Json => {
                peek_rate(self.principal, context).map_err(|problem| Refusal(PublishRefusal::Rate, problem))?;
                let json = body.strip_prefix('\u{feff}').unwrap_or(body);
                match serde_json::from_str::<IgnoredAny>(json) {
                    Ok(IgnoredAny) => self.check_rate(1, self.data_encoder(body), context),
                    Err(error) => Err(invalid(advice::on_json(&error, json))),
                }
            }
        }
    }

    fn data_encoder(&self, body: &str) -> Encoder {
        Encoder::of_data(body, self.query.name.clone(), self.query.id.clone())
    }

    /// Does one slice of work.
    fn run_slice(&self, mut state: State, body: &str, context: Context<'_>) -> Result<SliceResult, Refusal> {
        let mut slice = Slice::new(SLICE);
        loop {
            state = match state {
                State::Checking(mut check) => match check.run(body, &mut slice) {
                    Ok(true) => self.accept_text(&check, body, context)?,
                    Ok(false) => return Ok(SliceResult::Unfinished(State::Checking(check))),
                    Err(error) => return Err(invalid(advice::on_text(&error, body))),
                },
                State::Scanning(mut scan) => match scan.run(body, &mut slice) {
                    Some(true) => return Err(invalid(advice::on_fields_as_data())),
                    Some(false) => self.check_rate(1, self.data_encoder(body), context)?,
                    None => return Ok(SliceResult::Unfinished(State::Scanning(scan))),
                },
                State::Valid(events, encoder) if is_small(events, body) => State::Encoding(encoder),
                State::Valid(events, encoder) => return self.check_room(events, encoder, body, context),
                State::Encoding(mut encoder) => match encoder.run(body, &mut slice) {
                    true => State::Encoded(encoder.finish()),
                    false => return Ok(SliceResult::Unfinished(State::Encoding(encoder))),
                },
                State::Encoded(frames) => return self.publish(frames, context),
            };
        }
    }

    /// Checks SSE text against the query, and the number of its events against the rate limit.
    fn accept_text(&self, check: &Check, body: &str, context: Context<'_>) -> Result<State, Refusal> {
        let QueryFields { name, id } = &self.query;
        if check.events() > 1 && (name.is_some() || id.is_some()) {
            return Err(invalid(advice::on_several(check.events())));
        }
        for (field, in_query, in_body) in [("event", name, check.name(body)), ("id", id, check.id(body))] {
            if let (Some(in_query), Some(in_body)) = (in_query, in_body)
                && in_query != in_body
            {
                return Err(invalid(advice::on_conflict(field)));
            }
        }
        let encoder = Encoder::of_text(body, check.events(), name.clone(), id.clone());
        self.check_rate(check.events(), encoder, context)
    }

    /// Checks the publisher's rate limit, once and before anything is encoded.
    fn check_rate(&self, events: usize, encoder: Encoder, context: Context<'_>) -> Result<State, Refusal> {
        match check_rate(self.principal, events, context) {
            Ok(()) => Ok(State::Valid(events, encoder)),
            Err(problem) => Err(Refusal(PublishRefusal::Rate, problem)),
        }
    }

    /// Checks for room before encoding a large body. Many publishes that wait may find room at the same time, so each then
    /// encodes in a slice of its own.
    fn check_room(
        &self,
        events: usize,
        encoder: Encoder,
        body: &str,
        context: Context<'_>,
    ) -> Result<SliceResult, Refusal> {
        if context.service.engine.is_some() {
            check_topic(&self.topic, context)?;
            return Ok(SliceResult::Unfinished(State::Encoding(encoder)));
        }
        match context.service.hub.room_for(&self.topic, events, body.len(), context.now.id_micros) {
            Room::Now => Ok(SliceResult::Unfinished(State::Encoding(encoder))),
            Room::Later => Ok(SliceResult::Backpressure(State::Valid(events, encoder))),
            Room::TooManyTopics => Err(too_many_topics()),
        }
    }

    fn publish(&self, frames: Vec<UnsequencedFrame>, context: Context<'_>) -> Result<SliceResult, Refusal> {
        check_not_draining(context)?;
        if context.service.engine.is_some() {
            check_topic(&self.topic, context)?;
            return Ok(SliceResult::Deferred(encode(&self.topic, &frames)));
        }
        match context.service.publish(&self.topic, frames, context.now.id_micros, Some(context.worker)) {
            Ok(published) => {
                limits::note_evictions(&self.topic, context);
                Ok(SliceResult::Published(published))
            }
            Err(Refused::Backpressure(frames)) => Ok(SliceResult::Backpressure(State::Encoded(frames))),
            Err(Refused::TooManyTopics) => Err(too_many_topics()),
        }
    }
}

impl State {
    /// Returns the memory that the state uses, in bytes, excluding the body.
    fn cost(&self) -> usize {
        match self {
            Self::Checking(_) | Self::Scanning(_) => 0,
            Self::Valid(_, encoder) | Self::Encoding(encoder) => encoder.cost(),
            Self::Encoded(frames) => frames.iter().map(UnsequencedFrame::cost).sum(),
        }
    }
}

/// Returns whether a body is checked and encoded in one slice. Checking for room first would then save nothing.
fn is_small(events: usize, body: &str) -> bool {
    body.len() + events * EVENT_COST <= SLICE
}

fn invalid(problem: Problem) -> Refusal {
    Refusal(PublishRefusal::Invalid, problem)
}

fn check_not_draining(context: Context<'_>) -> Result<(), Refusal> {
    if context.service.is_draining() {
        return Err(Refusal(PublishRefusal::Draining, super::draining()));
    }
    Ok(())
}

/// Checks that the topic exists, or may be opened.
fn check_topic(topic: &TopicName, context: Context<'_>) -> Result<(), Refusal> {
    if context.service.hub.can_publish(topic) { Ok(()) } else { Err(too_many_topics()) }
}

fn too_many_topics() -> Refusal {
    let detail = "the broker has reached --max-topics; try again later, or raise the limit";
    Refusal(PublishRefusal::Topics, Problem::unavailable(detail, 5))
}

fn refuse(Refusal(why, problem): Refusal, topic: &TopicName, context: Context<'_>) -> Outcome {
    limits::note_refusal(why, &problem, topic, context);
    Outcome::Respond(refused(why, problem, context).into())
}

/// Counts and logs a publish that is refused.
fn refused(why: PublishRefusal, problem: Problem, context: Context<'_>) -> Problem {
    context.service.metrics.worker(context.worker).publishes_refused.count(why as usize);
    context.log_refused_body(&problem, "publish", PublishRefusal::NAMES[why as usize]);
    problem
}

/// Returns the response to a publish. Its JSON is written without serde_json, which would take longer.
fn accepted(published: Published) -> Response {
    let Published { id, events, subscribers } = published;
    let mut digits = itoa::Buffer::new();
    let mut body = String::with_capacity(MAX_RESPONSE);
    body.push_str(r#"{"id":""#);
    body.push_str(digits.format(id));
    body.push_str(r#"","events":"#);
    body.push_str(digits.format(events));
    body.push_str(r#","subscribers":"#);
    body.push_str(digits.format(subscribers));
    body.push_str(if published.is_duplicate() { r#","duplicate":true}"# } else { "}" });
    Response::json(body)
}

/// Refuses a publish that has waited too long for room in the hub, or for which there is no memory to wait.
fn no_room(limit: Limit, topic: &TopicName, context: Context<'_>) -> Problem {
    limits::note(limit, topic, context);
    let detail = "the broker is overloaded with events of this topic; nothing was published; try again";
    refused(PublishRefusal::Room, Problem::unavailable(detail, 1), context)
}
