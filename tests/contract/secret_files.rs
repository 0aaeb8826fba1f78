//! Secrets from files, and previous secrets: which tokens they verify, and why they are refused.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::openssl::KeyPair;
use super::support::tokens::{self, SECRETS, SUBSCRIBER, bearer, now, sign_hmac};
use super::support::{Broker, TempDir, run};

const OLD: &str = "an old secret of 32 bytes or more";
const NEW: &str = "a new secret of 32 bytes or more";
const FILE: &str = "ESKER_SUBSCRIBER_SECRET_FILE";
const PREVIOUS: &str = "ESKER_SUBSCRIBER_SECRET_PREVIOUS";

fn claims() -> Value {
    tokens::topic_claims("topicone1", now() + 600)
}

fn status(broker: &Broker, token: &str) -> u16 {
    tokens::try_subscribe(broker, "/subscribe/topicone1", &bearer(token)).status
}

/// Returns the statuses of tokens that are signed with these secrets.
fn statuses<const N: usize>(broker: &Broker, secrets: [&str; N]) -> [u16; N] {
    secrets.map(|secret| status(broker, &sign_hmac("HS256", &claims(), secret)))
}

/// A secret file.
struct SecretFile {
    home: TempDir,
}

impl SecretFile {
    fn with(content: &str) -> Self {
        let file = Self { home: TempDir::new() };
        file.write("secret", content);
        file
    }

    fn path(&self) -> String {
        self.place("secret").display().to_string()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.home.path.join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.place(name), content).expect("a file can be written");
    }
}

#[test]
fn one_line_end_is_not_part_of_the_secret() {
    for (content, secret) in [
        (NEW.to_owned(), NEW.to_owned()),
        (format!("{NEW}\n"), NEW.to_owned()),
        (format!("{NEW}\r\n"), NEW.to_owned()),
        (format!("{NEW}\n\n"), format!("{NEW}\n")),
        (format!(" {NEW} "), format!(" {NEW} ")),
    ] {
        let file = SecretFile::with(&content);
        let broker = Broker::start_with_tokens(&[], &[SECRETS[0], (FILE, &file.path())]);
        assert_eq!(statuses(&broker, [&secret, OLD]), [200, 401], "{content:?}");
    }
}

#[test]
fn sighup_reads_secret_files_again() {
    let file = SecretFile::with(OLD);
    let broker = Broker::start_with_tokens(&[], &[SECRETS[0], (FILE, &file.path())]);
    let reload = |outcome: &str| {
        broker.signal("HUP");
        broker.wait_for_log(outcome)
    };
    let mut stream = broker.subscribe("/subscribe/topicone1", &bearer(&sign_hmac("HS256", &claims(), OLD)));
    stream.opening();
    file.write("secret.previous", OLD);
    file.write("secret", &format!("{NEW}\n"));
    assert_eq!(statuses(&broker, [OLD, NEW]), [200, 401], "nothing changes before the signal");
    reload("reloaded");
    assert_eq!(statuses(&broker, [OLD, NEW]), [200, 200]);
    file.write("secret", "short");
    let line = reload("the previous keys stay in use");
    assert!(line.contains(&file.path()) && line.contains("has 5 bytes"), "{line}");
    assert_eq!(statuses(&broker, [OLD, NEW]), [200, 200]);
    file.write("secret", NEW);
    std::fs::remove_file(file.place("secret.previous")).expect("the file is there");
    reload("reloaded");
    assert_eq!(statuses(&broker, [OLD, NEW]), [401, 200]);
    assert_eq!(broker.post("/publish/topicone1", &bearer(&tokens::publisher("topicone1")), "data: x").status, 200);
    assert_eq!(stream.data(1), ["x"], "the stream continues");
}

