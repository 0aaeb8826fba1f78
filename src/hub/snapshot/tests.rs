//! A hub that continues from a snapshot against one that never stopped, and snapshots that are damaged.

use fastrand::Rng;

use super::blocks::{BLOCK, BlockReader, BlockWriter};
use super::*;
use crate::hub::{Gap, HubLimits, Inbox, Position, inbox};
use crate::ids::MAX_CLOCK_LEAD;
use crate::sse::{Framing, frames_from_text};

const LIMITS: HubLimits = HubLimits {
    events_per_topic: 5,
    age_micros: 40_000_000,
    bytes: 1 << 30,
    topics: 100,
    subscribers: 100,
    latest_bytes: 0,
};
/// The first start id, in 2026.
const START: u64 = 1_770_000_000_000_000;
const TOPICS: [&str; 5] = ["topicone1", "topictwo2", "topicthree3", "topicfour4", "topicfive5"];

fn new_hub(limits: HubLimits, start: u64) -> (Hub, Inbox) {
    let (outbox, inbox) = inbox(Box::new(|| {}));
    (Hub::new(limits, vec![outbox], start), inbox)
}

fn name(topic: usize) -> TopicName {
    TopicName::parse(TOPICS[topic]).unwrap()
}

fn bytes_of(hub: &Hub) -> Vec<u8> {
    let mut bytes = Vec::new();
    hub.snapshot().unwrap().write(hub.newest(), &mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8], mark: u64) -> Result<Snapshot, SnapshotError> {
    Snapshot::read(&mut &bytes[..], bytes.len() as u64, mark)
}

/// Returns the hub of the next run.
fn restart(hub: &Hub, limits: HubLimits, now: u64) -> (Hub, Inbox) {
    let (next, inbox) = new_hub(limits, now + MAX_CLOCK_LEAD);
    let snapshot = read(&bytes_of(hub), hub.newest()).unwrap();
    next.restore(snapshot, now);
    (next, inbox)
}

fn publish(hub: &Hub, topic: usize, publisher_id: Option<&str>, now: u64) -> (u64, usize) {
    let id = publisher_id.map_or(String::new(), |id| format!("id: {id}\n"));
    let published = hub.publish(&name(topic), frames_from_text(&format!("{id}data: x{now}")).unwrap(), now, None);
    let published = published.unwrap();
    (published.id, published.events)
}

/// Returns what a client gets that resumes: its gap, and the retained events.
fn judge(hub: &Hub, topics: &[usize], position: &str) -> (Option<Gap>, Vec<Vec<u8>>) {
    let names: Vec<_> = topics.iter().map(|&topic| name(topic)).collect();
    let joined = hub.join(0, &names, Position::After(position)).unwrap();
    hub.abandon(0, &joined);
    assert!(joined.cursor <= joined.newest, "it gets every later event");
    let state = hub.lock();
    let feeds = names.iter().filter_map(|name| state.slot(name)).map(|slot| state.feeds.get(slot));
    let frames = feeds.flat_map(|feed| feed.window.after(joined.cursor));
    (joined.gap, frames.map(|frame| frame.wire(Framing::Chunked).to_vec()).collect())
}

