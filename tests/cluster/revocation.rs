//! Tokens that are revoked at one broker are refused by all, also by those that start later.

use serde_json::json;

use super::redis_server::RedisServer;
use super::support::tokens::{PUBLISHER, SECRETS, SUBSCRIBER, bearer, now, publisher, sign_hmac, try_subscribe};
use super::support::{Broker, REVOKED, Response, Stream, TempDir, command};
use super::{DURABLE, lock_machine, wait_until};

const STREAM: &str = "/subscribe/topicone1";

/// Starts a broker that requires tokens.
fn start(engine: &str) -> Broker {
    let home = TempDir::new();
    let mut command = command(&SECRETS);
    command.env_remove("ESKER_DATA").current_dir(&home.path);
    Broker::start_command_with_tokens(command, &["--engine", engine])
}

/// Returns the Authorization field with a token that was issued at this time.
fn issued_at(subject: &str, issued: u64) -> String {
    let claims = json!({"sub": subject, "topics": ["topicone1"], "iat": issued, "exp": now() + 3600});
    bearer(&sign_hmac("HS256", &claims, SUBSCRIBER))
}

fn subscribe(node: &Broker, fields: &str) -> Stream {
    let mut stream = node.subscribe(STREAM, fields);
    stream.opening();
    stream
}

fn revoke(node: &Broker, subject: &str) -> Response {
    node.post("/revoke", &bearer(&publisher("revoke")), json!({ "sub": subject }).to_string())
}

/// Returns the status of a request for a stream.
fn status(node: &Broker, fields: &str) -> u16 {
    try_subscribe(node, STREAM, fields).status
}

#[test]
fn a_revocation_reaches_every_broker() {
    let _lock = lock_machine();
    let mut redis = RedisServer::start(&DURABLE);
    let nodes: Vec<_> = (0..3).map(|_| start(&redis.url())).collect();
    let issued = now() - 5;
    let (old, other) = (issued_at("user:1", issued), issued_at("user:2", issued));
    let mut streams: Vec<_> = nodes.iter().map(|node| subscribe(node, &old)).collect();
    let mut others: Vec<_> = nodes.iter().map(|node| subscribe(node, &other)).collect();
    let response = revoke(&nodes[0], "user:1");
    assert_eq!(response.status, 200, "{response:?}");
    let before = response.json()["tokens_issued_before"].as_u64().expect("a second");
    for stream in &mut streams {
        assert_eq!(stream.event().text, REVOKED);
        assert_eq!(stream.chunk(), None, "the last chunk");
    }
    let later = start(&redis.url());
    let everywhere = || nodes.iter().chain([&later]);
    for node in everywhere() {
        assert_eq!((status(node, &old), status(node, &issued_at("user:1", before))), (401, 200));
    }
    let claims = json!({"topics": ["topicone1"], "exp": now() + 60});
    let publish = bearer(&sign_hmac("HS256", &claims, PUBLISHER));
    assert_eq!(nodes[1].post("/publish/topicone1", &publish, "data: x").status, 200);
    others.iter_mut().for_each(|stream| assert_eq!(stream.data(1), ["x"]));

    // While the engine is away, only this broker revokes, and says so. It is told when the engine is back and asked again.
    redis.kill();
    let response = revoke(&nodes[0], "user:2");
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.text().contains("only this broker") && response.field("Retry-After").is_some(), "{response:?}");
    assert_eq!(others[0].event().text, REVOKED);
    assert_eq!((status(&nodes[0], &other), status(&nodes[1], &other)), (401, 200));
    redis.restart();
    wait_until("accepted", || revoke(&nodes[0], "user:2").status == 200);
    others[1..].iter_mut().for_each(|stream| assert_eq!(stream.event().text, REVOKED));
    everywhere().for_each(|node| wait_until("known", || status(node, &other) == 401));
    assert_eq!(redis.command::<usize>(&["XLEN", "{esker}:1:rev"]), 2);
}

/// A server that took over without the newest revocations, and with a clock that is behind, hides no later ones.
#[test]
fn a_lost_revocation_hides_no_other() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let (one, two) = (start(&redis.url()), start(&redis.url()));
    let issued = now() - 5;
    let (first, second) = (issued_at("user:1", issued), issued_at("user:2", issued));
    assert_eq!(revoke(&one, "user:1").status, 200);
    wait_until("known", || status(&two, &first) == 401);
    // As if it had been revoked a year ago, on a server that knows nothing else.
    redis.command::<()>(&["DEL", "{esker}:1:rev"]);
    let long_ago = format!("{}-0", (now() - 365 * 86_400) * 1_000_000);
    redis.command::<()>(&["XADD", "{esker}:1:rev", &long_ago, "t", "jti:id", "c", "0"]);
    redis.command::<usize>(&["CLIENT", "KILL", "TYPE", "normal"]);
    let by_id = json!({"jti": "id", "topics": ["topicone1"], "iat": issued, "exp": now() + 3600});
    let by_id = bearer(&sign_hmac("HS256", &by_id, SUBSCRIBER));
    for node in [&one, &two] {
        wait_until("known", || status(node, &by_id) == 401);
        assert_eq!(status(node, &second), 200);
        assert_eq!(status(node, &first), 401, "a broker forgets nothing");
    }
}
