//! Key files made with openssl: each kind of key verifies its own algorithms and no others, invalid files are refused with a
//! reason, and SIGHUP reloads changed files.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::support::openssl::KeyPair;
use super::support::tokens::{self, PUBLISHER, SECRETS, SUBSCRIBER, assert_denied, bearer, now};
use super::support::{Broker, Response, TempDir, run};

const ALGORITHMS: [&str; 14] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
    "EdDSA", "none",
];

/// A key file, and a broker that verifies subscribers' tokens with it.
struct KeyFile {
    home: TempDir,
}

impl KeyFile {
    fn with(content: impl AsRef<[u8]>) -> Self {
        let file = Self { home: TempDir::new() };
        file.write("key.pem", content);
        file
    }

    fn path(&self) -> PathBuf {
        self.home.path.join("key.pem")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.home.path.join(name), content).expect("a file can be written");
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.home.path.join(name)).expect("the file is there");
    }

    fn broker(&self) -> Broker {
        let path = self.path().display().to_string();
        Broker::start_with_tokens(&["--subscriber-key", &path], &SECRETS[..1])
    }
}

fn claims() -> Value {
    tokens::topic_claims("topicone1", now() + 600)
}

fn try_subscribe(broker: &Broker, token: &str) -> Response {
    tokens::try_subscribe(broker, "/subscribe/topicone1", &bearer(token))
}

#[test]
fn each_kind_of_key_verifies_its_own_algorithms_and_no_other() {
    let rsa = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..];
    let kinds = [
        (KeyPair::rsa(2048), rsa),
        (KeyPair::ec("P-256"), &["ES256"]),
        (KeyPair::ec("P-384"), &["ES384"]),
        (KeyPair::ed25519(), &["EdDSA"]),
    ];
    for (at, (pair, accepted)) in kinds.iter().enumerate() {
        let broker = KeyFile::with(pair.public_pem()).broker();
        for algorithm in ALGORITHMS {
            let token = pair.sign(algorithm, &claims());
            let response = try_subscribe(&broker, &token);
            match (accepted.contains(&algorithm), algorithm) {
                (true, _) => assert_eq!(response.status, 200, "{algorithm} by {accepted:?}"),
                (false, "ES512" | "none") => assert_denied(&response, 401, "with an `alg` such as"),
                (false, _) => assert_denied(&response, 401, accepted[0]),
            }
            // All other keys reject the same token.
            for (_, (other, _)) in kinds.iter().enumerate().filter(|(other, _)| *other != at) {
                let response = try_subscribe(&broker, &other.sign(algorithm, &claims()));
                assert_eq!(response.status, 401, "{algorithm} at {accepted:?}");
            }
        }
        let bent = pair.sign(accepted[0], &claims()).replace("ey", "eY");
        assert_eq!(try_subscribe(&broker, &bent).status, 401);
        broker.assert_healthy();
    }
}

/// A token for the previous key, which is of another kind, is verified with that key.
#[test]
fn a_bad_signature_for_a_previous_key_of_another_kind_is_reported() {
    let (old, new) = (KeyPair::ec("P-256"), KeyPair::ed25519());
    let file = KeyFile::with(new.public_pem());
    file.write("key.pem.previous", old.public_pem());
    let broker = file.broker();
    assert_eq!(try_subscribe(&broker, &old.sign("ES256", &claims())).status, 200);
    let forged = try_subscribe(&broker, &KeyPair::ec("P-256").sign("ES256", &claims()));
    assert_denied(&forged, 401, "signature");
    assert_eq!(forged.field("Connection"), Some("close"));
    let other = try_subscribe(&broker, &KeyPair::ec("P-384").sign("ES384", &claims()));
    assert_denied(&other, 401, "`alg`");
    assert_eq!(other.field("Connection"), None);
}

