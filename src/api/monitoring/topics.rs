//! `GET /topics` and `GET /topics/{topic}`: returns what topics have at this broker, all of them in pages, or one.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::hub::{Slot, TopicName, TopicPage, TopicStatus};

use super::stats;
use crate::api::authorize::{authorize, require_name};
use crate::api::query::{number, page_limit};
use crate::api::{Context, Plan};

/// The default number of topics on a page.
const DEFAULT_LIMIT: usize = 100;
/// The maximum number of topics on a page: a few hundred kilobytes.
const MAX_LIMIT: usize = 1000;
/// The length of a topic's object, unless its name is long. A page of such objects is allocated once.
const USUAL_OBJECT: usize = 160;

pub(in crate::api) fn plan(topic: Option<&str>, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let topic = topic.map(TopicName::parse).transpose().map_err(|error| Problem::bad_request(error.to_string()))?;
    require_name(&authorize(Role::Publisher, head, context)?, stats::NAME)?;
    let response = match topic {
        Some(topic) => Response::json(Json(&context.service.hub.topic_status(&topic)).to_string()),
        None => page(head, context)?,
    };
    Ok(Plan::Respond(response))
}

/// Returns a page of all topics, and a link to the next one (RFC 8288).
fn page(head: &Head<'_>, context: Context<'_>) -> Result<Response, Problem> {
    let limit = page_limit(head, DEFAULT_LIMIT, MAX_LIMIT)?;
    // No topic is after the last slot.
    let after = number(head, "after")?.map(|after| Slot::try_from(after).unwrap_or(Slot::MAX));
    let TopicPage { topics, next } = context.service.hub.topics(after, limit);
    let mut text = String::with_capacity(topics.len() * USUAL_OBJECT + USUAL_OBJECT);
    text.push_str("{\"topics\":[");
    for (at, status) in topics.iter().enumerate() {
        // Writing to a string never fails.
        let _ = write!(text, "{}{}", if at == 0 { "" } else { "," }, Json(status));
    }
    text.push_str("]}");
    let response = Response::json(text);
    Ok(match next {
        Some(last) => response.field("Link", format!("</topics?after={last}&limit={limit}>; rel=\"next\"")),
        None => response,
    })
}

/// Writes a topic as a JSON object. A name needs no escapes. Ids are strings, because they are too large for the numbers of
/// JavaScript.
struct Json<'a>(&'a TopicStatus);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let TopicStatus { name, subscribers, events, bytes, published, ids } = self.0;
        write!(f, "{{\"topic\":\"{}\",\"subscribers\":{subscribers},\"events\":{events},", name.as_str())?;
        write!(f, "\"bytes\":{bytes},\"published\":{published},")?;
        match ids {
            Some((oldest, newest)) => write!(f, "\"oldest\":\"{oldest}\",\"newest\":\"{newest}\"}}"),
            None => f.write_str("\"oldest\":null,\"newest\":null}"),
        }
    }
}
