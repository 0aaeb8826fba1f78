//! Draws a soak as an SVG chart: panels with curves over time, and the phases as bands.

use std::fmt::{self, Write as _};

use crate::summary::Report;

/// In pixels.
const LEFT: f64 = 80.0;
const WIDTH: f64 = 1500.0;
const TOP: f64 = 150.0;
const HEIGHT: f64 = 170.0;
const PITCH: f64 = 215.0;
const TINTS: [&str; 6] = ["#e8f1f8", "#fdf0e1", "#e9f6e9", "#f7e8f3", "#f3f0e0", "#e6f4f3"];

/// The measurements of one moment.
pub trait Sampled {
    /// Returns the time since the soak began.
    fn seconds(&self) -> f64;

    /// Returns a number that changes with each restart.
    fn generation(&self) -> u32;
}

/// A curve: its name, its colour, and its value for a sample.
pub type Curve<'a, S> = (&'a str, &'a str, fn(&S) -> Option<f64>);

/// One of the panels, which are stacked.
pub struct Panel<'a, S> {
    pub title: &'a str,
    pub curves: &'a [Curve<'a, S>],
    /// A dashed horizontal line.
    pub baseline: Option<f64>,
    /// The scale is logarithmic.
    pub is_logarithmic: bool,
}

/// What is drawn.
pub struct Picture<'a, S> {
    pub title: &'a str,
    pub panels: &'a [Panel<'a, S>],
    pub samples: &'a [S],
    /// The end of the warm-up, in seconds.
    pub warm: f64,
    pub reports: &'a [Report],
}

/// Returns the chart as SVG.
pub fn draw<S: Sampled>(picture: &Picture<'_, S>) -> Result<String, fmt::Error> {
    let Picture { title, panels, samples, .. } = picture;
    let seconds = samples.last().map_or(1.0, Sampled::seconds);
    let (width, height) = (LEFT + WIDTH + 30.0, TOP + PITCH * panels.len() as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n"
    );
    let bottom = TOP + PITCH * (panels.len() - 1) as f64 + HEIGHT;
    bands(&mut svg, picture, seconds, bottom)?;
    restarts(&mut svg, samples, seconds, bottom)?;
    for (index, panel) in panels.iter().enumerate() {
        panel.draw(&mut svg, TOP + PITCH * index as f64, samples, seconds)?;
    }
    minutes(&mut svg, seconds, bottom)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn x(at: f64, seconds: f64) -> f64 {
    LEFT + at / seconds * WIDTH
}

/// Draws a tinted band for each phase; its name is red if a check failed.
fn bands<S>(svg: &mut String, picture: &Picture<'_, S>, seconds: f64, bottom: f64) -> fmt::Result {
    let mut band = |begin: f64, end: f64, tint: &str| {
        let (from, height) = (x(begin, seconds), bottom - TOP);
        let width = x(end, seconds) - from;
        writeln!(svg, "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{tint}\"/>")
    };
    band(0.0, picture.warm, "#eeeeee")?;
    for (index, report) in picture.reports.iter().enumerate() {
        band(report.begin, report.idle, TINTS[index % TINTS.len()])?;
    }
    let mut name = |at: f64, name: &str, color: &str| {
        let (at, y) = (x(at, seconds) + 11.0, TOP - 24.0);
        writeln!(svg, "<text transform=\"translate({at:.1} {y}) rotate(-60)\" fill=\"{color}\">{name}</text>")
    };
    if picture.warm > 0.0 {
        name(0.0, "warm-up", "#222222")?;
    }
    for report in picture.reports {
        name(report.begin, report.name, if report.failed == 0 { "#222222" } else { "#c00000" })?;
    }
    Ok(())
}

fn restarts<S: Sampled>(svg: &mut String, samples: &[S], seconds: f64, bottom: f64) -> fmt::Result {
    for pair in samples.windows(2).filter(|pair| pair[0].generation() != pair[1].generation()) {
        let at = x(pair[1].seconds(), seconds);
        writeln!(svg, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#000000\" stroke-opacity=\"0.18\"/>")?;
    }
    Ok(())
}

fn minutes(svg: &mut String, seconds: f64, bottom: f64) -> fmt::Result {
    let step = [5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3600.0].into_iter().find(|step| seconds / step < 20.0);
    let step = step.unwrap_or(7200.0);
    for at in (0..=(seconds / step) as u32).map(|index| f64::from(index) * step) {
        let (x, y, label) = (x(at, seconds), bottom + 16.0, clock(at));
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>")?;
    }
    Ok(())
}

fn clock(seconds: f64) -> String {
    format!("{}:{:02}", seconds as u64 / 60, seconds as u64 % 60)
}

impl<S: Sampled> Panel<'_, S> {
    fn draw(&self, svg: &mut String, top: f64, samples: &[S], seconds: f64) -> fmt::Result {
        let figures = self.curves.iter().flat_map(|curve| samples.iter().filter_map(curve.2));
        let most = figures.fold(self.baseline.unwrap_or(0.0), f64::max).max(1e-3) * 1.05;
        let least = if self.is_logarithmic { 0.01 } else { 0.0 };
        let y = |figure: f64| {
            let share = if self.is_logarithmic {
                (figure.max(least) / least).ln() / (most / least).ln()
            } else {
                figure / most
            };
            top + HEIGHT * (1.0 - share)
        };
        let (right, base) = (LEFT + WIDTH, top + HEIGHT);
        writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>", top - 6.0, self.title)?;
        writeln!(svg, "<path d=\"M{LEFT} {top}V{base}H{right}\" fill=\"none\" stroke=\"#888888\"/>")?;
        for tick in self.ticks(least, most) {
            let at = y(tick);
            writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#000000\" stroke-opacity=\"0.1\"/>")?;
            writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", LEFT - 6.0, at + 4.0)?;
        }
        if let Some(at) = self.baseline.map(y) {
            writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#c00000\" stroke-dasharray=\"6 4\"/>")?;
        }
        for (index, (name, color, figure)) in self.curves.iter().enumerate() {
            self.curve(svg, samples, color, |sample| Some((x(sample.seconds(), seconds), y(figure(sample)?))))?;
            let at = LEFT + 220.0 + 110.0 * index as f64;
            writeln!(svg, "<text x=\"{at}\" y=\"{}\" fill=\"{color}\">— {name}</text>", top - 6.0)?;
        }
        Ok(())
    }

    /// Draws a line through all samples that have a value, broken where one has none.
    fn curve(
        &self,
        svg: &mut String,
        samples: &[S],
        color: &str,
        place: impl Fn(&S) -> Option<(f64, f64)>,
    ) -> fmt::Result {
        let (mut path, mut pen) = (String::new(), 'M');
        for sample in samples {
            match place(sample) {
                Some((x, y)) => {
                    write!(path, "{pen}{x:.1} {y:.1}")?;
                    // A single sample is a dot.
                    path.push_str(if pen == 'M' { "h0" } else { "" });
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.2\" stroke-linecap=\"round\"/>"
        )
    }

    fn ticks(&self, least: f64, most: f64) -> Vec<f64> {
        if self.is_logarithmic {
            return (0..10).map(|power| least * 10f64.powi(power)).take_while(|tick| *tick < most).collect();
        }
        let rough = most / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..=6).map(|index| f64::from(index) * step).take_while(|tick| *tick < most).collect()
    }
}
