//! Writes the comparison as a page (Markdown) and a chart (SVG). Independent of how it is measured.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use crate::scenes::compare::{CONNECTIONS, Comparison, IDLE, LARGE, Row};
use crate::servers::{Failure, IS_BENCH};

/// Sizes in the chart, in pixels.
const BAR: usize = 18;
const ROW: usize = 26;
const LABELS: usize = 150;
const BARS: usize = 420;
const WIDTH: usize = LABELS + BARS + 110;

/// Writes both to a directory, in files named after the day. Returns the page's path.
pub fn write(comparison: &Comparison, folder: &Path) -> Result<PathBuf, Failure> {
    let date = output("date", &["+%F"])?;
    fs::create_dir_all(folder)?;
    let page = folder.join(format!("{date}.md"));
    fs::write(&page, markdown(comparison, &date)?)?;
    fs::write(folder.join(format!("{date}.svg")), picture(comparison)?)?;
    Ok(page)
}

fn markdown(comparison: &Comparison, date: &str) -> Result<String, Failure> {
    let mut page = format!("# {date}\n\n![the same as bars]({date}.svg)\n\n");
    page.push_str(&figures(comparison)?);
    page.push_str(&method(comparison)?);
    writeln!(page, "| server | version | processes |\n|---|---|---|")?;
    for Row { name, version, processes, .. } in &comparison.rows {
        writeln!(page, "| {name} | {version} | {} |", processes.join(", "))?;
    }
    if !comparison.failures.is_empty() {
        writeln!(page, "\nRounds that came to nothing and are left out:\n")?;
    }
    for failure in &comparison.failures {
        writeln!(page, "- {failure}")?;
    }
    Ok(page)
}

fn figures(Comparison { rows, setting, .. }: &Comparison) -> Result<String, Failure> {
    let (count, floor) = (setting.subscribers, &rows[0]);
    let mut table = String::new();
    writeln!(
        table,
        "| server | CPU per delivery, {count} subscribers | {} | CPU per publish | memory per idle subscriber | p50 | p99 |\n\
         |---|---|---|---|---|---|---|",
        LARGE * count,
    )?;
    for row in rows {
        let [small, large] = [0, 1].map(|size| ratio(row.micros_per_delivery[size], floor.micros_per_delivery[size]));
        let publish = ratio(row.micros_per_publish, floor.micros_per_publish);
        let bytes = row.bytes_idle.map_or("–".to_owned(), |bytes| format!("{bytes:.0} B"));
        let [p50, p99] = row.millis.map(|millis| format!("{millis:.1} ms"));
        let latency =
            if row.millis[1].is_finite() { format!("{p50} | {p99}") } else { "can't keep up | –".to_owned() };
        writeln!(table, "| {} | {small} | {large} | {publish} | {bytes} | {latency} |", row.name)?;
    }
    Ok(table)
}

fn method(Comparison { rows, yardstick, rate, setting, .. }: &Comparison) -> Result<String, Failure> {
    let ([small, large], request) = (rows[0].micros_per_delivery, rows[0].micros_per_publish);
    let (count, seconds, rounds) = (setting.subscribers, setting.duration.as_secs_f64(), setting.rounds);
    Ok(format!(
        "\nCPU: processor time of all processes of a server, user and system, as a multiple of the floor's: a bare loop of \
         send(2) of the same bytes ({small:.2} and {large:.2} µs per delivery), a bare read and write ({request:.2} µs per \
         request). Events of {} bytes, one at a time; publishes without a listener on {CONNECTIONS} connections. Memory: \
         private dirty pages of all processes, growth from {} to {} subscribers; the kernel's is not counted. Latency: \
         from when an event was due until it was read, {rate:.0} events/s to {count} subscribers, half of what saturates \
         {yardstick}. Medians of {rounds} rounds of {seconds} s, all servers in turn, each on core {} with the load on core {}.\n\n\
         Command: `scripts/bench {}`. Machine: {}.\n\n",
        setting.size,
        IDLE * count / 4,
        IDLE * count,
        setting.server_cores,
        setting.client_cores,
        command(),
        machine()?,
    ))
}

/// Returns this program's command line, without the arguments that cargo adds.
fn command() -> String {
    env::args().skip(1).filter(|word| word != IS_BENCH).collect::<Vec<_>>().join(" ")
}

/// The figure is NaN if every round failed.
fn ratio(figure: f64, floor: f64) -> String {
    if figure.is_finite() { format!("{:.2} ×", figure / floor) } else { "failed".to_owned() }
}

fn machine() -> Result<String, Failure> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<&str> =
        cpus.lines().filter_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).collect();
    let kernel = output("uname", &["-sr"])?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let model = models.first().copied().unwrap_or("unknown");
    Ok(format!("{} × {model}, {} GiB, {kernel}, {}", models.len(), kib >> 20, output("rustc", &["--version"])?))
}

fn output(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Draws two groups of bars: CPU time and memory.
fn picture(comparison: &Comparison) -> Result<String, Failure> {
    let rows = &comparison.rows;
    let floor = &rows[0];
    let cpu = |row: &Row| row.micros_per_delivery[1] / floor.micros_per_delivery[1];
    let cpu: Vec<_> = rows
        .iter()
        .filter(|row| cpu(row).is_finite())
        .map(|row| (row.name.as_str(), cpu(row), format!("{:.2} ×", cpu(row))))
        .collect();
    let bytes =
        rows.iter().filter_map(|row| Some((row.name.as_str(), row.bytes_idle.filter(|bytes| bytes.is_finite())?)));
    let bytes: Vec<_> = bytes.map(|(name, bytes)| (name, bytes, format!("{bytes:.0} B"))).collect();
    let height = (cpu.len() + bytes.len() + 4) * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let count = LARGE * comparison.setting.subscribers;
    let title = format!("Server CPU per delivery, one event to {count} subscribers (bare send loop = 1)");
    let below = bars(&mut svg, ROW, &title, &cpu)?;
    bars(&mut svg, below + ROW, "Memory per idle subscriber", &bytes)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn bars(svg: &mut String, top: usize, title: &str, bars: &[(&str, f64, String)]) -> Result<usize, Failure> {
    let most = bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
    writeln!(svg, "<text x=\"10\" y=\"{top}\" font-weight=\"bold\" fill=\"#222222\">{title}</text>")?;
    let mut y = top + ROW / 2;
    for (name, figure, words) in bars {
        let width = (figure.max(0.0) / most * BARS as f64).max(1.0);
        let color = if *name == "esker" { "#0b7a75" } else { "#b9c3c9" };
        let (text, after) = (y + BAR - 5, LABELS as f64 + width + 6.0);
        writeln!(svg, "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\" fill=\"#222222\">{name}</text>", LABELS - 8)?;
        writeln!(svg, "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{color}\"/>")?;
        writeln!(svg, "<text x=\"{after:.1}\" y=\"{text}\" fill=\"#222222\">{words}</text>")?;
        y += ROW;
    }
    Ok(y + ROW / 2)
}
