//! `GET /stats`: the broker's numbers as JSON.

use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::metrics;

use super::authorize::{admit, demand};
use super::{Context, Plan, metric_table};

/// What a token must name.
pub(super) const NAME: &str = "stats";

pub(super) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    demand(&admit(Role::Publisher, head, context)?, NAME)?;
    Ok(Plan::Respond(Response::json(metrics::stats(&metric_table::table(context)).to_string())))
}
