//! `esker check`, `esker dump` and `esker load`: check, export and import the records in a data directory.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::{Command, UsageError, unknown_option, usage_error};
use crate::store;
pub use crate::records::transfer::ToolError;

const HELP: &str = "\
esker check, dump, load: check, export and import records

Usage: esker check DIR                  checks all records for damage
       esker dump DIR [--event NAME]    exports records as JSON lines
       esker load DIR < FILE            imports such lines, keeping their ids

DIR is the data directory (--data). While a broker runs on it, only dump works.
Lines are sorted by id; each is {\"id\":\"…\",\"event\":\"…\",\"data\":…}.
";

/// A command on a data directory.
#[derive(Debug)]
pub enum StoreTool {
    /// Checks all records for damage.
    Check(PathBuf),
    /// Exports the records with one name, or all records.
    Dump(PathBuf, Option<String>),
    /// Imports records.
    Load(PathBuf),
}

/// The result of a command.
#[derive(Debug)]
pub enum ToolEnd {
    /// The command succeeded. The text is a summary for the terminal.
    Done(String),
    /// The records are damaged. The text describes how.
    Faulty(String),
}

impl StoreTool {
    /// Runs the command.
    pub fn run(&self, input: &mut dyn BufRead, output: &mut dyn Write) -> Result<ToolEnd, ToolError> {
        match self {
            Self::Check(directory) => {
                let report = store::check(directory, &mut |_| {})?;
                let counts =
                    format!("records: {}, names: {}, newest id: {}", report.records, report.names, report.newest);
                Ok(match report.is_good() {
                    true => ToolEnd::Done(format!("{counts}; no problems found")),
                    false => ToolEnd::Faulty(format!("{counts}; problems found:\n{}", report.problems.join("\n"))),
                })
            }
            Self::Dump(directory, name) => {
                let count = store::dump(directory, name.as_deref(), output)?;
                Ok(ToolEnd::Done(format!("records exported: {count}")))
            }
            Self::Load(directory) => Ok(ToolEnd::Done(format!("records imported: {}", store::load(directory, input)?))),
        }
    }
}

/// Parses the arguments of a command.
pub(super) fn parse(tool: &str, mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let (mut directory, mut name) = (None, None);
    while let Some(argument) = parser.next().map_err(|error| usage_error(&error))? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Print(HELP.to_owned())),
            Long("event") if tool == "dump" => {
                name = Some(parser.value().and_then(|value| value.string()).map_err(|error| usage_error(&error))?);
            }
            Value(value) if directory.is_none() => directory = Some(PathBuf::from(value)),
            Value(more) => {
                return Err(UsageError::new(format!("unexpected argument {more:?}; esker {tool} takes one directory")));
            }
            Long(long) => return Err(unknown_option(tool, &format!("--{long}"))),
            Short(short) => return Err(unknown_option(tool, &format!("-{short}"))),
        }
    }
    let directory =
        directory.ok_or_else(|| UsageError::new(format!("the data directory is missing: esker {tool} DIR")))?;
    Ok(Command::Tool(match tool {
        "check" => StoreTool::Check(directory),
        "dump" => StoreTool::Dump(directory, name),
        _ => StoreTool::Load(directory),
    }))
}
