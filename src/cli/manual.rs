//! `esker man`: the manual as a man page, made of the tables of options and commands.

use std::fmt::Write as _;

use super::commands::{COMMANDS, Entry};
use super::options::{OPTIONS, Opt};

/// When the words of this page were last changed.
const REVISED: &str = "2026-11-28";

const DESCRIPTION: &[&str] = &[
    "A server-sent-events broker: POST an event to /publish/TOPIC, and every browser, curl or service that listens at \
     /subscribe/TOPIC gets it at once, in order, and after a broken connection exactly from where it was. Records that \
     are posted to /insert are stored for good; /events and /audit/NAME show them.",
    "Who publishes or subscribes must show a token, unless --no-auth is given. The broker refuses to start if it has \
     neither that option nor the keys to verify tokens with.",
];

const VARIABLES: &[(&str, &str)] = &[
    ("ESKER_PUBLISHER_SECRET, ESKER_SUBSCRIBER_SECRET", "HMAC secrets of at least 32 bytes, instead of key files."),
    (
        "PORT",
        "The port, if neither --port nor ESKER_PORT is given. A value such as tcp://10.96.0.17:3000, which Kubernetes sets for \
         a service of this name, is ignored, and so is one of ESKER_PORT.",
    ),
    (
        "ESKER_LOG, RUST_LOG",
        "The log level: off, error, warn, info (the default) or debug; info,esker::store=debug also sets that of one target. \
         RUST_LOG is used if ESKER_LOG is not set; whatever is not understood in it is ignored. The log goes to standard \
         error. Lines that nobody reads are dropped and counted; they never block the broker.",
    ),
    ("NOTIFY_SOCKET", "Where systemd is told that the broker is ready, reloads or stops."),
    (
        "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES",
        "Sockets that systemd has opened for it; one called admin is for --admin.",
    ),
];

const FILES: &[(&str, &str)] = &[
    ("esker-data/records.db", "The records, a SQLite database; elsewhere with --data."),
    ("FILE.previous", "Beside a key file: the key before it, whose tokens are still accepted."),
    ("/etc/default/esker", "Variables for the service, where it is installed as a package."),
    ("/etc/esker/secrets.env", "The service's secrets, made when the package is installed."),
    ("/var/lib/esker", "The service's records."),
];

const STATUSES: &[(&str, &str)] = &[
    ("0", "Done: what was asked for, or after a signal all that was to be done."),
    ("1", "It could not be done, or a second signal came."),
    ("2", "Wrong usage."),
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "Ends the streams, answers what is being asked and stops, within 10 seconds. A second one stops at once.",
    ),
    ("SIGHUP", "Reads key files again."),
    ("SIGXFSZ", "Ignored: a write beyond a file size limit fails, as on a full disk."),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("A broker for a first try:", "esker --no-auth"),
    ("Listening:", "curl -N http://127.0.0.1:3000/subscribe/greeting"),
    ("Publishing:", "curl -d 'data: hello' http://127.0.0.1:3000/publish/greeting"),
    (
        "With tokens:",
        "export ESKER_PUBLISHER_SECRET=$(openssl rand -base64 48)\nexport ESKER_SUBSCRIBER_SECRET=$(openssl rand -base64 48)\nesker --data /srv/esker &\nesker token --subscribe greeting --ttl 8h",
    ),
    ("Is it well?", "esker health"),
];

/// The man page.
pub(super) fn manual() -> String {
    let mut page = format!(
        ".\\\" Made by `esker man`.\n.TH ESKER 1 \"{REVISED}\" \"esker {}\" \"User Commands\"\n.nh\n.ad l\n\
         .SH NAME\nesker \\- server\\-sent\\-events broker\n",
        env!("CARGO_PKG_VERSION")
    );
    synopsis(&mut page);
    section(&mut page, "DESCRIPTION");
    paragraphs(&mut page, DESCRIPTION);
    options(&mut page);
    section(&mut page, "COMMANDS");
    COMMANDS.iter().for_each(|entry| command(&mut page, entry));
    section(&mut page, "ENVIRONMENT");
    list(&mut page, VARIABLES);
    section(&mut page, "FILES");
    list(&mut page, FILES);
    section(&mut page, "EXIT STATUS");
    list(&mut page, STATUSES);
    section(&mut page, "SIGNALS");
    list(&mut page, SIGNALS);
    section(&mut page, "EXAMPLES");
    let example =
        |(what, code): &(&str, &str)| format!("{}\n.PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", filled(what), roff(code));
    page.push_str(&EXAMPLES.iter().map(example).collect::<Vec<_>>().join(".PP\n"));
    page
}

