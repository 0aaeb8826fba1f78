//! `POST /publish/{topic}`: the body's events are published together, in order, or not at all.
//!
//! ```text
//! body ─► check, count ─► rate ─► room? ─► encode ─► hub
//!            │              │       │                 │
//!            └ 400, 413     └ 429   └ waits, 503      └ waits, 503
//! ```
//! Checking and encoding a large body is done in slices, between which the caller does other work. Whatever may refuse the
//! publish is asked before anything is encoded.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::auth::{Principal, Role};
use crate::http::head::is_media_type;
use crate::http::target::Query;
use crate::http::{Head, Problem, Response};
use crate::hub::{ParseTopicError, Published, Refused, Room, TopicName};
use crate::metrics::PublishRefusal;
use crate::quota::BodyReservation;
use crate::sse::{Check, EVENT_COST, Encoder, EventError, FieldScan, Slice, UnsequencedFrame, check_id, check_name};

use super::authorize::{admit, demand_time, demand_topic};
use super::body::{Body, check_coding};
use super::rate_limit::{demand_allowance, demand_pace};
use super::{Context, Outcome, Plan, advice, note_denial};

/// The members' names, and three numbers of at most 20 digits.
const LONGEST_ANSWER: usize = 128;
/// What a slice of work on one body may cost, in [`Slice`]'s measure: less than half a millisecond.
const SLICE: usize = 256 << 10;

/// A publish whose body is still to come.
#[derive(Debug)]
pub struct Request {
    topic: TopicName,
    kind: Kind,
    given: Given,
    pub(super) expires: Option<u64>,
    pub(super) holder: Option<Principal>,
}

/// How the body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// SSE text.
    Text,
    /// JSON that is the data of one event.
    Json,
    /// Text that is the data of one event.
    Plain,
}

/// What the query says of the event.
#[derive(Debug)]
struct Given {
    name: Option<String>,
    id: Option<String>,
}

/// A publish whose body has come and that is not answered yet.
#[derive(Debug)]
pub struct Pending {
    request: Request,
    stage: Stage,
    body: String,
    reservation: BodyReservation,
}

/// How far a publish has come.
#[derive(Debug)]
enum Stage {
    /// Its SSE text is being checked, and the events are being counted.
    Checking(Check),
    /// It is being made sure that a text/plain body is not SSE text.
    Scanning(FieldScan),
    /// This many events are good, and their publisher may publish them.
    Admitted(usize, Encoder),
    /// They are being encoded.
    Encoding(Encoder),
    /// They can be published as soon as there is room.
    Encoded(Vec<UnsequencedFrame>),
}

/// Why a publish is refused.
struct Refusal(PublishRefusal, Problem);

/// How far a slice of work has brought a publish.
enum Progress {
    Published(Published),
    /// There is more work to do.
    Unfinished(Stage),
    /// The hub has no room now.
    Backpressure(Stage),
}

pub(super) fn plan(topic: &str, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let topic = TopicName::parse(topic).map_err(bad_topic)?;
    let grant = admit(Role::Publisher, head, context)?;
    demand_topic(&grant, &topic)?;
    check_coding(head)?;
    if !head.has_framing {
        return Err(Problem::new(
            411,
            "the request has no body (no Content-Length and no chunked coding); send an event in the body, such as \
             `data: hello`",
        ));
    }
    let query = head.target.query;
    let given = Given { name: given(query, "event", check_name)?, id: given(query, "id", check_id)? };
    let kind = Kind::of(head.content_type);
    Ok(Plan::Publish(Request { topic, kind, given, expires: grant.expires(), holder: grant.principal() }))
}

fn bad_topic(bad: ParseTopicError) -> Problem {
    match bad {
        ParseTopicError::Character(',') => Problem::bad_request(
            "the topic contains ','; each request publishes to one topic, so send a request for each",
        ),
        bad => Problem::bad_request(bad.to_string()),
    }
}

type CheckGiven = fn(Option<&str>) -> Result<Option<&str>, EventError>;

/// What a parameter of the query says, checked; an empty one says nothing.
fn given(query: Query<'_>, parameter: &str, check: CheckGiven) -> Result<Option<String>, Problem> {
    let value = query.get(parameter)?;
    match check(value.as_deref()) {
        Ok(None) => Ok(None),
        Ok(Some(_)) => Ok(value),
        Err(error) => Err(Problem::bad_request(format!("the query parameter {parameter} can't be used: {error}"))),
    }
}

impl Kind {
    /// Two media types say that the body is the data; with any other one, and without one, it is SSE text.
    fn of(content_type: Option<&str>) -> Self {
        match content_type {
            Some(text) if is_media_type(text, "application/json") => Self::Json,
            Some(text) if is_media_type(text, "text/plain") => Self::Plain,
            _ => Self::Text,
        }
    }
}

