//! The patch of every planted bug must apply, and the killers of a few must catch them. `make mutants` runs the
//! killers of all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use synod_tests::mutants::{Patch, Worktree, run_killers, table};

/// Bugs of two protocols. Their killers are a search and a named test each, and need no RocksDB.
const FEW: [&str; 2] = ["M04-lowest-ballot-wins.multi-paxos", "M24-counts-older-term.raft"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root").to_path_buf()
}

fn patches() -> Vec<Patch> {
    Patch::load(&root().join("mutants")).expect("the patches have names and headers")
}

/// Returns whether the tree is a git clone: git lists the files to copy.
fn can_plant() -> bool {
    let is_clone = root().join(".git").exists();
    if !is_clone {
        assert!(std::env::var_os("CI").is_none(), "no .git: CI must run in a clone");
        println!("skipped: planting a bug needs git, and this tree has no .git");
    }
    is_clone
}

#[test]
fn every_patch_applies_to_the_tree() {
    if !can_plant() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let worktree = Worktree::new(&root(), &folder).expect("a new folder");
    for patch in patches() {
        worktree.restore().expect("the copy can be written");
        let applied = worktree.apply(&patch.file);
        assert!(applied.is_ok(), "{} does not apply: {applied:?}", patch.id);
    }
}

#[test]
fn killers_catch_a_few_planted_bugs() {
    if !can_plant() {
        return;
    }
    let program = std::env::current_exe().expect("this program has a path");
    let worktree = Worktree::beside(&root(), &program).expect("a new folder");
    let all = patches();
    for id in FEW {
        let patch = all.iter().find(|patch| patch.id == id).expect("the patch exists");
        let row =
            run_killers(patch, &worktree).unwrap_or_else(|problem| panic!("{id}: {problem:#}"));
        assert_eq!(row.kills.len(), patch.killers.len());
    }
}

#[test]
fn catalogue_lists_exactly_the_planted_rows() {
    let catalogue = fs::read_to_string(root().join("mutants/README.md")).expect("a catalogue");
    let first_cell = |line: &str| Some(line.strip_prefix("| ")?.split_once(" |")?.0.to_owned());
    let listed: BTreeSet<_> =
        catalogue.lines().filter_map(first_cell).filter(|row| row != "row").collect();
    let planted: BTreeSet<_> = patches().iter().map(|patch| patch.row().to_owned()).collect();
    assert_eq!(listed, planted);
}

#[test]
fn results_table_lists_every_planted_bug_and_its_layers() {
    let page =
        fs::read_to_string(root().join("docs/verification.md")).expect("the document exists");
    let lines = table::read(&page).expect("the page has a table");
    let update = "run make mutants ARGS=--write";
    for patch in patches() {
        let is_listed = lines.iter().any(|line| line.is_of(&patch));
        assert!(is_listed, "{} is missing or outdated in the table: {update}", patch.id);
    }
    assert_eq!(lines.len(), patches().len(), "the table has removed patches: {update}");
}
