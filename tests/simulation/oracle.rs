//! The oracle: what was sent, how the broker responded, and what each stream must therefore have. Plain lists that are
//! searched from end to end. Independent of how bytes travel.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::conditions::{Condition, Conflicts, Terms};
use super::erasures::{Erased, Told, assert_told};
use super::world::NAMES;

/// The topic or the record name that an item belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    Topic(usize),
    /// A record of this name.
    Name(usize),
}

/// What the client that sent an item knows about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, without a response so far.
    Sent,
    /// The response was 200.
    Accepted,
    /// The response says that nothing was accepted.
    Refused,
    /// The connection was lost, or the response says that the outcome is unknown.
    Unknown,
}

/// An event or a record. Its number is its index in the list; its data begins with it.
#[derive(Clone, Debug)]
pub struct Item {
    pub feed: Feed,
    pub state: State,
    /// The number of the start of the broker that it was sent to; of an event, the start at which the history begins.
    pub boot: usize,
    /// The step in which it was sent.
    pub sent: usize,
    /// The largest id known then. Its own is larger.
    pub after: u64,
    /// The broker's id, once a response or a stream has shown it.
    pub id: Option<u64>,
    /// The id that its publisher gave it, which streams show instead.
    pub publisher_id: Option<String>,
    /// On which condition it is stored.
    pub condition: Condition,
    /// What it was sent with, if it has an idempotency key.
    pub terms: Option<Terms>,
    /// The number of items when it was last sent again.
    pub sent_again: Option<usize>,
    /// A stream or an audit page has shown it.
    pub is_seen: bool,
    /// A lying disk has lost power since: it need not exist.
    pub is_doubtful: bool,
    /// An older backup was restored since: it does not exist.
    pub is_lost: bool,
    pub erased: Erased,
}

impl Item {
    pub fn is_record(&self) -> bool {
        matches!(self.feed, Feed::Name(_))
    }

    pub fn has_numeric_publisher_id(&self) -> bool {
        self.publisher_id.as_ref().is_some_and(|id| id.parse::<u64>().is_ok())
    }

    /// Returns whether it must exist.
    pub fn must_exist(&self) -> bool {
        !self.is_lost && self.erased == Erased::No && (self.state == State::Accepted || self.is_seen)
    }

    /// Returns whether its id is certainly larger than this.
    pub fn is_after(&self, id: u64) -> bool {
        self.id.map_or(self.after >= id, |own| own > id)
    }

    /// Returns whether its id is certainly no larger than this.
    pub fn is_through(&self, id: u64) -> bool {
        self.id.is_some_and(|own| own <= id)
    }
}

/// Everything that was sent, and what is known about ids.
#[derive(Debug, Default)]
pub struct Oracle {
    pub items: Vec<Item>,
    /// The item that has each id.
    owners: BTreeMap<u64, usize>,
    /// Ids that a later start of the broker may assign again.
    reusable: BTreeSet<u64>,
    pub newest: u64,
    /// The number of starts.
    pub boot: usize,
    /// The number of the start at which the history of topics begins, which later starts have continued.
    pub history: usize,
    pub step: usize,
    /// Every id up to this was assigned before this broker started, and this broker knows that.
    pub boot_covered: u64,
    /// This broker assigns no id up to this.
    pub boot_newest: u64,
    /// The store has noted every id up to this, so no later start assigns them again.
    pub covered: u64,
    /// A lying disk may have damaged what is stored.
    pub is_damaged: bool,
    /// The store has failed. Until the next start, reads may show what the disk has made of the records.
    pub has_failed: bool,
    /// A lying disk has lost power, so ids may be assigned twice.
    pub ids_are_doubtful: bool,
    /// The versions that must exist, because rejected requests were told about them.
    pub conflicts: Conflicts,
    /// How many versions of each name are kept; `None` for all.
    pub kept: Option<usize>,
    /// Whether versions are erased.
    pub has_erasures: bool,
    /// The names whose versions are being erased, all of them, as far as clients know.
    pub erasing: Vec<usize>,
}

impl Oracle {
    /// Returns an oracle of a broker that keeps this many versions of each name, and may be asked to erase some.
    pub fn new(kept: Option<usize>, has_erasures: bool) -> Self {
        Self { kept, has_erasures, ..Self::default() }
    }