/// Two hubs that get the same publishes; the second one is restarted.
struct Pair {
    rng: Rng,
    never_stopped: (Hub, Inbox),
    restarted: (Hub, Inbox),
    now: u64,
    /// All positions that a client may send.
    positions: Vec<String>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let (never_stopped, restarted) = (new_hub(LIMITS, START), new_hub(LIMITS, START));
        let positions = vec!["0".to_owned(), "never".to_owned(), START.to_string()];
        Self { rng: Rng::with_seed(seed), never_stopped, restarted, now: START + MAX_CLOCK_LEAD, positions }
    }

    fn publisher_id(&mut self) -> Option<String> {
        match self.rng.u8(0..8) {
            0 => Some(format!("own{}", self.rng.u8(0..20))),
            1 => Some(self.rng.u8(0..30).to_string()),
            2 => Some((self.now - self.rng.u64(0..3_000)).to_string()),
            _ => None,
        }
    }

    fn publish(&mut self) {
        self.now += self.rng.u64(1..2_000);
        // The last topics never have publisher ids.
        let topic = self.rng.usize(0..TOPICS.len());
        let publisher_id = if topic < 3 { self.publisher_id() } else { None };
        let [one, other] = [&self.never_stopped.0, &self.restarted.0]
            .map(|hub| publish(hub, topic, publisher_id.as_deref(), self.now));
        assert_eq!(one, other, "the same id, and duplicates are noticed");
        self.positions.extend(publisher_id);
        self.positions.extend([one.0, one.0 + 1].map(|id| id.to_string()));
    }

    fn expire(&mut self) {
        self.now += self.rng.u64(0..60_000_000);
        for hub in [&self.never_stopped.0, &self.restarted.0] {
            while hub.expire(self.now) {}
        }
    }

    fn restart(&mut self) {
        // A subscriber that is primed before the first event of a run gets a number that only this run knows.
        if self.restarted.0.newest() == self.never_stopped.0.newest() {
            self.positions.push(self.restarted.0.newest().to_string());
        }
        self.now += self.rng.u64(0..1_000_000);
        while self.never_stopped.0.expire(self.now) {}
        self.restarted = restart(&self.restarted.0, LIMITS, self.now);
        self.now += 2 * MAX_CLOCK_LEAD;
    }

    fn compare(&mut self) {
        for _ in 0..40 {
            let position = self.rng.choice(&self.positions).unwrap().clone();
            let count = self.rng.usize(1..3);
            let topics = self.rng.choose_multiple(0..TOPICS.len(), count);
            let [one, other] = [&self.never_stopped.0, &self.restarted.0].map(|hub| judge(hub, &topics, &position));
            assert_eq!(one, other, "{position} in {topics:?}");
        }
        let [one, other] = [&self.never_stopped.0, &self.restarted.0].map(|hub| hub.counts());
        assert_eq!((one.topics, one.history_events), (other.topics, other.history_events));
        assert!(other.history_bytes <= one.history_bytes, "{other:?} {one:?}");
        assert_eq!(self.never_stopped.0.evicted_through(), self.restarted.0.evicted_through());
    }
}

#[test]
fn positions_are_judged_as_if_the_broker_had_not_stopped() {
    for seed in 0..150 {
        let mut pair = Pair::new(seed);
        for _ in 0..pair.rng.usize(1..120) {
            match pair.rng.u8(0..20) {
                0 => pair.restart(),
                1 if pair.rng.bool() => pair.expire(),
                _ => pair.publish(),
            }
        }
        pair.restart();
        pair.compare();
        (0..10).for_each(|_| pair.publish());
        pair.compare();
    }
}

#[test]
fn a_primed_subscriber_of_either_run_misses_nothing() {
    let (hub, _inbox) = new_hub(LIMITS, START);
    let primed_at_start = START.to_string();
    let (next, _inbox) = restart(&hub, LIMITS, START + 1_000_000);
    let primed_after = next.newest().to_string();
    let id = publish(&next, 0, None, START + 3_000_000).0;
    for position in [&primed_at_start, &primed_after] {
        let (gap, frames) = judge(&next, &[0], position);
        assert_eq!((gap, frames.len()), (None, 1), "{position} before {id}");
    }
}

#[test]
fn an_id_that_no_run_has_assigned_is_a_gap() {
    let (hub, _inbox) = new_hub(LIMITS, START);
    let before = publish(&hub, 0, None, START + 1_000_000).0;
    let (next, _inbox) = restart(&hub, LIMITS, START + 9_000_000);
    publish(&next, 0, None, START + 20_000_000);
    assert!(judge(&next, &[0], &before.to_string()).0.is_none());
    // A backup of the data directory may have been restored, and events with such ids have been lost.
    assert!(judge(&next, &[0], &(START + 5_000_000).to_string()).0.is_some());
    assert!(judge(&next, &[0], &(START - 1).to_string()).0.is_some());
}

