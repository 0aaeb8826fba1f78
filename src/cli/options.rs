//! The table of options: the name of each, its value, its help text and its effect. `--help` is generated from it. A test
//! compares it with the table in `src/guide/options.md`.

use std::fmt::Write as _;

use super::UsageError;
use super::nearest::did_you_mean;
use super::values::{parse_address, parse_boolean, parse_duration, parse_mode, parse_number, parse_size};
use crate::config::Config;
use crate::engine::ParseAckError;
use crate::http::access_log::AccessLogFormat;
use crate::logging::LogFormat;

/// What options set: the broker's configuration, and the formats of both logs.
pub(super) struct Choices {
    pub(super) config: Config,
    pub(super) log_format: LogFormat,
    pub(super) access_log: Option<AccessLogFormat>,
}

impl Choices {
    pub(super) fn new(config: Config) -> Self {
        Self { config, log_format: LogFormat::default(), access_log: None }
    }
}

/// What an option sets, and how.
pub(super) enum Effect {
    /// The option takes no value.
    Switch(fn(Config, bool) -> Config),
    /// The option takes a value.
    Value(fn(Config, &str) -> Result<Config, String>),
    /// The option takes the format of the log, which is not part of the library's configuration, because an embedding program
    /// has its own logger.
    LogFormat(fn(&str) -> Result<LogFormat, String>),
    /// The option takes the format of the access log, which an embedding program sets together with where the lines go.
    AccessLog(fn(&str) -> Result<AccessLogFormat, String>),
}

/// An option.
pub(super) struct Opt {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    /// The name of the value. Empty for a switch.
    pub(super) value: &'static str,
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    pub(super) effect: Effect,
}

