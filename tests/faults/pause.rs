//! The whole process is stopped for a while, as by a debugger, a suspended machine or a hypervisor, and goes on.

use std::thread;
use std::time::Duration;

use super::baseline::{SLACK, survives};
use super::fast::Fast;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection};
use super::turn;

/// More than a worker takes from its poll at once.
const CLIENTS: usize = 3000;
/// Longer than any patience of this broker's.
const PAUSE: Duration = Duration::from_secs(4);

fn pause(broker: &Broker, meanwhile: impl FnOnce()) {
    broker.signal("STOP");
    meanwhile();
    thread::sleep(PAUSE);
    broker.signal("CONT");
}

/// What came while the broker slept came in time.
#[test]
fn nobody_is_blamed_for_the_time_in_which_the_broker_was_stopped() {
    let _turn = turn();
    let broker = Broker::start(&["--heartbeat", "500ms", "--stall", "1s", "--request-timeout", "2s"]);
    let fast = Fast::start(&broker, 100);
    let ledger = Ledger::new();
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    survives("SIGSTOP, SIGCONT", &broker, 100 + 1 + 1, SLACK, || {
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
    eprintln!("{}; each of the fast got {}", oracle.judge(), fast.finish());
}

/// Half a head, half a body, nothing.
const BEGIN: [&str; 3] =
    ["GET /healthz HTTP/1.1\r\nHo", "POST /publish/topictwo2 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\nda", ""];
const END: [&str; 3] = ["st: h\r\n\r\n", "ta: x", "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"];

fn assert_answered(client: &mut Connection) {
    let answer = client.response_or_end();
    let status = answer.map(|answer| answer.status);
    assert_eq!(status, Some(200), "a client that said all in time");
}
