//! Whether the simulation can fail: defects are put into a copy of the sources, one at a time, and it must notice each within
//! [`SEEDS`] seeds. `scripts/mutations [NAME…]` tries all, or those whose names contain one of these words.
//!
//! The list is `list.rs`. A mutation whose text is no longer there, or is there twice, fails the ordinary tests; so does an
//! invariant that fewer than two mutations break. One that does not compile, or runs without end, is not noticed.
//! The copy is `target/mutations/tree`: a package of another name in the same target directory, so that the crates that Esker
//! stands on are not built again and its own are not disturbed. It is built without debug assertions, as a release is: it is
//! the simulation that must notice, not the defective code.

mod list;
mod tree;
mod trial;

use std::collections::BTreeSet;

use list::{Broken, MUTATIONS, Mutation};
use tree::Tree;
use trial::{Trial, Verdict};

/// So many seeds must do.
const SEEDS: u64 = 200;
/// And so many must pass in the copy before anything is changed.
const CONTROL_SEEDS: u64 = 10;
/// Words that the names of those to try have one of.
const NAMES: &str = "ESKER_MUTATIONS";

#[test]
fn every_mutation_fits_the_sources() {
    for mutation in MUTATIONS {
        let text = std::fs::read_to_string(tree::root().join("src").join(mutation.file)).expect("a source file");
        let changed = tree::apply(mutation, &text);
        assert_ne!(changed, text, "{} changes nothing", mutation.name);
    }
    let names: BTreeSet<_> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
    assert_eq!(names.len(), MUTATIONS.len(), "two mutations have one name");
}

/// But for the fourth: what delivery allocates and costs is held by `tests/budget.rs`.
#[test]
fn every_invariant_is_broken_at_least_twice() {
    let of_the_house = (1..=9).filter(|&number| number != 4).map(Broken::CommonHeaders);
    for invariant in of_the_house.chain([1, 2, 3].map(Broken::Store)) {
        let breaking = MUTATIONS.iter().filter(|mutation| mutation.breaks == invariant).count();
        assert!(breaking >= 2, "{invariant:?} is broken by {breaking}");
    }
}

#[test]
#[ignore = "takes minutes; scripts/mutations runs it"]
fn each_is_noticed() {
    let words = std::env::var(NAMES).unwrap_or_default();
    let words: Vec<_> = words.split_whitespace().collect();
    let is_asked_for = |mutation: &&Mutation| words.is_empty() || words.iter().any(|word| mutation.name.contains(word));
    let mutations: Vec<_> = MUTATIONS.iter().filter(is_asked_for).collect();
    assert!(!mutations.is_empty(), "no mutation has such a name");
    let tree = Tree::new();
    let control = Trial::of(tree.build("no-mutation"), CONTROL_SEEDS).wait();
    assert!(matches!(control, Verdict::Unnoticed { .. }), "without any mutation: {control}");
    let missed = try_all(&tree, &mutations);
    println!("{} of {} were noticed", mutations.len() - missed.len(), mutations.len());
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// One is built while the one before runs. Those that were not noticed.
fn try_all(tree: &Tree, mutations: &[&Mutation]) -> Vec<&'static str> {
    let mut missed = Vec::new();
    let mut running: Option<(Trial, &Mutation)> = None;
    for mutation in mutations.iter().copied().map(Some).chain([None]) {
        let next = mutation.map(|mutation| (tree.build_with(mutation), mutation));
        if let Some((trial, tried)) = running.take() {
            let verdict = trial.wait();
            println!("{:34} {:12} {verdict}", tried.name, of(tried.breaks));
            missed.extend((!verdict.is_noticed()).then_some(tried.name));
        }
        running = next.map(|(built, mutation)| (Trial::of(built, SEEDS), mutation));
    }
    missed
}

fn of(broken: Broken) -> String {
    match broken {
        Broken::CommonHeaders(number) => format!("house {number}"),
        Broken::Store(number) => format!("store {number}"),
        Broken::Contract(_) => "contract".into(),
    }
}
