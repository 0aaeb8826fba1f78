//! What can go wrong with a request.

use fastrand::Rng;

use super::super::log::Refusal;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`super::super::log::Log::hello`].
    Hello,
    /// [`super::super::log::Log::append`].
    Append,
    /// [`super::super::log::Log::insert`].
    Insert,
    /// [`super::super::log::Log::pulse`].
    Pulse,
    /// [`super::super::log::Log::register`].
    Register,
    /// [`super::super::log::Log::attach`].
    Attach,
    /// [`super::super::log::Log::read`].
    Read,
    /// One of [`super::super::log::ReadRecords`].
    Records,
    /// One of [`super::super::log::Revocations`].
    Revocations,
    /// [`super::super::log::RemoveRecords::erase`].
    Erase,
    /// [`super::super::log::RemoveRecords::sweep`].
    Sweep,
}

impl Kind {
    /// Returns whether the request appends an entry, with or without records.
    pub(super) fn is_append(self) -> bool {
        matches!(self, Self::Append | Self::Insert)
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before the request arrives.
    LostRequest,
    /// The connection breaks after the request was carried out.
    LostAnswer,
    /// The sender gives up, and the request arrives later.
    Late,
    /// The server refuses, and does nothing.
    Refused(Refusal),
    /// The entry was appended, or the records were, but is not as durable as demanded.
    Unproven,
    /// A read returns this many entries at most, or this many records, but at least one.
    Short(usize),
}

/// How often something goes wrong, per thousand requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A connection is refused.
    pub unreachable: u16,
    /// See [`Fault::LostRequest`].
    pub lost_request: u16,
    /// See [`Fault::LostAnswer`].
    pub lost_answer: u16,
    /// See [`Fault::Late`].
    pub late: u16,
    /// The server can't write now.
    pub not_writable: u16,
    /// The server has no memory for an append or an insert.
    pub out_of_memory: u16,
    /// See [`Fault::Unproven`]. Of appends and inserts.
    pub unproven: u16,
    /// A read returns a few entries, or none, or a few records.
    pub short: u16,
}

impl Faults {
    /// Draws what goes wrong with a request.
    pub(super) fn draw(&self, kind: Kind, rng: &mut Rng) -> Option<Fault> {
        let of = |is_possible: bool, chance: u16| if is_possible { chance } else { 0 };
        let (is_append, is_read) = (kind.is_append(), matches!(kind, Kind::Read | Kind::Records));
        let chances = [
            (self.lost_request, Fault::LostRequest),
            (self.lost_answer, Fault::LostAnswer),
            (of(!is_read, self.late), Fault::Late),
            (of(kind != Kind::Read, self.not_writable), Fault::Refused(Refusal::NotWritable)),
            (of(is_append, self.out_of_memory), Fault::Refused(Refusal::Memory)),
            (of(is_append || kind == Kind::Erase, self.unproven), Fault::Unproven),
            (of(is_read, self.short), Fault::Short(rng.usize(0..3))),
        ];
        let mut drawn = rng.u16(0..1000);
        chances.into_iter().find_map(|(chance, fault)| match drawn.checked_sub(chance) {
            None => Some(fault),
            Some(rest) => {
                drawn = rest;
                None
            }
        })
    }
}
