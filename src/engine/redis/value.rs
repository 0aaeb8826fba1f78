//! Reads answers of the server, which may contain anything.

use redis::Value;

use crate::engine::log::{Appended, Body, Entry, Erased, LogError, Peer, Pulse, Repetition, Revoked};
use crate::engine::queue::MAX_BATCH_EVENTS;
use crate::records::Record;
use crate::records::insert::InsertOutcome;

/// Returns the error for an answer that is not what was expected.
pub fn malformed(what: &str) -> LogError {
    LogError::Malformed(format!("{what} is not what was expected"))
}

/// Reads text. An integer counts as its decimal digits.
pub fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

/// Reads a list.
pub fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

/// Reads a list of exactly `N` texts.
pub fn texts<const N: usize>(value: Value) -> Option<[String; N]> {
    list(value)?.into_iter().map(text).collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// Reads an integer.
pub fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

/// Reads an id. None is larger than what a signed number holds, so that numbers near it don't overflow.
fn id_of(text: &str) -> Option<u64> {
    text.parse().ok().filter(|&id| id > 0 && id <= i64::MAX as u64)
}

/// Reads an id.
pub fn id(value: Value) -> Option<u64> {
    id_of(&text(value)?)
}

/// Reads the time, the newest id, the era and the bytes of records.
pub fn pulse([time, last, era, bytes]: &[String; 4]) -> Option<Pulse> {
    let (time, last, era) = (time.parse().ok()?, last.parse().ok()?, era.parse().ok()?);
    Some(Pulse { time, last, era, record_bytes: bytes.parse().ok()? })
}

/// Reads what brokers have told of themselves, ascending by broker. Leaves out what is malformed, and words that follow those
/// that this version knows.
pub fn peers(value: Value) -> Option<Vec<Peer>> {
    let mut told = list(value)?.into_iter();
    let mut peers = Vec::new();
    while let (Some(broker), Some(words)) = (told.next(), told.next()) {
        peers.extend(peer(broker, words));
    }
    peers.sort_unstable_by_key(|peer| peer.broker);
    Some(peers)
}

fn peer(broker: Value, words: Value) -> Option<Peer> {
    let (broker, words) = (text(broker)?, text(words)?);
    let broker = u64::from_str_radix(&broker, 16).ok()?;
    let mut words = words.split(' ').skip(1);
    let (format, subscribers) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Peer { broker, version: words.next()?.into(), format, subscribers })
}

/// Reads records, whose ids ascend, and before them whether what is missing was removed.
pub fn records(value: Value) -> Option<(Vec<Record>, bool)> {
    let mut values = list(value)?.into_iter();
    let has_all = text(values.next()?)? == "1";
    Some((read_records(values)?, has_all))
}

/// Reads the answer to an erasure.
pub fn erased(value: Value) -> Option<Erased> {
    let [versions, rest, entry, last] = texts(value)?;
    let optional = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    let (rest, entry) = (optional(&rest)?, optional(&entry)?);
    Some(Erased { versions: versions.parse().ok()?, rest, entry, last: last.parse().ok()? })
}

/// Reads how far a script has looked, if there was something to look at, and the records that it has found.
pub fn found(value: Value) -> Option<(Option<u64>, Vec<Record>)> {
    let mut values = list(value)?.into_iter();
    let seen = match text(values.next()?)?.as_str() {
        "" => None,
        seen => Some(id_of(seen)?),
    };
    Some((seen, read_records(values)?))
}

fn read_records(mut values: impl Iterator<Item = Value>) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while let Some(id) = values.next() {
        let (name, data) = (text(values.next()?)?, text(values.next()?)?);
        records.push(Record { id: self::id(id)?, name: name.into(), data: data.into() });
    }
    records.is_sorted_by(|one, next| one.id < next.id).then_some(records)
}

/// Reads the first id and the repetitions, as `index:original,…`.
pub fn appended(first: &str, repetitions: &str) -> Option<Appended> {
    let repetitions = items(repetitions).map(|item| {
        let (index, original) = item.split_once(':')?;
        Some(Repetition { index: index.parse().ok()?, original: id_of(original)? })
    });
    let repetitions = repetitions.collect::<Option<Vec<_>>>()?;
    let ascend = repetitions.is_sorted_by(|one, next| one.index < next.index);
    ascend.then_some(Appended { first: id_of(first)?, repetitions })
}

