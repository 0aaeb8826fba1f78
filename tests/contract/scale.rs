//! Scale and stress: thousands of subscribers, stalls, floods and resets. The tests assert order, completeness and bounds,
//! never a time. They share a lock, because each needs the machine to itself.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::support::{Broker, Connection, Crowd, connect_small, tokens};

/// How long publishers send at full speed.
const FLOOD: Duration = Duration::from_secs(2);

static MACHINE: Mutex<()> = Mutex::new(());

/// Locks the machine for one test. Also used by tests elsewhere that measure seconds.
pub fn lock_machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Publishes ascending numbers on a connection of its own.
struct Publisher {
    connection: Connection,
    next: u64,
}

impl Publisher {
    fn new(broker: &Broker) -> Self {
        Self { connection: broker.connect(), next: 0 }
    }

    /// Returns the response's status.
    fn post(&mut self, topic: &str, body: &str) -> u16 {
        let head = format!("POST /publish/{topic} HTTP/1.1\r\nHost: esker\r\nContent-Length: {}\r\n\r\n", body.len());
        self.connection.send(head + body);
        self.connection.response().status
    }

    /// Publishes this many events one after the other, each with `padding` after its number.
    fn publish(&mut self, topic: &str, count: u64, padding: &str) {
        for _ in 0..count {
            assert_eq!(self.post(topic, &format!("data: {} {padding}", self.next)), 200);
            self.next += 1;
        }
    }
}

fn read_all(crowd: &mut Crowd, received: usize) {
    crowd.read_until("all received", |crowd| crowd.all().iter().all(|member| member.received == received));
    assert!(crowd.all().iter().all(|member| member.gaps == 0));
}

#[test]
fn ten_thousand_subscribers_get_each_event_once_and_in_order() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    let (mut crowd, mut publisher) = (Crowd::new(), Publisher::new(&broker));
    crowd.join(broker.address, 10_000, |_| "/subscribe/topicone1".to_owned());
    for received in 1..=10 {
        publisher.publish("topicone1", 1, "");
        read_all(&mut crowd, received);
    }
    publisher.publish("topicone1", 90, "");
    read_all(&mut crowd, 100);
    let burst: String = (100..200).map(|number| format!("data: {number}\n\n")).collect();
    assert_eq!(publisher.post("topicone1", &burst), 200);
    read_all(&mut crowd, 200);
    broker.wait_for("counted", |stats| stats["events_delivered"] == 2_000_000 && stats["gaps"] == 0);
}

#[test]
fn a_thousand_topics_are_independent() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    let (mut crowd, mut publisher) = (Crowd::new(), Publisher::new(&broker));
    crowd.join(broker.address, 10_000, |number| format!("/subscribe/topic{:04}", number % 1000));
    for received in 1..=3 {
        for topic in 0..1000 {
            assert_eq!(publisher.post(&format!("topic{topic:04}"), &format!("data: {received}")), 200);
        }
        read_all(&mut crowd, received);
    }
}

#[test]
fn an_idle_subscriber_costs_little_memory() {
    let _lock = lock_machine();
    assert_memory_per_subscriber(&Broker::start(&[]), "topicone1", |_| "/subscribe/topicone1".to_owned());
}

/// Tokens that expire in many different seconds, none of them soon.
#[test]
fn an_idle_subscriber_with_a_token_costs_as_little() {
    let _lock = lock_machine();
    let in_an_hour = tokens::now() + 3600;
    let topic = format!("topicone1?token={}", tokens::publisher("topicone1"));
    assert_memory_per_subscriber(&Broker::start_with_tokens(&[], &tokens::SECRETS), &topic, |number| {
        let expires = in_an_hour + (number as u64 * 7 % 1000);
        format!("/subscribe/topicone1?token={}", tokens::subscriber_until("topicone1", expires))
    });
}

