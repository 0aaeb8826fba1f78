//! Keep-alive connections that all send requests, each as soon as the previous one has its response.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::Requester;
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
    /// Connects, spread over these addresses, and sends the first request on each connection.
    pub fn start(addresses: &[SocketAddr], connections: usize, request: F) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let connect = |(index, &address)| Requester::connect(address, poll.registry(), Token(index));
        let connections = addresses.iter().cycle().take(connections).enumerate().map(connect);
        let connections = connections.collect::<Result<Vec<_>, _>>()?;
        let mut requesters = Self { poll, events: Events::with_capacity(1024), connections, request, sent: 0 };
        (0..requesters.connections.len()).try_for_each(|index| requesters.send(index))?;
        Ok(requesters)
    }

    /// Sends requests for this long. Returns the number of responses. Requests without a response remain.
    pub fn run(&mut self, duration: Duration) -> Result<u64, Failure> {
        let (begin, mut responses) = (Instant::now(), 0);
        while begin.elapsed() < duration {
            self.poll.poll(&mut self.events, Some(Duration::from_millis(100)))?;
            let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
            for index in ready {
                self.connections[index].handle_readable()?;
                if self.connections[index].outstanding() == 0 {
                    responses += 1;
                    self.send(index)?;
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
