//! Finds the token cookie in a `Cookie` field (RFC 6265 section 4.2.1).

/// The name of the cookie that carries a token.
pub const TOKEN: &str = "esker_token";

/// Returns the values of all token cookies in a `Cookie` field, without quotes. A browser sends several if they were set for
/// different domains or paths.
pub fn tokens(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|&b| b == b';').filter_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(TOKEN.as_bytes())?.strip_prefix(b"=")?;
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (!unquoted.is_empty()).then_some(unquoted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_cookies_are_found_among_others() {
        for (field, values) in [
            ("esker_token=abc", &["abc"][..]),
            ("a=b; esker_token=abc; c=d", &["abc"]),
            ("a=b;esker_token=\"abc\"", &["abc"]),
            ("xesker_token=abc", &[]),
            ("esker_token=; esker_token=abc", &["abc"]),
            ("esker_token=abc; a=b; esker_token=def", &["abc", "def"]),
            ("esker_tokens=abc", &[]),
            ("esker_token", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> = tokens(field.as_bytes()).collect();
            assert_eq!(found, values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(), "{field}");
        }
    }
}
