//! The claims of a token whose signature is valid (RFC 7519 section 4). Their types are checked first, then the times.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{AUDIENCE, AuthError, Grant, Principal};

/// The claims that the broker uses, with their types unchecked. A repeated claim is an error, because two readers could
/// disagree about its value (RFC 7519 section 4). A claim that is `null` counts as present.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawClaims {
    #[serde(deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(deserialize_with = "present")]
    nbf: Option<Value>,
    #[serde(deserialize_with = "present")]
    aud: Option<Value>,
    #[serde(deserialize_with = "present")]
    sub: Option<Value>,
    #[serde(deserialize_with = "present")]
    topics: Option<Value>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl RawClaims {
    /// Returns `sub`, if it is a string.
    pub(super) fn subject(&self) -> Option<&str> {
        self.sub.as_ref().and_then(Value::as_str)
    }
}

/// Claims whose types are correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    not_before: u64,
    expires: u64,
    grant: Grant,
}

impl Claims {
    /// Checks the types of all claims, and the audience.
    pub(super) fn parse(raw: &RawClaims) -> Result<Self, AuthError> {
        let expires = parse_seconds(raw.exp.as_ref(), AuthError::Expiry)?.ok_or(AuthError::Expiry)?;
        let not_before = parse_seconds(raw.nbf.as_ref(), AuthError::NotBefore)?.unwrap_or(0);
        if !is_for_broker(raw.aud.as_ref()) {
            return Err(AuthError::Audience);
        }
        if raw.sub.is_some() && raw.subject().is_none() {
            return Err(AuthError::Subject);
        }
        let grant = Grant::new(raw.subject(), &parse_topics(raw.topics.as_ref())?, expires);
        Ok(Self { not_before, expires, grant })
    }

    /// Sets the principal of the grant.
    pub(super) fn with_principal(self, principal: Principal) -> Self {
        Self { grant: self.grant.with_principal(principal), ..self }
    }

    /// Returns what the claims allow at `now`, in seconds since the Unix epoch. Times have no leeway.
    pub(super) fn grant_at(&self, now: u64) -> Result<Grant, AuthError> {
        if now >= self.expires {
            return Err(AuthError::Expired { at: self.expires, now });
        }
        if now < self.not_before {
            return Err(AuthError::TooEarly { from: self.not_before, now });
        }
        Ok(self.grant.clone())
    }
}

/// Parses a NumericDate (RFC 7519 section 2), which must be a whole number. A time before the epoch counts as the epoch.
fn parse_seconds(claim: Option<&Value>, error: AuthError) -> Result<Option<u64>, AuthError> {
    match claim {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let negative = number.as_i64().map(|_| 0);
            number.as_u64().or(negative).map(Some).ok_or(error)
        }
        Some(_) => Err(error),
    }
}

/// Returns whether `aud` is absent or names this broker (RFC 7519 section 4.1.3).
fn is_for_broker(claim: Option<&Value>) -> bool {
    let is_us = |value: &Value| value == AUDIENCE;
    match claim {
        None => true,
        Some(Value::Array(list)) => list.iter().any(is_us),
        Some(one) => is_us(one),
    }
}

fn parse_topics(claim: Option<&Value>) -> Result<Vec<&str>, AuthError> {
    match claim {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|entry| entry.as_str().ok_or(AuthError::Topics)).collect(),
        Some(_) => Err(AuthError::Topics),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1000;

    fn evaluate(claims: Value) -> Result<Grant, AuthError> {
        Claims::parse(&serde_json::from_value(claims).unwrap())?.grant_at(NOW)
    }

    #[test]
    fn expiry_and_not_before_have_no_leeway() {
        let with = |exp: u64, nbf: u64| evaluate(json!({"exp": exp, "nbf": nbf, "sub": "greeting1"}));
        assert_eq!(with(1001, 1000).map(|grant| grant.expires()), Ok(Some(1001)));
        assert_eq!(with(1000, 0), Err(AuthError::Expired { at: 1000, now: NOW }));
        assert_eq!(with(2000, 1001), Err(AuthError::TooEarly { from: 1001, now: NOW }));
        assert!(with(u64::MAX, 0).is_ok());
    }

    #[test]
    fn claims_of_a_wrong_type_are_refused() {
        for bad in [json!("2000"), json!(2000.0), json!(1e300), json!(null), json!(true), json!([2000]), json!({})] {
            assert_eq!(evaluate(json!({ "exp": bad })), Err(AuthError::Expiry), "{bad}");
            assert_eq!(evaluate(json!({"exp": 2000, "nbf": bad})), Err(AuthError::NotBefore), "{bad}");
        }
        assert_eq!(evaluate(json!({"sub": "greeting1"})), Err(AuthError::Expiry));
        assert_eq!(evaluate(json!({"exp": -5})), Err(AuthError::Expired { at: 0, now: NOW }));
        for bad in [json!(1), json!(["greeting1"]), json!(null)] {
            assert_eq!(evaluate(json!({"exp": 2000, "sub": bad})), Err(AuthError::Subject), "{bad}");
        }
        for bad in [json!("*"), json!({"*": 1}), json!(["greeting1", 5]), json!(null)] {
            assert_eq!(evaluate(json!({"exp": 2000, "topics": bad})), Err(AuthError::Topics), "{bad}");
        }
    }

    #[test]
    fn a_token_for_another_audience_is_refused() {
        let with = |audience: Value| evaluate(json!({"exp": 2000, "aud": audience}));
        assert!(with(json!("esker")).is_ok() && with(json!(["shop", "esker"])).is_ok());
        for other in [json!("shop"), json!([]), json!(["shop"]), json!(5), json!(null)] {
            assert_eq!(with(other.clone()), Err(AuthError::Audience), "{other}");
        }
    }

    #[test]
    fn a_subject_is_one_name_and_topics_may_be_prefixes() {
        let grant = evaluate(json!({"exp": 2000, "sub": "Greeting1", "topics": ["news*", "weather12"]})).unwrap();
        assert!(["greeting1", "newspaper1", "weather12"].into_iter().all(|name| grant.allows_topic(name)));
        assert!(!grant.allows_topic("greeting2"));
        let grant = evaluate(json!({"exp": 2000, "sub": "*"})).unwrap();
        assert!(!grant.allows_topic("greeting1"), "a subject is never a prefix, because a user may have chosen it");
    }
}