    /// Returns whether the retention allows to remove a version: as many newer ones as are kept may exist.
    pub fn may_be_removed(&self, number: usize) -> bool {
        let Some((kept, id)) = self.kept.zip(self.items[number].id) else { return false };
        let may_be_newer = |item: &&Item| {
            item.feed == self.items[number].feed
                && !item.is_lost
                && item.state != State::Refused
                && item.id.is_none_or(|other| other > id)
        };
        self.items.iter().filter(may_be_newer).count() >= kept
    }

    /// Returns the number of the start before which nothing is known: of records, of this broker; of events, of their history.
    pub fn begin(&self, is_records: bool) -> usize {
        if is_records { self.boot } else { self.history }
    }

    /// Notes that a client sends an item. Returns its number.
    pub fn send(&mut self, feed: Feed) -> usize {
        let is_erasing = matches!(feed, Feed::Name(name) if self.erasing.contains(&name));
        self.items.push(Item {
            feed,
            state: State::Sent,
            boot: self.begin(matches!(feed, Feed::Name(_))),
            sent: self.step,
            after: self.newest,
            id: None,
            publisher_id: None,
            condition: Condition::Always,
            terms: None,
            sent_again: None,
            is_seen: false,
            is_doubtful: self.is_damaged && matches!(feed, Feed::Name(_)),
            is_lost: false,
            erased: if is_erasing { Erased::Maybe } else { Erased::No },
        });
        self.items.len() - 1
    }

    /// Returns a publisher's id, or `None` for most events: a new id, one that another event has or had, or a number that may
    /// be taken for the broker's.
    pub fn some_publisher_id(&self, rng: &mut Rng) -> Option<String> {
        let events = self.items.iter().filter(|item| item.boot == self.history && !item.is_record());
        let some = |rng: &mut Rng, ids: Vec<String>| (!ids.is_empty()).then(|| ids[rng.usize(0..ids.len())].clone());
        match rng.u8(0..16) {
            0 => Some(format!("own{}", self.items.len())),
            1 | 2 => Some(format!("again{}", rng.u8(0..3))),
            5 => some(rng, events.filter_map(|item| item.publisher_id.clone()).collect()),
            3 => some(rng, events.filter_map(|item| Some(item.id?.to_string())).collect()),
            4 => Some((self.newest + rng.u64(1..3_000_000)).to_string()),
            _ => None,
        }
    }

    /// The response to an item says that its topic already retains an event with the same publisher's id.
    pub fn accept_duplicate(&mut self, number: usize) {
        let item = &self.items[number];
        let is_same = |other: &Item| {
            other.feed == item.feed && other.publisher_id == item.publisher_id && other.boot == item.boot
        };
        // The item itself is one of them. The first to arrive is unknown: they may have used different connections.
        let alike = self.items.iter().filter(|other| is_same(other));
        assert!(item.publisher_id.is_some() && alike.count() > 1, "no other event has the publisher's id: {item:?}");
        self.refuse(number..number + 1, State::Refused);
    }

    /// The response accepts items, and has the id of the last one.
    pub fn accept(&mut self, items: std::ops::Range<usize>, last: u64) {
        let before = self.items[items.start].after;
        assert!(last > before || self.ids_are_doubtful, "{last} was assigned after {before}: ids must grow");
        for item in &mut self.items[items.clone()] {
            assert_eq!(item.state, State::Sent);
            item.state = State::Accepted;
        }
        self.identify(items.end - 1, last);
    }

    /// The response to a repeated request accepts an item, now or before.
    pub fn accept_again(&mut self, number: usize, id: u64) {
        self.items[number].state = State::Accepted;
        self.identify(number, id);
    }

    /// Nothing was accepted, or the outcome is unknown.
    pub fn refuse(&mut self, items: std::ops::Range<usize>, state: State) {
        for item in &mut self.items[items] {
            assert!(!item.is_seen || state != State::Refused, "a refused item was shown");
            item.state = state;
        }
    }

