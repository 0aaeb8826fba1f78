//! What must hold of whatever bytes come: one file per target, each a function of bytes that panics where something does not
//! hold. `tests/fuzz` drives them with libFuzzer, and [`replay`] runs the inputs that are kept there in the normal tests.
//! Compiled for those two alone; refuses to know how inputs are found.
//!
//! ```text
//! head      a request's head, whole and cut short, against a reader that splits lines
//! body      lengths and chunks, whole and in pieces, against a reader of whole bodies
//! publish   a publish's text, against the standard's own algorithm; what goes out comes in again as it is
//! query     targets, hosts and percent-coding, there and back
//! token     tokens in all three places, claims judged twice, keys
//! json      records and their data, against serde_json's values
//! records   lines and files of records: loaded, written out, checked, opened and audited
//! exchange  a whole connection, in one piece and in many
//! corpus    many inputs in one text file
//! input     how an input is divided into choices and bytes
//! service   the parts of a broker that the routes need
//! naive     what a client makes of a stream and of answers
//! ```

mod body;
#[cfg(test)]
mod corpus;
mod exchange;
mod head;
mod input;
mod json;
pub(crate) mod naive;
mod publish;
mod query;
mod records;
#[cfg(test)]
mod replay;
pub(crate) mod service;
mod token;

pub use body::body;
pub use exchange::exchange;
pub use head::head;
pub use json::json;
pub use publish::publish;
pub use query::query;
pub use records::records;
pub use token::token;
