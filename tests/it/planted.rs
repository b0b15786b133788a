//! The planted bugs must still be plantable, and a few of them are, so that the runner is known to
//! work; whether all are caught is for `make mutants`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use synod_tests::mutants::{Patch, Worktree, run_killers, table};

/// Two protocols, a search and a named test, all of it built without RocksDB.
const FEW: [&str; 2] = ["M04-lowest-ballot-wins.multi-paxos", "M24-counts-older-term.raft"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root").to_path_buf()
}

fn patches() -> Vec<Patch> {
    Patch::load(&root().join("mutants")).expect("the patches have names and headers")
}

/// Whether git can list the tree's files, without which nothing can be planted.
fn can_plant() -> bool {
    let is_clone = root().join(".git").exists();
    if !is_clone {
        assert!(std::env::var_os("CI").is_none(), "the tree has no .git, and CI must have one");
        println!("skipped: the tree's files are listed by git, and this tree has no .git");
    }
    is_clone
}

#[test]
fn every_planted_bug_applies() {
    if !can_plant() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let worktree = Worktree::new(&root(), &folder).expect("a new folder");
    for patch in patches() {
        worktree.restore().expect("the copy can be written");
        let applied = worktree.apply(&patch.file);
        assert!(applied.is_ok(), "{} does not apply any more: {applied:?}", patch.id);
    }
}

#[test]
fn a_few_planted_bugs_are_caught() {
    if !can_plant() {
        return;
    }
    let program = std::env::current_exe().expect("this program lies somewhere");
    let worktree = Worktree::beside(&root(), &program).expect("a new folder");
    let all = patches();
    for id in FEW {
        let patch = all.iter().find(|patch| patch.id == id).expect("the patch is there");
        let row =
            run_killers(patch, &worktree).unwrap_or_else(|problem| panic!("{id}: {problem:#}"));
        assert_eq!(row.kills.len(), patch.killers.len());
    }
}

#[test]
fn the_catalogue_explains_every_row_and_nothing_else() {
    let catalogue = fs::read_to_string(root().join("mutants/README.md")).expect("it is there");
    let first_cell = |line: &str| Some(line.strip_prefix("| ")?.split_once(" |")?.0.to_owned());
    let explained: BTreeSet<_> =
        catalogue.lines().filter_map(first_cell).filter(|row| row != "row").collect();
    let planted: BTreeSet<_> = patches().iter().map(|patch| patch.row().to_owned()).collect();
    assert_eq!(explained, planted);
}

#[test]
fn the_table_lists_every_planted_bug_and_its_layers() {
    let page = fs::read_to_string(root().join("docs/verification.md")).expect("it is there");
    let lines = table::read(&page).expect("the page has a table");
    let again = "make mutants ARGS=--write";
    for patch in patches() {
        let fits = lines.iter().any(|line| line.fits(&patch));
        assert!(fits, "{} is not in the table as it stands now: {again}", patch.id);
    }
    assert_eq!(lines.len(), patches().len(), "the table lists what is gone: {again}");
}
