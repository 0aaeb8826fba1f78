//! Records are kept by one broker alone, and only with a data directory of its own.

use super::DURABLE;
use super::cluster::Node;
use super::redis_server::RedisServer;
use super::support::TempDir;

const RECORD: &str = r#"{"event":"user","data":1}"#;

#[test]
fn brokers_without_a_data_directory_keep_no_records() {
    let redis = RedisServer::start(&DURABLE);
    let node = Node::start(&["--engine", &redis.url()], &[]);
    let broker = node.broker();
    let answers = [broker.post("/insert", "", RECORD), broker.get("/events"), broker.get("/audit/user")];
    for answer in answers {
        assert_eq!(answer.status, 404, "{answer:?}");
        let detail = answer.json()["detail"].as_str().expect("an error has a detail").to_owned();
        assert!(detail.contains("--engine") && detail.contains("--data"), "{detail}");
    }
    assert!(node.has_no_files(), "nothing is written to the working directory");
}

#[test]
fn records_of_one_broker_are_not_shared() {
    let redis = RedisServer::start(&DURABLE);
    let data = TempDir::new();
    let path = data.path.display().to_string();
    let [own, other] = [&["--engine", &redis.url(), "--data", &path][..], &["--engine", &redis.url()]]
        .map(|arguments| Node::start(arguments, &[]));
    assert_eq!(own.broker().post("/insert", "", RECORD).status, 200);
    let mut stream = own.broker().subscribe("/events", "");
    assert_eq!(stream.event().name.as_deref(), Some("user"));
    assert_eq!(other.broker().get("/events").status, 404);
    let answer = own.broker().publish("topicone11", "data: 1");
    let mut stream = other.broker().subscribe("/subscribe/topicone11", "Last-Event-ID: 0\r\n");
    assert_eq!(stream.event().id.as_deref(), answer["id"].as_str());
}
