//! How streams end: because their token has expired, or because the broker drains. Whoever is caught
//! up gets a last word and is gone. One whose socket is full has a while to take what it is owed.

use std::io::IoSlice;

use crate::sse::{Frame, stream};
use crate::stream::group::SubscriberKey;
use crate::stream::heartbeat::CHECKS_PER_ITERATION;
use crate::stream::subscriber::{Backlog, Closing, NO_SEAT, PartialWrite, Socket, Subscriber, WriteOutcome};
use crate::stream::{Close, Streams};

/// How long after its token's expiry a full socket may take the rest of the frame that it is in the
/// middle of, and the word that the token has expired.
const GRACE_SECONDS: u64 = 2;
/// In a drain, a full socket that takes no byte for so long is not waited for.
const DRAIN_PATIENCE_MILLIS: u32 = 2_000;

impl<S: Socket> Streams<S> {
    /// Drains, in slices: ends the streams that have got everything, so many at most, with the last chunk.
    /// Those that still take bytes are asked again, until the caller's time is up. Answers whether there
    /// are more to look at before that.
    pub fn end(&mut self, budget: usize, now: u32) -> bool {
        let is_over = |subscriber: &Subscriber<S>| {
            subscriber.seat != NO_SEAT || now.wrapping_sub(subscriber.written_at) >= DRAIN_PATIENCE_MILLIS
        };
        let mut ended = 0;
        for index in self.end_at..self.end_at + CHECKS_PER_ITERATION {
            if index >= self.subscribers.bound() {
                self.end_at = 0;
                return false;
            }
            self.end_at = index + 1;
            if self.subscribers.get(index).is_some_and(is_over) {
                self.end_one(index as SubscriberKey, now);
                ended += 1;
            }
            if ended == budget {
                break;
            }
        }
        true
    }

    fn end_one(&mut self, key: SubscriberKey, now: u32) {
        let subscriber = &mut self.subscribers[key as usize];
        let last = stream::end(self.audiences[subscriber.audience as usize].set.framing);
        if subscriber.seat != NO_SEAT && !last.is_empty() {
            subscriber.write(&[IoSlice::new(last)], last.len(), now);
        }
        self.remove(key, Close::Drained);
    }

    /// Ends the streams whose tokens have expired, in slices. Answers whether there is more to do.
    pub fn expire(&mut self, unix_seconds: u64, now: u32) -> bool {
        for key in self.expiries.take_due(unix_seconds) {
            let absence = self.absences.take(key).unwrap_or_default();
            if absence.farewell != Closing::None {
                self.remove(key, Close::Expired); // It has had its grace.
                continue;
            }
            self.tally.expired += 1;
            self.give_up_seat(key);
            self.see_off(key, Backlog { farewell: Closing::Owed, ..absence }, now);
            if self.subscribers.contains(key as usize) {
                self.expiries.put(key, Some(unix_seconds + GRACE_SECONDS));
            }
        }
        self.expiries.is_walking()
    }

    /// One write to a subscriber that is leaving: the rest of what was half written, and the word that
    /// the token has expired. No frame that it is not in the middle of. Answers the bytes.
    pub(crate) fn see_off(&mut self, key: SubscriberKey, absence: Backlog, now: u32) -> usize {
        let Self { audiences, subscribers, absences, replica, tally, .. } = self;
        let subscriber = &mut subscribers[key as usize];
        let audience = &audiences[subscriber.audience as usize];
        let framing = audience.set.framing;
        let is_retained = |frame: &Frame| replica.has(&audience.source, frame);
        let word = match absence.farewell {
            Closing::Given => Vec::new(),
            Closing::None | Closing::Owed => stream::expired(framing),
        };
        let rest = absence.rest.bytes(framing);
        let (of_rest, bytes) = (rest.len(), rest.len() + word.len());
        match subscriber.write(&[IoSlice::new(rest), IoSlice::new(&word)], bytes, now) {
            WriteOutcome::All => {
                tally.bytes += bytes as u64;
                self.remove(key, Close::Expired);
            }
            WriteOutcome::Blocked(written) => {
                tally.bytes += written as u64;
                if !absence.is_patient {
                    subscriber.socket.set_patient(true);
                }
                let (rest, farewell) = match written.checked_sub(of_rest) {
                    Some(of_word) if !word.is_empty() => (PartialWrite::Own(word.into(), of_word), Closing::Given),
                    _ => (absence.rest.advance(written), absence.farewell),
                };
                let left = Backlog { rest, farewell, is_blocked: true, is_patient: true, ..absence };
                absences.put(key, left, is_retained);
            }
            WriteOutcome::Gone => self.remove(key, Close::Peer),
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use super::*;
    use crate::hub::{Hub, HubLimits, Position, TopicName, inbox};
    use crate::quota::StreamLimiter;
    use crate::sse::{Framing, UnsequencedFrame};
    use crate::stream::PendingSubscription;
    use crate::stream::heartbeat::Silence;

    /// Takes so many bytes at once, and then none.
    struct Full(usize);

    impl Socket for Full {
        fn set_patient(&self, _: bool) {}
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(std::mem::take(&mut self.0));
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct CommonHeaders {
        hub: Arc<Hub>,
        streams: Streams<Full>,
        places: Arc<StreamLimiter>,
    }

    const LARGE: usize = 1 << 20;
    const EXPIRES: u64 = 100;

    impl CommonHeaders {
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
            Self { hub, streams, places: Arc::new(StreamLimiter::new(1)) }
        }

        fn admit(&mut self, subject: u64) -> PendingSubscription {
            let joined = self.hub.join(0, &[topic()], Position::Live).unwrap();
            let place = self.places.take(subject).expect("the last one was given back");
            self.streams.admit(joined, Framing::Chunked, Some(EXPIRES)).holding(Some(place))
        }

        fn seat(&mut self, subject: u64, room: usize) {
            let ticket = self.admit(subject);
            self.streams.seat(ticket, Full(room), 0);
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

    #[test]
    fn whichever_way_a_stream_ends_its_place_is_given_back() {
        let mut house = CommonHeaders::new();
        let ticket = house.admit(7);
        house.streams.abandon(ticket, Close::Failed);

        house.seat(7, 0);
        house.streams.remove(0, Close::Peer);

        house.seat(7, usize::MAX);
        house.streams.expire(EXPIRES, 0);

        // One whose socket is full has its place as long as its grace.
        house.seat(7, 1);
        house.publish(10);
        house.streams.expire(EXPIRES, 0);
        assert!(house.places.take(7).is_none());
        house.streams.expire(EXPIRES + GRACE_SECONDS, 0);

        house.seat(7, 0);
        house.publish(10);
        house.streams.begin_sweep();
        house.streams.go_on_sweeping(Silence { heartbeat: 10, stall: 20 }, 20);

        house.seat(7, usize::MAX);
        house.streams.end(9, 0);

        for subject in 0..40 {
            house.seat(subject, 10);
            house.publish(LARGE);
        }
        let left = house.streams.len();
        assert!(left < 40, "some are shed");
        assert_eq!(house.places.subjects(), left);
        let closed = house.streams.take_tally().closed;
        assert_eq!(closed[..5], [1, 0, 1, 2, 1]);
        drop(house.streams);
        assert_eq!(house.places.subjects(), 0);
    }
}
