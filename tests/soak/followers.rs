//! All followers, on one thread with one poll: some stay connected, some reconnect with or without their position, and some
//! read only now and then. Moves bytes; `follower` and `ledger` check them.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Registry, Token};
use rustix::net::sockopt;
use socket2::{Domain, Socket, Type};

use crate::Failure;
use crate::follower::{Follower, Interest};
use crate::plan::Scale;
use crate::tokens;
use crate::world::World;

/// The interval at which timers are checked.
const TICK: Duration = Duration::from_millis(10);
/// The receive buffer of a slow reader.
const SMALL: usize = 4096;

/// How a follower behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Stays,
    /// Disconnects, and resumes from its position.
    Resumes,
    /// Disconnects, and reconnects without a position.
    Renews,
    /// Reads only now and then.
    ReadsSlowly,
}

/// Asks whether all followers have everything. The reply, at the latest at `until`, names those that have not.
pub struct Check {
    pub until: Instant,
    pub reply: Sender<Vec<String>>,
}

struct Member {
    behaviour: Behaviour,
    follower: Follower,
    socket: Option<TcpStream>,
    has_requested: bool,
    is_paused: bool,
    /// When it connects, disconnects, or changes whether it reads.
    moves_at: Instant,
}

struct Followers<'a> {
    world: &'a World,
    registry: Registry,
    random: fastrand::Rng,
    token: String,
    members: Vec<Member>,
    scratch: Vec<u8>,
}

/// Follows until the soak is over.
pub fn follow(world: &World, scale: &Scale, checks: &Receiver<Check>) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut followers = Followers::new(world, poll.registry().try_clone()?, scale);
    let (mut events, mut looked_at, mut check) = (Events::with_capacity(1024), Instant::now(), None);
    while !world.is_over() {
        if let Err(error) = poll.poll(&mut events, Some(TICK))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        followers.read_all(events.iter().map(|event| event.token().0).collect());
        if looked_at.elapsed() >= TICK {
            looked_at = Instant::now();
            (0..followers.members.len()).for_each(|index| followers.look(index));
            check = check.or_else(|| checks.try_recv().ok());
            check = check.and_then(|check| followers.reply(check));
        }
    }
    Ok(())
}

impl<'a> Followers<'a> {
    fn new(world: &'a World, registry: Registry, scale: &Scale) -> Self {
        let mut random = world.random("followers");
        let lanes = |first: usize, count: usize, is_steady| Interest::Lanes {
            lanes: (first..first + count).collect(),
            is_steady,
        };
        let mut crew = Vec::new();
        for nth in 0..scale.followers {
            let one = nth % scale.steady_lanes;
            let three = one.min(scale.steady_lanes - 3);
            crew.push(match nth % 20 {
                0..8 => (Behaviour::Stays, lanes(one, 1, true)),
                8..11 => (Behaviour::Stays, lanes(three, 3, true)),
                11..14 => (Behaviour::Resumes, lanes(one, 1, true)),
                14 => (Behaviour::Resumes, lanes(three, 3, true)),
                15 | 16 => (Behaviour::Renews, lanes(one, 1, true)),
                17 => (Behaviour::Stays, Interest::Records),
                18 => (if nth % 40 == 18 { Behaviour::Resumes } else { Behaviour::Renews }, Interest::Records),
                _ => (Behaviour::Stays, lanes(scale.steady_lanes + nth / 20 % scale.flood_lanes, 1, false)),
            });
        }
        crew.extend(
            (0..scale.slow_readers)
                .map(|nth| (Behaviour::ReadsSlowly, lanes(scale.steady_lanes + nth % scale.flood_lanes, 1, false))),
        );
        let members = crew.into_iter().map(|(behaviour, interest)| Member {
            behaviour,
            follower: Follower::new(world, interest),
            socket: None,
            has_requested: false,
            is_paused: false,
            moves_at: Instant::now() + Duration::from_millis(random.u64(..500)),
        });
        let token = tokens::subscriber(tokens::FAR, "*");
        Self { world, registry, members: members.collect(), random, token, scratch: vec![0; 64 << 10] }
    }

