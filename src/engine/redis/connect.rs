//! Makes connections.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::check::{Facts, check_keys, check_proof};
use super::guarantee::{Fsync, Guarantee, GuaranteeHandle, RecordProofs, choose, choose_for_records};
use super::log::{Proofs, ServerLog};
use super::wire::Wire;
use super::{Keys, error, sentinel, tls};
use crate::engine::log::{About, Connect, LogError};
use crate::engine::settings::{AckMode, EngineAddress, EngineSettings, HostPort, Password, Tls};
use crate::engine::{CONNECT_TIMEOUT, READ_TIMEOUT};

/// A Redis or Valkey server, or Sentinels that know one.
#[derive(Clone, Debug)]
pub struct Server {
    settings: EngineSettings,
    guarantee: GuaranteeHandle,
}

impl Server {
    /// Does not connect yet.
    pub fn new(settings: EngineSettings) -> Self {
        Self { settings, guarantee: GuaranteeHandle::default() }
    }

    /// Returns what tells the guarantee of the newest connection.
    pub fn guarantee(&self) -> GuaranteeHandle {
        self.guarantee.clone()
    }

    fn dialer(&self, tls: Tls) -> Dialer<'_> {
        let EngineSettings { user, password, ca_file, .. } = &self.settings;
        Dialer { tls, ca_file: ca_file.as_ref(), user: user.as_deref(), password: password.as_ref() }
    }
}

impl Connect for Server {
    type Log = ServerLog;

    fn connect(&mut self) -> Result<ServerLog, LogError> {
        self.reach(|wire, at| self.prepare(wire, at))
    }
}

impl Server {
    /// Connects to the server, and does something with the connection and where the server is.
    pub(super) fn reach<T>(&self, then: impl FnOnce(Wire, &HostPort) -> Result<T, LogError>) -> Result<T, LogError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let (at, dialer) = match &self.settings.address {
            EngineAddress::Server(at, tls) => (at.clone(), self.dialer(*tls)),
            EngineAddress::Sentinels(sentinels, name, tls) => {
                let dialer = self.dialer(*tls);
                (sentinel::primary(sentinels, name, &dialer, deadline)?, dialer)
            }
        };
        let opened = dialer.open(&at, deadline).and_then(|mut wire| {
            dialer.authenticate(&mut wire)?;
            then(wire, &at)
        });
        opened.map_err(|why| dialer.locate(&at, why))
    }

    /// Selects the database, and tells the server who this is.
    pub(super) fn select(&self, wire: &mut Wire) -> Result<(), LogError> {
        if self.settings.database != 0 {
            wire.call(redis::cmd("SELECT").arg(self.settings.database))?;
        }
        // For the administrator's eyes: CLIENT LIST shows it. It works without.
        wire.ask(redis::cmd("CLIENT").arg("SETNAME").arg(format!("esker-{}", std::process::id()))).map(drop)
    }

    /// Checks the server, and what it can prove.
    fn prepare(&self, mut wire: Wire, at: &HostPort) -> Result<ServerLog, LogError> {
        let settings = &self.settings;
        self.select(&mut wire)?;
        let facts = Facts::ask(&mut wire)?;
        facts.check()?;
        let fsync = facts.fsync(&mut wire)?;
        let (proof, ack, warning) = choose(settings.ack, &facts, &fsync)?;
        let keys = Keys::new(&settings.prefix);
        check_keys(&mut wire, &keys, proof.permission().as_ref())?;
        let server = format!("{} at {}:{}", facts.name, at.host, at.port);
        let records = record_proofs(&mut wire, ack, &facts, &fsync)?;
        let records_refused = records.as_ref().err().cloned();
        let about = About { server: server.clone(), ack, records_refused: records_refused.clone() };
        self.guarantee.set(&Guarantee { server, ack, warning, records_refused });
        wire.open();
        Ok(ServerLog::new(wire, about, keys, Proofs { events: proof, records }, settings.retention))
    }
}

/// Finds out how it is proven that records are durable, or why that can't be.
pub(super) fn record_proofs(
    wire: &mut Wire,
    ack: AckMode,
    facts: &Facts,
    fsync: &Fsync,
) -> Result<Result<RecordProofs, String>, LogError> {
    let proofs = match choose_for_records(ack, facts, fsync) {
        Ok(proofs) => proofs,
        Err(why) => return Ok(Err(why)),
    };
    for permission in proofs.iter().filter_map(|proof| proof.permission()) {
        match check_proof(wire, &permission) {
            Err(LogError::Refused(_, why)) => return Ok(Err(why)),
            checked => checked?,
        }
    }
    Ok(Ok(proofs))
}

/// Opens connections to the server and to Sentinels.
#[derive(Clone, Copy, Debug)]
pub struct Dialer<'a> {
    tls: Tls,
    ca_file: Option<&'a PathBuf>,
    user: Option<&'a str>,
    password: Option<&'a Password>,
}

impl Dialer<'_> {
    /// Connects. The time for resolving the host's name is not limited, because the standard library can't.
    pub fn open(&self, at: &HostPort, deadline: Instant) -> Result<Wire, LogError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(error::late());
        }
        let client = self.client(at)?;
        let connection = client.get_connection_with_timeout(left);
        let connection = connection.map_err(|why| tls::refusal(&why).unwrap_or_else(|| error::unreachable(&why)))?;
        Ok(Wire::new(connection, deadline))
    }

    /// Adds to an error where the server is that can't be reached.
    pub fn locate(&self, at: &HostPort, why: LogError) -> LogError {
        let how = if self.tls == Tls::On { " with TLS" } else { "" };
        match why {
            LogError::Unreachable(why) => LogError::Unreachable(format!("{}:{}{how}: {why}", at.host, at.port)),
            why => why,
        }
    }

    fn client(&self, at: &HostPort) -> Result<Client, LogError> {
        match self.tls {
            Tls::On => tls::client(at, self.ca_file.map(PathBuf::as_path)),
            Tls::Off => {
                let address = ConnectionAddr::Tcp(at.host.clone(), at.port);
                info(address).and_then(Client::open).map_err(|why| error::unreachable(&why))
            }
        }
    }

    /// Sends the password, if there is one. Not left to the crate, whose error would not say what the server said.
    pub fn authenticate(&self, wire: &mut Wire) -> Result<(), LogError> {
        let Some(Password(password)) = self.password else { return Ok(()) };
        let mut command = redis::cmd("AUTH");
        if let Some(user) = self.user {
            command.arg(user);
        }
        wire.call(command.arg(password)).map(drop)
    }
}

/// Describes a connection. Nothing is sent when it opens, so that this module sees every answer.
pub fn info(address: ConnectionAddr) -> redis::RedisResult<ConnectionInfo> {
    let tcp = with_user_timeout(TcpSettings::default().set_nodelay(true), READ_TIMEOUT);
    let redis = RedisConnectionInfo::default().set_skip_set_lib_name();
    Ok(address.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(redis))
}

#[cfg(target_os = "linux")]
fn with_user_timeout(tcp: TcpSettings, timeout: Duration) -> TcpSettings {
    tcp.set_user_timeout(timeout)
}

#[cfg(not(target_os = "linux"))]
fn with_user_timeout(tcp: TcpSettings, _timeout: Duration) -> TcpSettings {
    tcp
}