pub(super) fn finish(request: Request, body: Body<'_>, context: Context<'_>) -> Outcome {
    let begun = body
        .into_text()
        .map_err(invalid)
        .and_then(|(text, reservation)| Ok((request.begin(&text, context)?, text, reservation)));
    match begun {
        Ok((stage, text, reservation)) => go_on(request, stage, text, reservation, context),
        Err(refusal) => refuse(refusal, context),
    }
}

/// Goes on with a publish that was not answered yet.
pub fn resume(pending: Pending, context: Context<'_>) -> Outcome {
    let Pending { request, stage, body, reservation } = pending;
    if let Err(problem) = demand_time(request.expires, context) {
        note_denial(&problem, context);
        return Outcome::Respond(problem.into());
    }
    match demand_no_drain(context) {
        Ok(()) => go_on(request, stage, body.into(), Some(reservation), context),
        Err(refusal) => refuse(refusal, context),
    }
}

fn go_on(
    request: Request,
    stage: Stage,
    body: Cow<'_, str>,
    reservation: Option<BodyReservation>,
    context: Context<'_>,
) -> Outcome {
    match request.work(stage, &body, context) {
        Ok(Progress::Published(published)) => Outcome::Respond(accepted(published)),
        Ok(Progress::Unfinished(stage)) => pause(request, stage, body, reservation, context, Outcome::Work),
        Ok(Progress::Backpressure(stage)) => pause(request, stage, body, reservation, context, Outcome::Wait),
        Err(refusal) => refuse(refusal, context),
    }
}

/// Keeps what is needed to go on later, in memory that is reserved as for bodies that are received.
fn pause(
    request: Request,
    stage: Stage,
    body: Cow<'_, str>,
    reservation: Option<BodyReservation>,
    context: Context<'_>,
    outcome: fn(Box<Pending>) -> Outcome,
) -> Outcome {
    let body = if matches!(stage, Stage::Encoded(_)) { String::new() } else { body.into_owned() };
    let mut reservation = reservation.unwrap_or_else(|| context.body_reservation(request.holder));
    match reservation.resize(body.len() + stage.cost()) {
        Ok(()) => outcome(Box::new(Pending { request, stage, body, reservation })),
        Err(_) => Outcome::Respond(no_room(context).into()),
    }
}

impl Request {
    fn begin(&self, body: &str, context: Context<'_>) -> Result<Stage, Refusal> {
        match self.kind {
            Kind::Text => Ok(Stage::Checking(Check::new(body))),
            Kind::Plain => Ok(Stage::Scanning(FieldScan::new(body))),
            Kind::Json => {
                demand_allowance(self.holder, context).map_err(|problem| Refusal(PublishRefusal::Rate, problem))?;
                let json = body.strip_prefix('\u{feff}').unwrap_or(body);
                match serde_json::from_str::<IgnoredAny>(json) {
                    Ok(IgnoredAny) => self.admit(1, self.encoder_of_data(body), context),
                    Err(error) => Err(invalid(advice::on_json(&error, json))),
                }
            }
        }
    }

    fn encoder_of_data(&self, body: &str) -> Encoder {
        Encoder::of_data(body, self.given.name.clone(), self.given.id.clone())
    }

    /// Does one slice of work.
    fn work(&self, mut stage: Stage, body: &str, context: Context<'_>) -> Result<Progress, Refusal> {
        let mut slice = Slice::new(SLICE);
        loop {
            stage = match stage {
                Stage::Checking(mut check) => match check.run(body, &mut slice) {
                    Ok(true) => self.admit_text(&check, body, context)?,
                    Ok(false) => return Ok(Progress::Unfinished(Stage::Checking(check))),
                    Err(error) => return Err(invalid(advice::on_text(&error, body))),
                },
                Stage::Scanning(mut scan) => match scan.run(body, &mut slice) {
                    Some(true) => return Err(invalid(advice::on_fields_as_data())),
                    Some(false) => self.admit(1, self.encoder_of_data(body), context)?,
                    None => return Ok(Progress::Unfinished(Stage::Scanning(scan))),
                },
                Stage::Admitted(events, encoder) if is_small(events, body) => Stage::Encoding(encoder),
                Stage::Admitted(events, encoder) => return self.await_room(events, encoder, body, context),
                Stage::Encoding(mut encoder) => match encoder.run(body, &mut slice) {
                    true => Stage::Encoded(encoder.finish()),
                    false => return Ok(Progress::Unfinished(Stage::Encoding(encoder))),
                },
                Stage::Encoded(drafts) => return self.publish(drafts, context),
            };
        }
    }

