//! What is true, as lists that are searched from end to end: all that was ever sent, what was said of it, and what each stream
//! must therefore have. Refuses to know how bytes travel.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

/// What an item is an event of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    Topic(usize),
    /// A record of this name.
    Name(usize),
}

/// What the client that sent an item knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, not answered.
    Asked,
    /// Answered with 200.
    Accepted,
    /// Answered with: nothing of it was taken.
    Refused,
    /// The connection was lost, or the answer says that nobody knows.
    Unknown,
}

/// An event or a record; its number is its place in the list, and its data.
#[derive(Clone, Debug)]
pub struct Item {
    pub feed: Feed,
    pub state: State,
    /// The broker's start that it was sent to.
    pub boot: usize,
    /// The step in which it was sent.
    pub sent: usize,
    /// The largest id that was known then: its own is larger.
    pub after: u64,
    /// Its own, once it was told or seen.
    pub id: Option<u64>,
    /// The one that its publisher gave it, which streams show instead.
    pub own: Option<String>,
    /// A stream or an audit has shown it.
    pub is_seen: bool,
    /// A disk that lies has lost power since: it need not be there.
    pub is_doubtful: bool,
    /// A backup from before it was restored: it is not there.
    pub is_lost: bool,
}

impl Item {
    pub fn is_record(&self) -> bool {
        matches!(self.feed, Feed::Name(_))
    }

