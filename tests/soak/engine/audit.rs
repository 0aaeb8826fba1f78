//! Reads pages of audits, and checks that their ids ascend. Independent of what was inserted.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::client::{Client, Outcome};
use crate::records::number;

/// A page of an audit.
#[derive(Debug)]
pub enum Page {
    /// Numbers and ids, and whether there are no more.
    Read { records: Vec<(u32, u64)>, is_last: bool },
    /// Status 503.
    Refused,
    /// No response.
    Broken,
    /// What the contract does not allow.
    Wrong(String),
}

/// The members of an object in their order.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

/// Reads one page.
pub fn read_page(client: &mut Client<'_>, name: &str, after: u64, limit: usize) -> Page {
    let target = format!("/audit/{}?after={after}&limit={limit}", name.replace('/', "%2F"));
    let response = match client.get(&target) {
        Outcome::Response(response) => response,
        Outcome::Unsent | Outcome::Broken(_) => return Page::Broken,
    };
    match response.status {
        200 => match parse(&response.body, after) {
            Ok(records) => Page::Read { records, is_last: !response.head.contains("\r\nLink: ") },
            Err(words) => Page::Wrong(format!("the audit {target} {words}")),
        },
        503 => Page::Refused,
        _ => Page::Wrong(format!("the response to {target} was {}", response.head)),
    }
}

fn parse(body: &[u8], after: u64) -> Result<Vec<(u32, u64)>, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let members = deserializer.deserialize_map(Members).map_err(|error| error.to_string())?;
    let mut last = after;
    let record = |(key, data): (String, Box<RawValue>)| {
        let id = key.rsplit_once("_v_").and_then(|(_, id)| id.parse().ok()).ok_or("has a key without an id")?;
        if id <= last {
            return Err(format!("has {id} after {last}"));
        }
        last = id;
        Ok((number(data.get()).ok_or("has a record without a number")?, id))
    };
    members.into_iter().map(record).collect()
}