pub(super) const OPTIONS: &[Opt] = &[
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
        help: "port; 0 picks a free one; also PORT",
        effect: Effect::Value(|config, text| {
            text.parse().map(|port| config.port(port)).map_err(|_| "give a port from 0 to 65535".into())
        }),
    },
    Opt {
        long: "listen",
        short: None,
        value: "ADDR",
        default: "bind:port",
        help: "IP:PORT or unix:/PATH; repeatable",
        effect: Effect::Value(|config, text| {
            text.split(',')
                .try_fold(config, |config, one| parse_address(one.trim()).map(|address| config.listen(address)))
        }),
    },
    Opt {
        long: "unix-mode",
        short: None,
        value: "MODE",
        default: "660",
        help: "octal file mode of Unix sockets",
        effect: Effect::Value(|config, text| parse_mode(text).map(|mode| config.unix_mode(mode))),
    },
    Opt {
        long: "admin",
        short: None,
        value: "ADDR",
        default: "none",
        help: "address for metrics, topics and health",
        effect: Effect::Value(|config, text| parse_address(text).map(|address| config.admin(address))),
    },
    Opt {
        long: "threads",
        short: Some('t'),
        value: "N",
        default: "cores",
        help: "number of worker threads",
        effect: Effect::Value(|config, text| parse_number(text).map(|threads| config.threads(threads))),
    },
    Opt {
        long: "no-auth",
        short: None,
        value: "",
        default: "off",
        help: "accept requests without tokens",
        effect: Effect::Switch(Config::no_auth),
    },
    Opt {
        long: "no-console",
        short: None,
        value: "",
        default: "off",
        help: "don't serve the console at GET /",
        effect: Effect::Switch(Config::no_console),
    },
    Opt {
        long: "publisher-key",
        short: None,
        value: "FILE",
        default: "none",
        help: "PEM key or JWK Set: publisher tokens",
        effect: Effect::Value(|config, text| Ok(config.publisher_key(text))),
    },
    Opt {
        long: "subscriber-key",
        short: None,
        value: "FILE",
        default: "none",
        help: "PEM key or JWK Set: subscriber tokens",
        effect: Effect::Value(|config, text| Ok(config.subscriber_key(text))),
    },
    Opt {
        long: "leeway",
        short: None,
        value: "TIME",
        default: "5s",
        help: "accept tokens TIME before their nbf",
        effect: Effect::Value(|config, text| parse_duration(text).map(|time| config.leeway(time))),
    },
    Opt {
        long: "audience",
        short: None,
        value: "NAME",
        default: "esker",
        help: "`aud` of tokens that have one",
        effect: Effect::Value(|config, text| Ok(config.audience(text))),
    },
    Opt {
        long: "issuer",
        short: None,
        value: "URL",
        default: "any",
        help: "required `iss` of tokens",
        effect: Effect::Value(|config, text| Ok(config.issuer(text))),
    },
    Opt {
        long: "topics-claim",
        short: None,
        value: "NAME",
        default: "topics",
        help: "claim that lists a token's topics",
        effect: Effect::Value(|config, text| Ok(config.topics_claim(text))),
    },
    Opt {
        long: "origin",
        short: None,
        value: "O",
        default: "*, no-auth: local",
        help: "allowed origin; repeatable",
        effect: Effect::Value(|config, text| Ok(text.split(',').fold(config, |config, one| config.origin(one.trim())))),
    },
    Opt {
        long: "data",
        short: None,
        value: "DIR",
        default: "esker-data",
        help: "data directory, or :memory:",
        effect: Effect::Value(|config, text| Ok(config.data(text))),
    },
    Opt {
        long: "latest-bytes",
        short: None,
        value: "SIZE",
        default: "1G",
        help: "total memory for the newest records",
        effect: Effect::Value(|config, text| parse_size(text).map(|bytes| config.latest_bytes(bytes))),
    },
    Opt {
        long: "versions",
        short: None,
        value: "N",
        default: "all",
        help: "versions kept of each record name",
        effect: Effect::Value(|config, text| parse_number(text).map(|versions| config.versions(versions as u64))),
    },
    Opt {
        long: "versions-age",
        short: None,
        value: "TIME",
        default: "off",
        help: "age at which old versions are removed",
        effect: Effect::Value(|config, text| parse_duration(text).map(|age| config.versions_age(age))),
    },
    Opt {
        long: "history",
        short: None,
        value: "N",
        default: "256",
        help: "events retained per topic",
        effect: Effect::Value(|config, text| parse_number(text).map(|events| config.history(events))),
    },
    Opt {
        long: "history-age",
        short: None,
        value: "TIME",
        default: "10m",
        help: "age at which events are evicted",
        effect: Effect::Value(|config, text| parse_duration(text).map(|age| config.history_age(age))),
    },
    Opt {
        long: "history-bytes",
        short: None,
        value: "SIZE",
        default: "256M",
        help: "total memory for retained events",
        effect: Effect::Value(|config, text| parse_size(text).map(|bytes| config.history_bytes(bytes))),
    },
    Opt {
        long: "engine",
        short: None,
        value: "URL",
        default: "none",
        help: "Redis or Valkey shared by brokers",
        effect: Effect::Value(|config, text| Ok(config.engine(text))),
    },
    Opt {
        long: "engine-ack",
        short: None,
        value: "MODE",
        default: "fsync or reply",
        help: "reply, fsync or replicas:N",
        effect: Effect::Value(|config, text| {
            text.parse().map(|mode| config.engine_ack(mode)).map_err(|error: ParseAckError| error.to_string())
        }),
    },
    Opt {
        long: "engine-prefix",
        short: None,
        value: "TEXT",
        default: "{esker}",
        help: "prefix of all keys in the engine",
        effect: Effect::Value(|config, text| Ok(config.engine_prefix(text))),
    },
    Opt {
        long: "engine-records",
        short: None,
        value: "SIZE",
        default: "1G",
        help: "memory for records in the engine",
        effect: Effect::Value(|config, text| parse_size(text).map(|bytes| config.engine_records(bytes))),
    },
    Opt {
        long: "engine-ca",
        short: None,
        value: "FILE",
        default: "system's",
        help: "PEM CA certificates for rediss://",
        effect: Effect::Value(|config, text| Ok(config.engine_ca(text))),
    },
    Opt {
        long: "heartbeat",
        short: None,
        value: "TIME",
        default: "15s",
        help: "idle time before a comment is sent",
        effect: Effect::Value(|config, text| parse_duration(text).map(|silence| config.heartbeat(silence))),
    },
    Opt {
        long: "retry",
        short: None,
        value: "TIME",
        default: "3s",
        help: "reconnection time for clients, ±33 %",
        effect: Effect::Value(|config, text| parse_duration(text).map(|retry| config.retry(retry))),
    },
    Opt {
        long: "stall",
        short: None,
        value: "TIME",
        default: "60s",
        help: "close a stalled connection after TIME",
        effect: Effect::Value(|config, text| parse_duration(text).map(|stall| config.stall(stall))),
    },
    Opt {
        long: "max-stream-age",
        short: None,
        value: "TIME",
        default: "off",
        help: "end streams after 80 to 100 % of TIME",
        effect: Effect::Value(|config, text| parse_duration(text).map(|age| config.max_stream_age(age))),
    },
    Opt {
        long: "drain",
        short: None,
        value: "TIME",
        default: "0s",
        help: "when stopping, end streams over TIME",
        effect: Effect::Value(|config, text| parse_duration(text).map(|time| config.drain(time))),
    },
    Opt {
        long: "request-timeout",
        short: None,
        value: "TIME",
        default: "10s",
        help: "time limit for headers; stalled body ×3",
        effect: Effect::Value(|config, text| parse_duration(text).map(|timeout| config.request_timeout(timeout))),
    },
    Opt {
        long: "keep-alive",
        short: None,
        value: "TIME",
        default: "650s",
        help: "close an idle connection after TIME",
        effect: Effect::Value(|config, text| parse_duration(text).map(|time| config.keep_alive(time))),
    },
    Opt {
        long: "max-body",
        short: None,
        value: "SIZE",
        default: "1M",
        help: "maximum size of a request body",
        effect: Effect::Value(|config, text| parse_size(text).map(|bytes| config.max_body(bytes))),
    },
    Opt {
        long: "max-topics",
        short: None,
        value: "N",
        default: "1000000",
        help: "maximum number of topics",
        effect: Effect::Value(|config, text| parse_number(text).map(|topics| config.max_topics(topics))),
    },
    Opt {
        long: "max-subscribers",
        short: None,
        value: "N",
        default: "connections minus 64",
        help: "maximum open streams",
        effect: Effect::Value(|config, text| parse_number(text).map(|subscribers| config.max_subscribers(subscribers))),
    },
    Opt {
        long: "max-subscribers-per-sub",
        short: None,
        value: "N",
        default: "off",
        help: "maximum open streams per token `sub`",
        effect: Effect::Value(|config, text| {
            parse_number(text).map(|subscribers| config.max_subscribers_per_sub(subscribers))
        }),
    },
    Opt {
        long: "max-connections",
        short: None,
        value: "N",
        default: "descriptor limit",
        help: "maximum open connections",
        effect: Effect::Value(|config, text| parse_number(text).map(|connections| config.max_connections(connections))),
    },
    Opt {
        long: "max-connections-per-ip",
        short: None,
        value: "N",
        default: "off",
        help: "maximum open connections per IP address",
        effect: Effect::Value(|config, text| {
            parse_number(text).map(|connections| config.max_connections_per_ip(connections))
        }),
    },
    Opt {
        long: "trusted-proxy",
        short: None,
        value: "CIDR",
        default: "none",
        help: "use its X-Forwarded-For; repeatable",
        effect: Effect::Value(|config, text| {
            Ok(text.split(',').fold(config, |config, one| config.trusted_proxy(one.trim())))
        }),
    },
    Opt {
        long: "publish-rate",
        short: None,
        value: "N",
        default: "off",
        help: "maximum events per second per publisher",
        effect: Effect::Value(|config, text| parse_number(text).map(|events| config.publish_rate(events))),
    },
    Opt {
        long: "publish-burst",
        short: None,
        value: "N",
        default: "10 s of rate",
        help: "burst size for --publish-rate",
        effect: Effect::Value(|config, text| parse_number(text).map(|events| config.publish_burst(events))),
    },
    Opt {
        long: "log-format",
        short: None,
        value: "FORMAT",
        default: "text",
        help: "log format: text or json",
        effect: Effect::LogFormat(str::parse),
    },
    Opt {
        long: "access-log",
        short: None,
        value: "FORMAT",
        default: "off",
        help: "requests on stdout: common or json",
        effect: Effect::AccessLog(str::parse),
    },
];

