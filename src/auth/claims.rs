//! The claims of a token whose signature is valid (RFC 7519 section 4). Their types are checked first, then the times.

use std::fmt;
use std::sync::Arc;

use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{AuthError, ClaimRules, Grant, Principal, Revocations, TokenIdentity};

/// The claims that the broker uses, with their types unchecked. A claim that is `null` counts as present.
#[derive(Debug, Default)]
pub(super) struct RawClaims {
    exp: Option<Value>,
    nbf: Option<Value>,
    aud: Option<Value>,
    iss: Option<Value>,
    sub: Option<Value>,
    topics: Option<Value>,
    iat: Option<Value>,
    jti: Option<Value>,
}

/// Reads claims, of which the one with this name lists topics.
struct ReadClaims<'a> {
    topics_claim: &'a str,
}

impl<'de> Visitor<'de> for ReadClaims<'_> {
    type Value = RawClaims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// A repeated claim is an error, because two readers could disagree about its value (RFC 7519 section 4).
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<RawClaims, A::Error> {
        let mut claims = RawClaims::default();
        while let Some(name) = members.next_key::<String>()? {
            match claims.claim(&name, self.topics_claim) {
                None => drop(members.next_value::<IgnoredAny>()?),
                Some(claim) => {
                    if claim.replace(members.next_value()?).is_some() {
                        return Err(A::Error::custom("repeated claim"));
                    }
                }
            }
        }
        Ok(claims)
    }
}

impl RawClaims {
    /// Reads the claims of a token, which are a JSON object.
    pub(super) fn read(json: &RawValue, rules: &ClaimRules) -> Result<Self, AuthError> {
        let reader = ReadClaims { topics_claim: &rules.topics_claim };
        serde_json::Deserializer::from_str(json.get()).deserialize_map(reader).map_err(|_| AuthError::Claims)
    }

    /// Returns the claim with this name, if the broker uses it.
    fn claim(&mut self, name: &str, topics_claim: &str) -> Option<&mut Option<Value>> {
        Some(match name {
            _ if name == topics_claim => &mut self.topics,
            "exp" => &mut self.exp,
            "nbf" => &mut self.nbf,
            "aud" => &mut self.aud,
            "iss" => &mut self.iss,
            "sub" => &mut self.sub,
            "iat" => &mut self.iat,
            "jti" => &mut self.jti,
            _ => return None,
        })
    }

    /// Returns `sub`, if it is a string.
    pub(super) fn subject(&self) -> Option<&str> {
        self.sub.as_ref().and_then(Value::as_str)
    }

