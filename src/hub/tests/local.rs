//! Subscribers inside this process.

use super::*;

/// A local subscriber, its cursor and the frames that it has taken.
pub(super) struct Reader<'a> {
    hub: &'a Hub,
    subscription: LocalSubscription,
    frames: VecDeque<TopicFrame>,
}

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Id(u64),
    Gap(Option<u64>),
    Nothing,
    End,
}

impl<'a> Reader<'a> {
    pub(super) fn new(hub: &'a Hub, topics: &[&str], position: Position<'_>) -> Self {
        let names: Vec<_> = topics.iter().map(|topic| name(topic)).collect();
        Self { hub, subscription: hub.join_local(&names, position).unwrap(), frames: VecDeque::new() }
    }

    pub(super) fn next(&mut self) -> Next {
        loop {
            if let Some(gap) = self.subscription.gap.take() {
                return Next::Gap(gap.oldest);
            }
            if let Some((_, frame)) = self.frames.pop_front() {
                self.subscription.cursor = frame.id();
                return Next::Id(frame.id());
            }
            let LocalSubscription { subscriber, cursor, gap } = &mut self.subscription;
            match subscriber.take(&mut self.frames) {
                Taken::Frames if self.frames.is_empty() => return Next::Nothing,
                Taken::Frames => {}
                Taken::Behind => *gap = self.hub.catch_up(subscriber, cursor, &mut self.frames),
                Taken::Closed => return Next::End,
            }
        }
    }

    pub(super) fn rest(&mut self) -> Vec<Next> {
        std::iter::from_fn(|| Some(self.next()).filter(|next| *next != Next::Nothing)).take(5_000).collect()
    }
}

#[test]
fn a_local_subscriber_gets_every_event_of_its_topics_in_order() {
    let (hub, _inbox) = hub(HubLimits { events_per_topic: 100, ..LIMITS });
    publish(&hub, "topicone1", 1, 100).unwrap();
    let mut reader = Reader::new(&hub, &["topictwo2", "topicone1", "topicone1"], Position::Live);
    assert_eq!(reader.next(), Next::Nothing);
    for (topic, now) in [("topicone1", 200), ("topictwo2", 300), ("topicsix6", 400), ("topicone1", 500)] {
        assert_eq!(publish(&hub, topic, 1, now).unwrap().subscribers, usize::from(topic != "topicsix6"));
    }
    assert_eq!(reader.rest(), [Next::Id(200), Next::Id(300), Next::Id(500)]);
}

#[test]
fn a_local_subscriber_that_resumes_gets_what_is_retained_after_its_position() {
    let (hub, _inbox) = hub(LIMITS);
    publish(&hub, "topicone1", 3, 100).unwrap();
    publish(&hub, "topictwo2", 1, 200).unwrap();
    let mut reader = Reader::new(&hub, &["topicone1", "topictwo2"], Position::After("101"));
    assert_eq!(reader.rest(), [Next::Id(102), Next::Id(200)]);
    let mut all = Reader::new(&hub, &["topicone1"], Position::After("0"));
    assert_eq!(all.rest(), [Next::Id(100), Next::Id(101), Next::Id(102)]);
    publish(&hub, "topicone1", 2, 300).unwrap();
    let mut late = Reader::new(&hub, &["topicone1"], Position::After("100"));
    assert_eq!(late.next(), Next::Id(101));
    let mut too_late = Reader::new(&hub, &["topicone1"], Position::After("99"));
    assert_eq!(too_late.next(), Next::Gap(Some(101)));
}

#[test]
fn a_slow_local_subscriber_catches_up_from_history_without_a_gap() {
    let (hub, _inbox) = hub(HubLimits { events_per_topic: 2_000, ..LIMITS });
    let mut reader = Reader::new(&hub, &["topicone1", "topictwo2"], Position::Live);
    assert_eq!(reader.next(), Next::Nothing);
    for number in 1..=1_000 {
        publish(&hub, if number % 3 == 0 { "topicone1" } else { "topictwo2" }, 1, number * 100).unwrap();
    }
    let all: Vec<_> = (1..=1_000).map(|number| Next::Id(number * 100)).collect();
    assert_eq!(reader.rest(), all);
    publish(&hub, "topicone1", 1, 200_000).unwrap();
    assert_eq!(reader.rest(), [Next::Id(200_000)]);
}

#[test]
fn a_local_subscriber_too_slow_for_the_history_gets_one_gap() {
    let (hub, _inbox) = hub(LIMITS);
    let mut reader = Reader::new(&hub, &["topicone1"], Position::Live);
    for number in 1..=1_000 {
        publish(&hub, "topicone1", 1, number * 100).unwrap();
    }
    let received = reader.rest();
    let gaps = received.iter().filter(|next| matches!(next, Next::Gap(_))).count();
    assert_eq!((gaps, received.last()), (1, Some(&Next::Id(100_000))));
}

