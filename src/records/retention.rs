//! Which versions of a name are kept.

use std::num::NonZeroU64;
use std::time::Duration;

/// Which versions of a name are kept besides the newest, which always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// At most this many versions of each name; `None` for all.
    pub versions: Option<NonZeroU64>,
    /// Only versions that are not older than this; `None` for all.
    pub age: Option<Duration>,
}

/// Keeps all versions.
impl Default for Retention {
    fn default() -> Self {
        Self::ALL
    }
}

impl Retention {
    /// Keeps all versions.
    pub const ALL: Self = Self { versions: None, age: None };

    /// Returns whether versions are ever removed.
    pub fn is_limited(&self) -> bool {
        self.versions.is_some() || self.age.is_some()
    }
}