    /// Returns the token's identity for revocation. A token without `iat` counts as issued before every revocation.
    fn identity(&self, revocations: &Revocations) -> Result<TokenIdentity, AuthError> {
        let issued = self.iat.as_ref().map_or(Ok(0), parse_issued)?;
        let id = self.jti.as_ref().map(|id| id.as_str().ok_or(AuthError::TokenId)).transpose()?;
        Ok(revocations.identify(self.subject(), id, issued))
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
    /// Checks the types of all claims, the audience and the issuer. The token can be revoked by this table.
    pub(super) fn parse(raw: &RawClaims, rules: &ClaimRules, revocations: &Revocations) -> Result<Self, AuthError> {
        let expires = parse_seconds(raw.exp.as_ref(), AuthError::Expiry)?.ok_or(AuthError::Expiry)?;
        let not_before = parse_seconds(raw.nbf.as_ref(), AuthError::NotBefore)?.unwrap_or(0);
        if !is_for(raw.aud.as_ref(), &rules.audience) {
            return Err(AuthError::Audience(Arc::clone(&rules.audience)));
        }
        check_issuer(raw.iss.as_ref(), rules)?;
        if raw.sub.is_some() && raw.subject().is_none() {
            return Err(AuthError::Subject);
        }
        let identity = raw.identity(revocations)?;
        let topics = parse_topics(raw.topics.as_ref(), rules)?;
        let grant = Grant::new(raw.subject(), &topics, expires).with_identity(identity);
        Ok(Self { not_before, expires, grant })
    }

    /// Sets the principal of the grant.
    pub(super) fn with_principal(self, principal: Principal) -> Self {
        Self { grant: self.grant.with_principal(principal), ..self }
    }

    /// Returns what the claims allow at `now`, in seconds since the Unix epoch. Only `nbf` has a leeway.
    pub(super) fn grant_at(&self, now: u64, rules: &ClaimRules) -> Result<Grant, AuthError> {
        if now >= self.expires {
            return Err(AuthError::Expired { at: self.expires, now });
        }
        if now.saturating_add(rules.leeway) < self.not_before {
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

/// Parses `iat`, whose fraction of a second does not count: some issuers write one.
fn parse_issued(claim: &Value) -> Result<u64, AuthError> {
    let seconds = claim.as_u64().or_else(|| claim.as_f64().map(|seconds| seconds as u64));
    seconds.ok_or(AuthError::IssuedAt)
}

/// Returns whether `aud` is absent or names this audience (RFC 7519 section 4.1.3).
fn is_for(claim: Option<&Value>, audience: &str) -> bool {
    let is_us = |value: &Value| value == audience;
    match claim {
        None => true,
        Some(Value::Array(list)) => list.iter().any(is_us),
        Some(one) => is_us(one),
    }
}

/// Checks `iss`, if only one issuer is accepted (RFC 7519 section 4.1.1).
fn check_issuer(claim: Option<&Value>, rules: &ClaimRules) -> Result<(), AuthError> {
    let Some(expected) = &rules.issuer else { return Ok(()) };
    match claim {
        Some(issuer) if *issuer == **expected => Ok(()),
        Some(_) => Err(AuthError::Issuer(Arc::clone(expected))),
        None => Err(AuthError::NoIssuer(Arc::clone(expected))),
    }
}

fn parse_topics<'a>(claim: Option<&'a Value>, rules: &ClaimRules) -> Result<Vec<&'a str>, AuthError> {
    let error = || AuthError::Topics(Arc::clone(&rules.topics_claim));
    match claim {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|entry| entry.as_str().ok_or_else(error)).collect(),
        Some(_) => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1000;

    fn evaluate(claims: &Value) -> Result<Grant, AuthError> {
        evaluate_by(&ClaimRules::default(), claims)
    }

    fn evaluate_by(rules: &ClaimRules, claims: &Value) -> Result<Grant, AuthError> {
        let json = RawValue::from_string(claims.to_string()).unwrap();
        Claims::parse(&RawClaims::read(&json, rules)?, rules, &Revocations::default())?.grant_at(NOW, rules)
    }

    #[test]
    fn topics_are_in_the_claim_with_the_literal_name() {
        let find = |name: &str, claims: &str| {
            let rules = ClaimRules { topics_claim: name.into(), ..ClaimRules::default() };
            RawClaims::read(&RawValue::from_string(claims.to_owned()).unwrap(), &rules).map(|claims| claims.topics)
        };
        let claims = r#"{"a":{"b":1},"a.b":[2],"cognito:groups":null,"https:\/\/x\/topics":3,"topics":4}"#;
        assert_eq!(find("a.b", claims), Ok(Some(json!([2]))));
        assert_eq!(find("cognito:groups", claims), Ok(Some(Value::Null)));
        assert_eq!(find("https://x/topics", claims), Ok(Some(json!(3))));
        assert_eq!(find("topics", claims), Ok(Some(json!(4))));
        assert_eq!(find("b", claims), Ok(None));
        for invalid in ["[]", "5", "\"b\"", r#"{"b":1,"\u0062":1}"#, r#"{"exp":1,"exp":1}"#] {
            assert_eq!(find("b", invalid), Err(AuthError::Claims), "{invalid}");
        }
    }

    #[test]
    fn only_not_before_has_a_leeway() {
        let with = |exp: u64, nbf: u64| evaluate(&json!({"exp": exp, "nbf": nbf, "sub": "greeting1"}));
        assert_eq!(with(1001, 1005).map(|grant| grant.expires()), Ok(Some(1001)));
        assert_eq!(with(1000, 0), Err(AuthError::Expired { at: 1000, now: NOW }));
        assert_eq!(with(2000, 1006), Err(AuthError::TooEarly { from: 1006, now: NOW }));
        let none = ClaimRules { leeway: 0, ..ClaimRules::default() };
        let early = evaluate_by(&none, &json!({"exp": 2000, "nbf": 1001}));
        assert_eq!(early, Err(AuthError::TooEarly { from: 1001, now: NOW }));
        assert!(evaluate_by(&none, &json!({"exp": 2000, "nbf": 1000})).is_ok());
        assert!(with(u64::MAX, 0).is_ok());
    }

    #[test]
    fn claims_of_a_wrong_type_are_refused() {
        for bad in [json!("2000"), json!(2000.0), json!(1e300), json!(null), json!(true), json!([2000]), json!({})] {
            assert_eq!(evaluate(&json!({ "exp": bad })), Err(AuthError::Expiry), "{bad}");
            assert_eq!(evaluate(&json!({"exp": 2000, "nbf": bad})), Err(AuthError::NotBefore), "{bad}");
            if !bad.is_number() {
                assert_eq!(evaluate(&json!({"exp": 2000, "iat": bad})), Err(AuthError::IssuedAt), "{bad}");
            }
        }
        for (issued, second) in [(json!(7), 7), (json!(7.9), 7), (json!(-1), 0), (json!(-0.5), 0)] {
            let grant = evaluate(&json!({"exp": 2000, "iat": issued})).unwrap();
            assert_eq!(grant.validity().token.unwrap().issued, second, "{issued}");
        }
        assert_eq!(evaluate(&json!({"sub": "greeting1"})), Err(AuthError::Expiry));
        assert_eq!(evaluate(&json!({"exp": -5})), Err(AuthError::Expired { at: 0, now: NOW }));
        for bad in [json!(1), json!(["greeting1"]), json!(null)] {
            assert_eq!(evaluate(&json!({"exp": 2000, "sub": bad})), Err(AuthError::Subject), "{bad}");
            assert_eq!(evaluate(&json!({"exp": 2000, "jti": bad})), Err(AuthError::TokenId), "{bad}");
        }
        for bad in [json!("*"), json!({"*": 1}), json!(["greeting1", 5]), json!(null)] {
            assert_eq!(
                evaluate(&json!({"exp": 2000, "topics": bad})),
                Err(AuthError::Topics("topics".into())),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_token_for_another_audience_is_refused() {
        let with = |audience: Value| evaluate(&json!({"exp": 2000, "aud": audience}));
        assert!(with(json!("esker")).is_ok() && with(json!(["shop", "esker"])).is_ok());
        for other in [json!("shop"), json!([]), json!(["shop"]), json!(5), json!(null)] {
            assert_eq!(with(other.clone()), Err(AuthError::Audience("esker".into())), "{other}");
        }
    }

    #[test]
    fn a_subject_is_one_name_and_topics_may_be_prefixes() {
        let grant = evaluate(&json!({"exp": 2000, "sub": "Greeting1", "topics": ["news*", "weather12"]})).unwrap();
        assert!(["greeting1", "newspaper1", "weather12"].into_iter().all(|name| grant.allows_topic(name)));
        assert!(!grant.allows_topic("greeting2"));
        let grant = evaluate(&json!({"exp": 2000, "sub": "*"})).unwrap();
        assert!(!grant.allows_topic("greeting1"), "a subject is never a prefix, because a user may have chosen it");
    }

    #[test]
    fn an_audience_and_an_issuer_may_be_required() {
        let rules = ClaimRules { audience: "shop".into(), issuer: Some("https://i/".into()), ..ClaimRules::default() };
        let with = |aud: Value, iss: Value| evaluate_by(&rules, &json!({"exp": 2000, "aud": aud, "iss": iss}));
        assert!(with(json!("shop"), json!("https://i/")).is_ok());
        assert_eq!(with(json!("esker"), json!("https://i/")), Err(AuthError::Audience("shop".into())));
        for other in [json!("https://i"), json!("HTTPS://I/"), json!(["https://i/"]), json!(null), json!(5)] {
            assert_eq!(with(json!("shop"), other.clone()), Err(AuthError::Issuer("https://i/".into())), "{other}");
        }
        assert_eq!(evaluate_by(&rules, &json!({"exp": 2000})), Err(AuthError::NoIssuer("https://i/".into())));
    }

    #[test]
    fn another_claim_may_list_the_topics() {
        let rules = ClaimRules { topics_claim: "https://a.b/topics".into(), ..ClaimRules::default() };
        let claims = json!({"exp": 2000, "topics": ["greeting1"], "https://a.b/topics": ["news*"]});
        let grant = evaluate_by(&rules, &claims).unwrap();
        assert!(grant.allows_topic("newspaper1") && !grant.allows_topic("greeting1"));
        let claims = json!({"exp": 2000, "https://a.b/topics": "news*"});
        assert_eq!(evaluate_by(&rules, &claims), Err(AuthError::Topics("https://a.b/topics".into())));
        // A claim that is not used may have any type.
        assert!(evaluate_by(&rules, &json!({"exp": 2000, "topics": 5})).is_ok());
    }
}
