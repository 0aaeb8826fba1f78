//! The library as a program embeds it: its public interface alone.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use esker::{
    AccessLogFormat, Broker, Config, ConfigError, Event, EventError, Insert, InsertError, ListenAddress,
    ParseTopicError, PublishError, ReceiveError, Received, ReceivedEvent, StartError, StartFrom, SubscribeError,
    Subscription,
};

/// Long enough for a loaded machine; no test waits for it unless it fails.
const LONG: Duration = Duration::from_secs(20);

fn config() -> Config {
    Config::new().no_auth(true).in_memory().port(0).threads(1)
}

fn start() -> Broker {
    Broker::start(config()).expect("it starts")
}

fn request(broker: &Broker, head_and_body: &str) -> String {
    let mut stream = TcpStream::connect(broker.local_addr().expect("it listens on TCP")).expect("it accepts");
    stream.write_all(head_and_body.as_bytes()).expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it responds");
    response
}

fn publish_over_http(broker: &Broker, topic: &str, body: &str) -> String {
    let head = format!("POST /publish/{topic} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    request(broker, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn next_event(subscription: &mut Subscription) -> ReceivedEvent {
    subscription.recv_timeout(LONG).expect("something").into_event().expect("an event")
}

fn data(received: impl IntoIterator<Item = Received>) -> Vec<String> {
    received.into_iter().map(|received| received.into_event().expect("an event").into_data()).collect()
}

#[test]
fn an_event_has_what_the_publisher_set() {
    let broker = start();
    let mut subscription = broker.subscribe(["Greeting1"], StartFrom::Now).unwrap();
    let event = Event::new("one\ntwo: 2\n\n").name("note").id("reading-17").retry(Duration::from_millis(500));
    let published = broker.publish("greeting1", &event).unwrap();
    assert_eq!((published.events, published.subscribers, published.is_duplicate()), (1, 1, false));
    let received = next_event(&mut subscription);
    assert_eq!((received.topic(), received.id()), ("greeting1", published.id));
    assert_eq!((received.name(), received.publisher_id()), (Some("note"), Some("reading-17")));
    assert_eq!(received.data(), "one\ntwo: 2\n\n");
    assert!(broker.publish("greeting1", &event).unwrap().is_duplicate());
    assert_eq!(subscription.try_recv(), Err(ReceiveError::Empty));
}

#[test]
fn events_published_over_http_are_received_in_order() {
    let broker = start();
    let mut subscription = broker.subscribe(["topicone1", "topictwo2"], StartFrom::Now).unwrap();
    for number in 0..10 {
        let topic = if number % 3 == 0 { "topicone1" } else { "topictwo2" };
        let response =
            publish_over_http(&broker, topic, &format!(": a comment\nevent: n\ndata:{number}\nother: x\n\n"));
        assert!(response.contains(r#""subscribers":1}"#), "{response}");
    }
    publish_over_http(&broker, "topicsix6", "data: for others\n\n");
    let events: Vec<_> = (0..10).map(|_| next_event(&mut subscription)).collect();
    assert!(events.is_sorted_by_key(ReceivedEvent::id) && events.iter().all(|event| event.name() == Some("n")));
    assert_eq!(events.iter().map(ReceivedEvent::data).collect::<String>(), "0123456789");
    assert_eq!(subscription.recv_timeout(Duration::from_millis(20)), Err(ReceiveError::Empty));
}

#[test]
fn a_subscription_resumes_after_an_id() {
    let broker = start();
    let ids: Vec<_> = ["a", "b", "c"].map(|data| broker.publish("greeting1", &Event::new(data)).unwrap().id).into();
    broker.publish("greeting1", &Event::new("d").id("mine")).unwrap();
    let rest = |from: StartFrom<'_>| {
        let mut subscription = broker.subscribe(["greeting1"], from).unwrap();
        data(std::iter::from_fn(|| subscription.try_recv().ok()))
    };
    assert_eq!(rest(StartFrom::After(&ids[1].to_string())), ["c", "d"]);
    assert_eq!(rest(StartFrom::Oldest), ["a", "b", "c", "d"]);
    assert_eq!(rest(StartFrom::After("mine")), [""; 0]);
    assert_eq!(rest(StartFrom::Now), [""; 0]);
    let mut unknown = broker.subscribe(["greeting1"], StartFrom::After("never")).unwrap();
    assert_eq!(unknown.try_recv(), Ok(Received::Gap { oldest: Some(ids[0]) }));
    assert_eq!(next_event(&mut unknown).data(), "a");
}

#[test]
fn a_slow_subscription_gets_a_gap_and_delays_nobody() {
    let broker = Broker::start(config().history(10)).unwrap();
    let mut slow = broker.subscribe(["greeting1"], StartFrom::Now).unwrap();
    let mut last = None;
    for number in 0..2_000 {
        last = Some(broker.publish("greeting1", &Event::new(number.to_string())).unwrap().id);
    }
    let received: Vec<_> = std::iter::from_fn(|| slow.try_recv().ok()).collect();
    let gaps = received.iter().filter(|received| matches!(received, Received::Gap { .. })).count();
    let events: Vec<_> = received.into_iter().filter_map(Received::into_event).collect();
    assert_eq!((gaps, events.last().map(ReceivedEvent::id)), (1, last));
    assert!(events.is_sorted_by_key(ReceivedEvent::id) && events[0].data() == "0");
    broker.publish("greeting1", &Event::new("live")).unwrap();
    assert_eq!(next_event(&mut slow).data(), "live");
}

#[test]
fn several_events_are_published_together_or_not_at_all() {
    let broker = start();
    let mut subscription = broker.subscribe(["countdown"], StartFrom::Now).unwrap();
    let events = ["3", "2", "1"].map(Event::new);
    let published = broker.publish_many("countdown", &events).unwrap();
    assert_eq!(published.events, 3);
    let received: Vec<_> = (0..3).map(|_| next_event(&mut subscription)).collect();
    assert_eq!(received.iter().map(ReceivedEvent::data).collect::<String>(), "321");
    assert_eq!(received[2].id(), published.id);
    let bad = [Event::new("fine"), Event::new("x").name("a\nb")];
    assert_eq!(broker.publish_many("countdown", &bad), Err(PublishError::Event(EventError::Name)));
    assert_eq!(broker.publish_many("countdown", &[]), Err(PublishError::Count(0)));
    let many = vec![Event::new(""); 10_001];
    assert_eq!(broker.publish_many("countdown", &many), Err(PublishError::Count(10_001)));
    assert_eq!(subscription.try_recv(), Err(ReceiveError::Empty));
}

#[test]
fn a_shutdown_ends_waiting_subscriptions_after_the_last_event() {
    let broker = start();
    let waiting = broker.subscribe(["greeting1"], StartFrom::Now).unwrap();
    let reader = thread::spawn(move || data(waiting));
    let mut idle = broker.subscribe(["greeting1"], StartFrom::Now).unwrap();
    broker.publish("greeting1", &Event::new("last")).unwrap();
    broker.shutdown();
    assert_eq!(reader.join().unwrap(), ["last"]);
    assert_eq!(next_event(&mut idle).data(), "last");
    assert_eq!(idle.try_recv(), Err(ReceiveError::Closed));
    assert_eq!((idle.next(), idle.next()), (None, None));
}

#[test]
fn a_waiting_subscription_wakes_at_once() {
    let broker = start();
    let mut subscription = broker.subscribe(["greeting1"], StartFrom::Now).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(move || (0..100).for_each(|_| drop(next_event(&mut subscription))));
        let begin = Instant::now();
        while !reader.is_finished() && begin.elapsed() < LONG {
            broker.publish("greeting1", &Event::new("x")).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        reader.join().unwrap();
    });
}

#[test]
fn subscriptions_are_refused_with_a_reason() {
    let broker = Broker::start(config().max_topics(1)).unwrap();
    let refused = |topics: &[&str]| broker.subscribe(topics, StartFrom::Now).map(drop).unwrap_err();
    assert_eq!(refused(&["short"]), SubscribeError::Topic(ParseTopicError::TooShort(5)));
    assert_eq!(refused(&[]), SubscribeError::NoTopic);
    assert_eq!(refused(&["greeting1"; 65]), SubscribeError::ManyTopics);
    assert_eq!(refused(&["topicone1", "topictwo2"]), SubscribeError::TooManyTopics);
    let only = broker.subscribe(["topicone1"], StartFrom::default()).unwrap();
    assert_eq!(broker.publish("topictwo2", &Event::new("x")), Err(PublishError::TooManyTopics));
    drop(only);
    assert!(broker.publish("topictwo2", &Event::new("x")).is_ok());
}

#[test]
fn publishes_are_refused_with_a_reason() {
    let broker = start();
    let refused = |topic: &str, event: &Event| broker.publish(topic, event).unwrap_err();
    assert_eq!(refused("no-topic", &Event::new("")), PublishError::Topic(ParseTopicError::Character('-')));
    assert_eq!(refused("greeting1", &Event::new("").id("a\n")), PublishError::Event(EventError::Id));
    assert!(refused("no-topic", &Event::new("")).to_string().contains("8 to 64"));
}

#[test]
fn conditional_inserts_and_keys_have_typed_results() {
    let broker = start();
    let user = |json| Insert::new("user", json);
    assert_eq!(broker.insert_if(&user("1").exists()), Err(InsertError::Conflict { newest: None }));
    assert_eq!(broker.insert_if(&user("1").newest_is(7)), Err(InsertError::Conflict { newest: None }));
    let first = broker.insert_if(&user("1").absent().idempotency_key("a")).unwrap();
    assert!(!first.is_duplicate);
    let conflict = Err(InsertError::Conflict { newest: Some(first.id) });
    assert_eq!(
        [broker.insert_if(&user("2").absent()), broker.insert_if(&user("2").newest_is(7))],
        [conflict.clone(), conflict]
    );
    let again = broker.insert_if(&user("1").absent().idempotency_key("a")).unwrap();
    assert_eq!((again.id, again.is_duplicate), (first.id, true));
    assert_eq!(broker.insert_if(&Insert::new("other", "1").idempotency_key("a")), Err(InsertError::KeyReused));
    assert_eq!(broker.insert_if(&user("1").idempotency_key("\n")), Err(InsertError::Key));
    let second = broker.insert_if(&user("2").newest_is(first.id)).unwrap();
    assert!(second.id > first.id && broker.insert_if(&user("3").exists()).unwrap().id > second.id);
}

#[test]
fn records_are_stored_and_read_over_http() {
    let broker = start();
    let first = broker.insert("user", r#"{ "name": "Ada" }"#).unwrap();
    assert!(broker.insert("user", "null").unwrap() > first);
    assert!(matches!(broker.insert("user", "no JSON"), Err(InsertError::Record(_))));
    let page = request(&broker, "GET /audit/user HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(page.contains(&format!(r#"{{"user_v_{first}":{{"name":"Ada"}},"#)), "{page}");
}

#[test]
fn the_newest_records_have_a_memory_limit() {
    let broker = Broker::start(config().latest_bytes(1)).unwrap();
    assert!(broker.insert("a", "1").is_ok());
    let error = broker.insert("b", "1").unwrap_err();
    assert_eq!(error, InsertError::Full);
    assert!(error.to_string().contains("`latest_bytes`"), "{error}");
}

#[test]
fn a_broker_on_a_unix_socket_has_no_ip_address() {
    let path = std::env::temp_dir().join(format!("esker-embed-{}", std::process::id()));
    let address: ListenAddress = format!("unix:{}", path.display()).parse().unwrap();
    let broker = Broker::start(Config::new().no_auth(true).in_memory().threads(1).listen(address.clone())).unwrap();
    assert_eq!((broker.local_addr(), broker.local_addrs()), (None, &[address][..]));
    assert!(UnixStream::connect(&path).is_ok());
    drop(broker);
    assert!(!path.exists());
}

#[test]
fn the_program_receives_the_access_log() {
    let (sender, lines) = std::sync::mpsc::channel();
    let log = move |line: String| drop(sender.send(line));
    let broker = Broker::start(config().access_log(AccessLogFormat::Common, log)).unwrap();
    let Some(address) = broker.local_addr() else { panic!("it listens on TCP") };
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let line = lines.recv_timeout(LONG).unwrap();
    assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with("] \"GET /livez HTTP/1.1\" 200 2\n"), "{line}");
}

#[test]
fn an_address_in_use_is_reported_with_its_source_and_setting() {
    let first = start();
    let Some(address) = first.local_addr() else { panic!("it listens on TCP") };
    let error = Broker::start(config().port(address.port())).unwrap_err();
    assert!(matches!(&error, StartError::Bind(ListenAddress::Tcp(in_use), _) if *in_use == address));
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::AddrInUse));
    assert!(error.to_string().ends_with("change `bind`, `port`, `listen` or `admin`"), "{error}");
}

#[test]
fn errors_name_settings_instead_of_options() {
    let error_of = |config: Config| match Broker::start(config.in_memory().port(0)).map(drop) {
        Err(StartError::Config(error)) => error,
        other => panic!("{other:?}"),
    };
    let keys = error_of(Config::new());
    assert_eq!(keys, ConfigError::NoKeys);
    assert!(keys.to_string().contains("`publisher_secret`") && keys.to_string().contains("`no_auth`"), "{keys}");
    for (config, setting) in [
        (config().heartbeat(Duration::ZERO), "`heartbeat`"),
        (config().request_timeout(Duration::MAX), "`request_timeout`"),
        (config().max_connections_per_ip(0), "`max_connections_per_ip`"),
        (config().publish_rate(1), "`publish_rate`"),
        (config().max_body(usize::MAX), "`max_body`"),
        (config().threads(0), "`threads`"),
        (config().origin("example.com"), "`origin`"),
        (config().trusted_proxy("example.com"), "`trusted_proxy`"),
    ] {
        let error = error_of(config);
        assert!(error.to_string().starts_with(setting) && !error.to_string().contains("--"), "{error}");
    }
    let short = error_of(Config::new().publisher_secret("short").subscriber_key("file"));
    assert!(matches!(short, ConfigError::Secret(..)) && short.source().is_some(), "{short}");
    let missing = Broker::start(config().no_auth(false).publisher_key("/nowhere").subscriber_key("/nowhere"));
    let missing = missing.unwrap_err();
    assert!(matches!(missing, StartError::Key(_)) && missing.source().is_some(), "{missing}");
}

#[test]
fn only_keys_and_secrets_in_files_can_be_reloaded() {
    assert!(!start().reload_keys().unwrap());
    let (publisher, subscriber) = (vec![b'p'; 32], vec![b's'; 32]);
    let config = config().no_auth(false).publisher_secret(publisher).subscriber_secret(subscriber);
    let broker = Broker::start(config).unwrap();
    assert!(!broker.reload_keys().unwrap());
    let response = publish_over_http(&broker, "greeting1", "data: x\n\n");
    assert!(response.starts_with("HTTP/1.1 401 "), "{response}");

    let path = std::env::temp_dir().join(format!("esker-embed-secret-{}", std::process::id()));
    std::fs::write(&path, "a secret of at least thirty-two bytes\n").unwrap();
    let secrets = Config::new().publisher_secret_file(&path).subscriber_secret_file(&path);
    let broker = Broker::start(secrets.in_memory().port(0)).unwrap();
    assert!(broker.reload_keys().unwrap());
    std::fs::write(&path, "short").unwrap();
    let error = broker.reload_keys().unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert_eq!((error.role(), error.path()), (esker::Role::Publisher, path.as_path()));
    assert!(error.to_string().contains("publisher secret file") && error.source().is_some(), "{error}");
}

#[test]
fn shared_types_are_send_and_sync() {
    fn is_shareable<T: Send + Sync>() {}
    is_shareable::<Broker>();
    is_shareable::<Config>();
    is_shareable::<Subscription>();
    is_shareable::<Received>();
    is_shareable::<StartError>();
}
