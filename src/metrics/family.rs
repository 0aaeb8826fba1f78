//! One row of the table that `/stats` and `/metrics` show: a name, its meaning, and numbers. Independent of where the numbers
//! come from and how they are written.

use std::fmt;

use super::histogram::Buckets;

/// A metric with all its samples.
#[derive(Debug)]
pub struct Family {
    /// The name in Prometheus.
    pub name: &'static str,
    /// The help text: one or two sentences.
    pub help: &'static str,
    /// The type in Prometheus.
    pub kind: Kind,
    /// The samples.
    pub samples: Samples,
    /// How `/stats` shows the metric. `None` if it does not.
    pub view: Option<View>,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The number only grows.
    Counter,
    /// The number may grow and shrink.
    Gauge,
    /// The samples are counts of durations.
    Histogram,
}

/// The samples of a metric.
#[derive(Debug)]
pub enum Samples {
    /// A single number.
    One(Number),
    /// A number for each value of a label. The text is the label's name.
    By(&'static str, Vec<(Label, Number)>),
    /// A histogram.
    Buckets(Box<Buckets>),
}

/// The value of a label: one of the broker's own words, which never need escaping, or an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A word.
    Word(&'static str),
    /// An index or a status code.
    Index(usize),
}

/// A number as both views can write it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Whole(u64),
    /// A fraction, such as seconds.
    Real(f64),
}

/// How `/stats` shows a metric. The text is the name of the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As a number (the sum, if there are several) or a histogram.
    Value(&'static str),
    /// As an object with a number for each label.
    Each(&'static str),
    /// As the label whose number is 1.
    Word(&'static str),
    /// As a Boolean: whether the number is 1.
    Bool(&'static str),
}

impl Family {
    /// Creates a counter. Its name should end in `_total`.
    pub fn counter(name: &'static str, help: &'static str, samples: impl Into<Samples>) -> Self {
        Self { name, help, kind: Kind::Counter, samples: samples.into(), view: None }
    }

    /// Creates a gauge.
    pub fn gauge(name: &'static str, help: &'static str, samples: impl Into<Samples>) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: samples.into(), view: None }
    }

    /// Creates a histogram. Its name should end in `_seconds`.
    pub fn histogram(name: &'static str, help: &'static str, buckets: Buckets) -> Self {
        Self { name, help, kind: Kind::Histogram, samples: Samples::Buckets(Box::new(buckets)), view: None }
    }

    /// Makes `/stats` show the metric.
    #[must_use]
    pub fn shown(self, view: View) -> Self {
        Self { view: Some(view), ..self }
    }

    /// Makes `/stats` show the metric as a value, under this name.
    #[must_use]
    pub fn shown_as(self, member: &'static str) -> Self {
        self.shown(View::Value(member))
    }
}

impl Samples {
    /// Creates a sample for each word.
    pub fn by_word(label: &'static str, words: &[&'static str], number: impl Fn(usize) -> u64) -> Self {
        let sample = |(index, word): (usize, &&'static str)| (Label::Word(word), Number::Whole(number(index)));
        Self::By(label, words.iter().enumerate().map(sample).collect())
    }

    /// Creates a sample for each index, starting at 0.
    pub fn by_index(label: &'static str, numbers: impl Iterator<Item = u64>) -> Self {
        let sample = |(index, number)| (Label::Index(index), Number::Whole(number));
        Self::By(label, numbers.enumerate().map(sample).collect())
    }
}

impl From<u64> for Samples {
    fn from(number: u64) -> Self {
        Self::One(Number::Whole(number))
    }
}

impl From<usize> for Samples {
    fn from(number: usize) -> Self {
        Self::One(Number::Whole(number as u64))
    }
}

impl From<bool> for Samples {
    fn from(value: bool) -> Self {
        Self::One(Number::Whole(value.into()))
    }
}

impl From<f64> for Samples {
    fn from(number: f64) -> Self {
        Self::One(Number::Real(number))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Index(index) => index.fmt(f),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
        }
    }
}
