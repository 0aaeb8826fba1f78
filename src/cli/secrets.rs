//! The HMAC secrets of both roles, which come from the environment. There are no options for them, because all users of a
//! machine can read command lines.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use crate::auth::{KeyError, Role, Secret};
use crate::config::Config;

const ROLES: [Role; 2] = [Role::Publisher, Role::Subscriber];

/// The environment variables of a role.
pub(super) struct SecretVariables {
    /// Contains the secret.
    pub(super) secret: &'static str,
    /// Contains the path of a file that contains the secret.
    pub(super) file: &'static str,
    /// Contains the previous secret.
    pub(super) previous: &'static str,
}

impl SecretVariables {
    /// Returns the variables of a role.
    pub(super) const fn of(role: Role) -> Self {
        match role {
            Role::Publisher => Self {
                secret: "ESKER_PUBLISHER_SECRET",
                file: "ESKER_PUBLISHER_SECRET_FILE",
                previous: "ESKER_PUBLISHER_SECRET_PREVIOUS",
            },
            Role::Subscriber => Self {
                secret: "ESKER_SUBSCRIBER_SECRET",
                file: "ESKER_SUBSCRIBER_SECRET_FILE",
                previous: "ESKER_SUBSCRIBER_SECRET_PREVIOUS",
            },
        }
    }

    /// Returns the names of the variables of both roles.
    pub(super) fn all() -> impl Iterator<Item = &'static str> {
        ROLES.into_iter().map(Self::of).flat_map(|variables| [variables.secret, variables.file, variables.previous])
    }
}

/// Sets the secrets that the environment contains.
pub(super) fn apply(config: Config, get: impl Fn(&str) -> Option<OsString>) -> Config {
    ROLES.into_iter().fold(config, |config, role| {
        let variables = SecretVariables::of(role);
        let config = match read_secret(variables.secret, &get) {
            Some(secret) => config.with_secret(role, secret),
            None => config,
        };
        let config = match get(variables.file) {
            Some(file) => config.with_secret_file(role, PathBuf::from(file)),
            None => config,
        };
        match read_secret(variables.previous, &get) {
            Some(secret) => config.with_previous_secret(role, secret),
            None => config,
        }
    })
}

/// Returns the secret in a variable.
pub(super) fn read_secret(variable: &str, get: impl Fn(&str) -> Option<OsString>) -> Option<Result<Secret, KeyError>> {
    get(variable).map(|text| Secret::new(text.into_vec()))
}