/// A public key must not be usable as a secret (RFC 8725 section 2.1).
#[test]
fn a_public_key_is_not_accepted_as_a_secret() {
    for pair in [KeyPair::rsa(2048), KeyPair::ec("P-256"), KeyPair::ec("P-384"), KeyPair::ed25519()] {
        let pem = pair.public_pem();
        let broker = KeyFile::with(&pem).broker();
        let der = pair.openssl(&["pkey", "-in", "private.pem", "-pubout", "-outform", "DER"]);
        // The whole text, the text without its last newline, the DER bytes, and the bare key at their end.
        for secret in [&pem[..], pem.trim_ascii(), &der, &der[der.len() - 32..], &der[der.len().saturating_sub(65)..]] {
            for algorithm in ["HS256", "HS384", "HS512"] {
                assert_denied(
                    &try_subscribe(&broker, &tokens::sign_hmac(algorithm, &claims(), secret)),
                    401,
                    "does not match",
                );
            }
        }
        broker.assert_healthy();
    }
}

#[test]
fn malformed_ecdsa_signatures_are_refused() {
    let pair = KeyPair::ec("P-256");
    let broker = KeyFile::with(pair.public_pem()).broker();
    let valid = pair.sign("ES256", &claims());
    assert_eq!(try_subscribe(&broker, &valid).status, 200);
    let (message, _) = valid.rsplit_once('.').expect("a signature");
    let der = pair.openssl(&["dgst", "-sha256", "-sign", "private.pem", "message"]);
    for signature in [&der[..], &[0; 64], &[255; 64], &[]] {
        assert_denied(&try_subscribe(&broker, &tokens::join(message, signature)), 401, "signature");
    }
}

#[test]
fn both_roles_may_use_key_files() {
    let (publisher, subscriber) = (KeyPair::ed25519(), KeyPair::ec("P-256"));
    let files = [&publisher, &subscriber].map(|pair| KeyFile::with(pair.public_pem()));
    let [first, second] = files.each_ref().map(|file| file.path().display().to_string());
    let broker = Broker::start_with_tokens(&["--publisher-key", &first], &[("ESKER_SUBSCRIBER_KEY", second.as_str())]);
    let [to_publish, to_subscribe] =
        [publisher.sign("EdDSA", &claims()), subscriber.sign("ES256", &claims())].map(|token| bearer(&token));
    let mut stream = broker.subscribe("/subscribe/topicone1", &to_subscribe);
    stream.opening();
    assert_eq!(broker.post("/publish/topicone1", &to_publish, "data: x").status, 200);
    assert_eq!(stream.data(1), ["x"]);
    assert_denied(&broker.post("/publish/topicone1", &to_subscribe, "data: x"), 401, "sign with EdDSA");
}

/// Applying half of a change would lock one role out.
#[test]
fn one_invalid_file_keeps_the_keys_of_both_roles() {
    let (old, new) = (KeyPair::ed25519(), KeyPair::ed25519());
    let files = [KeyFile::with(old.public_pem()), KeyFile::with(old.public_pem())];
    let [publisher, subscriber] = files.each_ref().map(|file| file.path().display().to_string());
    let broker = Broker::start_with_tokens(&["--publisher-key", &publisher, "--subscriber-key", &subscriber], &[]);
    for (valid, bad) in [(0, 1), (1, 0)] {
        files[valid].write("key.pem", new.public_pem());
        files[bad].write("key.pem", "garbage");
        broker.signal("HUP");
        broker.wait_for_log("the previous keys stay in use");
        let token = old.sign("EdDSA", &claims());
        assert_eq!(try_subscribe(&broker, &token).status, 200);
        assert_eq!(broker.post("/publish/topicone1", &bearer(&token), "data: x").status, 200);
    }
}

/// Returns nested DER sequences with this many bytes.
fn nested_der(len: usize) -> Vec<u8> {
    let mut der = Vec::new();
    while der.len() < len {
        let [high, low] = u16::try_from(der.len()).expect("a length of two bytes").to_be_bytes();
        der.splice(..0, [0x30, 0x82, high, low]);
    }
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der)).into_bytes()
}

