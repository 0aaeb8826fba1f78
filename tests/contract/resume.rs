//! Resuming: from every position with nothing lost or duplicated, and with a `gap` where events were evicted.

use super::support::{Broker, Event, Stream};

fn resumed(broker: &Broker, topics: &str, position: &str) -> Stream {
    let mut stream = broker.subscribe(&format!("/subscribe/{topics}"), &format!("Last-Event-ID: {position}\r\n"));
    stream.opening();
    stream
}

fn publish_numbered(broker: &Broker, topic: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    let id = |number| broker.publish(topic, &format!("data: {number}"))["id"].as_str().expect("an id").to_owned();
    numbers.map(id).collect()
}

fn gap(event: &Event) -> serde_json::Value {
    assert_eq!((event.name.as_deref(), &event.id), (Some("gap"), &None), "{event:?}");
    serde_json::from_str(event.data.as_deref().expect("a gap has data")).expect("a gap is JSON")
}

#[test]
fn resuming_works_from_every_position() {
    let broker = Broker::start(&[]);
    let ids = publish_numbered(&broker, "topicone1", 0..20);
    for (number, id) in ids.iter().enumerate() {
        let mut stream = resumed(&broker, "topicone1", id);
        broker.publish("topictwo2", "data: x");
        let expected: Vec<_> = (number + 1..20).map(|number| number.to_string()).collect();
        assert_eq!(stream.data(expected.len()), expected, "after {id}");
    }
    assert_eq!(resumed(&broker, "topicone1", "0").data(20).len(), 20);
}

#[test]
fn the_position_may_be_in_the_query_but_the_header_takes_precedence() {
    let broker = Broker::start(&[]);
    let ids = publish_numbered(&broker, "topicone1", 0..3);
    for name in ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID", "evs_last_event_id"] {
        let mut stream = broker.subscribe(&format!("/subscribe/topicone1?{name}={}", ids[0]), "");
        stream.opening();
        assert_eq!(stream.data(2), ["1", "2"], "{name}");
    }
    let target = format!("/subscribe/topicone1?last_event_id={}", ids[0]);
    let mut by_header = broker.subscribe(&target, &format!("Last-Event-ID: {}\r\n", ids[1]));
    by_header.opening();
    assert_eq!(by_header.data(1), ["2"]);
    let mut by_query = broker.subscribe(&target, "Last-Event-ID: \r\n");
    by_query.opening();
    assert_eq!(by_query.data(2), ["1", "2"]);
}

/// A polyfill appends its own parameter to the page's query, and updates only its own.
#[test]
fn the_last_position_in_the_query_counts() {
    let broker = Broker::start(&["--heartbeat", "1h"]);
    let ids = publish_numbered(&broker, "topicone1", 0..3);
    let (first, second) = (&ids[0], &ids[1]);
    let stream = |query: &str, fields: &str| {
        let mut stream = broker.subscribe(&format!("/subscribe/topicone1?{query}"), fields);
        stream.opening();
        stream
    };
    for query in [
        format!("last_event_id=0&lastEventId={second}"),
        format!("lastEventId=0&last_event_id={second}"),
        format!("lastEventId=0&lastEventId={second}&evs_last_event_id=&Last-Event-ID=+&prime&x={first}"),
        format!("evs%5flast_event_id={first}&Last%2DEvent-ID=%31{}", &second[1..]),
    ] {
        assert_eq!(stream(&query, "").data(1), ["2"], "{query}");
    }
    let field = format!("Last-Event-ID: {second}\r\n");
    assert_eq!(stream(&format!("last_event_id=0&lastEventId={first}"), &field).data(1), ["2"]);
    assert_eq!(
        stream(&format!("last_event_id={second}&lastEventId={first}"), "Last-Event-ID:\r\n").data(2),
        ["1", "2"]
    );
}

