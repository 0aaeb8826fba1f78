//! `GET /stats`: returns the broker's metrics as JSON.

use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::metrics;

use super::metric_table;
use crate::api::authorize::{authorize, require_name};
use crate::api::{Context, Plan};

/// The name that a token must allow for `/stats` and `/metrics`.
pub(in crate::api) const NAME: &str = "stats";

pub(in crate::api) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    require_name(&authorize(Role::Publisher, head, context)?, NAME)?;
    Ok(Plan::Respond(Response::json(metrics::stats(&metric_table::table(context)).to_string())))
}
