//! Every bug that shipped elsewhere and applies here is held by a test of its number.

use std::fs;
use std::path::Path;
use synod_tests::bugs::{Catalogue, disagreements, named_tests};

#[test]
fn every_row_has_its_tests_and_every_numbered_test_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root");
    let text = fs::read_to_string(root.join("docs/bugs.md")).expect("the document is there");
    let catalogue = Catalogue::parse(&text).expect("its tables can be read");
    let tests = named_tests(root).expect("the sources can be read");
    let found = disagreements(&catalogue, &tests);
    assert!(found.is_empty(), "docs/bugs.md and the tests:\n{}", found.join("\n"));
}
