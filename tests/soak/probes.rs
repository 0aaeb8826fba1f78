//! Measures delivery latency, with probes that are due at fixed times and one subscriber. A probe that could not be sent in
//! time is sent late, and its delay counts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, Peer};
use crate::parser::{Parser, Part};
use crate::run::Run;
use crate::socket::connect_to;
use crate::tokens;

const TOPIC: &str = "probetopic";
/// The interval between two probes.
const PAUSE: Duration = Duration::from_millis(20);
/// The interval at which the subscriber checks whether the soak is over while nothing arrives.
const LOOK: Duration = Duration::from_millis(200);

/// Publishes probes until the soak is over.
pub fn publish(run: &Run, peer: &dyn Peer) {
    let mut due = Instant::now();
    run.work(
        &mut (Client::new(peer, &tokens::publisher()), &mut due),
        |(client, due)| {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let nanos = due.saturating_duration_since(run.began).as_nanos();
            // The lanes check whether events are accepted; probes do not.
            client.post(&format!("/publish/{TOPIC}"), &format!("data: {nanos}"));
            **due += PAUSE;
        },
        |(client, due)| {
            Client::close(client);
            **due = Instant::now();
        },
    );
}

/// Reads them until the soak is over.
pub fn listen(run: &Run, peer: &dyn Peer) {
    while !run.is_over() {
        if let Ok(socket) = connect_to(peer.address()) {
            listen_to(run, socket);
        }
        std::thread::sleep(PAUSE);
    }
}

fn listen_to(run: &Run, mut socket: TcpStream) {
    let token = tokens::subscriber(tokens::FAR, TOPIC);
    let request = format!("GET /subscribe/{TOPIC}?token={token} HTTP/1.1\r\nHost: soak\r\n\r\n");
    if socket.set_read_timeout(Some(LOOK)).is_err() || socket.write_all(request.as_bytes()).is_err() {
        return;
    }
    let (mut parser, mut bytes) = (Parser::default(), [0; 4096]);
    while !run.is_over() {
        match socket.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => {
                let now = run.began.elapsed().as_nanos() as u64;
                let read = parser.read(&bytes[..count], |part| {
                    if let Part::Block(block) = part {
                        let due: u64 = block.data.parse().map_err(|_| format!("{block:?} is not a probe"))?;
                        run.note_latency(now.saturating_sub(due));
                    }
                    Ok(())
                });
                if let Err(words) = read {
                    return run.fail(words);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