    /// Reads once from each ready follower in turn, so that none delays the others.
    fn read_all(&mut self, mut ready: Vec<usize>) {
        while !ready.is_empty() {
            ready.retain(|&index| self.read(index));
        }
    }

    /// Reads once. Returns whether there may be more.
    fn read(&mut self, index: usize) -> bool {
        let Self { world, token, members, scratch, .. } = self;
        let member = &mut members[index];
        let Some(socket) = &mut member.socket else { return false };
        if !member.has_requested {
            if socket.take_error().ok().flatten().is_some() || socket.peer_addr().is_err() {
                self.lose(index);
                return false;
            }
            let request = member.follower.request(world, token);
            // If the broker has gone, the next read reports it.
            let _ = socket.write(request.as_bytes());
            member.has_requested = true;
        }
        if member.is_paused {
            return false;
        }
        let had_ended = member.follower.has_ended;
        match socket.read(scratch) {
            Ok(count) if count > 0 && !had_ended => match member.follower.read(world, &scratch[..count]) {
                Ok(()) => true,
                Err(words) => {
                    world.fail(words);
                    // Start anew, so that one defect is reported once.
                    member.follower.forget_position();
                    self.lose(index);
                    false
                }
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            _ => {
                self.lose(index);
                false
            }
        }
    }

    /// The stream has ended; the follower reconnects soon.
    fn lose(&mut self, index: usize) {
        let pause = Duration::from_millis(self.random.u64(20..200));
        let member = &mut self.members[index];
        member.follower.leave();
        (member.socket, member.is_paused, member.moves_at) = (None, false, Instant::now() + pause);
    }

    /// Lets a follower act whose time has come.
    fn look(&mut self, index: usize) {
        let member = &mut self.members[index];
        let is_idle = self.world.is_idle();
        let is_called = is_idle && (member.is_paused || member.socket.is_none());
        if member.moves_at > Instant::now() && !is_called {
            return;
        }
        if member.socket.is_none() {
            return self.come(index);
        }
        member.moves_at = Instant::now() + Duration::from_millis(self.random.u64(500..6000));
        match member.behaviour {
            Behaviour::ReadsSlowly if member.is_paused || !is_idle => {
                member.is_paused = !member.is_paused;
                self.read_all(vec![index]);
            }
            Behaviour::Resumes | Behaviour::Renews if !is_idle && member.follower.is_open => self.go(index),
            _ => {}
        }
    }

    fn go(&mut self, index: usize) {
        let (pause, resets) = (Duration::from_millis(self.random.u64(..1500)), self.random.bool());
        let member = &mut self.members[index];
        if let Some(socket) = member.socket.take()
            && resets
        {
            // A closed connection needs no reset.
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        }
        member.follower.leave();
        if member.behaviour == Behaviour::Renews {
            member.follower.forget_position();
        }
        member.moves_at = Instant::now() + pause;
    }

    fn come(&mut self, index: usize) {
        let is_small = self.members[index].behaviour == Behaviour::ReadsSlowly;
        match self.connect(index, is_small) {
            Ok(socket) => {
                let member = &mut self.members[index];
                (member.socket, member.has_requested, member.is_paused) = (Some(socket), false, false);
                member.moves_at = Instant::now() + Duration::from_millis(self.random.u64(500..6000));
            }
            Err(_) => self.lose(index),
        }
    }

    fn connect(&self, index: usize, is_small: bool) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if is_small {
            socket.set_recv_buffer_size(SMALL)?;
        }
        let connecting = socket.connect(&self.world.address.into());
        // EINPROGRESS.
        if let Err(error) = connecting
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error);
        }
        let mut socket = TcpStream::from_std(socket.into());
        self.registry.register(&mut socket, Token(index), mio::Interest::READABLE | mio::Interest::WRITABLE)?;
        Ok(socket)
    }

    /// Replies if all followers have everything or time is up. Otherwise returns the check.
    fn reply(&self, check: Check) -> Option<Check> {
        let lacking: Vec<String> = self.members.iter().filter_map(|member| member.follower.lacks(self.world)).collect();
        if !lacking.is_empty() && Instant::now() < check.until {
            return Some(check);
        }
        // The receiver may have given up.
        let _ = check.reply.send(lacking);
        None
    }
}
