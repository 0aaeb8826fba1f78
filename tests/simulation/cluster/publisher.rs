//! Messages, and the requests that publish them: a client repeats a request whose outcome it does not know, with the same ids
//! and at any broker.

use serde_json::Value;

use super::super::net::Net;
use super::super::parser::{field, take_response};

/// What one client wants to have published, once.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: usize,
    /// The publisher's ids of its events.
    pub own_ids: Vec<Option<String>>,
    pub attempts: Vec<Attempt>,
}

/// One request that publishes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The number of the broker that it was sent to.
    pub broker: u64,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Sent,
    /// 200: the id, and the number of new events.
    Accepted {
        id: u64,
        events: usize,
    },
    /// Nothing was published.
    Refused,
    Unknown,
}

impl Message {
    pub fn has_ids(&self) -> bool {
        self.own_ids.iter().all(Option::is_some)
    }

    /// Returns whether its client sends it again.
    pub fn may_be_repeated(&self) -> bool {
        let is_refused = |attempt: &Attempt| attempt.outcome == Outcome::Refused;
        let is_known = |attempt: &Attempt| attempt.outcome != Outcome::Sent;
        self.attempts.iter().all(is_refused) || (self.has_ids() && self.attempts.iter().all(is_known))
    }

    /// Returns whether nothing of it may be in the log.
    pub fn is_refused(&self) -> bool {
        self.attempts.iter().all(|attempt| attempt.outcome == Outcome::Refused)
    }

    /// Returns the request.
    pub fn request(&self, number: usize, topic: &str) -> String {
        let event = |(index, own_id): (usize, &Option<String>)| {
            let own_id = own_id.as_ref().map_or(String::new(), |id| format!("id: {id}\n"));
            format!("data: {number} {index}\n{own_id}\n")
        };
        let body: String = self.own_ids.iter().enumerate().map(event).collect();
        format!("POST /publish/{topic} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}

/// A request without a response.
#[derive(Debug)]
pub struct Request {
    pub message: usize,
    pub attempt: usize,
    pub site: usize,
    pub pipe: usize,
    received: Vec<u8>,
}

impl Request {
    pub fn new(message: usize, attempt: usize, site: usize, pipe: usize) -> Self {
        Self { message, attempt, site, pipe, received: Vec::new() }
    }

    /// Returns what became of it, once that is known.
    pub fn outcome(&mut self, net: &mut Net) -> Option<Outcome> {
        self.received.extend(net.take_received(self.pipe));
        let Some(response) = take_response(&mut self.received) else {
            return net.is_over(self.pipe).then_some(Outcome::Unknown);
        };
        let text = String::from_utf8_lossy(&response.body);
        Some(match response.status {
            200 => {
                let json: Value = serde_json::from_str(&text).expect("JSON");
                let id = json["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
                let events = if json["duplicate"] == true { 0 } else { json["events"].as_u64().expect("a number") };
                Outcome::Accepted { id, events: events as usize }
            }
            503 => {
                assert!(field(&response.head, "Retry-After").is_some(), "{text}");
                Outcome::Refused
            }
            408 => Outcome::Refused,
            504 => Outcome::Unknown,
            status => panic!("{status}: {text}"),
        })
    }
}