impl Opt {
    /// Returns the name of the option's environment variable.
    pub(super) fn env(&self) -> String {
        format!("ESKER_{}", self.long.replace('-', "_").to_ascii_uppercase())
    }

    /// Applies a value. `name` is the option or variable that it came from, for the error message.
    pub(super) fn apply(&self, choices: Choices, name: &str, text: &str) -> Result<Choices, UsageError> {
        let applied = match self.effect {
            Effect::Switch(switch) => {
                parse_boolean(text).map(|on| Choices { config: switch(choices.config, on), ..choices })
            }
            Effect::Value(value) => value(choices.config, text).map(|config| Choices { config, ..choices }),
            Effect::LogFormat(format) => format(text).map(|log_format| Choices { log_format, ..choices }),
            Effect::AccessLog(format) => format(text).map(|format| Choices { access_log: Some(format), ..choices }),
        };
        applied.map_err(|advice| {
            let hint = did_you_mean(self.find_sibling(name, text));
            UsageError::new(format!("{name} can't be {text:?}: {advice}{hint}"))
        })
    }

    /// Returns an option that would accept this value and whose name begins with this option's name, together with the value:
    /// `--history-age 10s` for `--history 10s`.
    fn find_sibling(&self, name: &str, text: &str) -> Option<String> {
        let accepts = |option: &&Opt| {
            let is_longer = option.long.strip_prefix(self.long).is_some_and(|rest| rest.starts_with('-'));
            is_longer && matches!(option.effect, Effect::Value(value) if value(Config::new(), text).is_ok())
        };
        let option = OPTIONS.iter().find(accepts)?;
        Some(match name.strip_prefix("--") {
            Some(_) => format!("--{} {text}", option.long),
            None => format!("{}={text}", option.env()),
        })
    }
}

