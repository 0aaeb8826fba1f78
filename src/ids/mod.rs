//! Event ids: what they are, how they are assigned, and what keeps them unique across restarts.
//!
//! An id is a `u64`: the microseconds since the Unix epoch at which an event was accepted, or the next free number if several
//! events share a microsecond. Ids ascend strictly over all topics and records, and across restarts, even when the system
//! clock is set back. They are plain integers because feeds, cursors, frames and SQL columns all compare them.
//!
//! ```text
//! id_time          the time that ids are made of: follows the system clock forward, never back
//! local            assigns ids from that time; owned by the hub, behind the hub's lock
//! applied          ids that a log shared by several brokers has assigned
//! recent_ids       distinguishes ids that were assigned from numbers that only look like ids
//! high_water_mark  a number in the database that no assigned id exceeds
//! ```
//!
//! # Bounds
//!
//! An id is at most [`MAX_CLOCK_LEAD`] larger than the time of ids; beyond that, publishes and inserts wait until the clock
//! has caught up. All ids are below 2⁶³, so that SQLite can store them.
//!
//! # Restarts
//!
//! The store keeps a [`HighWaterMark`] and raises it before assigned ids reach it: in the transaction that commits records,
//! which precedes their publication, and otherwise when a publish reports an id that the mark does not cover
//! ([`CoveredIds`]). The next start advances the time of ids to the mark and begins at [`start_id`], so every id it assigns
//! is larger than any id assigned before. After a clean stop, it also knows which ids the runs before it have assigned
//! ([`AssignedIds`]).
//!
//! Independent of topics, records and clocks: times are passed in.

mod applied;
mod high_water_mark;
pub mod id_time;
mod local;
mod recent_ids;
#[cfg(test)]
mod tests;

pub use applied::{AppliedIds, OutOfOrder};
pub use high_water_mark::{CoveredIds, HighWaterMark};
pub use local::{AssignedIds, LocalSequencer, Run, start_id};
pub use recent_ids::RecentIds;

/// The maximum number of microseconds by which an id may be ahead of the time of ids.
pub const MAX_CLOCK_LEAD: u64 = 250_000;

/// The smallest id that any broker has assigned: a moment in September 2001.
pub const MIN_ID: u64 = 1_000_000_000_000_000;

/// The bits of the ids that a log assigns. It calculates with floating-point numbers, which are exact up to there: until the
/// year 2255.
pub const LOG_ID_BITS: u32 = 53;

/// Assigns ids to records before they are committed, and publishes them afterwards. Called only by the store's writer.
pub trait Order<R>: Send {
    /// Reserves `count` consecutive ids and returns the first. They are larger than all ids assigned before and less than
    /// 2⁶³. `None` means that ids would run too far ahead of the clock, or that a worker has too much in flight: retry in a
    /// moment.
    fn reserve(&self, count: usize) -> Option<u64>;

    /// Returns the largest id assigned so far, to an event or a record.
    fn newest(&self) -> u64;

    /// Publishes committed records. Their ids ascend.
    fn publish(&self, records: Vec<R>);

    /// Publishes that the newest record of this name was erased, with an id that was reserved for it. It is in one order with
    /// the records.
    fn publish_erasure(&self, name: &str, id: u64);

    /// Returns the id of the newest version of a name among the records that were published or found at the start; `None` if
    /// there is none.
    fn newest_version(&self, name: &str) -> Option<u64>;
}

/// Parses an id as the broker writes it: decimal digits without a leading zero. Returns `None` for any other text.
pub fn parse_id(text: &str) -> Option<u64> {
    let is_padded = text.len() > 1 && text.starts_with('0');
    let all_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if all_digits && !is_padded { text.parse().ok() } else { None }
}
