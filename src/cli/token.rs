//! `esker token`: creates a token, signed with the broker's secret.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::secrets::{SecretVariables, read_secret};
use super::values::parse_duration;
use super::{Command, UsageError, into_utf8, unknown_option, usage_error};
use crate::auth::{ClaimRules, KeyError, Role, Secret, mint};
use crate::clock::{Clock, millis};
use crate::hub::TopicName;
use crate::keys::{self, KeyFileError};

/// The default lifetime of a token.
const DEFAULT_TTL: Duration = Duration::from_secs(3600);

/// Added to the lifetime of a token: the time until its recipient can use it, in milliseconds.
const HANDOVER_MILLIS: u64 = 250;

const HELP: &str = "\
esker token: creates a token

Usage: esker token --publish NAME… [--ttl TIME]
       esker token --subscribe NAME… [--ttl TIME]

  --publish NAME                  allow publishing to this topic; repeatable
  --subscribe NAME                allow subscribing to this topic; repeatable
  --ttl TIME                      lifetime of the token; ms s m h [1h]

NAME is a topic, a topic prefix such as 'news*', '*' for everything, events for
/events, /insert and /audit, or, with --publish, stats for /stats, /metrics and
/topics, or revoke for /revoke.
The token is signed (HS256) with ESKER_PUBLISHER_SECRET or
ESKER_SUBSCRIBER_SECRET, or with the secret in ESKER_PUBLISHER_SECRET_FILE or
ESKER_SUBSCRIBER_SECRET_FILE. If the broker uses key files, sign tokens
elsewhere with the private key; esker never sees it. ESKER_ISSUER and
ESKER_TOPICS_CLAIM have the same effect on the token as on the broker.
";

/// The parameters of a token to create.
#[derive(Debug)]
pub struct TokenRequest {
    role: Role,
    names: Vec<String>,
    ttl: Duration,
    secret: SigningSecret,
    /// The broker's, as far as the environment contains them.
    rules: ClaimRules,
}

/// Where the secret that signs a token comes from.
#[derive(Debug)]
enum SigningSecret {
    Missing,
    Variable(Result<Secret, KeyError>),
    File(PathBuf),
    /// The variables for the secret and for its file are both set.
    Both,
}

/// Why a token could not be created.
#[derive(Debug)]
pub enum MintError {
    /// The role has no secret.
    NoSecret(Role),
    /// The role's secret is not valid.
    Secret(Role, KeyError),
    /// The role has a secret and a secret file.
    Both(Role),
    /// The role's secret file can't be used.
    File(KeyFileError),
    /// The token could not be signed.
    Sign(String),
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSecret(role) => {
                let SecretVariables { secret, file, .. } = SecretVariables::of(*role);
                write!(f, "there is no secret to sign with; set {secret} to the broker's secret, or {file} to its file")
            }
            Self::Secret(role, error) => write!(f, "{} {error}", SecretVariables::of(*role).secret),
            Self::Both(role) => {
                let SecretVariables { secret, file, .. } = SecretVariables::of(*role);
                write!(f, "{secret} and {file} are both set; set only one")
            }
            Self::File(error) => error.fmt(f),
            Self::Sign(error) => write!(f, "the token could not be signed: {error}"),
        }
    }
}

impl std::error::Error for MintError {}

impl MintError {
    /// Returns whether the error is a usage error: a variable is invalid rather than missing.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Secret(..) | Self::Both(_))
    }
}

impl TokenRequest {
    /// Creates the token. It is valid for at least its lifetime after it was printed, and up to a second longer, because tokens
    /// expire at whole seconds.
    pub fn mint(&self) -> Result<String, MintError> {
        let secret = match &self.secret {
            SigningSecret::Missing => return Err(MintError::NoSecret(self.role)),
            SigningSecret::Variable(Err(error)) => return Err(MintError::Secret(self.role, *error)),
            SigningSecret::Both => return Err(MintError::Both(self.role)),
            SigningSecret::Variable(Ok(secret)) => secret.clone(),
            SigningSecret::File(path) => keys::read_secret_file(self.role, path).map_err(MintError::File)?,
        };
        let now = Clock::new().now();
        let expires = (now.unix_millis + HANDOVER_MILLIS + millis(self.ttl)).div_ceil(1000);
        mint(&secret, &self.names, now.unix_seconds(), expires, &self.rules)
            .map_err(|error| MintError::Sign(error.to_string()))
    }
}

