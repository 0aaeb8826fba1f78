//! A broker that drains still delivers what other brokers publish, to the streams that it has not ended.

use super::cluster::Cluster;
use super::redis_server::RedisServer;
use super::{DURABLE, lock_machine};

const TOPIC: &str = "topicone11";

#[test]
fn streams_that_have_not_ended_get_what_other_brokers_publish() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::start(2, &["--engine", &redis.url(), "--drain", "1h", "--threads", "1"]);
    let [draining, other] = [0, 1].map(|index: usize| cluster.nodes[index].broker());
    let mut streams = [(); 4].map(|()| draining.subscribe(&format!("/subscribe/{TOPIC}"), ""));
    streams.iter_mut().for_each(|stream| drop(stream.opening()));
    draining.signal("TERM");
    draining.wait_for_log("draining");
    for number in 0..10 {
        other.publish(TOPIC, &format!("data: {number}"));
    }
    // One stream of a thread may end at any time in the first quarter of the hour, and the others do not.
    let complete = streams.iter_mut().filter_map(|stream| {
        let events = std::iter::from_fn(|| stream.next()).take(10);
        let data: Vec<_> = events.filter_map(|event| event.data?.parse::<usize>().ok()).collect();
        (data == Vec::from_iter(0..10)).then_some(())
    });
    assert!(complete.count() >= 3);
    let idle = streams.iter_mut().filter_map(|stream| stream.chunk()).filter(|chunk| chunk == ":\n");
    assert!(idle.count() >= 3, "heartbeats follow");
    draining.signal("TERM");
    assert!(streams.iter_mut().all(|stream| stream.connection.is_closed()), "a second signal exits immediately");
}
