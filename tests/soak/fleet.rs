//! All followers on one thread and one poll: those that stay, those that come and go with their position or without, and those that
//! read only now and then. Knows sockets; what is right is for the follower and the ledger to say.

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

/// Timers are looked at so often.
const TICK: Duration = Duration::from_millis(10);
/// A sluggish follower's socket takes in little more than this unread.
const SMALL: usize = 4096;

/// How a follower behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Stays,
    /// Goes, and comes back with its position.
    Resumes,
    /// Goes, and comes back as somebody else.
    Renews,
    /// Reads only now and then.
    Sluggish,
}

/// Asks the fleet whether everybody has everything, before this moment; the answer names who has not.
pub struct Question {
    pub until: Instant,
    pub answer: Sender<Vec<String>>,
}

struct Member {
    manner: Manner,
    follower: Follower,
    socket: Option<TcpStream>,
    has_asked: bool,
    is_deaf: bool,
    /// When it comes, goes, or changes whether it listens.
    moves_at: Instant,
}

struct Fleet<'a> {
    world: &'a World,
    registry: Registry,
    random: fastrand::Rng,
    token: String,
    members: Vec<Member>,
    scratch: Vec<u8>,
}

/// Follows until the soak is over.
pub fn follow(world: &World, scale: &Scale, questions: &Receiver<Question>) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut fleet = Fleet::new(world, poll.registry().try_clone()?, scale);
    let (mut events, mut looked_at, mut question) = (Events::with_capacity(1024), Instant::now(), None);
    while !world.is_over() {
        if let Err(error) = poll.poll(&mut events, Some(TICK))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        fleet.read_all(events.iter().map(|event| event.token().0).collect());
        if looked_at.elapsed() >= TICK {
            looked_at = Instant::now();
            (0..fleet.members.len()).for_each(|index| fleet.look(index));
            question = question.or_else(|| questions.try_recv().ok());
            question = question.and_then(|question| fleet.answer(question));
        }
    }
    Ok(())
}

impl<'a> Fleet<'a> {
    fn new(world: &'a World, registry: Registry, scale: &Scale) -> Self {
        let mut random = world.random("fleet");
        let lanes = |first: usize, count: usize, is_steady| Interest::Lanes {
            lanes: (first..first + count).collect(),
            is_steady,
        };
        let mut crew = Vec::new();
        for nth in 0..scale.followers {
            let one = nth % scale.steady_lanes;
            let three = one.min(scale.steady_lanes - 3);
            crew.push(match nth % 20 {
                0..8 => (Manner::Stays, lanes(one, 1, true)),
                8..11 => (Manner::Stays, lanes(three, 3, true)),
                11..14 => (Manner::Resumes, lanes(one, 1, true)),
                14 => (Manner::Resumes, lanes(three, 3, true)),
                15 | 16 => (Manner::Renews, lanes(one, 1, true)),
                17 => (Manner::Stays, Interest::Records),
                18 => (if nth % 40 == 18 { Manner::Resumes } else { Manner::Renews }, Interest::Records),
                _ => (Manner::Stays, lanes(scale.steady_lanes + nth / 20 % scale.flood_lanes, 1, false)),
            });
        }
        crew.extend(
            (0..scale.sluggish)
                .map(|nth| (Manner::Sluggish, lanes(scale.steady_lanes + nth % scale.flood_lanes, 1, false))),
        );
        let members = crew.into_iter().map(|(manner, interest)| Member {
            manner,
            follower: Follower::new(world, interest),
            socket: None,
            has_asked: false,
            is_deaf: false,
            moves_at: Instant::now() + Duration::from_millis(random.u64(..500)),
        });
        let token = tokens::subscriber(tokens::FAR, "*");
        Self { world, registry, members: members.collect(), random, token, scratch: vec![0; 64 << 10] }
    }

    /// Reads once from each that has something, in turn, so that nobody falls behind for somebody else.
    fn read_all(&mut self, mut ready: Vec<usize>) {
        while !ready.is_empty() {
            ready.retain(|&index| self.read(index));
        }
    }

    /// Whether there may be more.
    fn read(&mut self, index: usize) -> bool {
        let Self { world, token, members, scratch, .. } = self;
        let member = &mut members[index];
        let Some(socket) = &mut member.socket else { return false };
        if !member.has_asked {
            if socket.take_error().ok().flatten().is_some() || socket.peer_addr().is_err() {
                self.lose(index);
                return false;
            }
            let request = member.follower.request(world, token);
            // The broker may be gone already, which reading will tell.
            let _ = socket.write(request.as_bytes());
            member.has_asked = true;
        }
        if member.is_deaf {
            return false;
        }
        let had_ended = member.follower.has_ended;
        match socket.read(scratch) {
            Ok(count) if count > 0 && !had_ended => match member.follower.read(world, &scratch[..count]) {
                Ok(()) => true,
                Err(words) => {
                    world.fail(words);
                    // As if it had never been there, so that one thing that is wrong is told once.
                    member.follower.become_fresh();
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

    /// The stream has ended; the member comes back soon.
    fn lose(&mut self, index: usize) {
        let pause = Duration::from_millis(self.random.u64(20..200));
        let member = &mut self.members[index];
        member.follower.leave();
        (member.socket, member.is_deaf, member.moves_at) = (None, false, Instant::now() + pause);
    }

    /// Whoever's time has come does what it does.
    fn look(&mut self, index: usize) {
        let member = &mut self.members[index];
        let is_quiet = self.world.is_quiet();
        let is_called = is_quiet && (member.is_deaf || member.socket.is_none());
        if member.moves_at > Instant::now() && !is_called {
            return;
        }
        if member.socket.is_none() {
            return self.come(index);
        }
        member.moves_at = Instant::now() + Duration::from_millis(self.random.u64(500..6000));
        match member.manner {
            Manner::Sluggish if member.is_deaf || !is_quiet => {
                member.is_deaf = !member.is_deaf;
                self.read_all(vec![index]);
            }
            Manner::Resumes | Manner::Renews if !is_quiet && member.follower.is_open => self.go(index),
            _ => {}
        }
    }

    fn go(&mut self, index: usize) {
        let (pause, resets) = (Duration::from_millis(self.random.u64(..1500)), self.random.bool());
        let member = &mut self.members[index];
        if let Some(socket) = member.socket.take()
            && resets
        {
            // One that is gone already needs no reset.
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        }
        member.follower.leave();
        if member.manner == Manner::Renews {
            member.follower.become_fresh();
        }
        member.moves_at = Instant::now() + pause;
    }

    fn come(&mut self, index: usize) {
        let is_small = self.members[index].manner == Manner::Sluggish;
        match self.connect(index, is_small) {
            Ok(socket) => {
                let member = &mut self.members[index];
                (member.socket, member.has_asked, member.is_deaf) = (Some(socket), false, false);
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

    /// Answers if everybody has everything, or time is up; otherwise the question stays.
    fn answer(&self, question: Question) -> Option<Question> {
        let lacking: Vec<String> = self.members.iter().filter_map(|member| member.follower.lacks(self.world)).collect();
        if !lacking.is_empty() && Instant::now() < question.until {
            return Some(question);
        }
        // Whoever asked and left wants no answer.
        let _ = question.answer.send(lacking);
        None
    }
}
