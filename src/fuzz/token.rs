//! Tokens. The three places where one can be shown are one place; claims are judged a second time by plain rules; a token that
//! was bent, or signed with what is no secret, is nobody's.

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
use crate::auth::{Auth, AuthError, Grant, Key, Keyring, Keyrings, Role, Secret, TokenCache};
use crate::clock::Now;
use crate::http::{Parsed, head};

/// The second in which all happens.
const NOW: u64 = 1_000_000;
/// What the routes ask for here.
const TOPIC: &str = "greeting1";
/// Longer ones do not fit into a head with three of them.
const MAX_SHOWN: usize = 1500;
/// No key file is longer.
const MAX_PEM: usize = 8 << 10;

/// See the module's page.
pub fn token(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.choice() & 3 {
        0 => shown(input.0),
        1 => signed(br#"{"alg":"HS256"}"#, input.0),
        2 => {
            let mut parts = input.0.splitn(2, |&b| b == b'\n');
            signed(parts.next().unwrap_or_default(), parts.next().unwrap_or(br#"{"exp":1000010,"sub":"greeting1"}"#));
        }
        _ => key(input.0),
    }
}

/// What a token allows, twice: the second time it is known.
fn admit(keyrings: &Keyrings, token: &[u8]) -> Result<Grant, AuthError> {
    let mut cache = TokenCache::default();
    let first = keyrings.verify(Role::Subscriber, token, NOW, &mut cache);
    let again = keyrings.look_up(Role::Subscriber, token, NOW, &mut cache);
    // What nobody with the key has signed is not remembered.
    assert_eq!(again.unwrap_or_else(|| keyrings.verify(Role::Subscriber, token, NOW, &mut cache)), first);
    if let Err(denial) = &first {
        assert!(!denial.to_string().is_empty());
    }
    first
}

fn keyrings<T>(run: impl FnOnce(&Keyrings) -> T) -> T {
    service::with(true, 1, |service| match &service.auth {
        Auth::Tokens(keyrings) => run(keyrings),
        Auth::Open => panic!("it asks for tokens"),
    })
}

/// Any bytes in all three places.
fn shown(token: &[u8]) {
    let admitted = keyrings(|keyrings| admit(keyrings, token));
    let can_stand = |b: &u8| *b >= b' ' && *b != 127 && !b"\";".contains(b);
    if token.is_empty() || token.len() > MAX_SHOWN || token.trim_ascii() != token || !token.iter().all(can_stand) {
        return;
    }
    let in_query = format!("?token={}", percent_encode(token, NON_ALPHANUMERIC));
    let in_field = [b"Authorization: bearer ", token, b"\r\n"].concat();
    let in_cookie = [b"Cookie: a=b; esker_token=", token, b" ;c=d\r\n"].concat();
    let expected = expected(&admitted);
    assert_eq!(ask("", &in_field), expected, "in the field");
    assert_eq!(ask(&in_query, b""), expected, "in the query");
    assert_eq!(ask("", &in_cookie), expected, "in the cookie");
    // Each place before the next.
    assert_eq!(ask("?token=x", &[&in_field[..], b"Cookie: esker_token=y\r\n"].concat()), expected);
    assert_eq!(ask(&in_query, b"Cookie: esker_token=y\r\nAuthorization: Basic eDp5\r\n"), expected);
}

/// The status and the reason that a request for the topic gets.
fn expected(admitted: &Result<Grant, AuthError>) -> (u16, Option<String>) {
    match admitted {
        Ok(grant) if grant.allows_topic(TOPIC) => (200, None),
        Ok(_) => (403, None),
        Err(denial) => (401, Some(denial.to_string())),
    }
}

fn ask(query: &str, fields: &[u8]) -> (u16, Option<String>) {
    let line = format!("GET /subscribe/{TOPIC}{query} HTTP/1.1\r\nHost: h\r\n");
    let bytes = [line.as_bytes(), fields, b"\r\n"].concat();
    let Ok(Parsed::Complete(head, _)) = head::parse(&bytes) else { panic!("no good head: {bytes:?}") };
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

/// A header and claims of any kind, with a good signature.
fn signed(header: &[u8], claims: &[u8]) {
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let token = format!("{parts}.{}", URL_SAFE_NO_PAD.encode(sign(SUBSCRIBER, &parts)));
    let forged = format!("{parts}.{}", URL_SAFE_NO_PAD.encode(sign(b"another secret of 32 bytes or more", &parts)));
    keyrings(|keyrings| {
        let admitted = admit(keyrings, token.as_bytes());
        judge(header, claims, &admitted);
        assert!(admit(keyrings, forged.as_bytes()).is_err());
        for at in [0, parts.len() / 2, parts.len(), token.len() - 1] {
            let mut bent = token.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            assert!(admit(keyrings, &bent).is_err(), "bent at {at}");
        }
    });
}

fn sign(secret: &[u8], text: &str) -> impl AsRef<[u8]> + use<> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes())
}

/// The claims once more, by plain rules.
fn judge(header: &[u8], claims: &[u8], admitted: &Result<Grant, AuthError>) {
    if admitted.is_ok() {
        let header: Value = serde_json::from_slice(header).expect("a header is JSON");
        assert!(header["alg"] == "HS256" && header.get("crit").is_none_or(Value::is_null), "{header}");
    }
    let Ok(value) = serde_json::from_slice::<Value>(claims) else { return };
    let plain = Plain::of(&value).filter(|_| !names_one_twice(claims));
    match (admitted, plain) {
        (Ok(grant), Some(plain)) => {
            assert_eq!(grant.expires(), Some(plain.expires));
            for name in [TOPIC, "news1234", "weather12", "events", "stats"] {
                assert_eq!(grant.allows_topic(name), plain.covers(name), "{name}");
            }
        }
        (Ok(_), None) => panic!("these claims are not good: {value}"),
        // Only with a header that is beyond doubt must good claims be good.
        (Err(denial), Some(_)) => assert!(header != br#"{"alg":"HS256"}"# || has_others(&value), "{denial}: {value}"),
        (Err(_), None) => {}
    }
}

/// Claims that the standard gives a type and that are none of the broker's: jsonwebtoken looks at them.
fn has_others(value: &Value) -> bool {
    ["iss", "aud"].iter().any(|name| value.get(name).is_some())
}

/// Good claims.
struct Plain {
    expires: u64,
    names: Vec<String>,
    patterns: Vec<String>,
}

impl Plain {
    fn of(value: &Value) -> Option<Self> {
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
        let is_ours = match members.get("aud") {
            Some(Value::Array(list)) => list.contains(&Value::from("esker")),
            Some(one) => one == "esker",
            None => true,
        };
        let holds = expires > NOW && begins <= NOW && is_ours;
        holds.then_some(Self { expires, names, patterns })
    }

    fn covers(&self, topic: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == pattern,
        };
        self.names.iter().any(|name| name == topic) || self.patterns.iter().any(fits)
    }
}

/// An object's names, as often as they stand there.
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

/// Whether a claim that counts is there twice.
fn names_one_twice(claims: &[u8]) -> bool {
    let Ok(Names(names)) = serde_json::from_slice(claims) else { return false };
    let is_twice = |name: &&str| names.iter().filter(|found| found == name).count() > 1;
    ["exp", "nbf", "aud", "sub", "topics"].iter().any(is_twice)
}

/// A file that may hold a key. A public key's text is no secret, whoever signs with it.
fn key(pem: &[u8]) {
    let pem = &pem[..pem.len().min(MAX_PEM)];
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    assert_eq!(Secret::new(pem).is_ok(), pem.len() >= 32 && !has(b"-----BEGIN "));
    let Ok(key) = Key::from_pem(pem) else { return };
    assert!(has(b"PUBLIC KEY-----") && !has(b"PRIVATE KEY-----"));
    let claims = [&br#"{"alg":"HS256"}"#[..], br#"{"exp":1000010,"topics":["*"]}"#];
    let parts = claims.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let token = format!("{parts}.{}", URL_SAFE_NO_PAD.encode(sign(pem, &parts)));
    let publisher = keyring(service::PUBLISHER);
    let Auth::Tokens(keyrings) = Auth::tokens(publisher, Keyring { current: key, previous: None }) else { return };
    assert!(matches!(admit(&keyrings, token.as_bytes()), Err(AuthError::Algorithm(..))));
}