#[test]
fn the_present_limits_apply() {
    let (hub, _inbox) = new_hub(LIMITS, START);
    let now = START + 10_000_000;
    let ids: Vec<_> =
        (0..20).map(|step| publish(&hub, step % 4, Some(&format!("own{step}")), now + step as u64).0).collect();
    let restored = |limits| restart(&hub, limits, now + 1_000).0;
    let oldest = |hub: &Hub| hub.lock().feeds.oldest().map(|(id, _)| id);
    let fewer = restored(HubLimits { events_per_topic: 2, ..LIMITS });
    assert_eq!((fewer.counts().history_events, oldest(&fewer)), (8, Some(ids[12])));
    let younger = restored(HubLimits { age_micros: 1_000 - 15, ..LIMITS });
    assert_eq!((younger.counts().history_events, oldest(&younger)), (5, Some(ids[15])));
    let smaller = restored(HubLimits { bytes: hub.counts().history_bytes / 2, ..LIMITS });
    let left = smaller.counts().history_events;
    assert!((5..=10).contains(&left), "{left}");
    assert_eq!((oldest(&smaller), smaller.evicted_through()), (Some(ids[20 - left]), ids[19 - left]));
    for hub in [&fewer, &younger, &smaller] {
        assert!((0..4).all(|topic| judge(hub, &[topic], &ids[topic].to_string()).0.is_some()));
        assert!((16..20).all(|step| judge(hub, &[step % 4], &ids[step].to_string()).0.is_none()));
    }
    let none = restored(HubLimits { events_per_topic: 0, ..LIMITS });
    assert_eq!((none.counts().topics, none.counts().history_events), (0, 0));
    assert!((0..20).all(|step| judge(&none, &[step % 4], &ids[step].to_string()).0.is_some() == (step < 16)));
    let narrow = restored(HubLimits { topics: 3, ..LIMITS });
    assert_eq!((narrow.counts().topics, narrow.counts().history_events), (3, 15));
    assert!(judge(&narrow, &[0], &ids[0].to_string()).0.is_none());
    while narrow.expire(now + LIMITS.age_micros * 2) {}
    assert!(judge(&narrow, &[3], &ids[15].to_string()).0.is_some(), "no event is skipped silently");
    assert!(judge(&narrow, &[3], &ids[19].to_string()).0.is_none());
}

#[test]
fn topics_that_retain_nothing_are_remembered() {
    let (hub, _inbox) = new_hub(LIMITS, START);
    let joined = hub.join(0, &[name(1)], Position::Live).unwrap();
    let ids = [0, 1].map(|topic| publish(&hub, topic, None, START + 1_000_000).0);
    while hub.expire(START + 100_000_000) {}
    assert_eq!(hub.counts().topics, 1, "one has a subscriber, the other a tombstone");
    let (next, _inbox) = restart(&hub, LIMITS, START + 100_000_000);
    for (topic, id) in ids.into_iter().enumerate() {
        assert!(judge(&next, &[topic], &START.to_string()).0.is_some());
        assert!(judge(&next, &[topic], &id.to_string()).0.is_none());
    }
    assert!(judge(&next, &[2], &START.to_string()).0.is_none());
    hub.abandon(0, &joined);
}

/// Returns a small snapshot with something of everything, and its mark.
fn sample() -> (Vec<u8>, u64) {
    let (hub, _inbox) = new_hub(HubLimits { events_per_topic: 2, ..LIMITS }, START);
    publish(&hub, 3, None, START + 1_000_000);
    while hub.expire(START + 100_000_000) {}
    for step in 0..8 {
        publish(&hub, step % 3, None, START + 100_000_000);
    }
    publish(&hub, 0, Some("own"), START + 100_000_001);
    (bytes_of(&hub), hub.newest())
}

