//! The log on a real server, which each test starts by itself: `redis-server`, or what `ESKER_TEST_REDIS` names.
// The suite's functions are tests, though without the attribute.
#![allow(clippy::unwrap_used)]

mod acknowledgements;
mod conformance;
mod memory;
mod outages;
#[path = "../redis_server/mod.rs"]
mod redis_server;
mod refusals;
mod support;
#[cfg(feature = "tls")]
mod tls;

/// What every implementation of the log does.
mod on_a_server {
    use crate::support::Vary as _;

    crate::conformance!({
        let server = crate::redis_server::RedisServer::start(&[]);
        move |retention| crate::support::connect(crate::support::settings(&server).retaining(retention))
    });
}
