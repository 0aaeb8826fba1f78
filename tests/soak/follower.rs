//! One subscriber, and the second half of the oracle: checks every event received against the ledger. Independent of sockets.

use std::time::{Duration, Instant};

use crate::followers::{Behaviour, Follow};
use crate::ledger::Progress;
use crate::parser::{Block, Parser, Part};
use crate::plan::Scale;
use crate::records;
use crate::world::World;

/// With a history of 8 s, a follower that was disconnected for less than this must not get a gap.
const AWAY: Duration = Duration::from_secs(4);

/// What a follower subscribes to.
#[derive(Clone, Debug)]
pub enum Interest {
    /// Lanes. If they are steady, their history covers any disconnect.
    Lanes {
        lanes: Vec<usize>,
        is_steady: bool,
    },
    Records,
}

/// A subscriber and what it has received.
pub struct Follower {
    interest: Interest,
    parser: Parser,
    /// For each lane.
    progress: Vec<Progress>,
    /// The newest number for each record name.
    newest: Vec<u32>,
    /// The last id received, as text.
    position: String,
    last_id: u64,
    /// The current stream's response head has arrived.
    is_open: bool,
    /// The stream ended with the last chunk.
    has_ended: bool,
    has_seen: bool,
    /// The number of causes for a gap when the last one arrived, or when it subscribed.
    causes: u32,
    left_at: Instant,
    /// When the last event arrived.
    seen_at: Instant,
    was_away: Duration,
}

impl Follower {
    pub fn new(world: &World, interest: Interest) -> Self {
        let lanes = if let Interest::Lanes { lanes, .. } = &interest { lanes.len() } else { 0 };
        Self {
            progress: vec![Progress::default(); lanes],
            newest: vec![0; if lanes == 0 { world.records.count() } else { 0 }],
            interest,
            parser: Parser::default(),
            position: String::new(),
            last_id: 0,
            is_open: false,
            has_ended: false,
            has_seen: false,
            causes: 0,
            left_at: Instant::now(),
            seen_at: Instant::now(),
            was_away: Duration::ZERO,
        }
    }

    fn take(&mut self, world: &World, part: Part<'_>) -> Result<(), String> {
        match part {
            Part::Head(head) => self.begin(world, head),
            Part::End => {
                self.has_ended = true;
                Ok(())
            }
            Part::Block(block) if block.name == "gap" => self.take_gap(world, &block),
            Part::Block(block) => self.take_block(world, &block),
        }
    }

    fn begin(&mut self, world: &World, head: &str) -> Result<(), String> {
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(format!("the response to a subscription was {head}"));
        }
        self.is_open = true;
        self.was_away = self.left_at.elapsed();
        world.counts.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if self.position.is_empty() {
            self.last_id = 0;
            self.newest.fill(0);
            self.causes = world.causes();
            if let Interest::Lanes { lanes, .. } = &self.interest {
                let place =
                    |lane: &usize| Progress { last: world.ledger.lane(*lane).given(), is_fresh: true, gap: None };
                self.progress = lanes.iter().map(place).collect();
            }
        }
        Ok(())
    }

    fn take_gap(&mut self, world: &World, block: &Block<'_>) -> Result<(), String> {
        world.counts.gaps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let gap: serde_json::Value = serde_json::from_str(block.data).map_err(|error| error.to_string())?;
        let oldest = gap["oldest"].as_str().and_then(|id| id.parse().ok());
        self.progress.iter_mut().for_each(|place| place.gap = Some(oldest));
        self.last_id = 0;
        let causes = std::mem::replace(&mut self.causes, world.causes());
        let is_steady = !matches!(self.interest, Interest::Lanes { is_steady: false, .. });
        // A publisher's id is unknown once its event has expired, even if nothing followed it.
        let is_forgotten = self.position.starts_with("own-") && self.seen_at.elapsed() > AWAY;
        let has_cause = causes != self.causes || world.may_cause_gap() || is_forgotten;
        if is_steady && !has_cause && (self.has_seen || self.was_away < AWAY) {
            return Err(format!(
                "a gap ({}) without a cause: away for {:?}, {:?}",
                block.data, self.was_away, self.interest
            ));
        }
        Ok(())
    }

    fn take_block(&mut self, world: &World, block: &Block<'_>) -> Result<(), String> {
        let id = block.id.parse().ok();
        if let Some(id) = id {
            if id <= self.last_id && !block.data.is_empty() {
                return Err(format!("{block:?} came after {}", self.last_id));
            }
            self.last_id = id;
        }
        block.id.clone_into(&mut self.position);
        if block.data.is_empty() {
            return Ok(());
        }
        self.has_seen = true;
        self.seen_at = Instant::now();
        world.counts.delivered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match &self.interest {
            Interest::Records => self.take_record(world, block),
            Interest::Lanes { .. } => self.take_event(world, block.data, id),
        }
    }

    fn take_event(&mut self, world: &World, data: &str, id: Option<u64>) -> Result<(), String> {
        let Interest::Lanes { lanes, .. } = &self.interest else { return Ok(()) };
        let mut words = data.splitn(3, ' ').map(str::parse::<u64>);
        let (Some(Ok(lane)), Some(Ok(number))) = (words.next(), words.next()) else {
            return Err(format!("{data:.40?} was never sent"));
        };
        let at = lanes.iter().position(|own| *own as u64 == lane).ok_or("an event of another topic came")?;
        self.progress[at] = world.ledger.lane(lane as usize).judge(self.progress[at], number, id)?;
        Ok(())
    }

    fn take_record(&mut self, world: &World, block: &Block<'_>) -> Result<(), String> {
        let name = world.records.find(block.name).ok_or_else(|| format!("{block:?} was never inserted"))?;
        let number = records::number(block.data).ok_or_else(|| format!("{block:?} was never inserted"))?;
        if number <= self.newest[name] {
            return Err(format!("{number} of {} came after {}", block.name, self.newest[name]));
        }
        self.newest[name] = number;
        Ok(())
    }
}

