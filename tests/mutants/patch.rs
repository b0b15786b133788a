//! A planted bug as it stands in its file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One planted bug: a patch with a header that says what it breaks and who must notice.
///
/// ```
/// use synod_tests::mutants::Patch;
///
/// let text = "Breaks: a vote is forgotten\nKiller: test -p synod-raft\n\n--- a/x\n+++ b/x\n";
/// let patch = Patch::parse("M-forget.patch".as_ref(), text).expect("the header is complete");
/// assert_eq!(patch.id, "M-forget");
/// assert_eq!(patch.killer, ["test", "-p", "synod-raft"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The file's name without its ending.
    pub id: String,
    /// What the bug is, in a few words.
    pub breaks: String,
    /// The arguments of the cargo command that must fail.
    pub killer: Vec<String>,
    /// Where the patch lies.
    pub file: PathBuf,
}

/// Why a patch file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The folder or the file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// A line of the header is missing.
    #[error("{file}: no line {key:?} before the patch")]
    Header {
        /// The patch file.
        file: PathBuf,
        /// How the missing line begins.
        key: &'static str,
    },
    /// The killer is not `cargo run` or `cargo test`.
    #[error("{0}: the killer must begin with run or test")]
    Killer(PathBuf),
}

impl Patch {
    /// All planted bugs of a folder, by name.
    ///
    /// # Errors
    /// If the folder or a file in it cannot be read, or a header is incomplete.
    pub fn load(folder: &Path) -> Result<Vec<Self>, PatchError> {
        let unreadable = |path: &Path| {
            let path = path.to_path_buf();
            move |error| PatchError::Unreadable(path, error)
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
            let path = entry.map_err(unreadable(folder))?.path();
            if path.extension().is_some_and(|ending| ending == "patch") {
                files.push(path);
            }
        }
        files.sort();
        let parse = |file: PathBuf| {
            let text = fs::read_to_string(&file).map_err(unreadable(&file))?;
            Self::parse(&file, &text)
        };
        files.into_iter().map(parse).collect()
    }

    /// Reads the header of a patch file.
    ///
    /// # Errors
    /// If a line of the header is missing, or the killer is no command that can be judged.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PatchError> {
        let header = || text.lines().take_while(|line| !line.starts_with("--- "));
        let field = |key: &'static str| {
            header()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim().to_owned())
                .ok_or_else(|| PatchError::Header { file: file.to_path_buf(), key })
        };
        let breaks = field("Breaks:")?;
        let killer: Vec<_> = field("Killer:")?.split_whitespace().map(str::to_owned).collect();
        if !matches!(killer.first().map(String::as_str), Some("run" | "test")) {
            return Err(PatchError::Killer(file.to_path_buf()));
        }
        let id = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { id, breaks, killer, file: file.to_path_buf() })
    }

    /// The killer's arguments to cargo, without those to the program that it runs.
    #[must_use]
    pub fn build_arguments(&self) -> Vec<&str> {
        self.killer.iter().map(String::as_str).take_while(|word| *word != "--").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Patch, PatchError};

    #[test]
    fn the_header_ends_where_the_patch_begins() {
        let text = "Killer: run -p x -- --seeds 0..9\n--- a/file\n+++ b/file\nBreaks: too late\n";
        let error = Patch::parse("m.patch".as_ref(), text).expect_err("there is no title");
        assert!(matches!(error, PatchError::Header { key: "Breaks:", .. }), "{error}");
    }

    #[test]
    fn only_what_can_be_judged_may_kill() {
        let text = "Breaks: x\nKiller: build -p x\n";
        let error = Patch::parse("m.patch".as_ref(), text).expect_err("a build proves nothing");
        assert!(matches!(error, PatchError::Killer(_)), "{error}");
    }

    #[test]
    fn the_program_has_arguments_of_its_own() {
        let text = "Breaks: x\nKiller: run --release -p x -- --seeds 0..9\n";
        let patch = Patch::parse("m.patch".as_ref(), text).expect("complete");
        assert_eq!(patch.build_arguments(), ["run", "--release", "-p", "x"]);
    }
}
