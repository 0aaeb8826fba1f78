//! What one holder of tokens may take: streams that are open at the same time, and events published per second. Knows no
//! socket and no HTTP, reads no clock; what is not limited costs nothing.
//!
//! ```text
//! places  how many streams each subject has open, over all workers
//! bucket  the arithmetic of one token bucket
//! pace    the buckets of all publishers
//! source  what counts as one client address
//! memory  memory that all clients share, and what one of them may hold of it
//! ```

mod bucket;
mod memory;
mod pace;
mod places;
mod source;

pub use bucket::{Excess, Rate};
pub use memory::{Client, MemoryBudget, Reservation, Shortage};
pub use pace::Pace;
pub use places::{Place, PlaceList, Places};
pub use source::Source;

use std::sync::Arc;

/// What holders may take, as far as it is limited.
#[derive(Default)]
pub struct Quotas {
    /// Streams of each subject.
    pub places: Option<Arc<Places>>,
    /// Events of each publisher.
    pub pace: Option<Pace>,
}

impl Quotas {
    /// At most so many streams of each subject, and events of each publisher at this rate.
    pub fn new(streams: Option<usize>, rate: Option<Rate>) -> Self {
        Self { places: streams.map(|max| Arc::new(Places::new(max))), pace: rate.map(Pace::new) }
    }
}
