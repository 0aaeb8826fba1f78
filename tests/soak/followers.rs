//! All followers, on one thread with one poll: some stay connected, some reconnect with or without their position, and some
//! read only now and then. Moves bytes; the followers check them.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::Deref;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Registry, Token};
use rustix::net::sockopt;
use socket2::{Domain, Socket, Type};

use crate::Failure;
use crate::client::Peer;
use crate::run::Run;
use crate::tokens;

/// The interval at which timers are checked.
const TICK: Duration = Duration::from_millis(10);
/// The receive buffer of a slow reader.
const SMALL: usize = 4096;

/// What reads a stream and checks it.
pub trait Follow: Sized {
    /// What is followed, and where failures are reported.
    type World: Peer + Deref<Target = Run>;

    /// Returns the request that subscribes or resumes.
    fn request(&self, world: &Self::World, token: &str) -> String;

    /// Checks bytes of the response.
    fn read(&mut self, world: &Self::World, bytes: &[u8]) -> Result<(), String>;

    /// Notes that the connection is closed.
    fn leave(&mut self);

    /// Forgets the position, so that the next stream begins like a new client's.
    fn forget_position(&mut self);

    /// Returns whether the response head of the current stream has arrived.
    fn is_open(&self) -> bool;

    /// Returns whether the stream has ended with the last chunk.
    fn has_ended(&self) -> bool;

    /// Returns what is missing of everything acknowledged, if anything is.
    fn lacks(&self, world: &Self::World) -> Option<String>;

    /// Judges what all have received since the last call. Runs while the load is paused.
    fn judge<'f>(_world: &Self::World, _followers: impl Iterator<Item = &'f mut Self>)
    where
        Self: 'f,
    {
    }
}

/// How a follower behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
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

struct Member<F> {
    behaviour: Behaviour,
    follower: F,
    socket: Option<TcpStream>,
    has_requested: bool,
    is_paused: bool,
    /// When it connects, disconnects, or changes whether it reads.
    moves_at: Instant,
}

struct Followers<'a, F: Follow> {
    world: &'a F::World,
    registry: Registry,
    random: fastrand::Rng,
    token: String,
    members: Vec<Member<F>>,
    scratch: Vec<u8>,
}

/// Follows until the soak is over.
pub fn follow<F: Follow>(world: &F::World, crew: Vec<(Behaviour, F)>, checks: &Receiver<Check>) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut followers = Followers::new(world, poll.registry().try_clone()?, crew);
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

impl<'a, F: Follow> Followers<'a, F> {
    fn new(world: &'a F::World, registry: Registry, crew: Vec<(Behaviour, F)>) -> Self {
        let mut random = world.random("followers");
        let members = crew.into_iter().map(|(behaviour, follower)| Member {
            behaviour,
            follower,
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
        let had_ended = member.follower.has_ended();
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
            Behaviour::Resumes | Behaviour::Renews if !is_idle && member.follower.is_open() => self.go(index),
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
        let connecting = socket.connect(&self.world.address().into());
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

    /// Replies if all followers have everything or time is up, and judges them. Otherwise returns the check.
    fn reply(&mut self, check: Check) -> Option<Check> {
        let lacking: Vec<String> = self.members.iter().filter_map(|member| member.follower.lacks(self.world)).collect();
        if !lacking.is_empty() && Instant::now() < check.until {
            return Some(check);
        }
        F::judge(self.world, self.members.iter_mut().map(|member| &mut member.follower));
        // The receiver may have given up.
        let _ = check.reply.send(lacking);
        None
    }
}
