//! Asks Sentinels where the primary is, anew for each connection.

use std::time::Instant;

use redis::Value;

use super::connect::Dialer;
use super::{error, value};
use crate::engine::log::LogError;
use crate::engine::settings::HostPort;

/// Asks one Sentinel after the other until one knows the primary. The others get a share of the time each.
pub fn primary(
    sentinels: &[HostPort],
    name: &str,
    dialer: &Dialer<'_>,
    deadline: Instant,
) -> Result<HostPort, LogError> {
    let mut last = error::setup("--engine names no Sentinel");
    for (asked, sentinel) in sentinels.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        // The last share is for the primary.
        let until = Instant::now() + left / (sentinels.len() - asked + 1) as u32;
        match ask(sentinel, name, dialer, until) {
            Ok(primary) => return Ok(primary),
            Err(why) => last = dialer.locate(sentinel, why),
        }
    }
    Err(last)
}

fn ask(sentinel: &HostPort, name: &str, dialer: &Dialer<'_>, deadline: Instant) -> Result<HostPort, LogError> {
    let mut wire = dialer.open(sentinel, deadline)?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(name);
    let mut answer = wire.ask(&command)?;
    // Sentinels may have the server's password, or none.
    if matches!(&answer, Value::ServerError(error) if error.code() == "NOAUTH" || error.code() == "NOPERM") {
        dialer.authenticate(&mut wire)?;
        answer = wire.ask(&command)?;
    }
    read(error::check(answer)?, name, sentinel)
}

fn read(answer: Value, name: &str, sentinel: &HostPort) -> Result<HostPort, LogError> {
    let HostPort { host, port } = sentinel;
    if answer == Value::Nil {
        return Err(error::setup(format!("the Sentinel {host}:{port} does not know a primary named {name}")));
    }
    let address = value::texts(answer).and_then(|[host, port]| Some(HostPort { host, port: port.parse().ok()? }));
    address.ok_or_else(|| value::malformed(&format!("the address of the primary from the Sentinel {host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read() {
        let sentinel = HostPort { host: "s".to_owned(), port: 1 };
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = Value::Array(vec![bulk("::1"), bulk("6379")]);
        assert_eq!(read(answer, "name", &sentinel), Ok(HostPort { host: "::1".to_owned(), port: 6379 }));
        for answer in [Value::Nil, Value::Array(vec![]), Value::Array(vec![bulk("::1"), bulk("65536")]), Value::Int(1)]
        {
            assert!(read(answer, "name", &sentinel).is_err());
        }
    }
}