/// Returns the text of `--help`, which fits a screen of 80 columns.
pub(super) fn help_text() -> String {
    let mut text = String::from(
        "esker: a server-sent-events broker\n\n\
         Events sent to POST /publish/{topic} reach clients of GET /subscribe/{topic}.\n\n\
         Usage: esker [OPTION]…\n       \
         esker token …  create a token (esker token --help)\n       \
         esker check|dump|load|erase DIR|URL  manage records (see check --help)\n       \
         esker engine ACTION [URL]  show, upgrade an engine (esker engine --help)\n       \
         esker health [URL]  check the health of a broker (esker health --help)\n       \
         esker man, esker completions SHELL  print the manual, shell completions\n\n",
    );
    for option in OPTIONS {
        let short = option.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
        let name = format!("{short}--{} {}", option.long, option.value);
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {name:<32}{} [{}]", option.help, option.default);
    }
    text.push_str(
        "  -h, --help                      print this help\n  -V, --version                   print the version\n\n\
         Instead of key files, ESKER_PUBLISHER_SECRET and ESKER_SUBSCRIBER_SECRET can\n\
         hold HMAC secrets of at least 32 bytes, or with _FILE added, name files with\n\
         secrets. SIGHUP reloads secret files and key files.\n\
         With --no-auth, only web pages from this machine have access; --origin '*'\n\
         allows all. TIME takes ms s m h, SIZE takes K M G. Every option has an\n\
         environment variable (--history-age: ESKER_HISTORY_AGE); the command line\n\
         takes precedence. ESKER_LOG or RUST_LOG sets the log level: off, error,\n\
         warn, info, debug.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the table of options in the format of `src/guide/options.md`.
    fn table() -> String {
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

    #[test]
    fn help_fits_a_screen_of_80_columns() {
        assert!(help_text().lines().count() <= 68);
        assert!(help_text().lines().all(|line| line.chars().count() <= 80), "{}", help_text());
    }

    #[test]
    fn the_guide_lists_every_option() {
        let page = include_str!("../guide/options.md");
        assert!(page.contains(&table()), "src/guide/options.md should have:\n{}", table());
    }
}
