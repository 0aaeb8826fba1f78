//! Suggests what an unknown word probably meant.

/// Shorter words are not treated as prefixes: too many words begin with them.
const MIN_PREFIX: usize = 4;

/// Returns the known word that is nearest to a misspelled one, if any is near enough: at most a third of the letters are
/// wrong, or one of the words is a prefix of the other.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_lowercase();
    let tolerance = (given.chars().count() / 3).max(1);
    let distance_to = |word: &'a str| {
        let lower = word.to_ascii_lowercase();
        let (short, long) = if lower.len() < given.len() { (&lower, &given) } else { (&given, &lower) };
        let is_prefix = short.len() >= MIN_PREFIX && long.starts_with(short.as_str());
        let distance = distance(&given, &lower);
        (is_prefix || distance <= tolerance).then_some((distance, word))
    };
    known.into_iter().filter_map(distance_to).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// Returns the suggestion to append to an error message, or an empty string if there is none.
pub(super) fn did_you_mean(word: Option<impl std::fmt::Display>) -> String {
    word.map(|word| format!("; did you mean {word}?")).unwrap_or_default()
}

/// Returns how many letters must be inserted, removed, replaced or swapped with a neighbour to turn one word into the other:
/// the restricted Damerau-Levenshtein distance.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for at in 1..=from.len() {
        let mut row = vec![at];
        for other in 1..=to.len() {
            let above = &rows[at - 1];
            let replaced = above[other - 1] + usize::from(from[at - 1] != to[other - 1]);
            let mut least = replaced.min(above[other] + 1).min(row[other - 1] + 1);
            if at > 1 && other > 1 && from[at - 1] == to[other - 2] && from[at - 2] == to[other - 1] {
                least = least.min(rows[at - 2][other - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn misspelled_words_are_recognized_and_other_words_are_not() {
        let known = ["no-auth", "no-console", "history", "history-age", "max-body", "check"];
        for (given, expected) in [
            ("no-auht", Some("no-auth")),
            ("noauth", Some("no-auth")),
            ("histroy", Some("history")),
            ("hist", Some("history")),
            ("history-aeg", Some("history-age")),
            ("MAX-BODY", Some("max-body")),
            ("chekc", Some("check")),
            ("checks", Some("check")),
            ("serve", None),
            ("max", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), expected, "{given}");
        }
        assert_eq!(nearest("warning", ["error", "warn", "info"]), Some("warn"));
        assert_eq!(did_you_mean(Some("warn")), "; did you mean warn?");
        assert_eq!(did_you_mean(None::<&str>), "");
    }

    /// Computes the distance recursively, by its definition.
    fn naive(from: &[u8], to: &[u8]) -> usize {
        let ([before @ .., a], [onto @ .., b]) = (from, to) else { return from.len() + to.len() };
        let mut least = naive(before, onto) + usize::from(a != b);
        least = least.min(naive(before, to) + 1).min(naive(from, onto) + 1);
        if let ([before @ .., c], [onto @ .., d]) = (before, onto)
            && (a, c) == (d, b)
        {
            least = least.min(naive(before, onto) + 1);
        }
        least
    }

    proptest! {
        #[test]
        fn distances_match_the_definition(from in "[a-c]{0,6}", to in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&from, &to), naive(from.as_bytes(), to.as_bytes()));
        }
    }
}
