//! Parses `/metrics` into values by series.

use std::collections::BTreeMap;

/// The values of all series.
#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is not a sample")));
        Self(pairs.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect())
    }

    /// Returns the value of one series, such as `up{job="a"}`.
    pub fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("there is no {series}"))
    }

    /// Returns the value of a series with one label.
    pub fn labeled(&self, name: &str, label: &str, value: &str) -> f64 {
        self.value(&format!("{name}{{{label}=\"{value}\"}}"))
    }

    /// Returns the sum of all series with this name.
    pub fn sum(&self, name: &str) -> f64 {
        let named: Vec<_> = self.0.iter().filter(|(series, _)| name_of(series) == name).collect();
        assert!(!named.is_empty(), "there is no {name}");
        named.iter().map(|(_, value)| **value).sum()
    }

    /// Returns the names of all series.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|series| name_of(series))
    }
}

fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}
