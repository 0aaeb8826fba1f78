//! The soak's results as text: the usage of each phase, and the failures.

use std::fmt::{self, Write as _};

use crate::director::{Report, Results, Usage};
use crate::sampler::Sample;

/// Returns a table of the phases, the failures, and the verdict.
pub fn write(
    title: &str,
    results: &Results,
    samples: &[Sample],
    failures: &[String],
    failed: u64,
) -> Result<String, fmt::Error> {
    let mut text = format!("{title}\n\n");
    let names = results.reports.first().map(|report| report.counts.map(|count| count.0)).unwrap_or_default();
    write!(text, "{:<16} {:>9} {:>9} {:>5}", "phase", "private", "resident", "fds")?;
    names.iter().try_for_each(|name| write!(text, " {name:>9}"))?;
    writeln!(text, " {:>8} {:>8} {:>8} {:>6}", "p50 ms", "p99 ms", "max ms", "failed")?;
    writeln!(text, "{:<16} {}", "baseline", usage(&results.baseline))?;
    for report in &results.reports {
        line(&mut text, report)?;
    }
    let sum = |index: usize| results.reports.iter().map(|report| report.counts[index].1).sum::<u64>();
    write!(text, "{:<16} {:>9} {:>9} {:>5}", "all", "", "", "")?;
    (0..names.len()).try_for_each(|index| write!(text, " {:>9}", sum(index)))?;
    writeln!(text, "\n")?;
    let pauses = samples.windows(2).map(|pair| pair[1].seconds - pair[0].seconds);
    writeln!(
        text,
        "The longest time between two samples, which are due each second: {:.1} s.",
        pauses.fold(0.0, f64::max)
    )?;
    failures.iter().try_for_each(|words| writeln!(text, "{words}"))?;
    if failed > failures.len() as u64 {
        writeln!(text, "… and {} more", failed - failures.len() as u64)?;
    }
    writeln!(text, "{}", if failed == 0 { "PASS".to_owned() } else { format!("FAIL: {failed}") })?;
    Ok(text)
}

fn line(text: &mut String, report: &Report) -> fmt::Result {
    write!(text, "{:<16} {}", report.name, usage(&report.usage))?;
    report.counts.iter().try_for_each(|(_, count)| write!(text, " {count:>9}"))?;
    report.latency.iter().try_for_each(|millis| write!(text, " {millis:>8.2}"))?;
    writeln!(text, " {:>6}", report.failed)
}

fn usage(usage: &Usage) -> String {
    let [private, resident] = [usage.memory.private, usage.memory.resident].map(|bytes| format!("{} KiB", bytes >> 10));
    format!("{private:>9} {resident:>9} {:>5}", usage.descriptors)
}

/// Returns the samples as CSV.
pub fn table(samples: &[Sample]) -> Result<String, fmt::Error> {
    let mut text =
        "seconds,private_bytes,resident_bytes,descriptors,threads,cpu_percent,p50_ms,p99_ms,max_ms,restarts\n"
            .to_owned();
    let or_nothing = |figure: Option<f64>| figure.map_or(String::new(), |figure| format!("{figure:.3}"));
    for sample in samples {
        let memory = sample.memory;
        write!(text, "{:.1},{},{},", sample.seconds, memory.private, memory.resident)?;
        write!(text, "{},{},{}", sample.descriptors, sample.threads, or_nothing(sample.cpu_percent))?;
        (0..3).try_for_each(|index| write!(text, ",{}", or_nothing(sample.latency.map(|latency| latency[index]))))?;
        writeln!(text, ",{}", sample.generation)?;
    }
    Ok(text)
}
