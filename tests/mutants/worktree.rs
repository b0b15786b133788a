//! The copy of the tree in which bugs are planted.

use super::build_cache::copy_dependencies;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the tree with its own target folder. It is kept between runs, and only changed files are
/// written, so that cargo compiles only what changed.
#[derive(Debug)]
pub struct Worktree {
    root: PathBuf,
    folder: PathBuf,
    /// The target folder of the tree itself, a source of compiled dependencies.
    shared_build: Option<PathBuf>,
    /// Locked file. Without the lock, concurrent runs would run each other's mutants.
    _lock: File,
}

impl Worktree {
    /// Creates `folder` for a copy of the tree at `root`. Waits while another process uses the folder.
    ///
    /// # Errors
    /// If the folder cannot be created or locked.
    pub fn new(root: &Path, folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder.join("tree"))?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        let (root, folder) = (root.to_path_buf(), folder.canonicalize()?);
        Ok(Self { root, folder, shared_build: None, _lock: lock })
    }

    /// Creates the worktree in the target folder that contains `program`, which all runs share. Cargo marks a
    /// target folder with a file `CACHEDIR.TAG`.
    ///
    /// # Errors
    /// As [`Worktree::new`], or if the program is not in a target folder.
    pub fn beside(root: &Path, program: &Path) -> io::Result<Self> {
        let target = program
            .ancestors()
            .find(|folder| folder.join("CACHEDIR.TAG").exists())
            .ok_or_else(|| io::Error::other(format!("{program:?} is not in a target folder")))?;
        let shared_build = Some(target.to_path_buf());
        Ok(Self { shared_build, ..Self::new(root, &target.join("mutants"))? })
    }

    /// Returns the folder of the copy.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Returns the target folder of the copy.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// Copies the compiled RocksDB of the tree's own builds, if there is one. Otherwise the next build that
    /// needs RocksDB compiles it.
    ///
    /// # Errors
    /// If a file cannot be copied.
    pub fn copy_rocksdb(&self) -> io::Result<()> {
        let Some(shared_build) = &self.shared_build else { return Ok(()) };
        copy_dependencies(&shared_build.join("release"), &self.target().join("release"))
    }

    /// Makes the copy equal to the tree, including uncommitted changes. Does not write files that are equal
    /// already, so that their modification times stay the same.
    ///
    /// # Errors
    /// If git cannot list the tree's files, or a file cannot be read or written.
    pub fn restore(&self) -> io::Result<()> {
        let files = self.files()?;
        for name in &files {
            let (from, to) = (self.root.join(name), self.tree().join(name));
            let content = fs::read(&from)?;
            if fs::read(&to).is_ok_and(|found| found == content) {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&to, content)?;
        }
        remove_others(&self.tree(), &self.tree(), &files)
    }

    /// Applies a patch to the copy.
    ///
    /// # Errors
    /// If git cannot be run, or rejects the patch; the error has git's message.
    pub fn apply(&self, patch: &Path) -> io::Result<()> {
        let output = Command::new("git")
            .args(["apply", "--whitespace=nowarn"])
            .arg(patch.canonicalize()?)
            .current_dir(self.tree())
            // The copy may be inside the repository: without this git would apply the patch to the
            // repository's own files.
            .env("GIT_CEILING_DIRECTORIES", &self.folder)
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Returns the tree's files: tracked files, and untracked files that are not ignored.
    fn files(&self) -> io::Result<BTreeSet<PathBuf>> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other("git cannot list the tree's files"));
        }
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        // A deleted file may still be in the index.
        let exists = |name: &PathBuf| self.root.join(name).is_file();
        Ok(names.split_terminator('\0').map(PathBuf::from).filter(exists).collect())
    }
}

/// Removes files of an earlier patch or an earlier tree from the copy.
fn remove_others(top: &Path, folder: &Path, files: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(top, &path, files)?;
        } else if path.strip_prefix(top).is_ok_and(|name| !files.contains(name)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Worktree;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    const PATCH: &str = "--- a/src/a.txt\n+++ b/src/a.txt\n@@ -1 +1 @@\n-one\n+two\n";

    /// Creates a repository of one file, and a worktree in a folder inside it that git ignores.
    fn planted(folder: &Path) -> Worktree {
        let git = Command::new("git").args(["init", "-q"]).current_dir(folder).status();
        assert!(git.expect("git runs").success());
        fs::create_dir(folder.join("src")).expect("a new folder");
        fs::write(folder.join("src/a.txt"), "one\n").expect("a new file");
        fs::write(folder.join(".gitignore"), "/target\n").expect("a new file");
        Worktree::new(folder, &folder.join("target/mutants")).expect("a new folder")
    }

    #[test]
    fn patch_changes_only_the_copy_and_restore_undoes_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let worktree = planted(folder.path());
        let patch = folder.path().join("m.patch");
        fs::write(&patch, PATCH).expect("a new file");
        worktree.restore().expect("the first copy");
        worktree.apply(&patch).expect("the patch applies");
        let read = |path: &Path| fs::read_to_string(path).expect("the file exists");
        assert_eq!(read(&worktree.tree().join("src/a.txt")), "two\n");
        assert_eq!(read(&folder.path().join("src/a.txt")), "one\n");
        fs::write(worktree.tree().join("src/other"), "").expect("a new file");
        worktree.restore().expect("the second copy");
        assert_eq!(read(&worktree.tree().join("src/a.txt")), "one\n");
        assert!(!worktree.tree().join("src/other").exists());
    }

    #[test]
    fn patch_that_does_not_apply_is_rejected() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let worktree = planted(folder.path());
        let patch = folder.path().join("m.patch");
        fs::write(&patch, PATCH.replace("one", "other")).expect("a new file");
        worktree.restore().expect("the first copy");
        let error = worktree.apply(&patch).expect_err("the line does not exist");
        assert!(error.to_string().contains("src/a.txt"), "{error}");
    }
}
