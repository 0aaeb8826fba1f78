//! `GET /stats`: the broker's numbers as JSON.

use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::metrics;

use super::metric_table;
use crate::api::authorize::{admit, demand};
use crate::api::{Context, Plan};

/// What a token must name.
pub(in crate::api) const NAME: &str = "stats";

pub(in crate::api) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    demand(&admit(Role::Publisher, head, context)?, NAME)?;
    Ok(Plan::Respond(Response::json(metrics::stats(&metric_table::table(context)).to_string())))
}