#[test]
fn a_gap_in_one_topic_is_reported_once_and_repeats_no_event_of_another() {
    let (hub, _inbox) = hub(LIMITS);
    publish(&hub, "topicone1", 2, 100).unwrap();
    let topics = ["topicone1", "topictwo2"];
    let mut reader = Reader::new(&hub, &topics, Position::After("0"));
    assert_eq!(reader.rest(), [100, 101].map(Next::Id));
    let live = LIMITS.events_per_topic as u64;
    // The queue takes the first ones; of the rest, the history has the last ones.
    publish(&hub, "topictwo2", 1_000, 200).unwrap();
    let received = reader.rest();
    let gaps: Vec<_> = received.iter().filter(|next| matches!(next, Next::Gap(_))).collect();
    assert_eq!(gaps, [&Next::Gap(Some(100))]);
    assert_eq!(received.len() as u64, 256 + 1 + live);
    assert_eq!(received[256 + 1..], [1_196, 1_197, 1_198, 1_199].map(Next::Id));
    // Everything that is retained, although one topic has evicted events after the oldest one of the other.
    let mut all = Reader::new(&hub, &topics, Position::After("0"));
    assert_eq!(all.rest(), [100, 101, 1_196, 1_197, 1_198, 1_199].map(Next::Id));
    let mut resumed = Reader::new(&hub, &topics, Position::After("101"));
    assert_eq!(resumed.next(), Next::Gap(Some(100)));
    assert_eq!(resumed.rest(), [100, 101, 1_196, 1_197, 1_198, 1_199].map(Next::Id));
}

#[test]
fn without_history_a_local_subscriber_still_gets_live_events() {
    let (hub, _inbox) = hub(HubLimits { events_per_topic: 0, ..LIMITS });
    let mut reader = Reader::new(&hub, &["topicone1"], Position::Live);
    publish(&hub, "topicone1", 2, 100).unwrap();
    assert_eq!(reader.rest(), [Next::Id(100), Next::Id(101)]);
    publish(&hub, "topicone1", 1, 200).unwrap();
    assert_eq!(reader.rest(), [Next::Id(200)]);
}

#[test]
fn large_events_are_bounded_by_bytes() {
    let (hub, _inbox) = hub(HubLimits { bytes: usize::MAX, ..LIMITS });
    let mut reader = Reader::new(&hub, &["topicone1"], Position::Live);
    assert_eq!(reader.next(), Next::Nothing);
    for number in 1..=10 {
        let frames = frames_from_text(&format!("data: {}", "x".repeat(600_000))).unwrap();
        hub.publish(&name("topicone1"), frames, number * 100, None).unwrap();
    }
    let received = reader.rest();
    assert_eq!(received[..2], [Next::Id(100), Next::Gap(Some(700))]);
    assert_eq!(received[2..], [700, 800, 900, 1_000].map(Next::Id));
}

#[test]
fn a_topic_stays_open_while_it_has_a_local_subscriber() {
    let (hub, _inbox) = hub(LIMITS);
    let reader = Reader::new(&hub, &["topicone1"], Position::Live);
    let other = Reader::new(&hub, &["topicone1"], Position::Live);
    publish(&hub, "topicone1", 1, 100).unwrap();
    assert!(!hub.expire(1_000_000));
    assert_eq!(hub.counts().topics, 1);
    hub.leave_local(&reader.subscription.subscriber);
    assert_eq!(hub.counts().topics, 1);
    hub.leave_local(&other.subscription.subscriber);
    assert_eq!(hub.counts().topics, 0);
}

#[test]
fn local_subscribers_are_refused_beyond_the_limit_of_topics_and_after_closing() {
    let (hub, _inbox) = hub(HubLimits { topics: 1, ..LIMITS });
    let refused = hub.join_local(&[name("topicone1"), name("topictwo2")], Position::Live).unwrap_err();
    assert_eq!((refused, hub.counts().topics), (JoinLocalError::TooManyTopics, 0));
    let mut reader = Reader::new(&hub, &["topicone1"], Position::Live);
    publish(&hub, "topicone1", 1, 100).unwrap();
    hub.close_local();
    assert_eq!((reader.next(), reader.next(), reader.next()), (Next::Id(100), Next::End, Next::End));
    assert_eq!(hub.join_local(&[name("topicone1")], Position::Live).unwrap_err(), JoinLocalError::Closed);
}
