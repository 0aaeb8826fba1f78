//! What the claims of a token must be, as far as the operator decides.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

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

    /// Returns the claim that lists topics, if it is present. Fails if it is repeated, or if the claims are not a JSON object.
    pub(super) fn find_topics(&self, claims: &RawValue) -> Result<Option<Value>, serde_json::Error> {
        FindMember(&self.topics_claim).deserialize(&mut serde_json::Deserializer::from_str(claims.get()))
    }
}

/// Finds the member of an object with this name.
struct FindMember<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for FindMember<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FindMember<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<String>()? {
            if name != self.0 {
                members.next_value::<IgnoredAny>()?;
            } else if found.replace(members.next_value()?).is_some() {
                return Err(A::Error::custom("repeated member"));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_found_by_its_literal_name() {
        let find = |name: &str, claims: &str| {
            let rules = ClaimRules { topics_claim: name.into(), ..ClaimRules::default() };
            rules.find_topics(&RawValue::from_string(claims.to_owned()).unwrap()).map_err(|_| ())
        };
        let claims = r#"{"a":{"b":1},"a.b":[2],"cognito:groups":null,"https:\/\/x\/topics":3}"#;
        assert_eq!(find("a.b", claims), Ok(Some(serde_json::json!([2]))));
        assert_eq!(find("cognito:groups", claims), Ok(Some(Value::Null)));
        assert_eq!(find("https://x/topics", claims), Ok(Some(serde_json::json!(3))));
        assert_eq!(find("b", claims), Ok(None));
        for invalid in ["[]", "5", "\"b\"", r#"{"b":1,"\u0062":1}"#] {
            assert_eq!(find("b", invalid), Err(()), "{invalid}");
        }
    }
}
