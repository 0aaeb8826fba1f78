//! An event as a subscription of this process receives it.

use std::sync::Arc;

use crate::hub::TopicName;
use crate::sse::{Frame, Framing};

/// An event that a [`Subscription`](crate::Subscription) received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedEvent {
    topic: Option<TopicName>,
    id: u64,
    publisher_id: Option<Arc<str>>,
    name: Option<String>,
    data: String,
}

impl ReceivedEvent {
    /// Reads a frame's lines back: each is `field: value`, as the broker writes them.
    pub(super) fn new(topic: Option<TopicName>, frame: &Frame) -> Self {
        let text = std::str::from_utf8(frame.wire(Framing::Plain)).unwrap_or_default();
        let fields = || text.split('\n').filter_map(|line| line.split_once(": "));
        let name = fields().rfind(|(field, _)| *field == "event").map(|(_, name)| name.to_owned());
        let lines: Vec<_> = fields().filter(|(field, _)| *field == "data").map(|(_, line)| line).collect();
        Self { topic, id: frame.id(), publisher_id: frame.publisher_id().cloned(), name, data: lines.join("\n") }
    }

    /// Returns the topic it was published to, in lower case.
    pub fn topic(&self) -> &str {
        self.topic.as_ref().map_or("", TopicName::as_str)
    }

    /// Returns the broker's id, by which a later subscription can resume.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the id that the publisher gave it.
    pub fn publisher_id(&self) -> Option<&str> {
        self.publisher_id.as_deref()
    }

    /// Returns the event's name, the `event` field. `None` means `message`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the data; lines are separated by LF.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// Returns the data.
    pub fn into_data(self) -> String {
        self.data
    }
}
