//! Builds libraries for `LD_PRELOAD`, which replace system calls for a test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles C source to a library for `LD_PRELOAD` in this directory.
pub fn build(dir: &Path, source: &str) -> PathBuf {
    let (text, library) = (dir.join("shim.c"), dir.join("shim.so"));
    std::fs::write(&text, source).expect("it can be written");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &text]).arg("-ldl").status();
    assert!(built.expect("scripts/test installs a compiler").success());
    library
}