/// Reads what became of requests to insert records: nothing means that all were granted, as many as `all`, which are not more than
/// a batch has.
pub fn outcomes(first: &str, told: &str, all: usize) -> Option<Vec<InsertOutcome>> {
    let mut ids = id_of(first)?..;
    if told.is_empty() {
        if all > MAX_BATCH_EVENTS {
            return None;
        }
        return Some(ids.take(all).map(InsertOutcome::Stored).collect());
    }
    let outcome = |item: &str| match item.split_at_checked(1)? {
        ("s", "") => ids.next().map(InsertOutcome::Stored),
        ("r", id) => id_of(id).map(InsertOutcome::Repeated),
        ("k", "") => Some(InsertOutcome::KeyReused),
        ("c", "") => Some(InsertOutcome::Conflict(None)),
        ("c", id) => id_of(id).map(|id| InsertOutcome::Conflict(Some(id))),
        _ => None,
    };
    told.split(',').map(outcome).collect()
}

/// Reads revocations, whose times ascend. Those that this version does not understand have no text.
pub fn revoked(value: Value) -> Option<Vec<Revoked>> {
    let all = list(value)?.into_iter().map(one_revoked).collect::<Option<Vec<_>>>()?;
    all.is_sorted_by(|one, next| one.time < next.time).then_some(all)
}

fn one_revoked(value: Value) -> Option<Revoked> {
    let [id, fields] = <[Value; 2]>::try_from(list(value)?).ok()?;
    let time = id_of(text(id)?.strip_suffix("-0")?)?;
    let known = texts(fields).filter(|[first, _, second, _]| first == "t" && second == "c");
    let known = known.and_then(|[_, revoked, _, removed]| Some((revoked, removed.parse().ok()?)));
    let (text, removed_through) = known.unwrap_or_default();
    Some(Revoked { time, text: text.into(), removed_through })
}

/// Reads the answer to XREAD of one stream.
pub fn entries(value: Value) -> Option<Vec<Entry>> {
    if value == Value::Nil {
        return Some(Vec::new());
    }
    let [stream] = <[Value; 1]>::try_from(list(value)?).ok()?;
    let [_, entries] = <[Value; 2]>::try_from(list(stream)?).ok()?;
    list(entries)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let [id, fields] = <[Value; 2]>::try_from(list(value)?).ok()?;
    let text = text(id)?;
    let (first, second) = text.split_once('-')?;
    let id = id_of(first)?;
    let read = if second == "0" { read(id, fields) } else { None };
    let foreign =
        || Entry { id, previous: 0, token: "".into(), body: Body::Unknown("another program wrote it".into()) };
    Some(read.unwrap_or_else(foreign))
}

/// Reads the fields of an entry. `None` if they are not what this version writes.
fn read(id: u64, fields: Value) -> Option<Entry> {
    let mut read = Fields::default();
    let mut fields = list(fields)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        read.take(&text(name)?, value)?;
    }
    Some(Entry { id, previous: read.previous?, token: read.token.take()?, body: read.body(id)? })
}

/// The fields of an entry. Others are ignored, so that later versions may add some.
#[derive(Default)]
struct Fields {
    previous: Option<u64>,
    token: Option<Box<str>>,
    control: Option<String>,
    count: Option<usize>,
    blob: Option<Vec<u8>>,
    repetitions: Vec<usize>,
    records: Option<usize>,
    erased: Option<u64>,
}

impl Fields {
    fn take(&mut self, name: &str, value: Value) -> Option<()> {
        match (name, value) {
            ("b", Value::BulkString(blob)) => self.blob = Some(blob),
            ("p", value) => self.previous = Some(text(value)?.parse().ok()?),
            ("w", value) => self.token = Some(text(value)?.into()),
            ("c", value) => self.control = Some(text(value)?),
            ("i", value) => self.erased = Some(id(value)?),
            ("r", value) => self.records = Some(text(value)?.parse().ok()?),
            ("n", value) => self.count = Some(text(value)?.parse().ok()?),
            ("x", value) => self.repetitions = indices(&text(value)?)?,
            _ => {}
        }
        Some(())
    }

