//! The command line and its environment variables. One table of options drives parsing, `--help`, the manual, the shell
//! completions and the table in the guide. Independent of what the options do to the broker.

mod commands;
mod completions;
mod connection;
mod engine;
mod engine_password;
mod engine_status;
mod environment;
mod failure;
mod health;
mod levels;
mod manual;
mod nearest;
mod options;
mod progress;
mod secrets;
mod token;
mod tools;
mod unknown;
mod values;

use std::ffi::OsString;
use std::fmt;

use lexopt::prelude::{Long, Short, Value, ValueExt};

pub use self::engine::EngineCommand;
pub use self::environment::{EnvError, Environment};
pub use self::failure::{describe, is_usage};
pub use self::health::HealthCheck;
pub use self::token::{MintError, TokenRequest};
pub use self::tools::{RecordTool, ToolEnd, ToolError};
use crate::config::{Config, is_service_link};
use crate::http::access_log::AccessLogFormat;
use crate::logging::LogOptions;
use options::{Choices, Effect, OPTIONS, Opt, help_text};
use unknown::{unexpected_argument, unknown_broker_option, unknown_option};

/// The commands on records.
const TOOLS: [&str; 4] = ["check", "dump", "load", "erase"];

const VISIBLE_PASSWORD: &str = "--engine contains a password, which every user of this machine can see in the list of \
                                processes; put it into ESKER_ENGINE_PASSWORD or ESKER_ENGINE_PASSWORD_FILE";

const PRINTED_HELP: &str = "\
esker man, completions: print the manual page or shell completions

Usage: esker man
       esker completions SHELL    bash, zsh or fish

Examples: esker man | man -l -
          source <(esker completions bash)
          source <(esker completions zsh)     after compinit
          esker completions fish | source
";

/// A parsed command line.
#[derive(Debug)]
pub enum Command {
    /// Runs a broker.
    Run(Box<Launch>),
    /// Checks, exports or imports records.
    Tool(RecordTool),
    /// Shows the state of an engine, or changes it.
    Engine(EngineCommand),
    /// Creates and prints a token.
    Mint(TokenRequest),
    /// Checks the health of a broker.
    Health(HealthCheck),
    /// Prints this text.
    Print(String),
}

/// How to run a broker as a process.
#[derive(Debug)]
pub struct Launch {
    /// The broker's own configuration.
    pub config: Config,
    /// The options of the log.
    pub log: LogOptions,
    /// The format of the access log, if there is one.
    pub access_log: Option<AccessLogFormat>,
    /// Warnings about environment variables that have no effect, to be logged at startup.
    pub warnings: Vec<String>,
}

/// A usage error, which exits with status 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    text: String,
    help: &'static str,
}

impl UsageError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), help: "esker --help" }
    }

    /// Returns the command that shows the valid options.
    pub fn help(&self) -> &'static str {
        self.help
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for UsageError {}

impl Config {
    /// Reads the configuration from the environment: every option of the binary has an `ESKER_…` variable (see
    /// `esker --help`). Settings without a variable have their default. Logs a warning for each unknown variable.
    ///
    /// ```
    /// let config = esker::Config::from_env()?.no_auth(true);
    /// # Ok::<(), esker::EnvError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the value of a variable is invalid; the message names the variable.
    pub fn from_env() -> Result<Self, EnvError> {
        let environment = Environment::of_process();
        let choices = read_environment(|name| environment.get(name)).map_err(|error| EnvError(error.text))?;
        warnings(&environment).iter().for_each(|warning| log::warn!("{warning}"));
        Ok(choices.config)
    }
}

/// Returns the defaults, changed by the environment.
fn read_environment(get: impl Fn(&str) -> Option<OsString>) -> Result<Choices, UsageError> {
    let config = secrets::apply(Config::new(), &get);
    let config = match engine_password::read(&get)? {
        Some(password) => config.engine_password(password),
        None => config,
    };
    OPTIONS.iter().try_fold(Choices::new(config), |choices, option| {
        let name = option.env();
        let Some(text) = get(&name) else { return Ok(choices) };
        let text = into_utf8(text, &name)?;
        if option.long == "port" && is_service_link(&text) {
            return Ok(choices);
        }
        option.apply(choices, &name, &text)
    })
}