#[test]
fn whatever_is_cut_off_or_flipped_is_noticed() {
    let (bytes, mark) = sample();
    assert_eq!(read(&bytes, mark).unwrap().counts(), SnapshotCounts { events: 6, topics: 3 });
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len], mark).is_err(), "{len} of {} bytes", bytes.len());
        // The file may also become shorter while it is read.
        assert!(Snapshot::read(&mut &bytes[..len], bytes.len() as u64, mark).is_err());
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped, mark).is_err(), "bit {bit}");
    }
    assert!(read(&[&bytes[..], b"x"].concat(), mark).is_err(), "something follows");
}

#[test]
fn errors_say_what_is_wrong() {
    let (mut bytes, mark) = sample();
    assert!(matches!(read(b"", mark), Err(SnapshotError::Foreign)));
    assert!(matches!(read(b"SQLite format 3", mark), Err(SnapshotError::Foreign)));
    assert!(matches!(read(&bytes[..bytes.len() - 1], mark), Err(SnapshotError::Truncated)));
    assert!(matches!(read(&bytes, mark + 1), Err(SnapshotError::Stale { .. })));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert!(matches!(read(&bytes, mark), Err(SnapshotError::Damaged)));
    bytes[8] = 2;
    assert!(matches!(read(&bytes, mark), Err(SnapshotError::Version(2))));
}

#[test]
fn a_mark_that_does_not_cover_the_newest_id_is_refused() {
    let (hub, _inbox) = new_hub(LIMITS, START);
    assert!(hub.snapshot().unwrap().write(START - 1, &mut Vec::new()).is_err());
}

/// Content that no broker has written, in blocks whose checksums are right.
#[test]
fn inconsistent_content_does_no_harm() {
    let (bytes, mark) = sample();
    let mut content = Vec::new();
    let mut input = &bytes[..];
    let mut reader = BlockReader::begin(&mut input, bytes.len() as u64).unwrap();
    while let Ok(byte) = reader.byte() {
        content.push(byte);
    }
    let (mut rng, mut accepted) = (Rng::with_seed(7), 0);
    for _ in 0..5_000 {
        let mut content = content.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(8..content.len());
            let other = rng.u8(..);
            content[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, content[at] ^ 1, other]).unwrap();
        }
        let mut bytes = Vec::new();
        let mut writer = BlockWriter::begin(&mut bytes).unwrap();
        writer.put(&content).unwrap();
        writer.finish().unwrap();
        if let Ok(snapshot) = read(&bytes, mark) {
            accepted += 1;
            let (hub, _inbox) = new_hub(HubLimits { topics: 2, ..LIMITS }, mark + 1);
            hub.restore(snapshot, mark);
            for topic in 0..TOPICS.len() {
                let joined = hub.join(0, &[name(topic)], Position::After("own"));
                joined.into_iter().for_each(|joined| hub.abandon(0, &joined));
            }
            while hub.expire(u64::MAX) {}
            publish(&hub, 0, Some("own"), mark + 10);
        }
    }
    assert!(accepted > 20, "{accepted}");
}

#[test]
fn numbers_and_bytes_may_be_spread_over_blocks() {
    let mut rng = Rng::with_seed(3);
    let numbers: Vec<u64> = (0..300_000).map(|_| rng.u64(..) >> rng.u32(0..64)).collect();
    let large = vec![7; 2 * BLOCK + 5];
    let mut bytes = Vec::new();
    let mut writer = BlockWriter::begin(&mut bytes).unwrap();
    for &number in &numbers {
        writer.small(number).unwrap();
        writer.number(number).unwrap();
    }
    writer.put(&large).unwrap();
    writer.finish().unwrap();
    let mut input = &bytes[..];
    let mut reader = BlockReader::begin(&mut input, bytes.len() as u64).unwrap();
    for &number in &numbers {
        assert_eq!((reader.small().unwrap(), reader.number().unwrap()), (number, number));
    }
    assert!(reader.take(usize::MAX).is_err(), "a length that is too large allocates nothing");
    assert_eq!(reader.take(large.len()).unwrap(), large);
    assert!(reader.finish().is_ok());
}
