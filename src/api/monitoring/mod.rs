//! What an operator watches: `/healthz`, `/livez`, `/stats` and `/metrics`, the last two from one table.

pub(in crate::api) mod health;
mod metric_table;
pub(in crate::api) mod metrics;
pub(in crate::api) mod stats;
