//! The planted bugs must still be plantable; whether they are caught is for `make mutants`.

use std::path::Path;
use synod_tests::mutants::{Patch, Scratch};

#[test]
fn every_planted_bug_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root");
    if !root.join(".git").exists() {
        assert!(std::env::var_os("CI").is_none(), "the tree has no .git, and CI must have one");
        println!("skipped: the tree's files are listed by git, and this tree has no .git");
        return;
    }
    let patches = Patch::load(&root.join("mutants")).expect("the patches have headers");
    assert!(patches.len() >= 5, "only {} planted bugs", patches.len());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let scratch = Scratch::new(root, &folder).expect("a new folder");
    for patch in patches {
        scratch.restore().expect("the copy can be written");
        let applied = scratch.apply(&patch.file);
        assert!(applied.is_ok(), "{} does not apply any more: {applied:?}", patch.id);
    }
}
