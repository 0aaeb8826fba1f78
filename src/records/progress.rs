//! How far a long command on records is. What works tells a [`Progress`], and does not know whether and how it is shown.

/// How much there is to do in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Nothing is counted.
    Unknown,
    /// This many records, if that is known.
    Records(Option<u64>),
    /// This many pages of a database.
    Pages(u32),
    /// Everything in the input, line by line.
    Input,
}

/// Shows how far a command is. It is shared by the parts of the command.
pub trait Progress {
    /// Returns whether anyone sees it. If not, nothing need be counted for it.
    fn is_visible(&self) -> bool;

    /// Begins a phase, which ends the one before it.
    fn begin(&self, phase: &'static str, amount: Amount);

    /// Notes that so many more records or pages are done.
    fn advance(&self, by: u64);

    /// Notes that a line of the input with so many bytes was read.
    fn read_line(&self, bytes: u64);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn is_visible(&self) -> bool {
        false
    }

    fn begin(&self, _: &'static str, _: Amount) {}

    fn advance(&self, _: u64) {}

    fn read_line(&self, _: u64) {}
}
