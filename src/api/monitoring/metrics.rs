//! `GET /metrics`: returns the broker's metrics and those of its process in the Prometheus text format.

use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::metrics::{self, Exposition, MEDIA_TYPE};

use super::{engine, metric_table, stats};
use crate::api::authorize::{authorize, require_name};
use crate::api::{Context, Plan};

pub(in crate::api) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    require_name(&authorize(Role::Publisher, head, context)?, stats::NAME)?;
    let mut table = metric_table::table(context);
    table.extend(engine::table(context.service));
    table.extend(metrics::process());
    Ok(Plan::Respond(Response::new(200, MEDIA_TYPE, Exposition(&table).to_string())))
}
