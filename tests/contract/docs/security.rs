//! Every test, option and path that SECURITY.md names exists. Whether a test shows what is claimed is for readers to check.

use std::path::Path;

const PAGE: &str = include_str!("../../../SECURITY.md");

/// Returns the text between single backticks.
fn quoted() -> impl Iterator<Item = &'static str> {
    PAGE.split('`').skip(1).step_by(2)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

#[test]
fn every_named_test_exists() {
    let names: Vec<_> = quoted().filter(|name| name.len() > 2).filter_map(|name| name.split_once("::")).collect();
    assert!(names.len() > 30, "{names:?}");
    for (module, test) in names {
        let is_one = read(format!("tests/contract/{module}.rs")).contains(&format!("#[test]\nfn {test}() {{"));
        assert!(is_one, "{module}::{test}");
    }
}

#[test]
fn every_named_option_exists() {
    let table = read("src/guide/options.md");
    let options: Vec<_> = quoted().filter(|name| name.starts_with("--")).collect();
    assert!(options.len() > 10, "{options:?}");
    for option in options {
        assert!(table.contains(&format!("| `{option}")), "{option}");
    }
}

#[test]
fn every_named_path_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = ["scripts/", "tests/", ".cargo/", "src/"];
    for path in quoted().filter(|name| roots.iter().any(|root| name.starts_with(root))) {
        assert!(root.join(path).exists(), "{path}");
    }
}