    pub fn has_own_number(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.parse::<u64>().is_ok())
    }

    /// Whether it must be there.
    pub fn counts(&self) -> bool {
        !self.is_lost && (self.state == State::Accepted || self.is_seen)
    }

    /// Whether its id is certainly larger than this.
    fn is_after(&self, id: u64) -> bool {
        self.id.map_or(self.after >= id, |own| own > id)
    }

    /// Whether its id is certainly no larger than this.
    fn is_through(&self, id: u64) -> bool {
        self.id.is_some_and(|own| own <= id)
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Truth {
    pub items: Vec<Item>,
    /// Whose each id is.
    owners: BTreeMap<u64, usize>,
    /// Ids that a later start may give again.
    loose: BTreeSet<u64>,
    pub newest: u64,
    pub boot: usize,
    pub step: usize,
    /// All ids up to this were given before this broker started, and it knows.
    pub boot_covered: u64,
    /// No id up to this is given by this broker.
    pub boot_newest: u64,
    /// All ids up to this were given before the store last looked, so that no later start gives them again.
    pub covered: u64,
    /// What is stored is as a disk that lies has left it.
    pub is_damaged: bool,
    /// The store has failed: until the next start, what is read may be what the disk has made of it.
    pub has_failed: bool,
    /// Ids may be given twice: a disk that lies has lost power.
    pub ids_are_doubtful: bool,
}

impl Truth {
    /// A client sends an item.
    pub fn send(&mut self, feed: Feed) -> usize {
        self.items.push(Item {
            feed,
            state: State::Asked,
            boot: self.boot,
            sent: self.step,
            after: self.newest,
            id: None,
            own: None,
            is_seen: false,
            is_doubtful: self.is_damaged && matches!(feed, Feed::Name(_)),
            is_lost: false,
        });
        self.items.len() - 1
    }

    /// An id that a publisher gives: a new one, one that another event has or had, or a number that may be taken for the
    /// broker's.
    pub fn own_id(&self, rng: &mut Rng) -> Option<String> {
        let events = self.items.iter().filter(|item| item.boot == self.boot && !item.is_record());
        let some = |rng: &mut Rng, ids: Vec<String>| (!ids.is_empty()).then(|| ids[rng.usize(0..ids.len())].clone());
        match rng.u8(0..16) {
            0 => Some(format!("own{}", self.items.len())),
            1 | 2 => Some(format!("again{}", rng.u8(0..3))),
            5 => some(rng, events.filter_map(|item| item.own.clone()).collect()),
            3 => some(rng, events.filter_map(|item| Some(item.id?.to_string())).collect()),
            4 => Some((self.newest + rng.u64(1..3_000_000)).to_string()),
            _ => None,
        }
    }

    /// The broker has said of an item that its topic retains an event with the same id of a publisher's.
    pub fn repeat(&mut self, number: usize) {
        let item = &self.items[number];
        let is_same = |other: &Item| other.feed == item.feed && other.own == item.own && other.boot == item.boot;
        // It is one of them itself. Which of them came first is not known: they may have been sent on different connections.
        let alike = self.items.iter().filter(|other| is_same(other));
        assert!(item.own.is_some() && alike.count() > 1, "it repeats nothing: {item:?}");
        self.refuse(number..number + 1, State::Refused);
    }

    /// The broker has told an item's id in an answer.
    pub fn accept(&mut self, items: std::ops::Range<usize>, last: u64) {
        let before = self.items[items.start].after;
        assert!(last > before || self.ids_are_doubtful, "{last} was given after {before}: ids must grow");
        for item in &mut self.items[items.clone()] {
            assert_eq!(item.state, State::Asked);
            item.state = State::Accepted;
        }
        self.identify(items.end - 1, last);
    }

    /// The broker has said that it took nothing.
    pub fn refuse(&mut self, items: std::ops::Range<usize>, state: State) {
        for item in &mut self.items[items] {
            assert!(!item.is_seen || state != State::Refused, "what was refused was shown");
            item.state = state;
        }
    }

    fn identify(&mut self, number: usize, id: u64) {
        let owner = *self.owners.entry(id).or_insert(number);
        let may_be_both = self.loose.contains(&id) && self.items[owner].boot != self.items[number].boot;
        let is_unique = owner == number || may_be_both || self.ids_are_doubtful;
        assert!(is_unique, "{owner} and {number} have the same id {id}");
        let item = &mut self.items[number];
        assert!(item.id.is_none_or(|known| known == id), "item {number} has two ids: {item:?} and {id}");
        item.id = Some(id);
        self.newest = self.newest.max(id);
    }

    /// The broker is gone, and its successor knows which ids were given by what the store has noted and by the clock. A clock
    /// that was set back, and ids that ran ahead of it because they were noted ahead, leave it to the store alone; what that
    /// could not note in the last moment, or on a full disk, may be given again.
    pub fn forget_ids_after(&mut self, clock_micros: u64) {
        self.newest = self.newest.min(self.covered.max(clock_micros));
        self.loose.extend(self.owners.keys().filter(|&&id| id > self.newest));
    }

    /// A stream or an audit shows an item, and its id unless its publisher's takes its place.
    pub fn see(&mut self, number: usize, id: Option<u64>) {
        let (boot, item) = (self.boot, &mut self.items[number]);
        assert_ne!(item.state, State::Refused, "what was refused is shown: {item:?}");
        assert!(!item.is_lost, "what was lost is shown: {item:?}");
        item.is_seen = true;
        assert!(item.is_record() || item.boot == boot, "an event outlives its broker");
        let Some(id) = id else { return };
        assert!(id > item.after || self.ids_are_doubtful, "{id} is no larger than {}, given before", item.after);
        self.identify(number, id);
    }

    /// The versions of a name that are known to be there.
    pub fn versions(&self, name: usize) -> impl Iterator<Item = usize> {
        let all = self.items.iter().enumerate();
        let is_there = move |item: &Item| item.feed == Feed::Name(name) && item.counts() && !item.is_doubtful;
        all.filter(move |(_, item)| is_there(item)).map(|(number, _)| number)
    }

    /// A backup from before these items is restored.
    pub fn lose_records_from(&mut self, first: usize) {
        self.items[first..].iter_mut().filter(|item| item.is_record()).for_each(|item| item.is_lost = true);
    }

    /// Where a stream of records begins that goes on after an id.
    pub fn record_start(&self, id: u64) -> Start {
        match self.owners.get(&id).map(|&number| &self.items[number]) {
            // The broker that published it remembers it.
            Some(item) if item.boot == self.boot && item.counts() && !item.is_doubtful => Start::After(id),
            Some(item) if item.is_lost && id <= self.boot_newest && !self.ids_are_doubtful => Start::Unknown,
            _ => Start::AfterInDoubt(id),
        }
    }

    /// A disk that lies has made the past uncertain: what is stored, and which ids were given.
    pub fn doubt_everything(&mut self) {
        self.ids_are_doubtful = true;
        (self.newest, self.covered) = (0, 0);
        self.doubt_records();
    }

    /// What such a disk holds may be gone even before, when the kernel drops what an honest fsync could not write.
    pub fn doubt_records(&mut self) {
        self.is_damaged = true;
        for item in self.items.iter_mut().filter(|item| item.is_record()) {
            item.is_doubtful = true;
        }
    }
}

/// What a client has seen last, as its position says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// This id of the broker's.
    Id(u64),
    /// The id that this item's publisher gave it.
    Item(usize),
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is sent after its head has come.
    Live,
    /// With all that is retained, which may be all there is.
    Retained { is_all: bool },
    /// After this id.
    After(u64),
    /// After this item, which shows its publisher's id, or with a gap and all there is if that can mean something else.
    AfterItem(usize),
    /// After this id, or with a gap and all there is: it may not exist any more, or the store may not be able to tell.
    AfterInDoubt(u64),
    /// With a gap, and then all there is.
    Unknown,
}

