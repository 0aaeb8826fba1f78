//! The environment variables that Esker reads, and those that it only appears to read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::UsageError;
use super::engine_password::{PASSWORD, PASSWORD_FILE};
use super::nearest::{did_you_mean, nearest};
use super::secrets::SecretVariables;
use crate::config::is_service_link;

/// The prefix of the names of Esker's variables.
const PREFIX: &str = "ESKER_";
/// Variables without this prefix that Esker reads.
const OTHERS: [&str; 2] = ["PORT", "RUST_LOG"];
/// Esker's variables that correspond to no option, without the secrets of roles.
const OWN: [&str; 3] = ["ESKER_LOG", PASSWORD, PASSWORD_FILE];

/// The value of an environment variable is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvError(pub(super) String);

impl fmt::Display for EnvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EnvError {}

/// The environment variables that concern Esker. An empty variable counts as unset, because configuration files for containers
/// often set one with `${X:-}`.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<T: IntoIterator<Item = (OsString, OsString)>>(all: T) -> Self {
        let is_ours = |name: &str| name.starts_with(PREFIX) || OTHERS.contains(&name);
        let ours = all.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self { variables: ours.filter(|(name, value)| is_ours(name) && !value.is_empty()).collect() }
    }
}

impl Environment {
    /// Reads the environment of the process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Returns the value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    /// Returns the value of a variable, which must be UTF-8.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, UsageError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.into_string().map(Some).map_err(|_| UsageError::new(format!("{name} is not UTF-8")))
    }

    /// Returns a warning for each variable that nothing reads, because its name may be misspelled. The warnings don't show
    /// values, which may be secrets.
    pub(super) fn unknown<'a>(&self, options: impl Iterator<Item = &'a str>) -> Vec<String> {
        let secrets = SecretVariables::all().map(|name| -> &'a str { name });
        let known: Vec<_> = options.chain(secrets).chain(OWN).collect();
        let is_unknown =
            |name: &&String| name.starts_with(PREFIX) && !known.contains(&name.as_str()) && !is_service_variable(name);
        let warning = |name: &String| {
            let hint = did_you_mean(nearest(name, known.iter().copied()));
            format!("the environment variable {name} is unknown and has no effect{hint}")
        };
        self.variables.keys().filter(is_unknown).map(warning).collect()
    }

    /// Returns a warning if a container platform has set `ESKER_PORT`.
    pub(super) fn foreign_port(&self) -> Option<String> {
        let text = self.get("ESKER_PORT")?.into_string().ok().filter(|text| is_service_link(text))?;
        Some(format!(
            "ESKER_PORT={text} is ignored: the container platform set it to the address of a service named esker; \
             use --port or ESKER_LISTEN to choose a port"
        ))
    }
}

/// Returns whether Kubernetes sets a variable of this name for a service whose name begins with `esker`, such as
/// `ESKER_SERVICE_HOST` or `ESKER_PORT_3000_TCP_ADDR`.
fn is_service_variable(name: &str) -> bool {
    let (_, suffix) = name.split_once('_').unwrap_or_default();
    let words: Vec<_> = suffix.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_protocol = |word: &str| ["TCP", "UDP", "SCTP"].contains(&word);
    let is_link = |window: &[&str]| window[0] == "PORT" && is_number(window[1]) && is_protocol(window[2]);
    words.windows(2).any(|pair| pair == ["SERVICE", "HOST"] || pair == ["SERVICE", "PORT"])
        || words.windows(3).any(is_link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(names: &[&str]) -> Environment {
        names.iter().map(|name| (name.into(), "secret".into())).collect()
    }

    #[test]
    fn warnings_about_unknown_variables_suggest_a_name_and_hide_the_value() {
        let given =
            environment(&["ESKER_HISTROY", "ESKER_PUBLISHR_SECRET", "ESKER_NONSENSE", "ESKER_PORT", "ESKER_LOG"]);
        let warnings = given.unknown(["ESKER_HISTORY", "ESKER_PORT"].into_iter());
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(
            warnings[0].contains("ESKER_HISTROY is unknown") && warnings[0].ends_with("did you mean ESKER_HISTORY?")
        );
        assert!(warnings[1].ends_with("NONSENSE is unknown and has no effect"), "{warnings:?}");
        assert!(warnings[2].ends_with("did you mean ESKER_PUBLISHER_SECRET?"), "{warnings:?}");
        assert!(!warnings.concat().contains("secret"));
    }

    #[test]
    fn service_links_cause_no_warnings() {
        let links = [
            "ESKER_SERVICE_HOST",
            "ESKER_SERVICE_PORT",
            "ESKER_SERVICE_PORT_HTTP",
            "ESKER_PORT_3000_TCP",
            "ESKER_PORT_3000_TCP_PROTO",
            "ESKER_PORT_3000_TCP_PORT",
            "ESKER_PORT_3000_TCP_ADDR",
            "ESKER_ADMIN_SERVICE_HOST",
            "ESKER_ADMIN_PORT_9000_TCP",
        ];
        assert_eq!(environment(&links).unknown(std::iter::empty()), [""; 0]);
        let others = ["ESKER_SERVICE", "ESKER_PORT_TCP", "ESKER_PORT_X_TCP", "ESKER_PORTS", "ESKER_"];
        assert_eq!(environment(&others).unknown(std::iter::empty()).len(), others.len());
    }
}
