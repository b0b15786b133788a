//! Rules for the text of files: purity, monotonic clocks, unfinished work, lengths, alphabets, introductory
//! paragraphs, and golden scripts that no test plays.

use super::layers::PURE;
use super::tree::{Finding, Rule, Tree, assert_clean, assert_finds, finding, is_generated};

/// Maximum number of lines of a file.
const MAX_LINES: usize = 800;

/// Maximum number of columns of comments and strings. rustfmt limits code to 100.
const MAX_COLUMNS: usize = 120;

/// Words in code that is not deterministic or does I/O. They are forbidden in pure crates.
const IMPURE: [&str; 11] = [
    "HashMap",
    "HashSet",
    "SystemTime",
    "std::time::Instant",
    "Instant::now",
    "std::thread",
    "std::fs",
    "std::net",
    "std::env",
    "thread_rng",
    "tokio::",
];

/// Markers of unfinished work, split so that this file does not contain them.
const UNFINISHED: [&str; 6] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
    concat!("dbg", "!("),
];

/// Returns the part of a line before a comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// Finds hash maps, clocks, threads and I/O in pure crates.
fn purity(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pure =
        |path: &str| PURE.iter().any(|(name, _)| path.starts_with(&format!("crates/{name}/src/")));
    for (path, text) in tree.sources().filter(|(path, _)| pure(path)) {
        for (number, line) in text.lines().enumerate() {
            let impure = IMPURE.iter().filter(|word| code(line).contains(**word));
            for word in impure {
                findings.push(finding(path, format!("line {}: {word}", number + 1)));
            }
            // An import of `Duration` is permitted, but not of the standard library's `Instant`, which reads a
            // clock.
            if code(line).contains("std::time::{") && code(line).contains("Instant") {
                findings.push(finding(path, format!("line {}: std's clock", number + 1)));
            }
        }
    }
    findings
}

/// Finds the wall clock in a node's event loop: it may jump, so timers must use a monotonic clock.
fn monotonic(tree: &Tree) -> Vec<Finding> {
    let running = |path: &str| path.starts_with("crates/runtime/src/run/");
    let mut findings = Vec::new();
    for (path, text) in tree.sources().filter(|(path, _)| running(path)) {
        for (number, line) in text.lines().enumerate() {
            if code(line).contains("SystemTime") {
                findings.push(finding(path, format!("line {}: wall clock", number + 1)));
            }
        }
    }
    findings
}

/// Finds markers of unfinished work.
fn finished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| *path != "Cargo.lock") {
        for (number, line) in text.lines().enumerate() {
            for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
                findings.push(finding(path, format!("line {}: {word}", number + 1)));
            }
        }
    }
    findings
}

/// Finds files and lines that are too long.
fn lengths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.sources() {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            findings.push(finding(path, format!("{lines} lines; at most {MAX_LINES}")));
        }
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > MAX_COLUMNS {
                findings.push(finding(path, format!("line {}: {columns} columns", number + 1)));
            }
        }
    }
    findings
}

/// Returns whether a letter is Latin or Greek, as in English text, names and formulas.
fn is_readable(letter: char) -> bool {
    !letter.is_alphabetic() || matches!(letter, '\0'..='\u{3ff}' | '\u{1d00}'..='\u{2bff}')
}

/// Finds letters of other alphabets: the project's language is English.
fn english(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for (number, line) in text.lines().enumerate() {
            if let Some(letter) = line.chars().find(|letter| !is_readable(*letter)) {
                findings.push(finding(path, format!("line {}: letter {letter:?}", number + 1)));
            }
        }
    }
    findings
}

/// Finds sources without a paragraph of introduction.
fn introduced(tree: &Tree) -> Vec<Finding> {
    tree.sources()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| finding(path, "does not begin with a //! paragraph"))
        .collect()
}

/// Finds golden scripts that no test plays.
fn played(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _) in tree.files() {
        let Some((tests, name)) = path.split_once("/scripts/") else { continue };
        let suite = tree.get(&format!("{tests}/scripts.rs")).unwrap_or_default();
        let mut words = suite.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        if tests.starts_with("crates/") && !words.any(|word| word == name) {
            findings.push(finding(path, format!("no test of {tests}/scripts.rs plays it")));
        }
    }
    findings
}

#[test]
fn text_is_tidy() {
    assert_clean(&[purity as Rule, monotonic, finished, lengths, english, introduced, played]);
}

#[test]
fn impure_code_is_found() {
    for word in IMPURE {
        let tree = Tree::planted("crates/raft/src/core.rs", &format!("use {word}x;\n"));
        assert_finds(purity, &tree, word);
    }
    let clock = "use std::time::{Duration, Instant};\n";
    assert_finds(purity, &Tree::planted("crates/raft/src/core.rs", clock), "std's clock");
    let comment = Tree::planted("crates/raft/src/core.rs", "// No HashMap here: order counts.\n");
    assert_eq!(purity(&comment), []);
    let elsewhere = Tree::planted("crates/node/src/main.rs", "use std::thread;\n");
    assert_eq!(purity(&elsewhere), []);
}

#[test]
fn wall_clock_is_found() {
    let wall = "use std::time::SystemTime;\n";
    assert_finds(monotonic, &Tree::planted("crates/runtime/src/run/clock.rs", wall), "wall");
    assert_eq!(monotonic(&Tree::planted("crates/runtime/src/data_dir.rs", wall)), []);
}

#[test]
fn unfinished_work_is_found() {
    for word in UNFINISHED {
        assert_finds(finished, &Tree::planted("README.md", &format!("text {word}\n")), word);
    }
}

#[test]
fn long_files_and_lines_are_found() {
    let long = "//! Long.\n".repeat(MAX_LINES + 1);
    assert_finds(lengths, &Tree::planted("crates/raft/src/core.rs", &long), "801 lines");
    let wide = format!("//! {}\n", "w".repeat(MAX_COLUMNS));
    assert_finds(lengths, &Tree::planted("crates/raft/src/core.rs", &wide), "124 columns");
    let generated = format!("// @generated by a tool\n{long}");
    assert!(is_generated(&generated));
    assert_eq!(lengths(&Tree::planted("crates/etcd-api/src/pb.rs", &generated)), []);
}

#[test]
fn letters_of_other_alphabets_are_found() {
    for letter in ['\u{4e00}', '\u{3042}', '\u{ac00}', '\u{0416}'] {
        assert_finds(english, &Tree::planted("README.md", &format!("{letter}\n")), "letter");
    }
    let fine = Tree::planted("README.md", "a → b, 10 µs, naïve Gödel, Δt ≤ 2×\n");
    assert_eq!(english(&fine), []);
}

#[test]
fn source_without_introduction_is_found() {
    assert_finds(introduced, &Tree::planted("bench/src/x.rs", "fn main() {}\n"), "//!");
}

#[test]
fn golden_script_that_no_test_plays_is_found() {
    let suite = "golden_scripts!(Raft: split_vote);\n";
    let tree = Tree::planted("crates/raft/tests/scripts.rs", suite);
    let tree = tree.with("crates/raft/tests/scripts/split_vote", "cluster nodes=3\n");
    assert_eq!(played(&tree), []);
    let tree = tree.with("crates/raft/tests/scripts/split", "cluster nodes=3\n");
    assert_finds(played, &tree, "plays it");
}
