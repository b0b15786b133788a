//! A planted bug as it stands in its file.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One planted bug: a patch with a header that says what it breaks and who must notice.
///
/// ```
/// use synod_tests::mutants::{Layer, Patch};
///
/// let text = "Breaks: a vote is forgotten\n\
///     Killer: unit: test -p synod-raft --test it -- a_vote_survives\n\n--- a/x\n+++ b/x\n";
/// let patch = Patch::parse("M23-forgets.raft.patch".as_ref(), text).expect("a whole header");
/// assert_eq!((patch.id.as_str(), patch.row()), ("M23-forgets.raft", "M23"));
/// assert_eq!(patch.killers[0].layer, Layer::Unit);
/// assert_eq!(patch.killers[0].build, ["test", "-p", "synod-raft", "--test", "it"]);
/// assert_eq!(patch.killers[0].arguments, ["a_vote_survives"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The file's name without its ending.
    pub id: String,
    /// What the bug is, in a few words.
    pub breaks: String,
    /// Who must notice; each of them. At least one, at most one a layer.
    pub killers: Vec<Killer>,
    /// Where the patch lies.
    pub file: PathBuf,
}

/// A command that must notice a bug.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Killer {
    /// What kind of proof it is.
    pub layer: Layer,
    /// The arguments of the cargo command that builds it, with `run` or `test` in front.
    pub build: Vec<String>,
    /// What the program that was built gets.
    pub arguments: Vec<String>,
}

/// The kinds of proof, from the outside in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// A search through seeds of the simulator.
    Simulator,
    /// A search through every state within bounds.
    Exhaustive,
    /// A named test, a table or properties of one part.
    Unit,
    /// Real processes, disks or sockets.
    RealNode,
}

impl Layer {
    /// All of them, in the order of a table.
    pub const ALL: [Self; 4] = [Self::Simulator, Self::Exhaustive, Self::Unit, Self::RealNode];

    /// As it is written in headers and tables.
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
    /// No `LAYER: run ...` or `LAYER: test ...`, or a layer that came before.
    #[error("{file}: a killer is LAYER: run|test ..., and each layer once, not {line:?}")]
    Killer {
        /// The patch file.
        file: PathBuf,
        /// What stands there.
        line: String,
    },
    /// The file's name is not `ROW-WORDS.WHERE.patch`.
    #[error("{0}: not named like M23-vote-lost-at-restart.raft.patch")]
    Name(PathBuf),
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
    /// If a line of the header is missing, or a killer is no command that can be judged.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PatchError> {
        let header = || text.lines().take_while(|line| !line.starts_with("--- "));
        let fields = |key: &'static str| header().filter_map(move |line| line.strip_prefix(key));
        let missing = |key| PatchError::Header { file: file.to_path_buf(), key };
        let breaks = fields("Breaks:").next().ok_or_else(|| missing("Breaks:"))?.trim().to_owned();
        let mut killers: Vec<Killer> = Vec::new();
        for line in fields("Killer:") {
            let killer = Killer::parse(line)
                .filter(|new| killers.iter().all(|killer| killer.layer != new.layer));
            let wrong = || PatchError::Killer { file: file.to_path_buf(), line: line.to_owned() };
            killers.push(killer.ok_or_else(wrong)?);
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

    /// The row of the catalogue that it belongs to: what its name begins with.
    #[must_use]
    pub fn row(&self) -> &str {
        self.id.split_once('-').map_or(&self.id, |(row, _)| row)
    }
}

impl Killer {
    /// Reads `LAYER: run|test CARGO ARGUMENTS [-- PROGRAM ARGUMENTS]`.
    fn parse(line: &str) -> Option<Self> {
        let (layer, command) = line.split_once(':')?;
        let layer = Layer::ALL.into_iter().find(|known| known.name() == layer.trim())?;
        let mut words = command.split_whitespace().map(str::to_owned);
        let build: Vec<_> = words.by_ref().take_while(|word| word != "--").collect();
        let judged = matches!(build.first().map(String::as_str), Some("run" | "test"));
        judged.then(|| Self { layer, build, arguments: words.collect() })
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
    fn the_header_ends_where_the_patch_begins() {
        let text = "Killer: unit: run -p x\n--- a/file\n+++ b/file\nBreaks: too late\n";
        let error = parse(text).expect_err("there is no title");
        assert!(matches!(error, PatchError::Header { key: "Breaks:", .. }), "{error}");
    }

    #[test]
    fn only_what_can_be_judged_may_kill() {
        for killer in ["unit: build -p x", "run -p x", "hope: test -p x", ""] {
            let error = parse(&format!("Breaks: x\nKiller: {killer}\n")).expect_err(killer);
            assert!(matches!(error, PatchError::Killer { .. }), "{killer}: {error}");
        }
        let error = parse("Breaks: x\n").expect_err("nobody looks");
        assert!(matches!(error, PatchError::Header { key: "Killer:", .. }), "{error}");
    }

    #[test]
    fn a_layer_kills_once_and_the_program_has_arguments_of_its_own() {
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
    fn a_name_says_row_and_place() {
        let text = "Breaks: x\nKiller: unit: run -p x\n";
        for name in ["forgets.patch", "M1.patch", "M-forget.raft.patch", "M01-forget.patch"] {
            let error = Patch::parse(name.as_ref(), text).expect_err(name);
            assert!(matches!(error, PatchError::Name(_)), "{name}: {error}");
        }
    }
}
