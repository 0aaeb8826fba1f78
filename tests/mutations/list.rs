//! The mutations: small, realistic defects. Each changes one source file, by replacing text that occurs there exactly once.
//! Independent of how they are tried.

use Broken::{Contract, Invariant, Store};

/// Something that a mutation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The invariant of `ARCHITECTURE.md` with this number.
    Invariant(u8),
    /// The invariant of `src/store/mod.rs` with this number.
    Store(u8),
    /// The rule of `src/engine/mod.rs` with this number.
    Engine(u8),
    /// What clients are promised.
    Contract(&'static str),
}

/// The simulations that must notice a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Of one broker.
    Broker,
    /// Of several brokers with one log.
    Cluster,
}

/// A defect that a simulation must notice.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    pub name: &'static str,
    pub suite: Suite,
    pub breaks: &'static [Broken],
    /// The path within `src`.
    pub file: &'static str,
    /// Pairs of original text and replacement.
    pub edits: &'static [(&'static str, &'static str)],
}

const fn change(
    name: &'static str,
    breaks: &'static [Broken],
    file: &'static str,
    edits: &'static [(&'static str, &'static str)],
) -> Mutation {
    Mutation { name, suite: Suite::Broker, breaks, file, edits }
}

pub const MUTATIONS: &[Mutation] = &[
    // Ids grow, every feed ascends, and a replica is complete.
    change(
        "id-without-increment",
        &[Invariant(1)],
        "ids/local.rs",
        &[("let id = now_micros.max(self.newest + 1);", "let id = now_micros.max(self.newest);")],
    ),
    change(
        "reserved-ids-overlap",
        &[Invariant(1)],
        "ids/local.rs",
        &[("self.newest = first + count as u64 - 1;", "self.newest = first;")],
    ),
    change(
        "start-ignores-the-mark",
        &[Invariant(1)],
        "broker/builder.rs",
        &[("    clock.advance_ids(records.as_ref().map_or(0, |records| records.ids_through));\n", "")],
    ),
    change(
        "mark-from-records-only",
        &[Invariant(1)],
        "ids/high_water_mark.rs",
        &[("earlier_runs_through: ceiling.max(newest_record)", "earlier_runs_through: newest_record")],
    ),
    change(
        "close-writes-an-old-mark",
        &[Invariant(1)],
        "ids/high_water_mark.rs",
        &[("let exact = newest.max(self.earlier_runs_through);", "let exact = self.earlier_runs_through;")],
    ),
    change(
        "inbox-taken-after-serving",
        &[Invariant(1)],
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
        &[Invariant(1)],
        "hub/join.rs",
        &[("is_first.then(|| window.after(lost_through).cloned().collect())", "is_first.then(Vec::new)")],
    ),
    change(
        "topics-merged-out-of-order",
        &[Invariant(1)],
        "stream/replica.rs",
        &[("heads.min_by_key(|frame| frame.id())", "heads.last()")],
    ),
    // What is acknowledged is kept, and no record is shown before it is on the disk.
    change(
        "response-without-commit",
        &[Invariant(2)],
        "store/writer.rs",
        &[(
            "        self.commit(&mut records, &keys)?;
        self.publish(records);",
            "        if self.commit(&mut records, &keys).is_ok() {
            self.publish(records);
        }",
        )],
    ),
    change(
        "published-before-commit",
        &[Invariant(2)],
        "store/writer.rs",
        &[(
            "        self.commit(&mut records, &keys)?;
        self.publish(records);",
            "        self.publish(records.clone());
        self.commit(&mut records, &keys)?;",
        )],
    ),
    change(
        "commit-without-fsync",
        &[Store(1)],
        "store/tables/schema.rs",
        &[("Sync::Full => \"FULL\"", "Sync::Full => \"NORMAL\"")],
    ),
    change(
        "fsync-not-restored",
        &[Store(1)],
        "store/tables/schema.rs",
        &[("    set_sync(connection, Sync::Full)?;", "    set_sync(connection, Sync::Normal)?;")],
    ),
    change(
        "full-disk-reports-success",
        &[Store(1)],
        "store/writer.rs",
        &[(
            "(shortage)) => {\n                self.set_full(shortage);\n                Err(StoreError::Full(shortage))",
            "(shortage)) => {\n                self.set_full(shortage);\n                Ok(())",
        )],
    ),
    change(
        "failed-names-kept",
        &[Store(1)],
        "store/tables/commit.rs",
        &[("    if written.is_err() {\n        names.forget(&added);\n    }\n", "")],
    ),
    // A subscriber gets every event after its cursor once and in order, or a gap.
    change(
        "delivery-taken-twice",
        &[Invariant(3)],
        "stream/replica.rs",
        &[("if frame.id() <= self.feeds.get(slot).window.newest() {", "if frame.id() == 0 {")],
    ),
    change(
        "resume-without-gap",
        &[Invariant(3)],
        "hub/position.rs",
        &[("self.is_complete_after(earliest).then_some(Meaning::After(earliest))", "Some(Meaning::After(earliest))")],
    ),
    change(
        "publisher-id-hides-broker-id",
        &[Invariant(3)],
        "hub/position.rs",
        &[("by_publisher_id.into_iter().chain(by_broker_id).min()?", "by_publisher_id.or(by_broker_id)?")],
    ),
    change(
        "evicted-publisher-id-forgotten",
        &[Invariant(3)],
        "hub/retain.rs",
        &[("            self.evicted_ids.insert(&topic.name, publisher_id);\n", "")],
    ),
    change(
        "record-position-not-looked-up",
        &[Invariant(3)],
        "hub/records/mod.rs",
        &[("RecordStart::AfterStored(id),\n            _ => ", "RecordStart::After(id),\n            _ => ")],
    ),
    change(
        "lookup-ignored",
        &[Invariant(3)],
        "hub/records/mod.rs",
        &[("Self::AfterStored(id) if exists => Self::After(id),", "Self::AfterStored(id) => Self::After(id),")],
    ),
    change(
        "gap-without-loss",
        &[Invariant(3)],
        "hub/position.rs",
        &[("feed.window.evicted_through() <= id", "feed.window.evicted_through() < id")],
    ),
    change(
        "reported-gap-forgotten",
        &[Invariant(3)],
        "stream/catch_up.rs",
        &[(
            "let reported = SendState::with_reported(evicted_through, cursor).reported;",
            "let _ = evicted_through;\n    let reported = Box::default();",
        )],
    ),
    change(
        "cursor-beyond-a-short-write",
        &[Invariant(3)],
        "stream/fanout.rs",
        &[("subscriber.advance_to(remainder.cursor);", "subscriber.advance_to(batch.to());")],
    ),
    change(
        "partial-write-offset-lost",
        &[Invariant(3)],
        "stream/subscriber/partial_write.rs",
        &[("Self::Frame(frame, offset + written)", "Self::Frame(frame, offset.max(written))")],
    ),
    change(
        "partial-write-skips-a-byte",
        &[Invariant(3)],
        "stream/write_batch.rs",
        &[("PartialWrite::Frame(Arc::clone(frame), offset)", "PartialWrite::Frame(Arc::clone(frame), offset + 1)")],
    ),
    change(
        "frame-at-the-cursor-repeated",
        &[Invariant(3)],
        "hub/window.rs",
        &[("partition_point(|frame| frame.id() <= cursor)", "partition_point(|frame| frame.id() < cursor)")],
    ),
    change(
        "superseded-record-dropped",
        &[Invariant(3)],
        "stream/records.rs",
        &[(
            "        self.live.insert(frame.id(), frame);",
            "        self.live.retain(|_, older| older.name() != frame.name());
        self.live.insert(frame.id(), frame);",
        )],
    ),
    change(
        "worker-not-woken",
        &[Invariant(3)],
        "hub/publish.rs",
        &[(
            "for worker in workers.iter().filter(|&worker| Some(worker) != from) {",
            "for worker in workers.iter().filter(|&worker| Some(worker) == from) {",
        )],
    ),
    change(
        "reply-without-wake",
        &[Invariant(3)],
        "worker/mailbox.rs",
        &[(
            "            let _ = mailbox.send(wrap(reply));\n            service.hub.wake(worker);\n",
            "            let _ = (mailbox.send(wrap(reply)), &service, worker);\n",
        )],
    ),
    // Each loop iteration is bounded and resumable.
    change(
        "unbounded-reads",
        &[Invariant(5)],
        "conn/drive.rs",
        &[("for _ in 0..READS_PER_ITERATION {", "for _ in 0..READS_PER_ITERATION * 100 {")],
    ),
    change(
        "serving-budget-ignored",
        &[Invariant(5)],
        "stream/fanout.rs",
        &[("        allowance.spend(slice - left);\n", "        let _ = left;\n")],
    ),
    change(
        "unbounded-accepts",
        &[Invariant(5)],
        "net/acceptor.rs",
        &[("for _ in 0..ACCEPTS_PER_ITERATION {", "loop {")],
    ),
    change(
        "connection-not-queued",
        &[Invariant(5)],
        "conn/mod.rs",
        &[("            self.queue_of(key).push_back(key);\n", "")],
    ),
    change(
        "publish-slice-not-resumed",
        &[Invariant(5)],
        "conn/drive.rs",
        &[("            Step::Work => {}\n", "            Step::Work => return Progress::Wait,\n")],
    ),
    change(
        "paused-pass-not-requeued",
        &[Invariant(5)],
        "stream/fanout.rs",
        &[("PassEnd::Paused => self.groups.requeue(key),", "PassEnd::Paused => {}")],
    ),
    // Every bound has a name and holds.
    change(
        "history-without-count-limit",
        &[Invariant(6)],
        "hub/retain.rs",
        &[("        while state.feeds.is_over_limit(slot) {\n            state.evict(slot);\n        }\n", "")],
    ),
    change(
        "history-without-byte-limit",
        &[Invariant(6)],
        "hub/retain.rs",
        &[(
            "        while state.feeds.bytes() > self.limits.bytes {\n",
            "        while false && state.feeds.bytes() > self.limits.bytes {\n",
        )],
    ),
    change(
        "one-connection-too-many",
        &[Invariant(6)],
        "net/connection_limiter.rs",
        &[("        if open.load(Ordering::SeqCst) < max {", "        if open.load(Ordering::SeqCst) <= max {")],
    ),
    change(
        "poll-without-its-last-chunk",
        &[Contract("a poll ends with the last chunk")],
        "stream/catch_up.rs",
        &[("batch.end_with(last.as_deref().unwrap_or_default());", "")],
    ),
    change(
        "poll-that-stays",
        &[Contract("a poll ends with its first events")],
        "stream/catch_up.rs",
        &[("group.poll().filter(|_| batch.frames() > 0 && ", "group.poll().filter(|_| batch.frames() > 99 && ")],
    ),
    change(
        "poll-forgets-who-is-due",
        &[Invariant(3), Invariant(7)],
        "stream/fanout.rs",
        &[("return cost(self.write_missed(key, state, now));", "drop(state);")],
    ),
    change("inbox-never-acknowledged", &[Invariant(6)], "stream/fanout.rs", &[("            self.inbox.ack();\n", "")]),
    // Ready, catching up, stalled or gone.
    change(
        "subscriber-not-registered-for-writing",
        &[Invariant(7)],
        "worker/effects.rs",
        &[(
            "self.reactor.register_both(&mut socket, subscriber.token())",
            "self.reactor.register(&mut socket, subscriber.token())",
        )],
    ),
    change(
        "response-not-registered-for-writing",
        &[Invariant(7)],
        "conn/drive.rs",
        &[("reactor.register_both(&mut connection.socket,", "reactor.register(&mut connection.socket,")],
    ),
    change(
        "catch-up-not-requeued",
        &[Invariant(7)],
        "stream/catch_up.rs",
        &[("        self.subscribers.queue(key);\n", "")],
    ),
    change(
        "writable-ignored",
        &[Invariant(7)],
        "stream/subscriber/table.rs",
        &[(
            "        if self.unblock(key) {\n            self.catch_up_queue.push_back(key);\n        }",
            "        self.unblock(key);",
        )],
    ),
    change(
        "stalled-stays-ready",
        &[Invariant(7)],
        "stream/fanout.rs",
        &[("partial: PartialWrite) {\n        self.remove_from_ready_set(key);\n", "partial: PartialWrite) {\n")],
    ),
    change(
        "readable-ignored",
        &[Invariant(7)],
        "conn/connection.rs",
        &[(
            "self.readability.is_readable |= readiness.is_readable || readiness.has_ended;",
            "self.readability.is_readable |= readiness.has_ended;",
        )],
    ),
    change(
        "full-read-taken-for-the-last",
        &[Invariant(7)],
        "conn/connection.rs",
        &[("count == buffer.len() || self.readability.has_ended", "self.readability.has_ended")],
    ),
    // Accepting resumes by itself.
    change(
        "accepting-stays-paused",
        &[Invariant(8)],
        "net/acceptor.rs",
        &[(
            "paused.for_each(|listener| listener.state = AcceptState::HasMore);",
            "paused.for_each(|listener| listener.state = AcceptState::Drained);",
        )],
    ),
    change(
        "slot-not-released",
        &[Invariant(8)],
        "net/connection_limiter.rs",
        &[("        self.slots(role).0.fetch_sub(1, Ordering::SeqCst);\n", "        let _ = role;\n")],
    ),
    change(
        "acceptor-not-woken",
        &[Invariant(8)],
        "net/connection_limiter.rs",
        &[(
            "self.is_paused.load(Ordering::SeqCst) && self.is_paused.swap(false, Ordering::SeqCst)",
            "self.is_paused.load(Ordering::SeqCst) && !self.is_paused.swap(true, Ordering::SeqCst)",
        )],
    ),
    // Tokens and payloads never reach a log.
    change(
        "token-in-the-log",
        &[Invariant(9)],
        "conn/exchange/head.rs",
        &[(
            "            Ok(Parsed::Complete(ref head, len)) => {\n",
            "            Ok(Parsed::Complete(ref head, len)) => {\n                log::debug!(\"a request: {}\", bytes.escape_ascii());\n",
        )],
    ),
    change(
        "token-in-a-warning",
        &[Invariant(9)],
        "api/mod.rs",
        &[("MAX_LOGGED_PATH, target.path)", "MAX_LOGGED_PATH, target.query.0)")],
    ),
    change(
        "payload-in-the-log",
        &[Invariant(9)],
        "store/tables/mod.rs",
        &[(
            "        self.index.add(&versions);\n",
            "        self.index.add(&versions);\n        log::trace!(\"stored {records:?}\");\n",
        )],
    ),
    // A failed fsync stops inserts until a restart; a full disk recovers by itself.
    change(
        "inserts-after-a-failed-commit",
        &[Invariant(10), Store(3)],
        "store/writer.rs",
        &[(
            "                self.shared.fail(\"a commit\", &error);\n                Err(StoreError::Failed)",
            "                log::error!(\"a commit: {error}\");\n                Err(StoreError::Failed)",
        )],
    ),
    change(
        "full-disk-never-recovers",
        &[Invariant(10)],
        "store/writer.rs",
        &[("            self.shared.recover();\n", "            log::info!(\"the disk has room\");\n")],
    ),
    // Requests are judged in the order in which their records are stored, and a key is stored with its record.
    change(
        "judged-by-the-committed-only",
        &[Contract("`If-Match: \"<id>\"` stores only if that is the newest version")],
        "store/judgement.rs",
        &[(
            "let in_batch = self.newest.get(name).map(|index| Version::InBatch(*index));",
            "let in_batch: Option<Version> = None;",
        )],
    ),
    change(
        "condition-not-judged",
        &[Contract("`If-None-Match: *` only if there is none")],
        "records/insert.rs",
        &[("            Self::Absent => newest.is_none(),", "            Self::Absent => true,")],
    ),
    change(
        "key-not-with-its-record",
        &[Store(5)],
        "store/tables/commit.rs",
        &[
            ("    keys.0.insert(&transaction, keys.1)?;\n", ""),
            ("    transaction.commit()?;\n", "    transaction.commit()?;\n    keys.0.insert(connection, keys.1)?;\n"),
        ],
    ),
    change(
        "key-not-stored",
        &[Store(5)],
        "store/tables/commit.rs",
        &[("    keys.0.insert(&transaction, keys.1)?;\n", "    debug_assert!(keys.1.len() <= 4096);\n")],
    ),
    change(
        "key-remembered-after-a-restart-only",
        &[Contract("a retry within 24 h stores nothing and gets the first answer")],
        "store/tables/mod.rs",
        &[("        self.keys.add(keys);\n", "        debug_assert!(keys.len() <= 1 << 20);\n")],
    ),
    change(
        "key-judged-after-the-condition",
        &[Contract("a retry within 24 h stores nothing and gets the first answer")],
        "store/judgement.rs",
        &[(
            "        if let Some(verdict) = request.key",
            "        if let Some(conflict) = self.judge_condition(&request.condition, name) {\n            return conflict;\n        }\n        if let Some(verdict) = request.key",
        )],
    ),
    // The index is complete up to its mark, and contains only what `records` does.
    change(
        "index-marked-before-complete",
        &[Store(2)],
        "store/tables/index.rs",
        &[("        if done == self.len() {\n", "        if done > 0 {\n")],
    ),
    change(
        "unindexed-records-forgotten",
        &[Store(2)],
        "store/tables/mod.rs",
        &[("(Index::new(unindexed)", "(Index::new({ drop(unindexed); Vec::new() })")],
    ),
    // Only versions that exceed the retention are removed.
    change(
        "one-version-too-many-removed",
        &[Store(5), Contract("--versions")],
        "store/tables/pruning.rs",
        &[("nth_newest(versions.get())", "nth_newest(versions.get() - 1)")],
    ),
    change(
        "version-removed-before-it-is-superseded",
        &[Store(5), Contract("--versions")],
        "store/tables/index.rs",
        &[(
            "of_one_name.split_at(of_one_name.len().saturating_sub(limit))",
            "of_one_name.split_at((of_one_name.len() + 1).saturating_sub(limit).min(of_one_name.len()))",
        )],
    ),
    // The opening checkpoints the WAL before anything else.
    change(
        "opens-without-checkpoint",
        &[Store(3)],
        "store/opening.rs",
        &[(
            "if checkpointer::checkpoint_truncate(&writer)? { Ok(writer) } else { Err(Cause::InUse(None)) }",
            "Ok(writer)",
        )],
    ),
    // The id of an insert that failed is never assigned again: here an id is only taken when its record is published.
    change(
        "failed-ids-given-again",
        &[Store(4)],
        "hub/records/mod.rs",
        &[
            (
                "if has_room { state.ids.reserve(count, now_micros) } else { None }",
                "let has_room = has_room && state.ids.has_room(count, now_micros);
        has_room.then(|| now_micros.max(state.ids.newest() + 1))",
            ),
            (
                "        let records = &mut state.records;\n        let listening",
                "        for frame in &frames {
            if frame.id() > state.ids.newest() {
                state.ids.assign(frame.id());
            }
        }
        let records = &mut state.records;\n        let listening",
            ),
        ],
    ),
    // A clean restart is not noticed.
    change(
        "restart-forgets-tombstones",
        &[Invariant(3)],
        "hub/snapshot/mod.rs",
        &[(
            "(state.evicted_ids, state.tombstones) = (evicted_ids, tombstones);",
            "(state.evicted_ids, _) = (evicted_ids, tombstones);",
        )],
    ),
    change(
        "restart-forgets-what-was-evicted",
        &[Invariant(3)],
        "hub/snapshot/mod.rs",
        &[("(name, Some(evicted))", "(name, Some(evicted).filter(|_| false))")],
    ),
    change(
        "restart-forgets-ids",
        &[Contract("A clean restart costs no client a gap")],
        "hub/snapshot/mod.rs",
        &[("        state.ids.continue_from(ids);\n", "        drop(ids);\n")],
    ),
    change(
        "restart-forgets-an-event",
        &[Invariant(2)],
        "hub/snapshot/mod.rs",
        &[("for (topic, frame) in events {", "for (topic, frame) in events.into_iter().skip(1) {")],
    ),
    // Streams end with their token, and a drain delivers first.
    change(
        "token-never-expires",
        &[Contract("A stream ends when its token expires")],
        "stream/subscriber/table.rs",
        &[("self.expiries.set(key, expires);", "self.expiries.set(key, expires.filter(|_| false));")],
    ),
    change(
        "token-expires-early",
        &[Contract("A stream ends when its token expires")],
        "stream/subscriber/expiry.rs",
        &[("            if second > now {", "            if second > now + 1 {")],
    ),
    change(
        "revocations-end-no-stream",
        &[Contract("A stream ends when its token is revoked")],
        "worker/mod.rs",
        &[("        self.revoke_streams();\n", "")],
    ),
    change(
        "revocations-seen-before-they-are-there",
        &[Contract("A stream ends when its token is revoked")],
        "stream/subscriber/tokens.rs",
        &[("self.seen = recent.number;", "self.seen = recent.number + 1;")],
    ),
    change(
        "streams-of-other-tokens-end",
        &[Contract("A stream ends when its token is revoked")],
        "auth/revocations.rs",
        &[(
            "issued < self.before || issued < before(token.subject)",
            "issued < self.before.max(1) || issued < before(token.subject)",
        )],
    ),
    change(
        "drain-before-delivery",
        &[Contract("Whatever was accepted is delivered before the end")],
        "worker/maintenance.rs",
        &[("            None => is_pending || has_work,", "            None => is_pending,")],
    ),
    change(
        "drain-before-inserts",
        &[Contract("Whatever was accepted is delivered before the end")],
        "worker/maintenance.rs",
        &[("            None => is_pending || has_work,", "            None => has_work,")],
    ),
    change(
        "publish-accepted-while-draining",
        &[Contract("Whatever was accepted is delivered before the end")],
        "api/publish.rs",
        &[(
            "    if context.service.is_draining() {",
            "    if context.service.is_draining() && context.now.millis == 0 {",
        )],
    ),
];
