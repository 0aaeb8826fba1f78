//! How streams close: because their token has expired or was revoked, because they have reached their maximum age, because they
//! were polls, or because the broker drains. A subscriber that is ready gets the stream's end and is closed. One whose socket is
//! full has some time to accept what is due to it.

use std::io::IoSlice;

use crate::auth::Revocations;
use crate::net::Socket;
use crate::sse::{Frame, Framing, stream};
use crate::stream::budget::CHECKS_PER_ITERATION;
use crate::stream::keys::SubscriberKey;
use crate::stream::polls;
use crate::stream::subscriber::{Closing, Ending, PartialWrite, SendState, WriteOutcome};
use crate::stream::{Close, Streams};

/// How long after the end of its stream a full socket may accept the rest of an interrupted frame and the stream's last bytes.
const GRACE_SECONDS: u64 = 2;
/// A drain does not wait for a full socket that accepts no data for this long.
const DRAIN_PATIENCE_MILLIS: u32 = 2_000;

/// The reason of an `expired` event.
const TOKEN_EXPIRED: &str = "token expired";
/// The reason of an `expired` event that comes early.
const TOKEN_REVOKED: &str = "token revoked";

/// How far a drain has got.
#[derive(Debug, Default)]
pub struct Drain {
    /// Its position in the slab.
    next: SubscriberKey,
    /// The streams that it has looked at.
    looked_at: usize,
}

impl<S: Socket> Streams<S> {
    /// Drains in slices, until `due` streams have had their turn since the beginning: closes at most `budget` of those that have
    /// got everything, with the last chunk. Those whose sockets are full are looked at again in another round, until the caller's
    /// time is up. Returns whether this round is unfinished although more streams are due.
    pub fn drain(&mut self, due: usize, budget: usize, now: u32) -> bool {
        let mut closed = 0;
        let begin = self.drain.next;
        for key in begin..begin + CHECKS_PER_ITERATION as SubscriberKey {
            if self.drain.looked_at >= due {
                return false;
            }
            if key >= self.subscribers.bound() {
                self.drain.next = 0;
                return false;
            }
            self.drain.next = key + 1;
            let Some(subscriber) = self.subscribers.get(key) else { continue };
            self.drain.looked_at += 1;
            if subscriber.is_ready() || subscriber.silent_for(now) >= DRAIN_PATIENCE_MILLIS {
                self.drain_one(key, now);
                closed += 1;
            }
            if closed == budget {
                break;
            }
        }
        true
    }

    fn drain_one(&mut self, key: SubscriberKey, now: u32) {
        let subscriber = &mut self.subscribers[key];
        let last = stream::end(self.groups[subscriber.group()].framing());
        if subscriber.is_ready() && !last.is_empty() {
            subscriber.write(&[IoSlice::new(last)], last.len(), now);
        }
        self.remove(key, Close::Drained);
    }

    /// Looks for streams whose tokens were revoked, in slices, and makes them expire. Returns whether there may be more.
    pub fn revoke(&mut self, revocations: &Revocations) -> bool {
        self.subscribers.take_revoked(revocations)
    }

    /// Closes the streams whose tokens have expired or were revoked, or which have reached their maximum age, in slices. Returns whether there
    /// are more.
    pub fn expire(&mut self, unix_seconds: u64, now: u32) -> bool {
        for key in self.subscribers.take_expired(unix_seconds) {
            let ending = if self.subscribers.is_revoked(key) { Ending::Revoked } else { Ending::Expired };
            self.begin_closing(key, ending, unix_seconds, now);
        }
        for key in self.subscribers.take_aged(unix_seconds) {
            self.begin_closing(key, Ending::Aged, unix_seconds, now);
        }
        self.subscribers.is_expiring()
    }

    fn begin_closing(&mut self, key: SubscriberKey, ending: Ending, unix_seconds: u64, now: u32) {
        let state = self.subscribers.take_state(key).unwrap_or_default();
        let closing = match state.closing {
            Closing::No | Closing::FinalPending(Ending::Polled | Ending::Idle) => Closing::FinalPending(ending),
            Closing::FinalStarted(Ending::Polled | Ending::Idle) => Closing::FinalStarted(ending),
            // Its grace is over.
            Closing::FinalPending(first) | Closing::FinalStarted(first) => return self.remove(key, first.into()),
        };
        if ending == Ending::Expired {
            self.counters.add_expired();
        }
        self.remove_from_ready_set(key);
        self.send_final(key, SendState { closing, ..state }, ending, now);
        if self.subscribers.get(key).is_some() {
            self.subscribers.set_grace(key, unix_seconds + GRACE_SECONDS);
        }
    }

