//! Erasures of newest records: subscribers to the name get an event at its place among the records, whether they are ready or
//! not. Those that the hub can't tell any more what was erased get a gap and then everything that is left.

use super::*;

const ALL: usize = usize::MAX;
/// The bytes of one record on the wire.
const RECORD: usize = "22\r\nevent: a\ndata: 0123456789\nid: 100\n\n\r\n".len();

impl Fixture {
    fn listen(&mut self, names: &[&str], start: RecordStart, room: usize) -> Client {
        self.listen_as(None, names, start, room)
    }

    fn listen_as(&mut self, poll: Option<Poll>, names: &[&str], start: RecordStart, room: usize) -> Client {
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        let joined = self.hub.join_records(0, names, start, 0).unwrap();
        let pending = match poll {
            Some(poll) => self.streams.admit_poll(joined, Framing::Chunked, None, poll),
            None => self.streams.admit(joined, Framing::Chunked, None),
        };
        self.start(pending, room, Framing::Chunked)
    }

    fn insert(&self, records: &[(&str, u64)]) {
        let frames = records.iter().map(|&(name, id)| record_frame(&Record::shared(name, "0123456789", id)));
        self.hub.publish_records(frames.collect());
    }
}

fn gap(after: u64, oldest: u64) -> Item {
    Gap { after, oldest: Some(oldest) }
}

#[test]
fn subscribers_get_an_event_unless_they_joined_later() {
    let mut fixture = Fixture::new();
    fixture.insert(&[("a", 100), ("b", 101), ("c", 102)]);
    let all = fixture.listen(&[], RecordStart::Newest, ALL);
    let named = fixture.listen(&["b"], RecordStart::Newest, ALL);
    let other = fixture.listen(&["a"], RecordStart::Newest, ALL);
    let within = fixture.listen(&[], RecordStart::Newest, RECORD / 2);
    let between = fixture.listen(&["b", "c"], RecordStart::Newest, 2 * RECORD);
    let blocked = fixture.listen(&["a"], RecordStart::Newest, 0);
    fixture.iterate_until_idle();
    fixture.insert(&[("c", 103)]);
    fixture.iterate_until_idle();
    fixture.hub.publish_erasure("b", 110);
    fixture.iterate_until_idle();
    let fresh = fixture.listen(&[], RecordStart::Newest, ALL);
    let fresh_slow = fixture.listen(&[], RecordStart::Newest, RECORD / 2);
    let known = fixture.listen(&[], RecordStart::After(110), ALL);
    let old = fixture.listen(&[], RecordStart::After(103), ALL);
    fixture.iterate_until_idle();
    let read = |client| fixture.read(client);
    let [all, named, other, within, between, blocked, fresh, fresh_slow, known, old] =
        [&all, &named, &other, &within, &between, &blocked, &fresh, &fresh_slow, &known, &old].map(read);
    assert_eq!(all, [Event(100), Event(101), Event(102), Event(103), Erased(110)]);
    assert_eq!(named, [Event(101), Erased(110)]);
    assert_eq!(other, [Event(100)], "its names have nothing to do with it");
    assert_eq!(within, [Event(100), Event(103), Erased(110)]);
    assert_eq!(between, [Event(101), Event(102), Event(103), Erased(110)]);
    assert_eq!(blocked, [Event(100)], "its name has nothing to do with it");
    assert_eq!([&fresh[..], &fresh_slow], [[Event(100), Event(103)]; 2], "they joined after it");
    assert_eq!((known, old), (vec![], vec![Event(100), Event(103)]), "the opening has the gap");
}

#[test]
fn subscribers_that_knew_of_an_erasure_get_no_gap_when_they_block_later() {
    let mut fixture = Fixture::new();
    fixture.insert(&[("a", 100), ("b", 101)]);
    let other = fixture.listen(&["a"], RecordStart::Newest, RECORD);
    let named = fixture.listen(&["b"], RecordStart::Newest, RECORD + RECORD);
    let fresh_later = |fixture: &mut Fixture| fixture.listen(&["a"], RecordStart::Newest, RECORD);
    fixture.iterate_until_idle();
    fixture.hub.publish_erasure("b", 110);
    fixture.iterate_until_idle();
    let fresh = fresh_later(&mut fixture);
    fixture.iterate_until_idle();
    fixture.insert(&[("a", 120), ("b", 121)]);
    fixture.iterate_until_idle();
    assert_eq!(fixture.streams.blocked(), 3);
    let [other, named, fresh] = [&other, &named, &fresh].map(|client| fixture.read(client));
    assert_eq!([other, fresh], [[Event(100), Event(120)]; 2]);
    assert_eq!(named, [Event(101), Erased(110), Event(121)]);
}

