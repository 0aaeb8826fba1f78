//! Errors for arguments that don't exist, with the nearest ones that do.

use std::ffi::OsStr;

use super::UsageError;
use super::commands::COMMANDS;
use super::engine_password::PASSWORD;
use super::nearest::{did_you_mean, nearest};
use super::options::OPTIONS;
use super::secrets::SecretVariables;
use crate::auth::Role;

/// Options that don't exist, because all users of a machine can read command lines, and the variables to use.
const SECRETS: [(&str, &str); 3] = [
    ("--engine-password", PASSWORD),
    ("--publisher-secret", SecretVariables::of(Role::Publisher).secret),
    ("--subscriber-secret", SecretVariables::of(Role::Subscriber).secret),
];

/// Returns the error for a word that is neither an option nor the value of one.
pub(super) fn unexpected_argument(word: &OsStr) -> UsageError {
    let word = word.to_string_lossy();
    if COMMANDS.iter().any(|command| command.name == word) {
        return UsageError::new(format!(
            "unexpected argument {word:?} after an option; put the command first: esker \
                                        {word}"
        ));
    }
    let hint = match nearest(&word, COMMANDS.iter().map(|command| command.name)) {
        Some(command) => format!("; did you mean esker {command}?"),
        None => "; to start a broker, use options only, such as: esker --no-auth".to_owned(),
    };
    UsageError::new(format!("unexpected argument {word:?}{hint}"))
}

/// Returns the error for an option that a command does not have. `option` includes its hyphens.
pub(super) fn unknown_option(command: &str, option: &str) -> UsageError {
    let known = COMMANDS.iter().filter(|entry| entry.name == command).flat_map(|entry| entry.options);
    let known = known.map(|(long, ..)| *long).chain(["help"]);
    let hint =
        did_you_mean(option.strip_prefix("--").and_then(|long| nearest(long, known)).map(|long| format!("--{long}")));
    UsageError::new(format!("unknown option {option} for esker {command}{hint}"))
}

/// Returns the error for an option that the broker does not have. `name` includes its hyphens.
pub(super) fn unknown_broker_option(name: &str) -> UsageError {
    if let Some((_, variable)) = SECRETS.iter().find(|(option, _)| *option == name) {
        return UsageError::new(format!(
            "unknown option {name}: command lines are visible to other users; set the environment variable {variable}"
        ));
    }
    let known = OPTIONS.iter().map(|option| option.long).chain(["help", "version"]);
    let hint = name.strip_prefix("--").and_then(|long| nearest(long, known)).map(|long| format!("--{long}"));
    UsageError::new(format!("unknown option {name}{}", did_you_mean(hint)))
}
