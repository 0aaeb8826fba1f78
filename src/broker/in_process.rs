//! What a program can do with its broker without a connection: publish, subscribe, insert.

use std::time::Duration;

#[cfg(any(feature = "records", feature = "engine"))]
use super::InsertError;
use super::{Broker, PublishError, Published, StartFrom, SubscribeError, Subscription};
#[cfg(any(feature = "records", feature = "engine"))]
use super::{Insert, Inserted};
#[cfg(any(feature = "records", feature = "engine"))]
use crate::api::erase::{self, EraseError, Erased};
#[cfg(any(feature = "records", feature = "engine"))]
use crate::api::record;
use crate::api::revoke::{RevokeError, Revoked};
use crate::api::subscribe::MAX_TOPICS;
use crate::api::{Service, publish};
use crate::auth::Revocation;
use crate::engine::{Engine, EngineError, Sequenced};
use crate::hub::{Refused, TopicName};
#[cfg(any(feature = "records", feature = "engine"))]
use crate::records::insert::{InsertOutcome, InsertRequest};
use crate::sse::{Event, MAX_EVENTS, UnsequencedFrame};

impl Broker {
    /// Publishes one event, as `POST /publish/{topic}` does, without waiting. With an engine, waits until the event is in the
    /// log of the engine and in the history of this broker: usually for milliseconds, for 35 s at most.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use esker::{Broker, Config, Event};
    /// # let broker = Broker::start(Config::new().no_auth(true).in_memory().port(0))?;
    /// let event = Event::new("21.5").name("temperature").id("reading-17");
    /// assert!(!broker.publish("garden01", &event)?.is_duplicate());
    /// assert!(broker.publish("garden01", &event)?.is_duplicate());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the topic's name or the event is invalid, the broker can't accept the event now, or it is shutting down. Nothing is
    /// delivered then. Only after [`EngineError::Unknown`] the event may have been published: publish it again with the same
    /// id, if it has one.
    pub fn publish(&self, topic: &str, event: &Event) -> Result<Published, PublishError> {
        self.publish_many(topic, [event])
    }

    /// Publishes several events together, in order, or none of them. No other event comes between them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use esker::{Broker, Config, Event};
    /// # let broker = Broker::start(Config::new().no_auth(true).in_memory().port(0))?;
    /// let events = ["ready", "steady", "go"].map(Event::new);
    /// assert_eq!(broker.publish_many("countdown", &events)?.events, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Broker::publish`], and [`PublishError::Count`] unless there are 1 to 10 000 events.
    pub fn publish_many<'a>(
        &self,
        topic: &str,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Published, PublishError> {
        let topic = TopicName::parse(topic).map_err(PublishError::Topic)?;
        let frames =
            events.into_iter().map(Event::to_frame).collect::<Result<Vec<_>, _>>().map_err(PublishError::Event)?;
        if !(1..=MAX_EVENTS).contains(&frames.len()) {
            return Err(PublishError::Count(frames.len()));
        }
        let service = &self.service.0;
        if service.is_draining() {
            return Err(PublishError::Draining);
        }
        if let Some(engine) = &service.engine {
            return publish_through(engine, service, &topic, &frames);
        }
        let published = service.publish(&topic, frames, self.clock.now().id_micros, None);
        published.map_err(|refused| match refused {
            Refused::Backpressure(_) => PublishError::Full,
            Refused::TooManyTopics => PublishError::TooManyTopics,
        })
    }