    fn identify(&mut self, number: usize, id: u64) {
        let owner = *self.owners.entry(id).or_insert(number);
        let may_be_both = self.reusable.contains(&id) && self.items[owner].boot != self.items[number].boot;
        let is_unique = owner == number || may_be_both || self.ids_are_doubtful;
        assert!(is_unique, "{owner} and {number} have the same id {id}");
        let item = &mut self.items[number];
        assert!(item.id.is_none_or(|known| known == id), "item {number} has two ids: {item:?} and {id}");
        item.id = Some(id);
        self.newest = self.newest.max(id);
    }

    /// The broker is gone. Its successor knows which ids were assigned from the store's notes and from the clock. If the clock
    /// was set back, or ids ran ahead of it, the store's notes alone remain, and an id that the store could not note in the
    /// last moment or on a full disk may be assigned again.
    pub fn forget_ids_after(&mut self, clock_micros: u64) {
        // What its requests had not begun is not done any more.
        self.erasing.clear();
        self.newest = self.newest.min(self.covered.max(clock_micros));
        self.reusable.extend(self.owners.keys().filter(|&&id| id > self.newest));
    }

    /// A stream or an audit page shows an item, and its id unless the publisher's id takes its place.
    pub fn show(&mut self, number: usize, id: Option<u64>) {
        let (history, item) = (self.history, &mut self.items[number]);
        assert_ne!(item.state, State::Refused, "a refused item is shown: {item:?}");
        assert!(!item.is_lost, "a lost item is shown: {item:?}");
        item.is_seen = true;
        assert!(item.is_record() || item.boot == history, "an event outlives its history");
        let Some(id) = id else { return };
        assert!(
            id > item.after || self.ids_are_doubtful,
            "{id} is no larger than {}, which was assigned before",
            item.after
        );
        self.identify(number, id);
    }

    /// Returns the versions of a name that must exist.
    pub fn versions(&self, name: usize) -> impl Iterator<Item = usize> {
        let all = self.items.iter().enumerate();
        let must_exist = move |item: &Item| item.feed == Feed::Name(name) && item.must_exist() && !item.is_doubtful;
        all.filter(move |(_, item)| must_exist(item)).map(|(number, _)| number)
    }

    /// A backup that does not have the items from `first` on is restored.
    pub fn lose_records_from(&mut self, first: usize) {
        self.items[first..].iter_mut().filter(|item| item.is_record()).for_each(|item| item.is_lost = true);
        // It may have been stored only when it was sent again.
        let is_in_doubt = |item: &&mut Item| item.sent_again.is_some_and(|items| items >= first);
        self.items[..first].iter_mut().filter(is_in_doubt).for_each(|item| item.is_doubtful = true);
        // What was erased since is there again.
        let is_back = |item: &&mut Item| matches!(item.erased, Erased::Since(_));
        self.items[..first].iter_mut().filter(is_back).for_each(|item| item.erased = Erased::Maybe);
        self.conflicts.clear();
    }

    /// Returns where a stream of records begins whose `Last-Event-ID` is this id.
    pub fn record_start(&self, id: u64) -> Start {
        match self.owners.get(&id).map(|&number| &self.items[number]) {
            // The broker that published it knows it.
            Some(item) if item.boot == self.boot && item.must_exist() && !item.is_doubtful && self.keeps_all() => {
                Start::After(id)
            }
            Some(item) if item.is_lost && id <= self.boot_newest && !self.ids_are_doubtful => Start::Unknown,
            _ => Start::AfterInDoubt(id),
        }
    }

    fn keeps_all(&self) -> bool {
        self.kept.is_none() && !self.has_erasures
    }

    /// A lying disk has made uncertain what is stored and which ids were assigned.
    pub fn doubt_everything(&mut self) {
        self.ids_are_doubtful = true;
        (self.newest, self.covered) = (0, 0);
        self.doubt_records();
    }

    /// Records on a lying disk may be gone even without a loss of power: the kernel drops what an honest fsync could not write.
    pub fn doubt_records(&mut self) {
        self.is_damaged = true;
        self.conflicts.clear();
        for item in self.items.iter_mut().filter(|item| item.is_record()) {
            item.is_doubtful = true;
        }
    }
}

