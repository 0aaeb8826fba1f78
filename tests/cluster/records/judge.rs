//! Compares what every broker has with what the writers were told and the readers have seen.

use std::collections::{BTreeMap, BTreeSet};

use super::super::cluster::{Cluster, Node};
use super::readers::{Notes, Readers};
use super::writers::{Answer, Ledger, NAMES};

/// The versions of each name: ids and data, in the order of a broker's audit.
pub type Audit = BTreeMap<&'static str, Vec<(u64, usize)>>;

/// Reads all versions at one broker.
pub fn audit(node: &Node) -> Audit {
    NAMES.into_iter().map(|name| (name, versions(node, name))).collect()
}

fn versions(node: &Node, name: &str) -> Vec<(u64, usize)> {
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut versions: Vec<(u64, usize)> = Vec::new();
    loop {
        let after = versions.last().map_or(0, |(id, _)| *id);
        let page = node.broker().get(&format!("/audit?event={encoded}&after={after}&limit=500"));
        assert_eq!(page.status, 200, "{page:?}");
        // Members in their order: serde_json sorts them by key, and ids have equally many digits.
        let page_versions = page.json().as_object().expect("a page is an object").clone();
        versions.extend(page_versions.iter().map(|(key, data)| {
            let id = key.strip_prefix(&format!("{name}_v_")).and_then(|id| id.parse().ok()).expect("a key has an id");
            (id, data.as_u64().expect("data is a number") as usize)
        }));
        if page.field("Link").is_none() {
            return versions;
        }
    }
}

/// Returns how many records are stored. Everything that was acknowledged is there once, with its id, nothing that was refused
/// is, and all brokers have the same.
pub fn assert_stored(cluster: &Cluster, ledger: &Ledger) -> Audit {
    let audits: Vec<Audit> = cluster.nodes.iter().map(audit).collect();
    assert!(audits.windows(2).all(|pair| pair[0] == pair[1]), "all brokers have the same records");
    let audit = audits.into_iter().next().expect("there is a broker");
    let mut stored = BTreeMap::new();
    for (name, versions) in &audit {
        assert!(versions.is_sorted_by(|one, next| one.0 < next.0), "{name}: ids ascend");
        for (id, number) in versions {
            assert_eq!(stored.insert(*number, (*name, *id)), None, "{number} is there twice");
        }
    }
    for (number, outcome) in ledger.outcomes().iter() {
        let found = stored.remove(number);
        match &outcome.answer {
            Answer::Stored(id) => assert_eq!(found, Some((outcome.name, *id)), "{number} was acknowledged"),
            Answer::Refused(why) => assert_eq!(found, None, "{number} was refused: {why}"),
            Answer::Unknown => assert!(found.is_none_or(|(name, _)| name == outcome.name), "{number}: {found:?}"),
        }
    }
    assert!(stored.is_empty(), "nobody has inserted {stored:?}");
    audit
}

/// Waits until every reader has the newest version of each name, ends them, and checks what each has seen: nothing that is not
/// stored, in the order of the ids.
pub fn assert_read(readers: Readers, audit: &Audit) -> Vec<Notes> {
    let newest: BTreeMap<String, (u64, usize)> =
        audit.iter().filter_map(|(name, versions)| Some(((*name).to_owned(), *versions.last()?))).collect();
    readers.await_all("up to date", |notes| notes.newest == newest);
    let stored: BTreeSet<(&str, u64, usize)> = audit
        .iter()
        .flat_map(|(name, versions)| versions.iter().map(move |(id, number)| (*name, *id, *number)))
        .collect();
    let all = readers.stop();
    for notes in &all {
        let mut begin = 0;
        for end in notes.gaps.iter().copied().chain([notes.seen.len()]) {
            let seen = &notes.seen[begin..end];
            assert!(seen.is_sorted_by(|one, next| one.1 < next.1), "ids ascend, and nothing comes twice: {seen:?}");
            begin = end;
        }
        let since = notes.gaps.last().copied().unwrap_or(0);
        for (name, id, number) in &notes.seen[since..] {
            assert!(stored.contains(&(name.as_str(), *id, *number)), "{name} {id} was seen and is not stored");
        }
    }
    all
}
