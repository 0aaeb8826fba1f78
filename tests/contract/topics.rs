//! `GET /topics` and `GET /topics/{topic}`: what topics have, in pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::tokens::{self, SECRETS, assert_denied, bearer};
use super::support::{Broker, Response};

/// Returns the target of the next page.
fn next(page: &Response) -> Option<String> {
    let link = page.field("Link")?;
    let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(target.unwrap_or_else(|| panic!("{link} is not a link to the next page")).to_owned())
}

/// Follows the links from a page on, and returns the topics of each page.
fn pages(broker: &Broker, first: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut target) = (Vec::new(), Some(first.to_owned()));
    while let Some(path) = target {
        let page = broker.get(&path);
        assert_eq!((page.status, page.field("Content-Type")), (200, Some("application/json")), "{page:?}");
        pages.push(page.json()["topics"].as_array().expect("an array").clone());
        target = next(&page);
    }
    pages
}

#[test]
fn a_topic_has_its_subscribers_events_and_ids() {
    let broker = Broker::start(&["--history", "2"]);
    assert_eq!(broker.get("/topics").text(), "{\"topics\":[]}\n");
    let mut streams: Vec<_> = (0..2).map(|_| broker.subscribe("/subscribe/GREETing,weather1", "")).collect();
    streams.iter_mut().for_each(|stream| drop(stream.opening()));
    let ids = ["a", "b", "c"].map(|data| broker.publish("greeting", &format!("data: {data}"))["id"].clone());
    let greeting = broker.get("/topics/greeting");
    let text = greeting.text();
    let names = ["{\"topic\":", ",\"subscribers\":", ",\"events\":", ",\"bytes\":", ",\"published\":", ",\"oldest\":"];
    assert!(
        names.windows(2).all(|pair| text.find(pair[0]).expect("it is there") < text.find(pair[1]).expect("so is this"))
    );
    let mut topic = greeting.json();
    let bytes = topic["bytes"].take();
    assert!(bytes.as_u64() > Some(100) && bytes.as_u64() < Some(1000), "{text}");
    assert_eq!(bytes, broker.stats()["history_bytes"], "no other topic retains anything");
    let expected = json!({"topic": "greeting", "subscribers": 2, "events": 2, "bytes": null, "published": 3, "oldest": ids[1], "newest": ids[2]});
    assert_eq!(topic, expected);
    let weather = json!({"topic": "weather1", "subscribers": 2, "events": 0, "bytes": 0, "published": 0, "oldest": null, "newest": null});
    assert_eq!(broker.get("/topics/Weather%31").json(), weather);
    let [listed] = &pages(&broker, "/topics")[..] else { panic!("one page is enough") };
    assert!(listed.len() == 2 && listed.contains(&weather) && listed.contains(&greeting.json()), "{listed:?}");
    // A name that nobody uses is not an error: scripts need not care whether the topic has been used yet.
    let unused = json!({"topic": "unused123", "subscribers": 0, "events": 0, "bytes": 0, "published": 0, "oldest": null, "newest": null});
    assert_eq!(broker.get("/topics/unused123").json(), unused);
    assert_eq!(broker.stats()["topics"], 2, "asking does not open a topic");
    drop(streams);
    broker.wait_for("no subscriber", |stats| stats["subscribers"] == 0);
    assert_eq!(broker.get("/topics/greeting").json()["subscribers"], 0);
    assert_eq!(pages(&broker, "/topics").concat().len(), 1, "nobody uses the other topic any more");
}

#[test]
fn a_repeated_publisher_id_is_not_counted_as_published() {
    let broker = Broker::start(&[]);
    for _ in 0..3 {
        broker.publish("greeting", "id: 7\ndata: x");
    }
    let topic = broker.get("/topics/greeting").json();
    assert_eq!((&topic["published"], &topic["events"]), (&json!(1), &json!(1)));
    assert_ne!(topic["oldest"], "7", "ids are the broker's");
}

#[test]
fn pages_list_every_topic_once() {
    let broker = Broker::start(&[]);
    let all: BTreeSet<_> = (0..250).map(|number| format!("topic{number:04}")).collect();
    all.iter().for_each(|topic| drop(broker.publish(topic, "data: x")));
    for (first, lengths) in [
        ("/topics", vec![100, 100, 50]),
        ("/topics?limit=250", vec![250]),
        ("/topics?limit=249", vec![249, 1]),
        ("/topics?limit=1000&x=y", vec![250]),
    ] {
        let pages = pages(&broker, first);
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{first}");
        let names = pages.concat().iter().map(|topic| topic["topic"].as_str().expect("a name").to_owned()).collect();
        assert_eq!(all, names, "{first}");
    }
    assert!(next(&broker.get("/topics")).expect("a link").ends_with("&limit=100"));
    assert_eq!(broker.get(&format!("/topics?after={}", u64::MAX)).text(), "{\"topics\":[]}\n");
    for bad in ["limit=0", "limit=1001", "limit=x", "limit=", "after=-1", "after=", "after=99999999999999999999"] {
        let response = broker.get(&format!("/topics?{bad}"));
        let (name, _) = bad.split_once('=').expect("a parameter");
        assert!(response.status == 400 && response.text().contains(name), "{bad}: {response:?}");
    }
}

#[test]
fn bad_names_and_methods_are_explained() {
    let broker = Broker::start(&[]);
    for (target, status, part) in [
        ("/topics/short", 400, "it has 5 characters"),
        ("/topics/with-dash1", 400, "contains '-'"),
        ("/topics/topicone1,topictwo2", 400, "contains ','"),
        ("/topics/", 404, "request /topics\""),
        ("/topics/topicone1/", 404, "request /topics/topicone1\""),
        ("/topics/topicone1/more", 404, "GET /topics/{topic}"),
    ] {
        let response = broker.get(target);
        assert_eq!((response.status, response.field("Content-Type")), (status, Some("application/problem+json")));
        assert!(response.text().contains(part), "{target}: {}", response.text());
    }
    for (target, right) in [("/topics", "POST /publish/{topic}"), ("/topics/topicone1", "POST /publish/topicone1")] {
        let response = broker.post(target, "", "data: x");
        assert_eq!((response.status, response.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
        assert!(response.text().contains(right), "{}", response.text());
        let mut connection = broker.connect();
        connection.send(format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let head = Response::without_body(connection.head());
        let whole = broker.get(target);
        assert_eq!(head.field("Content-Length"), Some(&*whole.body.len().to_string()));
        assert_eq!(whole.field("Cache-Control"), Some("no-store"));
    }
}

#[test]
fn topics_require_a_publisher_token_for_stats() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    for target in ["/topics", "/topics/topicone1"] {
        let get = |fields: &str| broker.request(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        assert_denied(&get(""), 401, "a token is required");
        assert_denied(&get(&bearer(&tokens::subscriber("*"))), 401, "publisher key");
        assert_denied(&get(&bearer(&tokens::publisher("topicone1"))), 403, "stats");
        assert_eq!(get(&bearer(&tokens::publisher("stats"))).status, 200);
    }
    assert_denied(&broker.get("/topics?limit=x"), 401, "a token is required");
}