/// The last event that a client has seen, as its `Last-Event-ID` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The broker's id.
    Id(u64),
    /// The id that this item's publisher gave it.
    Item(usize),
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is sent after its response head has arrived.
    Live,
    /// With everything retained, which may be everything there is.
    Retained { is_all: bool },
    /// After this id.
    After(u64),
    /// After this item, which has a publisher's id; or with a gap and everything retained if that id is ambiguous.
    AfterItem(usize),
    /// After this id; or with a gap and everything retained, because the id may no longer exist, or the store may be unable to
    /// look it up.
    AfterInDoubt(u64),
    /// With a gap, and then everything retained.
    Unknown,
}

/// What a stream has received, and what it may expect.
#[derive(Debug)]
pub struct StreamLog {
    pub feeds: BTreeSet<usize>,
    pub is_records: bool,
    /// Nothing is ever evicted.
    pub is_all_retained: bool,
    pub start: Start,
    /// The step in which its response head arrived, if it has.
    pub opened: Option<usize>,
    pub boot: usize,
    /// Ids and item numbers, in the order of arrival.
    pub events: Vec<(u64, usize)>,
    /// For each gap: the number of events before it, its `oldest`, and the step in which it arrived.
    pub gaps: Vec<(usize, Option<u64>, usize)>,
    pub told: Told,
}

impl StreamLog {
    fn wants(&self, feed: Feed) -> bool {
        match feed {
            Feed::Topic(topic) => !self.is_records && self.feeds.contains(&topic),
            Feed::Name(name) => self.is_records && (self.feeds.is_empty() || self.feeds.contains(&name)),
        }
    }

    /// Takes an event, which must be new, in order, and of a feed that was asked for. Returns the client's position after it.
    pub fn take(&mut self, shown: &str, number: usize, oracle: &mut Oracle) -> Position {
        let item = oracle.items.get(number).unwrap_or_else(|| panic!("nobody sent {number}"));
        assert!(self.wants(item.feed) || item.is_doubtful, "{:?} was not asked for", item.feed);
        let last = self.events.last().map_or(0, |(id, _)| *id);
        if let Some(id) = &item.publisher_id {
            assert_eq!(id, shown);
            assert!(!self.has(number), "{item:?} is duplicated");
            assert!(item.id.is_none_or(|id| id > last), "{item:?} after {last}: out of order");
            self.events.push((item.id.unwrap_or(last), number));
            oracle.show(number, None);
            return Position::Item(number);
        }
        let id = shown.parse().expect("a broker's id is a number");
        assert!(id > last.max(self.told.newest), "{id} after {last}, {:?}: duplicated or out of order", self.told);
        // A gap is followed by everything retained. In another topic that may be older than the position.
        let is_old = matches!(self.start, Start::After(start) | Start::AfterInDoubt(start) if id <= start);
        assert!(!is_old || (!self.is_records && !self.gaps.is_empty()), "{id} is not after the position");
        oracle.show(number, Some(id));
        self.events.push((id, number));
        Position::Id(id)
    }

    /// Takes the event that says that a name was erased. Returns the client's position after it.
    pub fn take_erasure(&mut self, id: u64, name: &str, oracle: &Oracle) -> Position {
        let name = NAMES.iter().position(|known| *known == name).expect("a name");
        let last = self.events.last().map_or(0, |(id, _)| *id).max(self.told.newest);
        assert!(id > last, "an erasure has the id {id} after {last}");
        assert!(oracle.has_erasures && self.wants(Feed::Name(name)), "nobody has asked for an erasure of {name}");
        self.told.add(name, id, self.events.len());
        Position::Id(id)
    }

    /// Takes a gap.
    pub fn take_gap(&mut self, oldest: Option<u64>, step: usize) {
        if matches!(self.start, Start::AfterInDoubt(_)) && self.events.is_empty() {
            self.start = Start::Unknown;
        }
        self.gaps.push((self.events.len(), oldest, step));
    }

    fn has(&self, number: usize) -> bool {
        self.events.iter().any(|entry| entry.1 == number)
    }

    /// Returns whether a gap has reported that the item was evicted.
    fn is_excused(&self, item: &Item) -> bool {
        // With several topics, one may retain events older than what another has evicted.
        let is_exact = self.feeds.len() == 1 || self.is_all_retained;
        self.gaps.iter().any(|&(_, oldest, step)| match oldest {
            Some(oldest) if is_exact => item.id.unwrap_or(item.after) < oldest,
            _ => item.sent <= step,
        })
    }

