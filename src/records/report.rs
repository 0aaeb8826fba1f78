//! What a check of records has found.

use std::fmt;

/// The maximum number of problems that are reported.
const MAX_PROBLEMS: usize = 100;

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The number of records.
    pub records: u64,
    /// The number of names.
    pub names: u64,
    /// The id of the newest record.
    pub newest: u64,
    /// The problems found, at most 100.
    pub problems: Vec<String>,
}

impl Report {
    /// Returns whether no problem was found.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds a problem, unless there are too many already.
    pub fn add(&mut self, problem: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem.into());
        }
    }
}

/// Formats the counts, and the problems if there are some.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, names, newest, problems } = self;
        write!(f, "records: {records}, names: {names}, newest id: {newest}; ")?;
        match problems.as_slice() {
            [] => f.write_str("no problems found"),
            problems => write!(f, "problems found:\n{}", problems.join("\n")),
        }
    }
}
