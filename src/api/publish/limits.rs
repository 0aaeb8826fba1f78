//! Notes for the log which limits a publish has reached.

use super::{PausedPublish, PublishRefusal, Request, no_room};
use crate::api::Context;
use crate::http::Problem;
use crate::hub::TopicName;
use crate::quota::Limit;

/// Notes that a publish to this topic is refused because of a limit.
pub(super) fn note(limit: Limit, topic: &TopicName, context: Context<'_>) {
    context.note_limit(limit, &format_args!("POST /publish/{}", topic.as_str()));
}

/// Notes the limit because of which a publish is refused, if it is because of one.
pub(super) fn note_refusal(why: PublishRefusal, problem: &Problem, topic: &TopicName, context: Context<'_>) {
    match why {
        // A body with more events than the burst is refused for good, with 413.
        PublishRefusal::Rate if problem.status == 429 => note(Limit::PublishRate, topic, context),
        PublishRefusal::Topics => note(Limit::Topics, topic, context),
        _ => {}
    }
}

/// Notes whether a publish has made the history reach its limit on bytes.
pub(super) fn note_evictions(topic: &TopicName, context: Context<'_>) {
    let request = || Some(format!("POST /publish/{} from {}", topic.as_str(), context.client()));
    let Context { service, now, .. } = context;
    service.limits.refuse_up_to(Limit::History, service.hub.evicted_for_bytes(), now.millis, request);
}

impl Request {
    /// Notes that the body is refused, because bodies take too much memory.
    pub(in crate::api) fn note_body_limit(&self, context: Context<'_>) {
        note(Limit::Bodies, &self.topic, context);
    }
}

impl PausedPublish {
    /// Refuses a publish that has waited too long for room in the hub.
    pub fn time_out(&self, context: Context<'_>) -> Problem {
        no_room(Limit::Backlog, &self.request.topic, context)
    }
}
