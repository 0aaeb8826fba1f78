//! The command line and its environment twins: one table of options drives parsing, `--help` and
//! the README's table. Refuses to know what the options do to the broker.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use crate::config::Config;

/// What an argument list asks for.
#[derive(Debug)]
pub enum Command {
    /// Run a broker.
    Run(Box<Config>),
    /// Print this and be done.
    Print(String),
}

/// Wrong usage: exit status 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// How an option's value becomes part of a configuration.
enum Effect {
    /// The option takes no value.
    Switch(fn(Config, bool) -> Config),
    /// The option takes one.
    Value(fn(Config, &str) -> Result<Config, String>),
}

/// One option.
struct Opt {
    long: &'static str,
    short: Option<char>,
    /// What the value is called; empty for a switch.
    value: &'static str,
    default: &'static str,
    help: &'static str,
    effect: Effect,
}

const OPTIONS: &[Opt] = &[
    Opt {
        long: "bind",
        short: Some('b'),
        value: "IP",
        default: "127.0.0.1",
        help: "address to listen on",
        effect: Effect::Value(|config, text| {
            text.parse().map(|ip| config.bind(ip)).map_err(|_| "give an IP address such as 0.0.0.0".into())
        }),
    },
    Opt {
        long: "port",
        short: Some('p'),
        value: "N",
        default: "3000",
        help: "port, 0 for any free one; also PORT",
        effect: Effect::Value(|config, text| {
            text.parse().map(|port| config.port(port)).map_err(|_| "give a port from 0 to 65535".into())
        }),
    },
    Opt {
        long: "threads",
        short: Some('t'),
        value: "N",
        default: "cores",
        help: "worker threads",
        effect: Effect::Value(|config, text| number(text).map(|threads| config.threads(threads))),
    },
    Opt {
        long: "no-auth",
        short: None,
        value: "",
        default: "off",
        help: "let everybody publish and subscribe",
        effect: Effect::Switch(Config::no_auth),
    },
    Opt {
        long: "origin",
        short: None,
        value: "O",
        default: "*",
        help: "origin whose pages may read; repeatable",
        effect: Effect::Value(|config, text| Ok(text.split(',').fold(config, |config, one| config.origin(one.trim())))),
    },
    Opt {
        long: "history",
        short: None,
        value: "N",
        default: "256",
        help: "events retained per topic for resuming",
        effect: Effect::Value(|config, text| number(text).map(|events| config.history(events))),
    },
    Opt {
        long: "history-age",
        short: None,
        value: "TIME",
        default: "10m",
        help: "age at which an event is let go",
        effect: Effect::Value(|config, text| duration(text).map(|age| config.history_age(age))),
    },
    Opt {
        long: "history-bytes",
        short: None,
        value: "SIZE",
        default: "256M",
        help: "memory for all retained events",
        effect: Effect::Value(|config, text| size(text).map(|bytes| config.history_bytes(bytes))),
    },
    Opt {
        long: "heartbeat",
        short: None,
        value: "TIME",
        default: "15s",
        help: "silence before a comment line is sent",
        effect: Effect::Value(|config, text| duration(text).map(|silence| config.heartbeat(silence))),
    },
    Opt {
        long: "retry",
        short: None,
        value: "TIME",
        default: "3s",
        help: "reconnection time for clients, ±33 %",
        effect: Effect::Value(|config, text| duration(text).map(|retry| config.retry(retry))),
    },
    Opt {
        long: "stall",
        short: None,
        value: "TIME",
        default: "60s",
        help: "close a socket taking no byte so long",
        effect: Effect::Value(|config, text| duration(text).map(|stall| config.stall(stall))),
    },
    Opt {
        long: "request-timeout",
        short: None,
        value: "TIME",
        default: "10s",
        help: "for a request's head; a body's pause: ×3",
        effect: Effect::Value(|config, text| duration(text).map(|timeout| config.request_timeout(timeout))),
    },
    Opt {
        long: "max-body",
        short: None,
        value: "SIZE",
        default: "1M",
        help: "largest request body",
        effect: Effect::Value(|config, text| size(text).map(|bytes| config.max_body(bytes))),
    },
    Opt {
        long: "max-topics",
        short: None,
        value: "N",
        default: "1000000",
        help: "topics with an event or listener",
        effect: Effect::Value(|config, text| number(text).map(|topics| config.max_topics(topics))),
    },
    Opt {
        long: "max-subscribers",
        short: None,
        value: "N",
        default: "connections less 64",
        help: "open streams",
        effect: Effect::Value(|config, text| number(text).map(|subscribers| config.max_subscribers(subscribers))),
    },
    Opt {
        long: "max-connections",
        short: None,
        value: "N",
        default: "descriptor limit",
        help: "open connections",
        effect: Effect::Value(|config, text| number(text).map(|connections| config.max_connections(connections))),
    },
    Opt {
        long: "max-connections-per-ip",
        short: None,
        value: "N",
        default: "off",
        help: "open connections per address",
        effect: Effect::Value(|config, text| {
            number(text).map(|connections| config.max_connections_per_ip(connections))
        }),
    },
];

