//! `POST /publish/{topic}`: the body's events are published together, in order, or not at all.

use crate::auth::{Holder, Role};
use crate::http::head::is_media_type;
use crate::http::{Head, Problem, Response};
use crate::hub::{MAX_AHEAD, Published, Refused, TopicName};
use crate::metrics::PublishRefusal;
use crate::sse::{Draft, drafts_from_data, drafts_from_text};

use super::admission::{admit, demand_topic};
use super::throttle::demand_pace;
use super::{Context, Outcome, Plan};

/// The members' names, and three numbers of at most 20 digits.
const LONGEST_ANSWER: usize = 128;

/// A publish whose body is still to come.
#[derive(Debug)]
pub struct Request {
    topic: TopicName,
    kind: Kind,
    pub(super) expires: Option<u64>,
    pub(super) holder: Option<Holder>,
}

/// How the body is to be read.
#[derive(Debug)]
enum Kind {
    /// SSE text.
    Text,
    /// The data itself.
    Data { event: Option<String>, id: Option<String> },
}

/// A publish that waits for room in the inboxes of the topic's listeners.
#[derive(Debug)]
pub struct Pending {
    topic: TopicName,
    drafts: Vec<Draft>,
    /// Whose publish it is.
    pub holder: Option<Holder>,
}

impl Pending {
    /// What it costs in memory while it waits.
    pub fn cost(&self) -> usize {
        self.drafts.iter().map(Draft::cost).sum()
    }
}

pub(super) fn plan(topic: &str, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let topic = TopicName::parse(topic).map_err(|bad| Problem::bad_request(bad.to_string()))?;
    let grant = admit(Role::Publisher, head, context)?;
    demand_topic(&grant, &topic)?;
    if !head.has_framing {
        return Err(Problem::new(411, "a publish needs a body with a Content-Length, or a chunked one"));
    }
    let kind = if is_data(head.content_type) {
        let query = head.target.query;
        Kind::Data { event: query.get("event")?, id: query.get("id")? }
    } else {
        Kind::Text
    };
    Ok(Plan::Publish(Request { topic, kind, expires: grant.expires(), holder: grant.holder() }))
}

/// Whether a media type says that the body is the data.
fn is_data(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|text| is_media_type(text, "application/json") || is_media_type(text, "text/plain"))
}

pub(super) fn finish(request: &Request, body: &[u8], context: Context<'_>) -> Outcome {
    let drafts = match drafts(&request.kind, body) {
        Ok(drafts) => drafts,
        Err(problem) => return Outcome::Answer(refused(PublishRefusal::Invalid, problem, context).into()),
    };
    // Once, before it may have to wait for room.
    match demand_pace(request.holder, drafts.len(), context) {
        Ok(()) => try_publish(Pending { topic: request.topic, drafts, holder: request.holder }, context),
        Err(problem) => Outcome::Answer(refused(PublishRefusal::Rate, problem, context).into()),
    }
}

fn drafts(kind: &Kind, body: &[u8]) -> Result<Vec<Draft>, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    let drafts = match kind {
        Kind::Text => drafts_from_text(text),
        Kind::Data { event, id } => drafts_from_data(text, event.as_deref(), id.as_deref()),
    };
    let drafts = drafts.map_err(|error| Problem::bad_request(error.to_string()))?;
    // More could never go: ids would run ahead of the clock.
    if drafts.len() as u64 > MAX_AHEAD {
        return Err(Problem::new(413, "the body has more than 250000 events; send them in several bodies"));
    }
    Ok(drafts)
}

/// Counts a publish that is refused.
fn refused(why: PublishRefusal, problem: Problem, context: Context<'_>) -> Problem {
    context.service.metrics.worker(context.worker).publishes_refused.count(why as usize);
    problem
}

/// Publishes, or gives the publish back to wait.
pub fn try_publish(pending: Pending, context: Context<'_>) -> Outcome {
    if context.service.is_draining() {
        return Outcome::Answer(refused(PublishRefusal::Draining, super::draining(), context).into());
    }
    let Pending { topic, drafts, holder } = pending;
    match context.service.hub.publish(&topic, drafts, context.now.id_micros, Some(context.worker)) {
        Ok(published) => {
            context.service.store.note_id(published.id);
            Outcome::Answer(accepted(published))
        }
        Err(Refused::NoRoom(drafts)) => Outcome::Wait(Pending { topic, drafts, holder }),
        Err(Refused::TooManyTopics) => {
            Outcome::Answer(refused(PublishRefusal::Topics, too_many_topics(), context).into())
        }
    }
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

fn too_many_topics() -> Problem {
    Problem::unavailable("there are as many topics as --max-topics allows; try again when some have aged away", 5)
}

/// The answer when waiting for room took too long.
pub fn no_room(context: Context<'_>) -> Problem {
    let detail = "the broker can't keep up with this topic now; nothing was published, try again";
    refused(PublishRefusal::Room, Problem::unavailable(detail, 1), context)
}

#[cfg(test)]
mod tests {
    use super::is_data;

    #[test]
    fn two_media_types_mean_data() {
        for data in ["application/json", "TEXT/plain; charset=utf-8", " application/json ;x=y"] {
            assert!(is_data(Some(data)), "{data}");
        }
        for text in [
            None,
            Some(""),
            Some("text/event-stream"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonl"),
        ] {
            assert!(!is_data(text), "{text:?}");
        }
    }
}