/// Files that are not valid keys, with a part of the expected error.
fn invalid_files() -> Vec<(Vec<u8>, &'static str)> {
    let rsa = KeyPair::rsa(2048);
    let certificate = ["req", "-x509", "-new", "-key", "private.pem", "-subj", "/CN=esker", "-days", "1"];
    let private = |pair: &KeyPair| pair.openssl(&["pkey", "-in", "private.pem"]);
    let cut = |pem: Vec<u8>| pem[..pem.len() / 2].to_vec();
    vec![
        (private(&rsa), "private"),
        (private(&KeyPair::ec("P-256")), "private"),
        (KeyPair::ec("P-256").openssl(&["ec", "-in", "private.pem"]), "private"),
        (rsa.openssl(&["rsa", "-in", "private.pem", "-traditional"]), "private"),
        (private(&KeyPair::ed25519()), "private"),
        (rsa.openssl(&certificate), "certificate"),
        (KeyPair::rsa(1024).public_pem(), "1024 bits"),
        (KeyPair::ec("secp256k1").public_pem(), "a supported kind"),
        (KeyPair::ec("P-521").public_pem(), "a supported kind"),
        (KeyPair::ec("P-224").public_pem(), "a supported kind"),
        (KeyPair::new("X25519", "").public_pem(), "a supported kind"),
        (KeyPair::new("ED448", "").public_pem(), "a supported kind"),
        (cut(rsa.public_pem()), "a supported kind"),
        (b"-----BEGIN PUBLIC KEY-----\ngarbage\n-----END PUBLIC KEY-----\n".to_vec(), "a supported kind"),
        (rsa.openssl(&["pkey", "-in", "private.pem", "-pubout", "-outform", "DER"]), "no public key in PEM"),
        (b"a secret in the wrong place, of 32 bytes or more".to_vec(), "no public key in PEM"),
        (nested_der(5_000), "a supported kind"),
        (nested_der(40_000), "longer than 8 KiB"),
        (vec![0xff; 100_000], "longer than 8 KiB"),
        (Vec::new(), "no public key in PEM"),
    ]
}

#[test]
fn invalid_public_keys_are_refused_at_startup() {
    for (content, part) in invalid_files() {
        let file = KeyFile::with(&content);
        let path = file.path().display().to_string();
        for (option, role) in [("--publisher-key", "the publisher key"), ("--subscriber-key", "the subscriber key")] {
            let secret = if role.contains("publisher") { SECRETS[1] } else { SECRETS[0] };
            let (code, out, err) = run(&["--port", "0", option, &path], &[secret]);
            assert_eq!((code, out.as_str()), (Some(1), ""), "{part}: {err}");
            assert!([part, role, &path].iter().all(|part| err.contains(part)), "{part}: {err}");
            assert!(!err.contains("wrong place"), "the file's content may be secret: {err}");
        }
    }
}

#[test]
fn unreadable_key_files_are_refused_at_startup() {
    let file = KeyFile::with("");
    file.write("key.pem.previous", "garbage");
    let missing = file.home.path.join("missing.pem").display().to_string();
    let dir = file.home.path.display().to_string();
    let pipe = file.home.path.join("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    for (path, part) in [(&missing, "can't be read"), (&dir, "not a regular file"), (&pipe, "not a regular file")] {
        let (code, _, err) = run(&["--port", "0", "--subscriber-key", path], &SECRETS[..1]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(path) && err.contains(part), "{err}");
    }
    // The previous key must be valid as well; otherwise its tokens would be refused unnoticed.
    file.write("key.pem", KeyPair::ed25519().public_pem());
    let path = file.path().display().to_string();
    let (code, _, err) = run(&["--port", "0", "--subscriber-key", &path], &SECRETS[..1]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("key.pem.previous"), "{err}");
}

