//! Fuzzes the check and the encoder of published bodies. An EventSource must dispatch the same events for the stream as for the
//! body, publishing the stream again must not change it, and assigning an id must not reallocate a frame.

use std::time::Duration;

use super::input::Input;
use super::naive::{dispatched, is_all_fields, unchunked};
use crate::sse::{
    Check, Encoder, Event, FieldScan, Framing, PublishError, Slice, UnsequencedFrame, frames_from_data,
    frames_from_text, position,
};

/// The first id that is assigned; it has the maximum length.
const FIRST_ID: u64 = 10_000_000_000_000_000_000;

/// Runs one input: a byte that chooses what to do, and the body.
pub fn publish(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.choice();
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    scan(text);
    match choice & 1 {
        0 => as_text(text, usize::from(choice >> 1) + 1),
        _ => as_data(text, choice),
    }
}

/// Compares the scan for SSE text in text/plain with a naive one.
fn scan(body: &str) {
    let mut scan = FieldScan::new(body);
    let found = scan.run(body, &mut Slice::unlimited());
    assert_eq!(found, Some(is_all_fields(body)), "{body:?}");
}

fn as_text(body: &str, slice: usize) {
    let read = frames_from_text(body);
    let (is_empty, is_dataless) = naive_refusal(body);
    let frames = match read {
        Ok(frames) => frames,
        Err(PublishError::Empty) => return assert!(is_empty),
        Err(PublishError::NoData(found)) => return assert!(is_dataless && is_first_line(body, found.at, found.line)),
        Err(PublishError::Id(number, _)) => return assert!(has_bad_id(body) && number > 0),
        Err(PublishError::TooManyEvents) => return assert!(body.len() > 6 * 10_000),
    };
    assert!(!is_empty && !is_dataless);
    let mut check = Check::new(body);
    assert_eq!(check.run(body, &mut Slice::unlimited()), Ok(true));
    assert_eq!(check.events(), frames.len(), "the check and the encoder count the same events");
    let sent = dispatched(body);
    assert_eq!(frames.len(), sent.len());
    let most = body.len() + 2 * body.matches(['\n', '\r']).count() + 3;
    let stream = wire(frames, most);
    let mut encoder = Encoder::of_text(body, check.events(), None, None);
    while !encoder.run(body, &mut Slice::new(slice)) {}
    assert_eq!(wire(encoder.finish(), most), stream, "in slices");
    let got = dispatched(&format!(":\n{stream}"));
    for (number, (sent, got)) in sent.iter().zip(&got).enumerate() {
        assert_eq!((&sent.0, &sent.1), (&got.0, &got.1), "event {number}");
        assert!(!got.2.is_empty(), "every event has an id");
    }
    assert_eq!(got.len(), sent.len());
    // One byte order mark is dropped, so that a line may begin with another one.
    let again = frames_from_text(&format!("\u{feff}{stream}")).expect("a stream can be published again");
    assert_eq!(wire(again, 2 * stream.len()), stream);
}

/// Returns whether a body has no event, and whether it has one without data, as the contract defines them.
fn naive_refusal(body: &str) -> (bool, bool) {
    let body = body.strip_prefix('\u{feff}').unwrap_or(body).replace("\r\n", "\n").replace('\r', "\n");
    let (mut fields, mut data, mut dataless, mut events) = (false, false, false, 0);
    for line in body.split('\n').chain([""]) {
        if line.is_empty() {
            dataless |= fields && !data;
            events += usize::from(data);
            (fields, data) = (false, false);
        } else if !line.starts_with(':') {
            fields = true;
            data |= line == "data" || line.starts_with("data:");
        }
    }
    (events == 0 && !dataless, dataless)
}

/// Returns whether the line with this number begins at this offset.
fn is_first_line(body: &str, at: usize, number: usize) -> bool {
    let before = body[..at].replace("\r\n", "\n").replace('\r', "\n");
    let begins = before.is_empty() || before == "\u{feff}" || before.ends_with('\n');
    begins && before.matches('\n').count() + 1 == number
}

/// Returns whether a client could not send one of the ids back in a header field.
fn has_bad_id(body: &str) -> bool {
    let ids = body.split(['\n', '\r']).filter_map(|line| line.strip_prefix("id:").or(line.strip_prefix("\u{feff}id:")));
    ids.into_iter().any(|id| id.len() > 4096 || id.bytes().any(|b| b.is_ascii_control() && b != b'\t'))
}

fn as_data(text: &str, choice: u8) {
    let mut parts = text.splitn(3, '\u{1f}');
    let (data, name, id) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let mut event = Event::new(data).retry(Duration::from_millis(choice.into()));
    event.name = name.map(str::to_owned);
    event.id = id.map(str::to_owned);
    let Ok(frames) = frames_from_data(data, name, id) else {
        return assert!(event.to_frame().is_err());
    };
    let stream = wire(frames, bound(data, name, id));
    let lines = data.strip_prefix('\u{feff}').unwrap_or(data).replace("\r\n", "\n").replace('\r', "\n");
    let name = name.unwrap_or_default().to_owned();
    let own = id.filter(|id| !position(id).is_empty());
    // Only the one space after the colon is dropped, not spaces of the id itself.
    let id = own.map_or_else(|| FIRST_ID.to_string(), str::to_owned);
    assert_eq!(dispatched(&format!(":\n{stream}")), [(name.clone(), lines, id)]);
    let built = event.to_frame().expect("valid data is a valid event");
    // A byte order mark is dropped from a body, but kept in the data of an `Event`.
    if !data.starts_with('\u{feff}') {
        let built = wire(vec![built], bound(data, Some(&name), own) + 32);
        assert_eq!(built.strip_prefix(&format!("retry: {choice}\n")), Some(&*stream));
    }
}

fn bound(data: &str, name: Option<&str>, id: Option<&str>) -> usize {
    let lines = data.matches(['\n', '\r']).count() + 1;
    data.len() + 7 * lines + name.map_or(0, |name| name.len() + 8) + id.map_or(0, |id| id.len() + 5)
}

/// Returns the stream of the frames. It must not be longer than `most`, excluding the broker's ids and blank lines.
fn wire(frames: Vec<UnsequencedFrame>, most: usize) -> String {
    let (mut plain, mut chunked) = (String::new(), String::new());
    let most = most + frames.len() * "id: 18446744073709551615\n\n".len();
    for (number, frame) in frames.into_iter().enumerate() {
        let (cost, own) = (frame.cost(), frame.publisher_id().map(str::to_owned));
        let id = FIRST_ID + number as u64;
        let frame = frame.assign_id(id);
        assert_eq!(frame.cost(), cost, "assigning an id does not allocate");
        assert_eq!((frame.publisher_id().map(|id| &**id), frame.id()), (own.as_deref(), id));
        plain.push_str(std::str::from_utf8(frame.wire(Framing::Plain)).expect("text stays text"));
        chunked.push_str(std::str::from_utf8(frame.wire(Framing::Chunked)).expect("text stays text"));
    }
    assert!(!plain.contains('\r') && plain.len() <= most, "{} bytes, and {most} at most", plain.len());
    assert_eq!(unchunked(&chunked), (plain.clone(), false));
    plain
}
