//! Starts rival servers: free ports, a process pinned to its cores with as many descriptors as possible, and the wait until an
//! event has been delivered through it. Independent of the individual rivals, which `bench/rivals` installs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Failure, Running, Scratch};

/// How long a server may take until it delivers. Pushpin's processes need a second or two to find each other.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long one response may take.
const RESPONSE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
const PROBE_TOPIC: &str = "probe0000";
const PROBE_DATA: &str = "@probe";

/// Returns the path of a file that `bench/rivals` builds.
pub fn built(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rivals").join(path)
}

/// Returns addresses with free ports. Another process could take one before the server does; the server then fails to start,
/// with an error.
pub fn free_addresses<const N: usize>() -> Result<[SocketAddr; N], Failure> {
    let listeners = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    addresses.try_into().map_err(|_| "no address".into())
}

/// Returns the number of cores in a list in taskset's syntax.
pub fn count_cores(core: &str) -> Result<usize, Failure> {
    Ok(output(Command::new("taskset").args(["-c", core, "nproc"]))?.parse()?)
}

/// Returns the version of an installed Debian package.
pub fn package_version(package: &str) -> Result<String, Failure> {
    output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]))
}

/// Returns what a command prints.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}; see bench/rivals"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}; see bench/rivals", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Returns a command that runs the program on these cores, with as many descriptors as the hard limit allows. Its output goes
/// to the file `log` in its scratch directory.
pub fn command(core: &str, scratch: &Scratch, program: &Path) -> Result<Command, Failure> {
    let log = File::create(log_of(scratch))?;
    let mut command = Command::new("taskset");
    command
        .args(["-c", core, "sh", "-c", r#"ulimit -n "$(ulimit -Hn)" && exec "$@""#, "sh"])
        .arg(program)
        .env("PATH", path_with_sbin())
        .env_remove("RUST_LOG")
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

/// Debian keeps nginx in a directory that isn't in every PATH.
fn path_with_sbin() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn log_of(scratch: &Scratch) -> PathBuf {
    scratch.path().join("log")
}

/// Waits until a published event arrives at a subscriber.
pub fn delivering(mut running: Running) -> Result<Running, Failure> {
    let begin = Instant::now();
    while let Err(failure) = deliver_one(&running) {
        if let Some(status) = running.root.try_wait()? {
            return Err(failed(&running, &format!("ended with {status}")));
        }
        if begin.elapsed() > TIMEOUT {
            return Err(failed(&running, &format!("delivers nothing: {failure}")));
        }
        sleep(PAUSE);
    }
    Ok(running)
}

fn failed(running: &Running, what: &str) -> Failure {
    let log = fs::read_to_string(log_of(&running.scratch)).unwrap_or_default();
    format!("{} {what}\n{log}", running.version).into()
}

fn deliver_one(running: &Running) -> Result<(), Failure> {
    let dialect = &running.dialect;
    if let Some(prepare) = dialect.prepare {
        read_until(&mut send(running.publish_at, &prepare(PROBE_TOPIC))?, "HTTP/1.1 2")?;
    }
    let mut stream = send(running.subscribe_at, &(dialect.subscribe)(PROBE_TOPIC))?;
    read_until(&mut stream, "text/event-stream")?;
    read_until(&mut send(running.publish_at, &(dialect.publish)(PROBE_TOPIC, PROBE_DATA))?, "HTTP/1.1 2")?;
    read_until(&mut stream, PROBE_DATA)
}

fn send(address: SocketAddr, request: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect_timeout(&address, RESPONSE)?;
    stream.set_read_timeout(Some(RESPONSE))?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// Reads until this text has arrived.
fn read_until(stream: &mut TcpStream, expected: &str) -> Result<(), Failure> {
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut chunk)?;
        seen.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&seen);
        if text.contains(expected) {
            return Ok(());
        }
        if count == 0 {
            return Err(format!("{expected} is missing in {text:?}").into());
        }
    }
}
