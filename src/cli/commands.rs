//! The table of commands other than running a broker, for the manual and the shell completions. The file of each command
//! parses its arguments; a test compares this table with the help texts there.

/// A command other than running a broker.
pub(super) struct CommandSpec {
    pub(super) name: &'static str,
    /// The name of the operand. Empty if there is none.
    pub(super) operand: &'static str,
    /// A few words for the completions.
    pub(super) help: &'static str,
    /// The text for the manual.
    pub(super) about: &'static str,
    /// The options: long name, name of the value, and help text.
    pub(super) options: &'static [(&'static str, &'static str, &'static str)],
}

/// Options of commands on an engine.
const PREFIX: (&str, &str, &str) = ("engine-prefix", "TEXT", "prefix of all keys in the engine; {esker} by default");
const CA: (&str, &str, &str) = ("engine-ca", "FILE", "PEM CA certificates for rediss://");
/// An option of commands that take long.
const QUIET: (&str, &str, &str) = ("quiet", "", "show no progress and no summary, only errors");

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "token",
        operand: "",
        help: "creates a token",
        about: "Creates a token, signs it (HS256) with ESKER_PUBLISHER_SECRET or ESKER_SUBSCRIBER_SECRET, or with the \
                secret in the file that ESKER_PUBLISHER_SECRET_FILE or ESKER_SUBSCRIBER_SECRET_FILE names, and prints \
                it. NAME is a topic, a topic prefix such as 'news*', '*' for everything, events for /events, \
                /insert and /audit, or, with --publish, stats for /stats, /metrics and /topics, or revoke for /revoke.",
        options: &[
            ("publish", "NAME", "allow publishing to this topic; repeatable"),
            ("subscribe", "NAME", "allow subscribing to this topic; repeatable"),
            ("ttl", "TIME", "lifetime of the token; 1h by default"),
        ],
    },
    CommandSpec {
        name: "check",
        operand: "DIR|URL",
        help: "checks the records for damage",
        about: "Checks all records for damage: those in the data directory DIR, on which no broker may be running, or \
                those in the engine at URL.",
        options: &[QUIET, PREFIX, CA],
    },
    CommandSpec {
        name: "dump",
        operand: "DIR|URL",
        help: "exports records as JSON lines",
        about: "Writes the records in the data directory DIR, or in the engine at URL, to standard output as JSON \
                lines, oldest first. Brokers may be running.",
        options: &[("event", "NAME", "export only the records with this name"), QUIET, PREFIX, CA],
    },
    CommandSpec {
        name: "load",
        operand: "DIR|URL",
        help: "imports records",
        about: "Imports the output of esker dump from standard input into the data directory DIR, or into the engine \
                at URL, keeping the ids. No broker may be running on it.",
        options: &[QUIET, PREFIX, ("engine-records", "SIZE", "memory for records in the engine; 1G by default"), CA],
    },
    CommandSpec {
        name: "erase",
        operand: "DIR|URL",
        help: "erases versions of a record",
        about: "Erases versions of a record in the data directory DIR, on which no broker may be running, and clears their \
                text from all files there, as DELETE /audit/NAME does while a broker is running. Backups and dumps \
                still contain them. With URL, erases them in the engine, and clears their text from its memory, but \
                not from its files. Also completes an erasure that a broker has begun.",
        options: &[
            ("event", "NAME", "the name of the record"),
            ("before", "ID", "erase only versions with a smaller id; by default all"),
            PREFIX,
            CA,
            QUIET,
        ],
    },
    CommandSpec {
        name: "engine",
        operand: "ACTION",
        help: "shows and upgrades an engine",
        about: "esker engine status URL prints the state of an engine, its log and its brokers. esker engine raise URL \
                raises the format of the log to the newest one, which allows records, once all brokers are upgraded. \
                Without URL, it comes from ESKER_ENGINE. Exits with 1 if the engine can't be reached or the format \
                can't be raised.",
        options: &[
            ("json", "", "status: print JSON"),
            ("force", "", "raise: even if brokers can't read the newest format"),
            PREFIX,
            CA,
        ],
    },
    CommandSpec {
        name: "health",
        operand: "URL",
        help: "checks the health of a broker",
        about: "Requests /healthz and exits with 0 if the broker accepts all requests, including inserts. Without \
                URL, the address comes from the environment: ESKER_ADMIN if it is set, otherwise the address the \
                broker listens on. URL is http://IP:PORT, IP:PORT or unix:/PATH.",
        options: &[("live", "", "request /livez instead: is the broker running, even if its disk is full?")],
    },
    CommandSpec {
        name: "man",
        operand: "",
        help: "prints this manual as a man page",
        about: "Prints this manual as a man page.",
        options: &[],
    },
    CommandSpec {
        name: "completions",
        operand: "SHELL",
        help: "prints shell completions",
        about: "Prints completions for bash, zsh or fish.",
        options: &[],
    },
];

/// Returns the short name of an option, if it has one.
pub(super) fn short_name(long: &str) -> Option<char> {
    (long == QUIET.0).then_some('q')
}

/// The shells that `esker completions` supports.
pub(super) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// How a shell completes a value. Determined by the value's name in help texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// There is no value.
    Nothing,
    /// The shell has no proposals.
    Text,
    File,
    Directory,
    Shell,
    /// What `esker engine` does.
    Action,
}

impl ValueKind {
    /// Returns the kind of the value with this name.
    pub(super) fn by_name(name: &str) -> Self {
        match name {
            "" => Self::Nothing,
            "FILE" => Self::File,
            "DIR" | "DIR|URL" => Self::Directory,
            "ACTION" => Self::Action,
            "SHELL" => Self::Shell,
            _ => Self::Text,
        }
    }
}
