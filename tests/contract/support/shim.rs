//! A library put before the system's, so that the kernel says what a test wants it to say.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles C to a library for `LD_PRELOAD`, in this folder.
pub fn build(folder: &Path, source: &str) -> PathBuf {
    let (text, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&text, source).expect("it can be written");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &text]).arg("-ldl").status();
    assert!(built.expect("scripts/test installs a compiler").success());
    library
}
