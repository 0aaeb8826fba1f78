//! The tokens of identity providers that the guide shows are accepted with the options beside them, and the line of cron
//! fetches a set only if it is complete.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::super::support::openssl::KeyPair;
use super::super::support::tokens::{self, SECRETS, assert_denied, bearer, now};
use super::super::support::{Broker, TempDir};
use super::page::blocks;
use super::{block, page};

/// Starts a broker whose subscribers have the tokens of this key.
fn start(home: &TempDir, options: &[&str], keys: &Value) -> Broker {
    let path = home.path.join("jwks.json");
    std::fs::write(&path, keys.to_string()).expect("a file can be written");
    let key_file = ["--subscriber-key", path.to_str().expect("a path is text")];
    Broker::start_with_tokens(&[&key_file, options].concat(), &SECRETS[..1])
}

#[test]
fn each_providers_tokens_are_accepted() {
    let all = blocks(page("providers.md").text);
    let shown = |language| all.iter().filter(move |block| block.language == language).map(|block| &block.text);
    let commands: Vec<_> = shown("sh").filter(|text| text.starts_with("esker ")).collect();
    let tokens: Vec<_> = shown("json").collect();
    assert_eq!((commands.len(), tokens.len()), (3, 3));
    let pair = KeyPair::rsa(2048);
    let set = json!({"keys": [pair.jwk("key-1")]});
    for (command, claims) in commands.iter().zip(tokens) {
        let words: Vec<_> = command.split_whitespace().filter(|word| *word != "\\").collect();
        let (&["esker", "--subscriber-key", "/etc/esker/jwks.json"], options) = words.split_at(3) else {
            panic!("the command has a key file: {command}");
        };
        let home = TempDir::new();
        let broker = start(&home, options, &set);
        let mut claims: Value = serde_json::from_str(claims).expect("claims are JSON");
        let subscribe = |claims: &Value, topic: &str| {
            let token = pair.sign_as("key-1", "RS256", claims);
            tokens::try_subscribe(&broker, &format!("/subscribe/{topic}"), &bearer(&token))
        };
        assert_denied(&subscribe(&claims, "greeting"), 401, "expired");
        claims["exp"] = json!(now() + 300);
        assert_eq!(subscribe(&claims, "greeting,newspaper1").status, 200, "{command}");
        assert_denied(&subscribe(&claims, "topicother"), 403, "topicother");
        claims["iss"] = json!("https://example.net/");
        assert_denied(&subscribe(&claims, "greeting"), 401, "another issuer");
    }
}

#[test]
fn the_action_sets_the_claim() {
    let action = block("providers.md", "js", "onExecutePostLogin");
    let call = "const set = (name, value) => console.log(JSON.stringify({ [name]: value }));
        for (const app_metadata of [{ topics: ['greeting'] }, {}])
          exports.onExecutePostLogin({ user: { app_metadata } }, { accessToken: { setCustomClaim: set } });";
    let output = Command::new("node").args(["-e", &format!("{action}{call}")]).stdin(Stdio::null()).output();
    let output = output.expect("node runs; scripts/test installs it");
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("the test prints JSON"))
        .collect();
    let claim = "https://example.com/topics";
    assert_eq!(lines, [json!({claim: ["greeting"]}), json!({claim: []})], "{output:?}");
}

/// A provider's server, which answers every request with the same status and body.
struct Provider {
    address: SocketAddr,
    answer: Arc<Mutex<(&'static str, String)>>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let answer = Arc::new(Mutex::new(("200 OK", String::new())));
        let shared = Arc::clone(&answer);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let request = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
                let end = request.lines().map_while(Result::ok).find(String::is_empty);
                assert!(end.is_some(), "curl sends a request");
                let (status, body) = shared.lock().expect("no test panics with it").clone();
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        Self { address, answer }
    }

    fn answer(&self, status: &'static str, body: impl Into<String>) {
        *self.answer.lock().expect("no test panics with it") = (status, body.into());
    }
}

#[test]
fn the_cron_line_fetches_a_set() {
    let [old, new] = [KeyPair::ed25519(), KeyPair::ed25519()];
    let [old_set, new_set] = [json!({"keys": [old.jwk("old")]}), json!({"keys": [old.jwk("old"), new.jwk("new")]})];
    let (home, provider) = (TempDir::new(), Provider::start());
    let broker = start(&home, &[], &old_set);
    let line = block("providers.md", "cron", "curl");
    let (_, command) = line.trim_end().split_once(" root ").expect("the line has a user");
    let command = command
        .replace("/etc/esker", &home.path.display().to_string())
        .replace("https://id.example.com", &format!("http://{}", provider.address))
        .replace("systemctl reload esker", &format!("kill -HUP {}", broker.pid()));
    let run = || Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).output().expect("a shell starts");
    let is_silent = |output: &Output| output.stdout.is_empty() && output.stderr.is_empty();
    let file = || std::fs::read_to_string(home.path.join("jwks.json")).expect("the file is there");
    let claims = tokens::topic_claims("topicone1", now() + 600);
    let status = |pair: &KeyPair, kid: &str| {
        let token = bearer(&pair.sign_as(kid, "EdDSA", &claims));
        tokens::try_subscribe(&broker, "/subscribe/topicone1", &token).status
    };

    for (answer, body, is_mailed) in [
        ("502 Bad Gateway", "{\"keys\":[]}".to_owned(), true),
        ("200 OK", "<html>Sign in to the hotel</html>".to_owned(), false),
        ("200 OK", String::new(), false),
        ("200 OK", old_set.to_string(), false),
    ] {
        provider.answer(answer, &body);
        let output = run();
        assert!(!output.status.success() && is_silent(&output) != is_mailed, "{body}: {output:?}");
        assert_eq!(file(), old_set.to_string(), "{body}");
    }
    assert_eq!((status(&old, "old"), status(&new, "new")), (200, 401));

    provider.answer("200 OK", new_set.to_string());
    let output = run();
    assert!(output.status.success() && is_silent(&output), "{output:?}");
    broker.wait_for_log("the key and secret files were reloaded");
    assert_eq!((file(), status(&old, "old"), status(&new, "new")), (new_set.to_string(), 200, 200));
}