    /// Writes once to a subscriber that is closing: the rest of an interrupted write and the stream's last bytes, but no
    /// further frame. Returns the number of bytes that the write was to have.
    pub(super) fn send_final(&mut self, key: SubscriberKey, state: SendState, ending: Ending, now: u32) -> usize {
        let Self { groups, subscribers, replica, counters, .. } = self;
        let subscriber = &mut subscribers[key];
        let group = &groups[subscriber.group()];
        let is_retained = |frame: &Frame| replica.has(group.source(), frame);
        let last = match state.closing {
            Closing::FinalStarted(_) => Vec::new(),
            Closing::No | Closing::FinalPending(_) => match (ending, group.poll()) {
                (Ending::Polled, Some(poll)) => polls::last_bytes(poll, subscriber.cursor(), group.framing()),
                (Ending::Idle, _) => polls::idle_bytes(replica, group.source(), subscriber.cursor(), group.framing()),
                _ => last_bytes(ending, group.framing()),
            },
        };
        let partial = state.partial.remaining(group.framing());
        let (partial_len, bytes) = (partial.len(), partial.len() + last.len());
        let [head, data, tail] = partial.parts().map(IoSlice::new);
        // Without chunks, an old stream and a poll end without a byte.
        let outcome = match bytes {
            0 => WriteOutcome::All,
            _ => subscriber.write(&[head, data, tail, IoSlice::new(&last)], bytes, now),
        };
        match outcome {
            WriteOutcome::All => {
                counters.add_write(0, bytes);
                self.remove(key, ending.into());
            }
            WriteOutcome::Blocked(written) => {
                counters.add_write(0, written);
                if !state.is_patient {
                    subscriber.socket_mut().set_patient(true);
                }
                let (partial, closing) = match written.checked_sub(partial_len) {
                    Some(offset) if !last.is_empty() => {
                        (PartialWrite::Own(last.into(), offset), Closing::FinalStarted(ending))
                    }
                    _ => (state.partial.advance(written), state.closing),
                };
                let state = SendState { partial, closing, is_blocked: true, is_patient: true, ..state };
                subscribers.put_state(key, state, is_retained);
            }
            WriteOutcome::Gone => self.remove(key, Close::Peer),
        }
        self.subscribers.check_state(key);
        bytes
    }
}

/// Returns what a stream ends with.
fn last_bytes(ending: Ending, framing: Framing) -> Vec<u8> {
    match ending {
        Ending::Expired => stream::expired(TOKEN_EXPIRED, framing),
        Ending::Revoked => stream::expired(TOKEN_REVOKED, framing),
        Ending::Aged | Ending::Polled | Ending::Idle => stream::end(framing).to_vec(),
    }
}

#[cfg(test)]
mod tests {

    use std::sync::Arc;

    use super::*;
    use crate::hub::{Hub, HubLimits, Position, TopicName, inbox};
    use crate::net::testing::TestSocket;
    use crate::quota::{StreamLimiter, StreamPermits};
    use crate::sse::UnsequencedFrame;
    use crate::stream::{PendingSubscription, Silence};

    struct Fixture {
        hub: Arc<Hub>,
        streams: Streams<TestSocket>,
        limiter: Arc<StreamLimiter>,
    }

    const LARGE: usize = 1 << 20;
    const EXPIRES: u64 = 100;
    const AGE_LIMIT: u64 = 50;

    impl Fixture {
        fn new() -> Self {
            let (outbox, inbox) = inbox(Box::new(|| {}));
            let limits = HubLimits {
                events_per_topic: 1,
                age_micros: u64::MAX,
                bytes: 4 * LARGE,
                topics: 9,
                subscribers: 999,
                latest_bytes: usize::MAX,
            };
            let hub = Arc::new(Hub::new(limits, vec![outbox], 1));
            let streams = Streams::new(Arc::clone(&hub), 0, inbox);
            Self { hub, streams, limiter: Arc::new(StreamLimiter::new(1)) }
        }

        fn admit(&mut self, subject: u64) -> PendingSubscription {
            let joined = self.hub.join(0, &[topic()], Position::Live).unwrap();
            let permit = self.limiter.acquire(subject).expect("the last permit was released");
            self.streams
                .admit(joined, Framing::Chunked, Some(EXPIRES))
                .with_permits(StreamPermits { by_sub: Some(permit), ..StreamPermits::default() })
        }

        fn subscribe(&mut self, subject: u64, room: usize) {
            let pending = self.admit(subject);
            self.streams.start(pending, TestSocket::with_room(room), 0);
            self.streams.serve(999, 0, &|| 0);
        }

        fn publish(&mut self, len: usize) {
            let mut writer = UnsequencedFrame::writer(len);
            writer.field("data", &"x".repeat(len));
            self.hub.publish(&topic(), vec![writer.finish(None)], 1, None).unwrap();
            self.streams.take_inbox();
            self.streams.serve(999, 0, &|| 0);
        }
    }

    fn topic() -> TopicName {
        TopicName::parse("topicone1").unwrap()
    }

    /// Opens a stream that reaches its maximum age in the second `AGE_LIMIT`.
    fn subscribe_with_age(fixture: &mut Fixture, framing: Framing, expires: Option<u64>, room: usize) {
        let joined = fixture.hub.join(0, &[topic()], Position::Live).unwrap();
        let pending = fixture.streams.admit(joined, framing, expires).with_age_limit(Some(AGE_LIMIT));
        fixture.streams.start(pending, TestSocket::with_room(room), 0);
        fixture.streams.serve(999, 0, &|| 0);
    }

