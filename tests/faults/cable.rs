//! Peers that vanish without closing their connections, as if their network cable were pulled. Half-open connections are
//! eventually closed, and clients that return in time have lost nothing.

use std::thread;
use std::time::{Duration, Instant};

use super::baseline::{SLACK, Usage};
use super::fast_subscribers::FastSubscribers;
use super::network::{BROKER_ADDRESS, Machine, Network};
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection, Crowd};

/// The number of peers of each kind.
const PEERS: usize = 100;
/// Fewer events than are published while the cable is unplugged.
const RETAINED: &str = "32";
/// The kernel closes a connection whose peer has acknowledged nothing for three minutes. Longer, for a slow machine.
const GIVEN_UP: Duration = Duration::from_secs(300);

/// Doesn't take the lock: it waits nearly all the time, so the other tests run in the meantime. Its name makes it one of the
/// first.
#[test]
fn unplugged_peers_are_closed_and_others_unaffected() {
    let net = Network::new();
    net.run_on(Machine::Brokers, || {
        let bind = BROKER_ADDRESS.to_string();
        let arguments = [
            "--bind",
            &bind,
            "--heartbeat",
            "1s",
            "--stall",
            "5s",
            "--request-timeout",
            "3s",
            "--keep-alive",
            "20s",
            "--history",
            RETAINED,
        ];
        let broker = Broker::start(&arguments);
        let fast = FastSubscribers::start(&broker, 50);
        let mut busy = Publisher::new(broker.address, "topicbusy1", &Ledger::new());
        let ledger = Ledger::new();
        let oracle = net.run_on(Machine::Peers, || Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager));
        drop(net.run_on(Machine::Peers, || join(&broker)));
        // The retained events are the same before and after.
        (0..40).for_each(|_| publish_much(&mut busy));
        let before = Usage::when_idle(&broker, 50 + 1 + 2);
        pull_for_a_moment(&net, &broker, &ledger);
        let peers = net.run_on(Machine::Peers, || join(&broker));
        net.unplug();
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        let begin = Instant::now();
        // The oracle's connection is among those closed; the publisher's and that of `/stats` requests are not.
        while broker.stats()["clients"] != 50 + 1 + 2 + 1 {
            assert!(begin.elapsed() < GIVEN_UP, "{}", broker.stats());
            publisher.publish(&format!("in the dark {}", fastrand::u64(..)));
            publish_much(&mut busy);
            thread::sleep(Duration::from_millis(500));
        }
        eprintln!("given up after {:?}, {}", begin.elapsed(), broker.stats());
        drop(publisher);
        net.plug_in();
        let verdict = oracle.judge();
        drop(peers);
        // The oracle has disconnected as well.
        let after = Usage::when_idle(&broker, 50 + 1 + 1);
        after.assert_unchanged("half-open peers", before, -1, SLACK);
        eprintln!("{verdict}; each fast subscriber got {}", fast.finish());
        assert!(verdict.connections > 1, "the oracle's connection was never closed");
    });
}

fn publish_much(busy: &mut Publisher) {
    assert!(busy.publish(&format!("{} {}", fastrand::u64(..), "x".repeat(100_000))));
}

/// Cuts the connection too briefly for streams to end.
fn pull_for_a_moment(net: &Network, broker: &Broker, ledger: &std::sync::Arc<Ledger>) {
    let mut stream = net.run_on(Machine::Peers, || broker.subscribe("/subscribe/topicone1", ""));
    stream.opening();
    net.unplug();
    let mut publisher = Publisher::new(broker.address, "topicone1", ledger);
    for number in 0..50 {
        assert!(publisher.publish(&number.to_string()));
    }
    thread::sleep(Duration::from_secs(2));
    net.plug_in();
    assert!((0..50).all(|number| stream.event().data == Some(number.to_string())));
}

/// Connections of every kind.
struct Peers {
    _idle: Crowd,
    _busy: Crowd,
    _speaking: Vec<Connection>,
}

fn join(broker: &Broker) -> Peers {
    let (mut idle, mut busy) = (Crowd::new(), Crowd::new());
    idle.join(broker.address, PEERS, |_| "/subscribe/topicidle1".to_owned());
    busy.join(broker.address, PEERS, |_| "/subscribe/topicbusy1".to_owned());
    let words = [
        "",
        "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHo",
        "POST /publish/topictwo2 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\nda",
    ];
    let speak = |number: usize| {
        let mut connection = broker.connect();
        connection.send(words[number % words.len()]);
        connection
    };
    Peers { _idle: idle, _busy: busy, _speaking: (0..PEERS).map(speak).collect() }
}
