//! Encodes the events of a publish's body as drafts of frames, in slices of bounded work. The body must have passed its
//! check: nothing can be wrong with it any more.

use std::ops::Range;

use super::check::{Check, PublishError};
use super::event::{EventError, check_id, check_name, encode_data_line};
use super::frame::UnsequencedFrame;
use super::parse::{Cursor, Line, Slice, range_of};

/// What an event costs of a [`Slice`] beyond its lines: two allocations and their bookkeeping take as long as copying this
/// many bytes.
pub const EVENT_COST: usize = 256;

/// Encodes a body. The body is passed to each call; it must be the same one.
#[derive(Debug)]
pub struct Encoder {
    cursor: Cursor,
    /// Whether every line is a line of data.
    is_data: bool,
    /// What an event is called that does not say so itself.
    name: Option<String>,
    /// The id of an event that has none of its own.
    id: Option<String>,
    /// Comments, `retry` and unknown fields of the event whose lines are being read, and comments that belong to none.
    first_lines: Vec<u8>,
    /// Its `data` lines.
    data_lines: Vec<u8>,
    own_name: Option<Range<usize>>,
    publisher_id: Option<Range<usize>>,
    drafts: Vec<UnsequencedFrame>,
    cost: usize,
}

impl Encoder {
    /// Encodes SSE text that has `events` events. If it is one, it gets this name and this id where it has none of its own.
    pub fn of_text(text: &str, events: usize, name: Option<String>, id: Option<String>) -> Self {
        Self::new(Cursor::of_body(text), false, events, (name, id))
    }

    /// Encodes a body that is the data of one event with this name and this id.
    pub fn of_data(body: &str, name: Option<String>, id: Option<String>) -> Self {
        Self::new(Cursor::of_body(body), true, 1, (name, id))
    }

    fn new(cursor: Cursor, is_data: bool, events: usize, (name, id): (Option<String>, Option<String>)) -> Self {
        Self {
            cursor,
            is_data,
            name,
            id,
            first_lines: Vec::new(),
            data_lines: Vec::new(),
            own_name: None,
            publisher_id: None,
            drafts: Vec::with_capacity(events),
            cost: 0,
        }
    }

    /// Goes on until the slice is spent. Returns whether all of the body has been encoded.
    pub fn run(&mut self, body: &str, slice: &mut Slice) -> bool {
        while !slice.is_spent() {
            let at = self.cursor.at();
            let Some(line) = self.cursor.next(body, slice) else {
                self.end_event(body, slice);
                return true;
            };
            match if self.is_data { Line::Data(line) } else { Line::parse(line) } {
                Line::Blank => self.end_event(body, slice),
                Line::Data(value) => encode_data_line(value, &mut self.data_lines),
                Line::Name(value) => self.own_name = Some(range_of(value, line, at)),
                Line::Id(value) => self.publisher_id = Some(range_of(value, line, at)),
                Line::BadId => {}
                Line::Comment | Line::Other => {
                    self.first_lines.extend_from_slice(line.as_bytes());
                    self.first_lines.push(b'\n');
                }
            }
        }
        false
    }

    /// Comments without an event travel with the next one.
    fn end_event(&mut self, body: &str, slice: &mut Slice) {
        if self.data_lines.is_empty() {
            return;
        }
        // A NUL is harmless in a name that came as a line; CR and LF can't be in one.
        let own_name = self.own_name.take().map(|range| &body[range]).filter(|name| !name.is_empty());
        let publisher_id = check_id(self.publisher_id.take().map(|range| &body[range])).unwrap_or_default();
        let (name, id) = (own_name.or(self.name.as_deref()), publisher_id.or(self.id.as_deref()));
        let draft = UnsequencedFrame::assemble(&self.first_lines, name, &self.data_lines, id);
        self.cost += draft.cost();
        self.drafts.push(draft);
        self.first_lines.clear();
        self.data_lines.clear();
        slice.spend(EVENT_COST);
    }

    /// What it holds in memory, beside the body.
    pub fn cost(&self) -> usize {
        let list = self.drafts.capacity() * size_of::<UnsequencedFrame>();
        self.cost + list + self.first_lines.capacity() + self.data_lines.capacity()
    }

    /// The events, in order.
    pub fn finish(self) -> Vec<UnsequencedFrame> {
        self.drafts
    }
}

/// Reads a whole body of SSE text at once.
pub fn drafts_from_text(text: &str) -> Result<Vec<UnsequencedFrame>, PublishError> {
    let mut check = Check::new(text);
    check.run(text, &mut Slice::unlimited())?;
    Ok(encoded(Encoder::of_text(text, check.events(), None, None), text))
}

/// Encodes at once a body that is the data of one event.
pub fn drafts_from_data(body: &str, name: Option<&str>, id: Option<&str>) -> Result<Vec<UnsequencedFrame>, EventError> {
    let (name, id) = (check_name(name)?.map(str::to_owned), check_id(id)?.map(str::to_owned));
    Ok(encoded(Encoder::of_data(body, name, id), body))
}

