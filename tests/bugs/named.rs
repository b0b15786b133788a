//! Search for tests in the sources by their names.

use std::fs;
use std::io;
use std::path::Path;

/// A function whose name begins with the id of a row, such as `raft_09_late_write`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedTest {
    /// The row's id: `raft-09`.
    pub row: String,
    /// The crate, without `synod-`.
    pub package: String,
    /// The function's name.
    pub name: String,
    /// True if it runs as a test.
    pub runs: bool,
}

/// Returns every function that is named after a row, in the sources below `crates/` of the workspace at `root`,
/// sorted by row, crate and name.
///
/// # Errors
/// If a folder or a source cannot be read.
pub fn named_tests(root: &Path) -> io::Result<Vec<NamedTest>> {
    let mut tests = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let package = entry.file_name().to_string_lossy().into_owned();
            walk(&entry.path(), &package, &mut tests)?;
        }
    }
    tests.sort();
    Ok(tests)
}

fn walk(folder: &Path, package: &str, tests: &mut Vec<NamedTest>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, package, tests)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            tests.extend(in_source(&fs::read_to_string(&path)?, package));
        }
    }
    Ok(())
}

/// Returns the functions of one source that are named after a row.
fn in_source(text: &str, package: &str) -> Vec<NamedTest> {
    let mut tests = Vec::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            is_ignored |= line.contains("ignore");
            continue;
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if let Some((row, name)) = function(line).and_then(|name| Some((row_of(name)?, name))) {
            let (package, name) = (package.to_owned(), name.to_owned());
            tests.push(NamedTest { row, package, name, runs: is_test && !is_ignored });
        }
        (is_test, is_ignored) = (false, false);
    }
    tests
}

/// Returns the name of the function that begins on this line.
fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ").unwrap_or(line);
    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(|letter: char| letter != '_' && !letter.is_alphanumeric()).next()
}

/// Returns the row of a name: `raft-09` for `raft_09_late_write`.
fn row_of(name: &str) -> Option<String> {
    ["raft_", "paxos_p"].iter().find_map(|series| {
        let (number, _) = name.strip_prefix(series)?.split_once('_')?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| format!("{}{number}", series.replace('_', "-")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, bool)> {
        in_source(text, "raft").into_iter().map(|test| (test.row, test.runs)).collect()
    }

    #[test]
    fn row_is_derived_from_the_name() {
        assert_eq!(row_of("raft_09_late_write").as_deref(), Some("raft-09"));
        assert_eq!(row_of("paxos_p05_reuse").as_deref(), Some("paxos-p05"));
        for other in ["raft_core", "raft_9x_y", "paxos_05_y", "a_raft_09_y", "raft_09", "raft__y"] {
            assert_eq!(row_of(other), None, "{other}");
        }
    }

    #[test]
    fn ignored_and_plain_functions_do_not_run() {
        let is = |text: &str, runs: bool| assert_eq!(found(text), [("raft-09".into(), runs)]);
        is("#[test]\nfn raft_09_x() {}\n", true);
        is("    #[test]\n    // Why.\n    fn raft_09_x(\n", true);
        is("#[tokio::test(flavor = \"current_thread\")]\nasync fn raft_09_x() {}\n", true);
        is("#[test]\n#[ignore = \"slow\"]\nfn raft_09_x() {}\n", false);
        is("fn raft_09_x() {}\n", false);
        is("#[test]\nfn other() {}\nfn raft_09_x() {}\n", false);
    }

    #[test]
    fn functions_in_comments_and_strings_are_ignored() {
        assert_eq!(found("// #[test]\n// fn raft_09_x() {}\nlet a = \"fn raft_09_x()\";\n"), []);
    }
}
