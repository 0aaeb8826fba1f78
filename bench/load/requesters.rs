//! Keep-alive connections that all send requests: each as soon as the previous one has its response, or at a fixed rate.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::{Histogram, Requester, TIMEOUT};
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

    /// Sends requests at this rate for this long: see [`Self::run_while`].
    pub fn run_at(&mut self, rate: f64, duration: Duration, latency: &mut Histogram) -> Result<(), Failure> {
        let begin = Instant::now();
        self.run_while(rate, latency, || Ok(begin.elapsed() < duration))
    }

    /// Sends requests at this rate, each on a connection that is free, as long as `goes_on` says so, and then waits for the
    /// remaining responses. Adds their latencies, which count from when a request was due: one that finds no free connection is
    /// late. `goes_on` is called all the time, and what it does must be short.
    pub fn run_while(
        &mut self,
        rate: f64,
        latency: &mut Histogram,
        mut goes_on: impl FnMut() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let (begin, mut end) = (Instant::now(), None);
        let due = |number: u64| begin + Duration::from_secs_f64(number as f64 / rate);
        // The one that is free for longest is used next: the broker closes connections that send nothing.
        let mut free: VecDeque<usize> = (0..self.connections.len()).collect();
        let (mut due_of, mut sent) = (vec![begin; self.connections.len()], 0);
        loop {
            if end.is_none() && !goes_on()? {
                end = Some(Instant::now());
            }
            while due(sent) <= end.unwrap_or_else(Instant::now)
                && let Some(index) = free.pop_front()
            {
                due_of[index] = due(sent);
                self.send(index)?;
                sent += 1;
            }
            if let Some(end) = end {
                if free.len() == self.connections.len() {
                    return Ok(());
                }
                if end.elapsed() > TIMEOUT {
                    return Err(format!("{} requests have no response", self.connections.len() - free.len()).into());
                }
            }
            // epoll waits for whole milliseconds, which is too long for the next request.
            let wait = if end.is_none() { Duration::ZERO } else { Duration::from_millis(100) };
            self.poll.poll(&mut self.events, Some(wait))?;
            for index in self.events.iter().map(|event| event.token().0) {
                self.connections[index].handle_readable()?;
                if self.connections[index].outstanding() == 0 {
                    latency.add(due_of[index].elapsed().as_nanos() as u64);
                    free.push_back(index);
                }
            }
        }
    }

    fn send(&mut self, index: usize) -> Result<(), Failure> {
        let request = (self.request)(self.sent);
        self.sent += 1;
        Ok(self.connections[index].send(request)?)
    }
}
