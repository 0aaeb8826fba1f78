//! Parses the values of options. The error of each function says what to give instead.

use std::time::Duration;

use crate::config::ListenAddress;

/// Parses `IP:PORT` or `unix:PATH`.
pub(super) fn parse_address(text: &str) -> Result<ListenAddress, String> {
    text.parse().map_err(|error: crate::config::ParseAddressError| error.to_string())
}

/// Parses an octal file mode.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && !text.starts_with('+'));
    mode.ok_or_else(|| "give an octal mode from 0 to 777, such as 660".into())
}

/// Parses a whole number.
pub(super) fn parse_number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "give a whole number".into())
}

/// Parses the value of a switch. An empty one is `false`.
pub(super) fn parse_boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("give true or false".into()),
    }
}

/// Parses a number with the unit `ms`, `s`, `m` or `h`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let millis = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    parse_scaled(text, &millis, 31_536_000_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "give a number with ms, s, m or h, such as 15s; at most one year".into())
}

/// Parses a number of bytes, with or without the unit `K`, `M` or `G`.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("", 1)];
    parse_scaled(text, &bytes, 1 << 50)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| "give a number of bytes, optionally with K, M or G, such as 64M".into())
}

/// Parses a whole number with one of the units, and returns their product if it is not more than `max`.
fn parse_scaled(text: &str, units: &[(&str, u64)], max: u64) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (_, scale) = units.iter().find(|(unit, _)| *unit == &text[digits..])?;
    let value = text[..digits].parse::<u64>().ok()?.checked_mul(*scale)?;
    (value <= max).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_addresses_are_parsed() {
        assert_eq!((parse_mode("660"), parse_mode("0600"), parse_mode("777")), (Ok(0o660), Ok(0o600), Ok(0o777)));
        assert!(["", "8", "1777", "-1", "+7", "rw"].iter().all(|bad| parse_mode(bad).is_err()));
        assert!(
            ["", "3000", ":3000", "localhost:3000", "1.2.3.4", "unix:", "::1:3000"]
                .iter()
                .all(|bad| parse_address(bad).is_err())
        );
        assert!(["0.0.0.0:0", "[::1]:3000", "unix:x"].iter().all(|good| parse_address(good).is_ok()));
    }

    #[test]
    fn durations_and_sizes_are_parsed() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!((parse_size("64M"), parse_size("10"), parse_size("1G")), (Ok(64 << 20), Ok(10), Ok(1 << 30)));
        for bad in ["", "s", "1.5s", "-1s", "1 s", "99999999999999999999s", "1d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
