//! Runs a page's shell blocks unchanged in bash, in a temporary directory. Only the port differs. Streams and brokers, which a
//! reader leaves running in a terminal, run in the background. Output that `# {…` and the like show must appear, with other
//! ids.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::super::support::{Broker, TIMEOUT, TempDir};

/// Replaces the programs that a reader has: the broker built for this test, run in the background until it listens; cargo's
/// build, which is done already; Redis, which runs in the background as well; and curl, whose streams run in the background after their first byte.
const PRELUDE: &str = r#"
esker() {
    case "${1:-}" in
        token | check | dump | load | erase | engine | health | man | completions | --help | --version) "$ESKER" "$@" ;;
        *)
            local log
            log="$(mktemp broker.XXXXXX)"
            "$ESKER" "$@" 2>"$log" &
            echo $! >broker.pid
            for _ in $(seq 200); do grep -q 'listens on' "$log" && return; sleep 0.1; done
            cat "$log" >&2
            return 1
            ;;
    esac
}
redis-server() {
    command redis-server "$@" >redis.log 2>&1 &
    for _ in $(seq 200); do grep -q 'Ready to accept connections' redis.log && return; sleep 0.1; done
    cat redis.log >&2
    return 1
}
scripts/run() { esker --no-auth "$@"; }
cargo() {
    case "$*" in
        "build --release") mkdir -p target/release && ln -sf "$ESKER" target/release/esker ;;
        *) echo "what is cargo $*?" >&2; return 1 ;;
    esac
}
# In a container some of the kernel's settings are hidden.
sysctl() { command sysctl -e "$@"; }
pidof() { cat broker.pid; }
curl() {
    local file=""
    case " $* " in
        *" -N "*)
            file="$(mktemp stream.XXXXXX)"
            command curl --silent --show-error "$@" >"$file" 2>&1 &
            for _ in $(seq 200); do [ -s "$file" ] && return; sleep 0.1; done
            return 1
            ;;
        *" -i "*) command curl --silent --show-error "$@"; echo ;;
        *) command curl --silent --show-error --fail-with-body "$@"; echo ;;
    esac
}
"#;

/// How a block is run.
pub struct Shell {
    /// Blocks of the page that run before it in the same terminal, by their index in the list.
    pub after: &'static [usize],
    /// Whether a broker is already running; false if the blocks start their own.
    pub has_broker: bool,
}

/// Runs the texts in one bash.
pub fn run(texts: &[&str], has_broker: bool) {
    let home = TempDir::new();
    // With a data directory, as readers have it.
    let data = home.path.join("esker-data");
    let broker = has_broker.then(|| Broker::start(&["--data", &data.display().to_string()]));
    if let Some(broker) = &broker {
        fs::write(home.path.join("broker.pid"), broker.pid().to_string()).expect("a file can be written");
    }
    let port = broker.as_ref().map_or_else(free_port, |broker| broker.address.port());
    let script: String = texts.iter().map(|text| in_background(text)).collect();
    let script = script.replace("127.0.0.1:3000", &format!("127.0.0.1:{port}"));
    let mut terminal = Terminal::open(&home, &format!("{PRELUDE}{script}"), port);
    terminal.assert_succeeds();
    for line in texts.iter().flat_map(|text| text.lines()).filter_map(shown) {
        terminal.assert_prints(line);
    }
}

/// Checks only the syntax of a block that can't be run here.
pub fn assert_syntax(text: &str) {
    let status = Command::new("bash").args(["-nc", text]).status().expect("bash starts");
    assert!(status.success(), "{text}");
}

/// Puts commands that keep running into the background, and waits for their first output.
fn in_background(text: &str) -> String {
    text.lines().fold(String::new(), |mut script, line| {
        let _ = writeln!(script, "{}", line.strip_suffix(" &").unwrap_or(line));
        script
    })
}

/// Returns the output that a comment shows. Other comments are explanations.
fn shown(line: &str) -> Option<&str> {
    const BEGINNINGS: [&str; 11] =
        ["{", "esker_", "event: ", "data: ", "id: ", "HTTP/", "Link: ", "\"", "ok", "esker 0", "raised "];
    let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let text = line.strip_prefix("# ")?;
    (is_number(text) || BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))).then_some(text)
}

/// Ids differ between runs, so every run of ten digits or more becomes one zero. Counts are compared.
fn shape(text: &str) -> String {
    let runs = text.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let is_id = |run: &[u8]| run.len() >= 10 && run[0].is_ascii_digit();
    runs.map(|run| if is_id(run) { "0".into() } else { String::from_utf8_lossy(run) }).collect()
}

/// Returns a port below the kernel's ephemeral range: other tests have thousands of connections at the same time.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16;
    let candidates =
        std::iter::repeat_with(|| 20_000 + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.take(1000).find(is_free).expect("a port is free")
}

/// A bash and all its children; killed when dropped.
struct Terminal<'a> {
    home: &'a TempDir,
    child: Child,
}

impl<'a> Terminal<'a> {
    fn open(home: &'a TempDir, script: &str, port: u16) -> Self {
        fs::write(home.path.join("script"), script).expect("a file can be written");
        let out = fs::File::create(home.path.join("out")).expect("a file can be made");
        let child = Command::new("bash")
            .args(["-eu", "script"])
            .current_dir(&home.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home.path)
            .env("ESKER", env!("CARGO_BIN_EXE_esker"))
            // The variable from which a broker takes its port unless an option sets it.
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file can be cloned"))
            .stderr(out)
            .process_group(0)
            .spawn()
            .expect("bash starts");
        Self { home, child }
    }

    /// Waits for the script to end successfully.
    fn assert_succeeds(&mut self) {
        let begin = Instant::now();
        loop {
            match self.child.try_wait().expect("the child can be waited for") {
                Some(status) => return assert!(status.success(), "{status}: {}", self.output()),
                None => assert!(begin.elapsed() < 2 * TIMEOUT, "the script does not end: {}", self.output()),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a line of this shape.
    fn assert_prints(&self, line: &str) {
        let (begin, shape_of_line) = (Instant::now(), shape(line));
        while !self.output().lines().any(|line| shape(line) == shape_of_line) {
            assert!(begin.elapsed() < TIMEOUT, "{line:?} is documented, but never printed: {}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns everything that the script and streams have printed.
    fn output(&self) -> String {
        let entries = fs::read_dir(&self.home.path).expect("the directory exists").flatten().map(|entry| entry.path());
        let is_output = |path: &std::path::PathBuf| {
            path.file_name().is_some_and(|name| name == "out" || name.to_string_lossy().starts_with("stream."))
        };
        entries.filter(is_output).filter_map(|path| fs::read_to_string(path).ok()).collect()
    }
}

impl Drop for Terminal<'_> {
    /// Kills the whole process group: streams and brokers are its children.
    fn drop(&mut self) {
        let _ =
            Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

#[test]
fn shapes_contain_no_ids() {
    assert_eq!(shape("{\"id\":\"1795291405909714\",\"events\":3}"), "{\"id\":\"0\",\"events\":3}");
    assert_eq!(shape("user_v_1795304931401202 é 12"), "user_v_0 é 12");
    assert_eq!(shown("# {\"a\":1}"), Some("{\"a\":1}"));
    assert_eq!(shown("# a word"), None);
}