/// Asserts the memory use of 14 000 more subscribers, before and after they receive events.
fn assert_memory_per_subscriber(broker: &Broker, topic: &str, target: impl Fn(usize) -> String) {
    let mut crowd = Crowd::new();
    let grow_to = |crowd: &mut Crowd, count: usize| {
        crowd.join(broker.address, count - crowd.all().len(), &target);
        broker.private_bytes()
    };
    let before = grow_to(&mut crowd, 5_000);
    let after = grow_to(&mut crowd, 19_000);
    let busy = broker.cpu_ticks();
    crowd.read_for(Duration::from_secs(2));
    assert!(broker.cpu_ticks() < busy + 100, "the idle broker used {} ticks of CPU time", broker.cpu_ticks() - busy);
    let mut publisher = Publisher::new(broker);
    publisher.publish(topic, 3, "");
    read_all(&mut crowd, 3);
    let served = broker.private_bytes();
    for (what, bytes) in [("joined", after), ("served", served)] {
        let each = bytes.saturating_sub(before) / 14_000;
        assert!(each <= 120, "{each} bytes per subscriber once {what}: {before} then {bytes}");
    }
}

#[test]
fn at_the_limit_subscribers_are_served_and_free_slots_reused() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--max-connections", "1000", "--max-subscribers", "900", "--heartbeat", "500ms"]);
    let (mut crowd, mut publisher) = (Crowd::new(), Publisher::new(&broker));
    crowd.join(broker.address, 900, |_| "/subscribe/topicone1".to_owned());
    let mut turned_away = broker.subscribe("/subscribe/topicone1", "");
    assert!(turned_away.opening().contains("retry: "));
    assert_eq!(turned_away.chunk(), None);
    drop(turned_away);
    // All connections are in use as well: further clients wait in the backlog.
    let idle: Vec<Connection> = (0..200).map(|_| broker.connect()).collect();
    publisher.publish("topicone1", 10, "");
    read_all(&mut crowd, 10);
    crowd.read_until("heartbeats", |crowd| crowd.all().iter().all(|member| member.heartbeats >= 2));
    // The publisher's connection has been idle longest, and may have been closed to make room.
    drop((idle, publisher));
    crowd.disconnect(0..100);
    broker.wait_for("below the limit", |stats| stats["subscribers"] == 800 && stats["clients"] == 801);
    let mut publisher = Publisher { connection: broker.connect(), next: 10 };
    crowd.join(broker.address, 100, |_| "/subscribe/topicone1".to_owned());
    publisher.publish("topicone1", 10, "");
    crowd.read_until("served", |crowd| {
        crowd.members(100..900).iter().all(|member| member.received == 20)
            && crowd.members(900..1000).iter().all(|member| member.received == 10)
    });
}

#[test]
fn accepting_resumes_once_descriptors_are_available() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    let (mut crowd, mut publisher) = (Crowd::new(), Publisher::new(&broker));
    crowd.join(broker.address, 200, |_| "/subscribe/topicone1".to_owned());
    broker.limit_descriptors(100);
    let waiting = crowd.join_paused(50, "/subscribe/topicone1", || connect_small(broker.address));
    publisher.publish("topicone1", 5, "");
    crowd.read_until("served", |crowd| crowd.members(0..200).iter().all(|member| member.received == 5));
    crowd.disconnect(0..150);
    // Descriptors are available again, though few. The broker notices only after a while, or when connections close.
    waiting.clone().for_each(|index| crowd.start_reading(index));
    crowd.read_until("accepted", |crowd| crowd.members(waiting.clone()).iter().all(|member| member.is_open));
    publisher.publish("topicone1", 5, "");
    crowd.read_until("served", |crowd| {
        crowd.members(150..200).iter().all(|member| member.received == 10)
            && crowd.members(waiting.clone()).iter().all(|member| member.received >= 5)
    });
    broker.assert_healthy();
}

