//! The metrics of revoked tokens.

use std::sync::Arc;

use crate::auth::Revocations;
use crate::metrics::Family;

/// Returns the metrics of revoked tokens; all are 0 if no tokens are required.
pub(super) fn families(revocations: Option<&Arc<Revocations>>) -> [Family; 4] {
    let number = |of: fn(&Revocations) -> u64| revocations.map_or(0, |revocations| of(revocations));
    [
        Family::counter(
            "esker_revocations_total",
            "Revocations of tokens, by /revoke at this broker or at another one with the same engine.",
            number(Revocations::count),
        )
        .shown_as("revocations"),
        Family::gauge(
            "esker_revocations_retained",
            "Revocations by which tokens are refused; at most 65536.",
            number(|revocations| revocations.len() as u64),
        )
        .shown_as("revocations_retained"),
        Family::gauge(
            "esker_revocations_all_before_seconds",
            "Time, in seconds since the Unix epoch, before which all tokens are refused, because there were more \
             revocations than the broker retains; 0 if there were not.",
            number(Revocations::all_before),
        )
        .shown_as("revocations_all_before"),
        Family::counter(
            "esker_revoked_tokens_refused_total",
            "Requests rejected because their token was revoked.",
            number(Revocations::refused),
        )
        .shown_as("revoked_tokens_refused"),
    ]
}
