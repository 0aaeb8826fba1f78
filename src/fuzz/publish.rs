//! A publish's text, and a body that is the data. What an EventSource dispatches of the stream is what it would have
//! dispatched of the body; what goes out comes in again as it is; no frame grows while it is stamped.

use super::input::Input;
use super::naive::{dispatched, is_all_fields, unchunked};
use crate::sse::{
    Check, Encoder, Event, FieldScan, Framing, PublishError, Slice, UnsequencedFrame, drafts_from_data,
    drafts_from_text, position,
};

/// The first id that is given: one of the longest.
const FIRST_ID: u64 = 10_000_000_000_000_000_000;

/// See the module's page.
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

/// Whether text/plain would be refused as the text of events.
fn scan(body: &str) {
    let mut scan = FieldScan::new(body);
    let found = scan.run(body, &mut Slice::unlimited());
    assert_eq!(found, Some(is_all_fields(body)), "{body:?}");
}

fn as_text(body: &str, slice: usize) {
    let read = drafts_from_text(body);
    let (is_empty, is_dataless) = naive_refusal(body);
    let drafts = match read {
        Ok(drafts) => drafts,
        Err(PublishError::Empty) => return assert!(is_empty),
        Err(PublishError::NoData(found)) => return assert!(is_dataless && is_first_line(body, found.at, found.line)),
        Err(PublishError::Id(number, _)) => return assert!(has_bad_id(body) && number > 0),
        Err(PublishError::TooManyEvents) => return assert!(body.len() > 6 * 10_000),
    };
    assert!(!is_empty && !is_dataless);
    let mut check = Check::new(body);
    assert_eq!(check.run(body, &mut Slice::unlimited()), Ok(true));
    assert_eq!(check.events(), drafts.len(), "as many are counted as there are");
    let sent = dispatched(body);
    assert_eq!(drafts.len(), sent.len());
    let most = body.len() + 2 * body.matches(['\n', '\r']).count() + 3;
    let stream = wire(drafts, most);
    let mut encoder = Encoder::of_text(body, check.events(), None, None);
    while !encoder.run(body, &mut Slice::new(slice)) {}
    assert_eq!(wire(encoder.finish(), most), stream, "in slices");
    let got = dispatched(&format!(":\n{stream}"));
    for (number, (sent, got)) in sent.iter().zip(&got).enumerate() {
        assert_eq!((&sent.0, &sent.1), (&got.0, &got.1), "event {number}");
        assert!(!got.2.is_empty(), "every event has an id");
    }
    assert_eq!(got.len(), sent.len());
    // One byte order mark is dropped, and a line may begin with another.
    let again = drafts_from_text(&format!("\u{feff}{stream}")).expect("what went out can come in");
    assert_eq!(wire(again, 2 * stream.len()), stream);
}

/// Whether a body has no event, and whether it has one without data: by the contract, not by the code.
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

/// Whether a line with this number begins here.
fn is_first_line(body: &str, at: usize, number: usize) -> bool {
    let before = body[..at].replace("\r\n", "\n").replace('\r', "\n");
    let begins = before.is_empty() || before == "\u{feff}" || before.ends_with('\n');
    begins && before.matches('\n').count() + 1 == number
}

/// Whether some id could not come back in a header field.
fn has_bad_id(body: &str) -> bool {
    let ids = body.split(['\n', '\r']).filter_map(|line| line.strip_prefix("id:").or(line.strip_prefix("\u{feff}id:")));
    ids.into_iter().any(|id| id.len() > 4096 || id.bytes().any(|b| b.is_ascii_control() && b != b'\t'))
}

fn as_data(text: &str, choice: u8) {
    let mut parts = text.splitn(3, '\u{1f}');
    let (data, name, id) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let mut event = Event::new(data).retry_millis(choice.into());
    event.name = name.map(str::to_owned);
    event.id = id.map(str::to_owned);
    let Ok(drafts) = drafts_from_data(data, name, id) else {
        return assert!(event.draft().is_err());
    };
    let stream = wire(drafts, bound(data, name, id));
    let lines = data.strip_prefix('\u{feff}').unwrap_or(data).replace("\r\n", "\n").replace('\r', "\n");
    let name = name.unwrap_or_default().to_owned();
    let own = id.filter(|id| !position(id).is_empty());
    // The one space after the colon is stripped, and not one of the publisher's own.
    let id = own.map_or_else(|| FIRST_ID.to_string(), str::to_owned);
    assert_eq!(dispatched(&format!(":\n{stream}")), [(name.clone(), lines, id)]);
    let built = event.draft().expect("what can be a body can be an event");
    // A body may begin with a byte order mark, data that a program gives is data from its first byte.
    if !data.starts_with('\u{feff}') {
        let built = wire(vec![built], bound(data, Some(&name), own) + 32);
        assert_eq!(built.strip_prefix(&format!("retry: {choice}\n")), Some(&*stream));
    }
}

fn bound(data: &str, name: Option<&str>, id: Option<&str>) -> usize {
    let lines = data.matches(['\n', '\r']).count() + 1;
    data.len() + 7 * lines + name.map_or(0, |name| name.len() + 8) + id.map_or(0, |id| id.len() + 5)
}

/// The stream, of no more bytes than these, beside the broker's ids and blank lines.
fn wire(drafts: Vec<UnsequencedFrame>, most: usize) -> String {
    let (mut plain, mut chunked) = (String::new(), String::new());
    let most = most + drafts.len() * "id: 18446744073709551615\n\n".len();
    for (number, draft) in drafts.into_iter().enumerate() {
        let (cost, own) = (draft.cost(), draft.publisher_id().map(str::to_owned));
        let id = FIRST_ID + number as u64;
        let frame = draft.assign_id(id);
        assert_eq!(frame.cost(), cost, "stamping allocates nothing");
        assert_eq!((frame.publisher_id().map(|id| &**id), frame.id()), (own.as_deref(), id));
        plain.push_str(std::str::from_utf8(frame.wire(Framing::Plain)).expect("text stays text"));
        chunked.push_str(std::str::from_utf8(frame.wire(Framing::Chunked)).expect("text stays text"));
    }
    assert!(!plain.contains('\r') && plain.len() <= most, "{} bytes, and {most} at most", plain.len());
    assert_eq!(unchunked(&chunked), (plain.clone(), false));
    plain
}
