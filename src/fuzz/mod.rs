//! Fuzz targets: properties that must hold for all inputs. There is one file per target, with a function that takes any bytes
//! and panics if a property does not hold. `tests/fuzz` runs the targets with libFuzzer, and [`replay`] runs the inputs that
//! are stored there as part of the normal tests. Independent of how inputs are found.
//!
//! ```text
//! head      parses request heads, whole and truncated, and compares with a naive parser
//! body      decodes bodies, whole and in pieces, and compares with a naive decoder
//! publish   parses published events, and compares with the algorithm of the HTML standard
//! query     parses targets, hosts and percent-encoding, and encodes them again
//! token     authorizes tokens in all three places, and compares their claims with naive rules
//! json      parses records and their data, and compares with serde_json's values
//! records   loads, dumps, checks and opens lines and files of records
//! exchange  runs a whole connection, in one piece and in many
//! corpus    the format of a corpus: many inputs in one text file
//! input     how an input is divided into choices and bytes
//! replay    runs the stored inputs
//! service   a service without workers, for the targets that need one
//! naive     naive parsers of streams and responses
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
