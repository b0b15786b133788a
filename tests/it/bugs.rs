//! Every bug in `docs/bugs.md` that applies to Synod has a regression test with its number.

use std::fs;
use std::path::Path;
use synod_tests::bugs::{Catalogue, disagreements, named_tests};

#[test]
fn every_row_has_its_tests_and_every_numbered_test_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root");
    let text = fs::read_to_string(root.join("docs/bugs.md")).expect("the document exists");
    let catalogue = Catalogue::parse(&text).expect("valid tables");
    let tests = named_tests(root).expect("readable sources");
    let found = disagreements(&catalogue, &tests);
    assert!(found.is_empty(), "docs/bugs.md and the tests disagree:\n{}", found.join("\n"));
}
