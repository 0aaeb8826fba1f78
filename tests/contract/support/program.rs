//! Foreign programs: found in the PATH, run in the foreground, and killed with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A child process that does not outlive its test.
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts the first of the names that is installed, at home in a folder of its own. One that is missing fails the
    /// test: what is skipped is not tested.
    pub fn start(names: &[&str], arguments: &[&str], home: &Folder) -> Self {
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

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be waited for")
    }
}

impl Drop for Program {
    /// Asks first, so that a program with children of its own can end them.
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

/// A new temporary folder, removed when dropped.
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("esker-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Self { path }
    }

    /// What the program at home here has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path.join("log")).unwrap_or_default()
    }
}

impl Drop for Folder {
    /// Twice, for a program that was just ended may have had a last file to write.
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.path).is_err() {
            std::thread::sleep(Duration::from_millis(200));
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Looks where a system administrator's PATH leads as well: Debian keeps its servers there.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| Path::is_file(file))
}
