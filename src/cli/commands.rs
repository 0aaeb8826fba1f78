//! The table of commands beside running a broker: what the manual and the completions say of them. What each takes is
//! read by its own file; a test holds this table against the help texts there.

/// What follows `esker` where no broker is to run.
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// What it takes that is no option; empty for nothing.
    pub(super) operand: &'static str,
    /// In a few words.
    pub(super) help: &'static str,
    /// For the manual.
    pub(super) about: &'static str,
    /// Each by its long name, what it takes, and what for.
    pub(super) options: &'static [(&'static str, &'static str, &'static str)],
}

pub(super) const COMMANDS: &[Entry] = &[
    Entry {
        name: "token",
        operand: "",
        help: "creates a token",
        about: "Creates a token, signs it (HS256) with ESKER_PUBLISHER_SECRET or ESKER_SUBSCRIBER_SECRET, and \
                prints it. NAME is a topic, a topic prefix such as 'news*', '*' for everything, events for /events, \
                /insert and /audit, or stats (--publish) for /stats and /metrics.",
        options: &[
            ("publish", "NAME", "allow publishing to this topic; repeatable"),
            ("subscribe", "NAME", "allow subscribing to this topic; repeatable"),
            ("ttl", "TIME", "lifetime of the token; 1h by default"),
        ],
    },
    Entry {
        name: "check",
        operand: "DIR",
        help: "checks the records for damage",
        about: "Checks all records in the data directory DIR for damage. No broker may be running on it.",
        options: &[],
    },
    Entry {
        name: "dump",
        operand: "DIR",
        help: "exports records as JSON lines",
        about: "Writes the records in the data directory DIR to standard output as JSON lines, oldest first. A \
                broker may be running on it.",
        options: &[("event", "NAME", "export only the records with this name")],
    },
    Entry {
        name: "load",
        operand: "DIR",
        help: "imports records",
        about: "Imports the output of esker dump from standard input into the data directory DIR, keeping the ids. \
                No broker may be running on it.",
        options: &[],
    },
    Entry {
        name: "health",
        operand: "URL",
        help: "checks the health of a broker",
        about: "Requests /healthz and exits with 0 if the broker accepts all requests, including inserts. Without \
                URL, the address comes from the environment: ESKER_ADMIN if it is set, otherwise the address the \
                broker listens on. URL is http://IP:PORT, IP:PORT or unix:/PATH.",
        options: &[("live", "", "request /livez instead: is the broker running, even if its disk is full?")],
    },
    Entry {
        name: "man",
        operand: "",
        help: "prints this manual as a man page",
        about: "Prints this manual as a man page.",
        options: &[],
    },
    Entry {
        name: "completions",
        operand: "SHELL",
        help: "prints shell completions",
        about: "Prints completions for bash, zsh or fish.",
        options: &[],
    },
];

/// The shells that `esker completions` knows.
pub(super) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// What a value is completed with, which its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no value.
    Nothing,
    /// Nothing to propose.
    Text,
    File,
    Directory,
    Shell,
}

impl Kind {
    pub(super) fn of(value: &str) -> Self {
        match value {
            "" => Self::Nothing,
            "FILE" => Self::File,
            "DIR" => Self::Directory,
            "SHELL" => Self::Shell,
            _ => Self::Text,
        }
    }
}