/// What a stream has said, for the reckoning.
#[derive(Debug)]
pub struct Account {
    pub feeds: BTreeSet<usize>,
    pub is_records: bool,
    /// Nothing is ever evicted.
    pub is_all_retained: bool,
    pub start: Start,
    /// The step in which its head came; none: not yet.
    pub opened: Option<usize>,
    pub boot: usize,
    /// Ids and numbers, as they came.
    pub log: Vec<(u64, usize)>,
    /// For each gap: how much of the log was before it, what it called the oldest, and when it came.
    pub gaps: Vec<(usize, Option<u64>, usize)>,
}

impl Account {
    fn hears(&self, feed: Feed) -> bool {
        match feed {
            Feed::Topic(topic) => !self.is_records && self.feeds.contains(&topic),
            Feed::Name(name) => self.is_records && (self.feeds.is_empty() || self.feeds.contains(&name)),
        }
    }

    /// An event has come: new, in order, and one that was asked for. What the client has seen by it.
    pub fn take(&mut self, shown: &str, number: usize, truth: &mut Truth) -> Seen {
        let item = truth.items.get(number).unwrap_or_else(|| panic!("nobody sent {number}"));
        assert!(self.hears(item.feed) || item.is_doubtful, "{:?} was not asked for", item.feed);
        let last = self.log.last().map_or(0, |(id, _)| *id);
        if let Some(own) = &item.own {
            assert_eq!(own, shown);
            assert!(!self.has(number), "{item:?} is doubled");
            assert!(item.id.is_none_or(|id| id > last), "{item:?} after {last}: out of order");
            self.log.push((item.id.unwrap_or(last), number));
            truth.see(number, None);
            return Seen::Item(number);
        }
        let id = shown.parse().expect("a broker's id is a number");
        assert!(id > last, "{id} after {last}: doubled or out of order");
        // After a gap comes all that is retained, in another topic from before the position.
        let is_old = matches!(self.start, Start::After(start) | Start::AfterInDoubt(start) if id <= start);
        assert!(!is_old || (!self.is_records && !self.gaps.is_empty()), "{id} is not after the position");
        truth.see(number, Some(id));
        self.log.push((id, number));
        Seen::Id(id)
    }

    /// A gap has come.
    pub fn take_gap(&mut self, oldest: Option<u64>, step: usize) {
        if matches!(self.start, Start::AfterInDoubt(_)) && self.log.is_empty() {
            self.start = Start::Unknown;
        }
        self.gaps.push((self.log.len(), oldest, step));
    }

    fn has(&self, number: usize) -> bool {
        self.log.iter().any(|entry| entry.1 == number)
    }

    /// Whether a gap has told that it is gone.
    fn is_excused(&self, item: &Item) -> bool {
        // Of several topics one may retain from before another's losses.
        let is_exact = self.feeds.len() == 1 || self.is_all_retained;
        self.gaps.iter().any(|&(_, oldest, step)| match oldest {
            Some(oldest) if is_exact => item.id.unwrap_or(item.after) < oldest,
            _ => item.sent <= step,
        })
    }