    /// Subscribes to topics, without a connection and without a token.
    ///
    /// A slow reader delays neither publishers nor other subscribers. It catches up from the retained history, and gets a
    /// [`Received::Gap`](crate::Received::Gap) if events it missed are no longer retained.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use esker::{Broker, Config, Event, Received, StartFrom};
    ///
    /// let broker = Broker::start(Config::new().no_auth(true).in_memory().port(0))?;
    /// let subscription = broker.subscribe(["greeting1"], StartFrom::Now)?;
    /// let reader = std::thread::spawn(move || {
    ///     for received in subscription {
    ///         match received {
    ///             Received::Event(event) => println!("{}: {}", event.id(), event.data()),
    ///             Received::Gap { .. } => println!("some events were missed"),
    ///             _ => {}
    ///         }
    ///     }
    /// });
    /// broker.publish("greeting1", &Event::new("hello"))?;
    /// broker.shutdown();
    /// reader.join().expect("the reader ends with the broker");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// With an engine, waits for up to three seconds if the position may be of an event that this broker has not yet received.
    ///
    /// # Errors
    ///
    /// If there is no topic, or more than 64, a name is invalid, the broker has too many topics, it is shutting down, or it must
    /// ask the engine about the position and can't.
    pub fn subscribe<T: AsRef<str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
        from: StartFrom<'_>,
    ) -> Result<Subscription, SubscribeError> {
        // One more than allowed is enough to find out that there are too many.
        let topics = topics.into_iter().take(MAX_TOPICS + 1).map(|topic| TopicName::parse(topic.as_ref()));
        let topics = topics.collect::<Result<Vec<_>, _>>();
        Subscription::start(&self.service.0, &topics.map_err(SubscribeError::Topic)?, from)
    }

    /// Revokes tokens, as `POST /revoke` does: they are rejected from now on, and their streams end. With an engine, this applies
    /// to all brokers; otherwise it survives a restart if records are stored in a directory.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use esker::{Broker, Config, Revocation};
    /// # let config = Config::new().publisher_secret([1_u8; 32]).subscriber_secret([2_u8; 32]).in_memory().port(0);
    /// let broker = Broker::start(config)?;
    /// broker.revoke(Revocation::sub("user:42")?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the broker requires no tokens, or if the revocation can't be stored. In the second case, this broker rejects the
    /// tokens, but other brokers, or this one after a restart, may accept them.
    pub fn revoke(&self, revocation: Revocation) -> Result<(), RevokeError> {
        let service = &self.service.0;
        let revoked = Revoked::begin(revocation, self.clock.now().unix_seconds(), service)?;
        let (sender, reply) = crossbeam_channel::bounded(1);
        revoked.keep(service, move |kept| {
            let _ = sender.send(kept);
        });
        let timeout = Duration::from_millis(publish::REPLY_MILLIS);
        let kept = reply.recv_timeout(timeout).unwrap_or_else(|_| Err(RevokeError::Engine(publish::no_reply())));
        kept.map(drop)
    }

    /// Erases the versions of a record, as `DELETE /audit/{event}` does: those with a smaller id than `before`, or all. Returns
    /// their number when their text is in none of the broker's files.
    ///
    /// A broker whose SQLite was built with `-DSQLITE_ENABLE_DBPAGE_VTAB` clears its database page by page, while inserts go on.
    /// Esker's own builds set this flag in `LIBSQLITE3_FLAGS`, in `.cargo/config.toml`. Without it, which is the default for a
    /// crate that embeds the broker, the whole database is rewritten with `VACUUM`: inserts wait for that, seconds for each
    /// gigabyte, and the disk needs room for two copies.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use esker::{Broker, Config};
    /// let broker = Broker::start(Config::new().no_auth(true).in_memory().port(0))?;
    /// broker.insert("user", r#"{"name":"Ada"}"#)?;
    /// let newest = broker.insert("user", "null")?;
    /// assert_eq!(broker.erase("user", Some(newest))?, 1);
    /// assert_eq!(broker.erase("user", None)?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the name is invalid, the store can't erase the versions now, there are no records, or the broker is shutting down.
    /// After an error of the store, a part of the versions may be erased, and the store may continue: repeat the call.
    #[cfg(any(feature = "records", feature = "engine"))]
    pub fn erase(&self, name: &str, before: Option<u64>) -> Result<u64, EraseError> {
        let service = &self.service.0;
        if service.is_draining() {
            return Err(EraseError::Draining);
        }
        record::check_name(name).map_err(|problem| EraseError::Name(problem.detail.into()))?;
        let (sender, reply) = crossbeam_channel::bounded(1);
        erase::run(name.into(), before, service, move |erased| {
            let _ = sender.send(erased);
        });
        reply.recv().unwrap_or(Err(EraseError::Draining)).map(|Erased { versions, .. }| versions)
    }

    /// Stores one record, as `POST /insert` does, and publishes it. `json` is the record's data. Returns the record's id when
    /// the record is on the disk.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use esker::{Broker, Config};
    /// let broker = Broker::start(Config::new().no_auth(true).in_memory().port(0))?;
    /// let first = broker.insert("user", r#"{ "name": "Ada" }"#)?;
    /// assert!(broker.insert("user", "null")? > first);
    /// assert!(broker.insert("user", "no JSON").is_err() && broker.insert("", "1").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the name or the data is invalid, the store can't accept the record, there are no records, or the broker is shutting
    /// down.
    #[cfg(any(feature = "records", feature = "engine"))]
    pub fn insert(&self, name: &str, json: &str) -> Result<u64, InsertError> {
        self.insert_if(&Insert::new(name, json)).map(|inserted| inserted.id)
    }

    /// Stores one record if a condition holds, or only once, as `POST /insert` does with `If-Match`, `If-None-Match` and
    /// `Idempotency-Key`. No other insert comes between the judgement and the record.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use esker::{Broker, Config};
    /// use esker::{Insert, InsertError};
    ///
    /// # let broker = Broker::start(Config::new().no_auth(true).in_memory().port(0))?;
    /// let first = broker.insert_if(&Insert::new("user", "1").absent())?.id;
    /// let second = broker.insert_if(&Insert::new("user", "2").newest_is(first).idempotency_key("a retry is harmless"))?.id;
    /// // The retry.
    /// let again = broker.insert_if(&Insert::new("user", "2").newest_is(first).idempotency_key("a retry is harmless"))?;
    /// assert!(again.is_duplicate && again.id == second);
    /// // Somebody else who still knows the first version.
    /// let late = broker.insert_if(&Insert::new("user", "3").newest_is(first));
    /// assert_eq!(late, Err(InsertError::Conflict { newest: Some(second) }));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Broker::insert`]; [`InsertError::Conflict`] if the condition does not hold, and [`InsertError::Key`] or
    /// [`InsertError::KeyReused`] if the key can't be used. Nothing is stored then.
    #[cfg(any(feature = "records", feature = "engine"))]
    pub fn insert_if(&self, insert: &Insert<'_>) -> Result<Inserted, InsertError> {
        let service = &self.service.0;
        if service.is_draining() {
            return Err(InsertError::Draining);
        }
        if !service.has_records() {
            return Err(InsertError::Off);
        }
        if !service.hub.has_room_for_records() {
            return Err(InsertError::Full);
        }
        let request = insert.to_request()?;
        let outcome = match (&service.engine, &service.store) {
            (Some(engine), _) => insert_through(engine, request)?,
            (None, Some(store)) => {
                let (sender, reply) = crossbeam_channel::bounded(1);
                store.insert(request, move |outcome| {
                    let _ = sender.send(outcome);
                });
                let outcome = reply.recv().map_err(|_| InsertError::Draining)?;
                outcome.map_err(InsertError::Store)?
            }
            (None, None) => return Err(InsertError::Off),
        };
        Inserted::from_outcome(outcome)
    }
}

