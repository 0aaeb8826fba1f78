//! The operands and options that say how a command reaches an engine: its URL, and some of a broker's options.

use std::ffi::{OsStr, OsString};

use super::commands::COMMANDS;
use super::engine_password::{PASSWORD, PASSWORD_FILE};
use super::failure::describe;
use super::options::{OPTIONS, Opt};
use super::{UsageError, read_environment};
use crate::engine::EngineSettings;

/// What the names of these options begin with, and those of no other option of a command.
const PREFIX: &str = "engine-";

const VISIBLE_PASSWORD: &str = "the URL contains a password, which every user of this machine can see in the list of \
                                processes; put it into ESKER_ENGINE_PASSWORD or ESKER_ENGINE_PASSWORD_FILE";

/// Options of a command that say how it reaches an engine, and their values.
pub(super) type Given = Vec<(&'static Opt, String)>;

/// How to reach an engine.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) settings: EngineSettings,
    /// A warning, if the command line shows a password to others.
    pub(super) warning: Option<&'static str>,
}

/// Returns whether an operand is the URL of an engine rather than the path of a directory.
pub(super) fn is_url(operand: &OsStr) -> bool {
    let Some((scheme, _)) = operand.to_str().and_then(|text| text.split_once("://")) else { return false };
    let scheme = scheme.to_ascii_lowercase();
    let scheme = scheme.strip_suffix("+sentinel").unwrap_or(&scheme);
    ["redis", "rediss", "valkey", "valkeys"].contains(&scheme)
}

/// Returns the option of this name, if the command has it and it says how to reach an engine.
pub(super) fn find(command: &str, long: &str) -> Option<&'static Opt> {
    options(command).find(|option| option.long == long)
}

fn options(command: &str) -> impl Iterator<Item = &'static Opt> {
    let options = COMMANDS.iter().filter(move |entry| entry.name == command).flat_map(|entry| entry.options);
    let names = options.map(|(long, ..)| *long).filter(|long| long.starts_with(PREFIX));
    names.filter_map(|long| OPTIONS.iter().find(|option| option.long == long))
}

/// Finds out how a command reaches an engine: from its operand and options, and from the variables of these options and of the
/// password. Other variables are ignored, even if they are invalid.
pub(super) fn settle(
    command: &str,
    url: &str,
    given: &Given,
    get: impl Fn(&str) -> Option<OsString>,
) -> Result<Connection, UsageError> {
    let known: Vec<_> = options(command).map(Opt::env).chain([PASSWORD, PASSWORD_FILE].map(str::to_owned)).collect();
    let is_given = |name: &str| given.iter().any(|(option, _)| option.env() == name);
    let is_read = |name: &str| known.iter().any(|known| known == name) && !is_given(name);
    let choices = read_environment(|name| if is_read(name) { get(name) } else { None })?;
    let choices = given
        .iter()
        .try_fold(choices, |choices, (option, text)| option.apply(choices, &format!("--{}", option.long), text))?;
    let config = choices.config.engine(url);
    let warning = config.has_password_in_url().then_some(VISIBLE_PASSWORD);
    let settled = config.settle_engine().map_err(|error| {
        let text = error.to_string().replace("the URL of `engine`", "`engine`").replace("`engine`", "the URL");
        UsageError::new(describe(&text))
    })?;
    // There is a URL, so there are settings.
    let settings = settled.ok_or_else(|| UsageError::new("the URL is missing"))?;
    Ok(Connection { settings, warning })
}
