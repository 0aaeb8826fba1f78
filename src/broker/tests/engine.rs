//! A broker whose engine a test answers by hand.

use std::error::Error as _;
use std::thread;

use super::*;
use crate::engine::{Engine, EngineError, Sequenced};
use crate::records::NewRecord;
use crate::records::insert::{Condition, IdempotencyKey, InsertOutcome, InsertRequest};

const TOPIC: &str = "topicone1";

/// Starts a broker with one worker and an engine that nothing serves.
fn start() -> (Broker, Engine) {
    start_with(Duration::ZERO)
}

/// Starts such a broker, with the time of its drain.
fn start_with(drain: Duration) -> (Broker, Engine) {
    let config = Config::new().no_auth(true).engine("redis://127.0.0.1").port(0).threads(1).drain(drain);
    let settings = config.settle(1000).unwrap();
    let mut listening = Listening::open(&settings, Vec::new()).unwrap();
    let (clock, poller) = (Clock::new(), MioPoller::new().unwrap());
    let engine = Engine::new(clock.clone());
    let (hub, inboxes) = builder::hub(&settings, &clock, None, [poller.waker()].into_iter());
    let service = Service::new(hub, None, settings, Auth::Open, Metrics::new(1, 0)).with_engine(engine.clone());
    let service = Arc::new(service);
    let listeners = std::mem::take(&mut listening.listeners);
    let workers = builder::workers(&service, &clock, vec![poller], inboxes, listeners).unwrap();
    let workers = workers.into_iter().map(|worker| thread::spawn(|| worker.run())).collect();
    (Broker { service: Shared(service), listening, clock, workers, engine: None }, engine)
}

/// Connects and sends a request.
fn send(broker: &Broker, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(broker.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    client
}

/// Reads until the text contains this.
fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(end) {
        let mut byte = [0];
        assert_eq!(client.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&text));
        text.extend(byte);
    }
    String::from_utf8(text).unwrap()
}

/// Waits until something is queued at the engine, and takes it.
fn taken<T>(mut take: impl FnMut() -> Option<T>) -> T {
    let wait = || thread::sleep(Duration::from_millis(1));
    (0..20_000).find_map(|_| take().or_else(|| (wait(), None).1)).expect("it is queued in time")
}

/// Does what the tail does when the log has these events of the topic. Their ids begin with `first`.
fn apply(broker: &Broker, first: u64, events: &[&str]) {
    let topic = TopicName::parse(TOPIC).unwrap();
    let frame = |(id, data): (u64, &&str)| (topic, Event::new(*data).to_frame().unwrap().assign_id(id));
    let mut frames = (first..).zip(events).map(frame).collect();
    broker.service.0.hub.apply(&mut frames).unwrap();
    assert!(frames.is_empty(), "there is room");
}

fn publish_in_thread(broker: &Arc<Broker>) -> JoinHandle<Result<Published, PublishError>> {
    let broker = Arc::clone(broker);
    thread::spawn(move || broker.publish(TOPIC, &Event::new("x").id("own")))
}

#[test]
fn a_drain_waits_for_publishes_at_the_engine() {
    let (broker, engine) = start();
    let mut stream = send(&broker, "GET /subscribe/topicone1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut stream, "retry: ");
    let mut idle = send(&broker, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut idle, "ok");
    let request = "POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\ndata: x";
    let mut publisher = send(&broker, request);
    let publish = taken(|| engine.take_publishes().pop());
    broker.service.0.drain();
    broker.service.0.hub.wake(0);
    // The worker closes idle connections when it begins to drain, and would end streams in the same iteration.
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    let id = broker.clock.now().id_micros;
    apply(&broker, id, &["from the log"]);
    publish.answer(Ok(Sequenced { id, events: 1 }));
    let (mut response, mut events) = (String::new(), String::new());
    publisher.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains(&format!("\"id\":\"{id}\"")), "{response}");
    stream.read_to_string(&mut events).unwrap();
    assert!(events.contains("data: from the log\n") && events.ends_with("0\r\n\r\n"), "{events}");
    broker.shutdown();
}

