//! What the chart of a single broker shows: memory, descriptors, latency, processor time and threads.

use crate::chart::{Curve, Panel, Sampled};
use crate::director::Usage;
use crate::sampler::Sample;

const MEMORY: &[Curve<'_, Sample>] = &[
    ("private", "#0b7a75", |sample| Some(sample.memory.private as f64 / f64::from(1 << 20))),
    ("resident", "#9aa7ad", |sample| Some(sample.memory.resident as f64 / f64::from(1 << 20))),
];
const DESCRIPTORS: &[Curve<'_, Sample>] = &[("open", "#0b7a75", |sample| Some(sample.descriptors as f64))];
const CPU: &[Curve<'_, Sample>] = &[("% of one core", "#0b7a75", |sample| sample.cpu_percent)];
const THREADS: &[Curve<'_, Sample>] = &[("threads", "#0b7a75", |sample| Some(sample.threads as f64))];
const LATENCY: &[Curve<'_, Sample>] = &[
    ("maximum", "#e0b7ac", |sample| sample.latency.map(|latency| latency[2])),
    ("p99", "#c4512d", |sample| sample.latency.map(|latency| latency[1])),
    ("p50", "#0b7a75", |sample| sample.latency.map(|latency| latency[0])),
];

impl Sampled for Sample {
    fn seconds(&self) -> f64 {
        self.seconds
    }

    fn generation(&self) -> u32 {
        self.generation
    }
}

/// Returns the panels, with the usage after the warm-up as dashed lines.
pub fn panels(baseline: &Usage) -> [Panel<'static, Sample>; 5] {
    let even = |title, curves, baseline| Panel { title, curves, baseline, is_logarithmic: false };
    [
        even("memory, MiB", MEMORY, Some(baseline.memory.private as f64 / f64::from(1 << 20))),
        even("descriptors", DESCRIPTORS, Some(baseline.descriptors as f64)),
        Panel { is_logarithmic: true, ..even("latency of probes, ms", LATENCY, None) },
        even("processor time, % of one core", CPU, None),
        even("threads", THREADS, Some(baseline.threads as f64)),
    ]
}
