//! Numbers with units, as the options take them.

/// Returns bytes with the largest unit that divides them: `256M`.
pub(crate) fn size(bytes: usize) -> String {
    const UNITS: [(&str, usize); 3] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Returns milliseconds as seconds: `61.2 s`.
pub(crate) fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        let sizes =
            [(0, "0"), (1000, "1000"), (1 << 10, "1K"), (3 << 19, "1536K"), (256 << 20, "256M"), (1 << 40, "1024G")];
        sizes.into_iter().for_each(|(bytes, text)| assert_eq!(size(bytes), text));
        assert_eq!((seconds(61_299).as_str(), seconds(99).as_str()), ("61.2 s", "0.0 s"));
    }
}
