//! Settings and connections for a server.

use esker::internals::engine::log::{Connect, LogError};
use esker::internals::engine::redis::{Server, ServerLog};
use esker::internals::engine::settings::{AckMode, EngineAddress, EngineSettings, HostPort, Password, Retention, Tls};

use crate::conformance::AMPLE;
use crate::redis_server::{self, RedisServer};

/// Settings that can be varied.
pub trait Vary {
    fn retaining(self, retention: Retention) -> Self;
    fn ack(self, ack: AckMode) -> Self;
    fn login(self, user: Option<&str>, password: &str) -> Self;
}

impl Vary for EngineSettings {
    fn retaining(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    fn ack(self, ack: AckMode) -> Self {
        Self { ack: Some(ack), ..self }
    }

    fn login(self, user: Option<&str>, password: &str) -> Self {
        Self { user: user.map(str::to_owned), password: Some(Password(password.to_owned())), ..self }
    }
}

/// Returns a port on this machine at which nobody listens.
pub fn free_port() -> u16 {
    redis_server::free_port([127, 0, 0, 1].into())
}

pub fn local(port: u16) -> HostPort {
    HostPort { host: "127.0.0.1".to_owned(), port }
}

pub fn settings(server: &RedisServer) -> EngineSettings {
    at(EngineAddress::Server(local(server.port()), Tls::Off))
}

pub fn at(address: EngineAddress) -> EngineSettings {
    EngineSettings {
        address,
        user: None,
        password: None,
        database: 0,
        ca_file: None,
        prefix: "{esker}".to_owned(),
        ack: None,
        retention: AMPLE,
    }
}

pub fn try_connect(settings: EngineSettings) -> Result<ServerLog, LogError> {
    Server::new(settings).connect()
}

pub fn connect(settings: EngineSettings) -> ServerLog {
    try_connect(settings).unwrap_or_else(|why| panic!("{why}"))
}
