//! Streams whose position the store is asked for.

use super::*;

type Answer = fn(&mut Exchange, Context<'_>, &mut Vec<u8>) -> Step;

#[test]
fn a_stream_whose_position_is_looked_up_opens_whatever_the_store_says() {
    let service = service();
    service.hub.restore_records(vec![crate::sse::record_frame(&Arc::from("user"), "1", 9)]);
    let verified = RefCell::default();
    let context = context(&service, &verified);
    let ask = |position: &str, method: &str| {
        let text = format!("{method} /events HTTP/1.1\r\nHost: h\r\nLast-Event-ID: {position}\r\n\r\n");
        let (mut exchange, mut out) = (Exchange::default(), Vec::new());
        let (_, step) = exchange.advance(text.as_bytes(), context, &mut out);
        (exchange, out, step)
    };
    let answers: [Answer; 3] = [
        |exchange, context, out| exchange.open_after_lookup(true, context, out),
        |exchange, context, out| exchange.open_after_lookup(false, context, out),
        Exchange::time_out,
    ];
    for (answer, has_gap) in answers.into_iter().zip([false, true, true]) {
        let (mut exchange, mut out, step) = ask("5", "GET");
        assert!(matches!(step, Step::LookUp(5)) && out.is_empty(), "{step:?}");
        assert_eq!(exchange.patience(), TimeoutKind::Lookup);
        let Step::Stream(entry) = answer(&mut exchange, context, &mut out) else { panic!("a stream is opened") };
        assert_eq!((entry.joined.cursor, entry.joined.gap.is_some()), (if has_gap { 0 } else { 5 }, has_gap));
        assert_eq!(String::from_utf8(out).unwrap().contains("event: gap"), has_gap);
        assert!(
            matches!(exchange.open_after_lookup(true, context, &mut Vec::new()), Step::Read),
            "an answer that is late"
        );
        service.hub.abandon(0, &entry.joined);
    }
    for position in ["0", "9", "10", "nonsense"] {
        let Step::Stream(entry) = ask(position, "GET").2 else { panic!("memory has the answer") };
        service.hub.abandon(0, &entry.joined);
    }
    assert!(matches!(ask("5", "HEAD").2, Step::Answered));
}
