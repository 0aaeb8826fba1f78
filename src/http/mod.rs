//! Bytes to requests and answers to bytes (RFC 9110, RFC 9112). Knows no topic and no socket: each
//! function maps bytes to values, so that it is tested split at every byte.

pub mod body;
pub mod cookie;
pub mod cors;
mod extension;
pub mod head;
pub mod origin;
pub mod problem;
pub mod response;
pub mod target;

pub use body::{Content, Decoder};
pub use cors::Origins;
pub use head::{Head, Method, Parsed, Version};
pub use problem::Problem;
pub use response::{Response, ResponseParams};