#[test]
fn a_blocked_subscriber_gets_each_erasure_that_it_misses() {
    let mut fixture = Fixture::new();
    fixture.insert(&[("a", 100), ("b", 101), ("c", 102)]);
    let client = fixture.listen(&[], RecordStart::Newest, 3 * RECORD + 1);
    fixture.iterate_until_idle();
    fixture.hub.publish_erasure("b", 110);
    fixture.hub.publish_erasure("nothing", 111);
    fixture.iterate_until_idle();
    fixture.hub.publish_erasure("c", 112);
    fixture.insert(&[("b", 113)]);
    fixture.iterate_until_idle();
    let three = [Event(100), Event(101), Event(102)];
    assert_eq!(fixture.read(&client), [&three[..], &[Erased(110), Erased(111), Erased(112), Event(113)]].concat());
    fixture.hub.publish_erasure("a", 114);
    assert_eq!(fixture.read(&client)[7..], [Erased(114)]);
    assert!(fixture.hub.in_flight().all(|in_flight| in_flight == (0, 0)));
}

#[test]
fn a_slow_subscriber_finishes_while_names_are_being_erased() {
    let mut fixture = Fixture::new();
    let names: Vec<_> = (0..1_000).map(|number| format!("name {number}")).collect();
    let records: Vec<_> = names.iter().zip(1_000..).map(|(name, id)| (name.as_str(), id)).collect();
    fixture.insert(&records);
    let client = fixture.listen(&[], RecordStart::Newest, 0);
    for (index, name) in names.iter().step_by(20).enumerate() {
        fixture.hub.publish_erasure(name, 10_000 + index as u64);
        client.pipe.0.borrow_mut().room += 5_000;
        fixture.streams.writable(client.key);
        fixture.iterate_until_idle();
    }
    let items = fixture.read(&client);
    let erased = items.iter().filter(|item| matches!(item, Erased(_))).count();
    assert_eq!((erased, fixture.streams.take_counters().gaps), (50, 0));
    assert!(
        (950..1_000).contains(&(items.len() - erased)),
        "each record once, except for some of those that were erased"
    );
}

#[test]
fn a_subscriber_that_blocks_in_the_pass_of_an_erasure_of_another_name_gets_no_gap() {
    let mut fixture = Fixture::new();
    fixture.insert(&[("a", 100), ("b", 101)]);
    let client = fixture.listen(&["a"], RecordStart::Newest, RECORD);
    fixture.iterate_until_idle();
    fixture.hub.publish_erasure("b", 110);
    fixture.insert(&[("a", 120)]);
    fixture.iterate_until_idle();
    assert_eq!(fixture.streams.blocked(), 1);
    assert_eq!(fixture.read(&client), [Event(100), Event(120)]);
}

#[test]
fn a_subscriber_that_misses_more_erasures_than_the_hub_remembers_gets_one_gap() {
    let mut fixture = Fixture::new();
    fixture.insert(&[("a", 100), ("b", 101)]);
    let blocked = fixture.listen(&[], RecordStart::Newest, RECORD);
    fixture.iterate_until_idle();
    let known = fixture.listen(&[], RecordStart::Newest, RECORD);
    for id in 110..1_135 {
        fixture.hub.publish_erasure(if id == 110 { "b" } else { "x" }, id);
        fixture.iterate_until_idle();
    }
    let late = fixture.listen(&[], RecordStart::Newest, 0);
    fixture.iterate_until_idle();
    assert_eq!(fixture.read(&blocked), [Event(100), gap(100, 100), Event(100)]);
    assert_eq!(fixture.read(&known), [Event(100), gap(100, 100), Event(100)]);
    assert_eq!(fixture.read(&late), [Event(100)], "it joined after them");
}

#[test]
fn a_poll_gets_an_erasure_or_the_position_after_it() {
    let mut fixture = Fixture::new();
    fixture.insert(&[("a", 100), ("b", 101)]);
    let waiting = fixture.listen_as(Some(Poll::Plain), &[], RecordStart::After(101), ALL);
    fixture.iterate_until_idle();
    fixture.hub.publish_erasure("b", 110);
    fixture.iterate_until_idle();
    assert!(fixture.streams.subscribers.get(waiting.key).is_none(), "it has ended");
    let fresh = fixture.listen_as(Some(Poll::Plain), &[], RecordStart::Newest, ALL);
    fixture.iterate_until_idle();
    assert_eq!(fixture.streams.len(), 0);
    let text = |client: &Client| String::from_utf8(client.pipe.0.borrow().received.clone()).unwrap();
    let events = |text: &str, end| parse(text.strip_suffix(end).unwrap(), Framing::Chunked);
    assert_eq!(events(&text(&waiting), "0\r\n\r\n"), [Erased(110)]);
    // With the position 100 the next poll would get a gap, and the same record again.
    let after_erasure = "9\r\nid: 110\n\n\r\n0\r\n\r\n";
    assert_eq!(events(&text(&fresh), after_erasure), [Event(100)]);
    let next = fixture.listen_as(Some(Poll::Plain), &[], RecordStart::After(110), ALL);
    fixture.iterate_until_idle();
    fixture.insert(&[("a", 120)]);
    fixture.iterate_until_idle();
    assert_eq!(events(&text(&next), "0\r\n\r\n"), [Event(120)]);
}
