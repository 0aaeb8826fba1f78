//! The topics of a load: their names, and what has been published to each.

use super::{Requester, send_request};
use crate::servers::{Failure, Running};

/// A topic of a load.
pub struct Topic {
    pub name: String,
    /// One for each server, because two connections could overtake each other. Created for the first event.
    pub publishers: Vec<Option<Requester>>,
    /// The server for the next events.
    pub next_server: usize,
    /// The number of the next event, counted from 1.
    pub published: u32,
    pub subscribers: u64,
}

impl Topic {
    /// Creates a topic at all of these servers.
    pub fn new(servers: &[Running], index: usize) -> Result<Self, Failure> {
        let mut name = String::new();
        for server in servers {
            name = make_topic(server, index)?;
        }
        let publishers = servers.iter().map(|_| None).collect();
        Ok(Self { name, publishers, next_server: 0, published: 1, subscribers: 0 })
    }
}

/// Returns the name of a topic by its number.
pub fn topic_name(index: usize) -> String {
    format!("benchmark{index}")
}

/// Returns the name of a topic by its number, after creating it if the server requires that.
pub fn make_topic(server: &Running, index: usize) -> Result<String, Failure> {
    let name = topic_name(index);
    if let Some(prepare) = server.dialect.prepare {
        send_request(server.publish_at, &prepare(&name))?;
    }
    Ok(name)
}
