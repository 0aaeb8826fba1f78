//! Faults of the broker's environment: a disk that is slow, full or fails, a process that is paused, killed or terminated, a
//! clock that is set, descriptors that run out. Each is undone at its end.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::client::PATIENCE;
use crate::records;
use crate::sampler;
use crate::server::lock_server;
use crate::socket::connect_to;
use crate::world::World;

/// The number of descriptors that remain, and of connections that need one.
const LEFT: u64 = 20;
const WANTING: usize = 200;

/// Sleeps for a random time, at most until the end of the phase.
fn wait(random: &mut fastrand::Rng, millis: std::ops::Range<u64>, until: Instant) {
    let time = Duration::from_millis(random.u64(millis));
    std::thread::sleep(time.min(until.saturating_duration_since(Instant::now())));
}

/// Makes each fsync take 5 to 300 ms.
pub fn slow_disk(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        world.shim.slow_down(Duration::from_millis(random.u64(5..300)))?;
        wait(random, 500..2500, until);
    }
    Ok(world.shim.slow_down(Duration::ZERO)?)
}

/// Fills the disk for a while, repeatedly.
pub fn full_disk(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        world.shim.fill_disk(true)?;
        wait(random, 300..2500, until);
        world.shim.fill_disk(false)?;
        wait(random, 1000..4000, until);
    }
    Ok(())
}

/// Makes fsync fail, which stops inserts until a restart, and restarts the broker.
pub fn failing_disk(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(random, 500..2000, until);
        let mut server = lock_server(world);
        world.shim.fail_syncs(true)?;
        wait(random, 500..2000, until);
        world.shim.fail_syncs(false)?;
        server.restart(world, if random.bool() { Signal::KILL } else { Signal::TERM })?;
        drop(server);
        records::verify(world);
    }
    Ok(())
}

/// Pauses and continues the process.
pub fn pause(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(random, 300..2000, until);
        let server = lock_server(world);
        server.signal(Signal::STOP)?;
        std::thread::sleep(Duration::from_millis(random.u64(50..2000)));
        server.signal(Signal::CONT)?;
    }
    Ok(())
}

/// Sets the wall clock, by a second up to a day, forward and back.
pub fn set_clock(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    const SECOND: i64 = 1_000_000;
    let steps = [SECOND, -SECOND, 60 * SECOND, -60 * SECOND, 3600 * SECOND, -3600 * SECOND, 86_400 * SECOND, 0];
    while Instant::now() < until {
        world.shim.set_clock(*random.choice(&steps).unwrap_or(&0))?;
        wait(random, 200..2000, until);
    }
    Ok(world.shim.set_clock(0)?)
}

/// Leaves few descriptors. Connections that need one must be served later.
pub fn exhaust_descriptors(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        let (waiting, generation) = (want_descriptors(world, random, until)?, world.generation());
        let unserved = waiting.iter().filter(|socket| !is_served(socket)).count();
        if unserved > 0 && !world.has_restarted_since(generation) {
            world.fail(format!(
                "{unserved} of {} connections that waited for a descriptor were not served",
                waiting.len()
            ));
        }
    }
    Ok(())
}

fn want_descriptors(world: &World, random: &mut fastrand::Rng, until: Instant) -> Result<Vec<TcpStream>, Failure> {
    let server = lock_server(world);
    let open = sampler::descriptors(server.pid());
    server.limit_descriptors(Some(open + LEFT))?;
    let waiting = (0..WANTING).filter_map(|_| {
        let mut socket = connect_to(world.address).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        std::io::Write::write_all(&mut socket, b"GET /healthz HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")
            .ok()?;
        Some(socket)
    });
    let waiting = waiting.collect();
    wait(random, 500..3000, until);
    server.limit_descriptors(None)?;
    Ok(waiting)
}

/// Returns whether a response arrives. It may report that the broker is unhealthy.
fn is_served(mut socket: &TcpStream) -> bool {
    let mut bytes = [0; 64];
    std::io::Read::read(&mut socket, &mut bytes).is_ok_and(|count| bytes[..count].starts_with(b"HTTP/1.1 "))
}

/// Kills the broker repeatedly. Each time, everything acknowledged must still exist.
pub fn kill(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(random, 500..4000, until);
        restart(world, Signal::KILL)?;
    }
    Ok(())
}

/// Terminates the broker repeatedly. It must exit with code 0 and in time.
pub fn drain(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(random, 500..4000, until);
        restart(world, Signal::TERM)?;
    }
    Ok(())
}

/// Ends the broker with a signal, starts it again, and verifies the records.
pub fn restart(world: &World, signal: Signal) -> Result<(), Failure> {
    lock_server(world).restart(world, signal)?;
    records::verify(world);
    Ok(())
}
