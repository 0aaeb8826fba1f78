//! The binary: arguments, logger, run, exit code. Everything else is the library's.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use esker::cli::{self, Command, StoreTool, ToolEnd};
use esker::store::ToolError;

/// glibc's allocator keeps what lies beneath the highest thing in use, and every thread its own: after a surge most of its
/// peak stays. This one gives pages back by itself, wherever they lie. A program that embeds the library chooses its own.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = cli::parse(std::env::args_os().skip(1), |name| std::env::var_os(name));
    match command {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Tool(tool)) => look_after(&tool),
        Ok(Command::Mint(request)) => match request.mint() {
            Ok(token) => print(&format!("{token}\n")),
            Err(error) if error.is_usage() => fail(&error, 2),
            Err(error) => fail(&error, 1),
        },
        Ok(Command::Health(check)) => match check.run() {
            Ok(text) => print(&text),
            Err(error) => fail(&error, 1),
        },
        Ok(Command::Run(config)) => {
            start_logging();
            match esker::run(*config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) if error.is_usage() => advise(&error, "esker --help"),
                Err(error) => fail(&error, 1),
            }
        }
        Err(error) => advise(&error, error.help()),
    }
}

/// The output is for a file or another program; what is said about it goes beside it.
fn look_after(tool: &StoreTool) -> ExitCode {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let end = tool.run(&mut std::io::stdin().lock(), &mut output);
    match end {
        Ok(ToolEnd::Done(text)) => {
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::SUCCESS
        }
        Ok(ToolEnd::Faulty(text)) => fail(&text, 1),
        Err(ToolError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Wrong usage.
fn advise(error: &dyn std::fmt::Display, help: &str) -> ExitCode {
    fail(&format_args!("{error}\n{help} shows all options"), 2)
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever has closed the pipe, such as `head`, has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format_args!("can't write to standard output: {error}"), 1),
    }
}

fn fail(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    // What can't be said is still an exit code.
    let _ = writeln!(std::io::stderr(), "esker: {error}");
    ExitCode::from(status)
}

fn start_logging() {
    let levels = std::env::var("ESKER_LOG").or_else(|_| std::env::var("RUST_LOG")).unwrap_or_else(|_| "info".into());
    env_logger::Builder::new().parse_filters(&levels).init();
}
