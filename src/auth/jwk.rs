//! JSON Web Keys (RFC 7517): public keys as identity providers publish them, alone or in a JWK Set.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::{Key, KeyError};

/// The maximum number of keys in a JWK Set. Identity providers publish two to ten.
pub(super) const MAX_KEYS: usize = 32;
/// The first byte of an uncompressed point on a curve.
const UNCOMPRESSED: u8 = 4;
/// The tags of an integer and of a sequence in DER.
const DER_INTEGER: u8 = 0x02;
const DER_SEQUENCE: u8 = 0x30;

/// A key of a JWK Set that verifies no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgnoredKey {
    /// The position of the key in the set, starting with 1.
    pub number: usize,
    reason: Unusable,
}

impl IgnoredKey {
    /// Returns whether the key appears to be meant for tokens, but is invalid.
    pub fn is_defective(&self) -> bool {
        matches!(self.reason, Unusable::Malformed | Unusable::RsaSize)
    }
}

impl fmt::Display for IgnoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} of the set {}", self.number, self.reason.describe())
    }
}

/// Why a key can't verify tokens. Such keys are ignored (RFC 7517 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unusable {
    Use,
    Operations,
    Type,
    Curve,
    Algorithm,
    Malformed,
    RsaSize,
}

impl Unusable {
    fn describe(self) -> &'static str {
        match self {
            Self::Use => "is not for signatures (`use`)",
            Self::Operations => "is not for verification (`key_ops`)",
            Self::Type => "has an unsupported type (`kty`)",
            Self::Curve => "is on an unsupported curve (`crv`)",
            Self::Algorithm => "is for an unsupported algorithm (`alg`)",
            Self::Malformed => "lacks a required member, or has an invalid one",
            Self::RsaSize => "is an RSA key with less than 2048 or more than 8192 bits",
        }
    }
}

/// Returns whether a file is a JWK or a JWK Set rather than PEM.
pub(super) fn is_json(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// Returns whether a text is a JWK or a JWK Set.
pub(super) fn is_jwk(text: &[u8]) -> bool {
    let object = if is_json(text) { serde_json::from_slice::<Map<_, _>>(text).ok() } else { None };
    object.is_some_and(|object| ["keys", "kty"].iter().any(|name| object.contains_key(*name)))
}

/// Parses a JWK or a JWK Set. Returns the keys that can verify tokens, of which there is at least one, and those that can't.
pub(super) fn parse(text: &[u8]) -> Result<(Vec<Key>, Vec<IgnoredKey>), KeyError> {
    let object: Map<_, _> = serde_json::from_slice(text).map_err(|_| KeyError::Json)?;
    let alone = [Value::Object(object)];
    let listed = match &alone[0]["keys"] {
        Value::Array(keys) => keys.as_slice(),
        _ if alone[0].get("kty").is_some() => &alone,
        _ => return Err(KeyError::NoJwk),
    };
    if listed.len() > MAX_KEYS {
        return Err(KeyError::ManyJwks(listed.len()));
    }
    let (mut keys, mut ignored) = (Vec::new(), Vec::new());
    for (at, jwk) in listed.iter().enumerate() {
        check_is_public(jwk)?;
        match read_key(jwk) {
            Ok(key) => keys.push(key),
            Err(reason) => ignored.push(IgnoredKey { number: at + 1, reason }),
        }
    }
    match ignored.first() {
        _ if !keys.is_empty() => Ok((keys, ignored)),
        Some(first) => Err(KeyError::UnusableJwk(first.reason.describe())),
        None => Err(KeyError::NoJwk),
    }
}

/// Rejects keys that are not for the public, regardless of what they are for.
fn check_is_public(jwk: &Value) -> Result<(), KeyError> {
    if jwk["kty"] == "oct" || jwk.get("k").is_some() {
        return Err(KeyError::SymmetricJwk);
    }
    if jwk.get("d").is_some() {
        return Err(KeyError::PrivateJwk);
    }
    Ok(())
}

fn read_key(jwk: &Value) -> Result<Key, Unusable> {
    if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
        return Err(Unusable::Use);
    }
    let verifies =
        |operations: &Value| operations.as_array().is_some_and(|list| list.iter().any(|one| one == "verify"));
    if jwk.get("key_ops").is_some_and(|operations| !verifies(operations)) {
        return Err(Unusable::Operations);
    }
    let key = match jwk["kty"].as_str() {
        Some("RSA") => read_rsa(jwk)?,
        Some("EC") => read_ec(jwk)?,
        Some("OKP") => read_ed(jwk)?,
        Some(_) => return Err(Unusable::Type),
        None => return Err(Unusable::Malformed),
    };
    let key = match jwk.get("alg") {
        None => key,
        Some(algorithm) => algorithm.as_str().and_then(|name| key.restrict_to(name)).ok_or(Unusable::Algorithm)?,
    };
    match jwk.get("kid") {
        None => Ok(key),
        Some(id) => id.as_str().map(|id| key.with_id(id)).ok_or(Unusable::Malformed),
    }
}

