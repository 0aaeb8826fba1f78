//! The commands on an engine in a build without the feature `engine`. The settings of an engine are refused there, so that none
//! of this is ever called.

use std::io::{BufRead, Write};

use super::EngineSettings;
use super::report::EngineReport;
use crate::config::ConfigError;
use crate::records::progress::Progress;
use crate::records::report::Report;
use crate::records::transfer::ToolError;

fn absent() -> ToolError {
    ToolError::Keeper(Box::new(ConfigError::NoFeature("engine")))
}

/// Refuses to export records.
pub fn dump(_: &EngineSettings, _: Option<&str>, _: &mut dyn Write, _: &dyn Progress) -> Result<u64, ToolError> {
    Err(absent())
}

/// Refuses to import records.
pub fn load(_: &EngineSettings, _: &mut dyn BufRead, _: &dyn Progress) -> Result<u64, ToolError> {
    Err(absent())
}

/// Refuses to check records.
pub fn check(_: &EngineSettings, _: &dyn Progress) -> Result<Report, ToolError> {
    Err(absent())
}

/// Refuses to erase records.
pub fn erase(_: &EngineSettings, _: &str, _: Option<u64>, _: &dyn Progress) -> Result<u64, ToolError> {
    Err(absent())
}

/// Refuses to find out the state.
pub fn status(_: &EngineSettings) -> Result<EngineReport, ToolError> {
    Err(absent())
}

/// Refuses to raise the format.
pub fn raise(_: &EngineSettings, _: bool) -> Result<String, ToolError> {
    Err(absent())
}
