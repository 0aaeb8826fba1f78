//! What the claims of a token must be, as far as the operator decides.

use std::sync::Arc;

/// The settings for claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRules {
    /// How much earlier than `nbf` a token is accepted, in seconds.
    pub leeway: u64,
    /// What `aud` must be or contain, if it is present.
    pub audience: Arc<str>,
    /// What `iss` must be.
    pub issuer: Option<Arc<str>>,
    /// The name of the claim that lists topics.
    pub topics_claim: Arc<str>,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self { leeway: 5, audience: "esker".into(), issuer: None, topics_claim: Self::TOPICS.into() }
    }
}

impl ClaimRules {
    /// The name of the claim that lists topics, unless another one is set.
    pub(super) const TOPICS: &str = "topics";

    /// The names of claims that can't list topics (RFC 7519 section 4.1).
    pub(crate) const RESERVED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];
}
