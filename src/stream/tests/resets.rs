//! Replacements of all records: every stream of records gets one gap, whatever its subscriber is doing, and then everything anew,
//! though ids may be smaller than before.

use super::*;

impl Fixture {
    fn admit_records(&mut self, names: &[&str], start: RecordStart, framing: Framing) -> PendingSubscription {
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        let joined = self.hub.join_records(0, names, start, self.hub.record_replacements()).unwrap();
        self.streams.admit(joined, framing, None)
    }

    fn join_records(&mut self, names: &[&str], start: RecordStart, room: usize, framing: Framing) -> Client {
        let pending = self.admit_records(names, start, framing);
        self.start(pending, room, framing)
    }

    fn apply_records(&self, records: &[(&str, u64)]) {
        let mut frames = shared(records).iter().map(record_frame).collect();
        self.hub.apply_records(&mut frames);
        assert!(frames.is_empty());
    }

    fn reset(&self, records: &[(&str, u64)]) {
        self.hub.reset_records(shared(records));
    }
}

fn shared(records: &[(&str, u64)]) -> Vec<Arc<Record>> {
    records.iter().map(|&(name, id)| Record::shared(name, "0123456789", id)).collect()
}

/// The bytes of one record on the wire.
const RECORD: usize = "22\r\nevent: a\ndata: 0123456789\nid: 100\n\n\r\n".len();
const ALL: usize = usize::MAX;
const NEWEST: RecordStart = RecordStart::Newest;

fn gap(after: u64, oldest: u64) -> Item {
    Gap { after, oldest: Some(oldest) }
}

#[test]
fn every_stream_of_records_gets_one_gap_after_a_reset_and_then_everything_anew() {
    for framing in [Framing::Chunked, Framing::Plain] {
        let mut fixture = Fixture::new();
        fixture.reset(&[("a", 110), ("b", 120)]);
        let idle = fixture.join_records(&[], NEWEST, ALL, framing);
        let named = fixture.join_records(&["b"], NEWEST, ALL, framing);
        let quiet = fixture.join_records(&["x"], NEWEST, ALL, framing);
        let within = fixture.join_records(&[], NEWEST, RECORD / 2, framing);
        let blocked = fixture.join_records(&[], NEWEST, 0, framing);
        let topic = fixture.join(&["topicone1"], Position::Live, ALL, framing);
        fixture.iterate_until_idle();
        fixture.apply_records(&[("a", 130)]);
        fixture.iterate_until_idle();
        let pending = fixture.admit_records(&[], RecordStart::After(120), framing);
        fixture.reset(&[("b", 55), ("c", 125)]);
        let late = fixture.join_records(&[], NEWEST, ALL, framing);
        let resumed = fixture.join_records(&["b", "c"], RecordStart::After(55), ALL, framing);
        let pending = fixture.start(pending, ALL, framing);
        fixture.iterate_until_idle();
        fixture.apply_records(&[("b", 126), ("b", 127), ("x", 128)]);
        fixture.iterate_until_idle();
        let anew = [Event(125), Event(127), Event(128)];
        let live = [Event(126), Event(127), Event(128)];
        let read = |client| fixture.read(client);
        let [idle, named, quiet, within, blocked, topic, late, resumed, pending] =
            [&idle, &named, &quiet, &within, &blocked, &topic, &late, &resumed, &pending].map(read);
        let before = [Event(110), Event(120), Event(130), gap(130, 55), Event(55), Event(125)];
        assert_eq!(idle, [&before[..], &live].concat());
        assert_eq!(named, [Event(120), gap(120, 55), Event(55), Event(126), Event(127)]);
        assert_eq!(quiet, [gap(0, 55), Event(128)]);
        assert_eq!(within, [&[Event(110), gap(110, 125)][..], &anew].concat());
        assert_eq!(blocked, [&[gap(0, 125)][..], &anew].concat());
        assert_eq!(topic, []);
        assert_eq!(late, [&[Event(55), Event(125)][..], &live].concat(), "it joined after the reset");
        assert_eq!(resumed, [Event(125), Event(126), Event(127)], "it joined after the reset");
        assert_eq!(pending, [&[gap(120, 55), Event(55), Event(125)][..], &live].concat());
        assert_eq!(fixture.streams.take_counters().gaps, 6);
    }
}

#[test]
fn records_that_are_replaced_before_the_worker_takes_them_are_not_delivered() {
    let mut fixture = Fixture::new();
    let client = fixture.join_records(&[], NEWEST, ALL, Framing::Chunked);
    let topic = fixture.join(&["topicone1"], Position::Live, ALL, Framing::Chunked);
    fixture.iterate_until_idle();
    fixture.apply_records(&[("a", 100), ("a", 101)]);
    fixture.iterate_until_idle();
    fixture.apply_records(&[("a", 110)]);
    fixture.apply("topicone1", [111]);
    fixture.apply_records(&[("a", 120)]);
    fixture.reset(&[("a", 50)]);
    fixture.apply_records(&[("a", 60), ("a", 61)]);
    fixture.apply("topicone1", [121]);
    fixture.reset(&[("a", 40), ("b", 44)]);
    fixture.apply_records(&[("a", 45)]);
    fixture.iterate_until_idle();
    fixture.apply_records(&[("a", 46), ("a", 47)]);
    fixture.apply("topicone1", [122]);
    fixture.iterate_until_idle();
    let expected = [Event(100), Event(101), gap(101, 44), Event(44), Event(45), Event(46), Event(47)];
    assert_eq!(fixture.read(&client), expected);
    assert_eq!(fixture.read(&topic), [Event(111), Event(121), Event(122)]);
    assert!(fixture.hub.in_flight().all(|in_flight| in_flight == (0, 0)));
}

