//! A client that listens: one stream, read at its own pace, and its account of what it heard.

use super::net::Net;
use super::talk::{Said, Stream, field, split_head};
use super::truth::{Account, Seen, Start, Truth};

/// See the module's page.
#[derive(Debug)]
pub struct Listener {
    pub pipe: usize,
    pub account: Account,
    /// It reads everything at once.
    pub is_fast: bool,
    /// The second in which its token expires.
    pub expires: Option<u64>,
    /// The position that it goes on from after a cut.
    pub position: Option<Seen>,
    pub is_over: bool,
    /// The net has broken it.
    pub was_broken: bool,
    pub has_expired: bool,
    head: Vec<u8>,
    stream: Stream,
}

/// What a listener may rightly be told.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Everything is retained for ever.
    pub is_roomy: bool,
    /// The latest second of the system's clock so far.
    pub latest_second: u64,
}

impl Listener {
    pub fn new(pipe: usize, account: Account, is_fast: bool, expires: Option<u64>) -> Self {
        let position = match account.start {
            Start::After(id) | Start::AfterInDoubt(id) => Some(Seen::Id(id)),
            Start::AfterItem(number) => Some(Seen::Item(number)),
            _ => None,
        };
        let (head, stream) = (Vec::new(), Stream::default());
        Self {
            pipe,
            account,
            is_fast,
            expires,
            position,
            is_over: false,
            was_broken: false,
            has_expired: false,
            head,
            stream,
        }
    }

    /// Reads what has come.
    pub fn look(&mut self, net: &mut Net, truth: &mut Truth, rules: Rules) {
        let bytes = net.take_received(self.pipe);
        let bytes = if self.account.opened.is_none() { self.take_head(bytes, truth) } else { bytes };
        for said in self.stream.feed(&bytes) {
            self.hear(said, truth, rules);
        }
    }

    fn take_head(&mut self, bytes: Vec<u8>, truth: &Truth) -> Vec<u8> {
        self.head.extend(bytes);
        let Some((status, head, begin)) = split_head(&self.head) else { return Vec::new() };
        // Its head took its time, or its token had expired by then.
        if status == 408 || (status == 401 && self.expires.is_some()) {
            self.is_over = true;
            return Vec::new();
        }
        assert_eq!(status, 200, "{head}");
        assert_eq!(field(&head, "Content-Type"), Some("text/event-stream"));
        self.account.opened = Some(truth.step);
        self.head.split_off(begin)
    }

    fn hear(&mut self, said: Said, truth: &mut Truth, rules: Rules) {
        assert!(!self.is_over, "nothing follows the end");
        match said {
            Said::Event { id, data, .. } => {
                self.assert_gap_first();
                let number = number_of(&data);
                self.position = Some(self.account.take(&id, number, truth));
            }
            Said::Gap { oldest } => {
                let is_opening = self.account.log.is_empty() && self.account.gaps.is_empty();
                let is_wrong = matches!(self.account.start, Start::Live | Start::Retained { .. }) && is_opening;
                let is_known = match self.account.start {
                    Start::Unknown | Start::AfterInDoubt(_) => false,
                    // A number may be taken for an id from before the start.
                    Start::AfterItem(number) => !truth.items[number].has_own_number(),
                    Start::Live | Start::Retained { .. } | Start::After(_) => true,
                };
                assert!(!(rules.is_roomy && is_known), "a gap though everything is retained: {self:?}");
                assert!(!is_wrong || !self.is_fast, "a gap for one that asked for nothing: {self:?}");
                self.account.take_gap(oldest, truth.step);
            }
            Said::Expired => {
                let expires = self.expires.expect("only a token expires");
                assert!(rules.latest_second >= expires, "a stream ends before its token");
                self.has_expired = true;
            }
            Said::End => self.is_over = true,
        }
    }

    fn assert_gap_first(&self) {
        let owes_gap = self.account.start == Start::Unknown;
        assert!(!owes_gap || !self.account.gaps.is_empty(), "the position is unknown, and no gap came first: {self:?}");
    }

    pub fn who(&self) -> String {
        format!("the {} listener on pipe {}", if self.is_fast { "fast" } else { "slow" }, self.pipe)
    }
}

/// What the data says that it is.
fn number_of(data: &str) -> usize {
    let digits = data.strip_prefix("{\"n\":").unwrap_or(data);
    let end = digits.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("a number in {data}"))
}
