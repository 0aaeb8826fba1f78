//! Keep-alive connections that all send requests, each as soon as the previous one has its response.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::{Requester, TIMEOUT};
use crate::servers::Failure;

/// The connections.
pub struct Requesters<F> {
    poll: Poll,
    events: Events,
    connections: Vec<Requester>,
    /// Returns a request by its number.
    request: F,
    sent: u64,
}

impl<F: FnMut(u64) -> String> Requesters<F> {
    /// Connects, spread over these addresses.
    pub fn connect(addresses: &[SocketAddr], connections: usize, request: F) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let connect = |(index, &address)| Requester::connect(address, poll.registry(), Token(index));
        let connections = addresses.iter().cycle().take(connections).enumerate().map(connect);
        let connections = connections.collect::<Result<_, _>>()?;
        Ok(Self { poll, events: Events::with_capacity(1024), connections, request, sent: 0 })
    }

    /// Sends requests for this long, and then waits for the remaining responses. Returns the number of responses.
    pub fn run(&mut self, duration: Duration) -> Result<u64, Failure> {
        let (begin, mut responses) = (Instant::now(), 0);
        (0..self.connections.len()).try_for_each(|index| self.send(index))?;
        let mut waiting = self.connections.len();
        while waiting > 0 {
            if begin.elapsed() > duration + TIMEOUT {
                return Err(format!("{waiting} requests have no response").into());
            }
            self.poll.poll(&mut self.events, Some(Duration::from_millis(100)))?;
            let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
            for index in ready {
                let connection = &mut self.connections[index];
                let was_waiting = connection.outstanding() > 0;
                connection.handle_readable()?;
                if was_waiting && connection.outstanding() == 0 {
                    responses += 1;
                    match begin.elapsed() < duration {
                        true => self.send(index)?,
                        false => waiting -= 1,
                    }
                }
            }
        }
        Ok(responses)
    }

    fn send(&mut self, index: usize) -> Result<(), Failure> {
        let request = (self.request)(self.sent);
        self.sent += 1;
        Ok(self.connections[index].send(request)?)
    }
}
