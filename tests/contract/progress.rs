//! The progress of commands on records: shown on a terminal, and nowhere else.

use std::fs::File;
use std::process::{Command, Stdio};

use super::support::{TempDir, command, finish, run_on_terminal};

/// A data directory with three records, and their lines.
struct Records {
    dir: TempDir,
    lines: String,
}

impl Records {
    fn new() -> Self {
        let line = |id: u64| format!("{{\"id\":\"{id}\",\"event\":\"n{id}\",\"data\":[{id}]}}\n");
        let records = Self { dir: TempDir::new(), lines: (1..=3).map(line).collect() };
        std::fs::write(records.dir.path.join("lines"), &records.lines).expect("a file can be written");
        let loaded = records.load("data", "xterm").output().expect("it runs");
        assert!(loaded.status.success(), "{loaded:?}");
        records
    }

    fn command(&self, tool: &str, directory: &str, terminal: &str) -> Command {
        let mut command = command(&[("TERM", terminal)]);
        command.arg(tool).arg(self.dir.path.join(directory));
        command
    }

    fn load(&self, directory: &str, terminal: &str) -> Command {
        let mut command = self.command("load", directory, terminal);
        command.stdin(File::open(self.dir.path.join("lines")).expect("it can be read"));
        command
    }
}

/// Runs a command whose standard error alone is a terminal.
fn show(mut command: Command) -> String {
    let (status, shown) = run_on_terminal(&mut command, |command, terminal| {
        command.stdout(Stdio::null()).stderr(terminal);
    });
    assert!(status.success(), "{shown}");
    shown
}

/// Checks that the parts are shown in this order, and that the last line is the summary, after everything else was cleared.
fn assert_shows(shown: &str, parts: &[&str], summary: &str) {
    let mut rest = shown;
    for part in parts {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} is missing or too early: {shown:?}"));
        rest = after;
    }
    assert!(rest.ends_with(&format!("\r\x1b[2K{summary}\r\n")), "{shown:?}");
}

#[test]
fn a_terminal_shows_how_far_a_command_is() {
    let records = Records::new();
    let bytes = format!("/{} B (", records.lines.len());
    assert_shows(
        &show(records.load("other", "xterm")),
        &["opening the store", "importing records [", &bytes, "completing the index"],
        "records imported: 3",
    );
    assert_shows(
        &show(records.command("dump", "data", "xterm")),
        &["counting records", "exporting records [", "/3 ("],
        "records exported: 3",
    );
    assert_shows(
        &show(records.command("check", "data", "xterm")),
        &[
            "checking the pages",
            "counting records",
            "comparing the index",
            "finding the newest",
            "checking records [",
            "/3 (",
        ],
        "records: 3, names: 3, newest id: 3; no problems found",
    );
    let mut named = records.command("dump", "data", "xterm");
    named.args(["--event", "n2"]);
    assert_shows(&show(named), &["exporting records [", "/1 ("], "records exported: 1");
    let mut erase = records.command("erase", "other", "xterm");
    erase.args(["--event", "n2"]);
    assert_shows(
        &show(erase),
        &["removing versions: 0 (", "clearing the pages of the database ["],
        "versions erased: 1",
    );
}

/// The length of a pipe is unknown.
#[test]
fn records_from_a_pipe_are_counted() {
    let records = Records::new();
    let mut load = records.command("load", "other", "xterm");
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
    std::io::Write::write_all(&mut writer, records.lines.as_bytes()).expect("it has room");
    drop(writer);
    load.stdin(reader);
    assert_shows(&show(load), &["importing records: 0 (", "completing"], "records imported: 3");
}

#[test]
fn nothing_but_the_summary_is_shown_without_a_terminal() {
    let records = Records::new();
    let summary = "records exported: 3\n";
    let (code, out, err) = finish(&mut records.command("dump", "data", "xterm"));
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), records.lines.as_str(), summary));
    let shown = show(records.command("dump", "data", "dumb"));
    assert_eq!(shown.replace('\r', ""), summary, "such a terminal can't overwrite a line");
}

#[test]
fn a_quiet_command_shows_errors_only() {
    let records = Records::new();
    for (mut quiet, option) in [
        (records.load("other", "xterm"), "-q"),
        (records.command("dump", "data", "xterm"), "--quiet"),
        (records.command("check", "data", "xterm"), "-q"),
    ] {
        quiet.arg(option);
        assert_eq!(show(quiet), "");
    }
    let mut again = records.load("data", "xterm");
    let (status, shown) = run_on_terminal(again.arg("-q"), |command, terminal| {
        command.stderr(terminal);
    });
    assert_eq!(status.code(), Some(1));
    assert!(shown.starts_with("esker: line 1: id 1 is not larger"), "{shown:?}");
}

#[test]
fn a_dump_to_a_terminal_is_not_mixed_with_progress() {
    let records = Records::new();
    let mut dump = records.command("dump", "data", "xterm");
    let (status, shown) = run_on_terminal(&mut dump, |command, terminal| {
        command.stdout(terminal).stderr(Stdio::null());
    });
    assert!(status.success());
    assert_eq!(shown.replace('\r', ""), records.lines);
}