impl Follow for Follower {
    type World = World;

    fn forget_position(&mut self) {
        self.position.clear();
    }

    /// Without a position, what is published from now on must arrive.
    fn request(&self, world: &World, token: &str) -> String {
        let target = match &self.interest {
            Interest::Records => "/events?".to_owned(),
            Interest::Lanes { lanes, .. } => {
                let topics: Vec<&str> = lanes.iter().map(|lane| world.ledger.lane(*lane).topic.as_str()).collect();
                format!("/subscribe/{}?prime&", topics.join(","))
            }
        };
        let position = Some(&self.position).filter(|position| !position.is_empty());
        let field = position.map_or(String::new(), |position| format!("Last-Event-ID: {position}\r\n"));
        format!("GET {target}token={token} HTTP/1.1\r\nHost: soak\r\n{field}\r\n")
    }

    fn leave(&mut self) {
        if self.is_open {
            self.left_at = Instant::now();
        }
        self.parser = Parser::default();
        (self.is_open, self.has_ended, self.has_seen) = (false, false, false);
    }

    fn read(&mut self, world: &World, bytes: &[u8]) -> Result<(), String> {
        let mut parser = std::mem::take(&mut self.parser);
        let result = parser.read(bytes, |part| self.take(world, part));
        self.parser = parser;
        result
    }

    fn is_open(&self) -> bool {
        self.is_open
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn lacks(&self, world: &World) -> Option<String> {
        if !self.is_open {
            return Some(format!("{:?} has no stream", self.interest));
        }
        match &self.interest {
            Interest::Lanes { lanes, .. } => lanes.iter().zip(&self.progress).find_map(|(lane, place)| {
                let lane = world.ledger.lane(*lane);
                let (last, due) = (place.last, lane.acknowledged());
                (last < due).then(|| format!("{} of {}, has {last}", due, lane.topic))
            }),
            Interest::Records => self.newest.iter().enumerate().find_map(|(name, have)| {
                let due = world.records.newest(name);
                (*have < due).then(|| format!("record {due} of name {name}, has {have}"))
            }),
        }
    }
}

/// Returns all followers and how they behave.
pub fn crew(world: &World, scale: &Scale) -> Vec<(Behaviour, Follower)> {
    let lanes =
        |first: usize, count: usize, is_steady| Interest::Lanes { lanes: (first..first + count).collect(), is_steady };
    let mut crew = Vec::new();
    for nth in 0..scale.followers {
        let one = nth % scale.steady_lanes;
        let three = one.min(scale.steady_lanes - 3);
        crew.push(match nth % 20 {
            0..8 => (Behaviour::Stays, lanes(one, 1, true)),
            8..11 => (Behaviour::Stays, lanes(three, 3, true)),
            11..14 => (Behaviour::Resumes, lanes(one, 1, true)),
            14 => (Behaviour::Resumes, lanes(three, 3, true)),
            15 | 16 => (Behaviour::Renews, lanes(one, 1, true)),
            17 => (Behaviour::Stays, Interest::Records),
            18 => (if nth % 40 == 18 { Behaviour::Resumes } else { Behaviour::Renews }, Interest::Records),
            _ => (Behaviour::Stays, lanes(scale.steady_lanes + nth / 20 % scale.flood_lanes, 1, false)),
        });
    }
    let flooded = |nth| lanes(scale.steady_lanes + nth % scale.flood_lanes, 1, false);
    crew.extend((0..scale.slow_readers).map(|nth| (Behaviour::ReadsSlowly, flooded(nth))));
    crew.into_iter().map(|(behaviour, interest)| (behaviour, Follower::new(world, interest))).collect()
}
