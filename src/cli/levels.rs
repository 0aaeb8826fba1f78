//! What is logged: `ESKER_LOG`, or `RUST_LOG`, which other programs read as well.

use log::LevelFilter;

use super::UsageError;
use super::environment::Environment;
use super::nearest::{did_you_mean, nearest};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Returns the log's filters, in `env_logger`'s syntax, and warnings about what in `RUST_LOG` is not understood. In
/// `ESKER_LOG` that is wrong usage.
pub(super) fn filters(environment: &Environment) -> Result<(String, Vec<String>), UsageError> {
    if let Some(text) = environment.text("ESKER_LOG")? {
        return match complaints(&text).into_iter().next() {
            None => Ok((text, Vec::new())),
            Some((_, complaint)) => Err(UsageError::new(format!("ESKER_LOG can't be {text:?}: {complaint}"))),
        };
    }
    let text = environment.get("RUST_LOG").map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
    let complaints = complaints(&text);
    let is_good = |part: &&str| !complaints.iter().any(|(bad, _)| bad == part);
    let (rules, search) = parts(&text);
    let filters = rules.split(',').filter(is_good).collect::<Vec<_>>().join(",");
    let warnings = complaints.iter().map(|(bad, complaint)| format!("{bad:?} in RUST_LOG is ignored: {complaint}"));
    Ok((filters + Some(search).filter(is_good).unwrap_or_default(), warnings.collect()))
}

/// Splits into the rules, separated by commas, and what is searched for in messages, with the slash before it.
fn parts(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

/// Returns what is not understood, each with the reason.
fn complaints(text: &str) -> Vec<(&str, String)> {
    let (rules, search) = parts(text);
    let of_rule = |rule| Some((rule, complaint(rule)?));
    let of_search = (search.matches('/').count() > 1).then(|| (search, "only one / is allowed".to_owned()));
    rules.split(',').filter_map(of_rule).chain(of_search).collect()
}

fn complaint(rule: &str) -> Option<String> {
    let rule = rule.trim();
    let (target, level) = rule.split_once('=').map_or((None, rule), |(target, level)| (Some(target), level.trim()));
    let is_target = target.is_none() && (rule == "esker" || rule.contains("::"));
    if level.is_empty() || level.parse::<LevelFilter>().is_ok() || is_target {
        return None;
    }
    Some(format!(
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
        filters(&environment).map(|(filters, warnings)| (filters, warnings.len())).map_err(|error| error.to_string())
    }

    #[test]
    fn levels_and_parts_are_taken_as_they_are() {
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
    fn unknown_levels_are_refused_with_the_nearest_one() {
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
    fn what_rust_log_says_to_others_is_left_to_them() {
        assert_eq!(read("RUST_LOG", "hyper=debug,my::app=info"), Ok(("hyper=debug,my::app=info".into(), 0)));
        assert_eq!(read("RUST_LOG", "warning,esker=debug,x=loud/y"), Ok(("esker=debug/y".into(), 2)));
        assert_eq!(read("RUST_LOG", "debug/x/y"), Ok(("debug".into(), 1)));
        let both = [("ESKER_LOG", "error"), ("RUST_LOG", "warning")];
        let both: Environment = both.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        assert_eq!(filters(&both).map_err(|error| error.to_string()), Ok(("error".into(), Vec::new())));
    }
}
