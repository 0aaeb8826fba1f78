//! Conditional inserts and idempotency keys at several brokers: one insert wins against each version, and each key stores one
//! record, whatever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::super::cluster::{Cluster, Node};
use super::super::redis_server::RedisServer;
use super::super::support::{Connection, Response};
use super::super::{DURABLE, crowd_size, lock_machine, rounds, wait_until};

const CLIENTS: usize = 32;
const NAME: &str = "counter";

/// Inserts a record with these header fields. `None` if the connection broke.
fn insert(connection: &mut Option<Connection>, address: SocketAddr, fields: &str, data: &str) -> Option<Response> {
    use std::io::Write as _;
    let socket = match connection.take() {
        Some(connection) => Some(connection),
        None => std::net::TcpStream::connect(address).ok().map(Connection::from_socket),
    };
    let mut open = socket?;
    let body = format!("{{\"event\":\"{NAME}\",\"data\":{data}}}");
    let head = format!("POST /insert HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    open.socket.write_all((head + &body).as_bytes()).ok()?;
    let response = open.response_or_end()?;
    *connection = Some(open);
    Some(response)
}

fn id_of(response: &Response) -> u64 {
    response.json()["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

/// Returns the ids and the data of all versions at a broker, oldest first.
fn audit(node: &Node) -> Vec<(u64, String)> {
    let mut versions: Vec<(u64, String)> = Vec::new();
    loop {
        let after = versions.last().map_or(0, |(id, _)| *id);
        let page = node.broker().get(&format!("/audit/{NAME}?after={after}&limit=10000"));
        assert_eq!(page.status, 200, "{page:?}");
        let json = page.json();
        let mut more: Vec<(u64, String)> = json.as_object().expect("an object").iter().map(version).collect();
        more.sort_unstable();
        if more.is_empty() {
            return versions;
        }
        versions.extend(more);
    }
}

fn version((key, data): (&String, &serde_json::Value)) -> (u64, String) {
    let id = key.rsplit_once("_v_").and_then(|(_, id)| id.parse().ok()).expect("a key ends in an id");
    (id, data.to_string())
}

/// Each client inserts on the condition that the newest version is the one it knows. Its data is that version's id.
#[test]
fn one_insert_wins_against_each_version() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 3);
    let first = insert(&mut None, cluster.nodes[0].address(), "If-None-Match: *\r\n", "0").expect("a response");
    let (first, wins) = (id_of(&first), crowd_size(300, 32_000));
    let (won, conflicts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..CLIENTS).map(|number| {
        let address = cluster.nodes[number % 3].address();
        let (won, conflicts) = (Arc::clone(&won), Arc::clone(&conflicts));
        thread::spawn(move || {
            let (mut connection, mut known) = (None, first);
            while won.load(Ordering::Relaxed) < wins {
                let fields = format!("If-Match: \"{known}\"\r\n");
                let response = insert(&mut connection, address, &fields, &known.to_string()).expect("a response");
                let newest = id_of(&response);
                assert_eq!(response.field("ETag"), Some(&*format!("\"{newest}\"")));
                assert!(newest > known, "{newest} after {known}: {response:?}");
                match response.status {
                    200 => won.fetch_add(1, Ordering::Relaxed),
                    412 => conflicts.fetch_add(1, Ordering::Relaxed),
                    status => panic!("{status}: {response:?}"),
                };
                known = newest;
            }
        })
    });
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().expect("a client does not panic"));
    let versions = audit(&cluster.nodes[0]);
    assert_eq!(versions.len(), won.load(Ordering::Relaxed) + 1, "as many as have won");
    assert!(conflicts.load(Ordering::Relaxed) > 0);
    for pair in versions.windows(2) {
        assert_eq!(pair[1].1, pair[0].0.to_string(), "each was inserted against the one before it");
    }
    assert!(cluster.nodes.iter().all(|node| audit(node) == versions));
}

/// What the clients of keys were told: the id of each key's record.
#[derive(Default)]
struct Keys {
    stored: Mutex<BTreeMap<String, u64>>,
    retries: AtomicUsize,
    duplicates: AtomicUsize,
    is_over: AtomicBool,
}

impl Keys {
    fn count(&self) -> usize {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn await_stored(&self, more: usize) {
        let before = self.count();
        wait_until("stored again", || self.count() >= before + more);
    }

    /// Inserts one record after the other, each with a key of its own, and repeats each blindly until it is stored.
    fn insert_all(&self, client: usize, address: SocketAddr) {
        let mut connection = None;
        for number in 0.. {
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            let key = format!("{client}-{number}");
            let id = self.insert(&mut connection, address, &key);
            self.stored.lock().unwrap_or_else(PoisonError::into_inner).insert(key, id);
        }
    }

    fn insert(&self, connection: &mut Option<Connection>, address: SocketAddr, key: &str) -> u64 {
        let fields = format!("Idempotency-Key: {key}\r\n");
        loop {
            let response = insert(connection, address, &fields, &format!("\"{key}\""));
            match response.as_ref().map(|response| response.status) {
                Some(200) => {
                    let response = response.expect("it was just there");
                    let is_duplicate = response.json()["duplicate"].as_bool() == Some(true);
                    self.duplicates.fetch_add(usize::from(is_duplicate), Ordering::Relaxed);
                    return id_of(&response);
                }
                // The pause of a client; a broker that is started again takes longer.
                None | Some(503 | 504) => thread::sleep(std::time::Duration::from_millis(20)),
                Some(status) => panic!("{status}: {response:?}"),
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn each_key_stores_one_record_though_servers_and_brokers_are_killed() {
    let _lock = lock_machine();
    let mut redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 3);
    let keys: Arc<Keys> = Arc::default();
    let address = cluster.balancer.address;
    let start = |client| {
        let keys = Arc::clone(&keys);
        thread::spawn(move || keys.insert_all(client, address))
    };
    let clients: Vec<_> = (0..crowd_size(16, 64)).map(start).collect();
    for _ in 0..rounds() {
        for kills_server in [false, true] {
            keys.await_stored(100);
            let victim = fastrand::usize(..cluster.nodes.len());
            cluster.nodes[victim].kill();
            if kills_server {
                redis.kill();
                redis.restart();
            }
            cluster.nodes[victim].restart();
        }
    }
    keys.await_stored(100);
    keys.is_over.store(true, Ordering::Release);
    clients.into_iter().for_each(|client| client.join().expect("a client does not panic"));
    let stored = keys.stored.lock().unwrap_or_else(PoisonError::into_inner);
    let (retries, duplicates) = (keys.retries.load(Ordering::Relaxed), keys.duplicates.load(Ordering::Relaxed));
    eprintln!("{} keys, {retries} retries, {duplicates} answers that were repeated", stored.len());
    let versions = audit(&cluster.nodes[0]);
    let expected: BTreeSet<_> = stored.iter().map(|(key, id)| (*id, format!("\"{key}\""))).collect();
    assert_eq!(versions.len(), stored.len(), "each key once");
    assert_eq!(versions.into_iter().collect::<BTreeSet<_>>(), expected);
}
