//! The least that durability costs: appends to a growing file, each followed by fdatasync.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::Histogram;

/// A growing file, and how long appends to it took.
pub struct Appends {
    file: File,
    pub count: usize,
    pub elapsed: Duration,
    pub latency: Histogram,
}

impl Appends {
    /// Creates the file.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self { file, count: 0, elapsed: Duration::ZERO, latency: Histogram::default() })
    }

    /// Appends batches of these sizes for this long, or until there are no more.
    pub fn run(&mut self, sizes: impl Iterator<Item = usize>, duration: Duration) -> io::Result<()> {
        let begin = Instant::now();
        for size in sizes {
            let batch = vec![b'x'; size];
            let appending = Instant::now();
            self.file.write_all(&batch)?;
            self.file.sync_data()?;
            self.latency.add(appending.elapsed().as_nanos() as u64);
            self.count += 1;
            if begin.elapsed() >= duration {
                break;
            }
        }
        self.elapsed += begin.elapsed();
        Ok(())
    }

    /// Returns appends per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}
