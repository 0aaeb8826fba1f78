//! Clients of a single phase, which the broker must forget: connection churn, resets, clients that never read, requests that
//! never end, very many topics, tokens that expire.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::client::{PATIENCE, reset};
use crate::publishers;
use crate::socket::{connect_from_afar, connect_to};
use crate::tokens;
use crate::world::World;

/// Connections per second, and per burst.
const CHURN_RATE: u32 = 1000;
const BURST: usize = 250;
/// The number of pipelined requests.
const BATCH: usize = 100;
/// Longer than the broker's --stall.
const STALLED: Duration = Duration::from_secs(8);
/// The interval between two bytes of a slow sender.
const BYTE_INTERVAL: Duration = Duration::from_millis(200);

/// Connects subscribers in bursts, which read the beginning of the response and disconnect.
pub fn churn(world: &World, until: Instant, random: &mut fastrand::Rng) {
    let token = tokens::subscriber(tokens::FAR, "*");
    let pause = Duration::from_secs(1) * BURST as u32 / CHURN_RATE;
    let mut due = Instant::now();
    while Instant::now() < until {
        let generation = world.generation();
        let sockets: Vec<_> = (0..BURST).filter_map(|_| visit(world, random, &token)).collect();
        let unserved: Vec<_> =
            sockets.iter().filter_map(|socket| expect_status(socket, "HTTP/1.1 200 ").err()).collect();
        world.counts.others.fetch_add(BURST as u64, Relaxed);
        if !unserved.is_empty() && !world.has_restarted_since(generation) {
            world.fail(format!("{} of {BURST} subscribers were not served: {unserved:?}", unserved.len()));
        }
        due += pause;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn visit(world: &World, random: &mut fastrand::Rng, token: &str) -> Option<TcpStream> {
    let topic = &random.choice(world.ledger.lanes())?.topic;
    let newest = world.ledger.newest_id();
    let position = match random.u8(..8) {
        0 => "Last-Event-ID: 0\r\n".to_owned(),
        1 => "Last-Event-ID: garbage\r\n".to_owned(),
        2 => format!("Last-Event-ID: {}\r\n", newest + 1_000_000_000_000),
        3 | 4 => format!("Last-Event-ID: {}\r\n", newest.saturating_sub(random.u64(..4_000_000))),
        _ => String::new(),
    };
    let request = format!("GET /subscribe/{topic}?token={token} HTTP/1.1\r\nHost: soak\r\n{position}\r\n");
    let mut socket = connect_to(world.address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.write_all(request.as_bytes()).ok()?;
    Some(socket)
}

/// Reads the beginning of a response. The error says what arrived instead of the expected status.
fn expect_status(mut socket: &TcpStream, expected: &str) -> Result<(), String> {
    let (mut bytes, begin) = ([0; 512], Instant::now());
    let count = socket.read(&mut bytes).map_err(|error| format!("{error} after {:?}", begin.elapsed()))?;
    let text = String::from_utf8_lossy(&bytes[..count]);
    if text.starts_with(expected) { Ok(()) } else { Err(format!("{text:.100}")) }
}

/// Resets connections at once, within a head, within a body, at the beginning of a stream, and later.
pub fn reset_many(world: &World, until: Instant, random: &mut fastrand::Rng) {
    let (token, publisher) = (tokens::subscriber(tokens::FAR, "*"), tokens::publisher());
    while Instant::now() < until {
        let Ok(mut socket) = connect_to(world.address) else { continue };
        reset(&socket);
        let topic = format!("reset{:05}", random.u32(..1000));
        let head = format!("GET /subscribe/{topic},{topic}x?token={token} HTTP/1.1\r\nHost: soak\r\n\r\n");
        let body = format!(
            "POST /publish/{topic} HTTP/1.1\r\nHost: soak\r\nAuthorization: Bearer {publisher}\r\nContent-Length: 9000\r\n\r\ndata: "
        );
        let request = match random.u8(..5) {
            0 => "",
            1 => &head[..random.usize(..head.len())],
            2 => &body,
            _ => &head,
        };
        // The broker may have closed the connection already.
        let _ = socket.write_all(request.as_bytes());
        if random.bool() {
            let _ = socket.set_read_timeout(Some(Duration::from_millis(20)));
            let _ = socket.read(&mut [0; 64]);
        }
        world.counts.others.fetch_add(1, Relaxed);
    }
}

/// Connects subscribers that never read, and publishes enough to fill their sockets.
pub fn stall(world: &World, until: Instant, random: &mut fastrand::Rng, count: usize, lane: usize) {
    let token = tokens::subscriber(tokens::FAR, "*");
    let topic = &world.ledger.lane(lane).topic;
    let request = format!("GET /subscribe/{topic}?token={token} HTTP/1.1\r\nHost: soak\r\n\r\n");
    let (mut deaf, mut client, mut since) = (Vec::new(), world.publisher(), Instant::now());
    while Instant::now() < until {
        // The broker has closed them after --stall: connect new ones.
        if since.elapsed() > STALLED {
            since = Instant::now();
            deaf.iter().filter(|_| random.bool()).for_each(reset);
            deaf.clear();
        }
        for _ in deaf.len()..count {
            let Ok(mut socket) = connect_from_afar(world.address) else { break };
            if socket.write_all(request.as_bytes()).is_ok() {
                deaf.push(socket);
                world.counts.others.fetch_add(1, Relaxed);
            }
        }
        publishers::publish(world, &mut client, lane, 1, random.usize(10_000..100_000), 0);
        std::thread::sleep(Duration::from_millis(20));
    }
    deaf.iter().filter(|_| random.bool()).for_each(reset);
}

/// Sends heads and bodies that arrive byte by byte and never end.
pub fn send_slowly(world: &World, until: Instant, random: &mut fastrand::Rng, count: usize) {
    let publisher = tokens::publisher();
    let head = "GET / HTTP/1.1\r\nHost: soak\r\nX-Slow: ";
    let body = format!(
        "POST /publish/slowloris HTTP/1.1\r\nHost: soak\r\nAuthorization: Bearer {publisher}\r\nContent-Length: 9000\r\n\r\n"
    );
    let mut slow: Vec<(TcpStream, Instant, bool)> = Vec::new();
    while Instant::now() < until {
        for _ in slow.len()..count {
            let Ok(mut socket) = connect_to(world.address) else { break };
            let is_head = random.bool();
            let begun = if is_head { &head[..random.usize(1..head.len())] } else { &body };
            if socket.write_all(begun.as_bytes()).is_ok() && socket.set_nonblocking(true).is_ok() {
                slow.push((socket, Instant::now(), is_head));
                world.counts.others.fetch_add(1, Relaxed);
            }
        }
        slow.retain_mut(|(socket, since, is_head)| {
            if *is_head && since.elapsed() > PATIENCE {
                world.fail("the broker waits for a head that never ends");
            }
            socket.write_all(b"x").is_ok() && is_silent(socket)
        });
        std::thread::sleep(BYTE_INTERVAL);
    }
}

/// Returns whether nothing has arrived, not even the end.
fn is_silent(mut socket: &TcpStream) -> bool {
    matches!(socket.read(&mut [0; 512]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Publishes one event to each of `count` topics in turn, repeatedly.
pub fn sweep_topics(world: &World, until: Instant, count: usize) {
    let mut client = world.publisher();
    let mut topics = (0..count).cycle();
    while Instant::now() < until {
        let post = |topic| (format!("/publish/sweep{topic:07}"), "data: swept".to_owned());
        let posts: Vec<_> = topics.by_ref().take(BATCH.min(count)).map(post).collect();
        let (generation, accepted) = (world.generation(), client.post_many(&posts));
        world.counts.others.fetch_add(accepted as u64, Relaxed);
        if accepted < posts.len() {
            // A full inbox refuses events with 503: wait.
            std::thread::sleep(Duration::from_millis(50));
        }
        if accepted == 0 && !world.has_restarted_since(generation) && !client.connect() {
            return world.fail("connections are not accepted");
        }
    }
}

/// Connects subscribers whose tokens expire within seconds, and some with invalid tokens.
pub fn expire(world: &World, until: Instant, random: &mut fastrand::Rng) {
    let topic = &world.ledger.lane(0).topic;
    let ask = |token: &str| {
        let mut socket = connect_to(world.address).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("GET /subscribe/{topic}?token={token} HTTP/1.1\r\nHost: soak\r\n\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        Some(socket)
    };
    while Instant::now() < until {
        let generation = world.generation();
        let soon = |random: &mut fastrand::Rng| tokens::subscriber(world.shim.unix_seconds() + random.u64(2..4), "*");
        let expiring: Vec<_> = (0..20).filter_map(|_| ask(&soon(random))).collect();
        let bad = [(tokens::forged(), "HTTP/1.1 401 "), (tokens::subscriber(1, "*"), "HTTP/1.1 401 ")];
        let wrong = (tokens::subscriber(tokens::FAR, "othertopic"), "HTTP/1.1 403 ");
        let refusals = bad.into_iter().chain([wrong]).filter_map(|(token, status)| Some((ask(&token)?, status)));
        let unrefused = refusals.filter(|(socket, status)| expect_status(socket, status).is_err()).count();
        let unexpired: Vec<_> = expiring.iter().filter_map(|socket| expires(socket).err()).collect();
        world.counts.others.fetch_add(23, Relaxed);
        if unrefused + unexpired.len() > 0 && !world.has_restarted_since(generation) {
            let first = unexpired.first();
            let (count, of) = (unexpired.len(), expiring.len());
            world.fail(format!(
                "{count} of {of} tokens did not expire ({first:?}), {unrefused} of 3 bad ones were not refused"
            ));
        }
    }
}

/// Checks that a stream ends with an `expired` event. If the token expired before the request arrived, the response is 401.
fn expires(mut socket: &TcpStream) -> Result<(), String> {
    let mut bytes = Vec::new();
    let end = socket.read_to_end(&mut bytes);
    let has_word = memchr::memmem::find(&bytes, b"event: expired\n").is_some();
    if end.is_ok() && has_word || bytes.starts_with(b"HTTP/1.1 401 ") {
        return Ok(());
    }
    let tail = &bytes[bytes.len().saturating_sub(100)..];
    Err(format!("{end:?} after {:?}", String::from_utf8_lossy(tail)))
}
