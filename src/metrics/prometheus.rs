//! Writes the table in the text format of Prometheus, version 0.0.4.

use std::fmt;

use super::family::{Family, Kind, Samples};
use super::histogram::Buckets;

/// The media type of the format.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A table that is displayed in the text format.
#[derive(Debug)]
pub struct Exposition<'a>(pub &'a [Family]);

impl fmt::Display for Exposition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| write_family(family, f))
    }
}

fn write_family(family: &Family, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Family { name, help, kind, samples, .. } = family;
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    write!(f, "# HELP {name} {help}\n# TYPE {name} {kind}\n")?;
    match samples {
        Samples::One(number) => writeln!(f, "{name} {number}"),
        Samples::By(label, samples) => {
            samples.iter().try_for_each(|(value, number)| writeln!(f, "{name}{{{label}=\"{value}\"}} {number}"))
        }
        Samples::Buckets(buckets) => write_buckets(name, buckets, f),
    }
}

fn write_buckets(name: &str, buckets: &Buckets, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let count = buckets.count();
    for (bound, count) in buckets.cumulative() {
        writeln!(f, "{name}_bucket{{le=\"{bound}\"}} {count}")?;
    }
    writeln!(f, "{name}_bucket{{le=\"+Inf\"}} {count}")?;
    write!(f, "{name}_sum {}\n{name}_count {count}\n", buckets.sum_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_metric_is_written_as_specified() {
        let mut buckets = Buckets::default();
        buckets.add(1_500, 2);
        let table = [
            Family::gauge("threads", "Threads.", 2_usize),
            Family::counter("bytes_total", "Bytes.", Samples::by_index("worker", [3, 4].into_iter())),
            Family::gauge("state", "State.", Samples::by_word("is", &["up", "down"], |index| 1 - index as u64)),
            Family::gauge("start_seconds", "Start.", 1.25),
            Family::histogram("took_seconds", "Took.", buckets),
        ];
        let text = Exposition(&table).to_string();
        let (head, histogram) = text.split_at(text.find("# HELP took").unwrap());
        assert_eq!(
            head,
            "# HELP threads Threads.\n# TYPE threads gauge\nthreads 2\n\
             # HELP bytes_total Bytes.\n# TYPE bytes_total counter\nbytes_total{worker=\"0\"} 3\nbytes_total{worker=\"1\"} 4\n\
             # HELP state State.\n# TYPE state gauge\nstate{is=\"up\"} 1\nstate{is=\"down\"} 0\n\
             # HELP start_seconds Start.\n# TYPE start_seconds gauge\nstart_seconds 1.25\n"
        );
        assert!(histogram.starts_with(
            "# HELP took_seconds Took.\n# TYPE took_seconds histogram\ntook_seconds_bucket{le=\"0.0001\"} 0\n"
        ));
        assert!(histogram.contains("\ntook_seconds_bucket{le=\"0.0025\"} 2\n"), "{histogram}");
        assert!(histogram.ends_with(
            "le=\"10\"} 2\ntook_seconds_bucket{le=\"+Inf\"} 2\ntook_seconds_sum 0.003\ntook_seconds_count 2\n"
        ));
    }
}
