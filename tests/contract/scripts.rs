//! The scripts: each explains itself instead of starting, and `scripts/run` takes a newcomer from nothing to a broker.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Broker, Folder, finish};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Executables that nobody starts by hand: dpkg calls some, a guest's kernel one, and `tests/deploy/run` its parts.
const CALLED_BY_OTHERS: [&str; 3] = ["scripts/debian/", "bench/guest-init", "tests/deploy/"];
/// What they need to explain themselves; no more is in their PATH, so that one that starts anyway can't do anything.
const TO_EXPLAIN: [&str; 6] = ["bash", "dirname", "env", "python3", "realpath", "sed"];

/// The executables below a folder.
fn executables(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_executable = |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o111 != 0);
    let inner = folders.iter().filter(|folder| !folder.ends_with("node_modules"));
    inner.flat_map(|folder| executables(folder)).chain(files.into_iter().filter(is_executable)).collect()
}

fn scripts() -> Vec<String> {
    let all =
        ["scripts", "bench", "tests", ".ci"].into_iter().flat_map(|folder| executables(&Path::new(ROOT).join(folder)));
    let names = all.map(|path| path.strip_prefix(ROOT).expect("below it").display().to_string());
    let is_for_people = |name: &String| {
        name == "tests/deploy/run" || !CALLED_BY_OTHERS.iter().any(|beginning| name.starts_with(beginning))
    };
    names.filter(is_for_people).collect()
}

/// A folder of programs, to be a whole PATH.
struct Programs {
    home: Folder,
}

impl Programs {
    fn with(names: &[&str]) -> Self {
        let programs = Self { home: Folder::new() };
        fs::create_dir(programs.folder()).expect("a folder can be made");
        // The system's own first: a version manager's stand-ins need other programs.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = [PathBuf::from("/usr/bin")].into_iter().chain(std::env::split_paths(&path)).collect();
        for name in names {
            let found = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
            symlink(found.expect(name), programs.folder().join(name)).expect("a link can be made");
        }
        programs
    }

    fn folder(&self) -> PathBuf {
        self.home.path.join("bin")
    }

    /// Adds a program that is this bash script.
    fn add(&self, name: &str, script: &str) {
        let file = self.folder().join(name);
        fs::write(&file, format!("#!/usr/bin/env bash\n{script}\n")).expect("a file can be written");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("it can be made executable");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder().join(name)).expect("it is there");
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(Path::new(ROOT).join(script));
        command.env_clear().env("PATH", self.folder()).env("HOME", &self.home.path).current_dir(&self.home.path);
        command.env("CARGO_TARGET_DIR", self.home.path.join("target")).env("ESKER_DATA", ":memory:");
        command.env("ESKER", env!("CARGO_BIN_EXE_esker")).env("BIN", self.folder());
        command
    }
}

#[test]
fn every_script_explains_itself_instead_of_starting() {
    let programs = Programs::with(&TO_EXPLAIN);
    let scripts = scripts();
    assert!(scripts.len() > 20 && scripts.iter().any(|name| name == "scripts/test"), "{scripts:?}");
    for script in scripts {
        for flag in ["--help", "-h"] {
            let (code, out, err) = finish(programs.command(&script).arg(flag));
            assert_eq!((code, err.as_str()), (Some(0), ""), "{script} {flag}: {out}");
            assert!(out.to_lowercase().contains("usage: ") || out.contains("Usage:\n"), "{script} {flag}: {out}");
        }
    }
}

#[test]
fn wrong_arguments_are_refused_with_the_usage() {
    let programs = Programs::with(&TO_EXPLAIN);
    // These pass their arguments on to programs that are built first.
    let passes_on = ["scripts/bench", "scripts/soak", "scripts/run", "tests/browser/run", "tests/clients/run"];
    for script in scripts().iter().filter(|script| !passes_on.contains(&script.as_str())) {
        let (code, out, err) = finish(programs.command(script).arg("--nonsense"));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{script}: {err}");
        assert!(err.to_lowercase().contains("usage:"), "{script}: {err}");
    }
}