#[test]
fn an_empty_position_counts_as_none() {
    let broker = Broker::start(&[]);
    publish_numbered(&broker, "topicone1", 0..3);
    let mut stream = broker.subscribe("/subscribe/topicone1?last_event_id=", "Last-Event-ID:\r\n");
    stream.opening();
    publish_numbered(&broker, "topicone1", 3..4);
    assert_eq!(stream.data(1), ["3"]);
}

#[test]
fn evicted_events_are_reported_by_a_gap() {
    let broker = Broker::start(&["--history", "3"]);
    let ids = publish_numbered(&broker, "topicone1", 0..6);
    let mut whole = resumed(&broker, "topicone1", &ids[2]);
    assert_eq!(whole.data(3), ["3", "4", "5"], "the position is right before the oldest event");
    let mut lossy = resumed(&broker, "topicone1", &ids[1]);
    assert_eq!(gap(&lossy.event()), serde_json::json!({"after": ids[1], "oldest": ids[3]}));
    assert_eq!(lossy.data(3), ["3", "4", "5"]);
    let mut all = resumed(&broker, "topicone1", "0");
    assert_eq!(all.data(3), ["3", "4", "5"], "0 asks for the whole history");
}

#[test]
fn unknown_invalid_future_and_ancient_positions_get_a_gap() {
    let broker = Broker::start(&[]);
    for position in
        ["nonsense", "-1", "1.5", "+1", "18446744073709551615", "99999999999999999999", "1000", "caf\u{e9}\"\\"]
    {
        let mut empty = resumed(&broker, "topicempty", position);
        assert_eq!(gap(&empty.event()), serde_json::json!({"after": position, "oldest": null}));
    }
    let mut bytes = broker.subscribe("/subscribe/topicempty?last_event_id=%FF", "");
    bytes.opening();
    assert_eq!(gap(&bytes.event()), serde_json::json!({"after": "\u{fffd}", "oldest": null}));
    let ids = publish_numbered(&broker, "topicone1", 0..2);
    for position in
        ["nonsense", "18446744073709551615", "1000", &(ids[1].parse::<u64>().expect("a number") + 1).to_string()]
    {
        let mut stream = resumed(&broker, "topicone1", position);
        assert_eq!(gap(&stream.event()), serde_json::json!({"after": position, "oldest": ids[0]}));
        assert_eq!(stream.data(2), ["0", "1"]);
    }
}

#[test]
fn a_position_from_another_topic_or_a_priming_is_valid() {
    let broker = Broker::start(&[]);
    let opening = broker.subscribe("/subscribe/topicone1?prime", "").opening();
    let primed = opening.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    publish_numbered(&broker, "topicone1", 0..1);
    let elsewhere = publish_numbered(&broker, "topictwo2", 0..1);
    publish_numbered(&broker, "topicone1", 1..2);
    assert_eq!(resumed(&broker, "topicone1", &primed).data(2), ["0", "1"]);
    assert_eq!(resumed(&broker, "topicone1", &elsewhere[0]).data(1), ["1"]);
}

#[test]
fn publisher_ids_are_positions_and_the_earliest_match_counts() {
    let broker = Broker::start(&[]);
    for (topic, id, data) in
        [("topicone1", "a", "1"), ("topicone1", "b", "2"), ("topictwo2", "b", "3"), ("topicone1", "c", "4")]
    {
        broker.publish(topic, &format!("id: {id}\ndata: {data}"));
    }
    assert_eq!(resumed(&broker, "topicone1", "a").data(2), ["2", "4"]);
    assert!(resumed(&broker, "topictwo2", "b").connection.is_silent(std::time::Duration::from_millis(50)));
    assert_eq!(resumed(&broker, "topicone1,topictwo2", "b").data(2), ["3", "4"]);
}

