//! Encrypted connections. The certificates are made with `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use esker::internals::engine::log::{LogError, Refusal};
use esker::internals::engine::settings::{EngineAddress, EngineSettings, Tls};

use crate::conformance::Broker;
use crate::redis_server::{RedisServer, new_directory};
use crate::support::{at, connect, free_port, local, try_connect};

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
    let done = done.expect("openssl; scripts/test installs it");
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Creates an authority, and a certificate of the server by it for this name.
fn certificates(name: &str) -> PathBuf {
    let directory = new_directory();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&directory, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority"));
    openssl(&directory, &format!("req {key} -keyout server.key -out server.csr -subj /CN=server"));
    std::fs::write(directory.join("names"), format!("subjectAltName={name}\n")).unwrap();
    openssl(
        &directory,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    directory
}

/// Starts a server with TLS on a port of its own.
fn start(certificates: &Path, tls_port: u16) -> RedisServer {
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let port = tls_port.to_string();
    RedisServer::start(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
    ])
}

fn settings(port: u16, ca_file: Option<PathBuf>) -> EngineSettings {
    EngineSettings { ca_file, ..at(EngineAddress::Server(local(port), Tls::On)) }
}

fn setup(settings: EngineSettings) -> String {
    match try_connect(settings).map(drop) {
        Err(LogError::Refused(Refusal::Setup, why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_with_a_trusted_certificate_is_used() {
    let files = certificates("IP:127.0.0.1");
    let port = free_port();
    let server = start(&files, port);
    let mut broker = Broker::new(connect(settings(port, Some(files.join("ca.pem")))), 1);
    broker.append_blob(1, &[(0, "a")], &vec![b'x'; 300_000]).unwrap();
    assert_eq!(broker.events().len(), 1);
    assert_eq!(server.command::<usize>(&["XLEN", "{esker}:1:log"]), 2);
    std::fs::remove_dir_all(files).unwrap();
}

#[test]
fn a_certificate_that_nobody_trusts_is_refused() {
    let files = certificates("IP:127.0.0.1");
    let others = certificates("IP:127.0.0.1");
    let port = free_port();
    let _server = start(&files, port);
    for ca_file in [None, Some(others.join("ca.pem"))] {
        let why = setup(settings(port, ca_file));
        assert!(why.contains("--engine-ca"), "{why}");
    }
    std::fs::remove_dir_all(files).unwrap();
    std::fs::remove_dir_all(others).unwrap();
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let files = certificates("DNS:elsewhere.example");
    let port = free_port();
    let _server = start(&files, port);
    let why = setup(settings(port, Some(files.join("ca.pem"))));
    assert!(why.contains("--engine-ca"), "{why}");
    std::fs::remove_dir_all(files).unwrap();
}

#[test]
fn files_without_certificates_are_refused() {
    let directory = new_directory();
    let missing = directory.join("missing.pem");
    let empty = directory.join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let damaged = directory.join("damaged.pem");
    std::fs::write(&damaged, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    for (file, words) in [(missing, "can't be read"), (empty, "contains no certificate"), (damaged, "can't be used")] {
        let why = setup(settings(1, Some(file)));
        assert!(why.contains(words), "{why}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_server_without_tls_is_not_used() {
    let server = RedisServer::start(&[]);
    for port in [server.port(), free_port()] {
        let error = try_connect(settings(port, None)).map(drop);
        let place = format!("127.0.0.1:{port} with TLS");
        assert!(matches!(&error, Err(LogError::Unreachable(why)) if why.contains(&place)), "{error:?}");
    }
}