    fn body(self, id: u64) -> Option<Body> {
        match (self.control.as_deref(), self.records) {
            (None, None) => Some(Body::Events { count: self.count?, blob: self.blob?, repetitions: self.repetitions }),
            (None, Some(count)) => {
                let end = id.checked_add(count as u64)?;
                let is_read = count > 0 && end <= i64::MAX as u64 && self.blob.is_none();
                is_read.then_some(Body::Records(count))
            }
            (Some("created" | "loaded"), _) => Some(Body::Marker),
            (Some("lost"), _) => Some(Body::Lost),
            (Some("erased"), _) => self.erased.map(Body::Erased),
            (Some(other), _) => Some(Body::Unknown(format!("this version of Esker does not know {other:?}"))),
        }
    }
}

fn indices(value: &str) -> Option<Vec<usize>> {
    let indices = items(value).map(|index| index.parse().ok()).collect::<Option<Vec<usize>>>()?;
    indices.is_sorted_by(|one, next| one < next).then_some(indices)
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn stream(id: &str, fields: &[&str]) -> Value {
        let fields = Value::Array(fields.iter().map(|field| bulk(field)).collect());
        let entries = Value::Array(vec![Value::Array(vec![bulk(id), fields])]);
        Value::Array(vec![Value::Array(vec![bulk("log"), entries])])
    }

    #[test]
    fn an_entry_is_read() {
        let read =
            entries(stream("12-0", &["p", "9", "b", "blob", "n", "3", "w", "token", "x", "0,2", "new", "?"])).unwrap();
        let body = Body::Events { count: 3, blob: b"blob".to_vec(), repetitions: vec![0, 2] };
        assert_eq!(read, [Entry { id: 12, previous: 9, token: "token".into(), body }]);
        let read = entries(stream("12-0", &["p", "0", "c", "lost", "w", "token"])).unwrap();
        assert_eq!(read[0].body, Body::Lost);
        let read = entries(stream("12-0", &["p", "9", "r", "3", "w", "token"])).unwrap();
        assert_eq!(read, [Entry { id: 12, previous: 9, token: "token".into(), body: Body::Records(3) }]);
        let read = entries(stream("12-0", &["p", "9", "c", "erased", "i", "7", "w", "token"])).unwrap();
        assert_eq!(read[0].body, Body::Erased(7));
        assert_eq!(entries(Value::Nil), Some(Vec::new()));
    }

    #[test]
    fn entries_that_are_not_ours_are_not_understood() {
        let good: &[&str] = &["p", "9", "b", "blob", "n", "3", "w", "token"];
        let is_foreign = |id, fields| {
            let read = entries(stream(id, fields)).unwrap();
            matches!(&read[..], [Entry { id: 12, body: Body::Unknown(_), .. }])
        };
        assert!(!is_foreign("12-0", good) && is_foreign("12-1", good));
        for fields in [
            &["p", "1", "b", "blob", "n", "3"][..],
            &["p", "1", "b", "blob", "w", "t"],
            &["p", "1", "n", "x", "b", "", "w", "t"],
            &["p", "1", "c", "?", "w", "t"],
            &["p", "1", "c", "erased", "w", "t"],
            &["p", "1", "c", "erased", "i", "0", "w", "t"],
            &["c", "lost", "w", "t"],
            &["p", "1", "n", "1", "b", "", "w", "t", "x", "y"],
            &["p", "1", "r", "1"],
            &["r", "1", "w", "t"],
            &["p", "1", "r", "0", "w", "t"],
            &["p", "1", "r", "-1", "w", "t"],
            &["p", "1", "r", "9223372036854775807", "w", "t"],
            &["p", "1", "r", "18446744073709551615", "w", "t"],
            &["p", "1", "r", "1", "n", "1", "b", "", "w", "t"],
        ] {
            assert!(is_foreign("12-0", fields), "{fields:?}");
        }
    }

    #[test]
    fn other_answers_are_malformed() {
        let good: &[&str] = &["p", "9", "b", "blob", "n", "3", "w", "token"];
        for id in ["12", "x-0", "-0", "99999999999999999999999-0"] {
            assert_eq!(entries(stream(id, good)), None, "{id}");
        }
        for value in [Value::Int(1), Value::Okay, Value::Array(vec![]), Value::Array(vec![Value::Nil]), bulk("")] {
            assert_eq!(entries(value), None);
        }
    }

    #[test]
    fn repetitions_are_read() {
        let repetition = |index, original| Repetition { index, original };
        let expected = Appended { first: 9, repetitions: vec![repetition(0, 7), repetition(3, 8)] };
        assert_eq!(appended("9", "0:7,3:8"), Some(expected));
        assert_eq!(appended("9", ""), Some(Appended { first: 9, repetitions: Vec::new() }));
        for (first, repetitions) in [("", ""), ("-1", ""), ("9", "0"), ("9", "0:"), ("9", "0:7:8"), ("9", "-1:7")] {
            assert_eq!(appended(first, repetitions), None, "{first} {repetitions}");
        }
    }

    #[test]
    fn outcomes_of_inserts_are_read() {
        use InsertOutcome::{Conflict, KeyReused, Repeated, Stored};
        assert_eq!(outcomes("9", "", 2), Some(vec![Stored(9), Stored(10)]));
        let mixed = vec![Conflict(None), Stored(9), Repeated(7), KeyReused, Conflict(Some(9)), Stored(10)];
        assert_eq!(outcomes("9", "c,s,r7,k,c9,s", 6), Some(mixed));
        for (first, told) in [
            ("", "s"),
            ("0", "s"),
            ("9", "s,"),
            ("9", "x"),
            ("9", "r"),
            ("9", "s1"),
            ("9", "k1"),
            ("9", "é"),
            ("9", "c-"),
        ] {
            assert_eq!(outcomes(first, told, 1), None, "{first} {told}");
        }
    }

    fn bulks(texts: &[&str]) -> Value {
        Value::Array(texts.iter().map(|text| bulk(text)).collect())
    }

    #[test]
    fn records_are_read() {
        let record = |id, name: &str, data: &str| Record { id, name: name.into(), data: data.into() };
        let all = || vec![record(7, "a", "1"), record(9, "b", "")];
        assert_eq!(records(bulks(&["1", "7", "a", "1", "9", "b", ""])), Some((all(), true)));
        assert_eq!(found(bulks(&["8", "7", "a", "1", "9", "b", ""])), Some((Some(8), all())));
        assert_eq!((records(bulks(&["0"])), found(bulks(&[""]))), (Some((vec![], false)), Some((None, vec![]))));
        for malformed in [&["7"][..], &["7", "a"], &["x", "a", "1"], &["0", "a", "1"], &["7", "a", "1", "7", "a", "1"]]
        {
            assert_eq!(records(bulks(&[&["1"], malformed].concat())), None, "{malformed:?}");
            assert_eq!(found(bulks(&[&["8"], malformed].concat())), None, "{malformed:?}");
        }
        let binary = Value::Array(vec![bulk("1"), bulk("7"), bulk("a"), Value::BulkString(vec![0xFF])]);
        assert_eq!((records(binary), records(bulks(&[])), found(Value::Nil)), (None, None, None));
        assert_eq!((found(bulks(&[])), found(bulks(&["x"]))), (None, None));
    }

    #[test]
    fn brokers_are_read() {
        let peer = |broker, subscribers| Peer { broker, version: "0.1.0".into(), format: 2, subscribers };
        let told =
            bulks(&["00000000000000ff", "5 2 7 0.1.0", "1", "5 2 8 0.1.0 more", "x", "5 2 7 0.1.0", "2", "5 2 7"]);
        assert_eq!(peers(told), Some(vec![peer(1, 8), peer(255, 7)]));
        assert_eq!((peers(bulks(&[])), peers(bulks(&["1"])), peers(Value::Nil)), (Some(vec![]), Some(vec![]), None));
    }
}
