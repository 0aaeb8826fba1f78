//! Server-sent events as text and as wire bytes: what publishers send is checked by [`check`] and encoded by [`encode`], line by
//! line as [`parse`] reads it; what subscribers get is written by [`frame`] and [`stream`]. Knows no socket and no HTTP beyond
//! the shape of a chunk (RFC 9112 section 7.1), because a frame is encoded as one.

pub mod check;
pub mod encode;
pub mod event;
pub mod frame;
pub mod parse;
pub mod position;
pub mod stream;

pub use check::{Check, Dataless, FieldScan, MAX_EVENTS, PublishError};
pub use encode::{EVENT_COST, Encoder, drafts_from_data, drafts_from_text};
pub use event::{Event, EventError, MAX_DATA, check_id, check_name};
pub use frame::{Frame, Framing, UnsequencedFrame, record_frame};
pub use parse::Slice;
pub use position::{MAX_PUBLISHER_ID, position};
