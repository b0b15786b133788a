//! Each answer in the FAQ of a protocol names tests or golden scripts that exist.

use std::fs;
use std::path::{Path, PathBuf};

/// The protocols, each with its minimum number of questions.
const PROTOCOLS: [(&str, usize); 3] = [("raft", 7), ("multi-paxos", 5), ("basic-paxos", 5)];

/// Returns each question with the tests and scripts that its answer names.
fn questions(text: &str) -> Vec<(&str, Vec<String>)> {
    let sections = text.split("//! # ").skip(1);
    let named = |section: &str| {
        let lines: Vec<_> = section.lines().map(|line| line.trim_start_matches("//! ")).collect();
        let whole = lines.join(" ");
        let list = whole.rsplit_once("*(").and_then(|(_, list)| list.split_once(")*"));
        let names = list.map_or("", |(list, _)| list).split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    };
    sections.map(|section| (section.lines().next().unwrap_or(""), named(section))).collect()
}

/// Returns the concatenated Rust sources below a folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of the project").path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text += &fs::read_to_string(&path).expect("a source of the project");
        }
    }
    text
}

#[test]
fn each_answer_names_existing_tests_or_scripts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root");
    for (protocol, min) in PROTOCOLS {
        let folder: PathBuf = root.join("crates").join(protocol);
        let text = fs::read_to_string(folder.join("src/faq.rs")).expect("the answers");
        let code = sources(&folder);
        let questions = questions(&text);
        assert!(questions.len() >= min, "{protocol} answers {} questions", questions.len());
        for (question, names) in questions {
            assert!(!names.is_empty(), "{protocol}: {question:?} names no test or script");
            for name in names {
                let is_test = code.contains(&format!("fn {name}("));
                let is_script = folder.join("tests/scripts").join(&name).is_file();
                assert!(is_test || is_script, "{protocol}: {question:?} names a missing {name}");
            }
        }
    }
}

#[test]
fn named_tests_and_scripts_are_parsed() {
    let text =
        "//! Text.\n//!\n//! # Why?\n//! So.\n//!\n//! # How?\n//! *(`a`, the script `b`)*\n";
    let expected = [("Why?", vec![]), ("How?", vec!["a".to_owned(), "b".to_owned()])];
    assert_eq!(questions(text), expected);
}