#[test]
fn stalled_subscribers_slow_down_nobody_and_use_bounded_memory() {
    let _lock = lock_machine();
    // At 16M, the memory for evicted events that stalled subscribers still need is too small for what they miss.
    let broker = Broker::start(&["--history", "300", "--history-bytes", "16M"]);
    let mut crowd = Crowd::new();
    let fast = crowd.join(broker.address, 300, |_| "/subscribe/topicone1".to_owned());
    let paused = crowd.join_paused(300, "/subscribe/topicone1", || connect_small(broker.address));
    broker.wait_for("joined", |stats| stats["subscribers"] == 600);
    let (mut publisher, padding) = (Publisher::new(&broker), "x".repeat(10_000));
    for round in 1..=8 {
        publisher.publish("topicone1", 100, &padding);
        crowd.read_until("received by the fast subscribers", |crowd| {
            crowd.members(fast.clone()).iter().all(|member| member.received == round * 100)
        });
    }
    assert!(crowd.members(fast.clone()).iter().all(|member| member.gaps == 0));
    broker.wait_for("stalled", |stats| stats["subscribers_stalled"] == 300);
    let private = broker.private_bytes();
    assert!(private < 40 << 20, "{private} bytes");
    paused.clone().for_each(|index| crowd.start_reading(index));
    crowd.read_until("received by the stalled subscribers", |crowd| {
        crowd.members(paused.clone()).iter().all(|member| member.last() == Some(799))
    });
    let is_whole = |received: usize, gaps: usize| gaps == 1 && (300..800).contains(&received);
    let complete = crowd.members(paused).iter().filter(|member| is_whole(member.received, member.gaps)).count();
    assert_eq!(complete, 300, "a gap, followed by everything retained");
}

#[test]
fn stalled_subscribers_are_closed_in_time() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--stall", "1s", "--heartbeat", "200ms"]);
    let (mut crowd, mut publisher) = (Crowd::new(), Publisher::new(&broker));
    crowd.join(broker.address, 100, |_| "/subscribe/topicone1".to_owned());
    crowd.join_paused(200, "/subscribe/topicone1", || connect_small(broker.address));
    broker.wait_for("joined", |stats| stats["subscribers"] == 300);
    let padding = "x".repeat(1_000_000);
    for received in 1..=5 {
        publisher.publish("topicone1", 1, &padding);
        crowd.read_until("received by the fast subscribers", |crowd| {
            crowd.members(0..100).iter().all(|member| member.received == received)
        });
    }
    broker.wait_for("closed", |stats| stats["subscribers"] == 100 && stats["subscribers_stalled"] == 0);
    publisher.publish("topicone1", 1, "");
    crowd.read_until("still served", |crowd| crowd.members(0..100).iter().all(|member| member.received == 6));
}

#[test]
fn subscribers_stalled_in_evicted_events_use_bounded_memory() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--threads", "1", "--history-bytes", "1M", "--max-body", "8M"]);
    let (mut crowd, mut publisher) = (Crowd::new(), Publisher::new(&broker));
    let padding = "x".repeat(5 << 20);
    for _ in 0..15 {
        crowd.join_paused(1, "/subscribe/topicone1", || connect_small(broker.address));
        broker.wait_for("joined", |stats| stats["subscribers"].as_u64() > Some(0));
        // Each event is larger than the socket's buffers and than the history: it is evicted while half written.
        publisher.publish("topicone1", 1, &padding);
    }
    // Not counted in the bound: the body and event of the last request, and memory that the allocator keeps of them.
    let bound = (32 << 20) + (6 * padding.len());
    broker.wait_for("within the bound", |_| broker.private_bytes() < bound);
    broker.assert_healthy();
}

/// Counts all topics together, and includes publishers' own ids, which are stored twice and in a table.
#[test]
fn a_history_stays_within_its_memory_limit() {
    const BOUND: usize = 8 << 20;
    let _lock = lock_machine();
    for id_length in [0, 16, 1000] {
        let arguments = ["--history", "1000000", "--history-bytes", "8M", "--threads", "1"];
        let broker = Broker::start(&arguments);
        broker.publish("topicnumber0", "data: x");
        let (before, mut publisher) = (broker.private_bytes(), Publisher::new(&broker));
        for round in 0..2 * BOUND / (200 * (200 + 2 * id_length)) {
            let id = |number: usize| format!("id: {:0id_length$}\n", 1000 * round + number);
            let event = |number| format!("{}data: x\n\n", if id_length > 0 { id(number) } else { String::new() });
            let body: String = (0..200).map(event).collect();
            assert_eq!(publisher.post(&format!("topicnumber{}", round % 50), &body), 200);
        }
        let metrics = broker.metrics();
        let counted = metrics.value("esker_history_bytes");
        assert!(counted <= BOUND as f64 && counted > 0.9 * BOUND as f64, "{metrics:?}");
        // Not counted in the bound: memory of the bodies, which the allocator returns within seconds.
        broker.wait_for("within the bound", |_| broker.private_bytes() - before < BOUND + (2 << 20));
    }
}

