//! The keys of a role: those in use, and previous ones for tokens that have not expired yet.

use serde_json::value::RawValue;

use super::jwk::{self, IgnoredKey};
use super::{AuthError, Key, KeyError, Role};

/// The maximum number of keys of a set that one token is verified with. A token that no key verifies costs the time of all, and
/// only a token without `kid`, or a set without distinct ones, leaves a choice.
const MAX_TRIES: usize = 4;

/// One key, or the keys of a JWK Set, among which the token's `kid` chooses.
pub struct KeySet {
    keys: Vec<Key>,
}

impl From<Key> for KeySet {
    fn from(key: Key) -> Self {
        Self { keys: vec![key] }
    }
}

impl KeySet {
    /// Returns whether a file has the format of a JWK Set rather than PEM.
    pub fn is_json(text: &[u8]) -> bool {
        jwk::is_json(text)
    }

    /// Parses a file: a public key in PEM, a JWK or a JWK Set. Also returns the keys that can't verify tokens.
    pub fn parse(text: &[u8]) -> Result<(Self, Vec<IgnoredKey>), KeyError> {
        if !jwk::is_json(text) {
            return Key::from_pem(text).map(|key| (key.into(), Vec::new()));
        }
        jwk::parse(text).map(|(keys, ignored)| (Self { keys }, ignored))
    }

    /// Verifies a token's signature and returns its claims as JSON.
    fn verify(&self, role: Role, token: &[u8]) -> Result<Box<RawValue>, AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        let matches = |key: &&Key| key.id().is_none() || header.kid.is_none() || key.id() == header.kid.as_deref();
        let named: Vec<_> = self.keys.iter().filter(matches).collect();
        let fitting: Vec<_> = named.iter().filter(|key| key.supports(header.alg)).collect();
        match (named.as_slice(), fitting.len()) {
            ([], _) => Err(AuthError::UnknownKey(role)),
            ([key], 0) => Err(AuthError::Algorithm(role, key.accepted())),
            (_, 0) => Err(AuthError::Algorithm(role, "a key of the JWK Set and its algorithm")),
            (_, 1..=MAX_TRIES) => verify_with_any(&fitting, role, token),
            _ => Err(AuthError::AmbiguousKey(role)),
        }
    }
}

fn verify_with_any(keys: &[&&Key], role: Role, token: &[u8]) -> Result<Box<RawValue>, AuthError> {
    let verified = keys.iter().map(|key| key.verify(role, token));
    let mut decided = verified.filter(|verified| !matches!(verified, Err(AuthError::Signature(_))));
    decided.next().unwrap_or(Err(AuthError::Signature(role)))
}

/// The keys of a role. Tokens signed with any of them are accepted.
pub struct Keyring {
    /// The keys in use.
    pub current: KeySet,
    /// The previous keys.
    pub previous: Vec<KeySet>,
}

impl From<Key> for Keyring {
    fn from(key: Key) -> Self {
        Self { current: key.into(), previous: Vec::new() }
    }
}

