//! A disk of a few megabytes: a tmpfs in a mount namespace of the broker's own.

use std::process::Command;

use super::{command, finish};

const NEEDS: &str = "this test needs root or user namespaces (sysctl kernel.unprivileged_userns_clone), and / to be a mount \
    point, which it is not in a plain chroot: enter that by `unshare -m`, after `mount --bind FOLDER FOLDER`";

/// Returns a command that runs the binary with a disk of this size mounted at `mount_point`.
pub fn on_small_disk(mount_point: &str, size: &str) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let flags = if is_root { "-m" } else { "-rm" };
    let (code, _, output) = finish(unshare().args([flags, "true"]));
    assert_eq!(code, Some(0), "a mount namespace can't be made: {}; {NEEDS}", output.trim_end());
    let script = format!("mount -t tmpfs -o size={size} none {mount_point} && exec \"$0\" \"$@\"");
    let mut unshare = unshare();
    unshare.args([flags, "sh", "-c", &script]).arg(command(&[]).get_program());
    unshare
}

fn unshare() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    unshare
}
