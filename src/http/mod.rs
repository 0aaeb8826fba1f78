//! Parses requests and writes responses (RFC 9110, RFC 9112). Independent of topics and sockets: functions map bytes to values
//! and values to bytes, so that tests can split the input at every byte.
//!
//! ```text
//! head       a request's head; uses target (path, query), cookie, version
//! body       a request's body, by length or in chunks; uses extension
//! response   a response and its fields; uses cors
//! problem    an error response
//! access_log a line of the access log
//! forwarded  the client's address behind proxies
//! cors       which pages may read responses; uses origin
//! entity_tag If-Match
//! ```

pub mod access_log;
pub mod body;
pub mod cookie;
pub mod cors;
pub mod entity_tag;
mod extension;
pub mod forwarded;
pub mod head;
pub mod origin;
pub mod problem;
pub mod response;
pub mod target;
mod version;

pub use body::{Content, Decoder};
pub use cors::Origins;
pub use head::{Head, Method, Parsed};
pub use problem::Problem;
pub use response::{Response, ResponseParams};
pub use version::Version;