#[test]
fn an_own_id_equal_to_a_brokers_id_skips_nothing() {
    let broker = Broker::start(&["--heartbeat", "1h"]);
    let ids = publish_numbered(&broker, "topictwo2", 0..3);
    broker.publish("topicone1", &format!("id: {}\ndata: foreign", ids[0]));
    broker.publish("topictwo2", "data: 3");
    assert_eq!(resumed(&broker, "topicone1,topictwo2", &ids[0]).data(4), ["1", "2", "foreign", "3"]);
    // This holds for a publisher's id as well, and for one that the other topic has evicted.
    let broker = Broker::start(&["--history", "2", "--heartbeat", "1h"]);
    for (topic, id, data) in [("topictwo2", "a", "0"), ("topictwo2", "b", "1"), ("topicone1", "a", "foreign")] {
        broker.publish(topic, &format!("id: {id}\ndata: {data}"));
    }
    assert_eq!(resumed(&broker, "topicone1,topictwo2", "a").data(2), ["1", "foreign"]);
    publish_numbered(&broker, "topictwo2", 2..3);
    let mut stream = resumed(&broker, "topicone1,topictwo2", "a");
    assert_eq!(gap(&stream.event())["after"], "a");
    assert_eq!(stream.data(3), ["1", "foreign", "2"]);
}

#[test]
fn a_publisher_id_that_looks_like_a_time_is_exact_while_retained() {
    let broker = Broker::start(&["--heartbeat", "1h"]);
    let publish = |topic| publish_numbered(&broker, topic, 0..1)[0].parse::<u64>().expect("a number");
    // No event has this number, though it lies between ids of events.
    let mut own = publish("topicone1") + 1;
    loop {
        let next = publish("topictwo2");
        if next > own {
            break;
        }
        own = next + 1;
    }
    broker.publish("topicone1", &format!("id: {own}\ndata: 1"));
    broker.publish("topicone1", "data: 2");
    assert_eq!(resumed(&broker, "topicone1", &own.to_string()).data(1), ["2"]);
}

/// The ids are microseconds of a clock that runs ahead. The broker's clock has reached them when the last event is published.
#[test]
fn an_evicted_publisher_id_that_looks_like_a_broker_id_gets_a_gap() {
    let broker = Broker::start(&["--history", "5", "--heartbeat", "1h"]);
    let begin: u64 = publish_numbered(&broker, "topictwo2", 0..1)[0].parse().expect("a number");
    let own = |number: u64| (begin + 300_000 + number).to_string();
    for number in 0..7 {
        broker.publish("topicone1", &format!("id: {}\ndata: {number}", own(number)));
    }
    while publish_numbered(&broker, "topictwo2", 0..1)[0] <= own(7) {}
    broker.publish("topicone1", &format!("id: {}\ndata: 7", own(7)));
    let mut stream = resumed(&broker, "topicone1", &own(2));
    assert_eq!(gap(&stream.event())["after"], own(2));
    assert_eq!(stream.data(5), ["3", "4", "5", "6", "7"]);
    assert_eq!(resumed(&broker, "topicone1", &own(5)).data(2), ["6", "7"], "a retained id is exact");
}

#[test]
fn an_evicted_publisher_id_that_is_a_number_gets_a_gap_even_0() {
    let broker = Broker::start(&["--history", "5", "--heartbeat", "1h"]);
    for number in 0..=10 {
        broker.publish("topicone1", &format!("id: {number}\ndata: {number}"));
    }
    for position in ["0", "3", "5"] {
        let mut stream = resumed(&broker, "topicone1", position);
        let oldest = gap(&stream.event())["oldest"].as_str().expect("an id").to_owned();
        assert_eq!(stream.data(5), ["6", "7", "8", "9", "10"], "after {position}");
        assert_eq!(
            resumed(&broker, "topicone1", &oldest).data(4),
            ["7", "8", "9", "10"],
            "an id that the broker assigned is exact"
        );
    }
    assert_eq!(resumed(&broker, "topicone1", "7").data(3), ["8", "9", "10"]);
    // While its own event is retained, 0 still asks for everything.
    broker.publish("topictwo2", "data: first");
    broker.publish("topictwo2", "id: 0\ndata: zero");
    assert_eq!(resumed(&broker, "topictwo2", "0").data(2), ["first", "zero"]);
}

