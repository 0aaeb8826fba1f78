//! One subscriber, to topics or to records, at any broker. Checks what it receives at once as far as possible; `oracle` does the
//! rest.

use std::sync::atomic::Ordering::Relaxed;

use crate::engine::ledger::{LARGE, TOPICS, topic};
use crate::engine::oracle::{self, Stretch};
use crate::engine::records;
use crate::engine::world::World;
use crate::followers::{Behaviour, Follow};
use crate::parser::{Block, Parser, Part};

/// What a follower subscribes to.
#[derive(Clone, Debug)]
pub enum Interest {
    Topics(Vec<usize>),
    Records,
}

/// A subscriber and what it has received.
pub struct Follower {
    interest: Interest,
    parser: Parser,
    is_open: bool,
    has_ended: bool,
    /// The last id received, as text.
    position: String,
    /// The last id of a broker.
    last_id: u64,
    /// What it has received since the last judgment: one stretch for each subscription without a position.
    stretches: Vec<Stretch>,
    /// The largest number for each topic.
    latest: [u64; TOPICS],
    /// The newest id for each name of a record.
    newest: Vec<u64>,
}

impl Follower {
    fn new(world: &World, interest: Interest) -> Self {
        Self {
            newest: vec![0; if matches!(interest, Interest::Records) { records::count(world) } else { 0 }],
            interest,
            parser: Parser::default(),
            is_open: false,
            has_ended: false,
            position: String::new(),
            last_id: 0,
            stretches: Vec::new(),
            latest: [0; TOPICS],
        }
    }

    fn take(&mut self, world: &World, part: &Part<'_>) -> Result<(), String> {
        match part {
            Part::Head(head) if head.starts_with("HTTP/1.1 200 ") => {
                self.is_open = true;
                world.counts.opened.fetch_add(1, Relaxed);
                Ok(())
            }
            Part::Head(head) => Err(format!("the response to a subscription was {head}")),
            Part::End => {
                self.has_ended = true;
                Ok(())
            }
            Part::Block(block) if block.name == "gap" => {
                Err(format!("{:?} was told a gap: {}, position {}", self.interest, block.data, self.position))
            }
            Part::Block(block) => self.take_block(world, block),
        }
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
            self.stretches.push(Stretch::after(self.last_id));
            return Ok(());
        }
        world.counts.delivered.fetch_add(1, Relaxed);
        match &self.interest {
            Interest::Topics(topics) => {
                let number = block.data.split(' ').next().and_then(|number| number.parse().ok());
                let number: u64 = number.ok_or_else(|| format!("{:.40?} was never sent", block.data))?;
                let seen = world.ledger.note_seen(topics, number, id);
                let topic = seen.map_err(|words| format!("event {number} {words}"))?;
                self.latest[topic] = self.latest[topic].max(number);
                let stretch = self.stretches.last_mut().ok_or("an event came before the position")?;
                stretch.numbers.push(number);
                Ok(())
            }
            Interest::Records => {
                let id = id.ok_or_else(|| format!("{block:?} has no id of a record"))?;
                let name = records::note_seen(world, block.name, block.data, id)?;
                self.newest[name] = id;
                Ok(())
            }
        }
    }

    fn judge_stretches(&mut self, world: &World, order: &oracle::Order) {
        let Interest::Topics(topics) = &self.interest else { return };
        let has_all = self.lacks(world).is_none();
        let stretches = std::mem::take(&mut self.stretches);
        let last = stretches.len().saturating_sub(1);
        let mut end = order.newest(topics);
        for (nth, stretch) in stretches.iter().enumerate() {
            match oracle::judge(stretch, topics, order, has_all && nth == last) {
                Ok(newest) => end = newest,
                // Goes on after all events, so that one defect is reported once.
                Err(words) => {
                    world.fail(format!("{:?}: {words}", self.interest));
                    end = order.newest(topics);
                }
            }
        }
        self.stretches.push(Stretch::after(end));
    }
}

impl Follow for Follower {
    type World = World;

    fn request(&self, _world: &World, token: &str) -> String {
        let target = match &self.interest {
            Interest::Records => "/events?".to_owned(),
            Interest::Topics(topics) => {
                let names: Vec<String> = topics.iter().map(|index| topic(*index)).collect();
                format!("/subscribe/{}?prime&", names.join(","))
            }
        };
        let position = Some(&self.position).filter(|position| !position.is_empty());
        let field = position.map_or(String::new(), |position| format!("Last-Event-ID: {position}\r\n"));
        format!("GET {target}token={token} HTTP/1.1\r\nHost: soak\r\n{field}\r\n")
    }

    fn read(&mut self, world: &World, bytes: &[u8]) -> Result<(), String> {
        let mut parser = std::mem::take(&mut self.parser);
        let result = parser.read(bytes, |part| self.take(world, &part));
        self.parser = parser;
        result
    }

    fn leave(&mut self) {
        self.parser = Parser::default();
        (self.is_open, self.has_ended) = (false, false);
    }

    fn forget_position(&mut self) {
        self.position.clear();
        self.last_id = 0;
        self.newest.fill(0);
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
            Interest::Topics(topics) => topics.iter().find_map(|index| {
                let (due, have) = (world.ledger.final_of(*index), self.latest[*index]);
                // Who subscribed afterwards, without a position, does not get it.
                let is_due = self.stretches.last().is_some_and(|stretch| stretch.begin < due.id);
                (is_due && have < due.number).then(|| format!("{due:?} of topic {index}, has {have}"))
            }),
            Interest::Records => records::lacks(world, &self.newest),
        }
    }

    fn judge<'f>(world: &World, followers: impl Iterator<Item = &'f mut Self>) {
        let (order, faults) = world.ledger.order();
        faults.into_iter().for_each(|words| world.fail(words));
        followers.for_each(|follower| follower.judge_stretches(world, &order));
    }
}

/// Returns all followers and how they behave.
pub fn crew(world: &World, count: usize) -> Vec<(Behaviour, Follower)> {
    let mut crew = Vec::new();
    for nth in 0..count {
        let (one, all) = (Interest::Topics(vec![nth % LARGE]), Interest::Topics((0..LARGE).collect()));
        crew.push(match nth % 12 {
            0..3 => (Behaviour::Stays, one),
            3 => (Behaviour::Stays, all),
            4..6 => (Behaviour::Resumes, one),
            6 => (Behaviour::Resumes, all),
            7 => (Behaviour::Renews, one),
            8 => (Behaviour::Stays, Interest::Records),
            9 => (Behaviour::Resumes, Interest::Records),
            10 => (Behaviour::ReadsSlowly, Interest::Topics(vec![LARGE])),
            _ => (Behaviour::Renews, Interest::Records),
        });
    }
    let has_records = world.records.is_some();
    crew.retain(|(_, interest)| has_records || !matches!(interest, Interest::Records));
    crew.into_iter().map(|(behaviour, interest)| (behaviour, Follower::new(world, interest))).collect()
}