/// Returns warnings about variables that appear to have an effect, but have none.
fn warnings(environment: &Environment) -> Vec<String> {
    let options: Vec<_> = OPTIONS.iter().map(Opt::env).collect();
    let mut warnings = environment.unknown(options.iter().map(String::as_str));
    warnings.extend(environment.foreign_port());
    warnings
}

/// Parses a command line and the environment. The command line takes precedence.
pub fn parse(arguments: impl IntoIterator<Item = OsString>, environment: &Environment) -> Result<Command, UsageError> {
    let get = |name: &str| environment.get(name);
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut given = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| usage_error(&error))? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Print(help_text())),
            Short('V') | Long("version") => return Ok(Command::Print(version_text())),
            Short(short) => {
                given.push(parse_option(&mut parser, |option| option.short == Some(short), &format!("-{short}"))?);
            }
            Long(long) => {
                let long = long.to_owned();
                given.push(parse_option(&mut parser, |option| option.long == long, &format!("--{long}"))?);
            }
            Value(value) if value == "token" && given.is_empty() => {
                return token::parse(parser, get).map_err(|error| UsageError { help: "esker token --help", ..error });
            }
            Value(value) if given.is_empty() && value.to_str().is_some_and(|tool| TOOLS.contains(&tool)) => {
                let tool = value.string().map_err(|error| usage_error(&error))?;
                return tools::parse(&tool, parser, get)
                    .map_err(|error| UsageError { help: "esker check --help", ..error });
            }
            Value(value) if value == "engine" && given.is_empty() => {
                return engine::parse(parser, get).map_err(|error| UsageError { help: "esker engine --help", ..error });
            }
            Value(value) if value == "health" && given.is_empty() => {
                return health::parse(parser, get).map_err(|error| UsageError { help: "esker health --help", ..error });
            }
            Value(value) if given.is_empty() && (value == "man" || value == "completions") => {
                return parse_print_command(value == "man", parser);
            }
            Value(value) => return Err(unexpected_argument(&value)),
        }
    }
    build_launch(&given, environment)
}

fn build_launch(given: &[(&Opt, String)], environment: &Environment) -> Result<Command, UsageError> {
    // Repeatable options on the command line replace those in the environment rather than add to them.
    let is_given = |name: &str| given.iter().any(|(option, _)| option.env() == name);
    let choices = read_environment(|name| if is_given(name) { None } else { environment.get(name) })?;
    let choices = given
        .iter()
        .try_fold(choices, |choices, (option, text)| option.apply(choices, &format!("--{}", option.long), text))?;
    let (filters, mut warnings_of_log) = levels::read_filters(environment)?;
    let mut warnings = warnings(environment);
    warnings.append(&mut warnings_of_log);
    if is_given("ESKER_ENGINE") && choices.config.has_password_in_url() {
        warnings.push(VISIBLE_PASSWORD.to_owned());
    }
    let log = LogOptions { format: choices.log_format, filters };
    let Choices { config, access_log, .. } = choices;
    Ok(Command::Run(Box::new(Launch { config, log, access_log, warnings })))
}

/// Parses the arguments of `esker man` and `esker completions`.
fn parse_print_command(is_manual: bool, mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let words = parser.raw_args().map_err(|error| usage_error(&error))?.collect::<Vec<_>>();
    let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let text = match (is_manual, words.as_slice()) {
        (_, ["-h" | "--help"]) => Some(PRINTED_HELP.to_owned()),
        (true, []) => Some(manual::generate()),
        (false, [shell]) => completions::generate(shell),
        _ => None,
    };
    text.map(Command::Print).ok_or_else(|| UsageError {
        help: "esker man --help",
        ..UsageError::new("use esker man, or esker completions with bash, zsh or fish")
    })
}

/// Finds an option, and reads its value if it takes one.
fn parse_option(
    parser: &mut lexopt::Parser,
    is_match: impl Fn(&Opt) -> bool,
    name: &str,
) -> Result<(&'static Opt, String), UsageError> {
    let option = OPTIONS.iter().find(|option| is_match(option)).ok_or_else(|| unknown_broker_option(name))?;
    let text = match option.effect {
        Effect::Switch(_) => "true".to_owned(),
        Effect::Value(_) | Effect::LogFormat(_) | Effect::AccessLog(_) => {
            parser.value().and_then(|value| value.string()).map_err(|error| usage_error(&error))?
        }
    };
    Ok((option, text))
}

fn usage_error(error: &lexopt::Error) -> UsageError {
    UsageError::new(error.to_string())
}

