//! Reuse of dependencies that other builds of the tree have compiled.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::Path;

/// Copies the compiled dependencies of one release folder to another, because RocksDB takes ten
/// minutes to compile. Does nothing if `to` has RocksDB or `from` does not. Skips the workspace's own
/// crates, because those of the copy differ.
///
/// Preserves modification times, which cargo compares. Copies instead of creating hard links, because cargo
/// writes some of these files in place.
pub(super) fn copy_dependencies(from: &Path, to: &Path) -> io::Result<()> {
    if has_rocksdb(to)? || !has_rocksdb(from)? {
        return Ok(());
    }
    for folder in [".fingerprint", "build", "deps"] {
        fs::create_dir_all(to.join(folder))?;
        for entry in fs::read_dir(from.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let is_dependency = is_dependency(&name.to_string_lossy(), entry.path().is_dir());
            let copy = to.join(folder).join(name);
            if is_dependency && !copy.exists() {
                copy_all(&entry.path(), &copy)?;
            }
        }
    }
    Ok(())
}

fn has_rocksdb(release: &Path) -> io::Result<bool> {
    let Ok(builds) = fs::read_dir(release.join("build")) else { return Ok(false) };
    for entry in builds {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("librocksdb-sys-") && path.join("out/librocksdb.a").exists() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether an entry of a release folder belongs to a dependency. A file without a library's
/// extension is a program of the workspace.
fn is_dependency(name: &str, is_folder: bool) -> bool {
    let ours = name.starts_with("synod") || name.starts_with("libsynod");
    let library = [".rlib", ".rmeta", ".so", ".d"].iter().any(|ending| name.ends_with(ending));
    !ours && (is_folder || library)
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::copy(from, to)?;
    let modified = fs::metadata(from)?.modified()?;
    File::options().append(true).open(to)?.set_times(FileTimes::new().set_modified(modified))
}

#[cfg(test)]
mod tests {
    use super::copy_dependencies;
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    fn put(folder: &Path, name: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
        fs::write(path, name).expect("a new file");
    }

    #[test]
    fn only_dependencies_are_copied_with_their_modification_times() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let copied = ["build/librocksdb-sys-1/out/librocksdb.a", "deps/libbytes-2.rlib"];
        let own = [".fingerprint/synod-raft-3/lib", "deps/libsynod_raft-3.rlib", "deps/it-4"];
        copied.iter().chain(&own).for_each(|name| put(&from, name));
        put(&from, ".fingerprint/bytes-2/lib-bytes");
        let past = SystemTime::now() - Duration::from_secs(9000);
        let file = fs::File::options().append(true).open(from.join(copied[0])).expect("a file");
        file.set_modified(past).expect("a modification time");
        let file = fs::File::options().append(true).open(from.join(copied[1])).expect("a file");
        file.set_modified(past).expect("a modification time");
        copy_dependencies(&from, &to).expect("both folders exist");
        assert!(copied.iter().all(|name| to.join(name).exists()));
        assert!(!own.iter().any(|name| to.join(name).exists()));
        assert!(to.join(".fingerprint/bytes-2/lib-bytes").exists());
        for name in copied {
            let file = fs::metadata(to.join(name)).expect("a file");
            assert_eq!(file.modified().expect("a modification time"), past, "{name}");
        }
    }

    #[test]
    fn nothing_is_copied_without_rocksdb_or_twice() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        put(&from, "deps/libbytes-2.rlib");
        copy_dependencies(&from, &to).expect("nothing to do");
        assert!(!to.exists());
        put(&from, "build/librocksdb-sys-1/out/librocksdb.a");
        put(&to, "build/librocksdb-sys-1/out/librocksdb.a");
        put(&from, ".fingerprint/bytes-2/lib-bytes");
        copy_dependencies(&from, &to).expect("nothing to do");
        assert!(!to.join("deps").exists());
    }
}
