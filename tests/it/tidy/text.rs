//! What the files may say, and how long they may be.

use super::layers::PURE;
use super::tree::{Finding, Rule, Tree, assert_clean, assert_finds, finding, is_generated};

/// A file longer than this wants to be two.
const MAX_LINES: usize = 800;

/// rustfmt keeps code within 100; this bounds what it leaves alone, comments and strings.
const MAX_COLUMNS: usize = 120;

/// What would make two runs of one seed differ, or reach outside, in code that must not.
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

/// Files of pure crates that read a caller's golden files and pinned hashes, outside of any run.
const GOLDEN: [&str; 2] = ["crates/sim/src/conformance/suite.rs", "crates/sim/src/script/mod.rs"];

/// Marks of unfinished work, spelled so that this file does not carry them itself.
const UNFINISHED: [&str; 6] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
    concat!("dbg", "!("),
];

/// The part of a line that is code.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// Pure crates iterate in order, read no clock, start no thread and touch no file.
fn purity(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pure =
        |path: &str| PURE.iter().any(|(name, _)| path.starts_with(&format!("crates/{name}/src/")));
    for (path, text) in tree.sources().filter(|(path, _)| pure(path)) {
        for (number, line) in text.lines().enumerate() {
            let is_golden =
                |word: &str| GOLDEN.contains(&path) && matches!(word, "std::fs" | "std::env");
            let impure = IMPURE.iter().filter(|word| code(line).contains(**word));
            for word in impure.filter(|word| !is_golden(word)) {
                findings.push(finding(path, format!("line {}: {word}", number + 1)));
            }
            // A Duration is a number; an Instant of the standard library asks the machine.
            if code(line).contains("std::time::{") && code(line).contains("Instant") {
                findings.push(finding(path, format!("line {}: std's clock", number + 1)));
            }
        }
    }
    findings
}

/// A node's timers do not follow the clock on the wall, which may be set back or jump.
fn monotonic(tree: &Tree) -> Vec<Finding> {
    let running = |path: &str| path.starts_with("crates/runtime/src/run/");
    let mut findings = Vec::new();
    for (path, text) in tree.sources().filter(|(path, _)| running(path)) {
        for (number, line) in text.lines().enumerate() {
            if code(line).contains("SystemTime") {
                findings.push(finding(path, format!("line {}: the wall's clock", number + 1)));
            }
        }
    }
    findings
}

/// Nothing unfinished is left lying about.
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

/// Files and lines stay short enough to be read.
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

/// Whether a letter belongs to the Latin or the Greek script: English, names, and formulas.
fn is_readable(letter: char) -> bool {
    !letter.is_alphabetic() || matches!(letter, '\0'..='\u{3ff}' | '\u{1d00}'..='\u{2bff}')
}

/// The project speaks English.
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

/// Each source opens with a paragraph that says what it is for.
fn introduced(tree: &Tree) -> Vec<Finding> {
    let silent = |text: &str| !text.starts_with("//!");
    tree.sources()
        .filter(|(_, text)| silent(text))
        .map(|(path, _)| finding(path, "does not open with a //! paragraph"))
        .collect()
}

#[test]
fn the_text_is_tidy() {
    assert_clean(&[purity as Rule, monotonic, finished, lengths, english, introduced]);
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
fn a_clock_on_the_wall_is_found() {
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
fn other_scripts_are_found() {
    for letter in ['\u{4e00}', '\u{3042}', '\u{ac00}', '\u{0416}'] {
        assert_finds(english, &Tree::planted("README.md", &format!("{letter}\n")), "letter");
    }
    let fine = Tree::planted("README.md", "a → b, 10 µs, naïve Gödel, Δt ≤ 2×\n");
    assert_eq!(english(&fine), []);
}

#[test]
fn a_source_without_introduction_is_found() {
    assert_finds(introduced, &Tree::planted("bench/src/x.rs", "fn main() {}\n"), "//!");
}
