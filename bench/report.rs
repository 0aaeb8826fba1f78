//! The comparison as a page (Markdown) and a picture (SVG) under bench/results/. Knows no measuring.

use std::fmt::Write as _;
use std::process::Command;
use std::{fs, io};

use crate::scenes::compare::{CONNECTIONS, Comparison, Row};
use crate::servers::Failure;

const FOLDER: &str = "bench/results";
/// Of the picture, in pixels.
const BAR: usize = 18;
const ROW: usize = 26;
const LABELS: usize = 150;
const BARS: usize = 420;
const WIDTH: usize = LABELS + BARS + 110;

/// Writes both, named after the day; answers the page's path.
pub fn write(comparison: &Comparison) -> Result<String, Failure> {
    let date = output("date", &["+%F"])?;
    fs::create_dir_all(FOLDER)?;
    let page = format!("{FOLDER}/{date}.md");
    fs::write(&page, markdown(comparison, &date)?)?;
    fs::write(format!("{FOLDER}/{date}.svg"), picture(comparison)?)?;
    Ok(page)
}

fn markdown(comparison: &Comparison, date: &str) -> Result<String, Failure> {
    let Comparison { rows, rate, setting } = comparison;
    let mut page = format!("# {date}\n\n![the same as bars]({date}.svg)\n\n");
    writeln!(
        page,
        "| server | CPU per delivery, 1 000 subscribers | 10 000 | CPU per publish without listener | memory per idle subscriber | p50 | p99 |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|")?;
    let floor = &rows[0];
    for row in rows {
        let [small, large] =
            [0, 1].map(|index| ratio(row.micros_per_delivery[index], floor.micros_per_delivery[index]));
        let publish = ratio(row.micros_per_publish, floor.micros_per_publish);
        let bytes = row.bytes_idle.map_or("–".to_owned(), |bytes| format!("{bytes:.0} B"));
        let [p50, p99] =
            row.millis.map_or(["–".to_owned(), "–".to_owned()], |both| both.map(|each| format!("{each:.1} ms")));
        writeln!(page, "| {} | {small} | {large} | {publish} | {bytes} | {p50} | {p99} |", row.name)?;
    }
    writeln!(page)?;
    writeln!(
        page,
        "CPU: processor time of all processes of the server, user and system, as a multiple of the floor's ({:.2} and \
         {:.2} µs per delivery, {:.2} µs per request): a bare loop of send(2), a bare read and write. One event of {} bytes at a \
         time; publishes on {CONNECTIONS} connections. Memory: growth of private dirty pages from 2 000 to 8 000 \
         subscribers, kernel not counted. Latency: from due to read, {rate:.0} events/s to 1 000 subscribers, half of what \
         saturates nchan. Medians of {} rounds of {} s each, all servers in turn.\n",
        floor.micros_per_delivery[0],
        floor.micros_per_delivery[1],
        floor.micros_per_publish,
        setting.size,
        setting.rounds,
        setting.duration.as_secs_f64(),
    )?;
    writeln!(
        page,
        "Command: `scripts/bench compare --rounds {} --seconds {}`; server on core {}, load on core {}.\n",
        setting.rounds,
        setting.duration.as_secs_f64(),
        setting.server_cores,
        setting.client_cores
    )?;
    writeln!(page, "Machine: {}.\n", machine()?)?;
    writeln!(page, "| server | version | processes |\n|---|---|---|")?;
    for Row { name, version, processes, .. } in rows {
        writeln!(page, "| {name} | {version} | {} |", processes.join(", "))?;
    }
    Ok(page)
}

fn ratio(figure: f64, floor: f64) -> String {
    format!("{:.2} ×", figure / floor)
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

/// Two groups of bars: processor time, and memory.
fn picture(comparison: &Comparison) -> Result<String, Failure> {
    let rows = &comparison.rows;
    let floor = &rows[0];
    let cpu = |row: &Row| row.micros_per_delivery[1] / floor.micros_per_delivery[1];
    let cpu: Vec<_> = rows.iter().map(|row| (row.name.as_str(), cpu(row), format!("{:.2} ×", cpu(row)))).collect();
    let bytes = rows.iter().filter_map(|row| Some((row.name.as_str(), row.bytes_idle?)));
    let bytes: Vec<_> = bytes.map(|(name, bytes)| (name, bytes, format!("{bytes:.0} B"))).collect();
    let height = (cpu.len() + bytes.len() + 4) * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let below =
        bars(&mut svg, ROW, "Server CPU per delivery, one event to 10 000 subscribers (bare send loop = 1)", &cpu)?;
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