fn into_utf8(text: OsString, name: &str) -> Result<String, UsageError> {
    text.into_string().map_err(|_| UsageError::new(format!("{name} is not UTF-8")))
}

fn version_text() -> String {
    format!("esker {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::commands::COMMANDS;
    use super::*;

    fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<String, String> {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        match parse(arguments.iter().map(OsString::from), &environment) {
            Ok(Command::Run(launch)) => Ok(format!("{launch:?}")),
            Ok(Command::Mint(request)) => Ok(format!("{request:?}")),
            Ok(Command::Tool(tool)) => Ok(format!("{tool:?}")),
            Ok(Command::Engine(command)) => Ok(format!("{command:?}")),
            Ok(Command::Health(check)) => Ok(format!("{check:?}")),
            Ok(Command::Print(text)) => Ok(text),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_command_line_takes_precedence_over_the_environment() {
        let config = run(
            &["-p", "81", "--heartbeat=5s"],
            &[("ESKER_PORT", "80"), ("ESKER_HISTORY", "7"), ("ESKER_NO_AUTH", "1")],
        );
        let config = config.unwrap();
        assert!(config.contains("port: Some(81)") && config.contains("heartbeat: 5s") && config.contains("history: 7"));
        assert!(config.contains("no_auth: true"));
    }

    #[test]
    fn origins_on_the_command_line_add_up_and_replace_those_in_the_environment() {
        let both = run(&["--origin", "http://a", "--origin", "http://b"], &[("ESKER_ORIGIN", "http://c")]).unwrap();
        assert!(both.contains(r#"origins: ["http://a", "http://b"]"#), "{both}");
        let listed = run(&[], &[("ESKER_ORIGIN", "http://c, http://d")]).unwrap();
        assert!(listed.contains(r#"origins: ["http://c", "http://d"]"#), "{listed}");
    }

    #[test]
    fn secrets_come_from_the_environment_and_are_never_shown() {
        let secret = "s3cret".repeat(8);
        let environment = [("ESKER_PUBLISHER_SECRET", secret.as_str()), ("ESKER_SUBSCRIBER_SECRET", "")];
        let shown = run(&[], &environment).unwrap();
        assert!(shown.contains("secret: Some(Ok(Secret))") && shown.contains("secret: None"), "{shown}");
        let shown = run(&["token", "--publish", "News*", "--publish", "stats", "--ttl", "90s"], &environment).unwrap();
        assert!(shown.contains(r#"Publisher, names: ["news*", "stats"], ttl: 90s"#), "{shown}");
        assert!(!shown.contains("s3cret"));
        let shown = run(&["token", "--subscribe", "events"], &environment).unwrap();
        assert!(shown.contains("ttl: 3600s, secret: Missing, "), "{shown}");
    }

    #[test]
    fn the_password_of_an_engine_is_never_shown() {
        let variable = ("ESKER_ENGINE_PASSWORD", "s3cret");
        let url = "redis://:s3cret@h";
        let in_variable = run(&["--engine", "redis://h"], &[variable]).unwrap();
        assert!(
            in_variable.contains("password: Some(Password)") && in_variable.contains("warnings: []"),
            "{in_variable}"
        );
        let on_command_line = run(&["--engine", url], &[]).unwrap();
        assert!(on_command_line.contains("--engine contains a password"), "{on_command_line}");
        let in_environment = run(&[], &[("ESKER_ENGINE", url)]).unwrap();
        assert!(in_environment.contains("password: Some(Password)"), "{in_environment}");
        assert!(in_environment.contains("warnings: []"), "{in_environment}");
        let replaced = run(&["--engine", "redis://h"], &[("ESKER_ENGINE", url)]).unwrap();
        let invalid = run(&["--engine", "redis://:s3cret/@h"], &[]).unwrap();
        let misspelled = run(&[], &[("ESKER_ENGINE_PASWORD", "s3cret")]).unwrap();
        assert!(misspelled.contains("did you mean ESKER_ENGINE_PASSWORD?"), "{misspelled}");
        for shown in [in_variable, on_command_line, in_environment, replaced, invalid, misspelled] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[cfg(feature = "engine")]
    #[test]
    fn an_engine_is_told_from_a_directory_and_has_its_own_options() {
        for directory in ["redis", "./redis://h", "http://h", "redis:/h", "unix://h", "dir/redis+sentinel://h"] {
            let shown = run(&["check", directory], &[("ESKER_ENGINE_PREFIX", "a b")]).unwrap();
            assert!(shown.contains("keeper: Directory("), "{shown}");
        }
        for url in ["redis://h", "VALKEY://h", "redis+sentinel://a,b/n", "valkey+sentinel://a/n"] {
            let shown = run(&["dump", url, "--event", "a"], &[("ESKER_DATA", "x"), ("ESKER_STALL", "bad")]).unwrap();
            assert!(shown.contains("Engine(") && shown.contains("Dump(Some(\"a\"))"), "{shown}");
        }
        let environment =
            [("ESKER_ENGINE_PREFIX", "a"), ("ESKER_ENGINE_RECORDS", "5"), ("ESKER_ENGINE_PASSWORD", "s3cret")];
        let shown = run(&["load", "redis://h", "--engine-prefix", "b"], &environment).unwrap();
        assert!(shown.contains("prefix: \"{b}\"") && shown.contains("record_bytes: 5"), "{shown}");
        assert!(shown.contains("password: Some(Password)") && shown.contains("warning: None"), "{shown}");
        let shown = run(&["engine", "status", "--json"], &[("ESKER_ENGINE", "redis://:s3cret@h")]).unwrap();
        assert!(shown.contains("is_json: true") && shown.contains("warning: None"), "{shown}");
        for arguments in [&["check", "redis://:s3cret@h"][..], &["engine", "raise", "redis://:s3cret@h", "--force"]] {
            let shown = run(arguments, &[]).unwrap();
            assert!(shown.contains("the URL contains a password") && !shown.contains("s3cret"), "{shown}");
        }
    }

    /// The manual and the completions are generated from the table.
    #[test]
    fn the_table_of_commands_matches_their_help() {
        for entry in COMMANDS {
            let help = run(&[entry.name, "--help"], &[]).unwrap();
            assert!(help.contains(entry.operand), "{}", entry.name);
            let options: Vec<_> = entry.options.iter().map(|(long, value, _)| format!("--{long} {value}")).collect();
            assert!(options.iter().all(|option| help.contains(option)), "{help}");
            let usage = help.lines().filter(|line| line.contains(&format!(" esker {} ", entry.name)));
            for option in usage.flat_map(str::split_whitespace).filter_map(|word| word.split("--").nth(1)) {
                assert!(entry.options.iter().any(|(long, ..)| *long == option), "--{option} of {}", entry.name);
            }
        }
    }

    #[test]
    fn usage_errors_say_what_would_be_valid() {
        for (arguments, part) in [
            (&["--nonsense"][..], "unknown option --nonsense"),
            (&["--no-auht"], "unknown option --no-auht; did you mean --no-auth?"),
            (&["--log-fromat", "json"], "did you mean --log-format?"),
            (&["--hepl"], "did you mean --help?"),
            (&["-x"], "unknown option -x"),
            (&["--engine-password", "x"], "set the environment variable ESKER_ENGINE_PASSWORD"),
            (&["--publisher-secret=x"], "set the environment variable ESKER_PUBLISHER_SECRET"),
            (&["--engine-ack", "always"], "give reply, fsync, or replicas:N"),
            (&["serve"], "unexpected argument \"serve\"; to start a broker, use options only"),
            (&["tokne"], "did you mean esker token?"),
            (&["--no-auth", "on"], "options only"),
            (&["--history", "10s"], "give a whole number; did you mean --history-age 10s?"),
            (&["--history", "64M"], "did you mean --history-bytes 64M?"),
            (&["--history", "many"], "give a whole number"),
            (&["--log-format", "xml"], "give text or json"),
            (&["token", "--pubish", "greeting1"], "unknown option --pubish for esker token; did you mean --publish?"),
            (&["dump", "a", "--events", "b"], "did you mean --event?"),
            (&["--port"], "missing argument"),
            (&["--port", "99999"], "0 to 65535"),
            (&["--heartbeat", "15"], "such as 15s"),
            (&["--history-bytes", "1T"], "such as 64M"),
            (&["extra"], "options only"),
            (&["--no-auth=x"], "no-auth"),
            (&["token"], "--publish NAME"),
            (&["token", "--publish", "greeting1", "--subscribe", "greeting1"], "create two tokens"),
            (&["token", "--publish", "short"], "8 to 64"),
            (&["token", "--publish", "a*b"], "prefix*"),
            (&["token", "--publish"], "missing argument"),
            (&["token", "--publish", "greeting1", "--ttl", "1d"], "ms, s, m or h"),
            (&["token", "--port", "80"], "unknown option --port for esker token"),
            (&["--port", "80", "token"], "put the command first: esker token"),
            (&["check"], "esker check DIR|URL"),
            (&["dump", "a", "b"], "one directory"),
            (&["load", "a", "--event", "b"], "unknown option --event for esker load"),
            (&["erase", "a"], "--event NAME"),
            (&["erase", "a", "--event", "b", "--before", "x"], "--before must be an id"),
            (&["dump", "a", "--before", "1"], "unknown option --before for esker dump"),
            (&["check", "-x"], "unknown option -x for esker check"),
            (&["dump", "a", "--engine-prefix", "x"], "--engine-prefix has no effect on a directory"),
            (&["dump", "redis://h", "--engine-records", "1G"], "unknown option --engine-records for esker dump"),
            (&["load", "redis://h", "--engine-records", "many"], "--engine-records can't be \"many\""),
            (&["load", "redis://h/x"], "the URL has an invalid database"),
            (&["check", "redis://h", "--engine-ca", "f"], "--engine-ca requires TLS; begin the URL with rediss://"),
            (&["check", "redis://u@h"], "the URL has a user name, but there is no password; set ESKER_ENGINE_PASSWORD"),
            (&["engine"], "esker engine status or esker engine raise"),
            (&["engine", "status"], "the engine's URL is missing"),
            (&["engine", "lower", "redis://h"], "use status or raise"),
            (&["engine", "status", "redis://h", "redis://h"], "takes one URL"),
            (&["engine", "status", "--force"], "--force is for esker engine raise"),
            (&["engine", "raise", "--json"], "--json is for esker engine status"),
            (&["engine", "status", "--jsno"], "unknown option --jsno for esker engine; did you mean --json?"),
            (&["engine", "status", "unix:///run/redis.sock"], "the URL can't be a Unix socket"),
            (&["health", "https://h"], "unix:/PATH"),
            (&["health", "127.0.0.1:80", "127.0.0.1:81"], "one URL"),
            (&["health", "--port", "80"], "unknown option --port for esker health"),
            (&["man", "esker"], "esker man"),
            (&["completions", "tcsh"], "zsh or fish"),
            (&["completions"], "zsh or fish"),
        ] {
            let error = run(arguments, &[]).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
        assert!(run(&[], &[("ESKER_STALL", "soon")]).unwrap_err().contains("ESKER_STALL"));
        assert!(run(&[], &[("ESKER_HISTORY", "10s")]).unwrap_err().ends_with("did you mean ESKER_HISTORY_AGE=10s?"));
        assert!(run(&[], &[("ESKER_LOG", "warning")]).unwrap_err().contains("did you mean warn?"));
        // Commands other than running a broker don't log, so they ignore the variable.
        assert!(run(&["man"], &[("ESKER_LOG", "warning")]).is_ok());
    }

    #[test]
    fn a_service_link_is_not_used_as_the_port() {
        let link = ("ESKER_PORT", "tcp://10.96.0.17:3000");
        let shown = run(&["--no-auth"], &[link, ("ESKER_SERVICE_HOST", "10.96.0.17")]).unwrap();
        assert!(shown.contains("port: None") && shown.contains("is ignored"), "{shown}");
        assert!(!shown.contains("SERVICE_HOST"), "{shown}");
        let shown = run(&["--no-auth", "--port", "81"], &[link]).unwrap();
        assert!(shown.contains("port: Some(81)"), "{shown}");
        assert!(run(&["health"], &[link]).unwrap().contains("127.0.0.1:3000"));
    }

    #[test]
    fn the_log_is_configured_by_options_and_variables() {
        let shown = run(&["--log-format", "json"], &[("ESKER_LOG", "debug"), ("RUST_LOG", "warning")]).unwrap();
        assert!(shown.contains("log: LogOptions { format: Json, filters: \"debug\" }"), "{shown}");
        let shown = run(&[], &[("ESKER_LOG_FORMAT", "json"), ("RUST_LOG", "warning")]).unwrap();
        assert!(shown.contains("format: Json, filters: \"\"") && shown.contains("RUST_LOG is ignored"), "{shown}");
        let shown = run(&["--log-format=text"], &[("ESKER_LOG_FORMAT", "json")]).unwrap();
        assert!(shown.contains("format: Text") && shown.contains("warnings: []"), "{shown}");
    }
}
