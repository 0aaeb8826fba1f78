//! A connection: sends commands and receives answers, none of which waits without a limit.

use std::time::{Duration, Instant};

use redis::{Cmd, Connection, RedisError, Value};

use super::{error, tls};
use crate::engine::log::LogError;

/// A connection to a server.
pub struct Wire {
    connection: Connection,
    limit: Duration,
    state: State,
}

/// What a failure of the connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was asked for that matters. All of it must be answered by this time.
    Opening(Instant),
    /// What was asked for may have been done.
    Open,
}

impl Wire {
    /// Wraps a connection. All that is asked until [`Wire::open`] is answered by this time.
    pub fn new(connection: Connection, deadline: Instant) -> Self {
        Self { connection, limit: Duration::ZERO, state: State::Opening(deadline) }
    }

    /// Notes that from now on, requests change something. Each may take as long as [`Wire::set_limit`] says.
    pub fn open(&mut self) {
        self.state = State::Open;
    }

    /// Sets how long sending a command and waiting for its answer may take.
    pub fn set_limit(&mut self, limit: Duration) -> Result<(), LogError> {
        if self.limit != limit {
            self.apply(limit)?;
            self.limit = limit;
        }
        Ok(())
    }

    fn keep_deadline(&mut self) -> Result<(), LogError> {
        let State::Opening(deadline) = self.state else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(error::late());
        }
        self.set_limit(left)
    }

    fn apply(&self, limit: Duration) -> Result<(), LogError> {
        let set = self.connection.set_read_timeout(Some(limit));
        set.and_then(|()| self.connection.set_write_timeout(Some(limit))).map_err(|why| self.failure(&why))
    }

    fn failure(&self, why: &RedisError) -> LogError {
        match self.state {
            State::Opening(_) => tls::refusal(why).unwrap_or_else(|| error::unreachable(why)),
            State::Open => error::broken(why),
        }
    }

    /// Sends a command and receives its answer, which may be an error of the server's ([`Value::ServerError`]).
    pub fn ask(&mut self, command: &Cmd) -> Result<Value, LogError> {
        self.send(&command.get_packed_command())?;
        self.receive()
    }

    /// Sends a command and receives its answer. An error of the server's is an error.
    pub fn call(&mut self, command: &Cmd) -> Result<Value, LogError> {
        self.ask(command).and_then(error::check)
    }

    /// Sends encoded commands.
    pub fn send(&mut self, commands: &[u8]) -> Result<(), LogError> {
        self.keep_deadline()?;
        self.connection.send_packed_command(commands).map_err(|why| self.failure(&why))
    }

    /// Receives the next answer, which may be an error of the server's.
    pub fn receive(&mut self) -> Result<Value, LogError> {
        self.keep_deadline()?;
        self.connection.recv_response().map_err(|why| self.failure(&why))
    }
}
