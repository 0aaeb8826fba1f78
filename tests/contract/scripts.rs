//! The scripts: `--help` explains each one and starts nothing, and `scripts/run` takes a new user from nothing to a running
//! broker.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Broker, TempDir, finish};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Executables that users don't start: dpkg, cargo, a virtual machine's kernel and `tests/deploy/run` call them.
const CALLED_BY_OTHERS: [&str; 4] = ["scripts/debian/", "scripts/lib/", "bench/guest-init", "tests/deploy/"];
/// The only programs in PATH while a script prints its help, so that a script that starts anyway can do nothing.
const HELP_NEEDS: [&str; 6] = ["bash", "dirname", "env", "python3", "realpath", "sed"];

/// Returns the executables below a directory.
fn executables(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_executable = |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o111 != 0);
    let inner = folders.iter().filter(|dir| !dir.ends_with("node_modules"));
    inner.flat_map(|dir| executables(dir)).chain(files.into_iter().filter(is_executable)).collect()
}

fn scripts() -> Vec<String> {
    let all = ["scripts", "bench", "tests", ".ci"].into_iter().flat_map(|dir| executables(&Path::new(ROOT).join(dir)));
    let names = all.map(|path| path.strip_prefix(ROOT).expect("below it").display().to_string());
    let is_for_people = |name: &String| {
        name == "tests/deploy/run" || !CALLED_BY_OTHERS.iter().any(|beginning| name.starts_with(beginning))
    };
    names.filter(is_for_people).collect()
}

/// A directory of programs that serves as the whole PATH.
struct ProgramDir {
    home: TempDir,
}

impl ProgramDir {
    fn with(names: &[&str]) -> Self {
        let programs = Self { home: TempDir::new() };
        fs::create_dir(programs.dir()).expect("a directory can be made");
        programs.link(names);
        programs
    }

    /// Adds programs of this machine.
    fn link(&self, names: &[&str]) {
        // Prefers the system's programs: the wrappers of version managers need other programs.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = [PathBuf::from("/usr/bin")].into_iter().chain(std::env::split_paths(&path)).collect();
        for name in names {
            let found = folders.iter().map(|dir| dir.join(name)).find(|file| file.is_file());
            symlink(found.expect(name), self.dir().join(name)).expect("a link can be made");
        }
    }

    fn dir(&self) -> PathBuf {
        self.home.path.join("bin")
    }

    /// Adds a bash script as a program.
    fn add(&self, name: &str, script: &str) {
        let file = self.dir().join(name);
        fs::write(&file, format!("#!/usr/bin/env bash\n{script}\n")).expect("a file can be written");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("it can be made executable");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir().join(name)).expect("it is there");
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(Path::new(ROOT).join(script));
        command.env_clear().env("PATH", self.dir()).env("HOME", &self.home.path).current_dir(&self.home.path);
        command.env("CARGO_TARGET_DIR", self.home.path.join("target")).env("ESKER_DATA", ":memory:");
        command.env("ESKER", env!("CARGO_BIN_EXE_esker")).env("BIN", self.dir());
        command
    }
}

