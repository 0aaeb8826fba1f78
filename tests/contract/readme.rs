//! What the README shows of tokens is run as it stands there.

use std::process::{Command, Stdio};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::support::tokens::{SECRETS, SUBSCRIBER};
use super::support::{Broker, Folder, command};

const README: &str = include_str!("../../README.md");

/// The README's only block in this language that has this in it.
fn block(language: &str, part: &str) -> &'static str {
    let fence = format!("```{language}\n");
    let blocks = README.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next());
    let mut fitting = blocks.filter(|block| block.contains(part));
    let block = fitting.next().unwrap_or_else(|| panic!("the README has no {language} with {part:?}"));
    assert!(fitting.next().is_none(), "the README has two of {language} with {part:?}");
    block
}

/// What a program prints to standard output.
fn run(command: &mut Command) -> String {
    let output = command.envs(SECRETS).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

fn assert_listens(broker: &Broker, token: &str) {
    let fields = format!("Authorization: Bearer {}\r\n", token.trim());
    broker.subscribe("/subscribe/greeting", &fields);
    let refused = broker.ask(format!("GET /subscribe/greeting2 HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[test]
fn every_language_signs_tokens_that_are_good() {
    let broker = Broker::start_secured(&[], &SECRETS);
    for (program, flag, language, part) in [
        ("node", "--input-type=module", "js", "// Node"),
        ("python3", "-I", "python", "def esker_token"),
        ("php", "-n", "php", "function esker_token"),
    ] {
        let code = block(language, part);
        let run_flag = if program == "php" {
            "-r"
        } else if program == "node" {
            "-e"
        } else {
            "-c"
        };
        let code = code.strip_prefix("<?php\n").unwrap_or(code);
        assert_listens(&broker, &run(Command::new(program).args([flag, run_flag, code])));
    }
}

// As the README has it, word by word.
fn esker_token(secret: &str, topics: &[&str], seconds: u64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is set").as_secs();
    let claims = serde_json::json!({"topics": topics, "exp": now + seconds}).to_string();
    let signed = [r#"{"alg":"HS256","typ":"JWT"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())))
}

#[test]
fn rust_signs_tokens_that_are_good() {
    let shown = block("rust", "fn esker_token");
    let function = &shown[shown.find("fn esker_token").expect("it is in there")..];
    assert!(include_str!("readme.rs").contains(function), "this test runs another function than the README's");
    assert_listens(&Broker::start_secured(&[], &SECRETS), &esker_token(SUBSCRIBER, &["greeting"], 60));
}

#[test]
fn the_session_with_tokens_goes_as_shown() {
    let broker = Broker::start_secured(&[], &SECRETS);
    let session = block("sh", "listen=$(esker token").replace("127.0.0.1:3000", &broker.address.to_string());
    // Whichever of the two is first, the event comes; and the stream that goes on in the background is ended.
    let session = session.replace("/greeting &", "/greeting?last_event_id=0 >stream &");
    let script = format!(
        "esker() {{ {:?} \"$@\"; }}\n{session}\n\
         for _ in $(seq 200); do grep -q id: stream && break; sleep 0.1; done; cat stream; kill $!",
        command(&[]).get_program()
    );
    let home = Folder::new();
    let printed = run(Command::new("bash").args(["-ec", &script]).current_dir(&home.path));
    assert!(printed.contains("event: greeting\ndata: hello\nid: "), "{printed}");
    assert!(printed.contains(r#""events":1"#), "{printed}");
}

#[test]
fn public_keys_are_made_as_shown() {
    let home = Folder::new();
    let shown = block("sh", "genpkey");
    let (make, start) = shown.split_once("esker ").expect("the last line starts the broker");
    run(Command::new("bash").args(["-ec", make]).current_dir(&home.path));
    let in_home = |word: &str| match word.strip_suffix(".pem") {
        Some(_) => home.path.join(word).display().to_string(),
        None => word.to_owned(),
    };
    let arguments: Vec<_> = start.split_whitespace().map(in_home).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Broker::start_secured(&arguments, &[]).assert_well();
}
