//! The guide's publisher programs publish, and retry with the same id until the event is accepted.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use serde_json::json;

use super::super::support::{Broker, Connection, finish};
use super::block;

/// The guide's publisher programs by language: the program that runs them, and its arguments before the code.
const PUBLISHERS: [(&str, &str, &[&str]); 3] = [
    ("js", "node", &["--input-type=module", "-e"]),
    ("python", "python3", &["-I", "-c"]),
    ("php", "php", &["-n", "-r"]),
];

/// Runs one of them against another address than the guide's.
fn run((language, program, arguments): (&str, &str, &[&str]), address: &str) -> (Option<i32>, String, String) {
    let code = block("publishing.md", language, "until it is accepted").replace("127.0.0.1:3000", address);
    let code = code.strip_prefix("<?php\n").unwrap_or(&code);
    finish(Command::new(program).args(arguments).arg(code))
}

#[test]
fn the_guides_publishers_publish() {
    for publisher in PUBLISHERS {
        let broker = Broker::start(&[]);
        let (status, out, err) = run(publisher, &broker.address.to_string());
        assert_eq!(status, Some(0), "{publisher:?}: {out} {err}");
        let event = broker.subscribe("/subscribe/greeting?last_event_id=0", "").event();
        assert_eq!(event.name.as_deref(), Some("price"), "{publisher:?}");
        let data: serde_json::Value =
            serde_json::from_str(event.data.as_deref().unwrap_or_default()).expect("the data is JSON");
        assert_eq!(data, json!({"item": "äpple", "euros": 2.5}), "{publisher:?}");
        assert!(event.id.is_some_and(|id| id.len() >= 32), "{publisher:?}: an id of its own");
    }
}

#[test]
fn the_guides_publishers_retry_with_the_same_id() {
    for publisher in PUBLISHERS {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let program = thread::spawn(move || run(publisher, &address));
        let responses =
            ["503 Service Unavailable\r\nRetry-After: 0", "", "429 Too Many Requests\r\nRetry-After: 0", "200 OK"];
        let requests = responses.map(|response| respond_once(&listener, response));
        assert!(requests.iter().all(|request| *request == requests[0]), "{publisher:?}: {requests:?}");
        let (status, out, err) = program.join().expect("the program ends");
        assert_eq!(status, Some(0), "{publisher:?}: {out} {err}");
    }
}

#[test]
fn the_guides_publishers_give_up_when_retrying_is_useless() {
    for publisher in PUBLISHERS {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let program = thread::spawn(move || run(publisher, &address));
        respond_once(&listener, "413 Content Too Large");
        let (status, out, err) = program.join().expect("the program ends");
        assert!(
            status != Some(0) && format!("{out}{err}").contains("\"detail\""),
            "{publisher:?}: {status:?} {out} {err}"
        );
    }
}

/// Accepts one request and responds, or closes without a response if `response` is empty. Returns the request line and the
/// body.
fn respond_once(listener: &TcpListener, response: &str) -> (String, Vec<u8>) {
    let (socket, _) = listener.accept().expect("the program connects");
    let mut connection = Connection::from_socket(socket);
    let head = connection.head();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let body = connection.take(length.expect("a request with a length"));
    if !response.is_empty() {
        let json = r#"{"id":"1","events":1,"subscribers":0,"detail":"too large"}"#;
        let text = format!(
            "HTTP/1.1 {response}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        );
        connection.socket.write_all(text.as_bytes()).expect("the program waits for the response");
    }
    (head.lines().next().unwrap_or_default().to_owned(), body)
}
