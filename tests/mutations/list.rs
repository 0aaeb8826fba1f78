//! The mutations: each changes a piece of text that occurs once in a file, as a real defect might. Independent of how they are
//! tried.

use Broken::{Broker, Contract, Store};

/// What a mutation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The invariant of `src/lib.rs` with this number.
    Broker(u8),
    /// The invariant of `src/store/mod.rs` with this number.
    Store(u8),
    /// A promise to clients.
    Contract(&'static str),
}

/// A defect to put into the sources.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    pub name: &'static str,
    pub breaks: Broken,
    /// The path below `src`.
    pub file: &'static str,
    /// Pieces of source text, each with its replacement.
    pub edits: &'static [(&'static str, &'static str)],
}

const fn change(
    name: &'static str,
    breaks: Broken,
    file: &'static str,
    edits: &'static [(&'static str, &'static str)],
) -> Mutation {
    Mutation { name, breaks, file, edits }
}

pub const MUTATIONS: &[Mutation] = &[
    // Ids increase, each feed ascends, each replica is complete.
    change(
        "id-without-increment",
        Broker(1),
        "hub/mod.rs",
        &[("now_micros.max(self.last_id + 1)", "now_micros.max(self.last_id)")],
    ),
    change(
        "reserved-ids-overlap",
        Broker(1),
        "hub/records.rs",
        &[("state.last_id = first + count as u64 - 1;", "state.last_id = first;")],
    ),
    change(
        "start-ignores-high-water-mark",
        Broker(1),
        "broker/builder.rs",
        &[("    clock.advance_ids(records.ids_through);\n", "")],
    ),
    change(
        "high-water-mark-of-records-only",
        Broker(1),
        "store/high_water_mark.rs",
        &[("before: ceiling.max(newest_record)", "before: newest_record")],
    ),
    change(
        "close-writes-an-old-mark",
        Broker(1),
        "store/high_water_mark.rs",
        &[("let exact = newest.max(self.before);", "let exact = self.before;")],
    ),
    change(
        "inbox-after-serving",
        Broker(1),
        "worker/mod.rs",
        &[
            ("        self.streams.take_inbox();\n", ""),
            (
                "        self.sweep();\n        self.drain();",
                "        self.streams.take_inbox();\n        self.sweep();\n        self.drain();",
            ),
        ],
    ),
    change(
        "join-without-backlog",
        Broker(1),
        "hub/mod.rs",
        &[("is_first.then(|| window.frames().cloned().collect())", "is_first.then(Vec::new)")],
    ),
    change(
        "topics-out-of-order",
        Broker(1),
        "stream/replica.rs",
        &[("heads.min_by_key(|frame| frame.id())", "heads.last()")],
    ),
    // Everything acknowledged is kept, and only records on the disk are delivered.
    change(
        "reply-before-commit",
        Broker(2),
        "store/writer.rs",
        &[(
            "        match self.commit(&mut records) {
            Ok(versions) => self.tell(records, replies, &versions),
            Err(error) => replies.into_iter().for_each(|reply| reply.send(Err(error))),
        }",
            "        for (reply, record) in replies.into_iter().zip(&records) {
            reply.send(Ok(record.id));
        }
        if let Ok(versions) = self.commit(&mut records) {
            self.tell(records, Vec::new(), &versions);
        }",
        )],
    ),
    change(
        "delivered-before-commit",
        Broker(2),
        "store/writer.rs",
        &[
            (
                "        match self.commit(&mut records) {",
                "        self.order.publish(records.clone());\n        match self.commit(&mut records) {",
            ),
            (
                "Ok(versions) => self.tell(records, replies, &versions)",
                "Ok(versions) => self.tell(Vec::new(), replies, &versions)",
            ),
        ],
    ),
    change(
        "commit-without-fsync",
        Store(1),
        "store/schema.rs",
        &[("Sync::Full => \"FULL\"", "Sync::Full => \"NORMAL\"")],
    ),
    change(
        "fsync-not-reenabled",
        Store(1),
        "store/index.rs",
        &[("schema::set_sync(connection, Sync::Full)?;", "schema::set_sync(connection, Sync::Later)?;")],
    ),
    change(
        "success-though-the-disk-is-full",
        Store(1),
        "store/writer.rs",
        &[(
            "(shortage)) => {\n                self.be_full(shortage);\n                Err(StoreError::Full(shortage))",
            "(shortage)) => {\n                self.be_full(shortage);\n                Ok(records.iter().map(|record| (1, schema::to_sql(record.id))).collect())",
        )],
    ),
    change(
        "names-not-removed",
        Store(1),
        "store/commit.rs",
        &[("    if written.is_err() {\n        names.forget(&added);\n    }\n", "")],
    ),
    // Every event after the cursor once, in order, or a gap.
    change(
        "delivery-taken-twice",
        Broker(3),
        "stream/mod.rs",
        &[("if frame.id() > self.replica.feeds.get(slot).window.newest() {", "if frame.id() > 0 {")],
    ),
    change(
        "resume-without-gap",
        Broker(3),
        "hub/position.rs",
        &[("self.is_whole_after(earliest).then_some(Meaning::After(earliest))", "Some(Meaning::After(earliest))")],
    ),
    change(
        "brokers-id-read-as-own-id",
        Broker(3),
        "hub/position.rs",
        &[("own.into_iter().chain(given).min()?", "own.or(given)?")],
    ),
    change(
        "evicted-own-id-not-remembered",
        Broker(3),
        "hub/retain.rs",
        &[("            self.evicted_ids.put(&topic.name, own);\n", "")],
    ),
    change(
        "record-position-judged-by-range",
        Broker(3),
        "hub/records.rs",
        &[("RecordStart::AfterStored(id),\n            _ => ", "RecordStart::After(id),\n            _ => ")],
    ),
    change(
        "lookup-result-ignored",
        Broker(3),
        "hub/records.rs",
        &[("Self::AfterStored(id) if exists => Self::After(id),", "Self::AfterStored(id) => Self::After(id),")],
    ),
    change(
        "gap-without-a-loss",
        Broker(3),
        "hub/position.rs",
        &[("feed.window.evicted_through() <= id", "feed.window.evicted_through() < id")],
    ),
    change(
        "gap-not-remembered",
        Broker(3),
        "stream/catch_up.rs",
        &[("..Backlog::begin(windows().map(|window| window.evicted_through()), *cursor) }", "..Backlog::default() }")],
    ),
    change(
        "cursor-beyond-a-short-write",
        Broker(3),
        "stream/fanout.rs",
        &[(
            "                    break PassEnd::Departs(seated, Departure::Blocked(rest));",
            "                    subscriber.cursor = gathering.to;\n                    break PassEnd::Departs(seated, Departure::Blocked(rest));",
        )],
    ),
    change(
        "partial-write-forgets-its-offset",
        Broker(3),
        "stream/subscriber.rs",
        &[("Self::Frame(frame, offset + written)", "Self::Frame(frame, offset.max(written))")],
    ),
    change(
        "partial-write-one-byte-late",
        Broker(3),
        "stream/catch_up.rs",
        &[(
            "(PartialWrite::Frame(Arc::clone(cut), offset), frames as u64 + 1)",
            "(PartialWrite::Frame(Arc::clone(cut), offset + 1), frames as u64 + 1)",
        )],
    ),
    change(
        "frame-at-the-cursor-resent",
        Broker(3),
        "hub/window.rs",
        &[("partition_point(|frame| frame.id() <= cursor)", "partition_point(|frame| frame.id() < cursor)")],
    ),
    change(
        "superseded-frame-dropped",
        Broker(3),
        "stream/replica.rs",
        &[(
            "        if let Some(superseded) = self.latest.push(frame) {
            self.superseded.insert(superseded.id(), superseded);
        }",
            "        self.latest.push(frame);",
        )],
    ),
    change(
        "worker-not-woken",
        Broker(3),
        "hub/mod.rs",
        &[(
            "for worker in heard.iter().filter(|&worker| Some(worker) != from) {",
            "for worker in heard.iter().filter(|&worker| Some(worker) == from) {",
        )],
    ),
    change(
        "store-reply-without-wakeup",
        Broker(3),
        "worker/driver.rs",
        &[("            service.hub.ring(worker);\n", "            let _ = &service;\n")],
    ),
    // Each loop iteration is bounded and resumable.
    change(
        "reads-without-end",
        Broker(5),
        "worker/driver.rs",
        &[("for _ in 0..READS_PER_ITERATION {", "for _ in 0..READS_PER_ITERATION * 100 {")],
    ),
    change(
        "budget-ignored",
        Broker(5),
        "stream/fanout.rs",
        &[("        budget - (slice - left)\n", "        let _ = left;\n        budget\n")],
    ),
    change("accepts-without-end", Broker(5), "net/acceptor.rs", &[("for _ in 0..ACCEPTS_PER_ITERATION {", "loop {")]),
    change(
        "iteration-not-resumed",
        Broker(5),
        "worker/driver.rs",
        &[("            self.queue_of(key).push_back(key);\n", "")],
    ),
    change(
        "publish-slice-not-resumed",
        Broker(5),
        "worker/driver.rs",
        &[("            Step::Work => {}\n", "            Step::Work => return GoesOn::WhenReady,\n")],
    ),
    change(
        "paused-pass-forgotten",
        Broker(5),
        "stream/fanout.rs",
        &[("PassEnd::Paused => self.due.push_back(key),", "PassEnd::Paused => {}")],
    ),
    // Bounds are named and enforced.
    change(
        "history-without-count",
        Broker(6),
        "hub/retain.rs",
        &[("        while state.feeds.has_surplus(slot) {\n            state.evict(slot);\n        }\n", "")],
    ),
    change(
        "history-without-bytes",
        Broker(6),
        "hub/retain.rs",
        &[(
            "        while state.feeds.bytes() > self.limits.bytes {\n            self.evict_oldest(state, slot);\n        }\n",
            "",
        )],
    ),
    change(
        "one-connection-too-many",
        Broker(6),
        "net/connection_limiter.rs",
        &[("        if open.load(Ordering::SeqCst) < max {", "        if open.load(Ordering::SeqCst) <= max {")],
    ),
    change(
        "in-flight-never-acknowledged",
        Broker(6),
        "stream/fanout.rs",
        &[("            self.inbox.settle();\n", "")],
    ),
    // After a write, a socket is drained, blocked, requeued or gone.
    change(
        "subscriber-not-registered-for-writing",
        Broker(7),
        "worker/driver.rs",
        &[(
            "self.kernel.register_both(&mut socket, subscriber.token())",
            "self.kernel.register(&mut socket, subscriber.token())",
        )],
    ),
    change(
        "response-not-registered-for-writing",
        Broker(7),
        "worker/driver.rs",
        &[("kernel.register_both(&mut connection.socket,", "kernel.register(&mut connection.socket,")],
    ),
    change(
        "catch-up-not-requeued",
        Broker(7),
        "stream/catch_up.rs",
        &[("                    hungry.push_back(key);\n", "")],
    ),
    change(
        "writability-ignored",
        Broker(7),
        "stream/mod.rs",
        &[(
            "        if self.absences.rouse(key) {\n            self.hungry.push_back(key);\n        }",
            "        self.absences.rouse(key);",
        )],
    ),
    change(
        "blocked-stays-in-ready-set",
        Broker(7),
        "stream/fanout.rs",
        &[(
            "    pub(super) fn block(&mut self, key: SubscriberKey, rest: PartialWrite) {\n        self.give_up_seat(key);\n",
            "    pub(super) fn block(&mut self, key: SubscriberKey, rest: PartialWrite) {\n",
        )],
    ),
    change(
        "readiness-ignored",
        Broker(7),
        "worker/events.rs",
        &[(
            "connection.is_readable |= seen.is_readable || seen.has_ended;",
            "connection.is_readable |= seen.has_ended;",
        )],
    ),
    change(
        "full-read-taken-as-last",
        Broker(7),
        "conn/connection.rs",
        &[("self.is_readable = count == buffer.len() || self.has_ended;", "self.is_readable = self.has_ended;")],
    ),
    // Accepting resumes by itself.
    change(
        "listener-stays-paused",
        Broker(8),
        "net/acceptor.rs",
        &[(
            "shut.for_each(|entrance| entrance.state = Accepting::More);",
            "shut.for_each(|entrance| entrance.state = Accepting::Drained);",
        )],
    ),
    change(
        "connection-slot-not-released",
        Broker(8),
        "net/connection_limiter.rs",
        &[("        self.places(scope).0.fetch_sub(1, Ordering::SeqCst);\n", "        let _ = scope;\n")],
    ),
    change(
        "waiting-listener-not-woken",
        Broker(8),
        "net/connection_limiter.rs",
        &[(
            "self.is_shut.load(Ordering::SeqCst) && self.is_shut.swap(false, Ordering::SeqCst)",
            "self.is_shut.load(Ordering::SeqCst) && !self.is_shut.swap(true, Ordering::SeqCst)",
        )],
    ),
    // Tokens and payloads never reach a log.
    change(
        "token-in-the-log",
        Broker(9),
        "conn/exchange.rs",
        &[(
            "            Ok(Parsed::Complete(head, len)) => {\n",
            "            Ok(Parsed::Complete(head, len)) => {\n                log::debug!(\"a request: {}\", bytes.escape_ascii());\n",
        )],
    ),
    change(
        "payload-in-the-log",
        Broker(9),
        "store/writer.rs",
        &[(
            "        self.index.add(versions);\n",
            "        self.index.add(versions);\n        log::trace!(\"stored {records:?}\");\n",
        )],
    ),
    // The index is complete up to its mark, and derived from the records only.
    change(
        "index-marked-before-complete",
        Store(2),
        "store/index.rs",
        &[(
            "        if done == self.versions.len() {\n            schema::set_meta",
            "        if done > 0 {\n            schema::set_meta",
        )],
    ),
    change(
        "index-forgets-the-last-run",
        Store(2),
        "store/opening.rs",
        &[("index: Index::new(found.unindexed)", "index: Index::new(Vec::new())")],
    ),
    // After a failure nothing more is written, and the opening moves the log.
    change(
        "continues-after-a-failed-commit",
        Store(3),
        "store/writer.rs",
        &[(
            "                self.shared.fail(\"a commit\", &error);\n                Err(StoreError::Failed)",
            "                log::error!(\"a commit: {error}\");\n                Err(StoreError::Failed)",
        )],
    ),
    change(
        "opens-without-moving-the-log",
        Store(3),
        "store/opening.rs",
        &[("if keeper::empty(&writer)? { Ok(writer) } else { Err(Cause::InUse) }", "Ok(writer)")],
    ),
    // An id of an insert that failed is never given again.
    change(
        "failed-ids-reused",
        Store(4),
        "hub/records.rs",
        &[
            ("        state.last_id = first + count as u64 - 1;\n", ""),
            (
                "        let records = &mut state.records;\n        for frame in frames {",
                "        state.last_id = frames.iter().fold(state.last_id, |last, frame| last.max(frame.id()));\n        let records = &mut state.records;\n        for frame in frames {",
            ),
        ],
    ),
    // Streams end with their token, and a drain delivers first.
    change(
        "token-never-expires",
        Contract("A stream ends when its token expires"),
        "stream/mod.rs",
        &[("self.expiries.put(key, expires);", "self.expiries.put(key, None);")],
    ),
    change(
        "token-expires-early",
        Contract("A stream ends when its token expires"),
        "stream/expiry.rs",
        &[("            if second > now {", "            if second > now + 1 {")],
    ),
    change(
        "drain-drops-pending-events",
        Contract("Whatever was accepted is delivered before the end"),
        "worker/housekeeping.rs",
        &[("            && !self.streams.has_work()\n", "")],
    ),
    change(
        "drain-before-the-inserts",
        Contract("Whatever was accepted is delivered before the end"),
        "worker/housekeeping.rs",
        &[("!self.parts.service.is_inserting()\n            && ", "")],
    ),
    change(
        "publish-accepted-in-a-drain",
        Contract("Whatever was accepted is delivered before the end"),
        "api/publish.rs",
        &[(
            "    if context.service.is_draining() {",
            "    if context.service.is_draining() && context.now.millis == 0 {",
        )],
    ),
];
