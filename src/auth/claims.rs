//! The claims of a token whose signature is good: types first, then times, then names.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{AuthError, Grant, Principal};

/// The value of `aud` that names this broker.
pub(super) const AUDIENCE: &str = "esker";

/// The claims that count, as they came. One that is there twice could be read in two ways (RFC 7519
/// section 4) and is refused; `null` is there.
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
    /// Whom the token names, if its claims can be parsed.
    pub(super) fn subject(&self) -> Option<&str> {
        self.sub.as_ref().and_then(Value::as_str)
    }
}

/// What a token says, once its types are known to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    begins: u64,
    expires: u64,
    grant: Grant,
}

impl Claims {
    pub(super) fn parse(raw: &RawClaims) -> Result<Self, AuthError> {
        let expires = seconds(raw.exp.as_ref(), AuthError::Expiry)?.ok_or(AuthError::Expiry)?;
        let begins = seconds(raw.nbf.as_ref(), AuthError::NotBefore)?.unwrap_or(0);
        if !is_for_us(raw.aud.as_ref()) {
            return Err(AuthError::Audience);
        }
        if raw.sub.is_some() && raw.subject().is_none() {
            return Err(AuthError::Subject);
        }
        let grant = Grant::new(raw.subject(), &entries(raw.topics.as_ref())?, expires);
        Ok(Self { begins, expires, grant })
    }

    /// The same of a token that is this holder's.
    pub(super) fn of(self, holder: Principal) -> Self {
        Self { grant: self.grant.of(holder), ..self }
    }

    /// What they allow at this moment.
    pub(super) fn at(&self, now: u64) -> Result<Grant, AuthError> {
        if now >= self.expires {
            return Err(AuthError::Expired { at: self.expires, now });
        }
        if now < self.begins {
            return Err(AuthError::TooEarly { from: self.begins, now });
        }
        Ok(self.grant.clone())
    }
}

/// A NumericDate (RFC 7519 section 2) that is whole. What is before the epoch is as good as the epoch.
fn seconds(claim: Option<&Value>, denial: AuthError) -> Result<Option<u64>, AuthError> {
    match claim {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let negative = number.as_i64().map(|_| 0);
            number.as_u64().or(negative).map(Some).ok_or(denial)
        }
        Some(_) => Err(denial),
    }
}

/// RFC 7519 section 4.1.3: a token that names its audience must name whoever accepts it.
fn is_for_us(claim: Option<&Value>) -> bool {
    let is_us = |value: &Value| value == AUDIENCE;
    match claim {
        None => true,
        Some(Value::Array(list)) => list.iter().any(is_us),
        Some(one) => is_us(one),
    }
}

fn entries(claim: Option<&Value>) -> Result<Vec<&str>, AuthError> {
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

    fn read_json(claims: Value) -> Result<Grant, AuthError> {
        Claims::parse(&serde_json::from_value(claims).unwrap())?.at(NOW)
    }

    #[test]
    fn times_have_no_leeway() {
        let with = |exp: u64, nbf: u64| read_json(json!({"exp": exp, "nbf": nbf, "sub": "greeting1"}));
        assert_eq!(with(1001, 1000).map(|grant| grant.expires()), Ok(Some(1001)));
        assert_eq!(with(1000, 0), Err(AuthError::Expired { at: 1000, now: NOW }));
        assert_eq!(with(2000, 1001), Err(AuthError::TooEarly { from: 1001, now: NOW }));
        assert!(with(u64::MAX, 0).is_ok());
    }

    #[test]
    fn wrong_types_are_refused() {
        for bad in [json!("2000"), json!(2000.0), json!(1e300), json!(null), json!(true), json!([2000]), json!({})] {
            assert_eq!(read_json(json!({ "exp": bad })), Err(AuthError::Expiry), "{bad}");
            assert_eq!(read_json(json!({"exp": 2000, "nbf": bad})), Err(AuthError::NotBefore), "{bad}");
        }
        assert_eq!(read_json(json!({"sub": "greeting1"})), Err(AuthError::Expiry));
        assert_eq!(read_json(json!({"exp": -5})), Err(AuthError::Expired { at: 0, now: NOW }));
        for bad in [json!(1), json!(["greeting1"]), json!(null)] {
            assert_eq!(read_json(json!({"exp": 2000, "sub": bad})), Err(AuthError::Subject), "{bad}");
        }
        for bad in [json!("*"), json!({"*": 1}), json!(["greeting1", 5]), json!(null)] {
            assert_eq!(read_json(json!({"exp": 2000, "topics": bad})), Err(AuthError::Topics), "{bad}");
        }
    }

    #[test]
    fn a_token_for_another_audience_is_refused() {
        let with = |audience: Value| read_json(json!({"exp": 2000, "aud": audience}));
        assert!(with(json!("esker")).is_ok() && with(json!(["shop", "esker"])).is_ok());
        for other in [json!("shop"), json!([]), json!(["shop"]), json!(5), json!(null)] {
            assert_eq!(with(other.clone()), Err(AuthError::Audience), "{other}");
        }
    }

    #[test]
    fn the_subject_is_one_name_and_topics_are_several() {
        let grant = read_json(json!({"exp": 2000, "sub": "Greeting1", "topics": ["news*", "weather12"]})).unwrap();
        assert!(["greeting1", "newspaper1", "weather12"].into_iter().all(|name| grant.allows_topic(name)));
        assert!(!grant.allows_topic("greeting2"));
        let grant = read_json(json!({"exp": 2000, "sub": "*"})).unwrap();
        assert!(!grant.allows_topic("greeting1"), "a subject is no prefix: it may be a name that somebody chose");
    }
}
