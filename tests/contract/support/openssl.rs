//! Key files and signatures made by the `openssl` program: what operators use, and independent of the broker's code.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{TempDir, tokens};

/// A private key in a temporary directory.
pub struct KeyPair {
    home: TempDir,
    /// The name for `openssl genpkey -algorithm`.
    kind: &'static str,
}

impl KeyPair {
    /// Generates a key; `option` is the argument of `-pkeyopt`, or empty.
    pub fn new(kind: &'static str, option: &str) -> Self {
        let home = TempDir::new();
        let mut arguments = vec!["genpkey", "-algorithm", kind, "-out", "private.pem"];
        if !option.is_empty() {
            arguments.extend(["-pkeyopt", option]);
        }
        openssl(&arguments, &home.path);
        Self { home, kind }
    }

    pub fn rsa(bits: u32) -> Self {
        Self::new("RSA", &format!("rsa_keygen_bits:{bits}"))
    }

    pub fn ec(curve: &str) -> Self {
        Self::new("EC", &format!("ec_paramgen_curve:{curve}"))
    }

    pub fn ed25519() -> Self {
        Self::new("ED25519", "")
    }

    /// Runs an `openssl` command on this key, which is in `private.pem`, and returns the output.
    pub fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        openssl(arguments, &self.home.path)
    }

    pub fn public_pem(&self) -> Vec<u8> {
        self.openssl(&["pkey", "-in", "private.pem", "-pubout"])
    }

    /// Returns the public key as a JWK (RFC 7517) with this `kid`.
    pub fn jwk(&self, kid: &str) -> Value {
        let der = self.openssl(&["pkey", "-in", "private.pem", "-pubout", "-outform", "DER"]);
        // The key is at the end; the point on a curve is its two coordinates.
        let part = |from: usize, len: usize| tokens::base64url(&der[der.len() - from..][..len]);
        match self.kind {
            "RSA" => json!({"kty": "RSA", "kid": kid, "n": tokens::base64url(self.modulus()), "e": "AQAB"}),
            "EC" if der.len() > 100 => {
                json!({"kty": "EC", "kid": kid, "crv": "P-384", "x": part(96, 48), "y": part(48, 48)})
            }
            "EC" => json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": part(64, 32), "y": part(32, 32)}),
            _ => json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": part(32, 32)}),
        }
    }

    fn modulus(&self) -> Vec<u8> {
        let printed = self.openssl(&["rsa", "-in", "private.pem", "-noout", "-modulus"]);
        let printed = String::from_utf8(printed).expect("hexadecimal digits");
        let digits = printed.trim().strip_prefix("Modulus=").expect("a modulus");
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("a byte")).collect()
    }

    /// Returns a token whose header names an algorithm, signed with that algorithm if the key supports it, or else with the
    /// key's own.
    pub fn sign(&self, algorithm: &str, claims: &Value) -> String {
        self.sign_with_header(&json!({"alg": algorithm, "typ": "JWT"}), claims)
    }

    /// Returns a token like [`KeyPair::sign`], whose header names the key as well.
    pub fn sign_as(&self, kid: &str, algorithm: &str, claims: &Value) -> String {
        self.sign_with_header(&json!({"alg": algorithm, "typ": "JWT", "kid": kid}), claims)
    }

    /// Returns a token with this header, signed as its `alg` says.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().expect("a header has an algorithm");
        let message = tokens::message(&header.to_string(), &claims.to_string());
        std::fs::write(self.home.path.join("message"), &message).expect("a file can be written");
        tokens::join(&message, &self.signature(algorithm))
    }

    fn signature(&self, algorithm: &str) -> Vec<u8> {
        let hash = format!("-sha{}", algorithm.get(2..).filter(|bits| bits.parse::<u16>().is_ok()).unwrap_or("256"));
        let digest = ["dgst", &hash, "-sign", "private.pem"];
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
        match self.kind {
            "RSA" if algorithm.starts_with("PS") => self.openssl(&[&digest[..], &pss, &["message"]].concat()),
            "RSA" => self.openssl(&[&digest[..], &["message"]].concat()),
            "EC" => {
                let length = if algorithm == "ES384" { 48 } else { 32 };
                fixed(&self.openssl(&[&digest[..], &["message"]].concat()), length)
            }
            _ => self.openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", "private.pem", "-in", "message"]),
        }
    }
}

/// Converts an ECDSA signature from OpenSSL's DER, a sequence of two integers, to the form of tokens, `r` and `s` with fixed
/// lengths (RFC 7518 section 3.4).
fn fixed(der: &[u8], length: usize) -> Vec<u8> {
    let (r, rest) = integer(&der[2..]);
    let (s, rest) = integer(rest);
    assert!(rest.is_empty(), "a signature is two numbers: {der:?}");
    [r, s].map(|number| padded(number, length)).concat()
}

fn integer(der: &[u8]) -> (&[u8], &[u8]) {
    assert_eq!(der[0], 2, "a DER integer has the tag 2");
    der[2..].split_at(der[1].into())
}

/// DER may add a zero for the sign bit, or omit leading zeros.
fn padded(number: &[u8], length: usize) -> Vec<u8> {
    let digits = &number[number.iter().take_while(|&&byte| byte == 0).count()..];
    [vec![0; length.saturating_sub(digits.len())], digits.to_vec()].concat()
}

/// Runs `openssl` in a directory, and returns the output.
pub fn openssl(arguments: &[&str], dir: &Path) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.expect("openssl is installed; scripts/test installs it");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {complaint}");
    output.stdout
}
