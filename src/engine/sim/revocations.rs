//! Revocations of tokens: the script of [`super::super::redis`], in Rust.

use std::collections::VecDeque;

use super::super::log::{Revoke, Revoked};

/// What is stored, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Revocations(VecDeque<Revoked>);

impl Revocations {
    /// See [`super::super::log::Revocations::revoke`].
    pub fn revoke(&mut self, now: u64, revoke: &Revoke<'_>) -> u64 {
        let newest = self.0.back();
        let first = newest.map_or(now, |newest| now.max(newest.time + 1));
        let mut removed_through = newest.map_or(0, |newest| newest.removed_through);
        let surplus = (self.0.len() + revoke.texts.len()).saturating_sub(revoke.max).min(self.0.len());
        if let Some(removed) = self.0.drain(..surplus).next_back() {
            removed_through = removed.time;
        }
        let new = revoke.texts.iter().zip(first..);
        self.0.extend(new.map(|(text, time)| Revoked { time, text: text.as_str().into(), removed_through }));
        first
    }

    /// See [`super::super::log::Revocations::revoked`].
    pub fn after(&self, time: u64, limit: usize) -> Vec<Revoked> {
        self.0.iter().filter(|revoked| revoked.time > time).take(limit).cloned().collect()
    }
}
