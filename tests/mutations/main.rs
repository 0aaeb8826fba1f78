//! Tests the simulation: puts defects into a copy of the sources, one at a time, and checks that the simulation notices each
//! within [`SEEDS`] seeds. `scripts/mutations` tries all; `scripts/mutations WORD…` tries those whose names contain one of
//! the words.
//!
//! The defects are listed in `list.rs`, those of several brokers with one log in `engine.rs`. The ordinary tests fail if the text that a mutation replaces does not occur exactly
//! once, or if fewer than two mutations break an invariant. A mutation that does not compile, or that never ends, counts as
//! not noticed.
//!
//! The copy is in `target/mutations/tree`. It is a package with another name in the same target directory, so that Esker's
//! dependencies are not built again and Esker's own build is not replaced. It is built without debug assertions, like a
//! release: the simulation must notice the defect, not the defective code.

mod engine;
mod list;
mod tree;
mod trial;

use std::collections::BTreeSet;

use list::{Broken, Mutation, Suite};
use tree::Tree;
use trial::{Trial, Verdict};

/// The number of seeds within which each defect must be noticed.
const SEEDS: u64 = 300;
/// The number of seeds that must pass in the copy before anything is changed.
const CONTROL_SEEDS: u64 = 10;
/// The environment variable that selects mutations: words, one of which their names contain.
const WORDS: &str = "ESKER_MUTATIONS";

fn all() -> impl Iterator<Item = &'static Mutation> {
    list::MUTATIONS.iter().chain(engine::MUTATIONS)
}

#[test]
fn the_text_that_a_mutation_replaces_occurs_once() {
    for mutation in all() {
        let text = std::fs::read_to_string(tree::root().join("src").join(mutation.file)).expect("a source file");
        let changed = tree::apply(mutation, &text);
        assert_ne!(changed, text, "{} changes nothing", mutation.name);
    }
    let names: BTreeSet<_> = all().map(|mutation| mutation.name).collect();
    assert_eq!(names.len(), all().count(), "names are unique");
}

/// Except the fourth: `tests/budget.rs` checks what delivery allocates and what a subscriber costs.
#[test]
fn every_invariant_is_broken_at_least_twice() {
    let of_the_broker = (1..=10).filter(|&number| number != 4).map(Broken::Invariant);
    let others = [1, 2, 3, 5].map(Broken::Store).into_iter().chain((1..=6).map(Broken::Engine));
    for invariant in of_the_broker.chain(others) {
        let breaking = all().filter(|mutation| mutation.breaks.contains(&invariant)).count();
        assert!(breaking >= 2, "{invariant:?} is broken by {breaking} mutations");
    }
}

#[test]
#[ignore = "takes minutes; scripts/mutations runs it"]
fn every_mutation_is_noticed() {
    let words = std::env::var(WORDS).unwrap_or_default();
    let words: Vec<_> = words.split_whitespace().collect();
    let is_selected = |mutation: &&Mutation| words.is_empty() || words.iter().any(|word| mutation.name.contains(word));
    let mutations: Vec<_> = all().filter(is_selected).collect();
    assert!(!mutations.is_empty(), "no mutation has a name with one of these words");
    let tree = Tree::new();
    for suite in [Suite::Broker, Suite::Cluster] {
        let control = Trial::start(tree.build("no-mutation"), suite, CONTROL_SEEDS).wait();
        assert!(matches!(control, Verdict::Unnoticed { .. }), "without any mutation: {control}");
    }
    let missed = try_all(&tree, &mutations);
    println!("{} of {} were noticed", mutations.len() - missed.len(), mutations.len());
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// Tries mutations, and builds each while the previous one runs. Returns those that were not noticed.
fn try_all(tree: &Tree, mutations: &[&Mutation]) -> Vec<&'static str> {
    let mut missed = Vec::new();
    let mut running: Option<(Trial, &Mutation)> = None;
    for mutation in mutations.iter().copied().map(Some).chain([None]) {
        let next = mutation.map(|mutation| (tree.build_with(mutation), mutation));
        if let Some((trial, tried)) = running.take() {
            let verdict = trial.wait();
            println!("{:38} {:22} {verdict}", tried.name, labels(tried.breaks));
            missed.extend((!verdict.is_noticed()).then_some(tried.name));
        }
        running = next.map(|(built, mutation)| (Trial::start(built, mutation.suite, SEEDS), mutation));
    }
    missed
}

fn labels(broken: &[Broken]) -> String {
    let label = |broken: &Broken| match broken {
        Broken::Invariant(number) => format!("invariant {number}"),
        Broken::Store(number) => format!("store {number}"),
        Broken::Engine(number) => format!("engine {number}"),
        Broken::Contract(_) => "contract".into(),
    };
    broken.iter().map(label).collect::<Vec<_>>().join(", ")
}
