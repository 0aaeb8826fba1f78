//! Server-sent events (WHATWG HTML, section 9.2) as text and as bytes for the wire. Independent of sockets, and of HTTP except
//! for the format of a chunk (RFC 9112 section 7.1), because a frame is encoded as one.
//!
//! ```text
//! body of a publish ─► check ─► encode ─► UnsequencedFrame ─► (the hub assigns the id) ─► Frame ─► subscribers
//!                      └── parse: lines and fields                                        stream ─┘
//! ```

pub mod check;
pub mod encode;
pub mod event;
pub mod frame;
mod lines;
pub mod parse;
pub mod position;
mod record;
pub mod stream;
#[cfg(feature = "internals")]
mod whole;

pub use check::{Check, Dataless, FieldScan, MAX_EVENTS, PublishError};
pub use encode::{EVENT_COST, Encoder};
pub use event::{Event, EventError, MAX_DATA, check_id, check_name};
pub use frame::{Frame, Framing, UnsequencedFrame};
pub use parse::Slice;
pub use position::{MAX_PUBLISHER_ID, position};
pub use record::{encode_record, erasure_frame, push_head, push_tail, record_frame, record_len};
#[cfg(feature = "internals")]
pub use whole::{frames_from_data, frames_from_text};
