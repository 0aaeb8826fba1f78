//! Polls: they end with the write that carries their first events, wherever a full socket interrupts it, or instead of the
//! first heartbeat.

use super::*;

const EXPIRES: u64 = 100;

impl Fixture {
    fn poll(&mut self, position: Position<'_>, room: usize, framing: Framing) -> Client {
        self.poll_as(Poll::Plain, position, room, framing)
    }

    fn poll_as(&mut self, poll: Poll, position: Position<'_>, room: usize, framing: Framing) -> Client {
        let joined = self.hub.join(0, &[TopicName::parse("topicone1").unwrap()], position).unwrap();
        let pending = self.streams.admit_poll(joined, framing, Some(EXPIRES), poll);
        self.start(pending, room, framing)
    }

    fn has_ended(&self, client: &Client) -> bool {
        let is_complete = match client.framing {
            Framing::Chunked => client.pipe.0.borrow().received.ends_with(b"\r\n0\r\n\r\n"),
            Framing::Plain => true,
        };
        is_complete && self.streams.subscribers.get(client.key).is_none()
    }

    fn closed(&mut self, why: Close) -> u64 {
        self.streams.take_counters().closed[why as usize]
    }
}

#[test]
fn a_poll_ends_with_the_write_of_its_first_events() {
    for framing in [Framing::Chunked, Framing::Plain] {
        let mut fixture = Fixture::new();
        fixture.apply("topicone1", [90]);
        let waiting = fixture.poll(Position::Live, usize::MAX, framing);
        let stream = fixture.join(&["topicone1"], Position::Live, usize::MAX, framing);
        fixture.iterate_until_idle();
        assert_eq!(fixture.streams.len(), 2);
        fixture.apply("topicone1", [100, 110]);
        fixture.iterate_until_idle();
        assert!(fixture.has_ended(&waiting) && !fixture.has_ended(&stream));
        assert_eq!(fixture.read(&waiting), [Event(100), Event(110)]);
        let resuming = fixture.poll(Position::After("100"), usize::MAX, framing);
        fixture.iterate_until_idle();
        assert!(fixture.has_ended(&resuming));
        assert_eq!(fixture.read(&resuming), [Event(110)]);
        fixture.apply("topicone1", [120]);
        assert_eq!(fixture.read(&stream), [Event(100), Event(110), Event(120)]);
        assert_eq!((fixture.closed(Close::Polled), fixture.streams.len()), (2, 1));
    }
}

#[test]
fn a_full_socket_interrupts_a_poll_at_any_byte_and_its_client_resumes() {
    for framing in [Framing::Chunked, Framing::Plain] {
        for room in 0..3 * FRAME + 5 {
            let mut fixture = Fixture::new();
            fixture.apply("topicone1", [100, 101, 102]);
            let client = fixture.poll(Position::After("0"), room, framing);
            fixture.iterate_until_idle();
            let received = fixture.read(&client);
            assert!(fixture.has_ended(&client), "room for {room} bytes");
            let all = [Event(100), Event(101), Event(102)];
            assert!(!received.is_empty() && all.starts_with(&received), "room for {room} bytes: {received:?}");
            assert!(room > 0 || received == all, "a socket that was full at first gets everything");
            let position = (99 + received.len()).to_string();
            let next = fixture.poll(Position::After(&position), usize::MAX, framing);
            assert_eq!(fixture.read(&next), all[received.len()..], "room for {room} bytes");
        }
    }
}

/// Its own id may be one that an evicted event had as well.
#[test]
fn a_primed_poll_ends_with_the_id_of_its_last_event() {
    for framing in [Framing::Chunked, Framing::Plain] {
        let mut fixture = Fixture::new();
        fixture.apply("topicone1", [100, 101]);
        for room in (1..2 * FRAME + 20).chain([usize::MAX]) {
            let client = fixture.poll_as(Poll::Primed, Position::After("0"), room, framing);
            fixture.iterate_until_idle();
            client.pipe.0.borrow_mut().room = usize::MAX;
            fixture.streams.writable(client.key);
            fixture.iterate_until_idle();
            assert!(fixture.has_ended(&client));
            let text = String::from_utf8(client.pipe.0.borrow().received.clone()).unwrap();
            let text = dechunk(&text, framing);
            let has_position = |id: u64| text.ends_with(&format!("id: {id}\n\nid: {id}\n\n"));
            assert!(has_position(100) || has_position(101), "room for {room} bytes: {text}");
        }
    }
}

