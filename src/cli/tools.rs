//! `esker check`, `esker dump`, `esker load` and `esker erase`: check, export, import and erase the records in a data directory or
//! an engine.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, Write};
use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::connection::{self, Connection, Given, is_url};
use super::{Command, UsageError, progress, unknown_option, usage_error};
use crate::engine::tools;
use crate::ids::parse_id;
use crate::records::progress::{Progress, Silent};
pub use crate::records::transfer::ToolError;
use crate::store;

const HELP: &str = "\
esker check, dump, load, erase: check, export, import and erase records

Usage: esker check DIR|URL                 checks all records for damage
       esker dump DIR|URL [--event NAME]   exports records as JSON lines
       esker load DIR|URL < FILE           imports such lines, keeping their ids
       esker erase DIR|URL --event NAME [--before ID]   erases versions permanently

  --event NAME            dump, erase: only the records with this name
  --before ID             erase: only versions with a smaller id [all]
  --engine-prefix TEXT    prefix of all keys in the engine [{esker}]
  --engine-records SIZE   load: memory for records in the engine; K M G [1G]
  --engine-ca FILE        PEM CA certificates for rediss:// [system's]
  -q, --quiet             print errors only, no progress or summary
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
    is_quiet: bool,
}

#[derive(Debug)]
enum Action {
    /// Checks all records for damage.
    Check,
    /// Exports the records with one name, or all records.
    Dump(Option<String>),
    /// Imports records.
    Load,
    /// Erases the versions with this name, or those of them with a smaller id.
    Erase(String, Option<u64>),
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
        match &self.keeper {
            Keeper::Engine(connection) if !self.is_quiet => connection.warning,
            _ => None,
        }
    }

    /// Returns whether only errors are shown.
    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Runs the command.
    pub fn run(&self, input: &mut dyn BufRead, output: &mut dyn Write) -> Result<ToolEnd, ToolError> {
        let has_output = matches!(self.action, Action::Dump(_));
        let progress = if self.is_quiet { Box::new(Silent) } else { progress::start(has_output) };
        let progress = &*progress;
        match &self.action {
            Action::Check => self.check(progress),
            Action::Dump(name) => {
                let name = name.as_deref();
                let count = match &self.keeper {
                    Keeper::Directory(directory) => store::dump(directory, name, output, progress),
                    Keeper::Engine(connection) => tools::dump(&connection.settings, name, output, progress),
                };
                Ok(ToolEnd::Done(format!("records exported: {}", count?)))
            }
            Action::Load => {
                let count = match &self.keeper {
                    Keeper::Directory(directory) => store::load(directory, input, progress),
                    Keeper::Engine(connection) => tools::load(&connection.settings, input, progress),
                };
                Ok(ToolEnd::Done(format!("records imported: {}", count?)))
            }
            Action::Erase(name, before) => self.erase(name, *before, progress),
        }
    }

    fn erase(&self, name: &str, before: Option<u64>, progress: &dyn Progress) -> Result<ToolEnd, ToolError> {
        let erased = match &self.keeper {
            Keeper::Directory(directory) => store::erase(directory, name, before, progress),
            Keeper::Engine(connection) => tools::erase(&connection.settings, name, before, progress),
        };
        Ok(ToolEnd::Done(format!("versions erased: {}", erased?)))
    }

    fn check(&self, progress: &dyn Progress) -> Result<ToolEnd, ToolError> {
        let report = match &self.keeper {
            Keeper::Directory(directory) => store::check(directory, progress)?,
            Keeper::Engine(connection) => tools::check(&connection.settings, progress)?,
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
    let (mut operand, mut name, mut before, mut given, mut is_quiet) = (None, None, None, Given::new(), false);
    while let Some(argument) = parser.next().map_err(|error| usage_error(&error))? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Print(HELP.to_owned())),
            Short('q') | Long("quiet") => is_quiet = true,
            Long("event") if ["dump", "erase"].contains(&tool) => name = Some(read_value(&mut parser)?),
            Long("before") if tool == "erase" => before = Some(parse_before(&read_value(&mut parser)?)?),
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
        let name = if tool == "erase" { " --event NAME" } else { "" };
        UsageError::new(format!("the data directory or the engine's URL is missing: esker {tool} DIR|URL{name}"))
    })?;
    let action = match (tool, name) {
        ("check", _) => Action::Check,
        ("dump", name) => Action::Dump(name),
        ("erase", Some(name)) => Action::Erase(name, before),
        ("erase", None) => {
            return Err(UsageError::new("the record's name is missing: esker erase DIR|URL --event NAME"));
        }
        _ => Action::Load,
    };
    Ok(Command::Tool(RecordTool { action, keeper: keeper(tool, &operand, &given, get)?, is_quiet }))
}

fn parse_before(text: &str) -> Result<u64, UsageError> {
    parse_id(text).ok_or_else(|| UsageError::new(format!("--before must be an id, not {text:?}")))
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
