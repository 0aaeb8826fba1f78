//! The routes for monitoring: `/healthz`, `/livez`, `/stats`, `/metrics` and `/topics`. `/stats` and `/metrics` show the same
//! table.

mod engine;
pub(in crate::api) mod health;
mod metric_table;
pub(in crate::api) mod metrics;
mod revocations;
pub(in crate::api) mod stats;
pub(in crate::api) mod topics;
mod workers;