#[test]
fn a_flood_is_delivered_completely_to_late_subscribers() {
    let _lock = lock_machine();
    // The history is long enough that even a slow machine causes no gap.
    let broker = Broker::start(&["--history", "1000000"]);
    let mut crowd = Crowd::new();
    crowd.join(broker.address, 300, |_| "/subscribe/topicone1".to_owned());
    let (accepted, ended, deadline) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now() + FLOOD);
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let (accepted, ended, mut publisher) = (&accepted, &ended, Publisher::new(&broker));
            scope.spawn(move || {
                while Instant::now() < deadline {
                    // Refused events were not delivered, so their numbers can be used again.
                    if publisher.post("topicone1", &format!("data: {}@{lane}", publisher.next)) == 200 {
                        publisher.next += 1;
                        accepted.fetch_add(1, SeqCst);
                    }
                }
                ended.fetch_add(1, SeqCst);
            });
        }
        while ended.load(SeqCst) < 4 {
            crowd.read_for(FLOOD / 10);
            crowd.join(broker.address, 20, |_| "/subscribe/topicone1?last_event_id=0".to_owned());
        }
    });
    read_all(&mut crowd, accepted.load(SeqCst));
}

#[test]
fn a_permanent_fan_out_does_not_starve_other_clients() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    let mut crowd = Crowd::new();
    crowd.join(broker.address, 5_000, |_| "/subscribe/topicone1".to_owned());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = Publisher::new(&broker);
            while !is_over.load(SeqCst) {
                publisher.publish("topicone1", 1, "");
            }
        });
        scope.spawn(|| {
            let mut small = broker.subscribe("/subscribe/topictwo2", "");
            small.opening();
            for number in 0..10 {
                broker.assert_healthy();
                broker.publish("topictwo2", &format!("data: {number}"));
                assert_eq!(small.data(1), [number.to_string()]);
            }
            is_over.store(true, SeqCst);
        });
        crowd.read_until("ended", |_| is_over.load(SeqCst));
        crowd.read_for(Duration::from_millis(500));
    });
}

#[test]
fn storms_of_resets_leak_nothing() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    let (mut crowd, mut publisher) = (Crowd::new(), Publisher::new(&broker));
    crowd.join(broker.address, 200, |_| "/subscribe/topicone1".to_owned());
    let mut storm = || {
        std::thread::scope(|scope| {
            let threads = [scope.spawn(|| reset_many(&broker)), scope.spawn(|| reset_many(&broker))];
            while threads.iter().any(|thread| !thread.is_finished()) {
                publisher.publish("topicone1", 1, "");
                crowd.read_for(Duration::from_millis(5));
            }
        });
        read_all(&mut crowd, publisher.next as usize);
        broker
            .wait_for("empty", |stats| stats["clients"] == 202 && stats["subscribers"] == 200 && stats["topics"] == 1);
        broker.private_bytes()
    };
    let before = storm();
    let after = (0..3).map(|_| storm()).last().expect("a storm");
    assert!(after < before + (256 << 10), "{before} then {after} bytes");
}

/// Resets connections right after accepting, within the request head, within the stream's opening, and as subscribers.
fn reset_many(broker: &Broker) {
    for number in 0..2500 {
        let mut socket = TcpStream::connect(broker.address).expect("the broker accepts");
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("a close can be a reset");
        let own = format!("GET /subscribe/topic{:04},topicone1 HTTP/1.1\r\nHost: h\r\n\r\n", number % 1000);
        let request = [&own[..0], &own[..20], &own, &own][number % 4];
        let _ = socket.write_all(request.as_bytes());
        if number % 4 == 3 {
            let _ = socket.peek(&mut [0]);
        }
    }
}
