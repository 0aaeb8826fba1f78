//! How far a command is: a bar on standard error, if that is a terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::fs::{FileType, fstat, tell};

use crate::records::progress::{Amount, Progress, Silent};

/// How often the bar is drawn if nothing else happens, to show that the command is alive.
const TICK: Duration = Duration::from_millis(200);

/// The bar of a phase in which records or pages are counted, and their number is known.
const COUNTED: &str = "{msg} [{wide_bar}] {human_pos}/{human_len} ({per_sec:0}, {eta} left)";
/// The bar of a phase in which bytes are counted, and their number is known.
const BYTES: &str = "{msg} [{wide_bar}] {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left)";
/// What a phase shows in which records are counted, and it is not known how many there are.
const COUNT: &str = "{spinner} {msg}: {human_pos} ({per_sec:0}, {elapsed})";
/// What a phase shows in which nothing is counted.
const NOTHING: &str = "{spinner} {msg} ({elapsed})";

/// Draws the progress on one line, which is overwritten, and cleared in the end.
struct Bar {
    /// The bar of the present phase.
    phase: RefCell<ProgressBar>,
}

/// Returns what shows the progress of a command: a bar, or nothing unless standard error is a terminal on which a line can be
/// overwritten. If the command writes to standard output and that is a terminal, too, the two would be mixed.
pub(super) fn start(has_output: bool) -> Box<dyn Progress> {
    let is_mixed = has_output && io::stdout().is_terminal();
    if is_mixed || ProgressDrawTarget::stderr().is_hidden() {
        return Box::new(Silent);
    }
    Box::new(Bar { phase: RefCell::new(ProgressBar::hidden()) })
}

impl Progress for Bar {
    fn is_visible(&self) -> bool {
        true
    }

    fn begin(&self, phase: &'static str, amount: Amount) {
        let (template, length) = match amount {
            Amount::Unknown => (NOTHING, None),
            Amount::Records(None) => (COUNT, None),
            Amount::Records(total) => (COUNTED, total),
            Amount::Pages(total) => (COUNTED, Some(total.into())),
            Amount::Input => input_length().map_or((COUNT, None), |length| (BYTES, Some(length))),
        };
        // The templates are valid.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let style = style.progress_chars("=> ").tick_chars("|/-\\ ");
        let next = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        self.phase.replace(next.with_style(style).with_message(phase)).finish_and_clear();
        let phase = self.phase.borrow();
        // However short it is, it is seen.
        phase.tick();
        phase.enable_steady_tick(TICK);
    }

    fn advance(&self, by: u64) {
        self.phase.borrow().inc(by);
    }

    fn read_line(&self, bytes: u64) {
        let phase = self.phase.borrow();
        phase.inc(if phase.length().is_some() { bytes } else { 1 });
    }
}

/// Clears the line, so that what follows has one of its own.
impl Drop for Bar {
    fn drop(&mut self) {
        self.phase.get_mut().finish_and_clear();
    }
}

/// Returns how many bytes remain of standard input, if it is a file.
fn input_length() -> Option<u64> {
    let stdin = io::stdin();
    let stat = fstat(&stdin).ok()?;
    let size = u64::try_from(stat.st_size).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    Some(size.saturating_sub(tell(&stdin).ok()?))
}