#[test]
fn a_reset_before_a_worker_has_a_replica_is_no_work_and_no_gap() {
    let mut fixture = Fixture::new();
    fixture.reset(&[("a", 100)]);
    fixture.reset(&[("a", 50)]);
    assert!(!fixture.streams.has_work());
    let client = fixture.join_records(&[], NEWEST, ALL, Framing::Plain);
    fixture.iterate_until_idle();
    assert_eq!(fixture.read(&client), [Event(50)]);
    fixture.streams.remove(client.key, Close::Peer);
    fixture.reset(&[]);
    let client = fixture.join_records(&[], RecordStart::Unknown, ALL, Framing::Plain);
    fixture.apply_records(&[("a", 10)]);
    fixture.iterate_until_idle();
    assert_eq!(fixture.read(&client), [Event(10)]);
}

#[test]
fn a_subscriber_within_a_gap_gets_the_rest_of_it_and_another_one() {
    let mut fixture = Fixture::new();
    fixture.reset(&[("a", 100)]);
    let client = fixture.join_records(&[], NEWEST, RECORD + 5, Framing::Chunked);
    fixture.iterate_until_idle();
    fixture.reset(&[("a", 90)]);
    fixture.iterate_until_idle();
    assert_eq!(fixture.streams.blocked(), 1, "it is within the gap");
    fixture.reset(&[]);
    fixture.iterate_until_idle();
    assert_eq!(fixture.read(&client), [Event(100), gap(100, 90), Gap { after: 0, oldest: None }]);
    fixture.apply_records(&[("a", 80)]);
    assert_eq!(fixture.read(&client)[3..], [Event(80)]);
}

#[test]
fn a_subscriber_gets_a_gap_for_each_of_many_resets() {
    const RESETS: usize = 5_000;
    let mut fixture = Fixture::new();
    fixture.reset(&[("a", 100)]);
    let client = fixture.join_records(&[], NEWEST, ALL, Framing::Plain);
    fixture.iterate_until_idle();
    for _ in 0..RESETS {
        fixture.reset(&[("a", 100)]);
        fixture.iterate_until_idle();
    }
    let received = fixture.read(&client);
    assert_eq!(received.len(), 1 + 2 * RESETS);
    assert!(received[1..].chunks(2).all(|pair| pair == [gap(100, 100), Event(100)]));
}

#[test]
fn a_reset_costs_no_iteration_more_than_its_budget() {
    const SUBSCRIBERS: usize = 3_000;
    let mut fixture = Fixture::new();
    fixture.reset(&[("a", 100), ("b", 101)]);
    let names = |number| if number % 3 == 0 { &["b"][..] } else { &[] };
    let join = |number| fixture.join_records(names(number), NEWEST, ALL, Framing::Chunked);
    let clients: Vec<_> = (0..SUBSCRIBERS).map(join).collect();
    fixture.iterate_until_idle();
    fixture.reset(&[("b", 90)]);
    let mut gaps = 0;
    while fixture.streams.has_work() {
        fixture.iterate();
        let told = fixture.streams.take_counters().gaps as usize;
        assert!(told <= BUDGET_PER_ITERATION, "{told} gaps");
        gaps += told;
    }
    assert_eq!(gaps, SUBSCRIBERS);
    assert!(clients.iter().all(|client| matches!(fixture.read(client)[..], [.., Gap { .. }, Event(90)])));
}

#[test]
fn subscribers_within_too_many_replaced_bytes_are_closed() {
    const SUBSCRIBERS: u64 = 40;
    let mut fixture = Fixture::new();
    let data = "x".repeat(1 << 20);
    for number in 0..SUBSCRIBERS {
        // The ids repeat.
        fixture.hub.reset_records(vec![Record::shared("a", data.clone(), number % 30 + 1)]);
        fixture.iterate_until_idle();
        fixture.join_records(&[], NEWEST, 10, Framing::Plain);
        fixture.iterate_until_idle();
    }
    fixture.reset(&[]);
    fixture.iterate_until_idle();
    let left = fixture.streams.len() as u64;
    assert_eq!(fixture.streams.take_counters().closed[Close::Shed as usize], SUBSCRIBERS - left);
    assert!((20..SUBSCRIBERS).contains(&left), "{left} are left");
    (0..SUBSCRIBERS as SubscriberKey).for_each(|key| fixture.streams.remove(key, Close::Peer));
    assert!(fixture.streams.subscribers.over_limit().is_none());
}
