//! JWK Sets that change while the broker runs: tokens of the old and the new keys work, and no stream is cut.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::support::openssl::KeyPair;
use super::support::tokens::{self, assert_denied, bearer, now};
use super::support::{Broker, Stream, TempDir};

fn claims() -> Value {
    tokens::topic_claims("topicone1", now() + 600)
}

/// The key files of a broker that uses the same ones for both roles.
struct KeyFiles {
    home: TempDir,
}

impl KeyFiles {
    fn path(&self) -> PathBuf {
        self.home.path.join("jwks.json")
    }

    /// Replaces a file at once, as the guide's cron line does.
    fn write(&self, name: &str, keys: &[Value]) {
        let path = self.home.path.join("new");
        std::fs::write(&path, json!({ "keys": keys }).to_string()).expect("a file can be written");
        std::fs::rename(path, self.home.path.join(name)).expect("a file can be renamed");
    }

    fn broker(&self) -> Broker {
        let path = self.path().display().to_string();
        let arguments = ["--publisher-key", &path, "--subscriber-key", &path, "--history", "1000000"];
        Broker::start_with_tokens(&arguments, &[])
    }
}

fn reload(broker: &Broker, outcome: &str) {
    broker.signal("HUP");
    broker.wait_for_log(outcome);
}

fn subscribe(broker: &Broker, token: &str) -> Stream {
    let mut stream = broker.subscribe("/subscribe/topicone1", &bearer(token));
    stream.opening();
    stream
}

fn status(broker: &Broker, token: &str) -> u16 {
    tokens::try_subscribe(broker, "/subscribe/topicone1", &bearer(token)).status
}

/// Publishes numbered events with this token until the end, and returns their data. Every one must be accepted.
fn publish_until(end: &AtomicBool, broker: &Broker, name: &str, token: &str) -> Vec<String> {
    let mut published = Vec::new();
    while !end.load(Ordering::Acquire) {
        let data = format!("{name} {}", published.len());
        let response = broker.post("/publish/topicone1", &bearer(token), format!("data: {data}"));
        assert_eq!(response.status, 200, "{data}: {response:?}");
        assert_eq!(status(broker, token), 200, "{name} subscribes as well");
        published.push(data);
    }
    published
}

#[test]
fn rotation_under_load_cuts_nobody() {
    let [old, new, next] = [KeyPair::ed25519(), KeyPair::ec("P-256"), KeyPair::ed25519()];
    let jwks = [old.jwk("old"), new.jwk("new"), next.jwk("next")];
    let [by_old, by_new] = [old.sign_as("old", "EdDSA", &claims()), new.sign_as("new", "ES256", &claims())];
    let files = KeyFiles { home: TempDir::new() };
    files.write("jwks.json", &jwks[..2]);
    let broker = files.broker();
    let mut streams: Vec<_> =
        [&by_old, &by_new].into_iter().cycle().take(8).map(|token| subscribe(&broker, token)).collect();
    let end = AtomicBool::new(false);
    let published: Vec<_> = thread::scope(|scope| {
        let publishers = [("old", &by_old), ("new", &by_new)]
            .map(|(name, token)| scope.spawn(|| publish_until(&end, &broker, name, token)));
        // Both keys are in the current set or the previous one at any time.
        for _ in 0..5 {
            for (current, previous) in
                [(&jwks[1..], &jwks[..2]), (&jwks[2..], &jwks[..2]), (&jwks[..1], &jwks[1..]), (&jwks[..2], &jwks[2..])]
            {
                files.write("jwks.json.previous", previous);
                files.write("jwks.json", current);
                reload(&broker, "reloaded");
            }
        }
        end.store(true, Ordering::Release);
        publishers.map(|publisher| publisher.join().expect("every publish is accepted")).concat()
    });
    for stream in &mut streams {
        let mut received = stream.data(published.len());
        // Each publisher's events arrive in order; the order among publishers is the broker's.
        received.sort_by_key(|data| !data.starts_with("old"));
        assert_eq!(received, published);
    }

    // Even without its key, a token's open streams continue until it expires.
    files.write("jwks.json", &jwks[1..]);
    files.write("jwks.json.previous", &jwks[2..]);
    reload(&broker, "reloaded");
    assert_eq!([&by_old, &by_new].map(|token| status(&broker, token)), [401, 200]);
    assert_eq!(broker.post("/publish/topicone1", &bearer(&by_new), "data: last").status, 200);
    streams.iter_mut().for_each(|stream| assert_eq!(stream.data(1), ["last"]));
    broker.assert_healthy();
}

#[test]
fn a_set_that_can_not_be_used_keeps_the_keys() {
    let pair = KeyPair::ed25519();
    let token = pair.sign_as("1", "EdDSA", &claims());
    let files = KeyFiles { home: TempDir::new() };
    files.write("jwks.json", &[pair.jwk("1")]);
    let broker = files.broker();
    for content in ["", "{\"keys\":[", "<html>502 Bad Gateway</html>", "{\"keys\":[]}"] {
        std::fs::write(files.path(), content).expect("a file can be written");
        reload(&broker, "the previous keys stay in use");
        assert_eq!(status(&broker, &token), 200, "{content}");
    }
    // A set may follow a key in PEM, and the other way round.
    std::fs::write(files.path(), KeyPair::ec("P-256").public_pem()).expect("a file can be written");
    files.write("jwks.json.previous", &[pair.jwk("1")]);
    reload(&broker, "reloaded");
    assert_eq!(status(&broker, &token), 200);
    files.write("jwks.json", &[pair.jwk("2")]);
    std::fs::remove_file(files.home.path.join("jwks.json.previous")).expect("the file is there");
    reload(&broker, "reloaded");
    assert_denied(&tokens::try_subscribe(&broker, "/subscribe/topicone1", &bearer(&token)), 401, "JWK Set");
}
