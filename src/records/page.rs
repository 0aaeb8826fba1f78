//! Builds a page of a history as JSON, from versions that are read in slices. Records are only ever appended, with growing
//! ids, so slices that are read one after the other form a prefix of the history, as those of a single snapshot would.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Page, PageQuery};
use crate::quota::{Growth, PageReservation};

/// The maximum bytes of a page, unless a single version is larger.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// A slice ends after this many bytes. Memory is reserved in steps of this size.
pub(crate) const SLICE_BYTES: usize = 256 << 10;

/// No memory can be reserved for a page's first version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// A page that is being built.
pub(crate) struct PageBuilder {
    name: Arc<str>,
    /// The id after which the page goes on.
    last: u64,
    limit: usize,
    entries: usize,
    body: String,
    /// The beginning of each key, as JSON.
    prefix: String,
    reservation: PageReservation,
}

impl PageBuilder {
    /// Returns a page without versions.
    pub fn new(query: PageQuery, reservation: PageReservation) -> Self {
        let PageQuery { name, after, limit } = query;
        let mut prefix = serde_json::Value::from(format!("{name}_v_")).to_string();
        prefix.pop();
        let body = String::from("{");
        Self { name, last: after, limit: limit.max(1), entries: 0, body, prefix, reservation }
    }

    /// Returns the name whose versions the page has.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the id after which the page goes on.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns the number of versions so far.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Returns the number of bytes so far.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Returns how many more versions to ask for: one more than the page may have shows whether more follow.
    pub fn missing(&self) -> usize {
        (self.limit - self.entries).saturating_add(1)
    }

    /// Appends the next version. Returns whether it fits; if it does not, the page is complete.
    pub fn push(&mut self, id: u64, data: &str) -> Result<bool, NoMemory> {
        let has_room = self.has_room(data)?;
        if has_room {
            self.write(id, data);
        }
        Ok(has_room)
    }

    /// Returns whether another version fits, and reserves memory for it. If even the first one does not fit, the page fails.
    fn has_room(&mut self, data: &str) -> Result<bool, NoMemory> {
        let bytes = self.body.len() + self.prefix.len() + data.len() + "18446744073709551615\":,}".len();
        if self.entries == 0 {
            return if self.reserve(bytes, Growth::Required) { Ok(true) } else { Err(NoMemory) };
        }
        Ok(self.entries < self.limit && bytes <= MAX_PAGE_BYTES && self.reserve(bytes, Growth::Optional))
    }

    fn reserve(&mut self, bytes: usize, growth: Growth) -> bool {
        let Self { reservation, body, .. } = self;
        if bytes <= reservation.bytes() {
            return true;
        }
        let step = bytes.next_multiple_of(SLICE_BYTES);
        let has_grown = reservation.grow(step, growth) || reservation.grow(bytes, growth);
        if has_grown {
            body.reserve_exact(reservation.bytes() - body.len());
        }
        has_grown
    }

    fn write(&mut self, id: u64, data: &str) {
        if self.entries > 0 {
            self.body.push(',');
        }
        // Writing to a string can't fail.
        let _ = write!(self.body, "{}{id}\":{data}", self.prefix);
        self.entries += 1;
        self.last = id;
    }

    /// Ends the page. The reservation is for its body.
    pub fn complete(self, more_follow: bool) -> (Page, PageReservation) {
        let Self { mut body, mut reservation, last, .. } = self;
        body.push('}');
        reservation.shrink(body.len());
        (Page { body, next: more_follow.then_some(last) }, reservation)
    }
}
