//! Subscribing from within the process: a blocking iterator over the events of some topics.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::received::ReceivedEvent;
use crate::api::Service;
use crate::api::subscribe::MAX_TOPICS;
use crate::hub::{
    self, Hub, JoinLocalError, LocalSubscriber, LocalSubscription, ParseTopicError, Taken, TopicFrame, TopicName,
};

/// Requests everything that is retained: see [`hub::Position`].
const EVERYTHING: &str = "0";

/// How long a subscription waits for what the log has.
const BARRIER_WAIT: Duration = Duration::from_secs(3);

/// Where a [`Subscription`] starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartFrom<'a> {
    /// With the next event.
    #[default]
    Now,
    /// After the event with this id, which may be the broker's or a publisher's. If events after it are no longer retained,
    /// or the id is unknown, the subscription starts with a [`Received::Gap`] and everything retained.
    After(&'a str),
    /// With the oldest event retained.
    Oldest,
}

/// What a [`Subscription`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// An event.
    Event(ReceivedEvent),
    /// Events were missed, because they are no longer retained. Everything that is still retained follows.
    Gap {
        /// The id of the oldest event still retained in these topics.
        oldest: Option<u64>,
    },
}

impl Received {
    /// Returns the event. `None` for a gap.
    pub fn into_event(self) -> Option<ReceivedEvent> {
        match self {
            Self::Event(event) => Some(event),
            Self::Gap { .. } => None,
        }
    }
}

/// Why a subscription has nothing to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// There is no event yet.
    Empty,
    /// The broker has shut down, and everything published before was returned.
    Closed,
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "there is no event yet",
            Self::Closed => "the broker has shut down",
        })
    }
}

impl std::error::Error for ReceiveError {}

/// Why a subscription can't start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// A topic's name is invalid.
    Topic(ParseTopicError),
    /// No topic was given.
    NoTopic,
    /// More topics were given than one stream may have: 64.
    ManyTopics,
    /// A topic is new, and the broker has as many topics as [`Config::max_topics`](crate::Config::max_topics) allows.
    TooManyTopics,
    /// The broker is shutting down.
    Draining,
    /// The engine can't be reached, and the broker alone does not know the position.
    Engine,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(error) => error.fmt(f),
            Self::NoTopic => f.write_str("there is no topic to subscribe to; give at least one"),
            Self::ManyTopics => write!(f, "a subscription has at most {MAX_TOPICS} topics; use several subscriptions"),
            Self::TooManyTopics => {
                f.write_str("there are as many topics as `max_topics` allows; try again when some have expired")
            }
            Self::Draining => f.write_str("the broker is shutting down"),
            Self::Engine => f.write_str(
                "the broker can't reach the engine, and does not know the position without it; subscribe again later",
            ),
        }
    }
}

impl std::error::Error for SubscribeError {}

/// The events of one or several topics, in the broker's order: see [`Broker::subscribe`](crate::Broker::subscribe).
///
/// As an iterator it blocks until there is an event, and ends when the broker shuts down.
#[derive(Debug)]
#[must_use = "a subscription does nothing unless it is read"]
pub struct Subscription {
    hub: Shared,
    subscriber: Arc<LocalSubscriber>,
    /// The id of the last event that was returned.
    cursor: u64,
    gap: Option<hub::Gap>,
    frames: VecDeque<TopicFrame>,
}

/// The hub, whose `Debug` output is empty.
struct Shared(Arc<Hub>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hub")
    }
}

/// Waits until the broker has received what the log has, if the position may be of an event that it has not yet received.
fn wait_for_log(service: &Service, topics: &[TopicName], position: hub::Position<'_>) -> Result<(), SubscribeError> {
    let Some(engine) = service.engine.as_ref().filter(|_| service.hub.needs_barrier(topics, position)) else {
        return Ok(());
    };
    let (sender, reply) = crossbeam_channel::bounded(1);
    engine.barrier(move |is_reached| {
        let _ = sender.send(is_reached);
    });
    if reply.recv_timeout(BARRIER_WAIT).unwrap_or(false) { Ok(()) } else { Err(SubscribeError::Engine) }
}

impl Subscription {
    pub(super) fn start(service: &Service, topics: &[TopicName], from: StartFrom<'_>) -> Result<Self, SubscribeError> {
        if topics.is_empty() {
            return Err(SubscribeError::NoTopic);
        }
        if topics.len() > MAX_TOPICS {
            return Err(SubscribeError::ManyTopics);
        }
        let position = match from {
            StartFrom::Now => hub::Position::Live,
            StartFrom::After(id) => hub::Position::After(id),
            StartFrom::Oldest => hub::Position::After(EVERYTHING),
        };
        wait_for_log(service, topics, position)?;
        let hub = &service.hub;
        let LocalSubscription { subscriber, cursor, gap } =
            hub.join_local(topics, position).map_err(|error| match error {
                JoinLocalError::TooManyTopics => SubscribeError::TooManyTopics,
                JoinLocalError::Closed => SubscribeError::Draining,
            })?;
        Ok(Self { hub: Shared(Arc::clone(hub)), subscriber, cursor, gap, frames: VecDeque::new() })
    }

    /// Returns the next event without waiting.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::Empty`] if there is none yet, [`ReceiveError::Closed`] if there will be no more.
    pub fn try_recv(&mut self) -> Result<Received, ReceiveError> {
        loop {
            if let Some(hub::Gap { oldest }) = self.gap.take() {
                return Ok(Received::Gap { oldest });
            }
            if let Some((slot, frame)) = self.frames.pop_front() {
                self.cursor = frame.id();
                let topic = self.subscriber.topic(slot);
                return Ok(Received::Event(ReceivedEvent::new(topic, &frame)));
            }
            match self.subscriber.take(&mut self.frames) {
                Taken::Frames if self.frames.is_empty() => return Err(ReceiveError::Empty),
                Taken::Frames => {}
                Taken::Behind => self.gap = self.hub.0.catch_up(&self.subscriber, &mut self.cursor, &mut self.frames),
                Taken::Closed => return Err(ReceiveError::Closed),
            }
        }
    }

    /// Waits for the next event, but no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::Empty`] if there was none in time, [`ReceiveError::Closed`] if there will be no more.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Received, ReceiveError> {
        match self.try_recv() {
            Err(ReceiveError::Empty) => {
                self.subscriber.wait(Some(timeout));
                self.try_recv()
            }
            received => received,
        }
    }
}

impl Iterator for Subscription {
    type Item = Received;

    /// Waits for the next event. `None` when the broker has shut down.
    fn next(&mut self) -> Option<Received> {
        loop {
            match self.try_recv() {
                Ok(received) => return Some(received),
                Err(ReceiveError::Closed) => return None,
                Err(ReceiveError::Empty) => self.subscriber.wait(None),
            }
        }
    }
}

impl std::iter::FusedIterator for Subscription {}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.0.leave_local(&self.subscriber);
    }
}