fn section(page: &mut String, title: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(page, ".SH {title}");
}

fn paragraphs(page: &mut String, texts: &[&str]) {
    let paragraphs: Vec<_> = texts.iter().map(|text| filled(text) + "\n").collect();
    page.push_str(&paragraphs.join(".PP\n"));
}

fn list(page: &mut String, entries: &[(&str, &str)]) {
    for (name, text) in entries {
        item(page, &format!("\\fB{}\\fR", roff(name)), text);
    }
}

/// A tagged paragraph; its head is roff already.
fn item(page: &mut String, head: &str, text: &str) {
    let _ = write!(page, ".TP\n{head}\n{}\n", filled(text));
}

fn synopsis(page: &mut String) {
    section(page, "SYNOPSIS");
    page.push_str("\\fBesker\\fR [\\fIOPTION\\fR]...\n");
    for entry in COMMANDS {
        let _ = write!(page, ".br\n{}\n", usage(entry));
    }
}

/// How a command is called, in roff.
fn usage(entry: &Entry) -> String {
    let mut text = format!("\\fBesker {}\\fR", entry.name);
    if !entry.operand.is_empty() {
        let (open, close) = if entry.operand == "URL" { ("[", "]") } else { ("", "") };
        let _ = write!(text, " {open}\\fI{}\\fR{close}", entry.operand);
    }
    if !entry.options.is_empty() {
        text.push_str(" [\\fIOPTION\\fR]...");
    }
    text
}

fn options(page: &mut String) {
    section(page, "OPTIONS");
    page.push_str(&filled(
        "TIME takes ms, s, m or h; SIZE takes K, M or G. Every option can be given as a variable of the environment as \
         well, which is named with it; the command line wins. Variables set to nothing count as not set.",
    ));
    page.push('\n');
    for option in OPTIONS {
        let text = format!("{}. Default: {}. Variable: {}.", capitalized(option.help), option.default, option.env());
        item(page, &option_head(option), &text);
    }
    item(page, "\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "Prints all options, or those of a command.");
    item(page, "\\fB\\-V\\fR, \\fB\\-\\-version\\fR", "Prints the version.");
}

fn option_head(option: &Opt) -> String {
    let short = option.short.map_or(String::new(), |short| format!("\\fB\\-{short}\\fR, "));
    format!("{short}{}", long_head(option.long, option.value))
}

fn long_head(long: &str, value: &str) -> String {
    let value = if value.is_empty() { String::new() } else { format!(" \\fI{value}\\fR") };
    format!("\\fB\\-\\-{}\\fR{value}", roff(long))
}

fn command(page: &mut String, entry: &Entry) {
    item(page, &usage(entry), entry.about);
    if entry.options.is_empty() {
        return;
    }
    page.push_str(".RS\n");
    for (long, value, help) in entry.options {
        item(page, &long_head(long, value), &format!("{}.", capitalized(help)));
    }
    page.push_str(".RE\n");
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A paragraph in roff, in lines that an editor shows whole.
fn filled(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace().map(roff) {
        let fits = column + 1 + word.len() <= 78;
        if column > 0 {
            out.push(if fits { ' ' } else { '\n' });
        }
        column = if fits { column + 1 } else { 0 } + word.len();
        out.push_str(&word);
    }
    out
}

/// Text as roff prints it back: nothing in it is a request, an escape or a character that only some terminals have.
fn roff(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        let begins_line = at == 0 || text[..at].ends_with('\n');
        match letter {
            '.' if begins_line => out.push_str("\\&."),
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '±' => out.push_str("\\(+-"),
            '×' => out.push_str("\\(mu"),
            '…' => out.push_str("..."),
            letter if letter.is_ascii() => out.push(letter),
            letter => {
                let _ = write!(out, "\\[u{:04X}]", u32::from(letter));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_takes_nothing_for_its_own() {
        assert_eq!(roff(".x\n'y' \\-é…"), "\\&.x\n\\(aqy\\(aq \\e\\-\\[u00E9]...");
    }

    #[test]
    fn every_option_and_command_is_told() {
        let page = manual();
        assert!(page.is_ascii());
        for option in OPTIONS {
            assert!(page.contains(&option_head(option)), "{}", option.long);
        }
        for entry in COMMANDS {
            assert!(page.contains(&format!("\n.TP\n{}\n", usage(entry))), "{}", entry.name);
        }
    }
}
