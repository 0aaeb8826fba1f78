//! The data directory: permissions of created files, ownership checks, and names.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use super::records::insert;
use super::support::{Broker, TempDir, command, finish, run};

/// Returns the mode of a file or directory.
fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// Returns a command that runs the script in a shell and then the binary.
fn after(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.env_clear().env("PATH", "/usr/bin:/bin").args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]);
    shell.arg(command(&[]).get_program());
    shell
}

#[test]
fn records_are_private_with_any_umask() {
    for umask in ["000", "022", "277"] {
        let dir = TempDir::new();
        // One directory that the broker creates, and one that exists and is open to everybody.
        let (made, found) = (dir.path.join("made"), dir.path.join("found"));
        std::fs::create_dir(&found).expect("a directory can be made");
        std::fs::set_permissions(&found, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        for data_dir in [&made, &found] {
            let broker =
                Broker::start_command(after(&format!("umask {umask}")), &["--data", &data_dir.display().to_string()]);
            insert(&broker, "a", "1");
            let files: Vec<_> = std::fs::read_dir(data_dir).expect("it can be read").flatten().collect();
            assert!(files.len() >= 4, "database, log, the log's index and lock: {files:?}");
            for file in files {
                assert_eq!(mode(&file.path()), 0o600, "umask {umask}: {file:?}");
            }
        }
        assert_eq!((mode(&made), mode(&found)), (0o700, 0o755), "umask {umask}");
    }
}

#[test]
fn a_symlink_named_lock_is_refused_and_its_target_unchanged() {
    let dir = TempDir::new();
    let (data_dir, target) = (dir.path.join("data"), dir.path.join("target"));
    std::fs::create_dir(&data_dir).expect("a directory can be made");
    std::fs::write(&target, "precious").expect("it can be written");
    symlink(&target, data_dir.join("lock")).expect("it can be made");
    let (code, _, err) = run(&["--no-auth", "--port", "0", "--data", &data_dir.display().to_string()], &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("lock is a symbolic link") && err.contains("remove it"), "{err}");
    assert_eq!(std::fs::read_to_string(&target).expect("it is there"), "precious");
}

#[test]
fn another_users_directory_or_database_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("only root can give files away: not tried");
    }
    let dir = TempDir::new();
    let data_dir = dir.path.join("data");
    let data = data_dir.display().to_string();
    let start = || run(&["--no-auth", "--port", "0", "--data", &data], &[]);
    drop(Broker::start(&["--data", &data]));
    for name in ["records.db", "."] {
        let path = data_dir.join(name);
        chown(&path, Some(65_534), None).expect("root may");
        let (code, _, err) = start();
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("belongs to user 65534, but this process runs as user 0"), "{err}");
        assert!(err.contains(&format!("chown -R 0 {data}")), "{err}");
        chown(&path, Some(0), None).expect("root may");
    }
    assert!(Broker::start(&["--data", &data]).get("/healthz").status == 200, "once it is given back");
}

#[test]
fn the_directory_name_is_always_a_path() {
    let dir = TempDir::new();
    for name in ["file:x", "file:y?mode=memory", "file:///z?vfs=none#f", "a%41?b=c"] {
        let mut esker = command(&[]);
        esker.current_dir(&dir.path);
        let broker = Broker::start_command(esker, &["--data", name]);
        insert(&broker, "a", "1");
        let database = dir.path.join(name).join("records.db");
        assert!(database.metadata().is_ok_and(|file| file.len() > 0), "{name}: {}", database.display());
        broker.signal("TERM");
        broker.wait();
        let mut dump = command(&[]);
        let (code, lines, err) = finish(dump.current_dir(&dir.path).args(["dump", name]));
        assert_eq!((code, lines.lines().count()), (Some(0), 1), "{name}: {err}");
    }
}
