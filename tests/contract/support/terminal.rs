//! A pseudo-terminal, which a program can't tell from a person's.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, ExitStatus, Stdio};

use crossbeam_channel::bounded;
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use super::TIMEOUT;

/// Runs a command that exits by itself. `attach` connects it to the terminal. Returns what the terminal was sent.
pub fn run_on_terminal(command: &mut Command, attach: impl Fn(&mut Command, Stdio)) -> (ExitStatus, String) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal can be made");
    grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("it can be used");
    let peer = ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("it can be opened");
    attach(command, peer.into());
    let mut child = command.spawn().expect("the binary starts");
    // Otherwise the terminal would remain open here.
    attach(command, Stdio::null());
    let (sender, receiver) = bounded(1);
    std::thread::spawn(move || sender.send(read_to_end(controller.into())));
    let shown = receiver.recv_timeout(TIMEOUT);
    if shown.is_err() {
        child.kill().expect("it can be killed");
    }
    (child.wait().expect("it can be waited for"), shown.expect("it exits"))
}

/// Reads until no program has the terminal open, which is an error to Linux.
fn read_to_end(mut controller: File) -> String {
    let mut shown = Vec::new();
    let end = controller.read_to_end(&mut shown).expect_err("a terminal has no end");
    assert_eq!(Errno::from_io_error(&end), Some(Errno::IO));
    String::from_utf8(shown).expect("UTF-8")
}
