//! Every test that the documentation names exists.

mod tree;

use std::collections::BTreeSet;
use std::fs;

use tree::{files, root};

/// Words in backticks that have the form of a test's name: lower case, with at least three underscores.
fn claims(text: &str) -> impl Iterator<Item = &str> {
    let is_claim = |word: &&str| {
        word.matches('_').count() >= 3
            && word.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'))
            && !word.ends_with('_')
    };
    text.split('`').skip(1).step_by(2).filter(is_claim)
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let mut sources = Vec::new();
    files(root(), "rs", &mut sources);
    let mut functions = BTreeSet::new();
    for source in &sources {
        // A program that must not compile is a test named after its file.
        functions.insert(source.file_stem().expect("it has a name").to_string_lossy().into_owned());
        let text = fs::read_to_string(source).expect("a source file can be read");
        let names =
            text.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap_or("").to_owned());
        functions.extend(names);
        // Tests that a harness names itself; the ends of some names differ between runs.
        let literals = text.split('"').filter(|word| word.matches('_').count() >= 3);
        let named = literals.map(|word| word.rsplit("::").next().unwrap_or(""));
        functions.extend(named.map(|name| name.split('{').next().unwrap_or("").to_owned()));
    }
    let exists = |claim: &str| {
        functions.contains(claim)
            || functions
                .iter()
                .any(|name| name.ends_with('_') && name.len() > 8 && claim.starts_with(&**name))
    };
    let mut pages = Vec::new();
    files(root(), "md", &mut pages);
    let mut named = 0;
    let mut missing = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).expect("a page can be read");
        for claim in claims(&text) {
            named += 1;
            if !exists(claim) {
                missing.push(format!("{}: {claim}", page.display()));
            }
        }
    }
    assert!(named > 100, "only {named} tests are named: is the documentation looked at?");
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}
