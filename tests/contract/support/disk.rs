//! A disk that fails or is slow: a preloaded library makes every write or fsync fail, wait or hang while a file exists.

use std::path::PathBuf;

use super::{Broker, TempDir, command, shim};

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int is(const char *fault) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("DISK_TROUBLE"), fault);
    return access(path, F_OK) == 0;
}

static int fails(void) {
    if (is("slow")) usleep(200000);
    while (is("hung")) usleep(10000);
    return is("failing");
}

static int refuses(int fd) {
    struct stat about;
    return is("refusing") && fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return REAL("fsync", int (*)(int))(fd);
}

int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return REAL("fdatasync", int (*)(int))(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (refuses(fd)) { errno = EIO; return -1; }
    return REAL("write", ssize_t (*)(int, const void *, size_t))(fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    if (refuses(fd)) { errno = EIO; return -1; }
    return REAL("pwrite64", ssize_t (*)(int, const void *, size_t, off64_t))(fd, bytes, count, at);
}
"#;

/// A fault to inject.
#[derive(Clone, Copy, Debug)]
pub enum DiskFault {
    /// Each fsync takes 200 ms.
    Slow,
    /// No fsync returns.
    Hung,
    /// Each fsync fails.
    Failing,
    /// Each write fails.
    Refusing,
}

/// A data directory on a disk whose faults a test controls.
pub struct FaultyDisk {
    dir: TempDir,
    shim: PathBuf,
}

impl FaultyDisk {
    /// Makes a disk without faults.
    pub fn new() -> Self {
        let dir = TempDir::new();
        let shim = shim::build(&dir.path, SHIM);
        Self { dir, shim }
    }

    /// Injects a fault.
    pub fn inject(&self, fault: DiskFault) {
        std::fs::write(self.flag(fault), "").expect("it can be written");
    }

    /// Removes a fault.
    pub fn remove(&self, fault: DiskFault) {
        std::fs::remove_file(self.flag(fault)).expect("it is there");
    }

    fn flag(&self, fault: DiskFault) -> PathBuf {
        self.dir.path.join(format!("{fault:?}").to_lowercase())
    }

    /// Starts a broker whose data directory is on this disk.
    pub fn start(&self, arguments: &[&str]) -> Broker {
        let mut command = command(&[]);
        command.env("LD_PRELOAD", &self.shim).env("DISK_TROUBLE", &self.dir.path);
        let data = self.dir.path.join("data").display().to_string();
        Broker::start_command(command, &[&["--data", &data], arguments].concat())
    }
}
