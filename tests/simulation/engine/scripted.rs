//! What seeds rarely meet: losses that are hard to notice, and entries that can't be read.

use std::sync::Arc;
use std::time::Duration;

use esker::internals::engine::Health;
use esker::internals::engine::log::{Append, Connect as _, Hello, Log as _};
use esker::internals::engine::settings::Retention;
use esker::internals::engine::sim::{Fault, Kind, OldServer, SimLog};
use esker::internals::records::VersionRetention;
use esker::internals::sim::{ManualClock, appender_link, tail_link};

use super::follower::Told;
use super::node::{Answers, Node};

/// A log and the nodes that share it.
struct Bench {
    log: SimLog,
    clock: Arc<ManualClock>,
    nodes: Vec<Node>,
    answers: Answers,
    publishes: usize,
}

impl Bench {
    fn new() -> Self {
        let retention = Retention {
            age: Duration::from_secs(600),
            bytes: 1 << 30,
            record_bytes: 1 << 30,
            versions: VersionRetention::ALL,
        };
        let log = SimLog::new(1, 1_770_000_000_000_000, retention);
        let (clock, answers) = (Arc::new(ManualClock::default()), Answers::default());
        let nodes = (1..3).map(|serial| Node::start(serial, &log, &clock, &answers)).collect();
        let mut bench = Self { log, clock, nodes, answers, publishes: 0 };
        bench.run(5);
        bench
    }

    /// Runs everything for this number of tenths of a second.
    fn run(&mut self, tenths: usize) {
        for _ in 0..tenths {
            for node in &mut self.nodes {
                node.step_appender();
                node.run_tail();
                node.expire();
            }
            self.clock.advance(100_000);
            self.log.advance(100_000);
        }
    }

    fn publish(&mut self, node: usize) {
        self.nodes[node].publish(self.publishes, "topicone1", &[None]);
        self.publishes += 1;
    }

    fn cut_tail(&self, node: usize, is_cut: bool) {
        self.log.cut(tail_link(self.nodes[node].serial), is_cut);
    }

    fn has_lost(&self, node: usize) -> bool {
        self.nodes[node].follower.lock().told.iter().any(|told| matches!(told, Told::LoseThrough(_)))
    }
}

/// What a newer version of Esker may append.
#[test]
fn an_entry_that_cannot_be_read_stops_the_tail_for_good() {
    let mut bench = Bench::new();
    bench.publish(0);
    bench.run(5);
    let hello = Hello { broker: 9, session: 1 };
    let mut newer = bench.log.connector(99).connect().expect("a connection");
    newer.hello(hello).expect("a session");
    let append = Append { hello, batch: 1, floor: 0, events: 1, blob: &[2, 1, 1], own_ids: &[] };
    let appended = newer.append(&append).expect("an entry");
    bench.publish(0);
    bench.run(60);
    for node in &bench.nodes {
        let status = node.engine.status();
        assert!(matches!(status.health, Health::Unreadable(_)), "{status:?}");
        assert!(status.applied < appended.first, "{status:?}");
        let events = node.follower.lock().told.iter().filter(|told| matches!(told, Told::Event(_))).count();
        assert_eq!(events, 1, "nothing after the entry is applied");
    }
}

#[test]
fn a_lost_append_is_noticed_though_another_server_has_a_newer_one() {
    let mut bench = Bench::new();
    bench.cut_tail(0, true);
    bench.publish(0);
    bench.run(15);
    assert_eq!(bench.answers.take().len(), 1, "it is acknowledged though the tail is late");
    bench.log.lose_suffix(1, OldServer::Gone);
    bench.publish(0);
    bench.run(15);
    bench.cut_tail(0, false);
    bench.run(80);
    assert!(bench.has_lost(0) && bench.has_lost(1));
    assert!(bench.nodes.iter().all(Node::is_ready));
}

#[test]
fn an_append_to_a_server_that_was_replaced_is_noticed_after_the_loss_was_told() {
    let mut bench = Bench::new();
    bench.publish(1);
    bench.run(2);
    bench.log.lose_suffix(1, OldServer::Unaware);
    // The tail of the first moves to the new server and is told of the loss; its appender stays.
    bench.log.break_link(tail_link(bench.nodes[0].serial));
    bench.publish(0);
    bench.nodes[0].step_appender();
    bench.run(30);
    assert!(bench.has_lost(0));
    bench.publish(0);
    bench.run(30);
    bench.log.end_unaware_servers();
    bench.log.break_link(appender_link(bench.nodes[0].serial));
    bench.run(80);
    bench.publish(0);
    bench.run(20);
    assert!(bench.nodes.iter().all(Node::is_ready), "{:?}", bench.nodes[0].engine.status());
    let applied: Vec<_> = bench.nodes.iter().map(|node| node.engine.status().applied).collect();
    assert_eq!(applied, [bench.log.last(); 2]);
}

/// A tail that can't tell which name was erased loads all records, a few at a time, after it has read others from the log.
#[test]
fn a_reload_has_what_was_read_since_the_tail_attached() {
    let mut bench = Bench::new();
    let names = ["a", "b", "c", "d", "e", "f"];
    for (number, name) in names.into_iter().enumerate() {
        bench.nodes[0].insert_plain(number, name);
        bench.nodes[0].step_appender();
    }
    bench.nodes[0].insert_plain(6, "x");
    bench.nodes[0].step_appender();
    bench.nodes[0].erase(0, "x", None);
    bench.nodes[0].step_appender();
    (0..40).for_each(|_| bench.log.plan(tail_link(bench.nodes[1].serial), Kind::Records, Fault::Short(2)));
    bench.run(20);
    for node in &bench.nodes {
        let notes = node.follower.lock();
        let known: Vec<_> = notes.newest.keys().map(|name| &**name).collect();
        assert_eq!(known, names, "{:?}", notes.told);
    }
}
