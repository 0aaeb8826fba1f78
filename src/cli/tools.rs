//! `esker check`, `esker dump` and `esker load`: check, export and import the records in a data directory or an engine.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, Write};
use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::connection::{self, Connection, Given, is_url};
use super::progress::{Counted, Progress};
use super::{Command, UsageError, unknown_option, usage_error};
use crate::engine::tools;
pub use crate::records::transfer::ToolError;
use crate::store;

const HELP: &str = "\
esker check, dump, load: check, export and import records

Usage: esker check DIR|URL                 checks all records for damage
       esker dump DIR|URL [--event NAME]   exports records as JSON lines
       esker load DIR|URL < FILE           imports such lines, keeping their ids

  --event NAME            dump: export only the records with this name
  --engine-prefix TEXT    prefix of all keys in the engine [{esker}]
  --engine-records SIZE   load: memory for records in the engine; K M G [1G]
  --engine-ca FILE        PEM CA certificates for rediss:// [system's]
  -h, --help              print this help

DIR is the data directory (--data). While a broker runs on it, only dump works.
URL is the engine's (--engine): redis://HOST or rediss://, valkey://,
valkeys://, redis+sentinel://. Only load requires that no broker uses the
engine. Use the broker's user, or one with the same rights. The password comes
from ESKER_ENGINE_PASSWORD or ESKER_ENGINE_PASSWORD_FILE; the options have
variables such as ESKER_ENGINE_PREFIX.
Lines are sorted by id; each is {\"id\":\"…\",\"event\":\"…\",\"data\":…}.
";

/// A command on records.
#[derive(Debug)]
pub struct RecordTool {
    action: Action,
    keeper: Keeper,
}

#[derive(Debug)]
enum Action {
    /// Checks all records for damage.
    Check,
    /// Exports the records with one name, or all records.
    Dump(Option<String>),
    /// Imports records.
    Load,
}

/// Where the records are.
#[derive(Debug)]
enum Keeper {
    Directory(PathBuf),
    Engine(Box<Connection>),
}

/// The result of a command.
#[derive(Debug)]
pub enum ToolEnd {
    /// The command succeeded. The text is a summary for the terminal.
    Done(String),
    /// The records are damaged. The text describes how.
    Faulty(String),
}

impl RecordTool {
    /// Returns a warning about the command line.
    pub fn warning(&self) -> Option<&'static str> {
        if let Keeper::Engine(connection) = &self.keeper { connection.warning } else { None }
    }

    /// Runs the command.
    pub fn run(&self, input: &mut dyn BufRead, output: &mut dyn Write) -> Result<ToolEnd, ToolError> {
        match &self.action {
            Action::Check => self.check(),
            Action::Dump(name) => {
                let mut output = Counted::new(output, Progress::beside_output());
                let name = name.as_deref();
                let count = match &self.keeper {
                    Keeper::Directory(directory) => store::dump(directory, name, &mut output),
                    Keeper::Engine(connection) => tools::dump(&connection.settings, name, &mut output),
                };
                Ok(ToolEnd::Done(format!("records exported: {}", count?)))
            }
            Action::Load => {
                let mut input = Counted::new(input, Progress::new());
                let count = match &self.keeper {
                    Keeper::Directory(directory) => store::load(directory, &mut input),
                    Keeper::Engine(connection) => tools::load(&connection.settings, &mut input),
                };
                Ok(ToolEnd::Done(format!("records imported: {}", count?)))
            }
        }
    }

    fn check(&self) -> Result<ToolEnd, ToolError> {
        let mut progress = Progress::new();
        let mut tell = |records| progress.tell(records);
        let report = match &self.keeper {
            Keeper::Directory(directory) => store::check(directory, &mut tell)?,
            Keeper::Engine(connection) => tools::check(&connection.settings, &mut tell)?,
        };
        Ok(if report.is_good() { ToolEnd::Done(report.to_string()) } else { ToolEnd::Faulty(report.to_string()) })
    }
}

/// Parses the arguments of a command.
pub(super) fn parse(
    tool: &str,
    mut parser: lexopt::Parser,
    get: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    let (mut operand, mut name, mut given) = (None, None, Given::new());
    while let Some(argument) = parser.next().map_err(|error| usage_error(&error))? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Print(HELP.to_owned())),
            Long("event") if tool == "dump" => name = Some(read_value(&mut parser)?),
            Value(value) if operand.is_none() => operand = Some(value),
            Value(more) => {
                return Err(UsageError::new(format!(
                    "unexpected argument {more:?}; esker {tool} takes one directory or URL"
                )));
            }
            Long(long) => match connection::find(tool, long) {
                Some(option) => given.push((option, read_value(&mut parser)?)),
                None => return Err(unknown_option(tool, &format!("--{long}"))),
            },
            Short(short) => return Err(unknown_option(tool, &format!("-{short}"))),
        }
    }
    let operand = operand.ok_or_else(|| {
        UsageError::new(format!("the data directory or the engine's URL is missing: esker {tool} DIR|URL"))
    })?;
    let action = match tool {
        "check" => Action::Check,
        "dump" => Action::Dump(name),
        _ => Action::Load,
    };
    Ok(Command::Tool(RecordTool { action, keeper: keeper(tool, &operand, &given, get)? }))
}

fn keeper(
    tool: &str,
    operand: &OsStr,
    given: &Given,
    get: impl Fn(&str) -> Option<OsString>,
) -> Result<Keeper, UsageError> {
    match (operand.to_str(), given.first()) {
        (Some(url), _) if is_url(operand) => Ok(Keeper::Engine(Box::new(connection::settle(tool, url, given, get)?))),
        (_, None) => Ok(Keeper::Directory(PathBuf::from(operand))),
        (_, Some((option, _))) => Err(UsageError::new(format!(
            "--{} has no effect on a directory; leave it out, or give the engine's URL, such as redis://127.0.0.1:6379",
            option.long
        ))),
    }
}

fn read_value(parser: &mut lexopt::Parser) -> Result<String, UsageError> {
    parser.value().and_then(|value| value.string()).map_err(|error| usage_error(&error))
}