#[test]
fn a_previous_secret_still_verifies_beside_any_key() {
    let pair = KeyPair::ed25519();
    let key = SecretFile::with("");
    key.write("key.pem", &String::from_utf8(pair.public_pem()).expect("PEM is text"));
    let key = key.place("key.pem").display().to_string();
    let file = SecretFile::with(NEW);
    for current in [("ESKER_SUBSCRIBER_SECRET", NEW), (FILE, &file.path()), ("ESKER_SUBSCRIBER_KEY", &key)] {
        let broker = Broker::start_with_tokens(&[], &[SECRETS[0], current, (PREVIOUS, OLD)]);
        let by_current =
            if current.1 == key { pair.sign("EdDSA", &claims()) } else { sign_hmac("HS512", &claims(), NEW) };
        assert_eq!(status(&broker, &by_current), 200, "{current:?}");
        assert_eq!(statuses(&broker, [OLD, SUBSCRIBER]), [200, 401], "{current:?}");
    }
}

#[test]
fn unusable_secrets_are_refused_with_the_reason() {
    let file = SecretFile::with("s3cret\n");
    let [short, missing, dir] = [file.path(), file.place("missing").display().to_string(), "/".to_owned()];
    file.write("long", &"s3cret".repeat(1000));
    file.write("pem", &String::from_utf8(KeyPair::ed25519().public_pem()).expect("PEM is text"));
    file.write("jwks", &json!({"keys": [KeyPair::ed25519().jwk("1")]}).to_string());
    file.write("good", NEW);
    file.write("good.previous", "s3cret");
    let [long, pem, jwks, good] = ["long", "pem", "jwks", "good"].map(|name| file.place(name).display().to_string());
    let (secret, key) = (("ESKER_SUBSCRIBER_SECRET", OLD), ("ESKER_SUBSCRIBER_KEY", pem.as_str()));
    for (environment, expected, part) in [
        (&[(FILE, short.as_str())][..], 1, "has 6 bytes"),
        (&[(FILE, &missing)], 1, "can't be read"),
        (&[(FILE, &dir)], 1, "not a regular file"),
        (&[(FILE, &long)], 1, "longer than 4 KiB"),
        (&[(FILE, &pem)], 1, "is a PEM key, not a secret"),
        (&[(FILE, &jwks)], 1, "is a JSON Web Key, not a secret"),
        (&[(FILE, &good)], 1, "good.previous has 6 bytes"),
        (&[(FILE, &good), secret], 2, "ESKER_SUBSCRIBER_SECRET, ESKER_SUBSCRIBER_SECRET_FILE and --subscriber-key"),
        (&[(FILE, &good), key], 2, "set only one"),
        (&[secret, (PREVIOUS, "s3cret")], 2, "ESKER_SUBSCRIBER_SECRET_PREVIOUS has 6 bytes"),
        (&[(PREVIOUS, OLD)], 1, "the subscriber key is missing"),
    ] {
        let (code, out, err) = run(&["--port", "0"], &[&SECRETS[..1], environment].concat());
        assert_eq!((code, out.as_str()), (Some(expected), ""), "{part}: {err}");
        assert!(err.contains(part) && !err.contains("s3cret"), "{part}: {err}");
    }
}

#[test]
fn esker_token_signs_with_a_secret_file() {
    let file = SecretFile::with(&format!("{NEW}\n"));
    let broker = Broker::start_with_tokens(&[], &[SECRETS[0], (FILE, &file.path())]);
    let arguments = ["token", "--subscribe", "topicone1"];
    let (code, out, err) = run(&arguments, &[(FILE, &file.path())]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(status(&broker, out.trim_end()), 200);
    for (environment, expected, part) in [
        (&[(FILE, "/missing")][..], 1, "the subscriber secret file /missing can't be read"),
        (&[(FILE, &file.path()), ("ESKER_SUBSCRIBER_SECRET", OLD)], 2, "are both set; set only one"),
    ] {
        let (code, out, err) = run(&arguments, environment);
        assert_eq!((code, out.as_str()), (Some(expected), ""), "{err}");
        assert!(err.contains(part), "{err}");
    }
}
