//! Publishes that the engine appends to its log, and the responses to them.

#[cfg(test)]
mod tests;

use super::{PublishRefusal, Request, limits, no_room, refused};
use crate::api::{Context, Deferred, Outcome};
use crate::engine::blob::Part;
use crate::engine::{EngineError, Sequenced};
use crate::http::{Problem, Response};
use crate::hub::{Published, TopicName};
use crate::quota::{BodyReservation, Limit};
use crate::sse::UnsequencedFrame;

/// How long to wait for the engine's reply, in milliseconds. Longer than the engine itself tries to find out what became of a
/// publish.
pub const REPLY_MILLIS: u64 = 35_000;
/// The seconds after which to repeat a publish that found the engine's queue full.
const BUSY_SECONDS: u32 = 1;
/// The seconds after which to repeat a publish that found the engine away, or the broker shutting down.
const AWAY_SECONDS: u32 = 5;

/// A publish that the engine is to append to the log.
#[derive(Debug)]
pub struct DeferredPublish {
    /// The topic.
    pub topic: TopicName,
    /// The events.
    pub part: Part,
    /// The memory of the part, which counts as memory of bodies until the engine replies. The engine's queue has a bound of its
    /// own; this one divides memory fairly among clients, and holds for what the engine has taken out of its queue.
    pub reservation: BodyReservation,
}

/// Encodes events for the log.
pub fn encode(topic: &TopicName, frames: &[UnsequencedFrame]) -> Part {
    Part::new(topic.as_str(), frames.iter().map(|frame| (frame.publisher_id(), frame.lines())))
}

/// Defers a publish. Returns 503 if there is no memory to wait in.
pub(super) fn defer(
    request: &Request,
    part: Part,
    reservation: Option<BodyReservation>,
    context: Context<'_>,
) -> Outcome {
    let mut reservation = reservation.unwrap_or_else(|| context.body_reservation(request.principal));
    match reservation.resize(part.cost()) {
        Ok(()) => Outcome::Deferred(Deferred::Publish(DeferredPublish { topic: request.topic, part, reservation })),
        Err(_) => Outcome::Respond(no_room(Limit::Bodies, &request.topic, context).into()),
    }
}

/// Returns the response for the engine's reply.
pub fn response(topic: &TopicName, result: Result<Sequenced, EngineError>, context: Context<'_>) -> Response {
    match result {
        Ok(Sequenced { id, events }) => {
            let subscribers = context.service.hub.subscribers_of(topic);
            super::accepted(Published { id, events, subscribers })
        }
        Err(error) => {
            if matches!(error, EngineError::Busy) {
                limits::note(Limit::Engine, topic, context);
            }
            refusal(&error, context).into()
        }
    }
}

/// Refuses a publish to which the engine did not reply in time. It is unknown whether the events were published.
pub fn timed_out(context: Context<'_>) -> Problem {
    refusal(&no_reply(), context)
}

/// Returns the error of a publish to which the engine did not reply.
pub fn no_reply() -> EngineError {
    EngineError::Unknown("the engine did not reply in time".into())
}

fn refusal(error: &EngineError, context: Context<'_>) -> Problem {
    let detail = error.of_publish();
    let (why, problem) = match error {
        EngineError::Busy => (PublishRefusal::Engine, Problem::unavailable(detail, BUSY_SECONDS)),
        EngineError::Unavailable(_) | EngineError::Refused(_) => {
            (PublishRefusal::Engine, Problem::unavailable(detail, AWAY_SECONDS))
        }
        EngineError::Closed => (PublishRefusal::Draining, Problem::unavailable(detail, AWAY_SECONDS)),
        EngineError::Unknown(_) => (PublishRefusal::Unknown, Problem::new(504, detail)),
    };
    refused(why, problem, context)
}
