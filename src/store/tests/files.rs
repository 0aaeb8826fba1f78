//! The owner and the mode of the files in a data directory.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use rustix::process::geteuid;

use super::*;

/// A user who is not root and owns no files.
const OTHER_USER: u32 = 60_123;

fn open_error(location: &Location) -> String {
    Store::open(location).err().expect("it is refused").to_string()
}

fn owner(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().uid()
}

#[test]
fn only_the_owner_can_open_the_files() {
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let rig = Rig::new(&scratch.location());
    rig.insert("name", "1").unwrap();
    let modes = || {
        let files = std::fs::read_dir(&scratch.0).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().mode() & 0o777))
    };
    let expected = ["lock", "records.db", "records.db-shm", "records.db-wal"].map(|name| (name.to_owned(), 0o600));
    assert_eq!(modes().collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
    let directory = std::fs::metadata(&scratch.0).unwrap().mode() & 0o777;
    assert_eq!(directory, 0o755, "an existing directory keeps its mode");
}

#[test]
fn symbolic_links_are_not_followed() {
    for name in ["lock", "records.db", "records.db-wal", "records.db-shm"] {
        let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
        let target = elsewhere.0.join("target");
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, scratch.0.join(name)).unwrap();
        let refused = open_error(&scratch.location());
        assert!(refused.contains(&format!("{name} is a symbolic link or not a regular file")), "{refused}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    }
    // The directory itself may be a link, as systemd's state directories are.
    let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
    let link = elsewhere.0.join("link");
    symlink(&scratch.0, &link).unwrap();
    assert!(Rig::new(&Location::Directory(link)).insert("name", "1").is_ok());
}

#[test]
fn a_fifo_is_refused_as_lock_file() {
    let scratch = Scratch::new();
    let lock = scratch.0.join("lock");
    rustix::fs::mkfifoat(rustix::fs::CWD, &lock, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert!(open_error(&scratch.location()).contains("lock is a symbolic link or not a regular file"));
}

#[test]
fn files_of_another_user_are_refused_and_both_users_named() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can change a file's owner");
    }
    for name in ["", "lock", "records.db", "records.db-wal"] {
        let scratch = Scratch::new();
        let rig = Rig::new(&scratch.location());
        rig.insert("name", "1").unwrap();
        // With a WAL, as after a crash.
        let crashed = Scratch::copy_of(&scratch.0);
        std::fs::write(crashed.0.join("lock"), "1").unwrap();
        let path = crashed.0.join(name);
        chown(&path, Some(OTHER_USER), None).unwrap();
        let refused = open_error(&crashed.location());
        let expected = format!(
            "{} belongs to user {OTHER_USER}, but this process runs as user 0; run it as user {OTHER_USER}, or change the owner \
             (chown -R 0 {})",
            path.display().to_string().trim_end_matches('/'),
            crashed.0.display()
        );
        assert_eq!(refused, expected);
    }
}

#[test]
fn files_that_root_creates_with_a_tool_belong_to_the_directorys_owner() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can change a file's owner");
    }
    let (scratch, source) = (Scratch::new(), Scratch::new());
    Rig::new(&source.location()).insert("name", "1").unwrap();
    let mut lines = Vec::new();
    dump(&source.0, None, &mut lines, &Silent).unwrap();
    chown(&scratch.0, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    load(&scratch.0, &mut &*lines, &Silent).unwrap();
    std::fs::remove_file(scratch.0.join("lock")).unwrap();
    assert!(check(&scratch.0, &Silent).unwrap().is_good());
    let files: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 2 && files.iter().all(|file| owner(file) == OTHER_USER), "{files:?}");
}
