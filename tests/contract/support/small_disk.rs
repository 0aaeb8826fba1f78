//! A disk of a few megabytes: a file system in memory, in a mount namespace of the broker's own.

use std::process::Command;

use super::{command, finish};

const NEEDS: &str = "this test needs root or user namespaces (sysctl kernel.unprivileged_userns_clone), and / to be a mount \
    point, which it is not in a plain chroot: enter that by `unshare -m`, after `mount --bind FOLDER FOLDER`";

/// The binary as a command, with a disk of this size at `place`.
pub fn on_small_disk(place: &str, size: &str) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let flags = if is_root { "-m" } else { "-rm" };
    let (code, _, said) = finish(unshare().args([flags, "true"]));
    assert_eq!(code, Some(0), "a mount namespace can't be made: {}; {NEEDS}", said.trim_end());
    let script = format!("mount -t tmpfs -o size={size} none {place} && exec \"$0\" \"$@\"");
    let mut unshare = unshare();
    unshare.args([flags, "sh", "-c", &script]).arg(command(&[]).get_program());
    unshare
}

fn unshare() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    unshare
}
