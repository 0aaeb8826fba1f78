//! Reads the log's filters from `ESKER_LOG`, or from `RUST_LOG`, which other programs read as well.

use log::LevelFilter;

use super::UsageError;
use super::environment::Environment;
use super::nearest::{did_you_mean, nearest};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Returns the log's filters, in `env_logger`'s syntax, and a warning for each invalid part of `RUST_LOG`. An invalid part of
/// `ESKER_LOG` is a usage error.
pub(super) fn read_filters(environment: &Environment) -> Result<(String, Vec<String>), UsageError> {
    if let Some(text) = environment.text("ESKER_LOG")? {
        return match find_invalid(&text).into_iter().next() {
            None => Ok((text, Vec::new())),
            Some((_, reason)) => Err(UsageError::new(format!("ESKER_LOG can't be {text:?}: {reason}"))),
        };
    }
    let text = environment.get("RUST_LOG").map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
    let invalid = find_invalid(&text);
    let is_valid = |part: &&str| !invalid.iter().any(|(bad, _)| bad == part);
    let (rules, search) = split(&text);
    let filters = rules.split(',').filter(is_valid).collect::<Vec<_>>().join(",");
    let warnings = invalid.iter().map(|(bad, reason)| format!("{bad:?} in RUST_LOG is ignored: {reason}"));
    Ok((filters + Some(search).filter(is_valid).unwrap_or_default(), warnings.collect()))
}

/// Splits filters into the rules, which are separated by commas, and the text to search for in messages, with its slash.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

/// Returns the invalid parts of filters, each with the reason.
fn find_invalid(text: &str) -> Vec<(&str, String)> {
    let (rules, search) = split(text);
    let invalid_rule = |rule| Some((rule, check_rule(rule).err()?));
    let invalid_search = (search.matches('/').count() > 1).then(|| (search, "only one / is allowed".to_owned()));
    rules.split(',').filter_map(invalid_rule).chain(invalid_search).collect()
}

/// Checks that a rule is a target, a level, or both.
fn check_rule(rule: &str) -> Result<(), String> {
    let rule = rule.trim();
    let (target, level) = rule.split_once('=').map_or((None, rule), |(target, level)| (Some(target), level.trim()));
    let is_target = target.is_none() && (rule == "esker" || rule.contains("::"));
    if level.is_empty() || level.parse::<LevelFilter>().is_ok() || is_target {
        return Ok(());
    }
    Err(format!(
        "unknown level {level:?}; the levels are {}; TARGET=LEVEL, such as esker::store=debug, sets the level of \
         one target{}",
        LEVELS.join(", "),
        did_you_mean(nearest(level, LEVELS))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<(String, usize), String> {
        let environment: Environment = [(name.into(), text.into())].into_iter().collect();
        read_filters(&environment)
            .map(|(filters, warnings)| (filters, warnings.len()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn valid_filters_are_returned_unchanged() {
        for text in [
            "",
            "info",
            "WARN",
            "off",
            "error,esker::store=debug",
            "info, esker::api=trace ",
            "esker",
            "esker::http",
            "esker=",
            "debug/slow, and more",
        ] {
            for name in ["ESKER_LOG", "RUST_LOG"] {
                assert_eq!(read(name, text), Ok((text.into(), 0)), "{name}={text}");
            }
        }
    }

    #[test]
    fn unknown_levels_are_refused_with_a_suggestion() {
        for (text, part) in [
            ("warning", "unknown level \"warning\"; the levels are off, error, warn,"),
            ("warning", "did you mean warn?"),
            ("information", "did you mean info?"),
            ("verbose", "unknown level \"verbose\""),
            ("3", "unknown level \"3\""),
            ("info,esker::store=loud", "unknown level \"loud\""),
            ("a=b=c", "unknown level \"b=c\""),
            ("info/a/b", "only one /"),
        ] {
            let error = read("ESKER_LOG", text).unwrap_err();
            assert!(error.starts_with(&format!("ESKER_LOG can't be {text:?}: ")) && error.contains(part), "{error}");
        }
    }

    #[test]
    fn filters_for_other_programs_in_rust_log_are_kept() {
        assert_eq!(read("RUST_LOG", "hyper=debug,my::app=info"), Ok(("hyper=debug,my::app=info".into(), 0)));
        assert_eq!(read("RUST_LOG", "warning,esker=debug,x=loud/y"), Ok(("esker=debug/y".into(), 2)));
        assert_eq!(read("RUST_LOG", "debug/x/y"), Ok(("debug".into(), 1)));
        let both = [("ESKER_LOG", "error"), ("RUST_LOG", "warning")];
        let both: Environment = both.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        assert_eq!(read_filters(&both).map_err(|error| error.to_string()), Ok(("error".into(), Vec::new())));
    }
}
