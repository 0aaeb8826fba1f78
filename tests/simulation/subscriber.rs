//! A client with one stream, which it reads at its own pace, and the log of what it received.

use super::net::Net;
use super::oracle::{Oracle, Position, Start, StreamLog};
use super::parser::{Stream, StreamItem, field, split_head};

/// A client and its stream.
#[derive(Debug)]
pub struct Subscriber {
    pub pipe: usize,
    pub log: StreamLog,
    /// It reads everything at once.
    pub is_fast: bool,
    /// Its stream ends with its first events.
    pub is_poll: bool,
    /// The second in which its token expires.
    pub expires: Option<u64>,
    /// Whether its token was revoked.
    pub is_revoked: bool,
    /// The position that it resumes from after a disconnect.
    pub position: Option<Position>,
    pub is_over: bool,
    /// The network has broken its connection.
    pub was_broken: bool,
    pub has_expired: bool,
    head: Vec<u8>,
    stream: Stream,
}

/// What bounds the gaps and the expiry that a subscriber may receive.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Everything is retained forever.
    pub is_roomy: bool,
    /// The latest second that the wall clock has shown.
    pub latest_second: u64,
}

impl Subscriber {
    pub fn new(pipe: usize, log: StreamLog, is_fast: bool, is_poll: bool, expires: Option<u64>) -> Self {
        let position = match log.start {
            Start::After(id) | Start::AfterInDoubt(id) => Some(Position::Id(id)),
            Start::AfterItem(number) => Some(Position::Item(number)),
            _ => None,
        };
        let (head, stream) = (Vec::new(), Stream::default());
        Self {
            pipe,
            log,
            is_fast,
            is_poll,
            expires,
            is_revoked: false,
            position,
            is_over: false,
            was_broken: false,
            has_expired: false,
            head,
            stream,
        }
    }

    /// Checks what has arrived.
    pub fn observe(&mut self, net: &mut Net, oracle: &mut Oracle, rules: Rules) {
        let bytes = net.take_received(self.pipe);
        let bytes = if self.log.opened.is_none() { self.take_head(bytes, oracle) } else { bytes };
        for item in self.stream.feed(&bytes) {
            self.take(item, oracle, rules);
        }
    }

    fn take_head(&mut self, bytes: Vec<u8>, oracle: &Oracle) -> Vec<u8> {
        self.head.extend(bytes);
        let Some((status, head, begin)) = split_head(&self.head) else { return Vec::new() };
        // The request head took too long, or the token had expired by then.
        if status == 408 || (status == 401 && self.expires.is_some()) {
            self.is_over = true;
            return Vec::new();
        }
        assert_eq!(status, 200, "{head}");
        assert_eq!(field(&head, "Content-Type"), Some("text/event-stream"));
        self.log.opened = Some(oracle.step);
        self.head.split_off(begin)
    }

    fn take(&mut self, item: StreamItem, oracle: &mut Oracle, rules: Rules) {
        assert!(!self.is_over, "{item:?} follows the end");
        match item {
            StreamItem::Event { id, data, .. } => {
                self.assert_gap_first();
                let number = number_of(&data);
                self.position = Some(self.log.take(&id, number, oracle));
            }
            StreamItem::Gap { oldest } => {
                let is_opening = self.log.events.is_empty() && self.log.gaps.is_empty();
                let is_unexpected = matches!(self.log.start, Start::Live | Start::Retained { .. }) && is_opening;
                let is_known = match self.log.start {
                    Start::Unknown | Start::AfterInDoubt(_) => false,
                    // A number may be taken for an id from before the broker's start.
                    Start::AfterItem(number) => !oracle.items[number].has_numeric_publisher_id(),
                    Start::Live | Start::Retained { .. } | Start::After(_) => true,
                };
                assert!(!(rules.is_roomy && is_known), "a gap though everything is retained: {self:?}");
                assert!(!is_unexpected || !self.is_fast, "a gap without a position: {self:?}");
                self.log.take_gap(oldest, oracle.step);
            }
            StreamItem::Expired => {
                let expires = self.expires.expect("only a token expires");
                assert!(self.is_revoked || rules.latest_second >= expires, "a stream ends before its token");
                self.has_expired = true;
            }
            StreamItem::Erased { id, name } => {
                self.assert_gap_first();
                self.position = Some(self.log.take_erasure(id, &name, oracle));
            }
            // A poll ends with the position after an erasure.
            StreamItem::Prime { id } => {
                assert!(self.is_poll && self.log.is_records && oracle.has_erasures, "nobody has asked for a position");
                self.position = Some(Position::Id(id));
            }
            StreamItem::End => self.is_over = true,
        }
    }

    fn assert_gap_first(&self) {
        let needs_gap = self.log.start == Start::Unknown;
        assert!(!needs_gap || !self.log.gaps.is_empty(), "the position is unknown, and no gap came first: {self:?}");
    }

    pub fn description(&self) -> String {
        format!("the {} subscriber on pipe {}", if self.is_fast { "fast" } else { "slow" }, self.pipe)
    }
}

/// Returns the item's number, which the data begins with.
fn number_of(data: &str) -> usize {
    let digits = data.strip_prefix("{\"n\":").unwrap_or(data);
    let end = digits.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("a number in {data}"))
}
