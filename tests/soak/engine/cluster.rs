//! Three brokers on one Redis, each behind a link of its own, and a load balancer in front of them.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::Failure;
use crate::client::Peer;
use crate::engine::redis_server::RedisServer;
use crate::engine::relay::{Gate, Relay};
use crate::process::{Launch, Process};

pub const BROKERS: usize = 3;
/// A server that has each command on its disk before it replies.
const DURABLE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];
/// The time limit for the start of a broker, which waits 30 s for Redis and then has to be started again.
const START: Duration = Duration::from_secs(90);
/// A history that outlasts every fault, so that a gap has no excuse.
const OPTIONS: [&str; 7] = [
    "--threads=2",
    "--history=1000000",
    "--history-age=3m",
    "--history-bytes=64M",
    "--heartbeat=2s",
    "--stall=5s",
    "--retry=1s",
];

/// The brokers, their links, and Redis.
pub struct Cluster {
    pub nodes: Vec<Node>,
    balancer: Relay,
    redis: Mutex<RedisServer>,
    /// The process of Redis; 0 while there is none.
    pub redis_pid: AtomicU32,
    /// Incremented before a broker is ended and when it listens again.
    generation: AtomicU32,
    /// Brokers that are being restarted.
    restarting: AtomicU32,
    pub restarts: AtomicU64,
    turn: AtomicUsize,
}

/// A broker, and its link to Redis.
pub struct Node {
    pub address: SocketAddr,
    pub link: Relay,
    launch: Launch,
    process: Mutex<Process>,
    pub pid: AtomicU32,
}

impl Cluster {
    /// Starts Redis, the links, the brokers and the balancer. The brokers' logs go to this directory.
    pub fn start(program: &str, cores: &str, results: &Path) -> Result<Self, Failure> {
        let redis = RedisServer::start(&DURABLE);
        let start = |index| Node::start(program, cores, results, index, &redis);
        let nodes = (0..BROKERS).map(start).collect::<Result<Vec<_>, _>>()?;
        let balancer = Relay::start(nodes.iter().map(|node| node.address).collect())?;
        Ok(Self {
            nodes,
            balancer,
            redis_pid: AtomicU32::new(redis.pid().unwrap_or(0)),
            redis: Mutex::new(redis),
            generation: AtomicU32::new(0),
            restarting: AtomicU32::new(0),
            restarts: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        })
    }

    /// Locks Redis, so that nothing else stops it.
    pub fn lock_redis(&self) -> MutexGuard<'_, RedisServer> {
        self.redis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills Redis, waits with `pause`, and starts it again.
    pub fn restart_redis(&self, pause: impl FnOnce()) {
        let mut redis = self.lock_redis();
        self.redis_pid.store(0, SeqCst);
        redis.kill();
        pause();
        redis.restart();
        self.redis_pid.store(redis.pid().unwrap_or(0), SeqCst);
    }

    /// Ends a broker with a signal, waits with `pause`, and starts it again on the same port.
    pub fn restart(&self, index: usize, signal: Signal, pause: impl FnOnce()) -> Result<(), Failure> {
        let node = &self.nodes[index];
        let mut process = node.lock();
        self.restarting.fetch_add(1, SeqCst);
        self.generation.fetch_add(1, SeqCst);
        let ended = process.end(signal);
        pause();
        let started = node.launch.spawn_again(node.address.port());
        self.generation.fetch_add(1, SeqCst);
        self.restarting.fetch_sub(1, SeqCst);
        *process = started?;
        node.pid.store(process.pid(), SeqCst);
        self.restarts.fetch_add(1, SeqCst);
        ended
    }

    /// Returns the generation, or `None` while a broker is being restarted.
    pub fn quiet_generation(&self) -> Option<u32> {
        let generation = self.generation.load(SeqCst);
        (self.restarting.load(SeqCst) == 0).then_some(generation)
    }

    /// Returns whether a client's connection may break that was used since this generation.
    pub fn may_break(&self, since: Option<u32>) -> bool {
        since.is_none() || since != self.quiet_generation()
    }

    /// Returns the balancer as a peer.
    pub fn through_balancer(&self) -> Balanced<'_> {
        Balanced(self)
    }

    /// Undoes what a fault may have left.
    pub fn heal(&self) {
        self.nodes.iter().for_each(|node| node.link.set(Gate::Open));
    }
}

/// The brokers in turn.
impl Peer for Cluster {
    fn address(&self) -> SocketAddr {
        self.nodes[self.turn.fetch_add(1, SeqCst) % BROKERS].address
    }

    fn generation(&self) -> u32 {
        self.generation.load(SeqCst)
    }
}

/// The brokers through the balancer.
pub struct Balanced<'a>(&'a Cluster);

impl Peer for Balanced<'_> {
    fn address(&self) -> SocketAddr {
        self.0.balancer.address
    }

    fn generation(&self) -> u32 {
        self.0.generation()
    }
}

impl Node {
    fn start(program: &str, cores: &str, results: &Path, index: usize, redis: &RedisServer) -> Result<Self, Failure> {
        let link = Relay::start(vec![redis.address()])?;
        let log = results.join(format!("broker{index}.log"));
        File::create(&log)?;
        let url = format!("--engine=redis://{}", link.address);
        let arguments = OPTIONS.iter().map(OsString::from).chain([OsString::from(url)]).collect();
        let launch = Launch {
            program: program.to_owned(),
            cores: cores.to_owned(),
            arguments,
            environment: Vec::new(),
            log,
            patience: START,
        };
        let process = launch.spawn(0)?;
        Ok(Self {
            address: process.address(),
            link,
            launch,
            pid: AtomicU32::new(process.pid()),
            process: Mutex::new(process),
        })
    }

    /// Locks the process, so that nothing else stops it.
    pub fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One broker alone.
impl Peer for Node {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn generation(&self) -> u32 {
        self.pid.load(SeqCst)
    }
}
