//! A copy of the package, in which one source file at a time is changed and built. Independent of the list of mutations and
//! of what the builds are run for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::list::Mutation;

/// The name of the copy's package. It differs from Esker's, so that Cargo keeps their builds apart.
const NAME: &str = "esker-mutated";
/// What the manifest says about the binary, which the copy does not have.
const BINARY: &str = "[[bin]]\nname = \"esker\"\npath = \"src/main.rs\"\nrequired-features = [\"cli\"]\n";
/// Like a release, but not optimized, because that would take too long.
const PROFILE: &str =
    "\n[profile.dev.package.esker-mutated]\ndebug = false\ndebug-assertions = false\noverflow-checks = false\n";

/// The copy.
pub struct Tree {
    directory: PathBuf,
    target: PathBuf,
}

/// The result of a build.
pub struct Built {
    /// The path of the simulation's executable, or the compiler's errors.
    pub simulation: Result<PathBuf, String>,
    pub took: Duration,
}

/// Returns the directory of Esker's package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text with the mutation applied.
pub fn apply(mutation: &Mutation, text: &str) -> String {
    let Mutation { name, file, edits, .. } = mutation;
    edits.iter().fold(text.to_owned(), |text, (from, to)| {
        let count = text.matches(from).count();
        assert_eq!(count, 1, "{name}: this must occur once in src/{file}, and occurs {count} times:\n{from}");
        text.replacen(from, to, 1)
    })
}

impl Tree {
    /// Makes a new copy. Everything but the sources and the manifests is linked, not copied.
    pub fn new() -> Self {
        let target = root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        let directory = target.join("mutations/tree");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory for the copy");
        for entry in [".cargo", "bench", "tests", "README.md"] {
            symlink(root().join(entry), directory.join(entry)).expect("a link to what is not copied");
        }
        copy_sources(&root().join("src"), &directory.join("src"));
        // The simulation needs only the library.
        fs::remove_file(directory.join("src/main.rs")).expect("the binary's source");
        let tree = Self { directory, target };
        tree.write_manifest();
        tree
    }

    fn write_manifest(&self) {
        let read = |name: &str| fs::read_to_string(root().join(name)).expect("a manifest");
        let disk = root().join("tests/disk");
        let manifest = read("Cargo.toml")
            .replacen("members = [\"tests/disk\"]", "", 1)
            .replacen("name = \"esker\"\n", &format!("name = \"{NAME}\"\n"), 1)
            // The package's dependency on itself, which switches on what the simulation needs.
            .replacen("esker = { path", &format!("esker = {{ package = \"{NAME}\", path"), 1)
            .replacen(BINARY, "", 1)
            // By an absolute path: a relative one would lead to a second package with the same name, through the link.
            .replacen("path = \"tests/disk\"", &format!("path = {:?}", disk.display().to_string()), 1);
        let library = "\n[lib]\nname = \"esker\"\n";
        let lock = read("Cargo.lock").replacen("name = \"esker\"\n", &format!("name = \"{NAME}\"\n"), 1);
        let lock = lock.replacen(" \"esker\",\n", &format!(" \"{NAME}\",\n"), 1);
        fs::write(self.directory.join("Cargo.toml"), manifest + library + PROFILE).expect("the copy's manifest");
        fs::write(self.directory.join("Cargo.lock"), lock).expect("the copy's lock file");
    }

    /// Builds the copy with a mutation, and then removes the mutation.
    pub fn build_with(&self, mutation: &Mutation) -> Built {
        let path = self.directory.join("src").join(mutation.file);
        let text = fs::read_to_string(&path).expect("a source file");
        fs::write(&path, apply(mutation, &text)).expect("the copy can be written to");
        let built = self.build(mutation.name);
        fs::write(&path, text).expect("the copy can be written to");
        built
    }

    /// Builds the copy as it is. The executable is kept under this name, because the next one may be built while it runs.
    pub fn build(&self, name: &str) -> Built {
        let begin = Instant::now();
        let output = Command::new(env!("CARGO"))
            .args(["test", "--offline", "--no-run", "--message-format=json", "--test", "simulation"])
            .current_dir(&self.directory)
            .env("CARGO_TARGET_DIR", &self.target)
            .output()
            .expect("cargo runs");
        let messages = String::from_utf8_lossy(&output.stdout);
        let simulation = messages.lines().filter_map(executable).next_back();
        let simulation = match simulation.filter(|_| output.status.success()) {
            Some(built) => Ok(self.keep(&built, name)),
            None => Err(format!("{}{}", errors(&messages), String::from_utf8_lossy(&output.stderr))),
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

/// Returns the compiler's errors in Cargo's messages.
fn errors(messages: &str) -> String {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors = messages.filter(|message| message["message"]["level"] == "error");
    errors.filter_map(|message| Some(message["message"]["rendered"].as_str()?.to_owned())).collect()
}
