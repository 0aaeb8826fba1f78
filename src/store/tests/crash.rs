//! What a start finds after the process was killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;

/// The data directory of the process that is killed.
const DIRECTORY: &str = "ESKER_STORE_TEST_DIRECTORY";
const KILLS: u64 = 12;

fn data(id: u64) -> String {
    format!("\"{}\"", "x".repeat(id as usize % 300))
}

/// Prints the ids that it publishes.
struct Printing(Arc<Ids>);

impl Order<Record> for Printing {
    fn reserve(&self, count: usize) -> Option<u64> {
        self.0.reserve(count)
    }

    fn newest(&self) -> u64 {
        self.0.newest()
    }

    fn publish(&self, records: Vec<Record>) {
        records.iter().for_each(|record| print_id("published", record.id));
    }

    fn publish_erasure(&self, _: &str, id: u64) {
        print_id("erased", id);
    }

    fn newest_version(&self, name: &str) -> Option<u64> {
        self.0.newest_version(name)
    }
}

fn print_id(what: &str, id: u64) {
    let _ = std::io::stdout().write_all(format!("{what} {id}\n").as_bytes());
}

/// Not a test itself: the process that the next test starts and kills.
#[test]
fn inserts_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let opening = Store::open_tuned(&Location::Directory(directory.into()), small_limits()).unwrap();
    let ids = Ids { newest: opening.ids_through.into(), ..Ids::default() };
    let store = opening.start(Box::new(Printing(Arc::new(ids)))).unwrap();
    let (sender, replies) = mpsc::channel();
    for number in 0_u64.. {
        if number >= 64 {
            let reply: Result<InsertOutcome, StoreError> = replies.recv().unwrap();
            print_id("stored", stored_id(reply.unwrap()));
        }
        let sender = sender.clone();
        let name = format!("name{}", number * number % 50);
        store.insert(plain(&name, data(number)), move |result| sender.send(result).unwrap());
    }
}

fn start(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::inserts_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the process and kills it this long after its first id, as a busy machine may start it slowly. Returns the ids that
/// were published and those whose inserts were completed.
fn run_and_kill(directory: &Path, after: Duration) -> (Vec<u64>, Vec<u64>) {
    let mut child = start(directory);
    let output = child.stdout.take().unwrap();
    let (sender, started) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        let notify_start = |line: &String| {
            if line.starts_with("published") {
                let _ = sender.send(());
            }
        };
        lines.inspect(notify_start).collect::<Vec<_>>()
    });
    started.recv().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = reader.join().unwrap();
    // The last line may be cut off, which leaves an id that is too short. The caller ignores the last one.
    let ids = |what: &str| lines.iter().filter_map(|line| line.strip_prefix(what)?.trim().parse().ok()).collect();
    (ids("published "), ids("stored "))
}

#[test]
fn published_and_completed_records_survive_a_kill() {
    let scratch = Scratch::new();
    let mut before = Vec::new();
    for kill in 0..KILLS {
        let (published, stored) = run_and_kill(&scratch.0, Duration::from_millis(kill * 37 % 200));
        let records = contents(&scratch.0);
        let ids: std::collections::BTreeSet<_> = records.iter().map(|record| record.id).collect();
        assert_eq!(ids.len(), records.len());
        let complete = published.len().saturating_sub(1);
        assert!(
            published.iter().take(complete).chain(&stored[..stored.len().saturating_sub(1)]).all(|id| ids.contains(id))
        );
        assert!(records.starts_with(&before), "earlier records are unchanged");
        let mut opening = Store::open_tuned(&scratch.location(), small_limits()).unwrap();
        assert_eq!(std::mem::take(&mut opening.latest), latest_of(&records));
        assert!(records.last().is_none_or(|record| opening.ids_through >= record.id));
        before = records;
    }
    assert!(before.len() > 100, "it inserted records: {}", before.len());
}

#[test]
fn a_copy_under_load_is_a_prefix_of_the_inserts() {
    let scratch = Scratch::new();
    // No checkpoints run, so that the files can be copied one after the other.
    let tuning = Tuning { wal_growth: u64::MAX, wal_limit: u64::MAX, ..small_limits() };
    let rig = Rig::with(&scratch.location(), tuning);
    rig.insert("name", "0").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..150_u64 {
                let names: Vec<_> = (0..20).map(|number| format!("name{}", round * number % 31)).collect();
                rig.insert_all(names.iter().map(|name| (name.as_str(), data(round))));
            }
        });
        while !writer.is_finished() {
            let acknowledged = rig.published();
            let copy = Scratch::copy_of(&scratch.0);
            let records = contents(&copy.0);
            assert!(records.starts_with(&acknowledged));
            let again = Rig::with(&copy.location(), small_limits());
            assert_eq!(again.latest, latest_of(&records));
            assert!(again.ids_through >= records.last().unwrap().id);
            let newest = again.insert("name", "1").unwrap();
            assert!(again.read_history("name", 0, 10_000).unwrap().body.ends_with(&format!("_v_{newest}\":1}}")));
            again.store.close();
            assert_eq!(contents(&copy.0).len(), records.len() + 1);
        }
    });
}

#[test]
fn ids_of_events_without_records_are_not_assigned_again() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    rig.insert("name", "1").unwrap();
    let ids_after = |copy: Scratch| Store::open_tuned(&copy.location(), small_limits()).unwrap().ids_through;
    rig.ids.newest.store(1_000_000_000, Ordering::SeqCst);
    rig.insert("name", "2").unwrap();
    assert!(ids_after(Scratch::copy_of(&scratch.0)) > 1_000_000_000, "a commit raises the mark");
    rig.ids.newest.store(5_000_000_000, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(2500));
    assert!(ids_after(Scratch::copy_of(&scratch.0)) > 5_000_000_000, "so does the periodic check");
}