/// A machine with everything that `scripts/run` needs; "building" puts the binary of this test in its place.
fn machine() -> Programs {
    let programs =
        Programs::with(&["bash", "cat", "cut", "dirname", "env", "find", "head", "ln", "mkdir", "sed", "sort", "tr"]);
    programs.add("rustc", "echo 'rustc 1.95.0 (f2d3ce0bd 2026-03-21)'");
    programs.add(
        "cargo",
        "echo \"cargo $*\"; mkdir -p \"$CARGO_TARGET_DIR/release\"; ln -sf \"$ESKER\" \"$CARGO_TARGET_DIR/release\"",
    );
    ["cc", "make"].into_iter().for_each(|name| programs.add(name, "exit 1"));
    // As apt-get leaves it.
    programs.add(
        "apt-get",
        "echo \"apt-get $*\"; case $1 in install) ln -s env \"$BIN/cc\"; ln -s env \"$BIN/make\" ;; esac",
    );
    programs.add("id", "echo 0");
    programs
}

/// Exit code and all that is said. With an option that the broker refuses, it ends where the broker would start.
fn run(programs: &Programs) -> (Option<i32>, String) {
    let (code, out, err) = finish(programs.command("scripts/run").arg("--nonsense"));
    (code, out + &err)
}

#[test]
fn run_builds_once_and_starts_a_broker_with_the_options_given() {
    let programs = machine();
    let begin = |log: &str| {
        let mut command = programs.command("scripts/run");
        let log = programs.home.path.join(log);
        command.stdout(fs::File::create(&log).expect("a file can be made"));
        let broker = Broker::start_as(command, &["--threads", "3"]);
        assert_eq!(broker.stats()["threads"], 3);
        broker.signal("INT");
        assert_eq!(broker.wait().0, Some(0), "Ctrl-C stops it");
        fs::read_to_string(log).expect("a log")
    };
    let first = begin("first");
    for part in ["about 3 minutes", "cargo build --release --locked", "Ctrl-C"] {
        assert!(first.contains(part), "{first}");
    }
    let second = begin("second");
    assert!(!second.contains("minutes") && !second.contains("cargo") && second.lines().count() == 1, "{second}");
}

#[test]
fn run_says_how_to_get_rust() {
    let programs = machine();
    programs.add("rustc", "echo 'rustc 1.63.0'");
    let (code, said) = run(&programs);
    assert!(code == Some(1) && said.contains("Rust 1.63.0 is too old") && said.contains("1.89"), "{said}");
    programs.remove("cargo");
    let (code, said) = run(&programs);
    assert!(code == Some(1) && said.contains("Rust is missing") && said.contains("https://sh.rustup.rs"), "{said}");
    assert!(!said.contains("apt-get"), "{said}");
}

#[test]
fn run_installs_what_the_build_needs() {
    let programs = machine();
    ["cc", "make"].into_iter().for_each(|name| programs.remove(name));
    let (code, said) = run(&programs);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("installing gcc libc6-dev make, which the build needs"), "{said}");
    assert!(said.contains("--no-install-recommends gcc libc6-dev make\n"), "{said}");
    assert!(said.contains("cargo build") && said.contains("unknown option --nonsense"), "{said}");
}

#[test]
fn run_says_what_to_install_where_it_can_not() {
    let programs = machine();
    programs.remove("make");
    programs.add("id", "echo 1000");
    let (code, said) = run(&programs);
    assert!(code == Some(1) && said.contains("'apt-get update -q' needs root"), "{said}");
    programs.remove("apt-get");
    let (code, said) = run(&programs);
    assert!(
        code == Some(1) && said.contains("what Debian calls make") && said.contains("dnf install gcc make"),
        "{said}"
    );
    assert!(!said.contains("cargo build"), "{said}");
}

#[test]
fn packing_a_corpus_again_changes_nothing() {
    let script = ". scripts/lib/corpus.sh; unpack_corpus \"$1\" \"$2\"; pack_corpus \"$2\"";
    let corpora = fs::read_dir(Path::new(ROOT).join("tests/fuzz/corpus")).expect("the corpora");
    let corpora: Vec<_> = corpora.map(|entry| entry.expect("a corpus").path()).collect();
    assert!(!corpora.is_empty());
    for corpus in corpora {
        let folder = Folder::new();
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", script, "bash"]).args([&corpus, &folder.path]).current_dir(ROOT);
        let (code, packed, err) = finish(&mut bash);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let is_same = packed == fs::read_to_string(&corpus).expect("a corpus is text");
        assert!(is_same, "{} changes when it is unpacked and packed again", corpus.display());
    }
}
