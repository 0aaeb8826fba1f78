//! Streams of records whose position the store is asked for.

use super::*;
use crate::api::subscribe::LookupReply;

type Reply = fn(&mut Exchange, Context<'_>, &mut Vec<u8>) -> Step;

#[test]
fn a_stream_opens_whatever_the_store_replies_about_its_position() {
    service::with(false, 1, |service| {
        service.hub.reset_records(vec![crate::records::Record::shared("user", "1", 9)]);
        let tokens = RefCell::default();
        let context = context(service, &tokens);
        let request = |position: &str, method: &str| {
            let text = format!("{method} /events HTTP/1.1\r\nHost: h\r\nLast-Event-ID: {position}\r\n\r\n");
            let (mut exchange, mut out) = (Exchange::default(), Vec::new());
            let (_, step) = exchange.advance(text.as_bytes(), context, &mut out);
            (exchange, out, step)
        };
        let replies: [Reply; 3] = [
            |exchange, context, out| exchange.open_after_lookup(LookupReply::Found, context, out),
            |exchange, context, out| exchange.open_after_lookup(LookupReply::Missing, context, out),
            Exchange::time_out,
        ];
        for (reply, has_gap) in replies.into_iter().zip([false, true, true]) {
            let (mut exchange, mut out, step) = request("5", "GET");
            assert!(matches!(step, Step::LookUp(Lookup::Record(5))) && out.is_empty(), "{step:?}");
            assert_eq!(exchange.awaited(), TimeoutKind::Lookup);
            let Step::Stream(stream) = reply(&mut exchange, context, &mut out) else { panic!("a stream opens") };
            let joined = &stream.joined;
            assert_eq!((joined.cursor, joined.gap.is_some()), (if has_gap { 0 } else { 5 }, has_gap));
            assert_eq!(String::from_utf8(out).unwrap().contains("event: gap"), has_gap);
            let late = exchange.open_after_lookup(LookupReply::Found, context, &mut Vec::new());
            assert!(matches!(late, Step::Read), "a late reply is ignored");
            service.hub.abandon(0, joined);
        }
        for position in ["0", "9", "10", "nonsense"] {
            let Step::Stream(stream) = request(position, "GET").2 else { panic!("memory has the position") };
            service.hub.abandon(0, &stream.joined);
        }
        assert!(matches!(request("5", "HEAD").2, Step::Responded));
    });
}