    fn is_due(&self, item: &Item, truth: &Truth) -> bool {
        let is_live = self.opened.is_some_and(|opened| item.sent > opened);
        match self.start {
            Start::Live => is_live,
            Start::Retained { is_all } => is_live || is_all,
            Start::After(id) | Start::AfterInDoubt(id) => item.is_after(id),
            Start::AfterItem(number) => truth.items[number].id.is_some_and(|id| item.is_after(id)),
            Start::Unknown => true,
        }
    }

    /// Nothing that it must have is missing: all there is if it `is_caught_up`, else all before the last that came.
    pub fn assert_whole(&self, truth: &Truth, is_caught_up: bool, who: &str) {
        let Some(_) = self.opened else { return };
        if self.is_records {
            return self.assert_newest(truth, is_caught_up, who);
        }
        self.assert_gaps_true(truth, who);
        let horizon = self.log.last().map_or(0, |(id, _)| *id);
        for (number, item) in truth.items.iter().enumerate() {
            let is_owed = self.hears(item.feed) && item.counts() && item.boot == self.boot && self.is_due(item, truth);
            if is_owed && (is_caught_up || item.is_through(horizon)) && !self.has(number) && !self.is_excused(item) {
                panic!("{who} misses {number}, {item:?}: {self:?}");
            }
        }
    }

    /// Each gap tells of losses of its own. The one at the opening is the hub's, before this worker has let go of all that the
    /// hub has: it need only have had something to lose.
    fn assert_gaps_true(&self, truth: &Truth, who: &str) {
        let Some(&(before, _, step)) = self.gaps.first() else { return };
        let is_at_opening = before == 0 && !matches!(self.start, Start::Live | Start::Retained { .. });
        let may_be = |item: &Item| item.state != State::Refused && item.boot == self.boot && self.hears(item.feed);
        let mut owed = truth.items.iter().filter(|item| may_be(item) && item.sent <= step && !self.is_before(item));
        let is_in_doubt = match self.start {
            Start::Unknown | Start::AfterItem(_) => true,
            _ => truth.items.iter().any(|item| may_be(item) && item.has_own_number()),
        };
        let is_known = !is_at_opening || is_in_doubt || owed.next().is_some();
        assert!(is_known, "{who} lost nothing that the gap at its opening could tell of: {self:?}");
        let told = self.gaps.len() - usize::from(is_at_opening);
        let items = truth.items.iter().enumerate();
        let lost = items.filter(|(number, item)| may_be(item) && !self.has(*number)).count();
        assert!(told <= lost, "{who} was told of {told} gaps and lost {lost} events: {self:?}");
    }

    fn is_before(&self, item: &Item) -> bool {
        matches!(self.start, Start::After(start) if item.is_through(start))
    }

    /// Of records it is the newest of each name that counts.
    fn assert_newest(&self, truth: &Truth, is_caught_up: bool, who: &str) {
        if !is_caught_up {
            return;
        }
        for (number, item) in truth.items.iter().enumerate() {
            let Some(id) = item.id.filter(|_| item.counts() && !item.is_doubtful && self.hears(item.feed)) else {
                continue;
            };
            if matches!(self.start, Start::After(start) | Start::AfterInDoubt(start) if id <= start) {
                continue;
            }
            let has_newer = self.log.iter().any(|&(had, other)| had >= id && truth.items[other].feed == item.feed);
            assert!(has_newer, "{who} has nothing as new as {number}, {item:?}: {self:?}");
        }
    }

    /// Whoever takes everything at once has every version.
    pub fn assert_every_record(&self, truth: &Truth) {
        let Some(opened) = self.opened.filter(|_| self.is_records) else { return };
        for (number, item) in truth.items.iter().enumerate() {
            let is_live = item.sent > opened && item.boot == self.boot;
            if is_live && self.hears(item.feed) && item.counts() {
                assert!(self.has(number), "a version is missing: {number}, {item:?}: {self:?}");
            }
        }
    }
}
