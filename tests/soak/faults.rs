//! What happens to the broker itself: a disk that is slow, full or fails, a process that is stopped for a while, killed or told to end, a
//! clock that is set, descriptors that run out. Each leaves things as they were.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::client::PATIENCE;
use crate::records;
use crate::sampler;
use crate::server::hold;
use crate::socket::connect_to;
use crate::world::World;

/// Descriptors that are left when they run out, and connections that want one.
const LEFT: u64 = 20;
const WANTING: usize = 200;

/// Milliseconds, though not beyond the end of the phase.
fn wait(random: &mut fastrand::Rng, millis: std::ops::Range<u64>, until: Instant) {
    let time = Duration::from_millis(random.u64(millis));
    std::thread::sleep(time.min(until.saturating_duration_since(Instant::now())));
}

/// Each fsync takes 5 to 300 ms.
pub fn slow_disk(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        world.shim.slow_down(Duration::from_millis(random.u64(5..300)))?;
        wait(random, 500..2500, until);
    }
    Ok(world.shim.slow_down(Duration::ZERO)?)
}

/// The disk is full for a while, again and again.
pub fn full_disk(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        world.shim.fill_disk(true)?;
        wait(random, 300..2500, until);
        world.shim.fill_disk(false)?;
        wait(random, 1000..4000, until);
    }
    Ok(())
}

/// An fsync fails: no more inserts until a restart.
pub fn failing_disk(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(random, 500..2000, until);
        let mut server = hold(world);
        world.shim.fail_syncs(true)?;
        wait(random, 500..2000, until);
        world.shim.fail_syncs(false)?;
        server.restart(world, if random.bool() { Signal::KILL } else { Signal::TERM })?;
        drop(server);
        records::verify(world);
    }
    Ok(())
}

/// The process stands still, and goes on.
pub fn pause(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(random, 300..2000, until);
        let server = hold(world);
        server.signal(Signal::STOP)?;
        std::thread::sleep(Duration::from_millis(random.u64(50..2000)));
        server.signal(Signal::CONT)?;
    }
    Ok(())
}

/// The wall clock is set, by a second or by a day, forward and back.
pub fn set_clock(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    const SECOND: i64 = 1_000_000;
    let steps = [SECOND, -SECOND, 60 * SECOND, -60 * SECOND, 3600 * SECOND, -3600 * SECOND, 86_400 * SECOND, 0];
    while Instant::now() < until {
        world.shim.set_clock(*random.choice(&steps).unwrap_or(&0))?;
        wait(random, 200..2000, until);
    }
    Ok(world.shim.set_clock(0)?)
}

/// There are hardly any descriptors; whoever wants one then is served later.
pub fn exhaust_descriptors(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        let (waiting, generation) = (want_descriptors(world, random, until)?, world.generation());
        let unserved = waiting.iter().filter(|socket| !is_served(socket)).count();
        if unserved > 0 && !world.has_restarted_since(generation) {
            world.fail(format!("{unserved} of {} who waited for a descriptor were not served", waiting.len()));
        }
    }
    Ok(())
}

fn want_descriptors(world: &World, random: &mut fastrand::Rng, until: Instant) -> Result<Vec<TcpStream>, Failure> {
    let server = hold(world);
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

/// It may say that it is not well, but it says it.
fn is_served(mut socket: &TcpStream) -> bool {
    let mut bytes = [0; 64];
    std::io::Read::read(&mut socket, &mut bytes).is_ok_and(|count| bytes[..count].starts_with(b"HTTP/1.1 "))
}

/// Killed without a word, again and again; each time everything that was acknowledged must be there.
pub fn kill(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(random, 500..4000, until);
        restart(world, Signal::KILL)?;
    }
    Ok(())
}

/// Told to end, again and again: with code 0 and in time.
pub fn drain(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(random, 500..4000, until);
        restart(world, Signal::TERM)?;
    }
    Ok(())
}

/// Ends the broker so, starts it again, and looks for what was stored.
pub fn restart(world: &World, signal: Signal) -> Result<(), Failure> {
    hold(world).restart(world, signal)?;
    records::verify(world);
    Ok(())
}
