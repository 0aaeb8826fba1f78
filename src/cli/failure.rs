//! Reports errors of the library in terms of the command line.

use super::options::OPTIONS;
use super::secrets::SecretVariables;
use crate::broker::StartError;
use crate::config::ConfigError;

/// Returns an error's message with the names of options. The library names a setting as the method of `Config`, in
/// backquotes; other text in backquotes stays as it is.
pub fn describe(error: &dyn std::fmt::Display) -> String {
    let message = error.to_string();
    let mut rest = message.as_str();
    let mut described = String::with_capacity(message.len());
    while let Some((before, quoted)) = rest.split_once('`') {
        let option = quoted.split_once('`').and_then(|(setting, after)| Some((option(setting)?, after)));
        described.push_str(before);
        match option {
            Some((option, after)) => {
                described.push_str(&option);
                rest = after;
            }
            None => {
                described.push('`');
                rest = quoted;
            }
        }
    }
    described.push_str(rest);
    described
}

/// Returns what sets a setting on the command line.
fn option(setting: &str) -> Option<String> {
    match setting {
        "engine_password" => Some("ESKER_ENGINE_PASSWORD".to_owned()),
        "in_memory" => Some("--data :memory:".to_owned()),
        _ => {
            let variable = format!("ESKER_{}", setting.to_ascii_uppercase());
            if SecretVariables::all().any(|known| known == variable) {
                return Some(variable);
            }
            let long = setting.replace('_', "-");
            OPTIONS.iter().any(|option| option.long == long).then(|| format!("--{long}"))
        }
    }
}

/// Returns whether the value of an option is the cause, rather than the system or missing keys. The exit status is then 2.
pub fn is_usage(error: &StartError) -> bool {
    let is_missing =
        |error: &ConfigError| matches!(error, ConfigError::NoKeys | ConfigError::NoKey(_) | ConfigError::Descriptors);
    matches!(error, StartError::Config(error) if !is_missing(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    #[test]
    fn settings_are_named_as_options_and_other_text_stays() {
        assert_eq!(
            describe(&ConfigError::Zero("max_connections_per_ip")),
            "--max-connections-per-ip must be at least 1"
        );
        let keys = describe(&ConfigError::NoKeys);
        assert!(keys.contains("set ESKER_PUBLISHER_SECRET and ESKER_SUBSCRIBER_SECRET (at least"), "{keys}");
        assert!(
            keys.contains("from `openssl rand -base64 48`) or use --publisher-key and --subscriber-key to"),
            "{keys}"
        );
        assert!(
            describe(&ConfigError::TwoKeys(Role::Publisher))
                .contains("ESKER_PUBLISHER_SECRET, ESKER_PUBLISHER_SECRET_FILE and --publisher-key")
        );
        let passwords = describe(&ConfigError::TwoEnginePasswords);
        assert!(passwords.contains("the URL of --engine and in ESKER_ENGINE_PASSWORD; set only one"), "{passwords}");
        let parameters = describe(&ConfigError::Engine(crate::EngineUrlError::Parameters));
        assert!(parameters.contains("use --engine-ack, --engine-prefix, --engine-ca and ESKER"), "{parameters}");
        assert_eq!(describe(&"use `in_memory`"), "use --data :memory:");
        for text in ["", "`", "a`b", "`x` `y", "```"] {
            assert_eq!(describe(&text), text);
        }
    }

    #[test]
    fn missing_keys_are_not_wrong_usage() {
        assert!(is_usage(&ConfigError::NoRate.into()));
        assert!(!is_usage(&ConfigError::NoKeys.into()));
        assert!(!is_usage(&std::io::Error::other("x").into()));
    }
}
