//! The metrics of revoked tokens.

use crate::auth::Revocations;
use crate::metrics::Family;

/// Returns the metrics of revoked tokens.
pub(super) fn families(revocations: &Revocations) -> [Family; 4] {
    [
        Family::counter(
            "esker_revocations_total",
            "Revocations of tokens, by /revoke at this broker or at another one with the same engine.",
            revocations.count(),
        )
        .shown_as("revocations"),
        Family::gauge(
            "esker_revocations_retained",
            "Revocations by which tokens are refused; at most 65536.",
            revocations.len(),
        )
        .shown_as("revocations_retained"),
        Family::gauge(
            "esker_revocations_all_before_seconds",
            "Time, in seconds since the Unix epoch, before which all tokens are refused, because there were more \
             revocations than the broker retains; 0 if there were not.",
            revocations.all_before(),
        )
        .shown_as("revocations_all_before"),
        Family::counter(
            "esker_revoked_tokens_refused_total",
            "Requests rejected because their token was revoked.",
            revocations.refused(),
        )
        .shown_as("revoked_tokens_refused"),
    ]
}
