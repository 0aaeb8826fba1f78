//! What records take in memory is about what the log says.

use esker::internals::engine::log::Log;

use crate::conformance::Broker;
use crate::redis_server::RedisServer;
use crate::support::{connect, settings};

const BATCH: usize = 1000;

/// Records to insert.
#[derive(Clone, Copy, Debug)]
struct Load {
    records: usize,
    names: usize,
    name_len: usize,
    data_len: usize,
}

/// Returns the memory that the server uses for its data.
fn used(server: &RedisServer) -> u64 {
    let info = server.command::<String>(&["INFO", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse().unwrap()
}

/// Inserts records, and returns the bytes that they take by the log's account and in fact.
fn measure(load: Load) -> (u64, u64) {
    let Load { records, names, name_len, data_len } = load;
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    // What a connection and the scripts take is there before.
    broker.insert(&[("first", "1")]).unwrap();
    let before = (broker.log.pulse(broker.hello).unwrap().record_bytes, used(&server));
    let data = "x".repeat(data_len);
    for batch in 0..records / BATCH {
        let names = (0..BATCH).map(|index| (batch * BATCH + index) % names);
        let names = names.map(|number| format!("{number:0>name_len$}")).collect::<Vec<_>>();
        let pairs = names.iter().map(|name| (name.as_str(), data.as_str())).collect::<Vec<_>>();
        broker.insert(&pairs).unwrap();
    }
    let after = (broker.log.pulse(broker.hello).unwrap().record_bytes, used(&server));
    (after.0 - before.0, after.1 - before.1)
}

/// The memory that a set takes grows in steps, so that these limits are generous.
fn assert_close(load: Load) {
    let (told, used) = measure(load);
    let percent = told * 100 / used;
    println!("{load:?}: {told} bytes by the log's account, {used} in fact: {percent} %");
    assert!((75..=140).contains(&percent), "{load:?}: {told} bytes by the log's account, {used} in fact");
}

#[test]
fn records_of_many_names_are_accounted_for() {
    for (name_len, data_len) in [(10, 50), (100, 50), (10, 500), (100, 500), (10, 5000)] {
        let records = if data_len > 1000 { 4000 } else { 20_000 };
        assert_close(Load { records, names: records, name_len, data_len });
    }
}

#[test]
fn versions_of_few_names_are_accounted_for() {
    for (name_len, data_len) in [(10, 50), (100, 50), (10, 500), (100, 500), (100, 5000)] {
        let records = if data_len > 1000 { 4000 } else { 20_000 };
        assert_close(Load { records, names: 100, name_len, data_len });
    }
}
