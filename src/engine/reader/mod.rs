//! Reads pages of histories and looks up ids, over a connection of its own. Lookups come first. Every page is read in slices,
//! and other requests have their turns in between.
//!
//! While the engine is away, requests are refused at once: they don't wait for it. The other connections report that it is
//! away, and what this one can't do makes no broker unhealthy.

mod requests;

use std::time::Duration;

use super::backoff::Backoff;
use super::handle::{Engine, EngineError};
use super::log::{Connect, LogError, ReadRecords, Refusal, Version};
use crate::quota::Client;
use crate::records::page::{PageBuilder, SLICE_BYTES};
use crate::util::outage::Outages;
use requests::Next;
pub(super) use requests::{Lookup, PageRequest, Requests};

/// The maximum number of versions that are read for one page before other requests have their turn.
const SLICE_VERSIONS: usize = 128;

/// Reads pages and looks up ids.
pub struct Reader<C: Connect> {
    engine: Engine,
    connect: C,
    log: Option<C::Log>,
    backoff: Backoff,
    /// How often the tail had replaced all records when the connection was made.
    replacements: u64,
    /// How often the tail had connected when the last connection failed.
    tail_connects: u64,
    /// When the engine could be reached, but did not return what it was asked for.
    refusals: Outages,
    is_over: bool,
}

/// What became of a page with a slice.
enum Progress {
    /// It needs more slices.
    Incomplete,
    /// It is complete.
    Complete { more_follow: bool },
}

impl<C: Connect> Reader<C> {
    /// Creates a reader. It connects when there is something to read.
    pub fn new(engine: Engine, connect: C) -> Self {
        let (backoff, refusals) = (Backoff::default(), Outages::default());
        Self { engine, connect, log: None, backoff, replacements: 0, tail_connects: 0, refusals, is_over: false }
    }

    /// Returns whether the engine is closed and no request waits.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Looks up one id, or reads one slice of one page. Waits for a request for up to `wait`.
    pub fn step(&mut self, wait: Duration) {
        match self.engine.reads.next(wait) {
            Next::Lookup(lookup) => self.look_up(lookup),
            Next::Page(client, request) => self.read_slice(client, request),
            Next::Nothing => {}
            Next::Closed => self.is_over = true,
        }
    }

    /// Looks up an id. If there is a record, waits until the tail has passed it, so that the hub knows it.
    fn look_up(&mut self, lookup: Lookup) {
        let Lookup { id, done } = lookup;
        let found = self.ask(|log| log.has_record(id));
        self.engine.shared.reader.lookups.add(1);
        match found {
            Ok(true) => {
                let now = self.millis();
                self.engine.waiting.wait(id, now, move |has_passed| {
                    let behind = || EngineError::Unavailable("this broker has not received the record yet".into());
                    done(if has_passed { Ok(true) } else { Err(behind()) });
                });
            }
            other => done(other),
        }
    }

    fn read_slice(&mut self, client: Client, mut request: PageRequest) {
        match self.extend(&mut request.page) {
            Ok(Progress::Incomplete) => self.engine.reads.resume(client, request),
            Ok(Progress::Complete { more_follow }) => {
                self.engine.shared.reader.pages.add(1);
                let PageRequest { page, done } = request;
                done(Ok(page.complete(more_follow)));
            }
            Err(error) => {
                self.engine.shared.reader.pages.add(1);
                request.refuse(error);
            }
        }
    }

    /// Appends a slice to a page. An answer may have fewer versions than were asked for, so a slice may take several: a small
    /// page must be complete after its first turn.
    fn extend(&mut self, page: &mut PageBuilder) -> Result<Progress, EngineError> {
        let (mut left, longest) = (SLICE_VERSIONS, page.bytes() + SLICE_BYTES);
        while left > 0 && page.bytes() < longest {
            let versions = self.versions(page, left)?;
            if versions.is_empty() {
                return Ok(Progress::Complete { more_follow: false });
            }
            for version in &versions {
                if !page.push(version.id, &version.data).map_err(|_| EngineError::Busy)? {
                    return Ok(Progress::Complete { more_follow: true });
                }
            }
            left = left.saturating_sub(versions.len());
        }
        Ok(Progress::Incomplete)
    }