#[test]
fn several_topics_resume_merged_without_duplicates_after_a_gap_in_one() {
    let broker = Broker::start(&["--history", "2"]);
    let first = broker.publish("topicone1", "data: old one");
    for number in 0..4 {
        broker.publish("topictwo2", &format!("data: {number}"));
    }
    broker.publish("topicone1", "data: new one");
    let first = first["id"].as_str().expect("an id");
    // topictwo2 has evicted events that are newer than topicone1's oldest one.
    let mut stream = resumed(&broker, "topicone1,topictwo2", "1000");
    assert_eq!(gap(&stream.event()), serde_json::json!({"after": "1000", "oldest": first}));
    assert_eq!(stream.data(4), ["old one", "2", "3", "new one"]);
    broker.publish("topictwo2", "data: live");
    assert_eq!(stream.data(1), ["live"]);
}

#[test]
fn history_is_bounded_by_age_and_bytes() {
    let by_age = Broker::start(&["--history-age", "300ms"]);
    let ids = publish_numbered(&by_age, "topicone1", 0..3);
    by_age.wait_for("aged", |stats| stats["history_events"] == 0 && stats["topics"] == 0);
    let mut stream = resumed(&by_age, "topicone1", &ids[0]);
    assert_eq!(gap(&stream.event()), serde_json::json!({"after": ids[0], "oldest": null}));
    assert!(resumed(&by_age, "topicone1", &ids[2]).connection.is_silent(std::time::Duration::from_millis(50)));

    let by_bytes = Broker::start(&["--history-bytes", "100K"]);
    let body = format!("data: {}", "x".repeat(10_000));
    for number in 0..20 {
        by_bytes.publish(&format!("topicnumber{number}"), &body);
    }
    let stats = by_bytes.stats();
    assert!(stats["history_bytes"].as_u64().is_some_and(|bytes| bytes <= 100 << 10), "{stats}");
    assert_eq!(stats["history_events"], 10, "{stats}");
    assert_eq!(gap(&resumed(&by_bytes, "topicnumber0", "5").event())["oldest"], serde_json::Value::Null);
}

/// A publisher never pauses, while clients disconnect and resume from whatever they saw last.
#[test]
fn resuming_during_publishing_loses_and_duplicates_nothing() {
    const EVENTS: usize = 3000;
    let broker = Broker::start(&["--history", "100000", "--threads", "3"]);
    let begin = broker.publish("topicone1", "data: begin")["id"].as_str().expect("an id").to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = broker.connect();
            for number in 0..EVENTS {
                let body = format!("data: {number}");
                let length = body.len();
                connection.send(format!(
                    "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"
                ));
                assert_eq!(connection.response().status, 200);
            }
        });
        for client in 1..=4 {
            let (broker, begin) = (&broker, &begin);
            scope.spawn(move || {
                let (mut position, mut seen) = (begin.clone(), Vec::new());
                while seen.len() < EVENTS {
                    let mut stream = resumed(broker, "topicone1", &position);
                    for _ in 0..(client * 37).min(EVENTS - seen.len()) {
                        let event = stream.event();
                        position = event.id.clone().expect("an id");
                        seen.push(event.data.expect("data"));
                    }
                }
                assert_eq!(seen, (0..EVENTS).map(|number| number.to_string()).collect::<Vec<_>>());
            });
        }
    });
}

#[test]
fn whitespace_around_a_publisher_id_is_ignored() {
    let broker = Broker::start(&[]);
    let mut live = broker.subscribe("/subscribe/topicone1", "");
    live.opening();
    broker.publish("topicone1", "id:  spaced \ndata: 1\n\ndata: 2");
    assert_eq!(live.event().text, "data: 1\nid:  spaced \n\n");
    assert_eq!(resumed(&broker, "topicone1", " spaced ").data(1), ["2"]);
    let mut by_query = broker.subscribe("/subscribe/topicone1?last_event_id=%20spaced+", "");
    by_query.opening();
    assert_eq!(by_query.data(1), ["2"]);
    assert_eq!(broker.post("/publish/topicone1", "", "id: a\u{7f}b\ndata: x").status, 400);
}
