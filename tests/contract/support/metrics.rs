//! What `/metrics` says, by the names of its series.

use std::collections::BTreeMap;

/// See the module's page.
#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample")));
        Self(pairs.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect())
    }

    /// The value of one series, such as `up{job="a"}`.
    pub fn of(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("there is no {series}"))
    }

    /// The same of a name with one label.
    pub fn by(&self, name: &str, label: &str, value: &str) -> f64 {
        self.of(&format!("{name}{{{label}=\"{value}\"}}"))
    }

    /// The sum of all series with this name.
    pub fn sum(&self, name: &str) -> f64 {
        let named: Vec<_> = self.0.iter().filter(|(series, _)| name_of(series) == name).collect();
        assert!(!named.is_empty(), "there is no {name}");
        named.iter().map(|(_, value)| **value).sum()
    }

    /// The names of all series.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|series| name_of(series))
    }
}

fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}