/// Reads a member in base64url.
fn read_bytes(jwk: &Value, name: &str) -> Result<Vec<u8>, Unusable> {
    jwk[name].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(Unusable::Malformed)
}

/// Reads an RSA key and converts it to an `RSAPublicKey` in DER (RFC 8017 appendix A.1.1), as it is in PEM.
fn read_rsa(jwk: &Value) -> Result<Key, Unusable> {
    let (modulus, exponent) = (read_number(jwk, "n")?, read_number(jwk, "e")?);
    let numbers = [der(DER_INTEGER, &modulus), der(DER_INTEGER, &exponent)].concat();
    Key::rsa(DecodingKey::from_rsa_der(&der(DER_SEQUENCE, &numbers))).map_err(|error| match error {
        KeyError::RsaBits(_) => Unusable::RsaSize,
        _ => Unusable::Malformed,
    })
}

/// Reads a positive number as the content of an integer in DER: without leading zeros, except one where the first bit would
/// otherwise be a sign.
fn read_number(jwk: &Value, name: &str) -> Result<Vec<u8>, Unusable> {
    let bytes = read_bytes(jwk, name)?;
    let start = bytes.iter().position(|&byte| byte != 0).ok_or(Unusable::Malformed)?;
    let sign: &[u8] = if bytes[start] < 0x80 { &[] } else { &[0] };
    Ok([sign, &bytes[start..]].concat())
}

/// Encodes a value in DER (X.690 section 8.1): its tag, its length and its content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    let mut out = vec![tag];
    if content.len() >= 0x80 {
        out.push(0x80 | significant.len() as u8);
    }
    out.extend_from_slice(if content.is_empty() { &[0] } else { significant });
    out.extend_from_slice(content);
    out
}

fn read_ec(jwk: &Value) -> Result<Key, Unusable> {
    let coordinate = match jwk["crv"].as_str() {
        Some("P-256") => 32,
        Some("P-384") => 48,
        Some(_) => return Err(Unusable::Curve),
        None => return Err(Unusable::Malformed),
    };
    let (x, y) = (read_bytes(jwk, "x")?, read_bytes(jwk, "y")?);
    // Leading zeros are required (RFC 7518 section 6.2.1.2).
    if [x.len(), y.len()] != [coordinate; 2] {
        return Err(Unusable::Malformed);
    }
    let point = [&[UNCOMPRESSED], x.as_slice(), y.as_slice()].concat();
    Key::ec(DecodingKey::from_ec_der(&point)).map_err(|_| Unusable::Malformed)
}

fn read_ed(jwk: &Value) -> Result<Key, Unusable> {
    match jwk["crv"].as_str() {
        Some("Ed25519") => {
            Key::ed25519(DecodingKey::from_ed_der(&read_bytes(jwk, "x")?)).map_err(|_| Unusable::Malformed)
        }
        Some(_) => Err(Unusable::Curve),
        None => Err(Unusable::Malformed),
    }
}