/// Otherwise each of its polls would get the same events again, because the next one begins with a gap.
#[test]
fn polls_of_several_topics_make_progress_where_one_retains_older_events() {
    for room in (0..3 * FRAME).chain([usize::MAX]) {
        let mut fixture = Fixture::with_limits(HubLimits { events_per_topic: 3, ..LIMITS });
        fixture.apply("topicone1", [100, 101]);
        fixture.apply("topictwo1", 200..206);
        let (mut position, mut received) = (0, Vec::new());
        while position < 205 {
            let topics = ["topicone1", "topictwo1"].map(|topic| TopicName::parse(topic).unwrap());
            let joined = fixture.hub.join(0, &topics, Position::After(&position.to_string())).unwrap();
            let pending = fixture.streams.admit_poll(joined, Framing::Plain, Some(EXPIRES), Poll::Primed);
            let client = fixture.start(pending, room, Framing::Plain);
            fixture.iterate_until_idle();
            client.pipe.0.borrow_mut().room = usize::MAX;
            fixture.streams.writable(client.key);
            fixture.iterate_until_idle();
            assert!(fixture.has_ended(&client), "room for {room} bytes");
            let text = String::from_utf8(client.pipe.0.borrow().received.clone()).unwrap();
            let ids: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
            let before = std::mem::replace(&mut position, *ids.last().unwrap());
            assert!(position > before, "room for {room} bytes, after {before}: {text}");
            received.extend(ids);
        }
        received.dedup();
        assert_eq!(received, [100, 101, 203, 204, 205], "room for {room} bytes");
    }
}

#[test]
fn a_gap_alone_does_not_end_a_poll() {
    let mut fixture = Fixture::new();
    fixture.apply("topicone1", [100]);
    let client = fixture.poll(Position::Live, usize::MAX, Framing::Chunked);
    fixture.iterate_until_idle();
    fixture.hub.lose_through(200);
    fixture.iterate_until_idle();
    assert_eq!(fixture.read(&client), [Gap { after: 100, oldest: None }]);
    assert_eq!(fixture.streams.len(), 1);
    fixture.apply("topicone1", [210]);
    fixture.iterate_until_idle();
    assert!(fixture.has_ended(&client));
    assert_eq!(fixture.read(&client)[1..], [Event(210)]);
}

#[test]
fn a_poll_that_gets_nothing_ends_instead_of_its_heartbeat() {
    let silence = Silence { heartbeat: 10, stall: 20 };
    for (framing, end) in [(Framing::Chunked, 5), (Framing::Plain, 0)] {
        for room in [usize::MAX, 0] {
            let mut fixture = Fixture::new();
            let client = fixture.poll(Position::Live, room, framing);
            fixture.iterate_until_idle();
            for now in [9, 10] {
                fixture.streams.begin_sweep();
                while fixture.streams.continue_sweep(silence, now) {}
            }
            assert!(room == 0 || fixture.streams.is_empty());
            assert_eq!(fixture.read(&client), []);
            assert_eq!((client.pipe.0.borrow().received.len(), fixture.closed(Close::Polled)), (end, 1));
        }
    }
}

#[test]
fn a_token_may_expire_while_a_poll_is_interrupted() {
    let mut fixture = Fixture::new();
    fixture.apply("topicone1", [100, 101]);
    let client = fixture.poll(Position::After("0"), FRAME / 2, Framing::Chunked);
    fixture.iterate_until_idle();
    fixture.streams.expire(EXPIRES, 0);
    assert_eq!(fixture.streams.len(), 1, "it may still accept the rest");
    client.pipe.0.borrow_mut().room = usize::MAX;
    fixture.streams.writable(client.key);
    fixture.iterate_until_idle();
    assert!(fixture.has_ended(&client));
    let text = String::from_utf8(client.pipe.0.borrow().received.clone()).unwrap();
    let (event, expired) = text.split_at(FRAME);
    assert_eq!(parse(event, Framing::Chunked), [Event(100)]);
    assert!(expired.contains("event: expired\n"), "{expired}");
    assert_eq!(fixture.closed(Close::Expired), 1);
}

#[test]
fn an_event_for_many_polls_costs_no_iteration_more_than_its_budget() {
    const POLLS: usize = 3_000;
    let mut fixture = Fixture::new();
    let clients: Vec<_> = (0..POLLS).map(|_| fixture.poll(Position::Live, usize::MAX, Framing::Chunked)).collect();
    fixture.iterate_until_idle();
    fixture.apply("topicone1", [100]);
    let mut ended = 0;
    while fixture.streams.has_work() {
        fixture.iterate();
        let now = fixture.closed(Close::Polled) as usize;
        assert!(now <= BUDGET_PER_ITERATION, "{now} in one iteration");
        ended += now;
    }
    assert_eq!((ended, fixture.streams.len()), (POLLS, 0));
    assert!(clients.iter().all(|client| fixture.read(client) == [Event(100)]));
}
