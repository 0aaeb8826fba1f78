//! The log on a real server, which each test starts by itself: `redis-server`, or what `ESKER_TEST_REDIS` names. What every
//! implementation of the log does is tested with the one in memory as well.
// The suite's functions are tests, though without the attribute.
#![allow(clippy::unwrap_used)]

mod acknowledgements;
mod alike;
mod conformance;
mod cost;
mod inserts;
mod memory;
mod outages;
mod records;
#[path = "../redis_server/mod.rs"]
mod redis_server;
mod refusals;
mod removals;
mod revocations;
mod support;
#[cfg(feature = "tls")]
mod tls;

mod on_a_server {
    use crate::support::Vary as _;

    crate::conformance!({
        let server = crate::redis_server::RedisServer::start(&[]);
        move |retention| crate::support::connect(crate::support::settings(&server).retaining(retention))
    });
}

mod records_on_a_server {
    use crate::support::Vary as _;

    crate::record_conformance!({
        let server = crate::redis_server::RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
        move |retention| crate::support::connect(crate::support::settings(&server).retaining(retention))
    });
}

mod removals_on_a_server {
    use crate::support::Vary as _;

    crate::removal_conformance!({
        let server = crate::redis_server::RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
        move |retention| crate::support::connect(crate::support::settings(&server).retaining(retention))
    });
}

mod removals_in_memory {
    use esker::internals::engine::log::Connect as _;
    use esker::internals::engine::sim::SimLog;

    crate::removal_conformance!({
        let mut log = None;
        move |retention| {
            let log = log.get_or_insert_with(|| SimLog::new(1, 1_800_000_000_000_000, retention));
            log.connector(1).connect().unwrap()
        }
    });
}

mod inserts_on_a_server {
    use crate::support::Vary as _;

    crate::insert_conformance!({
        let server = crate::redis_server::RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
        move |retention| crate::support::connect(crate::support::settings(&server).retaining(retention))
    });
}

mod in_memory {
    use esker::internals::engine::log::Connect as _;
    use esker::internals::engine::sim::SimLog;

    crate::conformance!({
        let mut log = None;
        move |retention| {
            let log = log.get_or_insert_with(|| SimLog::new(1, 1_800_000_000_000_000, retention));
            log.connector(1).connect().unwrap()
        }
    });
}

mod records_in_memory {
    use esker::internals::engine::log::Connect as _;
    use esker::internals::engine::sim::SimLog;

    crate::record_conformance!({
        let mut log = None;
        move |retention| {
            let log = log.get_or_insert_with(|| SimLog::new(1, 1_800_000_000_000_000, retention));
            log.connector(1).connect().unwrap()
        }
    });
}

mod inserts_in_memory {
    use esker::internals::engine::log::Connect as _;
    use esker::internals::engine::sim::SimLog;

    crate::insert_conformance!({
        let mut log = None;
        move |retention| {
            let log = log.get_or_insert_with(|| SimLog::new(1, 1_800_000_000_000_000, retention));
            log.connector(1).connect().unwrap()
        }
    });
}
