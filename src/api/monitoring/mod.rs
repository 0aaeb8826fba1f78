//! The routes for monitoring: `/healthz`, `/livez`, `/stats` and `/metrics`. The last two show the same table.

mod engine;
pub(in crate::api) mod health;
mod metric_table;
pub(in crate::api) mod metrics;
pub(in crate::api) mod stats;
