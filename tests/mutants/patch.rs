//! Parser of a planted bug's patch file.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One planted bug: a patch with a header that names the bug and its killers.
///
/// ```
/// use synod_tests::mutants::{Layer, Patch};
///
/// let text = "Breaks: a vote is lost\n\
///     Killer: unit: test -p synod-raft --test it -- a_vote_survives\n\n--- a/x\n+++ b/x\n";
/// let patch = Patch::parse("M23-forgets.raft.patch".as_ref(), text).expect("a complete header");
/// assert_eq!((patch.id.as_str(), patch.row()), ("M23-forgets.raft", "M23"));
/// assert_eq!(patch.killers[0].layer, Layer::Unit);
/// assert_eq!(patch.killers[0].build, ["test", "-p", "synod-raft", "--test", "it"]);
/// assert_eq!(patch.killers[0].arguments, ["a_vote_survives"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The file's name without its extension.
    pub id: String,
    /// The bug, in a few words.
    pub breaks: String,
    /// The commands that must fail, at least one and at most one per layer.
    pub killers: Vec<Killer>,
    /// The patch file.
    pub file: PathBuf,
}

/// A command that must fail on a bug.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Killer {
    /// The kind of check.
    pub layer: Layer,
    /// The arguments of the cargo command that builds it, beginning with `run` or `test`.
    pub build: Vec<String>,
    /// The arguments of the program.
    pub arguments: Vec<String>,
}

/// The kinds of checks, in the order of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// A search through seeds of the simulator.
    Simulator,
    /// An exhaustive search through every state within bounds.
    Exhaustive,
    /// A named test, a table test or a property test of one part.
    Unit,
    /// A test with real processes, disks or sockets.
    RealNode,
}

impl Layer {
    /// All layers, in the order of a table.
    pub const ALL: [Self; 4] = [Self::Simulator, Self::Exhaustive, Self::Unit, Self::RealNode];

    /// Returns the name in headers and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Simulator => "simulator",
            Self::Exhaustive => "exhaustive",
            Self::Unit => "unit",
            Self::RealNode => "real node",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Error in a patch file.
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
        /// The key of the missing line.
        key: &'static str,
    },
    /// A killer is not `LAYER: run ...` or `LAYER: test ...`, or its layer is a duplicate.
    #[error("{file}: a killer must be LAYER: run|test ..., each layer at most once, not {line:?}")]
    Killer {
        /// The patch file.
        file: PathBuf,
        /// The rest of the line.
        line: String,
    },
    /// The file's name is not `ROW-WORDS.WHERE.patch`.
    #[error("{0}: not named like M23-vote-lost-at-restart.raft.patch")]
    Name(PathBuf),
}

impl Patch {
    /// Loads all planted bugs of a folder, sorted by name.
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

    /// Parses the header of a patch file.
    ///
    /// # Errors
    /// If a line of the header is missing, or a killer is malformed.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PatchError> {
        let header = || text.lines().take_while(|line| !line.starts_with("--- "));
        let fields = |key: &'static str| header().filter_map(move |line| line.strip_prefix(key));
        let missing = |key| PatchError::Header { file: file.to_path_buf(), key };
        let breaks = fields("Breaks:").next().ok_or_else(|| missing("Breaks:"))?.trim().to_owned();
        let mut killers: Vec<Killer> = Vec::new();
        for line in fields("Killer:") {
            let killer = Killer::parse(line)
                .filter(|new| killers.iter().all(|killer| killer.layer != new.layer));
            let malformed =
                || PatchError::Killer { file: file.to_path_buf(), line: line.to_owned() };
            killers.push(killer.ok_or_else(malformed)?);
        }
        if killers.is_empty() {
            return Err(missing("Killer:"));
        }
        let id = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let named = id.split_once('-').is_some_and(|(row, rest)| {
            let numbered = row.get(1..).is_some_and(|number| number.parse::<u8>().is_ok());
            numbered && row.starts_with(|c: char| c.is_ascii_uppercase()) && rest.contains('.')
        });
        if !named {
            return Err(PatchError::Name(file.to_path_buf()));
        }
        Ok(Self { id, breaks, killers, file: file.to_path_buf() })
    }

    /// Returns the row of the catalogue, the first part of the name.
    #[must_use]
    pub fn row(&self) -> &str {
        self.id.split_once('-').map_or(&self.id, |(row, _)| row)
    }
}

impl Killer {
    /// Parses `LAYER: run|test CARGO ARGUMENTS [-- PROGRAM ARGUMENTS]`.
    fn parse(line: &str) -> Option<Self> {
        let (layer, command) = line.split_once(':')?;
        let layer = Layer::ALL.into_iter().find(|known| known.name() == layer.trim())?;
        let mut words = command.split_whitespace().map(str::to_owned);
        let build: Vec<_> = words.by_ref().take_while(|word| word != "--").collect();
        let is_known = matches!(build.first().map(String::as_str), Some("run" | "test"));
        is_known.then(|| Self { layer, build, arguments: words.collect() })
    }
}

impl fmt::Display for Killer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo {}", self.build.join(" "))?;
        if !self.arguments.is_empty() {
            write!(f, " -- {}", self.arguments.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Layer, Patch, PatchError};

    fn parse(text: &str) -> Result<Patch, PatchError> {
        Patch::parse("M01-x.raft.patch".as_ref(), text)
    }

    #[test]
    fn header_ends_where_the_patch_begins() {
        let text = "Killer: unit: run -p x\n--- a/file\n+++ b/file\nBreaks: too late\n";
        let error = parse(text).expect_err("the header has no title");
        assert!(matches!(error, PatchError::Header { key: "Breaks:", .. }), "{error}");
    }

    #[test]
    fn killer_must_be_a_run_or_a_test() {
        for killer in ["unit: build -p x", "run -p x", "hope: test -p x", ""] {
            let error = parse(&format!("Breaks: x\nKiller: {killer}\n")).expect_err(killer);
            assert!(matches!(error, PatchError::Killer { .. }), "{killer}: {error}");
        }
        let error = parse("Breaks: x\n").expect_err("no killer");
        assert!(matches!(error, PatchError::Header { key: "Killer:", .. }), "{error}");
    }

    #[test]
    fn layer_has_one_killer_with_arguments_for_its_program() {
        let real = "Killer: real node: test --workspace --test it\n";
        let text = format!("Breaks: x\nKiller: simulator: run -p x -- --seeds 0..9\n{real}");
        let patch = parse(&text).expect("complete");
        assert_eq!(patch.killers[0].build, ["run", "-p", "x"]);
        assert_eq!(patch.killers[0].arguments, ["--seeds", "0..9"]);
        assert_eq!(patch.killers[1].layer, Layer::RealNode);
        assert_eq!(patch.killers[1].build, ["test", "--workspace", "--test", "it"]);
        assert!(matches!(parse(&(text + real)), Err(PatchError::Killer { .. })));
    }

    #[test]
    fn name_must_have_row_and_crate() {
        let text = "Breaks: x\nKiller: unit: run -p x\n";
        for name in ["forgets.patch", "M1.patch", "M-forget.raft.patch", "M01-forget.patch"] {
            let error = Patch::parse(name.as_ref(), text).expect_err(name);
            assert!(matches!(error, PatchError::Name(_)), "{name}: {error}");
        }
    }
}
