//! The whole process is stopped for a while, as by a debugger or a suspended machine, and then continues.

use std::thread;
use std::time::Duration;

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection};

/// More than a worker takes from one poll.
const CLIENTS: usize = 3000;
/// Longer than every timeout of this broker.
const PAUSE: Duration = Duration::from_secs(4);

fn pause(broker: &Broker, meanwhile: impl FnOnce()) {
    broker.signal("STOP");
    meanwhile();
    thread::sleep(PAUSE);
    broker.signal("CONT");
}

/// Requests that arrived while the broker was stopped count as arrived in time.
#[test]
fn no_client_times_out_while_the_broker_is_stopped() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "500ms", "--stall", "1s", "--request-timeout", "2s"]);
    let fast = FastSubscribers::start(&broker, 100);
    let ledger = Ledger::new();
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    assert_survives("SIGSTOP, SIGCONT", &broker, 100 + 1 + 1, SLACK, || {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| broker.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(BEGIN[number % BEGIN.len()]);
        }
        fast.await_more(1);
        pause(&broker, || {
            for (number, client) in clients.iter_mut().enumerate() {
                client.send(END[number % END.len()]);
            }
        });
        for client in &mut clients {
            assert_answered(client);
        }
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        let accepted = (0..20).filter(|_| publisher.publish(&fastrand::u64(..).to_string())).count();
        assert_eq!(accepted, 20);
        fast.await_more(10);
    });
    eprintln!("{}; each fast subscriber got {}", oracle.judge(), fast.finish());
}

/// Half a head, half a body, nothing.
const BEGIN: [&str; 3] =
    ["GET /healthz HTTP/1.1\r\nHo", "POST /publish/topictwo2 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\nda", ""];
const END: [&str; 3] = ["st: h\r\n\r\n", "ta: x", "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"];

fn assert_answered(client: &mut Connection) {
    let response = client.response_or_end();
    let status = response.map(|response| response.status);
    assert_eq!(status, Some(200), "a client that sent its request in time");
}
