//! A server and a replica that takes over from it. Brokers reach whichever is the primary at one address.

use super::balancer::{Balancer, Targets};
use super::redis_server::RedisServer;
use super::{DURABLE, wait_until};

pub struct Failover {
    primary: RedisServer,
    replica: RedisServer,
    replication: Balancer,
    engine: Balancer,
}

impl Failover {
    pub fn start() -> Self {
        let (primary, replica) = (RedisServer::start(&DURABLE), RedisServer::start(&DURABLE));
        let replication = Balancer::start(Targets::new(&[primary.address()]));
        replica.replicate_from(replication.address);
        let engine = Balancer::start(Targets::new(&[primary.address()]));
        Self { primary, replica, replication, engine }
    }

    /// Returns the URL of the primary.
    pub fn url(&self) -> String {
        format!("redis://{}", self.engine.address)
    }

    /// Has the replica receive nothing from now on. It has everything that was acknowledged before.
    pub fn stop_replication(&self) {
        let now = offset(&self.primary, "master_repl_offset:");
        wait_until("the replica has caught up", || offset(&self.replica, "slave_repl_offset:") >= now);
        self.replication.switch_to(&[]);
    }

    /// Kills the primary, and has the replica take over with what it has received.
    pub fn fail_over(&mut self) {
        self.engine.switch_to(&[]);
        self.primary.kill();
        self.replica.promote();
        self.engine.switch_to(&[self.replica.address()]);
    }
}

/// Returns an offset in the stream of replication.
fn offset(server: &RedisServer, field: &str) -> u64 {
    let info = server.command::<String>(&["INFO", "replication"]);
    let offset = info.lines().find_map(|line| line.strip_prefix(field)).expect("an offset");
    offset.trim().parse().expect("a number")
}
