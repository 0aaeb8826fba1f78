//! Loads a dump. Records keep their ids.

use std::io::BufRead;
use std::time::Duration;

use redis::Value;

use super::{connect, refused};
use crate::engine::log::{Attach, Log as _, LogError, NAME_COST, Refusal, cost_of};
use crate::engine::redis::guarantee::RecordProofs;
use crate::engine::redis::log::ServerLog;
use crate::engine::redis::scripts::LOAD;
use crate::engine::redis::{BROKER_TTL, Keys, value};
use crate::engine::{COMMAND_TIMEOUT, EngineSettings, RECORDS_FORMAT};
use crate::records::Record;
use crate::records::progress::{Amount, Progress};
use crate::records::transfer::{IdBounds, LineReader, ToolError};

/// A script stores this many records, because the server does nothing else meanwhile,
const BATCH: usize = 1024;
/// or fewer if their data reaches this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// It is proven that records are on the disk when they reach this many bytes, and at the end. That proves those before them.
const PROVEN_BYTES: usize = 16 << 20;
/// How often a proof that takes too long is asked for again.
const PROOFS: usize = 20;
/// An id may be ahead of the engine's clock by this: the clocks of two machines differ, and a broker that has crashed goes on
/// with ids of some seconds later.
const MAX_LEAD: Duration = Duration::from_secs(60);

struct Loader {
    log: ServerLog,
    proofs: RecordProofs,
    most_bytes: u64,
    batch: Vec<Record>,
    batch_bytes: usize,
    unproven_bytes: usize,
    stored: u64,
}

/// Adds records to an engine that no broker uses, and returns their number. Their ids must ascend and be larger than those of
/// all records there. Creates the log if there is none. When a line is bad, the records before it are stored.
pub fn load(settings: &EngineSettings, input: &mut dyn BufRead, progress: &dyn Progress) -> Result<u64, ToolError> {
    let mut log = connect(settings)?;
    let proofs = log.proofs.records.clone().map_err(|why| LogError::Refused(Refusal::Records, why))?;
    log.attach(&Attach::default())?;
    let most_bytes = settings.retention.record_bytes;
    let mut loader =
        Loader { log, proofs, most_bytes, batch: Vec::new(), batch_bytes: 0, unproven_bytes: 0, stored: 0 };
    let (now, newest) = loader.run_script()?;
    let latest = now + MAX_LEAD.as_micros() as u64;
    let bounds = IdBounds { newest, latest, ahead_of: "a minute ahead of the engine's clock" };
    progress.begin("importing records", Amount::Input);
    let read = loader.read(LineReader::new(input, progress, bounds));
    progress.begin("waiting for the engine's disk", Amount::Unknown);
    // What was stored before a refusal is to be as durable as it can be, too.
    let finished = if matches!(read, Err(ToolError::Keeper(_))) { loader.prove() } else { loader.finish() };
    let count = read?;
    finished?;
    Ok(count)
}

impl Loader {
    fn read(&mut self, mut lines: LineReader<'_>) -> Result<u64, ToolError> {
        let mut count = 0;
        while let Some(record) = lines.read()? {
            self.batch_bytes += record.data.len();
            self.batch.push(record);
            count += 1;
            if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
                self.store()?;
            }
            if self.unproven_bytes >= PROVEN_BYTES {
                self.prove()?;
            }
        }
        Ok(count)
    }

    fn finish(&mut self) -> Result<(), ToolError> {
        self.store()?;
        self.prove()
    }

    /// Stores the batch.
    fn store(&mut self) -> Result<(), ToolError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.run_script().map_err(|why| refused(format!("{why}; records stored before: {}", self.stored)))?;
        self.stored += self.batch.len() as u64;
        self.unproven_bytes += std::mem::take(&mut self.batch_bytes);
        self.batch.clear();
        Ok(())
    }

    /// Runs the script, and returns the time of the engine and the newest record.
    fn run_script(&mut self) -> Result<(u64, u64), LogError> {
        let Keys { log, meta, records, index, newest, brokers, .. } = &self.log.keys;
        let mut command = LOAD.command(&[log.as_str(), meta, records, index, newest, brokers]);
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let cost: u64 = self.batch.iter().map(|record| cost_of(&record.name, &record.data)).sum();
        command.arg(token).arg(BROKER_TTL.as_micros() as u64).arg(RECORDS_FORMAT).arg(MAX_LEAD.as_micros() as u64);
        command.arg(self.most_bytes).arg(cost).arg(NAME_COST);
        for record in &self.batch {
            command.arg(record.id).arg(&*record.name).arg(&*record.data);
        }
        self.log.wire.set_limit(COMMAND_TIMEOUT)?;
        read_answer(LOAD.run(&mut self.log.wire, &command)?)
    }

    /// Returns when everything that was stored is as durable as what brokers insert. A server that writes much may take longer
    /// than a proof waits.
    fn prove(&mut self) -> Result<(), ToolError> {
        for proof in self.proofs {
            let Some(command) = proof.command() else { continue };
            let mut proven = Ok(());
            for _ in 0..PROOFS {
                proven = self.log.wire.ask(&command).and_then(|answer| proof.check(answer));
                if !matches!(proven, Err(LogError::Unproven(_))) {
                    break;
                }
            }
            proven?;
        }
        self.unproven_bytes = 0;
        Ok(())
    }
}

fn read_answer(answer: Value) -> Result<(u64, u64), LogError> {
    let texts = value::texts::<2>(answer);
    let read = texts.and_then(|[now, newest]| Some((now.parse().ok()?, newest.parse().ok()?)));
    read.ok_or_else(|| value::malformed("the answer to a load"))
}
