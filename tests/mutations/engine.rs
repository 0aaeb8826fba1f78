//! Mutations of what several brokers with one log rely on. The scripts that run on a server can't be changed here; their
//! counterparts in the log in memory can, and `tests/log` checks that both answer alike.

use super::list::Broken::{Contract, Engine};
use super::list::{Broken, Mutation, Suite};

const fn change(
    name: &'static str,
    breaks: &'static [Broken],
    file: &'static str,
    edits: &'static [(&'static str, &'static str)],
) -> Mutation {
    Mutation { name, suite: Suite::Cluster, breaks, file, edits }
}

pub const MUTATIONS: &[Mutation] = &[
    // Ids come from the log alone, and grow.
    change(
        "log-reuses-ids",
        &[Engine(1)],
        "engine/sim/server.rs",
        &[("now.max(self.last() + 1).max(floor + 1)", "now.max(self.last()).max(floor + 1)")],
    ),
    change(
        "log-ignores-the-floor",
        &[Engine(1)],
        "engine/sim/server.rs",
        &[("now.max(self.last() + 1).max(floor + 1)", "now.max(self.last() + 1).max(floor.min(0))")],
    ),
    change("broker-forgets-its-floor", &[Engine(1)], "engine/tail/mod.rs", &[("floor: shared.floor(),", "floor: 0,")]),
    // A new session ends the one before.
    change(
        "log-without-fence",
        &[Engine(2)],
        "engine/sim/server.rs",
        &[(".filter(|newest| newest.session == hello.session);", ".filter(|_| true);")],
    ),
    change(
        "every-connection-is-one-session",
        &[Engine(2)],
        "engine/appender.rs",
        &[("session: fastrand::u64(..) };", "session: 1 };")],
    ),
    change(
        "session-does-not-keep-its-last-batch",
        &[Engine(2)],
        "engine/sim/server.rs",
        &[(
            "            self.session(now, append.hello)?.last_batch = Some((append.batch, LastBatch::Events(appended.clone())));\n",
            "",
        )],
    ),
    change(
        "unknown-means-not-appended",
        &[Engine(2)],
        "engine/appender.rs",
        &[(
            "Some((number, done)) if number == batch.number() => ",
            "Some((number, done)) if number == batch.number() && batch.outcome() == Outcome::NotAppended => ",
        )],
    ),
    change(
        "broken-means-not-appended",
        &[Engine(2)],
        "engine/appender.rs",
        &[("self.batch = Some(batch.with_outcome(Outcome::Unknown));", "self.batch = Some(batch);")],
    ),
    change(
        "unknown-outcome-is-a-refusal",
        &[Engine(2)],
        "engine/batch.rs",
        &[(
            "            Outcome::NotAppended => refusal(why),\n",
            "            Outcome::NotAppended | Outcome::Unknown => refusal(why),\n",
        )],
    ),
    change(
        "last-batch-whichever-it-was",
        &[Engine(2)],
        "engine/appender.rs",
        &[(
            "Some((number, done)) if number == batch.number() => ",
            "Some((number, done)) if number <= batch.number() => ",
        )],
    ),
    // Acknowledged means durable and passed.
    change(
        "acknowledged-before-the-tail",
        &[Engine(3)],
        "engine/batch.rs",
        &[(
            "waiting.wait(sequenced.id, now, move |_| done(Ok(sequenced)));",
            "let _ = now;\n                    done(Ok(sequenced));",
        )],
    ),
    change(
        "acknowledged-when-read",
        &[Engine(3)],
        "engine/tail/mod.rs",
        &[(
            "                    self.events = events;\n",
            "                    self.events = events;\n                    self.engine.waiting.advance(last);\n",
        )],
    ),
    change(
        "acknowledged-without-proof",
        &[Engine(3)],
        "engine/appender.rs",
        &[(
            "                batch.fail(&EngineError::Unknown(\"the engine could not prove that it is durable\".into()));",
            "                self.batch = Some(batch);\n                self.fail(error);",
        )],
    ),
    // Losses are told.
    change(
        "log-does-not-check-marks",
        &[Engine(4)],
        "engine/sim/server.rs",
        &[("mark.entry >= oldest && !self.has(mark)", "mark.entry >= oldest && mark.entry == 0")],
    ),
    change(
        "log-ignores-tokens",
        &[Engine(4)],
        "engine/sim/server.rs",
        &[("found.is_ok_and(|index| self.entries[index].token == mark.token)", "found.is_ok()")],
    ),
    change(
        "appended-mark-ignored",
        &[Engine(4)],
        "engine/tail/mod.rs",
        &[("appended: shared.appended(),", "appended: None,")],
    ),
    change(
        "one-mark-for-all-sessions",
        &[Engine(4)],
        "engine/marks.rs",
        &[("Some((last, newest)) if *last == session => *newest = mark,", "Some((_, newest)) => *newest = mark,")],
    ),
    change("read-mark-ignored", &[Engine(4)], "engine/tail/mod.rs", &[("read: self.read.clone(),", "read: None,")]),
    change(
        "marks-checked-once",
        &[Engine(4)],
        "engine/tail/mod.rs",
        &[("self.verify_at.is_none_or(|time| time <= now)", "self.verify_at.is_none()")],
    ),
    change(
        "previous-entry-ignored",
        &[Engine(4)],
        "engine/tail/mod.rs",
        &[("is_none_or(|read| read.entry == entry.previous)", "is_none_or(|read| read.entry < entry.id)")],
    ),
    change(
        "loss-not-told-to-streams",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("        self.lose_through(id);\n", "        self.follow.pass(id);\n")],
    ),
    change(
        "trimmed-entries-not-told",
        &[Engine(4)],
        "engine/tail/mod.rs",
        &[("                self.skip_to(oldest);\n", "                self.after = oldest - 1;\n")],
    ),
    change(
        "loss-told-by-nobody-twice-stops",
        &[Engine(4)],
        "engine/tail/mod.rs",
        &[("From::Loss(loss) if loss <= self.engine.shared.applied()", "From::Loss(loss) if loss == 0")],
    ),
    change(
        "lost-events-still-retained",
        &[Engine(4)],
        "hub/apply.rs",
        &[("        while self.evict_lost(through) {}\n", "        let _ = Self::evict_lost;\n")],
    ),
    // Positions wait for a barrier.
    change(
        "position-judged-at-once",
        &[Engine(5)],
        "hub/position.rs",
        &[("        !is_applied && !names", "        !is_applied && names.is_empty() && !names")],
    ),
    change(
        "barrier-without-the-tail",
        &[Engine(5)],
        "engine/appender.rs",
        &[(
            "self.engine.waiting.wait(pulse.last, now, barrier.done)",
            "self.engine.waiting.wait(pulse.last.min(now), now, barrier.done)",
        )],
    ),
    change(
        "position-judged-without-the-engine",
        &[Engine(5)],
        "api/subscribe.rs",
        &[(
            "(_, LookupReply::Unavailable) if is_shared => {",
            "(_, LookupReply::Unavailable) if is_shared && context.service.is_draining() => {",
        )],
    ),
    // No entry is skipped.
    change(
        "unreadable-entry-skipped",
        &[Engine(6)],
        "engine/tail/mod.rs",
        &[("                Err(why) => self.stop(id, &why),", "                Err(_) => self.pass(mark, id),")],
    ),
    change(
        "unreadable-entry-read-again-for-ever",
        &[Engine(6)],
        "engine/tail/mod.rs",
        &[("        self.is_stopped = true;\n", "        self.entries.clear();\n")],
    ),
    change(
        "entries-without-room-dropped",
        &[Engine(6)],
        "engine/tail/mod.rs",
        &[(
            "            if !self.events.is_empty() {\n                return false;\n            }",
            "            if self.events.len() > 1 {\n                return false;\n            }\n            self.events.clear();",
        )],
    ),
    // A publisher's id is accepted once.
    change(
        "log-forgets-own-ids",
        &[Contract("A publisher's id that is retained is not published again")],
        "engine/sim/server.rs",
        &[("            self.own_ids.insert(own_id.key.as_str().into(), owner);\n", "            let _ = owner;\n")],
    ),
    change(
        "own-ids-judged-before-the-batch",
        &[Contract("A publisher's id that is retained is not published again")],
        "engine/sim/server.rs",
        &[(
            "        for own_id in append.own_ids {\n            if let Some(owner) = self.own_ids.get(",
            "        let known = self.own_ids.clone();\n        for own_id in append.own_ids {\n            if let Some(owner) = known.get(",
        )],
    ),
    change(
        "repetitions-delivered",
        &[Contract("A publisher's id that is retained is not published again")],
        "engine/tail/events.rs",
        &[("repetitions.binary_search(index).is_err();", "repetitions.binary_search(index).is_err() || *index == 0;")],
    ),
    change(
        "unknown-outcome-is-a-503",
        &[Contract("503: nothing of it was published")],
        "api/publish/deferred.rs",
        &[("Problem::new(504, detail)", "Problem::unavailable(detail, AWAY_SECONDS)")],
    ),
    change(
        "tail-stands-still",
        &[Contract("A broker whose tail stands still connects anew")],
        "engine/tail/mod.rs",
        &[("if self.engine.shared.stands_still(self.millis()) {", "if self.engine.shared.stands_still(0) {")],
    ),
    change(
        "refused-once-unhealthy-for-ever",
        &[Contract("/healthz: 503 while the engine is lost")],
        "engine/state.rs",
        &[("(millis < since + REFUSAL_MILLIS)", "(millis >= *since)")],
    ),
    // Records have one order with topics, and what the log loses of them is told.
    change(
        "unproven-records-inserted-again",
        &[Engine(3)],
        "engine/appender.rs",
        &[(
            "            LogError::Unproven(why) => {\n",
            "            LogError::Unproven(_) if batch.has_records() => self.batch = Some(batch),\n            LogError::Unproven(why) => {\n",
        )],
    ),
    change(
        "unknown-insert-is-inserted-again",
        &[Engine(2)],
        "engine/appender.rs",
        &[(
            "            Some((number, done)) if number == batch.number() => self.prove(batch, &done),\n",
            "            Some((number, done)) if number == batch.number() && !batch.has_records() => self.prove(batch, &done),\n",
        )],
    ),
    change(
        "records-not-replaced-after-a-loss",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("        if id > self.loaded_at {", "        if id < self.loaded_at {")],
    ),
    change(
        "loaded-records-published-again",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("        self.records.retain(|record| record.id > self.records_through);\n", "")],
    ),
    change(
        "records-not-caught-up-after-a-trim",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[(
            "(true, true) if !has_other_erasures => Some(Load::Newer),\n",
            "(true, true) if !has_other_erasures => None,\n",
        )],
    ),
    change(
        "records-that-are-not-there-passed-over",
        &[Engine(4)],
        "engine/tail/mod.rs",
        &[("        if self.lacks_records(&entry) {\n", "        if false && self.lacks_records(&entry) {\n")],
    ),
    change(
        "known-records-not-checked",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("let has_known = found == known || is_removed;", "let has_known = found == known || is_removed || true;")],
    ),
    change(
        "missing-records-counted-as-removed",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("self.fetched.is_doubtful |= !has_entry;", "self.fetched.is_doubtful &= has_entry;")],
    ),
    change(
        "removed-records-counted-as-lost",
        &[Engine(4)],
        "engine/sim/connection.rs",
        &[(
            "(data.records().range(first, last, limit), data.has(entry))",
            "(data.records().range(first, last, limit), entry.entry == 0)",
        )],
    ),
    change(
        "known-record-that-is-not-there-counted-as-removed",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("self.found.has_read && id <= self.engine.shared.applied()", "id <= self.engine.shared.applied()")],
    ),
    change(
        "record-ahead-of-the-log-counted-as-removed",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("self.found.has_read && id <= self.engine.shared.applied()", "self.found.has_read && id > 0")],
    ),
    change(
        "erasures-of-trimmed-entries-missed",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[(
            "let has_other_erasures = self.found.erased != self.erased;",
            "let has_other_erasures = self.found.erased < self.erased;",
        )],
    ),
    change(
        "older-version-of-an-erased-name-kept",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("let may_have_older = record > self.loaded_at || id <=", "let may_have_older = id <=")],
    ),
    change(
        "records-read-before-an-erasure-forgotten",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("self.newest.max(self.engine.shared.applied()).max(before_next)", "self.newest.max(before_next)")],
    ),
    change(
        "erasure-told-after-newer-records",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("id > self.records_through && !is_loaded &&", "!is_loaded &&")],
    ),
    change(
        "erasures-unknown-after-a-start",
        &[Engine(4)],
        "engine/tail/records.rs",
        &[("            self.follow.doubt_before(erased);\n", "")],
    ),
    change(
        "erased-before-the-tail-has-passed-it",
        &[Engine(3)],
        "engine/appender/removals.rs",
        &[(
            "self.engine.waiting.wait(erased.last, now, move |_| done(Ok(versions)));",
            "let _ = now;\n        done(Ok(versions));",
        )],
    ),
    change(
        "newest-version-not-retained",
        &[Contract("The newest version of a name is always kept")],
        "engine/sim/records.rs",
        &[("if left == 1 || !is_unwanted", "if !is_unwanted")],
    ),
    change(
        "erasure-stops-after-a-part",
        &[Contract("An erasure erases all versions")],
        "engine/appender/removals.rs",
        &[("        if erased.rest.is_some() {", "        if erased.rest.is_some() && versions == 0 {")],
    ),
    change(
        "records-ahead-of-the-log-kept-over-a-reconnect",
        &[Engine(4)],
        "engine/tail/mod.rs",
        &[(
            "        self.discard();\n        self.check_records();\n        self.backoff.fail(self.millis());\n",
            "        self.discard();\n        self.backoff.fail(self.millis());\n",
        )],
    ),
    change(
        "records-loaded-before-the-next-entry",
        &[Engine(4)],
        "engine/tail/mod.rs",
        &[(
            "let is_placed = !self.entries.is_empty() || (self.has_begun && !self.has_gap);",
            "let is_placed = !self.entries.is_empty() || self.after < u64::MAX;",
        )],
    ),
    change(
        "record-found-before-the-tail-has-passed-it",
        &[Engine(5)],
        "engine/reader/mod.rs",
        &[(
            "                self.engine.waiting.wait(id, now, move |has_passed| {\n",
            "                self.engine.waiting.wait(id.min(1), now, move |has_passed| {\n",
        )],
    ),
    change(
        "reader-stays-at-a-server-that-was-replaced",
        &[Engine(5)],
        "engine/reader/mod.rs",
        &[("        self.leave_replaced_server();\n", "        let _ = Self::leave_replaced_server;\n")],
    ),
    change(
        "log-does-not-check-its-format",
        &[Contract("A log of an older format has no records")],
        "engine/sim/server.rs",
        &[("if meta.format < RECORDS_FORMAT =>", "if meta.format > RECORDS_FORMAT =>")],
    ),
    change(
        "records-without-bound",
        &[Contract("Records take no more than --engine-records")],
        "engine/sim/server.rs",
        &[(
            "if !granted.is_empty() && self.records.bytes() + ",
            "if !granted.is_empty() && self.records.bytes().min(1) + ",
        )],
    ),
    change(
        "insert-does-not-keep-its-last-batch",
        &[Engine(2)],
        "engine/sim/server.rs",
        &[(
            "        self.session(now, insert.hello)?.last_batch = Some((insert.batch, LastBatch::Inserts(outcomes.clone())));\n",
            "",
        )],
    ),
    // One insert wins against each version, and a key stores one record.
    change(
        "conditions-not-judged",
        &[Contract("If-Match: stored only if that is the newest version")],
        "engine/sim/inserts.rs",
        &[(
            "(!request.condition.holds(newest)).then_some(",
            "(newest.is_none() && !request.condition.holds(newest)).then_some(",
        )],
    ),
    change(
        "conditions-judged-before-the-batch",
        &[Contract("If-Match: stored only if that is the newest version")],
        "engine/sim/inserts.rs",
        &[("let newest = here.or_else(|| records.newest_of(name));", "let newest = records.newest_of(name).or(here);")],
    ),
    change(
        "log-forgets-idempotency-keys",
        &[Contract("A retry with an Idempotency-Key stores nothing")],
        "engine/sim/inserts.rs",
        &[("            self.known.insert(key, of_key);\n", "            drop((key, of_key.name));\n")],
    ),
    change(
        "idempotency-keys-judged-before-the-batch",
        &[Contract("A retry with an Idempotency-Key stores nothing")],
        "engine/sim/inserts.rs",
        &[(
            "let known = here.or_else(|| keys.known.get(key.as_str()));",
            "let known = keys.known.get(key.as_str()).or(here.filter(|_| now == 0));",
        )],
    ),
    change(
        "declined-insert-uses-its-key",
        &[Contract("Only a stored insert is remembered")],
        "engine/sim/inserts.rs",
        &[(
            "        if outcome.is_none() {\n            judged.granted.push(request.record.clone());\n",
            "        if let (Some(InsertOutcome::Conflict(_)), Some(key)) = (outcome, &request.key) {\n            judged.remembered.push((key.as_str().into(), KeyUse { id, name: (&*request.record.name).into() }));\n        }\n        if outcome.is_none() {\n            judged.granted.push(request.record.clone());\n",
        )],
    ),
    change(
        "keys-judged-without-the-name",
        &[Contract("The same key with another event is refused")],
        "engine/sim/inserts.rs",
        &[("Some(known) if *known.name == *name => return", "Some(known) if !known.name.is_empty() => return")],
    ),
    change(
        "outcomes-told-before-the-tail",
        &[Engine(3)],
        "engine/batch.rs",
        &[(
            "        InsertOutcome::Stored(id) | InsertOutcome::Repeated(id) => id,\n        InsertOutcome::Conflict(newest) => newest.unwrap_or(0),\n",
            "        InsertOutcome::Stored(id) => id,\n        InsertOutcome::Repeated(id) => id.min(1),\n        InsertOutcome::Conflict(newest) => newest.unwrap_or(0).min(1),\n",
        )],
    ),
    change(
        "last-batch-without-its-outcomes",
        &[Engine(2)],
        "engine/sim/server.rs",
        &[(
            "LastBatch::Inserts(outcomes.clone())));\n",
            "LastBatch::Inserts((first..).take(outcomes.len()).map(crate::records::insert::InsertOutcome::Stored).collect())));\n",
        )],
    ),
];
