//! `POST /revoke`: revoked tokens are refused, and their streams end with an `expired` event; nobody else notices.

use serde_json::{Value, json};

use super::support::tokens::{
    self, PUBLISHER, SECRETS, SUBSCRIBER, assert_denied, bearer, now, sign_hmac, try_subscribe,
};
use super::support::{Broker, Crowd, REVOKED, Response, Stream, TempDir, run};

const STREAM: &str = "/subscribe/topicone1";

/// Returns a token for everything, with these claims.
fn token(claims: &Value, secret: &str) -> String {
    let mut all = json!({"exp": now() + 3600, "topics": ["*"]});
    all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
    sign_hmac("HS256", &all, secret)
}

/// Returns the Authorization field with a subscriber's token that was issued so many seconds ago.
fn user(subject: &str, age: u64) -> String {
    bearer(&token(&json!({"sub": subject, "iat": now() - age}), SUBSCRIBER))
}

/// Revokes, with a token that allows nothing else.
fn revoke(broker: &Broker, body: &Value) -> Response {
    broker.post("/revoke", &bearer(&tokens::publisher("revoke")), body.to_string())
}

fn subscribe(broker: &Broker, fields: &str) -> Stream {
    let mut stream = broker.subscribe(STREAM, fields);
    stream.opening();
    stream
}

fn publish(broker: &Broker, body: &str) {
    broker.publish(&format!("topicone1?token={}", tokens::publisher("topicone1")), body);
}

fn assert_revoked(stream: &mut Stream) {
    assert_eq!(stream.event().text, REVOKED);
    assert_eq!(stream.chunk(), None, "the last chunk");
    assert!(stream.connection.is_closed());
}

#[test]
fn the_streams_of_a_sub_end_and_its_tokens_are_refused() {
    let broker = Broker::start_with_tokens(&["--threads", "2"], &SECRETS);
    let (old, other) = (user("user:1", 5), user("user:2", 5));
    let mut streams = [(); 4].map(|()| subscribe(&broker, &old));
    let mut plain = broker.connect();
    plain.send(format!("GET {STREAM} HTTP/1.0\r\n{old}\r\n"));
    assert!(!plain.head().contains("Transfer-Encoding"));
    let mut others = [(); 4].map(|()| subscribe(&broker, &other));
    let before = now();
    let response = revoke(&broker, &json!({"sub": "user:1"}));
    assert_eq!((response.status, &response.json()["sub"]), (200, &json!("user:1")));
    let issued_before = response.json()["tokens_issued_before"].as_u64().expect("a second");
    assert!((before + 1..=now() + 1).contains(&issued_before));

    streams.iter_mut().for_each(assert_revoked);
    let rest = String::from_utf8(plain.read_to_end()).expect("streams are UTF-8");
    assert!(rest.ends_with(REVOKED), "without chunks: {rest:?}");
    publish(&broker, "data: later");
    others.iter_mut().for_each(|stream| assert_eq!(stream.data(1), ["later"]));
    let last = bearer(&token(&json!({"sub": "user:1", "iat": issued_before - 1}), SUBSCRIBER));
    for refused in [&old, &last, &bearer(&token(&json!({"sub": "user:1"}), SUBSCRIBER))] {
        assert_denied(&try_subscribe(&broker, STREAM, refused), 401, "the token was revoked; get a new one");
    }
    let new = bearer(&token(&json!({"sub": "user:1", "iat": issued_before}), SUBSCRIBER));
    let mut again = subscribe(&broker, &new);
    publish(&broker, "data: again");
    assert_eq!(again.data(1), ["again"]);
    broker.wait_for("counted", |stats| {
        stats["subscribers"] == 5 && stats["revocations"] == 1 && stats["revoked_tokens_refused"] == 3
    });
    broker.metrics_once("closed", |metrics| {
        metrics.labeled("esker_streams_closed_total", "reason", "revoked") as u32 == 5
    });
}

#[test]
fn one_token_is_revoked_by_its_id() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let named = |id: &str| bearer(&token(&json!({"sub": "user:1", "jti": id, "iat": now() + 100}), SUBSCRIBER));
    let (mut first, mut second) = (subscribe(&broker, &named("a")), subscribe(&broker, &named("b")));
    let response = revoke(&broker, &json!({"jti": "a"}));
    assert_eq!((response.status, response.json()), (200, json!({"jti": "a"})));
    assert_revoked(&mut first);
    assert_denied(&try_subscribe(&broker, STREAM, &named("a")), 401, "revoked");
    publish(&broker, "data: x");
    assert_eq!(second.data(1), ["x"]);
}

/// Both roles, and a request whose body arrives when its token is revoked already.
#[test]
fn a_publisher_is_revoked_as_well() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let publisher = bearer(&token(&json!({"sub": "service:1", "iat": now()}), PUBLISHER));
    assert_eq!(broker.post("/publish/topicone1", &publisher, "data: 1").status, 200);
    let mut slow = broker.connect();
    slow.send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{publisher}Content-Length: 7\r\n\r\ndata"));
    // The broker has read the head when it answers the expectation of another.
    let mut waiting = broker.connect();
    waiting.send(format!(
        "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{publisher}Expect: 100-continue\r\nContent-Length: 7\r\n\r\n"
    ));
    assert_eq!(waiting.response().status, 100);
    assert_eq!(revoke(&broker, &json!({"sub": "service:1"})).status, 200);
    slow.send(": 2");
    waiting.send("data: 3");
    for mut connection in [slow, waiting] {
        assert_denied(&connection.final_response(), 401, "the token was revoked; get a new one");
    }
    assert_denied(&broker.post("/publish/topicone1", &publisher, "data: 4"), 401, "revoked");
    assert_eq!(broker.stats()["events_published"], 1);
}

