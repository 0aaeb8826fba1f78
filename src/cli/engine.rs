//! `esker engine`: shows the state of an engine, and raises the format of its log.

use std::ffi::OsString;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::connection::{self, Connection, Given};
use super::{Command, ToolError, UsageError, engine_status, unknown_option, usage_error};
use crate::engine::tools;

/// The actions.
pub(super) const ACTIONS: [&str; 2] = ["status", "raise"];

const HELP: &str = "\
esker engine: shows the state of an engine, and completes upgrades

Usage: esker engine ACTION [URL]

ACTION is one of
  status                  print the state of the engine, its log and its brokers
  raise                   raise the format of the log to the newest one, which
                          records need; run it after upgrading all brokers

  --json                  status: print JSON
  --force                 raise: even if some brokers can't read the newest format
  --engine-prefix TEXT    prefix of all keys in the engine [{esker}]
  --engine-ca FILE        PEM CA certificates for rediss:// [system's]
  -h, --help              print this help

URL is the engine's (--engine); without it, it comes from ESKER_ENGINE. The
password comes from ESKER_ENGINE_PASSWORD or ESKER_ENGINE_PASSWORD_FILE.
A user for these actions needs a broker's rights, and +scan +pttl +zcard.
Exits with 1 if the engine can't be reached, or the format can't be raised.
";

/// A command on an engine.
#[derive(Debug)]
pub struct EngineCommand {
    action: Action,
    connection: Connection,
}

#[derive(Debug)]
enum Action {
    /// Shows the state, as JSON or as text.
    Status { is_json: bool },
    /// Raises the format of the log.
    Raise { is_forced: bool },
}

impl EngineCommand {
    /// Returns a warning about the command line.
    pub fn warning(&self) -> Option<&'static str> {
        self.connection.warning
    }

    /// Runs the command. Returns what to print.
    pub fn run(&self) -> Result<String, ToolError> {
        let settings = &self.connection.settings;
        match self.action {
            Action::Status { is_json: false } => tools::status(settings).map(|report| engine_status::format(&report)),
            // Numbers and texts can always be written as JSON.
            Action::Status { is_json: true } => tools::status(settings)
                .map(|report| format!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default())),
            Action::Raise { is_forced } => tools::raise(settings, is_forced),
        }
    }
}

/// Parses the arguments of `esker engine`.
pub(super) fn parse(mut parser: lexopt::Parser, get: impl Fn(&str) -> Option<OsString>) -> Result<Command, UsageError> {
    let (mut action, mut url, mut given) = (None, None, Given::new());
    let (mut is_json, mut is_forced) = (false, false);
    while let Some(argument) = parser.next().map_err(|error| usage_error(&error))? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Print(HELP.to_owned())),
            Long("json") => is_json = true,
            Long("force") => is_forced = true,
            Value(value) if action.is_none() => action = Some(value.string().map_err(|error| usage_error(&error))?),
            Value(value) if url.is_none() => url = Some(value.string().map_err(|error| usage_error(&error))?),
            Value(more) => {
                return Err(UsageError::new(format!("unexpected argument {more:?}; esker engine takes one URL")));
            }
            Long(long) => match connection::find("engine", long) {
                Some(option) => {
                    given.push((option, parser.value().and_then(|v| v.string()).map_err(|error| usage_error(&error))?));
                }
                None => return Err(unknown_option("engine", &format!("--{long}"))),
            },
            Short(short) => return Err(unknown_option("engine", &format!("-{short}"))),
        }
    }
    let action = match (action.as_deref(), is_json, is_forced) {
        (Some("status"), _, false) => Action::Status { is_json },
        (Some("raise"), false, _) => Action::Raise { is_forced },
        (Some("status"), ..) => return Err(UsageError::new("--force is for esker engine raise")),
        (Some("raise"), ..) => return Err(UsageError::new("--json is for esker engine status")),
        (Some(other), ..) => {
            return Err(UsageError::new(format!("esker engine has no action {other:?}; use status or raise")));
        }
        (None, ..) => return Err(UsageError::new("the action is missing: esker engine status or esker engine raise")),
    };
    Ok(Command::Engine(EngineCommand { action, connection: connect(url, &given, get)? }))
}

/// Finds out how to reach the engine. Without a URL on the command line, it is that of a broker in this environment.
fn connect(
    url: Option<String>,
    given: &Given,
    get: impl Fn(&str) -> Option<OsString>,
) -> Result<Connection, UsageError> {
    let is_visible = url.is_some();
    let in_environment = || get("ESKER_ENGINE").and_then(|url| url.into_string().ok());
    let url = url.or_else(in_environment).ok_or_else(|| {
        UsageError::new("the engine's URL is missing: give one such as redis://127.0.0.1:6379, or set ESKER_ENGINE")
    })?;
    let connection = connection::settle("engine", &url, given, get)?;
    Ok(Connection { warning: connection.warning.filter(|_| is_visible), ..connection })
}
