//! Server-sent events as text and as wire bytes: what publishers send is read by [`parse`], what
//! subscribers get is written by [`frame`] and [`stream`]. Knows no socket and no HTTP beyond the
//! shape of a chunk (RFC 9112 section 7.1), because a frame is encoded as one.

pub mod event;
pub mod frame;
pub mod parse;
pub mod stream;

pub use event::{Event, EventError, MAX_DATA, position};
pub use frame::{Draft, Frame, Framing, record_frame};
pub use parse::{PublishError, drafts_from_data, drafts_from_text};
