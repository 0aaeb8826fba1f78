//! The soak's results as text: the usage of each phase, and the failures.

use std::fmt::{self, Write as _};

use crate::sampler::Sample;

/// The results of a phase.
pub struct Report {
    pub name: &'static str,
    /// The beginning of the phase, and of the idle time after it, in seconds since the soak began.
    pub begin: f64,
    pub idle: f64,
    /// What is used in the idle time.
    pub usage: Vec<Cell>,
    pub counts: Vec<(&'static str, u64)>,
    /// The probes' p50, p99 and maximum in milliseconds.
    pub latency: [f64; 3],
    /// The number of failed checks.
    pub failed: u64,
}

/// The name of a column, and a value.
pub type Cell = (&'static str, String);

/// What a soak has shown.
pub struct Findings<'a> {
    pub title: &'a str,
    /// What was used before the first phase.
    pub baseline: &'a [Cell],
    pub reports: &'a [Report],
    /// The longest time between two samples, which are due each second.
    pub longest_pause: f64,
    pub failures: &'a [String],
    pub failed: u64,
}

/// Returns a table of the phases, the failures, and the verdict.
pub fn write(findings: &Findings<'_>) -> Result<String, fmt::Error> {
    let Findings { title, baseline, reports, failures, failed, .. } = findings;
    let mut text = format!("{title}\n\n{:<16}", "phase");
    let names: Vec<&str> =
        reports.first().map_or(Vec::new(), |report| report.counts.iter().map(|(name, _)| *name).collect());
    baseline
        .iter()
        .map(|(name, _)| *name)
        .chain(names.iter().copied())
        .try_for_each(|name| write!(text, " {name:>9}"))?;
    writeln!(text, " {:>8} {:>8} {:>8} {:>6}", "p50 ms", "p99 ms", "max ms", "failed")?;
    write!(text, "{:<16}", "baseline")?;
    baseline.iter().try_for_each(|(_, value)| write!(text, " {value:>9}"))?;
    writeln!(text)?;
    for report in *reports {
        line(&mut text, report)?;
    }
    let sum = |index: usize| reports.iter().map(|report| report.counts[index].1).sum::<u64>();
    write!(text, "{:<16}", "all")?;
    baseline.iter().try_for_each(|_| write!(text, " {:>9}", ""))?;
    (0..names.len()).try_for_each(|index| write!(text, " {:>9}", sum(index)))?;
    writeln!(text, "\n")?;
    writeln!(
        text,
        "The longest time between two samples, which are due each second: {:.1} s.",
        findings.longest_pause
    )?;
    failures.iter().try_for_each(|words| writeln!(text, "{words}"))?;
    if *failed > failures.len() as u64 {
        writeln!(text, "… and {} more", failed - failures.len() as u64)?;
    }
    writeln!(text, "{}", if *failed == 0 { "PASS".to_owned() } else { format!("FAIL: {failed}") })?;
    Ok(text)
}

fn line(text: &mut String, report: &Report) -> fmt::Result {
    write!(text, "{:<16}", report.name)?;
    report.usage.iter().try_for_each(|(_, value)| write!(text, " {value:>9}"))?;
    report.counts.iter().try_for_each(|(_, count)| write!(text, " {count:>9}"))?;
    report.latency.iter().try_for_each(|millis| write!(text, " {millis:>8.2}"))?;
    writeln!(text, " {:>6}", report.failed)
}

/// Returns a figure as a cell of CSV, which is empty if there is none.
pub fn or_nothing(figure: Option<f64>) -> String {
    figure.map_or(String::new(), |figure| format!("{figure:.3}"))
}

/// Returns the samples as CSV.
pub fn table(samples: &[Sample]) -> Result<String, fmt::Error> {
    let mut text =
        "seconds,private_bytes,resident_bytes,descriptors,threads,cpu_percent,p50_ms,p99_ms,max_ms,restarts\n"
            .to_owned();
    for sample in samples {
        let memory = sample.memory;
        write!(text, "{:.1},{},{},", sample.seconds, memory.private, memory.resident)?;
        write!(text, "{},{},{}", sample.descriptors, sample.threads, or_nothing(sample.cpu_percent))?;
        (0..3).try_for_each(|index| write!(text, ",{}", or_nothing(sample.latency.map(|latency| latency[index]))))?;
        writeln!(text, ",{}", sample.generation)?;
    }
    Ok(text)
}
