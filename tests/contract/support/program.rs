//! Other programs: found in the PATH, run in the foreground, and killed with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A child process that does not outlive its test.
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts the first of the programs that is installed, in a directory of its own. A missing program fails the test instead
    /// of skipping it.
    pub fn start(names: &[&str], arguments: &[&str], home: &TempDir) -> Self {
        let program = names.iter().find_map(|name| find(name));
        let program = program.unwrap_or_else(|| panic!("{} is not installed; scripts/test installs it", names[0]));
        let log = std::fs::File::create(home.path.join("log")).expect("a file can be made");
        let child = Command::new(&program)
            .args(arguments)
            .current_dir(&home.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home.path)
            .env("TMPDIR", &home.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child }
    }

    /// Returns the exit status if the program has exited by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be waited for")
    }
}

impl Drop for Program {
    /// Sends SIGTERM first, so that a program can stop its own children.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let begin = Instant::now();
        while self.ended().is_none() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A new temporary directory, removed when dropped.
pub struct TempDir {
    pub path: PathBuf,
}

impl TempDir {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("esker-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory can be made");
        Self { path }
    }

    /// Returns what the program in this directory has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path.join("log")).unwrap_or_default()
    }
}

impl Drop for TempDir {
    /// Tries twice, because a program that has just been stopped may have written a last file.
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.path).is_err() {
            std::thread::sleep(Duration::from_millis(200));
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Searches the directories of a system administrator's PATH as well, where Debian keeps servers.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from));
    folders.map(|dir| dir.join(name)).find(|file| Path::is_file(file))
}
