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
        help: "makes a token",
        about: "Makes a token, signed (HS256) with ESKER_PUBLISHER_SECRET or ESKER_SUBSCRIBER_SECRET, and prints it. \
                NAME is a topic, a prefix of topics such as 'news*', '*' for everything, events for /events, /insert \
                and /audit, or stats (--publish) for /stats and /metrics.",
        options: &[
            ("publish", "NAME", "for publishing to this topic; repeatable"),
            ("subscribe", "NAME", "for subscribing to it; repeatable"),
            ("ttl", "TIME", "how long it is good; 1h unless given"),
        ],
    },
    Entry {
        name: "check",
        operand: "DIR",
        help: "checks all records of a store",
        about: "Checks all that is stored in DIR, while no broker runs on it.",
        options: &[],
    },
    Entry {
        name: "dump",
        operand: "DIR",
        help: "writes records as JSON lines",
        about: "Writes the records of DIR as JSON lines to standard output, oldest first; a broker may run on it.",
        options: &[("event", "NAME", "only the records of this name")],
    },
    Entry {
        name: "load",
        operand: "DIR",
        help: "reads records back",
        about: "Reads lines that esker dump wrote from standard input into DIR, with their ids, while no broker runs \
                on it.",
        options: &[],
    },
    Entry {
        name: "health",
        operand: "URL",
        help: "asks a broker whether it is well",
        about: "Asks a broker's /healthz, and exits with 0 if it accepts everything, records included. \
                Without URL it asks the broker that the environment variables describe: at ESKER_ADMIN, else where it \
                listens. URL is http://IP:PORT, \
                IP:PORT or unix:/PATH.",
        options: &[("live", "", "ask /livez instead: whether it runs, full disk or not")],
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
        help: "prints completions for a shell",
        about: "Prints completions for a shell: bash, zsh or fish.",
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
