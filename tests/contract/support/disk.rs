//! A disk that fails or takes its time: a library put before the system's makes every write or fsync fail, wait or hang while
//! a file says so.

use std::path::PathBuf;

use super::{Broker, Folder, command, shim};

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int is(const char *trouble) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("DISK_TROUBLE"), trouble);
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

/// What is the matter with it.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// Each fsync takes 200 ms.
    Slow,
    /// No fsync returns.
    Hung,
    /// Each fsync fails.
    Failing,
    /// Each write fails.
    Refusing,
}

/// See the module's page.
pub struct Disk {
    folder: Folder,
    shim: PathBuf,
}

impl Disk {
    /// One that is well.
    pub fn new() -> Self {
        let folder = Folder::new();
        let shim = shim::build(&folder.path, SHIM);
        Self { folder, shim }
    }

    /// From now on it has this.
    pub fn begin(&self, trouble: Trouble) {
        std::fs::write(self.sign(trouble), "").expect("it can be written");
    }

    /// It no longer has it.
    pub fn end(&self, trouble: Trouble) {
        std::fs::remove_file(self.sign(trouble)).expect("it is there");
    }

    fn sign(&self, trouble: Trouble) -> PathBuf {
        self.folder.path.join(format!("{trouble:?}").to_lowercase())
    }

    /// A broker whose records are on it.
    pub fn start(&self, arguments: &[&str]) -> Broker {
        let mut command = command(&[]);
        command.env("LD_PRELOAD", &self.shim).env("DISK_TROUBLE", &self.folder.path);
        let data = self.folder.path.join("data").display().to_string();
        Broker::start_as(command, &[&["--data", &data], arguments].concat())
    }
}
