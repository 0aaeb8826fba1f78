//! One row of the table that `/stats` and `/metrics` show: a name, what it means, and numbers. Refuses to know where the
//! numbers come from, and how they are written down.

use std::fmt;

use super::histogram::Buckets;

/// See the module's page.
#[derive(Debug)]
pub struct Family {
    /// What Prometheus calls it.
    pub name: &'static str,
    /// One sentence or two.
    pub help: &'static str,
    /// How Prometheus is to read it.
    pub kind: Kind,
    /// The numbers.
    pub samples: Samples,
    /// How `/stats` shows it, if it does.
    pub view: Option<View>,
}

/// What the numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
    /// How often something took how long.
    Histogram,
}

/// The numbers of a family.
#[derive(Debug)]
pub enum Samples {
    /// One alone.
    One(Number),
    /// One for each value of a label.
    By(&'static str, Vec<(Label, Number)>),
    /// A histogram's.
    Buckets(Box<Buckets>),
}

/// A label's value: a word of the broker's own, so that nothing in it needs escaping, or an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A word.
    Word(&'static str),
    /// An index, or a code.
    Index(usize),
}

/// A number as both views can write it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Whole(u64),
    /// Seconds, mostly.
    Real(f64),
}

/// How `/stats` shows a family: the member's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The number, the sum of the numbers, or the buckets.
    Value(&'static str),
    /// An object with a number for each label.
    Each(&'static str),
    /// The label whose number is 1.
    Word(&'static str),
    /// Whether the number is 1.
    Truth(&'static str),
}

impl Family {
    /// A counter; its name ends in `_total`.
    pub fn counter(name: &'static str, help: &'static str, samples: impl Into<Samples>) -> Self {
        Self { name, help, kind: Kind::Counter, samples: samples.into(), view: None }
    }

    /// A gauge.
    pub fn gauge(name: &'static str, help: &'static str, samples: impl Into<Samples>) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: samples.into(), view: None }
    }

    /// A histogram; its name ends in `_seconds`.
    pub fn histogram(name: &'static str, help: &'static str, buckets: Buckets) -> Self {
        Self { name, help, kind: Kind::Histogram, samples: Samples::Buckets(Box::new(buckets)), view: None }
    }

    /// `/stats` shows it, too.
    #[must_use]
    pub fn shown(self, view: View) -> Self {
        Self { view: Some(view), ..self }
    }

    /// `/stats` shows the number, the sum or the buckets under this name.
    #[must_use]
    pub fn shown_as(self, member: &'static str) -> Self {
        self.shown(View::Value(member))
    }
}

impl Samples {
    /// One number for each word.
    pub fn by_word(label: &'static str, words: &[&'static str], number: impl Fn(usize) -> u64) -> Self {
        let sample = |(index, word): (usize, &&'static str)| (Label::Word(word), Number::Whole(number(index)));
        Self::By(label, words.iter().enumerate().map(sample).collect())
    }

    /// One number for each index from 0 on.
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
    fn from(is_so: bool) -> Self {
        Self::One(Number::Whole(is_so.into()))
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