fn encoded(mut encoder: Encoder, body: &str) -> Vec<UnsequencedFrame> {
    encoder.run(body, &mut Slice::unlimited());
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sse::Framing;

    fn wire(drafts: Vec<UnsequencedFrame>) -> String {
        let mut text = String::new();
        for (number, draft) in drafts.into_iter().enumerate() {
            let frame = draft.assign_id(number as u64 + 1);
            text.push_str(std::str::from_utf8(frame.wire(Framing::Plain)).unwrap());
        }
        text
    }

    fn text(body: &str) -> String {
        drafts_from_text(body).map(wire).unwrap()
    }

    #[test]
    fn the_lines_are_put_into_the_wires_order() {
        let body = "id: 7\ndata: a\nevent: n\n: note\nretry: 9\nfoo\ndata:b\n\n";
        assert_eq!(text(body), ": note\nretry: 9\nfoo\nevent: n\ndata: a\ndata: b\nid: 7\n\n");
    }

    #[test]
    fn all_line_ends_and_a_missing_blank_line_are_understood() {
        let expected = "data: a\ndata: b\nid: 1\n\ndata: c\nid: 2\n\n";
        for end in ["\n", "\r", "\r\n"] {
            let body = ["data:a", "data:b", "", "", "data:c"].join(end);
            for tail in ["", end, &end.repeat(2), &end.repeat(5)] {
                assert_eq!(text(&format!("{body}{tail}")), expected, "{body:?}{tail:?}");
            }
        }
        assert_eq!(text("\u{feff}data:a\r\ndata:b\r\r\n\ndata:c"), expected);
    }

    #[test]
    fn only_one_space_is_dropped() {
        assert_eq!(text("data:  two\ndata:\tt\ndata"), "data:  two\ndata: \tt\ndata: \nid: 1\n\n");
    }

    #[test]
    fn comments_alone_travel_with_the_next_event() {
        assert_eq!(text(": a\n\n: b\ndata: x\n\n: c"), ": a\n: b\ndata: x\nid: 1\n\n");
    }

    #[test]
    fn ids_that_are_empty_or_have_a_nul_are_no_ids() {
        assert_eq!(text("id\ndata: x"), "data: x\nid: 1\n\n");
        assert_eq!(text("id: a\nid: b\0\ndata: x"), "data: x\nid: a\n\n");
        assert_eq!(text("id: a\nid:\ndata: x"), "data: x\nid: 1\n\n");
    }

    #[test]
    fn a_body_can_be_the_data() {
        let drafts = drafts_from_data("{\n}", Some("n"), Some("i")).unwrap();
        assert_eq!(wire(drafts), "event: n\ndata: {\ndata: }\nid: i\n\n");
        assert_eq!(wire(drafts_from_data("\u{feff}x\n", None, None).unwrap()), "data: x\ndata: \nid: 1\n\n");
        assert_eq!(drafts_from_data("x", Some("a\nb"), None).unwrap_err(), EventError::Name);
    }

    #[test]
    fn an_event_gets_what_it_lacks() {
        let given = |body: &str| {
            let encoder = Encoder::of_text(body, 1, Some("n".into()), Some("i".into()));
            wire(encoded(encoder, body))
        };
        assert_eq!(given("data: x"), "event: n\ndata: x\nid: i\n\n");
        assert_eq!(given("event: own\nid: own\ndata: x"), "event: own\ndata: x\nid: own\n\n");
        assert_eq!(given("event:\nid:\ndata: x"), "event: n\ndata: x\nid: i\n\n");
    }

    fn body() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec!["data", "data:", "data: ", "event:", "id: ", "id", "retry: 5", ":", "foo", " ", "\u{feff}", "\0"]),
            3 => prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", "\r\n\r\n"]),
            2 => prop::sample::select(vec!["x", "yz", "é", "1"]),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever an EventSource would have dispatched of the body itself, it dispatches of the stream, and a body is refused
        /// exactly if a block has fields but no data, or no block has data.
        #[test]
        fn what_is_published_is_what_a_naive_parser_reads(body in body()) {
            crate::fuzz::publish(format!("\0{body}").as_bytes());
        }

        /// However the work is sliced, the events are the same, and they are as many as were counted.
        #[test]
        fn slices_make_no_difference(body in body(), cost in 1..40_usize) {
            let (mut check, mut count) = (Check::new(&body), Ok(false));
            while count == Ok(false) {
                count = check.run(&body, &mut Slice::new(cost));
            }
            prop_assert_eq!(count.clone().map(|_| ()), drafts_from_text(&body).map(|_| ()));
            if count.is_ok() {
                let mut encoder = Encoder::of_text(&body, check.events(), None, None);
                while !encoder.run(&body, &mut Slice::new(cost)) {}
                let drafts = encoder.finish();
                prop_assert_eq!(drafts.len(), check.events());
                prop_assert_eq!(wire(drafts), text(&body));
            }
            let mut encoder = Encoder::of_data(&body, None, None);
            while !encoder.run(&body, &mut Slice::new(cost)) {}
            prop_assert_eq!(wire(encoder.finish()), wire(drafts_from_data(&body, None, None).unwrap()));
        }
    }
}