    fn admit_text(&self, check: &Check, body: &str, context: Context<'_>) -> Result<Stage, Refusal> {
        let Given { name, id } = &self.given;
        if check.events() > 1 && (name.is_some() || id.is_some()) {
            return Err(invalid(advice::on_several(check.events())));
        }
        for (field, given, own) in [("event", name, check.name(body)), ("id", id, check.id(body))] {
            if let (Some(given), Some(own)) = (given, own)
                && given != own
            {
                return Err(invalid(advice::on_conflict(field)));
            }
        }
        let encoder = Encoder::of_text(body, check.events(), name.clone(), id.clone());
        self.admit(check.events(), encoder, context)
    }

    /// Asks the publisher's rate limit, once and before anything is encoded.
    fn admit(&self, events: usize, encoder: Encoder, context: Context<'_>) -> Result<Stage, Refusal> {
        match demand_pace(self.holder, events, context) {
            Ok(()) => Ok(Stage::Admitted(events, encoder)),
            Err(problem) => Err(Refusal(PublishRefusal::Rate, problem)),
        }
    }

    /// Asks for room before the work of encoding. Many that wait may find room at the same time, so each then encodes in a
    /// slice of its own.
    fn await_room(
        &self,
        events: usize,
        encoder: Encoder,
        body: &str,
        context: Context<'_>,
    ) -> Result<Progress, Refusal> {
        match context.service.hub.room_for(&self.topic, events, body.len(), context.now.id_micros) {
            Room::Now => Ok(Progress::Unfinished(Stage::Encoding(encoder))),
            Room::Later => Ok(Progress::Backpressure(Stage::Admitted(events, encoder))),
            Room::TooManyTopics => Err(too_many_topics()),
        }
    }

    fn publish(&self, drafts: Vec<UnsequencedFrame>, context: Context<'_>) -> Result<Progress, Refusal> {
        demand_no_drain(context)?;
        match context.service.publish(&self.topic, drafts, context.now.id_micros, Some(context.worker)) {
            Ok(published) => Ok(Progress::Published(published)),
            Err(Refused::Backpressure(drafts)) => Ok(Progress::Backpressure(Stage::Encoded(drafts))),
            Err(Refused::TooManyTopics) => Err(too_many_topics()),
        }
    }
}

impl Stage {
    /// What it holds in memory beside the body.
    fn cost(&self) -> usize {
        match self {
            Self::Checking(_) | Self::Scanning(_) => 0,
            Self::Admitted(_, encoder) | Self::Encoding(encoder) => encoder.cost(),
            Self::Encoded(drafts) => drafts.iter().map(UnsequencedFrame::cost).sum(),
        }
    }
}

/// Whether a body is checked and encoded in one slice, so that asking for room first saves nothing.
fn is_small(events: usize, body: &str) -> bool {
    body.len() + events * EVENT_COST <= SLICE
}

fn invalid(problem: Problem) -> Refusal {
    Refusal(PublishRefusal::Invalid, problem)
}

fn demand_no_drain(context: Context<'_>) -> Result<(), Refusal> {
    if context.service.is_draining() {
        return Err(Refusal(PublishRefusal::Draining, super::draining()));
    }
    Ok(())
}

fn too_many_topics() -> Refusal {
    let detail = "the broker has reached --max-topics; try again later, or raise the limit";
    Refusal(PublishRefusal::Topics, Problem::unavailable(detail, 5))
}

fn refuse(Refusal(why, problem): Refusal, context: Context<'_>) -> Outcome {
    Outcome::Respond(refused(why, problem, context).into())
}

/// Counts a publish that is refused.
fn refused(why: PublishRefusal, problem: Problem, context: Context<'_>) -> Problem {
    context.service.metrics.worker(context.worker).publishes_refused.count(why as usize);
    context.log_refused_body(&problem, "publish", PublishRefusal::NAMES[why as usize]);
    problem
}

fn accepted(published: Published) -> Response {
    let Published { id, events, subscribers } = published;
    let mut digits = itoa::Buffer::new();
    let mut body = String::with_capacity(LONGEST_ANSWER);
    body.push_str(r#"{"id":""#);
    body.push_str(digits.format(id));
    body.push_str(r#"","events":"#);
    body.push_str(digits.format(events));
    body.push_str(r#","subscribers":"#);
    body.push_str(digits.format(subscribers));
    body.push_str(if published.is_duplicate() { r#","duplicate":true}"# } else { "}" });
    Response::json(body)
}

/// The answer when waiting for room took too long.
pub fn no_room(context: Context<'_>) -> Problem {
    let detail = "the broker is overloaded with events of this topic; nothing was published; try again";
    refused(PublishRefusal::Room, Problem::unavailable(detail, 1), context)
}
