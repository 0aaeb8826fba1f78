//! Fair scheduling of requests: clients take turns (round robin), and a client's turns alternate between its new requests and
//! those already begun. So a small page, which a single turn completes, waits neither for large pages nor for another client's
//! many requests.

use std::collections::{HashMap, VecDeque};

use crate::quota::{Client, fair_share};

/// Requests waiting for their next turn.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    max: usize,
    waiting: usize,
    /// Clients that have a waiting request, each once.
    turns: VecDeque<Client>,
    by_client: HashMap<Client, ClientQueue<T>>,
}

/// One client's requests.
#[derive(Debug)]
struct ClientQueue<T> {
    new: VecDeque<T>,
    begun: VecDeque<T>,
    /// Whether the last turn was for a new request.
    was_new: bool,
}

impl<T> Schedule<T> {
    /// Returns a schedule for at most this many waiting requests.
    pub fn new(max: usize) -> Self {
        Self { max, waiting: 0, turns: VecDeque::new(), by_client: HashMap::new() }
    }

    /// Adds a new request, or returns it if too many are waiting, in total or for this client.
    pub fn add(&mut self, client: Client, request: T) -> Result<(), T> {
        let waiting_for_client = self.by_client.get(&client).map_or(0, ClientQueue::len);
        if fair_share(self.max.saturating_sub(self.waiting), waiting_for_client) == 0 {
            return Err(request);
        }
        self.client_queue(client).new.push_back(request);
        Ok(())
    }

    /// Adds a request that needs another turn.
    pub fn add_begun(&mut self, client: Client, request: T) {
        self.client_queue(client).begun.push_back(request);
    }

    /// Returns whether no request is waiting.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    fn client_queue(&mut self, client: Client) -> &mut ClientQueue<T> {
        self.waiting += 1;
        let queue = self.by_client.entry(client).or_default();
        if queue.len() == 0 {
            self.turns.push_back(client);
        }
        queue
    }

    /// Removes and returns the request whose turn it is.
    pub fn next(&mut self) -> Option<(Client, T)> {
        let client = self.turns.pop_front()?;
        let queue = self.by_client.get_mut(&client)?;
        let request = queue.next()?;
        self.waiting -= 1;
        if queue.len() > 0 {
            self.turns.push_back(client);
        } else {
            self.by_client.remove(&client);
        }
        Some((client, request))
    }
}

impl<T> Default for ClientQueue<T> {
    fn default() -> Self {
        Self { new: VecDeque::new(), begun: VecDeque::new(), was_new: false }
    }
}

impl<T> ClientQueue<T> {
    fn len(&self) -> usize {
        self.new.len() + self.begun.len()
    }

    fn next(&mut self) -> Option<T> {
        self.was_new = if self.was_new { self.begun.is_empty() } else { !self.new.is_empty() };
        if self.was_new { self.new.pop_front() } else { self.begun.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> Client {
        Client::from((number > 0).then(|| IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))))
    }

    #[test]
    fn clients_take_turns_and_so_do_new_and_begun_requests() {
        let mut schedule = Schedule::new(100);
        (0..3).for_each(|number| schedule.add_begun(client(1), ("begun", number)));
        (0..3).for_each(|number| schedule.add(client(1), ("new", number)).unwrap());
        schedule.add(client(2), ("other", 0)).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| schedule.next()).map(|(_, request)| request).collect();
        let expected = [("new", 0), ("other", 0), ("begun", 0), ("new", 1), ("begun", 1), ("new", 2), ("begun", 2)];
        assert_eq!(order, expected);
    }

    #[test]
    fn a_greedy_client_leaves_room_for_others() {
        let mut schedule = Schedule::new(1024);
        let taken = |schedule: &mut Schedule<()>, number| {
            (0..2000).take_while(|_| schedule.add(client(number), ()).is_ok()).count()
        };
        let counts = [taken(&mut schedule, 1), taken(&mut schedule, 2), taken(&mut schedule, 3)];
        assert!(
            counts[0] > 700 && counts[1] > 170 && counts[2] > 40 && counts.iter().sum::<usize>() <= 1024,
            "{counts:?}"
        );
        while schedule.next().is_some() {}
        assert!(schedule.by_client.is_empty() && schedule.waiting == 0);
    }

    proptest! {
        /// No request is lost, each client's new requests keep their order, and no client waits for more than three turns of
        /// others.
        #[test]
        fn turns_are_fair(acts in prop::collection::vec((0..3_u8, 0..4_u8), 0..300)) {
            let mut schedule = Schedule::new(50);
            let (mut number, mut waiting, mut since) = (0, BTreeMap::<u8, Vec<u32>>::new(), BTreeMap::<u8, usize>::new());
            for (act, of) in acts {
                if act > 0 {
                    number += 1;
                    let is_taken = schedule.add(client(of), (of, number)).is_ok();
                    prop_assert!(is_taken || schedule.waiting > 12);
                    if is_taken {
                        waiting.entry(of).or_default().push(number);
                    }
                } else if let Some((from, (of, number))) = schedule.next() {
                    prop_assert_eq!(from, client(of));
                    prop_assert_eq!(waiting.get_mut(&of).map(|waiting| waiting.remove(0)), Some(number));
                    since.remove(&of);
                    for other in waiting.keys().filter(|other| **other != of && !waiting[*other].is_empty()) {
                        let turns = since.entry(*other).or_default();
                        *turns += 1;
                        prop_assert!(*turns <= 3, "{other} waited for {turns} turns of others");
                    }
                } else {
                    prop_assert!(waiting.values().all(Vec::is_empty));
                }
            }
        }
    }
}
