//! `GET /metrics`: the broker's numbers as Prometheus reads them, and what the system says of its process.

use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::metrics::{self, Exposition, MEDIA_TYPE};

use super::{metric_table, stats};
use crate::api::authorize::{admit, demand};
use crate::api::{Context, Plan};

pub(in crate::api) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    demand(&admit(Role::Publisher, head, context)?, stats::NAME)?;
    let mut table = metric_table::table(context);
    table.extend(metrics::process());
    Ok(Plan::Respond(Response::new(200, MEDIA_TYPE, Exposition(&table).to_string())))
}