    fn is_due(&self, item: &Item, oracle: &Oracle) -> bool {
        let is_live = self.opened.is_some_and(|opened| item.sent > opened);
        match self.start {
            Start::Live => is_live,
            Start::Retained { is_all } => is_live || is_all,
            Start::After(id) | Start::AfterInDoubt(id) => item.is_after(id),
            Start::AfterItem(number) => oracle.items[number].id.is_some_and(|id| item.is_after(id)),
            Start::Unknown => true,
        }
    }

    /// Checks that nothing is missing: of everything if the stream `is_caught_up`, else of what precedes the last event
    /// received.
    pub fn assert_complete(&self, oracle: &Oracle, is_caught_up: bool, who: &str) {
        let Some(_) = self.opened else { return };
        if self.is_records {
            return self.assert_newest(oracle, is_caught_up, who);
        }
        self.assert_gaps_justified(oracle, who);
        let horizon = self.events.last().map_or(0, |(id, _)| *id);
        for (number, item) in oracle.items.iter().enumerate() {
            let is_required =
                self.wants(item.feed) && item.must_exist() && item.boot == self.boot && self.is_due(item, oracle);
            if is_required && (is_caught_up || item.is_through(horizon)) && !self.has(number) && !self.is_excused(item)
            {
                panic!("{who} misses {number}, {item:?}: {self:?}");
            }
        }
    }

    /// Checks that each gap reports losses of its own. The gap at the beginning comes from the hub, which may evict before
    /// this worker's replica does: for that one it is enough that something could be lost.
    fn assert_gaps_justified(&self, oracle: &Oracle, who: &str) {
        let Some(&(before, _, step)) = self.gaps.first() else { return };
        let is_at_opening = before == 0 && !matches!(self.start, Start::Live | Start::Retained { .. });
        let may_be = |item: &Item| item.state != State::Refused && item.boot == self.boot && self.wants(item.feed);
        let mut losable = oracle.items.iter().filter(|item| may_be(item) && item.sent <= step && !self.is_before(item));
        let is_in_doubt = match self.start {
            Start::Unknown | Start::AfterItem(_) => true,
            _ => oracle.items.iter().any(|item| may_be(item) && item.has_numeric_publisher_id()),
        };
        let is_known = !is_at_opening || is_in_doubt || losable.next().is_some();
        assert!(is_known, "{who} could have lost nothing before the gap at its beginning: {self:?}");
        let reported = self.gaps.len() - usize::from(is_at_opening);
        let items = oracle.items.iter().enumerate();
        let lost = items.filter(|(number, item)| may_be(item) && !self.has(*number)).count();
        assert!(reported <= lost, "{who} received {reported} gaps and lost {lost} events: {self:?}");
    }

    fn is_before(&self, item: &Item) -> bool {
        matches!(self.start, Start::After(start) if item.is_through(start))
    }

    /// Checks that the stream has the newest record of each name, or a newer one.
    fn assert_newest(&self, oracle: &Oracle, is_caught_up: bool, who: &str) {
        if !is_caught_up {
            return;
        }
        if !oracle.has_failed {
            let gaps: Vec<usize> = self.gaps.iter().map(|(before, ..)| *before).collect();
            assert_told(&self.events, &gaps, &self.told, oracle, who);
        }
        for (number, item) in oracle.items.iter().enumerate() {
            let Some(id) = item.id.filter(|_| item.must_exist() && !item.is_doubtful && self.wants(item.feed)) else {
                continue;
            };
            if matches!(self.start, Start::After(start) | Start::AfterInDoubt(start) if id <= start) {
                continue;
            }
            let has_newer = self.events.iter().any(|&(had, other)| had >= id && oracle.items[other].feed == item.feed);
            assert!(has_newer, "{who} has nothing as new as {number}, {item:?}: {self:?}");
        }
    }

    /// Checks that a stream which reads everything at once has every version.
    pub fn assert_every_record(&self, oracle: &Oracle) {
        let Some(opened) = self.opened.filter(|_| self.is_records) else { return };
        for (number, item) in oracle.items.iter().enumerate() {
            let is_live = item.sent > opened && item.boot == self.boot;
            if is_live && self.wants(item.feed) && item.must_exist() {
                assert!(self.has(number), "a version is missing: {number}, {item:?}: {self:?}");
            }
        }
    }
}
