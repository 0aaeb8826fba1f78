//! The binary: parses arguments, starts the log, runs the command and returns its exit code. Everything else is in the library.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use esker::StartError;
use esker::cli::{self, Command, EngineCommand, Environment, Launch, RecordTool, ToolEnd, ToolError};
use esker::logging::{self, AccessOutput, Logging};

/// glibc's allocator returns memory only from the top of each thread's heap, so after a surge the process keeps most of its
/// peak. jemalloc returns unused pages wherever they are. A program that embeds the library chooses its own allocator.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1), &Environment::of_process()) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Tool(tool)) => run_tool(&tool),
        Ok(Command::Engine(command)) => run_on_engine(&command),
        Ok(Command::Mint(request)) => match request.mint() {
            Ok(token) => print(&format!("{token}\n")),
            Err(error) if error.is_usage() => fail(&error, 2),
            Err(error) => fail(&error, 1),
        },
        Ok(Command::Health(check)) => match check.run() {
            Ok(text) => print(&text),
            Err(error) => fail(&error, 1),
        },
        Ok(Command::Run(launch)) => run(*launch),
        Err(error) => fail_usage(&error, error.help()),
    }
}

/// Runs a broker. From here on only the log's thread writes to standard error, because a full pipe would block any other
/// thread.
fn run(launch: Launch) -> ExitCode {
    let logging = match Logging::start(&launch.log) {
        Ok(logging) => logging,
        Err(error) => return fail_to_start(&error),
    };
    launch.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let access_log =
        match launch.access_log.map(|format| AccessOutput::start().map(|output| (output, format))).transpose() {
            Ok(access_log) => access_log,
            Err(error) => return fail_to_start(&error),
        };
    let config = match &access_log {
        Some((output, format)) => output.connect(launch.config, *format),
        None => launch.config,
    };
    let code = match esker::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging.fail(&describe(&error));
            ExitCode::from(if cli::is_usage(&error) { 2 } else { 1 })
        }
    };
    if let Some((output, _)) = access_log {
        output.finish();
    }
    logging.finish();
    code
}

/// Reports that there is no thread for a log.
fn fail_to_start(error: &std::io::Error) -> ExitCode {
    fail(&format_args!("can't start the log's thread: {error}"), 1)
}

/// Returns the message for an error, with advice if it is a usage error.
fn describe(error: &StartError) -> String {
    if cli::is_usage(error) { with_advice(&cli::describe(error), "esker --help") } else { cli::describe(error) }
}

/// Runs a command on records. Its output goes to standard output, and its summary to standard error, unless it is quiet.
fn run_tool(tool: &RecordTool) -> ExitCode {
    warn(tool.warning());
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let end = tool.run(&mut std::io::stdin().lock(), &mut output);
    match end {
        Ok(ToolEnd::Done(text)) => {
            if !tool.is_quiet() {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            ExitCode::SUCCESS
        }
        Ok(ToolEnd::Faulty(text)) => fail(&text, 1),
        Err(ToolError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Runs a command on an engine.
fn run_on_engine(command: &EngineCommand) -> ExitCode {
    warn(command.warning());
    match command.run() {
        Ok(text) => print(&text),
        Err(error) => fail(&error, 1),
    }
}

fn warn(warning: Option<&str>) {
    if let Some(warning) = warning {
        let _ = writeln!(std::io::stderr(), "esker: warning: {warning}");
    }
}

/// Reports a usage error. Does not block if nothing reads standard error, so that a supervisor always sees the process exit.
fn fail_usage(error: &dyn std::fmt::Display, help: &str) -> ExitCode {
    logging::write_error(&with_advice(error, help));
    ExitCode::from(2)
}

fn with_advice(error: &dyn std::fmt::Display, help: &str) -> String {
    format!("{error}\n{help} shows all options")
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the pipe, such as `head`, has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format_args!("can't write to standard output: {error}"), 1),
    }
}

fn fail(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    // The exit code reports the failure even if the message can't be written.
    let _ = writeln!(std::io::stderr(), "esker: {}", cli::describe(error));
    ExitCode::from(status)
}
