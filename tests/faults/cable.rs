//! Peers that vanish without a word: their cable is pulled. What is half open then costs nothing for ever, and whoever comes
//! back in time has lost nothing.

use std::thread;
use std::time::{Duration, Instant};

use super::baseline::{Holding, SLACK};
use super::fast::Fast;
use super::net::{HERE, Machine, Net};
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection, Crowd};

/// So many peers of each kind.
const PEERS: usize = 100;
/// Fewer than are published while nobody hears them.
const RETAINED: &str = "32";
/// The kernel gives a peer up that has acknowledged nothing for three minutes; and some more, for a slow machine.
const GIVEN_UP: Duration = Duration::from_secs(300);

/// Takes no turn, for nearly all of its time it waits: the others run meanwhile, for it is the first by its name.
#[test]
fn peers_whose_cable_is_pulled_are_given_up_and_nobody_else_suffers() {
    let net = Net::new();
    net.on(Machine::Brokers, || {
        let bind = HERE.to_string();
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
        let fast = Fast::start(&broker, 50);
        let mut busy = Publisher::new(broker.address, "topicbusy1", &Ledger::new());
        let ledger = Ledger::new();
        let oracle = net.on(Machine::Peers, || Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager));
        drop(net.on(Machine::Peers, || join(&broker)));
        // What is retained of them is the same before and after.
        (0..40).for_each(|_| publish_much(&mut busy));
        let before = Holding::at_rest(&broker, 50 + 1 + 2);
        pull_for_a_moment(&net, &broker, &ledger);
        let peers = net.on(Machine::Peers, || join(&broker));
        net.cut();
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        let begin = Instant::now();
        // The oracle's is among those that are given up; the publishers and who asks are not.
        while broker.stats()["clients"] != 50 + 1 + 2 + 1 {
            assert!(begin.elapsed() < GIVEN_UP, "{}", broker.stats());
            publisher.publish(&format!("in the dark {}", fastrand::u64(..)));
            publish_much(&mut busy);
            thread::sleep(Duration::from_millis(500));
        }
        eprintln!("given up after {:?}, {}", begin.elapsed(), broker.stats());
        drop(publisher);
        net.mend();
        let verdict = oracle.judge();
        drop(peers);
        // The oracle has left, too.
        let after = Holding::at_rest(&broker, 50 + 1 + 1);
        after.assert_like("half-open peers", before, -1, SLACK);
        eprintln!("{verdict}; each of the fast got {}", fast.finish());
        assert!(verdict.connections > 1, "its connection was given up as well");
    });
}

fn publish_much(busy: &mut Publisher) {
    assert!(busy.publish(&format!("{} {}", fastrand::u64(..), "x".repeat(100_000))));
}

/// Short enough for all streams to outlast it.
fn pull_for_a_moment(net: &Net, broker: &Broker, ledger: &std::sync::Arc<Ledger>) {
    let mut stream = net.on(Machine::Peers, || broker.subscribe("/subscribe/topicone1", ""));
    stream.opening();
    net.cut();
    let mut publisher = Publisher::new(broker.address, "topicone1", ledger);
    for number in 0..50 {
        assert!(publisher.publish(&number.to_string()));
    }
    thread::sleep(Duration::from_secs(2));
    net.mend();
    assert!((0..50).all(|number| stream.event().data == Some(number.to_string())));
}

/// Connections of all kinds.
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