/// Parses the arguments of `esker token`.
pub(super) fn parse(mut parser: lexopt::Parser, get: impl Fn(&str) -> Option<OsString>) -> Result<Command, UsageError> {
    let (mut role, mut names, mut ttl) = (None, Vec::new(), DEFAULT_TTL);
    while let Some(argument) = parser.next().map_err(|error| usage_error(&error))? {
        let requested = match argument {
            Short('h') | Long("help") => return Ok(Command::Print(HELP.to_owned())),
            Long("publish") => Role::Publisher,
            Long("subscribe") => Role::Subscriber,
            Long("ttl") => {
                ttl = parse_lifetime(&read_value(&mut parser)?)?;
                continue;
            }
            Value(value) => {
                return Err(UsageError::new(format!(
                    "unexpected argument {value:?}; esker token takes only options, such as --publish NAME"
                )));
            }
            Short(short) => return Err(unknown_option("token", &format!("-{short}"))),
            Long(long) => return Err(unknown_option("token", &format!("--{long}"))),
        };
        if role.is_some_and(|role| role != requested) {
            return Err(UsageError::new("a token is for either --publish or --subscribe; create two tokens"));
        }
        role = Some(requested);
        names.push(parse_name(requested, &read_value(&mut parser)?)?);
    }
    let role = role.ok_or_else(|| {
        UsageError::new(
            "nothing to allow; use esker token --publish NAME or esker token \
                                                   --subscribe NAME",
        )
    })?;
    let secret = find_secret(role, &get);
    Ok(Command::Mint(TokenRequest { role, names, ttl, secret, rules: read_rules(get)? }))
}

fn find_secret(role: Role, get: impl Fn(&str) -> Option<OsString>) -> SigningSecret {
    let SecretVariables { secret, file, .. } = SecretVariables::of(role);
    match (read_secret(secret, &get), get(file)) {
        (None, None) => SigningSecret::Missing,
        (Some(secret), None) => SigningSecret::Variable(secret),
        (None, Some(file)) => SigningSecret::File(file.into()),
        (Some(_), Some(_)) => SigningSecret::Both,
    }
}

/// Returns the rules for claims that the broker has if it has the same environment.
fn read_rules(get: impl Fn(&str) -> Option<OsString>) -> Result<ClaimRules, UsageError> {
    let read = |name: &str| get(name).map(|text| into_utf8(text, name)).transpose();
    let rules = ClaimRules { issuer: read("ESKER_ISSUER")?.map(Arc::from), ..ClaimRules::default() };
    match read("ESKER_TOPICS_CLAIM")? {
        Some(name) => Ok(ClaimRules { topics_claim: name.into(), ..rules }),
        None => Ok(rules),
    }
}

fn parse_lifetime(text: &str) -> Result<Duration, UsageError> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(UsageError::new("--ttl can't be 0: the token would never be valid")),
        Ok(ttl) => Ok(ttl),
        Err(advice) => Err(UsageError::new(format!("--ttl can't be {text:?}: {advice}"))),
    }
}

fn read_value(parser: &mut lexopt::Parser) -> Result<String, UsageError> {
    parser.value().and_then(|value| value.string()).map_err(|error| usage_error(&error))
}

/// Parses a name that a token may allow, and converts it to lower case. A name that could not allow anything is an error.
fn parse_name(role: Role, text: &str) -> Result<String, UsageError> {
    let folded = text.to_ascii_lowercase();
    let is_prefix = |prefix: &str| prefix.len() <= TopicName::MAX && prefix.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_valid = match (role, folded.as_str()) {
        (_, "events") | (Role::Publisher, "stats" | "revoke") => true,
        (_, name) => TopicName::parse(name).is_ok() || name.strip_suffix('*').is_some_and(is_prefix),
    };
    if is_valid {
        return Ok(folded);
    }
    Err(UsageError::new(format!(
        "a {role} token can't be for {text:?}: give a topic (8 to 64 letters and digits), a prefix*, events, or \
         stats or revoke (--publish only)"
    )))
}