    /// Returns the next versions for a page, at most `limit`; none if there are none.
    fn versions(&mut self, page: &PageBuilder, limit: usize) -> Result<Vec<Version>, EngineError> {
        let limit = limit.min(page.missing());
        self.ask(|log| {
            let versions = log.versions(page.name(), page.last(), limit)?;
            let ids = [page.last()].into_iter().chain(versions.iter().map(|version| version.id));
            // Otherwise reading on after the last one might never end.
            match ids.is_sorted_by(|id, next| id < next) {
                true => Ok(versions),
                false => Err(LogError::Malformed(format!("the versions of {} do not ascend", page.name()))),
            }
        })
    }

    /// Asks the log. Connects first if necessary, and again if the connection turns out to be broken: it may have been for
    /// long, without anybody noticing.
    fn ask<T>(&mut self, ask: impl Fn(&mut C::Log) -> Result<T, LogError>) -> Result<T, EngineError> {
        self.leave_replaced_server();
        if let Some(mut log) = self.log.take() {
            match ask(&mut log) {
                Err(error) if is_lost(&error) => log::debug!("the reader connects again: {error}"),
                answer => return self.conclude(log, answer),
            }
        }
        let mut log = self.connect()?;
        let answer = ask(&mut log);
        self.conclude(log, answer)
    }

    /// Drops a connection from before the tail has replaced all records: its server may not know that it was replaced, and have
    /// records that are lost.
    fn leave_replaced_server(&mut self) {
        let replacements = self.engine.shared.tail.replacements.get();
        if std::mem::replace(&mut self.replacements, replacements) != replacements {
            self.log = None;
        }
    }

    fn connect(&mut self) -> Result<C::Log, EngineError> {
        // Where the tail gets through, the reader does: then it need not wait until its next attempt is due.
        if self.engine.shared.tail.connects.get() != self.tail_connects {
            self.backoff.succeed();
        }
        if self.backoff.left(self.millis()) > 0 {
            return Err(away());
        }
        let connected = self.connect.connect();
        connected.map_err(|error| self.fail(&error))
    }

    /// Turns an answer into the result of a request, and keeps the connection if it can be used further.
    fn conclude<T>(&mut self, log: C::Log, answer: Result<T, LogError>) -> Result<T, EngineError> {
        match answer {
            Ok(answer) => {
                self.backoff.succeed();
                self.refusals.succeed(self.millis());
                self.log = Some(log);
                Ok(answer)
            }
            Err(error) if is_lost(&error) => Err(self.fail(&error)),
            Err(error) => {
                // After an answer that can't be understood, nobody knows where the next one begins.
                self.log = Some(log).filter(|_| !matches!(error, LogError::Malformed(_)));
                Err(self.refuse(&error))
            }
        }
    }

    /// Notes that the engine can't be reached.
    fn fail(&mut self, error: &LogError) -> EngineError {
        self.backoff.fail(self.millis());
        self.tail_connects = self.engine.shared.tail.connects.get();
        log::debug!("the reader has no connection: {error}");
        away()
    }

    /// Notes that the engine can be reached, but does not return what it was asked for.
    fn refuse(&mut self, error: &LogError) -> EngineError {
        if let Some(why) = self.refusals.fail(&error.to_string(), self.millis()) {
            log::warn!("records can't be read: {why}");
        }
        EngineError::Unavailable("the engine does not return the records; the broker's log says why".into())
    }

    fn millis(&self) -> u64 {
        self.engine.clock.now().millis
    }
}

fn away() -> EngineError {
    EngineError::Unavailable("the engine can't be reached now".into())
}

/// Returns whether another connection might get an answer.
fn is_lost(error: &LogError) -> bool {
    match error {
        LogError::Unreachable(_)
        | LogError::Broken(_)
        | LogError::Fenced
        | LogError::Refused(Refusal::NotWritable, _) => true,
        LogError::Refused(..) | LogError::Unproven(_) | LogError::Malformed(_) => false,
    }
}
