//! Encodes the events of a publish's body as frames without ids, in slices of bounded work. The body must have passed
//! [`Check`](super::Check), so encoding cannot fail.

use std::ops::Range;

use super::event::{check_id, encode_data_line};
use super::frame::UnsequencedFrame;
use super::parse::{Line, LineReader, Slice, range_of};

/// The cost of an event beyond its lines, in the unit of [`Slice`]: two allocations and their bookkeeping take as long as
/// copying this many bytes.
pub const EVENT_COST: usize = 256;

/// A resumable encoder of one body. Each call takes the body again; it must be the same body.
#[derive(Debug)]
pub struct Encoder {
    reader: LineReader,
    /// Whether the whole body is the data of one event.
    is_data: bool,
    /// The name of an event that has no `event` field.
    default_name: Option<String>,
    /// The id of an event that has no `id` field.
    default_id: Option<String>,
    /// Comments, `retry` and unknown fields of the current event, including comments from before it.
    first_lines: Vec<u8>,
    /// The `data` lines of the current event.
    data_lines: Vec<u8>,
    /// Where the `event` field of the current event is in the body.
    name: Option<Range<usize>>,
    /// Where the `id` field of the current event is in the body.
    publisher_id: Option<Range<usize>>,
    frames: Vec<UnsequencedFrame>,
    /// The memory of `frames` beyond the list itself, in bytes.
    cost: usize,
}

impl Encoder {
    /// Creates an encoder of SSE text that has `events` events. Events without a name or an id of their own get these.
    pub fn of_text(text: &str, events: usize, name: Option<String>, id: Option<String>) -> Self {
        Self::new(LineReader::of_body(text), false, events, (name, id))
    }

    /// Creates an encoder of a body that is the data of one event with this name and this id.
    pub fn of_data(body: &str, name: Option<String>, id: Option<String>) -> Self {
        Self::new(LineReader::of_body(body), true, 1, (name, id))
    }

    fn new(reader: LineReader, is_data: bool, events: usize, defaults: (Option<String>, Option<String>)) -> Self {
        let (default_name, default_id) = defaults;
        Self {
            reader,
            is_data,
            default_name,
            default_id,
            first_lines: Vec::new(),
            data_lines: Vec::new(),
            name: None,
            publisher_id: None,
            frames: Vec::with_capacity(events),
            cost: 0,
        }
    }