    #[test]
    fn an_old_stream_gets_its_end_and_no_event() {
        for (framing, end) in [(Framing::Chunked, 5), (Framing::Plain, 0)] {
            let mut fixture = Fixture::new();
            subscribe_with_age(&mut fixture, framing, None, usize::MAX);
            assert_eq!(fixture.streams.next_end(), Some(AGE_LIMIT));
            fixture.streams.expire(AGE_LIMIT - 1, 0);
            assert_eq!(fixture.streams.len(), 1);
            fixture.streams.expire(AGE_LIMIT, 0);
            let counters = fixture.streams.take_counters();
            assert_eq!((counters.closed[Close::Aged as usize], counters.expired, counters.bytes), (1, 0, end));
            assert_eq!((fixture.streams.len(), fixture.streams.next_end()), (0, None));
        }
    }

    #[test]
    fn a_full_socket_has_its_grace_whatever_ends_the_stream_first() {
        for (expires, why) in [(None, Close::Aged), (Some(AGE_LIMIT - 1), Close::Expired), (Some(EXPIRES), Close::Aged)]
        {
            let mut fixture = Fixture::new();
            subscribe_with_age(&mut fixture, Framing::Chunked, expires, 1);
            fixture.publish(10);
            let end = expires.map_or(AGE_LIMIT, |expires| expires.min(AGE_LIMIT));
            for second in end..end + GRACE_SECONDS {
                fixture.streams.expire(second, 0);
                assert_eq!(fixture.streams.len(), 1, "{second}");
            }
            fixture.streams.expire(end + GRACE_SECONDS, 0);
            assert_eq!(fixture.streams.take_counters().closed[why as usize], 1);
            assert_eq!((fixture.streams.len(), fixture.streams.next_end()), (0, None));
        }
    }

    #[test]
    fn a_drain_ends_as_many_streams_as_are_due() {
        let mut fixture = Fixture::new();
        (0..5).for_each(|subject| fixture.subscribe(subject, usize::MAX));
        fixture.streams.remove(1, Close::Peer);
        for (due, left) in [(0, 4), (1, 3), (1, 3), (3, 1), (4, 0)] {
            assert!(!fixture.streams.drain(due, 9, 0), "nothing more is due");
            assert_eq!(fixture.streams.len(), left, "{due} are due");
        }
    }

    /// Its turn comes again when all have had theirs.
    #[test]
    fn a_drain_waits_for_a_full_socket() {
        let mut fixture = Fixture::new();
        fixture.subscribe(0, 1);
        fixture.publish(10);
        fixture.subscribe(1, usize::MAX);
        fixture.streams.drain(2, 9, 0);
        assert_eq!((fixture.streams.len(), fixture.streams.blocked()), (1, 1));
        fixture.streams.drain(2, 9, DRAIN_PATIENCE_MILLIS);
        assert_eq!(fixture.streams.len(), 1, "two have had their turns");
        while fixture.streams.drain(usize::MAX, 9, DRAIN_PATIENCE_MILLIS - 1) {}
        assert_eq!(fixture.streams.len(), 1, "it may still accept what it is due");
        while fixture.streams.drain(usize::MAX, 9, DRAIN_PATIENCE_MILLIS) {}
        assert!(fixture.streams.is_empty());
    }

    #[test]
    fn every_way_to_close_a_stream_releases_its_permit() {
        let mut fixture = Fixture::new();
        let pending = fixture.admit(7);
        fixture.streams.abandon(pending, Close::Failed);

        fixture.subscribe(7, 0);
        fixture.streams.remove(0, Close::Peer);

        fixture.subscribe(7, usize::MAX);
        fixture.streams.expire(EXPIRES, 0);

        // A stream whose socket is full keeps its permit until its grace is over.
        fixture.subscribe(7, 1);
        fixture.publish(10);
        fixture.streams.expire(EXPIRES, 0);
        assert!(fixture.limiter.acquire(7).is_none());
        fixture.streams.expire(EXPIRES + GRACE_SECONDS, 0);

        fixture.subscribe(7, 0);
        fixture.publish(10);
        fixture.streams.begin_sweep();
        fixture.streams.continue_sweep(Silence { heartbeat: 10, stall: 20 }, 20);

        fixture.subscribe(7, usize::MAX);
        fixture.streams.drain(usize::MAX, 9, 0);

        for subject in 0..40 {
            fixture.subscribe(subject, 10);
            fixture.publish(LARGE);
        }
        let left = fixture.streams.len();
        assert!(left < 40, "some are closed because too much is kept for them");
        assert_eq!(fixture.limiter.subjects(), left);
        let closed = fixture.streams.take_counters().closed;
        assert_eq!(closed[..5], [1, 0, 1, 2, 1]);
        drop(fixture.streams);
        assert_eq!(fixture.limiter.subjects(), 0);
    }
}
