//! Builds copies of the package with one changed source file. Independent of running them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::list::Mutation;

/// The copy's name, so that cargo doesn't take it for the package.
const NAME: &str = "esker-mutated";
/// Like a release, but faster to build.
const PROFILE: &str =
    "\n[profile.dev.package.esker-mutated]\ndebug = false\ndebug-assertions = false\noverflow-checks = false\n";

/// The copy.
pub struct Tree {
    path: PathBuf,
    target: PathBuf,
}

/// The result of a build.
pub struct Built {
    /// The simulation's executable, or the compiler's errors.
    pub simulation: Result<PathBuf, String>,
    pub took: Duration,
}

/// Returns the directory of the package under test.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text with the mutation applied.
pub fn apply(mutation: &Mutation, text: &str) -> String {
    let Mutation { name, file, edits, .. } = mutation;
    edits.iter().fold(text.to_owned(), |text, (from, to)| {
        let count = text.matches(from).count();
        assert_eq!(
            count, 1,
            "{name}: src/{file} contains this {count} times instead of once; quote the current text:\n{from}"
        );
        text.replacen(from, to, 1)
    })
}

impl Tree {
    /// Creates a new copy. Only the sources and the manifest are copied; the rest are links.
    pub fn new() -> Self {
        let target = root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        let place = target.join("mutations/tree");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).expect("a directory for the copy");
        for entry in [".cargo", "bench", "tests", "README.md"] {
            symlink(root().join(entry), place.join(entry)).expect("a link to what is not copied");
        }
        copy_sources(&root().join("src"), &place.join("src"));
        // Only the library is needed.
        fs::remove_file(place.join("src/main.rs")).expect("the binary's source");
        let tree = Self { path: place, target };
        tree.write_manifest();
        tree
    }

    fn write_manifest(&self) {
        let read = |name: &str| fs::read_to_string(root().join(name)).expect("a manifest");
        let disk = root().join("tests/disk");
        let manifest = read("Cargo.toml")
            .replacen("members = [\"tests/disk\"]", "", 1)
            .replacen("name = \"esker\"\n", &format!("name = \"{NAME}\"\n"), 1)
            // An absolute path, because a copy of it would conflict with the package's own.
            .replacen("path = \"tests/disk\"", &format!("path = {:?}", disk.display().to_string()), 1);
        let library = "\n[lib]\nname = \"esker\"\n";
        let lock = read("Cargo.lock").replacen("name = \"esker\"\n", &format!("name = \"{NAME}\"\n"), 1);
        fs::write(self.path.join("Cargo.toml"), manifest + library + PROFILE).expect("the copy's manifest");
        fs::write(self.path.join("Cargo.lock"), lock).expect("the copy's lock file");
    }

    /// Builds the copy with the mutation, then restores the source.
    pub fn build_with(&self, mutation: &Mutation) -> Built {
        let path = self.path.join("src").join(mutation.file);
        let text = fs::read_to_string(&path).expect("a source file");
        fs::write(&path, apply(mutation, &text)).expect("the copy can be written to");
        let built = self.build(mutation.name);
        fs::write(&path, text).expect("the copy can be written to");
        built
    }

    /// Builds the copy. The executable gets this name, because the next one may be built while it runs.
    pub fn build(&self, name: &str) -> Built {
        let begin = Instant::now();
        let output = Command::new(env!("CARGO"))
            .args(["test", "--offline", "--no-run", "--message-format=json", "--test", "simulation"])
            .current_dir(&self.path)
            .env("CARGO_TARGET_DIR", &self.target)
            .output()
            .expect("cargo runs");
        let messages_json = String::from_utf8_lossy(&output.stdout);
        let simulation = messages_json.lines().filter_map(executable).next_back();
        let simulation = match simulation.filter(|_| output.status.success()) {
            Some(built) => Ok(self.keep(&built, name)),
            None => Err(format!("{}{}", errors(&messages_json), String::from_utf8_lossy(&output.stderr))),
        };
        Built { simulation, took: begin.elapsed() }
    }

    fn keep(&self, built: &Path, name: &str) -> PathBuf {
        let kept = self.target.join("mutations").join(name);
        fs::copy(built, &kept).expect("room for the simulation");
        kept
    }
}

fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory of the copy");
    for entry in fs::read_dir(from).expect("the sources") {
        let path = entry.expect("a source file").path();
        let copy = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_sources(&path, &copy),
            false => drop(fs::copy(&path, &copy).expect("room for the sources")),
        }
    }
}

fn executable(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    Some(message["executable"].as_str()?.into())
}

/// Returns the compiler's errors.
fn errors(messages_json: &str) -> String {
    let messages = messages_json.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors = messages.filter(|message| message["message"]["level"] == "error");
    errors.filter_map(|message| Some(message["message"]["rendered"].as_str()?.to_owned())).collect()
}