    /// Encodes until the slice is spent. Returns whether the whole body has been encoded.
    pub fn run(&mut self, body: &str, slice: &mut Slice) -> bool {
        while !slice.is_spent() {
            let at = self.reader.at();
            let Some(line) = self.reader.next(body, slice) else {
                self.end_event(body, slice);
                return true;
            };
            match if self.is_data { Line::Data(line) } else { Line::parse(line) } {
                Line::Blank => self.end_event(body, slice),
                Line::Data(value) => encode_data_line(value, &mut self.data_lines),
                Line::Name(value) => self.name = Some(range_of(value, line, at)),
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

    /// Adds the current event's frame, if it has data. Comments without an event are sent with the next one.
    fn end_event(&mut self, body: &str, slice: &mut Slice) {
        if self.data_lines.is_empty() {
            return;
        }
        // The name was read from one line, so it has no CR or LF; a NUL in a name is harmless.
        let name = self.name.take().map(|range| &body[range]).filter(|name| !name.is_empty());
        let publisher_id = check_id(self.publisher_id.take().map(|range| &body[range])).unwrap_or_default();
        let (name, id) = (name.or(self.default_name.as_deref()), publisher_id.or(self.default_id.as_deref()));
        let frame = UnsequencedFrame::assemble(&self.first_lines, name, &self.data_lines, id);
        debug_assert!(self.frames.len() < self.frames.capacity(), "the check counted fewer events");
        self.cost += frame.cost();
        self.frames.push(frame);
        self.first_lines.clear();
        self.data_lines.clear();
        slice.spend(EVENT_COST);
    }

    /// Returns the memory that the encoder uses, in bytes, excluding the body.
    pub fn cost(&self) -> usize {
        let list = self.frames.capacity() * size_of::<UnsequencedFrame>();
        self.cost + list + self.first_lines.capacity() + self.data_lines.capacity()
    }

    /// Returns the frames, in the body's order. The whole body must have been encoded.
    pub fn finish(self) -> Vec<UnsequencedFrame> {
        debug_assert!(self.data_lines.is_empty(), "an event is unfinished");
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sse::Framing;
    use crate::sse::whole::encode;
    use crate::sse::{Check, EventError, frames_from_data, frames_from_text};

    fn wire(frames: Vec<UnsequencedFrame>) -> String {
        let mut text = String::new();
        for (number, frame) in frames.into_iter().enumerate() {
            let frame = frame.assign_id(number as u64 + 1);
            text.push_str(std::str::from_utf8(frame.wire(Framing::Plain)).unwrap());
        }
        text
    }

    fn text(body: &str) -> String {
        frames_from_text(body).map(wire).unwrap()
    }

    #[test]
    fn lines_are_written_in_the_order_of_the_wire() {
        let body = "id: 7\ndata: a\nevent: n\n: note\nretry: 9\nfoo\ndata:b\n\n";
        assert_eq!(text(body), ": note\nretry: 9\nfoo\nevent: n\ndata: a\ndata: b\nid: 7\n\n");
    }

    #[test]
    fn all_line_ends_and_a_missing_last_blank_line_are_accepted() {
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
    fn only_one_space_after_the_colon_is_dropped() {
        assert_eq!(text("data:  two\ndata:\tt\ndata"), "data:  two\ndata: \tt\ndata: \nid: 1\n\n");
    }

    #[test]
    fn comments_without_an_event_are_sent_with_the_next_one() {
        assert_eq!(text(": a\n\n: b\ndata: x\n\n: c"), ": a\n: b\ndata: x\nid: 1\n\n");
    }

    #[test]
    fn empty_ids_and_ids_with_a_nul_are_ignored() {
        assert_eq!(text("id\ndata: x"), "data: x\nid: 1\n\n");
        assert_eq!(text("id: a\nid: b\0\ndata: x"), "data: x\nid: a\n\n");
        assert_eq!(text("id: a\nid:\ndata: x"), "data: x\nid: 1\n\n");
    }

    #[test]
    fn a_whole_body_can_be_the_data_of_an_event() {
        let frames = frames_from_data("{\n}", Some("n"), Some("i")).unwrap();
        assert_eq!(wire(frames), "event: n\ndata: {\ndata: }\nid: i\n\n");
        assert_eq!(wire(frames_from_data("\u{feff}x\n", None, None).unwrap()), "data: x\ndata: \nid: 1\n\n");
        assert_eq!(frames_from_data("x", Some("a\nb"), None).unwrap_err(), EventError::Name);
    }

    #[test]
    fn defaults_fill_in_missing_names_and_ids() {
        let with_defaults = |body: &str| {
            let encoder = Encoder::of_text(body, 1, Some("n".into()), Some("i".into()));
            wire(encode(encoder, body))
        };
        assert_eq!(with_defaults("data: x"), "event: n\ndata: x\nid: i\n\n");
        assert_eq!(with_defaults("event: own\nid: own\ndata: x"), "event: own\ndata: x\nid: own\n\n");
        assert_eq!(with_defaults("event:\nid:\ndata: x"), "event: n\ndata: x\nid: i\n\n");
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

        /// An EventSource dispatches the same events for the stream as for the body itself. A body is refused if and only if a
        /// block has fields but no data, or no block has data.
        #[test]
        fn the_stream_has_the_events_that_a_naive_parser_finds_in_the_body(body in body()) {
            crate::fuzz::publish(format!("\0{body}").as_bytes());
        }

        /// The events don't depend on how the work is sliced, and their number is the one that was counted.
        #[test]
        fn slicing_does_not_change_the_result(body in body(), cost in 1..40_usize) {
            let (mut check, mut count) = (Check::new(&body), Ok(false));
            while count == Ok(false) {
                count = check.run(&body, &mut Slice::new(cost));
            }
            prop_assert_eq!(count.clone().map(|_| ()), frames_from_text(&body).map(|_| ()));
            if count.is_ok() {
                let mut encoder = Encoder::of_text(&body, check.events(), None, None);
                while !encoder.run(&body, &mut Slice::new(cost)) {}
                let frames = encoder.finish();
                prop_assert_eq!(frames.len(), check.events());
                prop_assert_eq!(wire(frames), text(&body));
            }
            let mut encoder = Encoder::of_data(&body, None, None);
            while !encoder.run(&body, &mut Slice::new(cost)) {}
            prop_assert_eq!(wire(encoder.finish()), wire(frames_from_data(&body, None, None).unwrap()));
        }
    }
}
