//! What a broker reports while the server is away, and when it is back.

use std::time::Duration;

use super::cluster::Cluster;
use super::redis_server::RedisServer;
use super::support::Broker;
use super::{DURABLE, lock_machine, wait_until};

/// Longer than a publish waits to be appended. One whose outcome is unknown waits longer.
const PUBLISH_TIME: Duration = Duration::from_secs(4);

#[test]
fn a_lost_server_shows_in_health_and_metrics() {
    let _lock = lock_machine();
    let mut redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 1);
    let broker = cluster.nodes[0].broker();
    assert_up(broker);
    let mut stream = broker.subscribe("/subscribe/topicone11", "");
    stream.opening();

    redis.kill();
    assert_down(broker);
    assert_eq!(stream.chunk().as_deref(), Some(":\n"), "streams go on");
    redis.restart();
    wait_until("healthy again", || broker.get("/healthz").status == 200);
    assert_up(broker);

    redis.pause();
    assert_down(broker);
    redis.resume();
    wait_until("healthy again", || broker.get("/healthz").status == 200);
    assert_up(broker);
    broker.publish("topicone11", "data: back");
    assert_eq!(stream.event().data.as_deref(), Some("back"));
    let metrics = broker.metrics();
    assert!(metrics.sum("esker_engine_reconnects_total") >= 2.0, "{metrics:?}");
}

fn assert_up(broker: &Broker) {
    broker.assert_healthy();
    broker.metrics_once("connected", |metrics| metrics.sum("esker_engine_up") > 0.0);
}

fn assert_down(broker: &Broker) {
    wait_until("unhealthy", || broker.get("/healthz").status == 503);
    let health = broker.get("/healthz");
    assert!(health.text().contains("engine"), "{health:?}");
    assert_eq!(broker.get("/livez").status, 200);
    broker.metrics_once("disconnected", |metrics| metrics.sum("esker_engine_up") == 0.0);
    wait_until("refused", || is_refused(broker));
}

/// Publishes an event to a topic of its own, and returns whether it is refused soon.
fn is_refused(broker: &Broker) -> bool {
    let mut connection = broker.connect();
    connection.send("POST /publish/topictwo22 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\ndata: x");
    if connection.is_silent(PUBLISH_TIME) {
        return false;
    }
    let response = connection.response();
    assert_eq!(response.status, 503, "{response:?}");
    true
}
