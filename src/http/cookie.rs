//! The one cookie that this server looks for (RFC 6265 section 4.2.1).

/// Its name.
pub const TOKEN: &str = "esker_token";

/// Its value among a `Cookie` field's pairs, quoted or not.
pub fn token(field: &[u8]) -> Option<&[u8]> {
    field.split(|&b| b == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(TOKEN.as_bytes())?.strip_prefix(b"=")?;
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (!unquoted.is_empty()).then_some(unquoted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        for (field, value) in [
            ("esker_token=abc", Some("abc")),
            ("a=b; esker_token=abc; c=d", Some("abc")),
            ("a=b;esker_token=\"abc\"", Some("abc")),
            ("xesker_token=abc", None),
            ("esker_token=; esker_token=abc", Some("abc")),
            ("esker_tokens=abc", None),
            ("esker_token", None),
            ("", None),
        ] {
            assert_eq!(token(field.as_bytes()), value.map(str::as_bytes), "{field}");
        }
    }
}
