//! The input of the rules: every text file of the project, by its path.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of the project's files, without build output and data of nodes.
const FOLDERS: [&str; 7] = [".ci", "bench", "crates", "docs", "mutants", "scripts", "tests"];

/// Text files by path from the root, with `/` between folders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) what: String,
}

/// A rule. Its input is the whole tree, because some rules span several files.
pub(crate) type Rule = fn(&Tree) -> Vec<Finding>;

/// Returns the workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests are in a folder of the workspace").to_path_buf()
}

impl Tree {
    /// Reads the project that this test was compiled from.
    pub(crate) fn load() -> Self {
        let root = root();
        let mut tree = Self::default();
        for entry in fs::read_dir(&root).expect("the root can be read") {
            let path = entry.expect("an entry of the root can be read").path();
            if path.is_file() {
                tree.read(&root, &path);
            }
        }
        for folder in FOLDERS {
            tree.walk(&root, &root.join(folder));
        }
        assert!(tree.files.len() > 50, "only {} files: is this the root?", tree.files.len());
        tree
    }

    /// Returns a tree of one file, for a test that a rule detects a violation.
    pub(crate) fn planted(path: &str, text: &str) -> Self {
        Self::default().with(path, text)
    }

    /// Returns the tree with a file added or replaced.
    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// Returns all files, in the order of their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Returns the Rust sources, without generated ones.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, text)| path.ends_with(".rs") && !is_generated(text))
    }

    /// Returns the manifests of the workspace's packages.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = (&str, toml::Table)> {
        self.files()
            .filter(|(path, _)| path.ends_with("/Cargo.toml") && !path.starts_with("bench/peers"))
            .map(|(path, text)| (path, text.parse().expect("cargo has read this manifest")))
    }

    /// Returns the text of one file.
    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    fn walk(&mut self, root: &Path, folder: &Path) {
        // A folder may be missing, such as docs/.
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.expect("an entry of the project can be read").path();
            if path.is_symlink() || path.ends_with("target") {
                continue;
            }
            if path.is_dir() {
                self.walk(root, &path);
            } else {
                self.read(root, &path);
            }
        }
    }

    fn read(&mut self, root: &Path, path: &Path) {
        let name = path.strip_prefix(root).expect("the file is below the root");
        let name = name.to_str().expect("the project's paths are text").replace('\\', "/");
        // Skips files that are not text, such as images.
        if let Ok(text) = fs::read_to_string(path) {
            self.files.insert(name, text);
        }
    }
}

/// Returns whether a source has the marker of generated code.
pub(crate) fn is_generated(text: &str) -> bool {
    text.lines().take(5).any(|line| line.starts_with("//") && line.contains("@generated"))
}

/// Returns a finding.
pub(crate) fn finding(path: &str, what: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), what: what.into() }
}

/// Panics with all findings of the rules, if there are any in the project.
#[track_caller]
pub(crate) fn assert_clean(rules: &[Rule]) {
    let tree = Tree::load();
    let findings = rules.iter().flat_map(|rule| rule(&tree));
    let lines: Vec<_> = findings.map(|f| format!("{}: {}", f.path, f.what)).collect();
    assert!(lines.is_empty(), "violated rules:\n{}", lines.join("\n"));
}

/// Panics unless the rule has a finding that contains `word`.
#[track_caller]
pub(crate) fn assert_finds(rule: Rule, tree: &Tree, word: &str) {
    let findings = rule(tree);
    assert!(
        findings.iter().any(|f| f.what.contains(word)),
        "no finding contains {word:?}: {findings:?}"
    );
}