impl Opt {
    /// The environment twin's name.
    fn env(&self) -> String {
        format!("ESKER_{}", self.long.replace('-', "_").to_ascii_uppercase())
    }

    fn apply(&self, config: Config, name: &str, text: &str) -> Result<Config, UsageError> {
        let applied = match self.effect {
            Effect::Switch(switch) => boolean(text).map(|on| switch(config, on)),
            Effect::Value(value) => value(config, text),
        };
        applied.map_err(|advice| UsageError(format!("{name} can't be {text:?}: {advice}")))
    }
}

impl Config {
    /// The defaults, changed by whatever `ESKER_…` variables are set (see `esker --help`).
    pub fn from_env() -> Result<Self, UsageError> {
        with_environment(|name| std::env::var_os(name))
    }
}

fn with_environment(get: impl Fn(&str) -> Option<OsString>) -> Result<Config, UsageError> {
    OPTIONS.iter().try_fold(Config::new(), |config, option| {
        let name = option.env();
        match get(&name) {
            None => Ok(config),
            Some(text) => option.apply(config, &name, &utf8(text, &name)?),
        }
    })
}

/// Reads a command line; `get` looks environment variables up. The command line wins.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    get: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut given = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| usage(&error))? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Print(help())),
            Short('V') | Long("version") => return Ok(Command::Print(version())),
            Short(short) => given.push(take(&mut parser, |option| option.short == Some(short), &format!("-{short}"))?),
            Long(long) => {
                let long = long.to_owned();
                given.push(take(&mut parser, |option| option.long == long, &format!("--{long}"))?);
            }
            Value(value) => return Err(UsageError(format!("{value:?} is no option; esker takes only options"))),
        }
    }
    // An option that repeats in the environment's list is replaced by the command line's, not added to.
    let is_given = |name: &str| given.iter().any(|(option, _): &(&Opt, String)| option.env() == name);
    let config = with_environment(|name| if is_given(name) { None } else { get(name) })?;
    let config = given
        .iter()
        .try_fold(config, |config, (option, text)| option.apply(config, &format!("--{}", option.long), text))?;
    Ok(Command::Run(Box::new(config)))
}

fn take(
    parser: &mut lexopt::Parser,
    is_it: impl Fn(&Opt) -> bool,
    name: &str,
) -> Result<(&'static Opt, String), UsageError> {
    let option =
        OPTIONS.iter().find(|option| is_it(option)).ok_or_else(|| UsageError(format!("there is no option {name}")))?;
    let text = match option.effect {
        Effect::Switch(_) => "true".to_owned(),
        Effect::Value(_) => parser.value().and_then(|value| value.string()).map_err(|error| usage(&error))?,
    };
    Ok((option, text))
}

fn usage(error: &lexopt::Error) -> UsageError {
    UsageError(error.to_string())
}

fn utf8(text: OsString, name: &str) -> Result<String, UsageError> {
    text.into_string().map_err(|_| UsageError(format!("{name} is not UTF-8")))
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "give a whole number".into())
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("give true or false".into()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let millis = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    scaled(text, &millis, 31_536_000_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "give a number with ms, s, m or h, such as 15s, of at most a year".into())
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("", 1)];
    scaled(text, &bytes, 1 << 50)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| "give a number of bytes, or one with K, M or G, such as 64M".into())
}