impl Keyring {
    /// Verifies a token's signature and returns its claims as JSON.
    pub(super) fn verify(&self, role: Role, token: &[u8]) -> Result<Box<RawValue>, AuthError> {
        let mut error = None;
        for keys in [&self.current].into_iter().chain(&self.previous) {
            match keys.verify(role, token) {
                // A wrong signature is reported even if the current key is of another kind.
                Err(wrong @ AuthError::Signature(_)) => error = Some(wrong),
                Err(other @ (AuthError::Algorithm(..) | AuthError::UnknownKey(_) | AuthError::AmbiguousKey(_))) => {
                    error = error.or(Some(other));
                }
                verified => return verified,
            }
        }
        Err(error.unwrap_or(AuthError::Signature(role)))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::crypto;

    /// A key that signs with EdDSA.
    struct Signer(Ed25519KeyPair);

    impl Signer {
        fn generate() -> Self {
            crypto::install();
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
        }

        fn jwk(&self, id: Option<&str>) -> Value {
            let x = URL_SAFE_NO_PAD.encode(self.0.public_key());
            let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
            id.into_iter().for_each(|id| key["kid"] = id.into());
            key
        }

        fn sign(&self, id: Option<&str>) -> String {
            let mut header = json!({"alg": "EdDSA"});
            id.into_iter().for_each(|id| header["kid"] = id.into());
            let signed = [&header.to_string(), "{}"].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes())))
        }
    }

    fn key_set(keys: &[Value]) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0
    }

    fn verify(set: &KeySet, token: &str) -> Result<(), AuthError> {
        set.verify(Role::Publisher, token.as_bytes()).map(|_| ())
    }

    const FORGED: Result<(), AuthError> = Err(AuthError::Signature(Role::Publisher));
    const UNKNOWN: Result<(), AuthError> = Err(AuthError::UnknownKey(Role::Publisher));

    #[test]
    fn the_kid_chooses_a_key() {
        let [first, second] = [Signer::generate(), Signer::generate()];
        let set = key_set(&[first.jwk(Some("1")), second.jwk(Some("2"))]);
        for (token, expected) in [
            (first.sign(Some("1")), Ok(())),
            (second.sign(Some("2")), Ok(())),
            (first.sign(Some("2")), FORGED),
            (first.sign(Some("3")), UNKNOWN),
            (first.sign(Some("")), UNKNOWN),
            (second.sign(None), Ok(())),
            (Signer::generate().sign(None), FORGED),
        ] {
            assert_eq!(verify(&set, &token), expected);
        }
        let unnamed = key_set(&[first.jwk(None), second.jwk(Some("2"))]);
        for token in [first.sign(Some("1")), first.sign(Some("2")), first.sign(None), second.sign(Some("2"))] {
            assert_eq!(verify(&unnamed, &token), Ok(()), "a key without `kid` fits every token");
        }
        assert_eq!(verify(&unnamed, &second.sign(Some("1"))), FORGED);
    }

    #[test]
    fn keys_of_one_kid_are_tried_in_turn_and_not_too_many() {
        let signers: Vec<_> = (0..=MAX_TRIES).map(|_| Signer::generate()).collect();
        let keys: Vec<_> = signers.iter().map(|signer| signer.jwk(Some("same"))).collect();
        for signer in &signers[..MAX_TRIES] {
            let set = key_set(&keys[..MAX_TRIES]);
            assert_eq!((verify(&set, &signer.sign(Some("same"))), verify(&set, &signer.sign(None))), (Ok(()), Ok(())));
            let too_many = verify(&key_set(&keys), &signer.sign(Some("same")));
            assert_eq!(too_many, Err(AuthError::AmbiguousKey(Role::Publisher)));
        }
    }

    #[test]
    fn the_algorithm_must_be_one_of_the_keys() {
        let signer = Signer::generate();
        let hmac = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#));
        let one = key_set(&[signer.jwk(Some("1"))]);
        assert_eq!(verify(&one, &hmac), Err(AuthError::Algorithm(Role::Publisher, "EdDSA")));
        let two = key_set(&[signer.jwk(Some("1")), signer.jwk(Some("2"))]);
        assert!(matches!(verify(&two, &hmac), Err(AuthError::Algorithm(..))));
        assert_eq!(verify(&two, "a.b.c"), Err(AuthError::Malformed));
    }

    #[test]
    fn previous_sets_verify_and_a_wrong_signature_is_reported() {
        let [old, new, other] = [Signer::generate(), Signer::generate(), Signer::generate()];
        let rotated = Keyring {
            current: key_set(&[new.jwk(Some("new"))]),
            previous: vec![key_set(&[old.jwk(Some("old"))]), key_set(&[other.jwk(None)])],
        };
        let verify = |token: String| rotated.verify(Role::Publisher, token.as_bytes()).map(|_| ());
        for (signer, id) in [(&new, "new"), (&old, "old"), (&other, "else")] {
            assert_eq!(verify(signer.sign(Some(id))), Ok(()), "{id}");
        }
        assert_eq!(verify(new.sign(Some("unknown"))), FORGED, "the key without `kid` was tried");
        let named = Keyring { current: rotated.current, previous: vec![key_set(&[old.jwk(Some("old"))])] };
        let verify = |token: String| named.verify(Role::Publisher, token.as_bytes()).map(|_| ());
        assert_eq!(verify(new.sign(Some("unknown"))), UNKNOWN);
        assert_eq!(verify(new.sign(Some("old"))), FORGED);
    }
}