#[test]
fn every_script_has_a_help_text_that_starts_nothing() {
    let programs = ProgramDir::with(&HELP_NEEDS);
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
fn invalid_arguments_are_refused_with_the_usage() {
    let programs = ProgramDir::with(&HELP_NEEDS);
    // These pass their arguments on to programs that are built first.
    let passes_on = ["scripts/bench", "scripts/soak", "scripts/run", "tests/browser/run", "tests/clients/run"];
    for script in scripts().iter().filter(|script| !passes_on.contains(&script.as_str())) {
        let (code, out, err) = finish(programs.command(script).arg("--nonsense"));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{script}: {err}");
        assert!(err.to_lowercase().contains("usage:"), "{script}: {err}");
    }
}

/// Returns a PATH with everything that `scripts/run` needs. "Building" only links the binary of this test.
fn complete_machine() -> ProgramDir {
    let programs =
        ProgramDir::with(&["bash", "cat", "cut", "dirname", "env", "find", "head", "ln", "mkdir", "sed", "sort", "tr"]);
    programs.add("rustc", "echo 'rustc 1.95.0 (f2d3ce0bd 2026-03-21)'");
    programs.add(
        "cargo",
        "echo \"cargo $*\"; mkdir -p \"$CARGO_TARGET_DIR/release\"; ln -sf \"$ESKER\" \"$CARGO_TARGET_DIR/release\"",
    );
    ["cc", "make"].into_iter().for_each(|name| programs.add(name, "exit 1"));
    // The permissions that apt-get leaves.
    programs.add(
        "apt-get",
        "echo \"apt-get $*\"; case $1 in install) ln -s env \"$BIN/cc\"; ln -s env \"$BIN/make\" ;; esac",
    );
    programs.add("id", "echo 0");
    programs
}

/// Returns the exit code and all output. The broker gets an option that it refuses, so the run ends there.
fn run(programs: &ProgramDir) -> (Option<i32>, String) {
    let (code, out, err) = finish(programs.command("scripts/run").arg("--nonsense"));
    (code, out + &err)
}

#[test]
fn run_builds_once_and_starts_a_broker_with_the_options_given() {
    let programs = complete_machine();
    let begin = |log: &str| {
        let mut command = programs.command("scripts/run");
        let log = programs.home.path.join(log);
        command.stdout(fs::File::create(&log).expect("a file can be made"));
        let broker = Broker::start_command(command, &["--threads", "3"]);
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
fn run_explains_how_to_install_rust() {
    let programs = complete_machine();
    programs.add("rustc", "echo 'rustc 1.63.0'");
    let (code, output) = run(&programs);
    assert!(code == Some(1) && output.contains("Rust 1.63.0 is too old") && output.contains("1.89"), "{output}");
    programs.remove("cargo");
    let (code, output) = run(&programs);
    assert!(
        code == Some(1) && output.contains("Rust is missing") && output.contains("https://sh.rustup.rs"),
        "{output}"
    );
    assert!(!output.contains("apt-get"), "{output}");
}

#[test]
fn run_installs_what_the_build_needs() {
    let programs = complete_machine();
    ["cc", "make"].into_iter().for_each(|name| programs.remove(name));
    let (code, output) = run(&programs);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("installing gcc libc6-dev make, which the build needs"), "{output}");
    assert!(output.contains("--no-install-recommends gcc libc6-dev make\n"), "{output}");
    assert!(output.contains("cargo build") && output.contains("unknown option --nonsense"), "{output}");
}

#[test]
fn run_names_packages_it_cannot_install() {
    let programs = complete_machine();
    programs.remove("make");
    programs.add("id", "echo 1000");
    let (code, output) = run(&programs);
    assert!(code == Some(1) && output.contains("'apt-get update -q' needs root"), "{output}");
    programs.remove("apt-get");
    let (code, output) = run(&programs);
    assert!(
        code == Some(1) && output.contains("what Debian calls make") && output.contains("dnf install gcc make"),
        "{output}"
    );
    assert!(!output.contains("cargo build"), "{output}");
}

/// The installation is simulated and installs nothing, so the script ends when it starts the first program.
#[test]
fn cluster_builds_and_installs_what_is_missing() {
    let programs = complete_machine();
    programs.link(&["grep", "mktemp", "seq", "sleep", "tail"]);
    // The script forbids Debian's packages to start services, and removes its temporary directory.
    ["install", "rm"].into_iter().for_each(|name| programs.add(name, "exit 0"));
    programs.add("apt-get", "echo \"apt-get $*\"");
    let (code, out, err) = finish(programs.command("scripts/cluster").arg("65000").env("TMPDIR", &programs.home.path));
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("cargo build --release --locked\n"), "{out}");
    assert!(out.contains("scripts/cluster: installing redis-server"), "{out}");
    assert!(out.contains("--no-install-recommends redis-server"), "{out}");
    assert!(err.contains("engine has stopped"), "{err}");
}

#[test]
fn packing_a_corpus_again_changes_nothing() {
    let script = ". scripts/lib/corpus.sh; unpack_corpus \"$1\" \"$2\"; pack_corpus \"$2\"";
    let corpora = fs::read_dir(Path::new(ROOT).join("tests/fuzz/corpus")).expect("the corpora");
    let corpora: Vec<_> = corpora.map(|entry| entry.expect("a corpus").path()).collect();
    assert!(!corpora.is_empty());
    for corpus in corpora {
        let dir = TempDir::new();
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", script, "bash"]).args([&corpus, &dir.path]).current_dir(ROOT);
        let (code, packed, err) = finish(&mut bash);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let is_same = packed == fs::read_to_string(&corpus).expect("a corpus is text");
        assert!(is_same, "{} changes when it is unpacked and packed again", corpus.display());
    }
}