/// A whole number and one of these units, not more than `max`.
fn scaled(text: &str, units: &[(&str, u64)], max: u64) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (_, scale) = units.iter().find(|(unit, _)| *unit == &text[digits..])?;
    let value = text[..digits].parse::<u64>().ok()?.checked_mul(*scale)?;
    (value <= max).then_some(value)
}

fn version() -> String {
    format!("esker {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`; it fits a screen of 80 columns.
pub fn help() -> String {
    let mut text = String::from(
        "esker: a server-sent-events broker\n\n\
         POST /publish/{topic} an event, and every GET /subscribe/{topic} gets it.\n\n\
         Usage: esker [OPTION]…\n\n",
    );
    for option in OPTIONS {
        let short = option.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
        let name = format!("{short}--{} {}", option.long, option.value);
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {name:<32}{} [{}]", option.help, option.default);
    }
    text.push_str(
        "  -h, --help                      print this\n  -V, --version                   print the version\n\n\
         TIME takes ms s m h, SIZE takes K M G. Every option has an environment twin\n\
         (--history-age: ESKER_HISTORY_AGE); the command line wins. ESKER_LOG or\n\
         RUST_LOG sets the log level: error, warn, info, debug.\n",
    );
    text
}

/// The README's table of options, in Markdown.
pub fn table() -> String {
    let mut text = String::from("| option | default | meaning |\n|---|---|---|\n");
    for option in OPTIONS {
        let short = option.short.map_or(String::new(), |short| format!("-{short} "));
        let value = if option.value.is_empty() { String::new() } else { format!(" {}", option.value) };
        let _ = writeln!(
            text,
            "| `{short}--{}{value}` | {} | {} |",
            option.long,
            option.default.replace('*', "`*`"),
            option.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<String, String> {
        let get = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        match parse(arguments.iter().map(OsString::from), get) {
            Ok(Command::Run(config)) => Ok(format!("{config:?}")),
            Ok(Command::Print(text)) => Ok(text),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let config = run(
            &["-p", "81", "--heartbeat=5s"],
            &[("ESKER_PORT", "80"), ("ESKER_HISTORY", "7"), ("ESKER_NO_AUTH", "1")],
        );
        let config = config.unwrap();
        assert!(config.contains("port: Some(81)") && config.contains("heartbeat: 5s") && config.contains("history: 7"));
        assert!(config.contains("no_auth: true"));
    }

    #[test]
    fn origins_add_up_on_one_side_and_replace_the_other() {
        let both = run(&["--origin", "http://a", "--origin", "http://b"], &[("ESKER_ORIGIN", "http://c")]).unwrap();
        assert!(both.contains(r#"origins: ["http://a", "http://b"]"#), "{both}");
        let listed = run(&[], &[("ESKER_ORIGIN", "http://c, http://d")]).unwrap();
        assert!(listed.contains(r#"origins: ["http://c", "http://d"]"#), "{listed}");
    }

    #[test]
    fn wrong_usage_says_what_would_be_right() {
        for (arguments, part) in [
            (&["--nonsense"][..], "no option --nonsense"),
            (&["-x"], "no option -x"),
            (&["--port"], "missing argument"),
            (&["--port", "99999"], "0 to 65535"),
            (&["--heartbeat", "15"], "such as 15s"),
            (&["--history-bytes", "1T"], "such as 64M"),
            (&["extra"], "takes only options"),
            (&["--no-auth=x"], "no-auth"),
        ] {
            let error = run(arguments, &[]).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
        assert!(run(&[], &[("ESKER_STALL", "soon")]).unwrap_err().contains("ESKER_STALL"));
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!((size("64M"), size("10"), size("1G")), (Ok(64 << 20), Ok(10), Ok(1 << 30)));
        for bad in ["", "s", "1.5s", "-1s", "1 s", "99999999999999999999s", "1d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn help_fits_a_screen() {
        assert!(help().lines().count() <= 40);
        assert!(help().lines().all(|line| line.chars().count() <= 80), "{}", help());
    }

    #[test]
    fn the_readme_has_this_table() {
        let readme = include_str!("../README.md");
        assert!(readme.contains(&table()), "README.md should have:\n{}", table());
    }
}
