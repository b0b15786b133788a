//! Rules for prose: words that it must not use, and the form of doc summaries.

use super::tree::{Finding, Rule, Tree, assert_clean, assert_finds, finding, is_generated};

/// Words that prose must not use, split so that this file does not contain them.
const WORDS: [&str; 11] = [
    concat!("no", "body"),
    concat!("some", "body"),
    concat!("who", "ever"),
    concat!("v", "ow"),
    concat!("v", "ows"),
    concat!("a", "new"),
    concat!("be", "fall"),
    concat!("di", "ce"),
    concat!("sh", "all"),
    concat!("un", "der way"),
    concat!("ri", "ght behind"),
];

/// First words of summaries that are questions or clauses. A summary must begin with a noun phrase or a verb
/// in the third person.
const QUESTIONS: [&str; 9] =
    ["What", "Whether", "Who", "How", "Where", "Which", "When", "Why", "If"];

/// Returns the lines of a file that the rules check: those of sources and documents, and the headers of planted
/// bugs. In the changelog, only the section of the unreleased version is checked.
fn prose<'a>(path: &str, text: &'a str) -> Vec<&'a str> {
    let is_source = path.ends_with(".rs") && !is_generated(text);
    let is_patch = path.starts_with("mutants/") && path.ends_with(".patch");
    let is_release = |line: &str| {
        line.starts_with("## ") && line.contains(char::is_numeric) && !line.contains("unreleased")
    };
    match path {
        "CHANGELOG.md" => text.lines().take_while(|line| !is_release(line)).collect(),
        _ if is_patch => text.lines().take_while(|line| !line.starts_with("--- ")).collect(),
        _ if is_source || path.ends_with(".md") => text.lines().collect(),
        _ => Vec::new(),
    }
}

/// Splits a line into words in lower case. A name such as `vote_is_lost` is split into its words.
fn words(line: &str) -> impl Iterator<Item = String> {
    let words = line.split(|letter: char| !letter.is_alphabetic());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Finds words that prose must not use. A phrase may continue on the next line.
fn forbidden_words(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        let lines: Vec<Vec<_>> =
            prose(path, text).into_iter().map(|line| words(line).collect()).collect();
        for (at, line) in lines.iter().enumerate() {
            let next = lines.get(at + 1).map_or(&[][..], Vec::as_slice);
            let both = [&line[..], next].concat();
            for word in WORDS {
                let parts: Vec<_> = words(word).collect();
                for _ in (0..line.len()).filter(|start| both[*start..].starts_with(&parts)) {
                    findings.push(finding(path, format!("line {}: {word:?}", at + 1)));
                }
            }
        }
    }
    findings
}

/// Finds doc summaries that begin with a question word: those of items, and those of files.
fn question_summaries(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.sources() {
        let mut previous = "";
        for (at, line) in text.lines().map(str::trim_start).enumerate() {
            let summary = match at {
                0 => line.strip_prefix("//!"),
                _ if previous.starts_with("///") => None,
                _ => line.strip_prefix("///"),
            };
            let summary = summary.unwrap_or_default().trim_start();
            let word = summary.split(|letter: char| !letter.is_alphabetic()).next();
            if let Some(word) = word.filter(|word| QUESTIONS.contains(word)) {
                findings.push(finding(path, format!("line {}: summary {word:?}", at + 1)));
            }
            previous = line;
        }
    }
    findings
}

#[test]
fn language_is_tidy() {
    assert_clean(&[forbidden_words as Rule, question_summaries]);
}

#[test]
fn forbidden_word_is_found() {
    for word in WORDS {
        for (path, text) in [
            ("crates/raft/src/a.rs", format!("// This {word}, in a comment.\n")),
            ("crates/raft/src/b.rs", format!("let text = \"{}: 1\";\n", word.to_uppercase())),
            ("crates/raft/src/c.rs", format!("fn {}_leads() {{}}\n", word.replace(' ', "_"))),
            ("docs/a.md", format!("Text\nand {}.\n", word.replace(' ', "\n"))),
            ("mutants/M01-a.raft.patch", format!("Breaks: {word}\n--- a\n")),
            ("CHANGELOG.md", format!("## 0.2.0 - unreleased\n{word}\n## 0.1.0\n")),
        ] {
            assert_finds(forbidden_words, &Tree::planted(path, &text), word);
            assert_eq!(forbidden_words(&Tree::planted(path, &text)).len(), 1, "{path}: {text}");
        }
        for (path, text) in [
            ("crates/raft/src/a.rs", format!("// x{word}, {word}s{word}\n")),
            ("crates/etcd-api/src/pb.rs", format!("// @generated\n// {word}\n")),
            ("mutants/M01-a.raft.patch", format!("Breaks: x\n--- a\n+// {word}\n")),
            ("CHANGELOG.md", format!("## 0.2.0 - unreleased\n## 0.1.0\n{word}\n")),
            ("LICENSE-MIT", word.to_owned()),
        ] {
            assert_eq!(forbidden_words(&Tree::planted(path, &text)), [], "{path}: {text}");
        }
    }
}

#[test]
fn summary_that_begins_with_a_question_word_is_found() {
    let plant = |text: &str| Tree::planted("crates/raft/src/a.rs", text);
    for word in QUESTIONS {
        let file = plant(&format!("//! {word} it is.\n"));
        assert_finds(question_summaries, &file, word);
        let item = plant(&format!("//! A.\n\n    /// {word}: it is.\n    /// {word} else.\n"));
        assert_finds(question_summaries, &item, "line 3");
        assert_eq!(question_summaries(&item).len(), 1);
        let fine = plant(&format!("//! A.\n//! {word}\n\n/// {word}ever.\n/// {word}\n"));
        assert_eq!(question_summaries(&fine), []);
    }
}