/// Stores a record through the engine, and waits for its reply.
#[cfg(any(feature = "records", feature = "engine"))]
fn insert_through(engine: &Engine, request: InsertRequest) -> Result<InsertOutcome, InsertError> {
    let (sender, reply) = crossbeam_channel::bounded(1);
    engine.insert(request, move |result| {
        let _ = sender.send(result);
    });
    let timeout = Duration::from_millis(publish::REPLY_MILLIS);
    match reply.recv_timeout(timeout).unwrap_or_else(|_| Err(publish::no_reply())) {
        Ok(outcome) => Ok(outcome),
        Err(EngineError::Closed) => Err(InsertError::Draining),
        Err(error) => Err(InsertError::Engine(error)),
    }
}

/// Publishes through the engine, and waits for its reply.
fn publish_through(
    engine: &Engine,
    service: &Service,
    topic: &TopicName,
    frames: &[UnsequencedFrame],
) -> Result<Published, PublishError> {
    if !service.hub.can_publish(topic) {
        return Err(PublishError::TooManyTopics);
    }
    let (sender, reply) = crossbeam_channel::bounded(1);
    engine.publish(publish::encode(topic, frames), move |result| {
        let _ = sender.send(result);
    });
    let timeout = Duration::from_millis(publish::REPLY_MILLIS);
    match reply.recv_timeout(timeout).unwrap_or_else(|_| Err(publish::no_reply())) {
        Ok(Sequenced { id, events }) => Ok(Published { id, events, subscribers: service.hub.subscribers_of(topic) }),
        Err(EngineError::Closed) => Err(PublishError::Draining),
        Err(error) => Err(PublishError::Engine(error)),
    }
}
