//! Fuzzes authentication. A token must have the same effect in the query, the `Authorization` field and the cookie; claims must
//! allow what naive rules allow; and an altered token, or one signed with a public key as the secret, must be refused.

use std::cell::RefCell;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use ring::hmac;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::input::Input;
use super::service::{self, SUBSCRIBER, keyring};
use crate::api::{Plan, plan};
use crate::auth::{Auth, AuthError, ClaimRules, Grant, KeySet, Keyring, Keyrings, Role, Secret, TokenCache};
use crate::clock::Now;
use crate::http::{Parsed, head};

/// The current time in all inputs, in seconds since the Unix epoch.
const NOW: u64 = 1_000_000;
/// How much earlier than `nbf` a token is accepted by default, in seconds.
const LEEWAY: u64 = 5;
/// The topic of all requests.
const TOPIC: &str = "greeting1";
/// Longer tokens are not sent, because a head must have room for several of them.
const MAX_SENT: usize = 1500;
/// The maximum size of a key file.
const MAX_FILE: usize = 8 << 10;

/// Runs one input: a byte that chooses what to do, and a token, a header, claims or a key file.
pub fn token(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.choice() & 3 {
        0 => send_token(input.0),
        1 => sign_token(br#"{"alg":"HS256"}"#, input.0),
        2 => {
            let mut parts = input.0.splitn(2, |&b| b == b'\n');
            sign_token(
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or(br#"{"exp":1000010,"sub":"greeting1"}"#),
            );
        }
        _ => parse_key(input.0),
    }
}

/// Authorizes a token twice, the second time with the first result cached.
fn authorize(keyrings: &Keyrings, token: &[u8]) -> Result<Grant, AuthError> {
    let mut cache = TokenCache::default();
    let first = keyrings.verify(Role::Subscriber, token, NOW, &mut cache);
    let again = keyrings.look_up(Role::Subscriber, token, NOW, &mut cache);
    // A token with an invalid signature is not cached, so it is verified again.
    assert_eq!(again.unwrap_or_else(|| keyrings.verify(Role::Subscriber, token, NOW, &mut cache)), first);
    if let Err(error) = &first {
        assert!(!error.to_string().is_empty());
    }
    first
}

fn with_keyrings<T>(run: impl FnOnce(&Keyrings) -> T) -> T {
    service::with(true, 1, |service| match &service.auth {
        Auth::Tokens(keyrings) => run(keyrings),
        Auth::Open => panic!("the service requires tokens"),
    })
}

/// Sends any bytes as a token in all three places.
fn send_token(token: &[u8]) {
    let authorized = with_keyrings(|keyrings| authorize(keyrings, token));
    let is_allowed = |b: &u8| *b >= b' ' && *b != 127 && !b"\";".contains(b);
    if token.is_empty() || token.len() > MAX_SENT || token.trim_ascii() != token || !token.iter().all(is_allowed) {
        return;
    }
    let in_query = format!("?token={}", percent_encode(token, NON_ALPHANUMERIC));
    let in_field = [b"Authorization: bearer ", token, b"\r\n"].concat();
    let in_cookie = [b"Cookie: a=b; esker_token=", token, b" ;c=d\r\n"].concat();
    let expected = expected(&authorized);
    assert_eq!(ask("", &in_field), expected, "in the field");
    assert_eq!(ask(&in_query, b""), expected, "in the query");
    assert_eq!(ask("", &in_cookie), expected, "in the cookie");
    // The field takes precedence over the query and the cookie, and the query over the cookie.
    assert_eq!(ask("?token=x", &[&in_field[..], b"Cookie: esker_token=y\r\n"].concat()), expected);
    assert_eq!(ask(&in_query, b"Cookie: esker_token=y\r\nAuthorization: Basic eDp5\r\n"), expected);
}

/// Returns the status and the reason in the response to a request for the topic.
fn expected(authorized: &Result<Grant, AuthError>) -> (u16, Option<String>) {
    match authorized {
        Ok(grant) if grant.allows_topic(TOPIC) => (200, None),
        Ok(_) => (403, None),
        Err(error) => (401, Some(error.to_string())),
    }
}

fn ask(query: &str, fields: &[u8]) -> (u16, Option<String>) {
    let line = format!("GET /subscribe/{TOPIC}{query} HTTP/1.1\r\nHost: h\r\n");
    let bytes = [line.as_bytes(), fields, b"\r\n"].concat();
    let Ok(Parsed::Complete(head, _)) = head::parse(&bytes) else { panic!("the head is invalid: {bytes:?}") };
    service::with(true, 1, |service| {
        let (tokens, now) = (RefCell::default(), Now { id_micros: 50, unix_millis: NOW * 1000, millis: 1 });
        match plan(&head, service::context(service, &tokens, now)) {
            Plan::Subscribe(_) => (200, None),
            Plan::Refuse(problem) if problem.status == 401 => (401, Some(problem.detail.into_owned())),
            Plan::Refuse(problem) => (problem.status, None),
            other => panic!("{other:?}"),
        }
    })
}

/// Signs any header and claims, and checks that altered and forged copies are refused.
fn sign_token(header: &[u8], claims: &[u8]) {
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let token = format!("{parts}.{}", URL_SAFE_NO_PAD.encode(sign(SUBSCRIBER, &parts)));
    let forged = format!("{parts}.{}", URL_SAFE_NO_PAD.encode(sign(b"another secret of 32 bytes or more", &parts)));
    with_keyrings(|keyrings| {
        let authorized = authorize(keyrings, token.as_bytes());
        check_claims(header, claims, &authorized);
        assert!(authorize(keyrings, forged.as_bytes()).is_err());
        for at in [0, parts.len() / 2, parts.len(), token.len() - 1] {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert!(authorize(keyrings, &altered).is_err(), "altered at {at}");
        }
    });
}

fn sign(secret: &[u8], text: &str) -> impl AsRef<[u8]> + use<> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes())
}

