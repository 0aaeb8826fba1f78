//! What it takes to start any rival: free ports, a process that is pinned to its cores and may open all the descriptors
//! that there are, and the wait until an event has gone the whole way through it. Knows no rival by name, and installs
//! none: that is `bench/rivals`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Failure, Running, Scratch};

/// How long a server may take until it delivers; Pushpin's processes need a second or two to find each other.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
const PROBE_TOPIC: &str = "probe0000";
const PROBE_DATA: &str = "@probe";

/// A file that `bench/rivals` builds.
pub fn built(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rivals").join(path)
}

/// Addresses on which nothing listens. Another process could take one before the server does; the server then fails to
/// start, and says so.
pub fn free_addresses<const N: usize>() -> Result<[SocketAddr; N], Failure> {
    let listeners = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    addresses.try_into().map_err(|_| "no address".into())
}

/// How many cores there are in a list as `taskset -c` takes it.
pub fn count_cores(core: &str) -> Result<usize, Failure> {
    Ok(output(Command::new("taskset").args(["-c", core, "nproc"]))?.parse()?)
}

/// The version of an installed Debian package.
pub fn package_version(package: &str) -> Result<String, Failure> {
    output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]))
}

/// What a command prints.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}; see bench/rivals"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}; see bench/rivals", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A command that runs the program on these cores, with as many descriptors as the hard limit allows. What it prints
/// goes to the file `log` in its scratch folder.
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

/// Debian keeps nginx where not every PATH leads.
fn path_with_sbin() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn log_of(scratch: &Scratch) -> PathBuf {
    scratch.path().join("log")
}

/// Waits until an event that is published arrives at a subscriber.
pub fn delivering(mut running: Running) -> Result<Running, Failure> {
    let begin = Instant::now();
    while let Err(failure) = deliver_one(&running) {
        if let Some(status) = running.root.try_wait()? {
            return Err(told(&running, &format!("ended with {status}")));
        }
        if begin.elapsed() > PATIENCE {
            return Err(told(&running, &format!("delivers nothing: {failure}")));
        }
        sleep(PAUSE);
    }
    Ok(running)
}

fn told(running: &Running, what: &str) -> Failure {
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
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// Reads until this has come.
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
