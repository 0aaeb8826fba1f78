//! Tests the simulation: defects are put into a copy of the sources, one at a time, and the simulation must detect each within
//! [`SEEDS`] seeds. `scripts/mutations [WORD…]` tries all, or those whose names contain one of the words.
//!
//! `list.rs` has the mutations. The ordinary tests fail if a mutation's text occurs in its file not exactly once, or if fewer
//! than two mutations break an invariant. A mutation that does not compile, or runs endlessly, counts as undetected. The copy
//! is `target/mutations/tree`: a package with another name in the same target directory, so that dependencies are not built
//! again and Esker's own artifacts stay. It is built without debug assertions, like a release: the simulation must detect the
//! defect, not the defective code.

mod list;
mod tree;
mod trial;

use std::collections::BTreeSet;

use list::{Broken, MUTATIONS, Mutation};
use tree::Tree;
use trial::{Trial, Verdict};

/// A mutation must be detected within this many seeds.
const SEEDS: u64 = 200;
/// The unchanged copy must pass this many seeds.
const CONTROL_SEEDS: u64 = 10;
/// The environment variable with words; mutations whose names contain one are tried.
const NAMES: &str = "ESKER_MUTATIONS";

#[test]
fn every_mutation_matches_the_sources() {
    for mutation in MUTATIONS {
        let text = std::fs::read_to_string(tree::root().join("src").join(mutation.file)).expect("a source file");
        let changed = tree::apply(mutation, &text);
        assert_ne!(changed, text, "{} changes nothing", mutation.name);
    }
    let names: BTreeSet<_> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
    assert_eq!(names.len(), MUTATIONS.len(), "two mutations have the same name");
}

/// The fourth invariant is an exception: `tests/budget.rs` checks the cost of deliveries.
#[test]
fn every_invariant_is_broken_at_least_twice() {
    let of_the_broker = (1..=9).filter(|&number| number != 4).map(Broken::Broker);
    for invariant in of_the_broker.chain([1, 2, 3].map(Broken::Store)) {
        let breaking = MUTATIONS.iter().filter(|mutation| mutation.breaks == invariant).count();
        assert!(breaking >= 2, "{invariant:?} is broken by {breaking}");
    }
}

#[test]
#[ignore = "takes minutes; scripts/mutations runs it"]
fn each_mutation_is_detected() {
    let words = std::env::var(NAMES).unwrap_or_default();
    let words: Vec<_> = words.split_whitespace().collect();
    let is_selected = |mutation: &&Mutation| words.is_empty() || words.iter().any(|word| mutation.name.contains(word));
    let mutations: Vec<_> = MUTATIONS.iter().filter(is_selected).collect();
    assert!(!mutations.is_empty(), "no mutation matches");
    let tree = Tree::new();
    let control = Trial::start(tree.build("no-mutation"), CONTROL_SEEDS).wait();
    assert!(matches!(control, Verdict::Undetected { .. }), "without any mutation: {control}");
    let missed = try_all(&tree, &mutations);
    println!("{} of {} were detected", mutations.len() - missed.len(), mutations.len());
    assert!(missed.is_empty(), "undetected: {missed:?}");
}

/// Builds each mutation while the previous one runs. Returns the names of undetected ones.
fn try_all(tree: &Tree, mutations: &[&Mutation]) -> Vec<&'static str> {
    let mut missed = Vec::new();
    let mut running: Option<(Trial, &Mutation)> = None;
    for mutation in mutations.iter().copied().map(Some).chain([None]) {
        let next = mutation.map(|mutation| (tree.build_with(mutation), mutation));
        if let Some((trial, tried)) = running.take() {
            let verdict = trial.wait();
            println!("{:34} {:12} {verdict}", tried.name, label(tried.breaks));
            missed.extend((!verdict.is_detected()).then_some(tried.name));
        }
        running = next.map(|(built, mutation)| (Trial::start(built, SEEDS), mutation));
    }
    missed
}

fn label(broken: Broken) -> String {
    match broken {
        Broken::Broker(number) => format!("broker {number}"),
        Broken::Store(number) => format!("store {number}"),
        Broken::Contract(_) => "contract".into(),
    }
}