/// Compares the grant with that of naive rules.
fn check_claims(header: &[u8], claims: &[u8], authorized: &Result<Grant, AuthError>) {
    if authorized.is_ok() {
        let header: Value = serde_json::from_slice(header).expect("a header is JSON");
        assert!(header["alg"] == "HS256" && header.get("crit").is_none_or(Value::is_null), "{header}");
    }
    let Ok(value) = serde_json::from_slice::<Value>(claims) else { return };
    let naive = NaiveGrant::from_claims(&value).filter(|_| !has_repeated_claim(claims));
    match (authorized, naive) {
        (Ok(grant), Some(naive)) => {
            assert_eq!(grant.expires(), Some(naive.expires));
            for name in [TOPIC, "news1234", "weather12", "events", "stats"] {
                assert_eq!(grant.allows_topic(name), naive.allows(name), "{name}");
            }
        }
        (Ok(_), None) => panic!("invalid claims were accepted: {value}"),
        // Valid claims must be accepted only if the header is certainly valid.
        (Err(error), Some(_)) => {
            assert!(header != br#"{"alg":"HS256"}"# || has_library_claims(&value), "{error}: {value}");
        }
        (Err(_), None) => {}
    }
}

/// Returns whether there are claims that jsonwebtoken decodes itself, and refuses if their type is wrong.
fn has_library_claims(value: &Value) -> bool {
    ["iss", "aud"].iter().any(|name| value.get(name).is_some())
}

/// What valid claims allow.
struct NaiveGrant {
    expires: u64,
    names: Vec<String>,
    patterns: Vec<String>,
}

impl NaiveGrant {
    fn from_claims(value: &Value) -> Option<Self> {
        let members = value.as_object()?;
        let second = |name: &str| match members.get(name) {
            Some(second) if second.as_i64().is_some_and(|second| second < 0) => Some(Some(0)),
            Some(second) => second.as_u64().map(Some),
            None => Some(None),
        };
        let (expires, begins) = (second("exp")??, second("nbf")?.unwrap_or(0));
        let lower = |text: &Value| text.as_str().map(str::to_ascii_lowercase);
        let names = match members.get("sub") {
            Some(name) => vec![lower(name)?],
            None => Vec::new(),
        };
        let patterns = match members.get("topics") {
            Some(list) => list.as_array()?.iter().map(lower).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        second("iat")?;
        if members.get("jti").is_some_and(|id| !id.is_string()) {
            return None;
        }
        let is_ours = match members.get("aud") {
            Some(Value::Array(list)) => list.contains(&Value::from("esker")),
            Some(one) => one == "esker",
            None => true,
        };
        let is_valid = expires > NOW && begins <= NOW + LEEWAY && is_ours;
        is_valid.then_some(Self { expires, names, patterns })
    }

    fn allows(&self, topic: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == pattern,
        };
        self.names.iter().any(|name| name == topic) || self.patterns.iter().any(matches)
    }
}

/// The names of an object's members, including repeated ones.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Names;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Names, A::Error> {
        let mut names = Vec::new();
        while let Some((name, IgnoredAny)) = members.next_entry()? {
            names.push(name);
        }
        Ok(Names(names))
    }
}

/// Returns whether one of the broker's claims is repeated.
fn has_repeated_claim(claims: &[u8]) -> bool {
    let Ok(Names(names)) = serde_json::from_slice(claims) else { return false };
    let is_twice = |name: &&str| names.iter().filter(|found| found == name).count() > 1;
    ["exp", "nbf", "aud", "sub", "topics", "iat", "jti"].iter().any(is_twice)
}

/// Parses a file that may contain public keys, and checks that its text does not work as an HMAC secret.
fn parse_key(file: &[u8]) {
    let file = &file[..file.len().min(MAX_FILE)];
    let has = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
    let json = serde_json::from_slice::<Value>(file).unwrap_or_default();
    let is_jwk = json.get("keys").is_some() || json.get("kty").is_some();
    assert_eq!(Secret::new(file).is_ok(), file.len() >= 32 && !has(b"-----BEGIN ") && !is_jwk);
    let Ok((keys, _)) = KeySet::parse(file) else { return };
    assert!(is_jwk || has(b"PUBLIC KEY-----") && !has(b"PRIVATE KEY-----"));
    let claims = [&br#"{"alg":"HS256"}"#[..], br#"{"exp":1000010,"topics":["*"]}"#];
    let parts = claims.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let token = format!("{parts}.{}", URL_SAFE_NO_PAD.encode(sign(file, &parts)));
    let (publisher, subscriber) = (keyring(service::PUBLISHER), Keyring { current: keys, previous: Vec::new() });
    let Auth::Tokens(keyrings) = Auth::tokens(publisher, subscriber, ClaimRules::default()) else { return };
    assert!(matches!(authorize(&keyrings, token.as_bytes()), Err(AuthError::Algorithm(..))));
}
