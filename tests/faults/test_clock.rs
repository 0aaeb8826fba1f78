//! A system clock that a test can set, for one program.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::support::{Broker, TempDir, command, shim};

/// Adds the number of seconds in the first eight bytes of a file to the system clock.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static int64_t seconds(void) {
    static volatile int64_t *offset;
    if (!offset) {
        int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
        offset = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    }
    return *offset;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (clock == CLOCK_REALTIME) time->tv_sec += seconds();
    return result;
}

int gettimeofday(struct timeval *time, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(time, zone);
    time->tv_sec += seconds();
    return result;
}
"#;

/// A clock that the test can set.
pub struct TestClock {
    dir: TempDir,
    shim: PathBuf,
    offset: File,
}

impl TestClock {
    pub fn new() -> Self {
        let dir = TempDir::new();
        let shim = shim::build(&dir.path, SHIM);
        let offset = File::create(dir.path.join("offset")).expect("it can be written");
        let clock = Self { dir, shim, offset };
        clock.set(0);
        clock
    }

    /// Sets the clock to this many seconds from the real time.
    pub fn set(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).expect("it can be written");
    }

    /// Returns the environment of a program that has this clock.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.shim.clone()), ("CLOCK_OFFSET", self.dir.path.join("offset"))]
    }

    pub fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Broker {
        let mut command = command(environment);
        command.envs(self.environment());
        match environment {
            [] => Broker::start_command(command, arguments),
            _ => Broker::start_command_with_tokens(command, arguments),
        }
    }

    pub fn data(&self) -> String {
        self.dir.path.join("data").display().to_string()
    }
}
