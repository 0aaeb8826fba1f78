//! Whose the files of a data directory are, and who may open them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use rustix::process::geteuid;

use super::*;

/// A user who is not root and owns nothing here.
const SOMEBODY: u32 = 60_123;

fn refusal(place: &Location) -> String {
    Store::open(place).err().expect("it is refused").to_string()
}

fn owner(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().uid()
}

#[test]
fn every_file_is_its_owners_alone() {
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let rig = Rig::new(&scratch.place());
    rig.insert("name", "1").unwrap();
    let modes = || {
        let files = std::fs::read_dir(&scratch.0).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().mode() & 0o777))
    };
    let expected = ["lock", "records.db", "records.db-shm", "records.db-wal"].map(|name| (name.to_owned(), 0o600));
    assert_eq!(modes().collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
    let directory = std::fs::metadata(&scratch.0).unwrap().mode() & 0o777;
    assert_eq!(directory, 0o755, "what was there keeps its mode");
}

#[test]
fn links_are_not_followed() {
    for name in ["lock", "records.db", "records.db-wal", "records.db-shm"] {
        let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
        let target = elsewhere.0.join("target");
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, scratch.0.join(name)).unwrap();
        let refused = refusal(&scratch.place());
        assert!(refused.contains(&format!("{name} is a symbolic link or not a regular file")), "{refused}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    }
    // The directory itself may be reached through one, as systemd's are.
    let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
    let link = elsewhere.0.join("link");
    symlink(&scratch.0, &link).unwrap();
    assert!(Rig::new(&Location::Directory(link)).insert("name", "1").is_ok());
}

#[test]
fn a_fifo_or_a_directory_is_no_lock() {
    let scratch = Scratch::new();
    let lock = scratch.0.join("lock");
    rustix::fs::mkfifoat(rustix::fs::CWD, &lock, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert!(refusal(&scratch.place()).contains("lock is a symbolic link or not a regular file"));
}

#[test]
fn what_belongs_to_another_user_is_refused_with_both_users() {
    if !geteuid().is_root() {
        return eprintln!("only root can give files away: not tried");
    }
    for name in ["", "lock", "records.db", "records.db-wal"] {
        let scratch = Scratch::new();
        let rig = Rig::new(&scratch.place());
        rig.insert("name", "1").unwrap();
        // As a crash leaves it, with a log.
        let crashed = Scratch::copy_of(&scratch.0);
        std::fs::write(crashed.0.join("lock"), "1").unwrap();
        let path = crashed.0.join(name);
        chown(&path, Some(SOMEBODY), None).unwrap();
        let refused = refusal(&crashed.place());
        let expected = format!(
            "{} belongs to user {SOMEBODY}, but this process runs as user 0; run it as user {SOMEBODY}, or change the owner \
             (chown -R 0 {})",
            path.display().to_string().trim_end_matches('/'),
            crashed.0.display()
        );
        assert_eq!(refused, expected);
    }
}

#[test]
fn a_tool_that_root_runs_leaves_everything_to_the_owner() {
    if !geteuid().is_root() {
        return eprintln!("only root can give files away: not tried");
    }
    let (scratch, source) = (Scratch::new(), Scratch::new());
    Rig::new(&source.place()).insert("name", "1").unwrap();
    let mut lines = Vec::new();
    dump(&source.0, None, &mut lines).unwrap();
    chown(&scratch.0, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    load(&scratch.0, &mut &*lines).unwrap();
    std::fs::remove_file(scratch.0.join("lock")).unwrap();
    assert!(check(&scratch.0).unwrap().is_good());
    let files: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 2 && files.iter().all(|file| owner(file) == SOMEBODY), "{files:?}");
}