/// Returns the algorithm with this name if public keys can verify it, and the name.
pub(super) fn algorithm(name: &str) -> Option<(Algorithm, &'static str)> {
    Some(match name {
        "RS256" => (Algorithm::RS256, "RS256"),
        "RS384" => (Algorithm::RS384, "RS384"),
        "RS512" => (Algorithm::RS512, "RS512"),
        "PS256" => (Algorithm::PS256, "PS256"),
        "PS384" => (Algorithm::PS384, "PS384"),
        "PS512" => (Algorithm::PS512, "PS512"),
        "ES256" => (Algorithm::ES256, "ES256"),
        "ES384" => (Algorithm::ES384, "ES384"),
        "EdDSA" => (Algorithm::EdDSA, "EdDSA"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use simple_asn1::{ASN1Block, BigInt, BigUint};

    use super::*;

    /// The RSA key of RFC 7517 appendix A.1.
    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj\
                     hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQv\
                     RL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnq\
                     DKgw";
    /// The key on P-256 of the same appendix.
    const X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
    /// The Ed25519 key of RFC 8037 appendix A.2.
    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn rsa() -> Value {
        json!({"kty": "RSA", "n": N, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})
    }

    fn ec() -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y})
    }

    fn ed() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": ED, "use": "sig", "key_ops": ["verify"], "ext": true})
    }

    /// Returns the key with these members added or replaced.
    fn with(mut key: Value, members: &Value) -> Value {
        key.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        key
    }

    fn parse_set(keys: &[Value]) -> Result<(Vec<Key>, Vec<IgnoredKey>), KeyError> {
        parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn error(text: &str) -> Option<KeyError> {
        parse(text.as_bytes()).err()
    }

    #[test]
    fn a_set_has_keys_of_all_types() {
        let (keys, ignored) = parse_set(&[rsa(), ec(), ed()]).unwrap();
        assert_eq!(keys.iter().map(Key::accepted).collect::<Vec<_>>(), ["RS256", "ES256", "EdDSA"]);
        assert_eq!(keys.iter().map(Key::id).collect::<Vec<_>>(), [Some("2011-04-29"), None, None]);
        assert!(keys[0].supports(Algorithm::RS256) && !keys[0].supports(Algorithm::RS384));
        assert_eq!(ignored, []);
        let (keys, _) = parse(format!(" \n{}", with(rsa(), &json!({"alg": "PS512"}))).as_bytes()).unwrap();
        assert_eq!(keys[0].accepted(), "PS512", "a key without a set");
    }

    #[test]
    fn keys_that_are_not_for_tokens_are_ignored() {
        let short = URL_SAFE_NO_PAD.encode([255; 128]);
        for (key, reason, is_defective) in [
            (with(rsa(), &json!({"use": "enc", "alg": "RSA-OAEP"})), "`use`", false),
            (with(rsa(), &json!({"key_ops": ["encrypt"]})), "`key_ops`", false),
            (with(rsa(), &json!({"alg": "RSA-OAEP"})), "`alg`", false),
            (with(rsa(), &json!({"alg": "ES256"})), "`alg`", false),
            (with(rsa(), &json!({"alg": "HS256"})), "`alg`", false),
            (with(rsa(), &json!({"alg": null})), "`alg`", false),
            (with(rsa(), &json!({"kty": "AKP"})), "`kty`", false),
            (with(ec(), &json!({"crv": "secp256k1"})), "`crv`", false),
            (with(ed(), &json!({"crv": "X25519"})), "`crv`", false),
            (with(rsa(), &json!({"n": short})), "2048", true),
            (with(rsa(), &json!({"n": ""})), "invalid", true),
            (with(rsa(), &json!({"n": "+/"})), "invalid", true),
            (with(rsa(), &json!({"e": 65537})), "invalid", true),
            (with(rsa(), &json!({"kid": 5})), "invalid", true),
            (with(ec(), &json!({"x": Y})), "invalid", true),
            (with(ec(), &json!({"crv": "P-384"})), "invalid", true),
            (with(ed(), &json!({"x": &ED[..42]})), "invalid", true),
            (json!({"kty": "EC"}), "invalid", true),
            (json!({}), "invalid", true),
            (json!("key"), "invalid", true),
        ] {
            let (keys, ignored) = parse_set(&[ed(), key.clone()]).unwrap();
            assert_eq!((keys.len(), ignored.len(), ignored[0].number), (1, 1, 2), "{key}");
            let text = ignored[0].to_string();
            assert!(text.starts_with("key 2 of the set ") && text.contains(reason), "{key}: {text}");
            assert_eq!(ignored[0].is_defective(), is_defective, "{key}");
            assert!(matches!(parse_set(&[key]), Err(KeyError::UnusableJwk(_))));
        }
    }

    #[test]
    fn files_without_public_keys_have_distinct_errors() {
        assert_eq!(error("{"), Some(KeyError::Json));
        assert_eq!(error(&json!({ "keys": [rsa()] }).to_string()[1..]), Some(KeyError::Json));
        for empty in [json!({}), json!({"keys": []}), json!({"keys": rsa()}), json!({"jwks_uri": "https://i/"})] {
            assert_eq!(error(&empty.to_string()), Some(KeyError::NoJwk), "{empty}");
        }
        let many = vec![ed(); MAX_KEYS];
        assert!(parse_set(&many).is_ok());
        assert_eq!(parse_set(&[many, vec![ed()]].concat()).err(), Some(KeyError::ManyJwks(MAX_KEYS + 1)));
        for (secret, expected) in [
            (with(rsa(), &json!({"d": "AQAB", "use": "enc"})), KeyError::PrivateJwk),
            (with(ed(), &json!({"d": null})), KeyError::PrivateJwk),
            (json!({"kty": "oct", "k": ED}), KeyError::SymmetricJwk),
            (with(rsa(), &json!({"k": ED})), KeyError::SymmetricJwk),
        ] {
            assert_eq!(error(&secret.to_string()), Some(expected), "{secret}");
            assert_eq!(parse_set(&[rsa(), secret]).err(), Some(expected));
        }
    }

    #[test]
    fn a_jwk_is_told_from_a_secret() {
        let set = json!({"keys": []}).to_string();
        assert!(is_jwk(rsa().to_string().as_bytes()) && is_jwk(set.as_bytes()));
        for secret in ["", "{", "{}", r#"{"a":1}"#, "[1]", "a secret"] {
            assert!(!is_jwk(secret.as_bytes()), "{secret}");
        }
    }

    proptest! {
        /// Compares with another encoder.
        #[test]
        fn rsa_keys_are_encoded_in_der(n in proptest::collection::vec(any::<u8>(), 1..600), e in 1..u32::MAX) {
            let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let jwk = json!({"n": encode(&n), "e": encode(&e.to_be_bytes())});
            prop_assume!(n.iter().any(|&byte| byte != 0));
            let numbers = ["n", "e"].map(|name| der(DER_INTEGER, &read_number(&jwk, name).unwrap())).concat();
            let block = |bytes: &[u8]| ASN1Block::Integer(0, BigInt::from(BigUint::from_bytes_be(bytes)));
            let other = ASN1Block::Sequence(0, vec![block(&n), block(&e.to_be_bytes())]);
            prop_assert_eq!(der(DER_SEQUENCE, &numbers), simple_asn1::to_der(&other).unwrap());
        }

        /// Keys whose members have any value are used or refused; nothing panics.
        #[test]
        fn any_set_is_parsed(
            at in 0_usize..3,
            name in prop::sample::select(vec!["kty", "crv", "n", "e", "x", "y", "alg", "use", "key_ops", "kid", "d", "k"]),
            text in ".{0,20}",
            base64 in "[A-Za-z0-9_-]{0,100}",
            number in any::<f64>(),
        ) {
            for value in [json!(text), json!(base64), json!(number), json!([text]), json!({&text: number}), json!(null)] {
                let key = with([rsa(), ec(), ed()][at].clone(), &json!({ name: value }));
                let parsed = parse_set(&[key.clone(), ed()]);
                prop_assert_eq!(parsed.is_ok(), !["d", "k"].contains(&name), "{}", key);
            }
        }

        #[test]
        fn any_text_is_parsed(text in ".{0,50}", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for file in [text.as_bytes(), format!("{{{text}").as_bytes(), &bytes] {
                prop_assert!(parse(file).is_err());
            }
        }
    }
}
