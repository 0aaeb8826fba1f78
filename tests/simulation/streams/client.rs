//! A subscriber to topics: what it asked for, what it has received, and what it may miss.

use std::collections::BTreeSet;

use esker::internals::stream::{PendingSubscription, Streams};

use super::super::parser::{Stream, StreamItem};
use super::history::{Event, History, TOPICS};
use super::socket::Socket;

pub struct Client {
    pub worker: usize,
    /// `None` until the worker serves it.
    pub key: Option<u32>,
    pub ticket: Option<PendingSubscription>,
    pub socket: Socket,
    pub topics: BTreeSet<usize>,
    pub stream: Stream,
    /// Its socket accepts everything at once, and the worker serves it from the beginning.
    pub is_fast: bool,
    /// Its stream ends with its first events.
    pub is_poll: bool,
    pub seen_through: u64,
    /// Per topic, the evictions that it knew of when it subscribed.
    pub known: [u64; TOPICS.len()],
    /// Per topic, the evictions that gaps may have reported by now.
    pub reported: [u64; TOPICS.len()],
    pub events: usize,
    pub gaps: usize,
    /// The second in which its token expires.
    pub expires: Option<u64>,
    pub has_expired: bool,
    /// The last chunk has arrived.
    pub has_ended: bool,
    /// The second in which its worker noticed that, and the events received by then.
    pub expiry: Option<(u64, usize)>,
}

impl Client {
    /// Has its worker serve it, unless it does already.
    pub fn attach(&mut self, streams: &mut Streams<Socket>, millis: u32) {
        let Some(ticket) = self.ticket.take() else { return };
        self.key = Some(streams.next_key());
        streams.start(ticket, self.socket.clone(), millis);
    }

    /// Reads what has arrived since the last call, and checks it against the history.
    pub fn read(&mut self, history: &History) {
        for item in self.stream.feed(&self.socket.take_received()) {
            assert!(!self.has_expired || item == StreamItem::End, "{item:?} follows the expiry");
            match item {
                StreamItem::Gap { .. } => self.take_gap(history),
                StreamItem::Expired => self.has_expired = true,
                StreamItem::Event { id, data, .. } => {
                    self.take_event(history, &id, data.parse().expect("data is a number"));
                }
                StreamItem::Prime { .. } => panic!("nobody has asked for the newest id"),
                StreamItem::Erased { .. } => panic!("nobody erases records"),
                StreamItem::End => self.has_ended = true,
            }
        }
    }

    fn take_event(&mut self, history: &History, shown_id: &str, serial: usize) {
        let at = history.all.binary_search_by_key(&serial, |event| event.serial).expect("it was published");
        let Event { id, topic, publisher_id, .. } = &history.all[at];
        assert_eq!(shown_id, publisher_id.clone().unwrap_or_else(|| id.to_string()));
        assert!(self.topics.contains(topic), "an event of another topic");
        assert!(*id > self.seen_through, "{id} after {}: duplicated or out of order", self.seen_through);
        self.assert_nothing_missed(history, *id);
        self.seen_through = *id;
        self.events += 1;
    }

    /// A full socket has some seconds for the frame that is partly written, and for the final event.
    pub fn assert_ends_with_its_token(&mut self, second: u64, is_closed: bool) {
        const GRACE: u64 = 2;
        if self.is_poll && is_closed && !self.has_expired {
            return;
        }
        let is_due = self.key.is_some() && self.expires.is_some_and(|expires| expires <= second);
        if is_due {
            self.expiry.get_or_insert((second, self.events));
        }
        let Some((noticed, events)) = self.expiry else {
            return assert!(!self.has_expired, "a stream ends before its token");
        };
        assert!(self.events <= events + 1, "events follow the expiry");
        assert!(is_closed || noticed + GRACE > second, "a stream outlives its token");
        let is_ready = self.is_fast && !self.socket.is_dead();
        assert!(self.has_expired || !is_ready, "a stream ends without its final event");
        assert!(is_closed || !is_ready, "a stream that accepts everything outlives its token");
    }

    /// A poll that accepts everything ends with its first events, in the same write.
    pub fn assert_ends_with_its_events(&self, is_closed: bool) {
        let is_whole = self.is_fast && self.is_poll && !self.socket.is_dead();
        assert!(!is_whole || self.events == 0 || is_closed, "a poll outlives its first events");
        assert!(!is_whole || !is_closed || self.has_ended || !self.stream.is_chunked(), "a poll ends without its end");
    }

    /// Every event before `end` was received, or is among the evictions that were reported.
    pub fn assert_nothing_missed(&self, history: &History, end: u64) {
        let begin = history.all.partition_point(|event| event.id <= self.seen_through);
        for Event { id, topic, .. } in &history.all[begin..] {
            if *id < end && self.topics.contains(topic) && *id > self.reported[*topic] {
                panic!("{id} is missing before {end}, after {}", self.seen_through);
            }
        }
    }

    /// A gap must be true: something was evicted that was not known at the beginning. Which of two consecutive gaps reported
    /// which eviction cannot be seen here: the first may have been partly written for long.
    fn take_gap(&mut self, history: &History) {
        let is_lost = |Event { id, topic, .. }: &Event| {
            *id > self.seen_through.max(self.known[*topic]) && *id <= history.evicted_through[*topic]
        };
        assert!(
            history.all.iter().any(|event| self.topics.contains(&event.topic) && is_lost(event)),
            "a gap after {} without a loss",
            self.seen_through
        );
        assert!(!self.is_fast, "a client that reads everything at once has no gap");
        self.reported = history.evicted_through;
        self.gaps += 1;
    }
}