/// Clients resume at other brokers, so their streams end in time although events are on the way. All at once, they would end
/// after 6.5 s.
#[test]
fn a_drain_that_takes_time_does_not_wait_for_publishes_at_the_engine() {
    let (broker, engine) = start_with(Duration::from_millis(200));
    let mut streams = [(); 2].map(|()| send(&broker, "GET /subscribe/topicone1 HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    streams.iter_mut().for_each(|stream| drop(read_until(stream, "retry: ")));
    let mut publisher =
        send(&broker, "POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\ndata: x");
    let publish = taken(|| engine.take_publishes().pop());
    let begin = std::time::Instant::now();
    broker.service.0.drain();
    broker.service.0.hub.wake(0);
    for stream in &mut streams {
        read_until(stream, "\r\n0\r\n\r\n");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    publish.answer(Ok(Sequenced { id: broker.clock.now().id_micros, events: 1 }));
    let mut response = String::new();
    publisher.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    broker.shutdown();
}

#[test]
fn a_publish_of_the_program_waits_for_the_engine() {
    let (broker, engine) = start();
    let broker = Arc::new(broker);
    let subscription = broker.subscribe([TOPIC], StartFrom::Now).unwrap();
    let publish = publish_in_thread(&broker);
    let queued = taken(|| engine.take_publishes().pop());
    assert!(!publish.is_finished());
    queued.answer(Ok(Sequenced { id: 7, events: 1 }));
    assert_eq!(publish.join().unwrap(), Ok(Published { id: 7, events: 1, subscribers: 1 }));
    drop(subscription);
    for error in [EngineError::Busy, EngineError::Unavailable("away".into()), EngineError::Unknown("cut".into())] {
        let publish = publish_in_thread(&broker);
        taken(|| engine.take_publishes().pop()).answer(Err(error.clone()));
        let refused = publish.join().unwrap().unwrap_err();
        assert_eq!(refused, PublishError::Engine(error.clone()));
        assert_eq!(refused.source().unwrap().to_string(), error.to_string());
        assert!(refused.to_string().contains("published"));
    }
    let publish = publish_in_thread(&broker);
    let abandoned = taken(|| engine.take_publishes().pop());
    drop(abandoned);
    assert!(matches!(publish.join().unwrap(), Err(PublishError::Engine(EngineError::Unknown(_)))));
    engine.close();
    assert_eq!(broker.publish(TOPIC, &Event::new("x")), Err(PublishError::Draining));
    assert_eq!(broker.service.0.hub.counts().published, 0, "the log alone publishes");
}

#[test]
fn a_subscription_of_the_program_with_an_unknown_position_waits_for_the_log() {
    let (broker, engine) = start();
    let broker = Arc::new(broker);
    let position = broker.clock.now().id_micros + 1_000_000_000;
    let subscribe = || {
        let (broker, position) = (Arc::clone(&broker), position.to_string());
        thread::spawn(move || broker.subscribe([TOPIC], StartFrom::After(&position)))
    };
    let barrier = || taken(|| engine.take_barriers().pop());
    let refused = subscribe();
    barrier()(false);
    assert_eq!(refused.join().unwrap().unwrap_err(), SubscribeError::Engine);
    let unknown = subscribe();
    barrier()(true);
    let mut subscription = unknown.join().unwrap().unwrap();
    assert_eq!(subscription.try_recv(), Ok(Received::Gap { oldest: None }));
    // What another broker has published arrives before the barrier is reached.
    let known = subscribe();
    let barrier = barrier();
    apply(&broker, position, &["a", "b"]);
    barrier(true);
    let mut subscription = known.join().unwrap().unwrap();
    let event = subscription.try_recv().unwrap().into_event().expect("there is no gap");
    assert_eq!((event.id(), event.data()), (position + 1, "b"));
}

#[test]
fn an_insert_of_the_program_waits_for_the_engine() {
    let (broker, engine) = start();
    let broker = Arc::new(broker);
    let insert = || {
        let broker = Arc::clone(&broker);
        thread::spawn(move || broker.insert("user", r#"{ "name": "Ada" }"#))
    };
    let stored = insert();
    let (request, done) = taken(|| engine.take_inserts().pop());
    let record = NewRecord { name: "user".into(), data: r#"{"name":"Ada"}"#.into() };
    assert_eq!(request, InsertRequest::from(record));
    assert!(!stored.is_finished());
    done(Ok(InsertOutcome::Stored(7)));
    assert_eq!(stored.join().unwrap(), Ok(7));
    for error in [EngineError::Busy, EngineError::Unavailable("away".into()), EngineError::Unknown("cut".into())] {
        let refused = insert();
        taken(|| engine.take_inserts().pop()).1(Err(error.clone()));
        assert_eq!(refused.join().unwrap(), Err(InsertError::Engine(error)));
    }
    engine.close();
    assert_eq!(broker.insert("user", "1"), Err(InsertError::Draining));
}

#[test]
fn an_insert_on_a_condition_is_judged_by_the_engine() {
    let (broker, engine) = start();
    let broker = Arc::new(broker);
    let insert = || {
        let broker = Arc::clone(&broker);
        thread::spawn(move || broker.insert_if(&Insert::new("user", "1").newest_is(7).idempotency_key("k")))
    };
    let record = NewRecord { name: "user".into(), data: "1".into() };
    let condition = Condition::NewestIs([7].into());
    let expected = InsertRequest { record, condition, key: IdempotencyKey::new("k") };
    for (outcome, result) in [
        (InsertOutcome::Stored(9), Ok((9, false))),
        (InsertOutcome::Repeated(9), Ok((9, true))),
        (InsertOutcome::Conflict(Some(8)), Err(InsertError::Conflict { newest: Some(8) })),
        (InsertOutcome::Conflict(None), Err(InsertError::Conflict { newest: None })),
        (InsertOutcome::KeyReused, Err(InsertError::KeyReused)),
    ] {
        let judged = insert();
        let (request, done) = taken(|| engine.take_inserts().pop());
        assert_eq!(request, expected);
        done(Ok(outcome));
        let told = judged.join().unwrap();
        assert_eq!(told.map(|inserted| (inserted.id, inserted.is_duplicate)), result);
    }
}
