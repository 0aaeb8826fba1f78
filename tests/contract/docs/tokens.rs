//! The guide's token-signing code in every language makes valid tokens.

use std::process::{Command, Stdio};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::super::support::Broker;
use super::super::support::tokens::{SECRETS, SUBSCRIBER};
use super::block;

/// Returns what a program prints to standard output.
fn run(command: &mut Command) -> String {
    let output = command.envs(SECRETS).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

fn assert_can_subscribe(broker: &Broker, token: &str) {
    let fields = format!("Authorization: Bearer {}\r\n", token.trim());
    broker.subscribe("/subscribe/greeting", &fields);
    let refused = broker.request(format!("GET /subscribe/greeting2 HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[test]
fn every_language_signs_valid_tokens() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    for (program, flag, language, part) in [
        ("node", "--input-type=module", "js", "// Node"),
        ("python3", "-I", "python", "def esker_token"),
        ("php", "-n", "php", "function esker_token"),
    ] {
        let code = block("tokens.md", language, part);
        let run_flag = if program == "php" {
            "-r"
        } else if program == "node" {
            "-e"
        } else {
            "-c"
        };
        let code = code.strip_prefix("<?php\n").unwrap_or(&code);
        assert_can_subscribe(&broker, &run(Command::new(program).args([flag, run_flag, code])));
    }
}

// Copied verbatim from the guide.
fn esker_token(secret: &str, topics: &[&str], seconds: u64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is set").as_secs();
    let claims = serde_json::json!({"topics": topics, "iat": now, "exp": now + seconds}).to_string();
    let signed = [r#"{"alg":"HS256","typ":"JWT"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())))
}

#[test]
fn rust_signs_valid_tokens() {
    let shown = block("tokens.md", "rust", "fn esker_token");
    let function = &shown[shown.find("fn esker_token").expect("it is in there")..];
    assert!(include_str!("tokens.rs").contains(function), "this test's function differs from the guide's");
    assert_can_subscribe(&Broker::start_with_tokens(&[], &SECRETS), &esker_token(SUBSCRIBER, &["greeting"], 60));
}