#[test]
fn each_role_needs_exactly_one_valid_key() {
    let file = KeyFile::with(KeyPair::ed25519().public_pem());
    let path = file.path().display().to_string();
    let short = "x".repeat(31);
    for (arguments, environment, expected, parts) in [
        (
            &[][..],
            &[("ESKER_PUBLISHER_SECRET", short.as_str()), SECRETS[1]][..],
            2,
            ["PUBLISHER_SECRET", "openssl rand"],
        ),
        (&[], &[SECRETS[0], ("ESKER_SUBSCRIBER_SECRET", "x")], 2, ["SUBSCRIBER_SECRET", "openssl rand"]),
        (&["--publisher-key", &path], &SECRETS, 2, ["ESKER_PUBLISHER_SECRET", "--publisher-key"]),
        (&["--subscriber-key", &path], &SECRETS, 2, ["ESKER_SUBSCRIBER_SECRET", "--subscriber-key"]),
        (&[], &SECRETS[..1], 1, ["ESKER_SUBSCRIBER_SECRET", "--subscriber-key"]),
        (&[], &SECRETS[1..], 1, ["ESKER_PUBLISHER_SECRET", "--publisher-key"]),
        (&["--publisher-key", &path], &[], 1, ["ESKER_SUBSCRIBER_SECRET", "--subscriber-key"]),
        (&[], &[SECRETS[0], ("ESKER_SUBSCRIBER_SECRET", "")], 1, ["ESKER_SUBSCRIBER_SECRET", "--no-auth"]),
    ] {
        let (code, _, err) = run(&[&["--port", "0"], arguments].concat(), environment);
        assert_eq!(code, Some(expected), "{err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{parts:?}: {err}");
        assert!(![PUBLISHER, SUBSCRIBER, &short].iter().any(|secret| err.contains(secret)), "{err}");
    }
}

#[test]
fn a_secret_of_32_bytes_is_long_enough() {
    let secret = "x".repeat(32);
    let broker = Broker::start_with_tokens(&[], &[SECRETS[0], ("ESKER_SUBSCRIBER_SECRET", &secret)]);
    assert_eq!(try_subscribe(&broker, &tokens::sign_hmac("HS512", &claims(), &secret)).status, 200);
}

#[test]
fn without_authentication_keys_are_ignored() {
    let broker = Broker::start_with(&["--publisher-key", "/missing"], &[("ESKER_SUBSCRIBER_SECRET", "short")]);
    broker.subscribe("/subscribe/topicone1", &bearer("garbage"));
    broker.publish("topicone1?token=garbage", "data: x");
    broker.signal("HUP");
    broker.wait_for_log("");
    broker.assert_healthy();
}

#[test]
fn sighup_reloads_keys_and_keeps_connections() {
    let (old, new) = (KeyPair::ed25519(), KeyPair::ec("P-256"));
    let file = KeyFile::with(old.public_pem());
    let broker = file.broker();
    let [by_old, by_new] = [old.sign("EdDSA", &claims()), new.sign("ES256", &claims())];
    let admitted = || [&by_old, &by_new].map(|token| try_subscribe(&broker, token).status);
    let reload = |outcome: &str| {
        broker.signal("HUP");
        broker.wait_for_log(outcome)
    };
    let mut stream = broker.subscribe("/subscribe/topicone1", &bearer(&by_old));
    stream.opening();
    assert_eq!(admitted(), [200, 401]);

    file.write("key.pem", new.public_pem());
    assert_eq!(admitted(), [200, 401], "nothing changes before the signal");
    reload("reloaded");
    assert_eq!(admitted(), [401, 200]);

    file.write("key.pem.previous", old.public_pem());
    reload("reloaded");
    assert_eq!(admitted(), [200, 200]);

    for (name, content) in
        [("key.pem", "garbage"), ("key.pem.previous", ""), ("key.pem", "-----BEGIN PRIVATE KEY-----")]
    {
        let kept = std::fs::read(file.home.path.join(name)).expect("a key");
        file.write(name, content);
        assert!(reload("the previous keys stay in use").contains(name));
        assert_eq!(admitted(), [200, 200], "{name}");
        file.write(name, kept);
    }
    file.remove("key.pem");
    reload("the previous keys stay in use");
    assert_eq!(admitted(), [200, 200]);

    file.write("key.pem", new.public_pem());
    file.remove("key.pem.previous");
    reload("reloaded");
    assert_eq!(admitted(), [401, 200]);

    let to_publish = bearer(&tokens::publisher("topicone1"));
    assert_eq!(broker.post("/publish/topicone1", &to_publish, "data: x").status, 200);
    assert_eq!(stream.data(1), ["x"], "the stream continues");
    broker.assert_healthy();
}
