//! `GET /stats`: returns the broker's metrics as JSON.

use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::metrics;

use super::{engine, metric_table};
use crate::api::authorize::{authorize, require_name};
use crate::api::{Context, Plan};

/// The name that a token must allow for `/stats`, `/metrics` and `/topics`.
pub(in crate::api) const NAME: &str = "stats";

pub(in crate::api) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    require_name(&authorize(Role::Publisher, head, context)?, NAME)?;
    let mut stats = metrics::stats(&metric_table::table(context));
    if let Some(object) = engine::object(context.service) {
        stats["engine"] = object;
    }
    Ok(Plan::Respond(Response::json(stats.to_string())))
}
