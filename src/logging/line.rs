//! Formats lines of the log: as text, as text for journald, or as JSON.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use log::Level;
use serde::Serialize;

use crate::clock::Clock;

/// The maximum length of a message in bytes; longer ones are truncated. Together with the length of the queue, it bounds the
/// memory of the log.
const MAX_MESSAGE_BYTES: usize = 4096;

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: `[2026-11-22T12:00:00.123Z INFO  esker::broker] message`.
    #[default]
    Text,
    /// For journald, which records the time itself: `<6>esker::broker: message`, with the level as a priority (sd-daemon(3)).
    Journal,
    /// For programs: one JSON object with `time`, `level`, `target` and `message`.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("give text or json".into()),
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    level: &'a str,
    target: &'a str,
    message: &'a str,
}

impl LogFormat {
    /// Formats a line with the current time, and with its line end.
    pub(super) fn line(self, level: Level, target: &str, message: &str) -> Vec<u8> {
        let time = rfc3339(Clock::new().now().unix_millis);
        let message = truncate(message);
        match self {
            Self::Text => format!("[{time} {level:<5} {target}] {}\n", escape_controls(&message)).into_bytes(),
            Self::Journal => format!("<{}>{target}: {}\n", priority(level), escape_controls(&message)).into_bytes(),
            Self::Json => {
                let level = level.as_str().to_ascii_lowercase();
                let line = JsonLine { time: &time, level: &level, target, message: &message };
                // Strings can always be written as JSON.
                let mut line = serde_json::to_vec(&line).unwrap_or_default();
                line.push(b'\n');
                line
            }
        }
    }

    /// Formats the reason why the process exits. It may have several lines, which people are to read as such.
    pub(super) fn exit_reason(self, error: &dyn fmt::Display) -> Vec<u8> {
        match self {
            Self::Text => format!("esker: {error}\n").into_bytes(),
            // Without a priority of its own, a line would be informational.
            Self::Journal => {
                let prefix = format!("<{}>esker: ", priority(Level::Error));
                error.to_string().lines().map(|line| format!("{prefix}{line}\n")).collect::<String>().into_bytes()
            }
            Self::Json => self.line(Level::Error, "esker", &error.to_string()),
        }
    }
}

/// Returns the syslog priority of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn truncate(message: &str) -> Cow<'_, str> {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message.into();
    }
    let end = (0..=MAX_MESSAGE_BYTES).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &message[..end]).into()
}

/// Escapes line ends and other control characters, so that a message can't forge a line or control a terminal.
fn escape_controls(message: &str) -> Cow<'_, str> {
    if !message.contains(char::is_control) {
        return message.into();
    }
    let escape = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    message.chars().map(escape).collect()
}

/// Formats a time as in RFC 3339, in UTC with milliseconds.
pub(crate) fn rfc3339(unix_millis: u64) -> String {
    let (seconds, millis) = (unix_millis / 1000, unix_millis % 1000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Converts days since 1970-01-01 to year, month and day. Internally, years begin in March, so that a leap day is the last day
/// of a year.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, the lengths of months repeat: 31, 30, 31, 30, 31 days, which is 153 days for five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_formatted_as_in_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    proptest! {
        /// Compares with another implementation of the calendar.
        #[test]
        fn dates_match_those_of_http(seconds in 0_u64..250_000_000_000) {
            let text = rfc3339(seconds * 1000);
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            let words: Vec<_> = http.split(' ').collect();
            let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let month = months.iter().position(|month| *month == words[2]).unwrap() + 1;
            prop_assert_eq!(text, format!("{}-{month:02}-{}T{}.000Z", words[3], words[1], words[4]));
        }

        #[test]
        fn a_message_is_one_line_and_round_trips_through_json(message in "(?s).{0,80}") {
            let text = String::from_utf8(LogFormat::Text.line(Level::Warn, "esker", &message)).unwrap();
            prop_assert_eq!(text.find(char::is_control), Some(text.len() - 1));
            prop_assert!(text.contains("Z WARN  esker] "));
            let journal = String::from_utf8(LogFormat::Journal.line(Level::Warn, "esker", &message)).unwrap();
            prop_assert_eq!(journal.find(char::is_control), Some(journal.len() - 1));
            prop_assert!(journal.starts_with("<4>esker: "));
            let json = LogFormat::Json.line(Level::Warn, "esker", &message);
            prop_assert_eq!(json.iter().position(|byte| *byte == b'\n'), Some(json.len() - 1));
            let line: serde_json::Value = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(&line["message"], message.as_str());
            prop_assert_eq!((&line["level"], &line["target"]), (&"warn".into(), &"esker".into()));
        }
    }

    #[test]
    fn every_line_for_journald_has_a_priority() {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        let lines = levels.map(|level| String::from_utf8(LogFormat::Journal.line(level, "esker::net", "x")).unwrap());
        assert_eq!(lines.map(|line| line[..3].to_owned()), ["<3>", "<4>", "<6>", "<7>", "<7>"]);
        let reason = LogFormat::Journal.exit_reason(&"no keys\nuse --no-auth");
        assert_eq!(String::from_utf8(reason).unwrap(), "<3>esker: no keys\n<3>esker: use --no-auth\n");
    }

    #[test]
    fn long_messages_are_truncated_between_characters() {
        let message = format!("{}{}", "é".repeat(MAX_MESSAGE_BYTES / 2 - 1), "日本");
        assert_eq!(truncate(&message), format!("{}…", "é".repeat(MAX_MESSAGE_BYTES / 2 - 1)));
        assert_eq!(truncate(&"x".repeat(MAX_MESSAGE_BYTES)).len(), MAX_MESSAGE_BYTES);
    }
}