#[test]
fn many_streams_end_while_events_flow() {
    const EACH: usize = 1000;
    let broker = Broker::start_with_tokens(&["--threads", "2"], &SECRETS);
    let issued = now();
    let mut crowd = Crowd::new();
    crowd.join(broker.address, 2 * EACH, |number| {
        // Ten users with a hundred streams each, and users of their own.
        let subject =
            if number.is_multiple_of(2) { format!("group:{}", number % 20) } else { format!("user:{number}") };
        format!("{STREAM}?token={}", token(&json!({"sub": subject, "iat": issued}), SUBSCRIBER))
    });
    let publisher = format!("topicone1?token={}", tokens::publisher("topicone1"));
    for (event, group) in (0..20).step_by(2).enumerate() {
        broker.publish(&publisher, &format!("data: {event}"));
        assert_eq!(revoke(&broker, &json!({"sub": format!("group:{group}")})).status, 200);
    }
    broker.publish(&publisher, "data: 10");
    let is_revoked = |number: usize| number.is_multiple_of(2);
    crowd.read_until("ended", |crowd| {
        crowd.all().iter().enumerate().all(|(number, member)| match is_revoked(number) {
            true => member.is_expired && member.has_ended && member.is_closed,
            false => member.received == 11,
        })
    });
    for (number, member) in crowd.all().iter().enumerate().filter(|(number, _)| is_revoked(*number)) {
        assert!(member.received <= number % 20 / 2 + 2, "{number} received {} events", member.received);
    }
    broker.wait_for("counted", |stats| stats["subscribers"] == EACH && stats["revocations"] == 10);
}

#[test]
fn a_revocation_that_can_not_be_understood_is_refused() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let pass = bearer(&tokens::publisher("revoke"));
    for body in ["", "x", "[]", "{}", r#"{"sub":""}"#, r#"{"sub":"a","jti":"b"}"#, r#"{"user":"a"}"#] {
        let response = broker.post("/revoke", &pass, body);
        assert_eq!(response.status, 400, "{body}");
        assert!(response.text().contains("to revoke all tokens of a sub"), "{body}: {response:?}");
    }
    let typed = broker.post("/revoke", &format!("{pass}Content-Type: text/plain\r\n"), r#"{"sub":"a"}"#);
    assert_eq!(typed.status, 415);
    let unframed = broker.request(format!("POST /revoke HTTP/1.1\r\nHost: h\r\n{pass}\r\n"));
    assert_eq!(unframed.status, 411);
    let got = broker.get("/revoke");
    assert_eq!((got.status, got.field("Allow")), (405, Some("POST, OPTIONS")));
    assert_denied(&broker.post("/revoke", "", r#"{"sub":"a"}"#), 401, "a token is required");
    for other in ["topicone1", "stats", "revok*"] {
        let fields = bearer(&tokens::publisher(other));
        assert_denied(&broker.post("/revoke", &fields, r#"{"sub":"a"}"#), 403, "don't allow revoke");
    }
    assert_denied(&broker.post("/revoke", &bearer(&tokens::subscriber("*")), r#"{"sub":"a"}"#), 401, "publisher key");
    assert_eq!(broker.stats()["revocations"], 0);
    for claims in [json!({"iat": "1"}), json!({"iat": [1]}), json!({"jti": 5})] {
        let response = try_subscribe(&broker, STREAM, &bearer(&token(&claims, SUBSCRIBER)));
        assert_denied(&response, 401, "must be");
    }
}

/// Revocations are stored before the response, so that even a killed broker knows them when it is started again.
#[test]
fn a_restart_does_not_undo_a_revocation() {
    let home = TempDir::new();
    let data = home.path.to_str().expect("its path is UTF-8");
    let start = || Broker::start_with_tokens(&["--data", data], &SECRETS);
    let mut broker = start();
    let named = bearer(&token(&json!({"jti": "a", "iat": now()}), SUBSCRIBER));
    let (old, other) = (user("user:1", 5), user("user:2", 5));
    for body in [json!({"sub": "user:1"}), json!({"jti": "a"}), json!({"sub": "user:1"})] {
        assert_eq!(revoke(&broker, &body).status, 200);
    }
    for end in ["KILL", "TERM"] {
        broker.signal(end);
        broker.wait();
        broker = start();
        for refused in [&old, &named] {
            assert_denied(&try_subscribe(&broker, STREAM, refused), 401, "revoked");
        }
        assert_eq!(try_subscribe(&broker, STREAM, &other).status, 200);
        assert_eq!(broker.stats()["revocations_retained"], 2);
    }
    broker.signal("TERM");
    broker.wait();
    let (code, out, err) = run(&["check", data], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn without_tokens_there_is_nothing_to_revoke() {
    let broker = Broker::start(&[]);
    let response = broker.post("/revoke", "", r#"{"sub":"a"}"#);
    assert_eq!(response.status, 404);
    assert!(response.text().contains("requires no tokens"), "{response:?}");
}
