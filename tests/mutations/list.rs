//! The deliberate breakages: each is a small change as a real defect would be, in one file, of text that is there once.
//! Refuses to know how they are tried.

use Broken::{Contract, House, Store};

/// What a mutation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The invariant of `src/lib.rs` with this number.
    House(u8),
    /// The invariant of `src/store/mod.rs` with this number.
    Store(u8),
    /// What clients are promised.
    Contract(&'static str),
}

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    pub name: &'static str,
    pub breaks: Broken,
    /// Within `src`.
    pub file: &'static str,
    /// What is there, and what it becomes.
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
    // Ids grow, each feed ascends, a replica is complete.
    change(
        "stamp-without-next",
        House(1),
        "hub/mod.rs",
        &[("now_micros.max(self.last_id + 1)", "now_micros.max(self.last_id)")],
    ),
    change(
        "reserve-overlaps",
        House(1),
        "hub/records.rs",
        &[("state.last_id = first + count as u64 - 1;", "state.last_id = first;")],
    ),
    change(
        "start-without-mark",
        House(1),
        "broker/assembly.rs",
        &[("    clock.advance_ids(records.ids_through);\n", "")],
    ),
    change(
        "mark-of-records-alone",
        House(1),
        "store/mark.rs",
        &[("before: ceiling.max(newest_record)", "before: newest_record")],
    ),
    change(
        "close-notes-an-old-mark",
        House(1),
        "store/mark.rs",
        &[("let exact = newest.max(self.before);", "let exact = self.before;")],
    ),
    change(
        "inbox-after-serving",
        House(1),
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
        House(1),
        "hub/mod.rs",
        &[("is_first.then(|| window.frames().cloned().collect())", "is_first.then(Vec::new)")],
    ),
    change(
        "topics-out-of-order",
        House(1),
        "worker/replica.rs",
        &[("heads.min_by_key(|frame| frame.id())", "heads.last()")],
    ),
    // What is acknowledged is kept, and nothing is shown that is not on the disk.
    change(
        "answer-before-commit",
        House(2),
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
        "shown-before-commit",
        House(2),
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
        "fsync-not-turned-on-again",
        Store(1),
        "store/index.rs",
        &[("schema::set_sync(connection, Sync::Full)?;", "schema::set_sync(connection, Sync::Later)?;")],
    ),
    change(
        "yes-though-the-disk-is-full",
        Store(1),
        "store/writer.rs",
        &[(
            "(shortage)) => {\n                self.be_full(shortage);\n                Err(StoreError::Full(shortage))",
            "(shortage)) => {\n                self.be_full(shortage);\n                Ok(records.iter().map(|record| (1, schema::to_sql(record.id))).collect())",
        )],
    ),
    change(
        "names-not-forgotten",
        Store(1),
        "store/commit.rs",
        &[("    if written.is_err() {\n        names.forget(&added);\n    }\n", "")],
    ),
    // Every event after the cursor once, in order, or a gap.
    change(
        "notice-taken-twice",
        House(3),
        "worker/streams.rs",
        &[("if frame.id() > self.replica.feeds.get(slot).window.newest() {", "if frame.id() > 0 {")],
    ),
    change(
        "resume-without-gap",
        House(3),
        "hub/position.rs",
        &[("self.is_whole_after(earliest).then_some(Meaning::After(earliest))", "Some(Meaning::After(earliest))")],
    ),
    change(
        "foreign-id-read-as-its-own",
        House(3),
        "hub/position.rs",
        &[("own.into_iter().chain(given).min()?", "own.or(given)?")],
    ),
    change(
        "evicted-id-read-as-another-topics",
        House(3),
        "hub/retain.rs",
        &[("            self.evicted_ids.put(&topic.name, own);\n", "")],
    ),
    change(
        "record-position-judged-by-range",
        House(3),
        "hub/records.rs",
        &[("RecordStart::AfterStored(id),\n            _ => ", "RecordStart::After(id),\n            _ => ")],
    ),
    change(
        "lookup-not-heeded",
        House(3),
        "hub/records.rs",
        &[("Self::AfterStored(id) if exists => Self::After(id),", "Self::AfterStored(id) => Self::After(id),")],
    ),
    change(
        "gap-though-nothing-is-lost",
        House(3),
        "hub/position.rs",
        &[("feed.window.evicted_through() <= id", "feed.window.evicted_through() < id")],
    ),
    change(
        "gap-not-remembered",
        House(3),
        "worker/catch_up.rs",
        &[("..Absence::begin(windows().map(|window| window.evicted_through()), *cursor) }", "..Absence::default() }")],
    ),
    change(
        "cursor-beyond-a-short-write",
        House(3),
        "worker/serve.rs",
        &[(
            "                    break PassEnd::Departs(seated, Departure::Blocked(rest));",
            "                    subscriber.cursor = gathering.to;\n                    break PassEnd::Departs(seated, Departure::Blocked(rest));",
        )],
    ),
    change(
        "rest-forgets-its-first-part",
        House(3),
        "worker/subscriber.rs",
        &[("Self::Frame(frame, offset + written)", "Self::Frame(frame, offset.max(written))")],
    ),
    change(
        "rest-begins-a-byte-late",
        House(3),
        "worker/catch_up.rs",
        &[(
            "(Rest::Frame(Arc::clone(cut), offset), frames as u64 + 1)",
            "(Rest::Frame(Arc::clone(cut), offset + 1), frames as u64 + 1)",
        )],
    ),
    change(
        "frame-at-the-cursor-again",
        House(3),
        "hub/window.rs",
        &[("partition_point(|frame| frame.id() <= cursor)", "partition_point(|frame| frame.id() < cursor)")],
    ),
    change(
        "superseded-not-kept",
        House(3),
        "worker/replica.rs",
        &[(
            "        if let Some(superseded) = self.latest.push(frame) {
            self.superseded.insert(superseded.id(), superseded);
        }",
            "        self.latest.push(frame);",
        )],
    ),
    change(
        "worker-not-rung",
        House(3),
        "hub/mod.rs",
        &[(
            "for worker in heard.iter().filter(|&worker| Some(worker) != from) {",
            "for worker in heard.iter().filter(|&worker| Some(worker) == from) {",
        )],
    ),
    change(
        "answer-not-rung",
        House(3),
        "worker/talk.rs",
        &[("            service.hub.ring(worker);\n", "            let _ = &service;\n")],
    ),
    // Each turn is bounded and resumable.
    change(
        "reads-without-end",
        House(5),
        "worker/talk.rs",
        &[("for _ in 0..READS_PER_TURN {", "for _ in 0..READS_PER_TURN * 100 {")],
    ),
    change(
        "budget-ignored",
        House(5),
        "worker/serve.rs",
        &[("        budget - (slice - left)\n", "        let _ = left;\n        budget\n")],
    ),
    change("accepts-without-end", House(5), "worker/accept.rs", &[("for _ in 0..ACCEPTS_PER_TURN {", "loop {")]),
    change("turn-not-resumed", House(5), "worker/talk.rs", &[("            self.queue_of(key).push_back(key);\n", "")]),
    change(
        "slice-of-a-publish-not-resumed",
        House(5),
        "worker/talk.rs",
        &[("            Step::Work => {}\n", "            Step::Work => return GoesOn::WhenReady,\n")],
    ),
    change(
        "paused-pass-forgotten",
        House(5),
        "worker/serve.rs",
        &[("PassEnd::Paused => self.due.push_back(key),", "PassEnd::Paused => {}")],
    ),
    // Bounds have names and are kept.
    change(
        "history-without-count",
        House(6),
        "hub/retain.rs",
        &[("        while state.feeds.has_surplus(slot) {\n            state.evict(slot);\n        }\n", "")],
    ),
    change(
        "history-without-bytes",
        House(6),
        "hub/retain.rs",
        &[(
            "        while state.feeds.bytes() > self.limits.bytes {\n            self.evict_oldest(state, slot);\n        }\n",
            "",
        )],
    ),
    change(
        "one-connection-too-many",
        House(6),
        "worker/gate.rs",
        &[("        if open.load(Ordering::SeqCst) < max {", "        if open.load(Ordering::SeqCst) <= max {")],
    ),
    change("debt-never-settled", House(6), "worker/serve.rs", &[("            self.inbox.settle();\n", "")]),
    // Seated, hungry, blocked or gone.
    change(
        "room-not-asked-for",
        House(7),
        "worker/talk.rs",
        &[(
            "self.kernel.register_both(&mut socket, subscriber.token())",
            "self.kernel.register(&mut socket, subscriber.token())",
        )],
    ),
    change(
        "room-for-an-answer-not-asked-for",
        House(7),
        "worker/talk.rs",
        &[("kernel.register_both(&mut connection.socket,", "kernel.register(&mut connection.socket,")],
    ),
    change(
        "hungry-not-queued-again",
        House(7),
        "worker/catch_up.rs",
        &[("                    hungry.push_back(key);\n", "")],
    ),
    change(
        "room-ignored",
        House(7),
        "worker/streams.rs",
        &[(
            "        if self.absences.rouse(key) {\n            self.hungry.push_back(key);\n        }",
            "        self.absences.rouse(key);",
        )],
    ),
    change(
        "blocked-keeps-its-seat",
        House(7),
        "worker/serve.rs",
        &[(
            "    pub(super) fn block(&mut self, key: SubscriberKey, rest: Rest) {\n        self.give_up_seat(key);\n",
            "    pub(super) fn block(&mut self, key: SubscriberKey, rest: Rest) {\n",
        )],
    ),
    change(
        "readiness-ignored",
        House(7),
        "worker/events.rs",
        &[(
            "connection.is_readable |= seen.is_readable || seen.has_ended;",
            "connection.is_readable |= seen.has_ended;",
        )],
    ),
    change(
        "full-read-taken-for-the-last",
        House(7),
        "worker/connection.rs",
        &[("self.is_readable = count == buffer.len() || self.has_ended;", "self.is_readable = self.has_ended;")],
    ),
    // Accepting goes on by itself.
    change(
        "door-stays-shut",
        House(8),
        "worker/accept.rs",
        &[(
            "shut.for_each(|entrance| entrance.state = Accepting::More);",
            "shut.for_each(|entrance| entrance.state = Accepting::Drained);",
        )],
    ),
    change(
        "place-not-given-back",
        House(8),
        "worker/gate.rs",
        &[("        self.places(scope).0.fetch_sub(1, Ordering::SeqCst);\n", "        let _ = scope;\n")],
    ),
    change(
        "nobody-told-of-a-place",
        House(8),
        "worker/gate.rs",
        &[(
            "self.is_shut.load(Ordering::SeqCst) && self.is_shut.swap(false, Ordering::SeqCst)",
            "self.is_shut.load(Ordering::SeqCst) && !self.is_shut.swap(true, Ordering::SeqCst)",
        )],
    ),
    // Tokens and payloads never reach a log.
    change(
        "token-in-the-log",
        House(9),
        "worker/exchange.rs",
        &[(
            "            Ok(Parsed::Complete(head, len)) => {\n",
            "            Ok(Parsed::Complete(head, len)) => {\n                log::debug!(\"a request: {}\", bytes.escape_ascii());\n",
        )],
    ),
    change(
        "payload-in-the-log",
        House(9),
        "store/writer.rs",
        &[(
            "        self.index.add(versions);\n",
            "        self.index.add(versions);\n        log::trace!(\"stored {records:?}\");\n",
        )],
    ),
    // The index is complete up to its mark, and says nothing of its own.
    change(
        "index-marked-before-it-is-whole",
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
        "goes-on-after-a-failed-commit",
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
        "failed-ids-given-again",
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
        "worker/streams.rs",
        &[("self.expiries.put(key, expires);", "self.expiries.put(key, None);")],
    ),
    change(
        "token-expires-early",
        Contract("A stream ends when its token expires"),
        "worker/expiries.rs",
        &[("            if second > now {", "            if second > now + 1 {")],
    ),
    change(
        "drain-forgets-what-is-owed",
        Contract("Whatever was accepted is delivered before the end"),
        "worker/keep.rs",
        &[("            && !self.streams.has_work()\n", "")],
    ),
    change(
        "drain-before-the-inserts",
        Contract("Whatever was accepted is delivered before the end"),
        "worker/keep.rs",
        &[("!self.parts.service.is_inserting()\n            && ", "")],
    ),
    change(
        "publish-taken-in-a-drain",
        Contract("Whatever was accepted is delivered before the end"),
        "api/publish.rs",
        &[(
            "    if context.service.is_draining() {",
            "    if context.service.is_draining() && context.now.millis == 0 {",
        )],
    ),
];
