//! Copies dependencies that other builds compiled into the worktree.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::Path;

/// Copies the compiled dependencies of one release folder to another, RocksDB above all, which
/// takes ten minutes to compile. Does nothing if `to` has RocksDB or `from` has not. What belongs
/// to the workspace stays behind: the copy's own differs.
///
/// Time stamps are kept, because cargo goes by them. Copies and not links: cargo writes some of
/// these files in place.
pub(super) fn copy_dependencies(from: &Path, to: &Path) -> io::Result<()> {
    if has_rocksdb(to)? || !has_rocksdb(from)? {
        return Ok(());
    }
    for folder in [".fingerprint", "build", "deps"] {
        fs::create_dir_all(to.join(folder))?;
        for entry in fs::read_dir(from.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let wanted = is_dependency(&name.to_string_lossy(), entry.path().is_dir());
            let copy = to.join(folder).join(name);
            if wanted && !copy.exists() {
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

/// Whether an entry of a release folder belongs to a dependency. Programs lie beside libraries;
/// what has no library's ending is one of ours.
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
    fn dependencies_are_lent_with_their_time_stamps_and_our_own_crates_are_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let lent = ["build/librocksdb-sys-1/out/librocksdb.a", "deps/libbytes-2.rlib"];
        let kept = [".fingerprint/synod-raft-3/lib", "deps/libsynod_raft-3.rlib", "deps/it-4"];
        lent.iter().chain(&kept).for_each(|name| put(&from, name));
        put(&from, ".fingerprint/bytes-2/lib-bytes");
        let past = SystemTime::now() - Duration::from_secs(9000);
        let file = fs::File::options().append(true).open(from.join(lent[0])).expect("it exists");
        file.set_modified(past).expect("a time stamp");
        let file = fs::File::options().append(true).open(from.join(lent[1])).expect("it exists");
        file.set_modified(past).expect("a time stamp");
        copy_dependencies(&from, &to).expect("both folders are there");
        assert!(lent.iter().all(|name| to.join(name).exists()));
        assert!(!kept.iter().any(|name| to.join(name).exists()));
        assert!(to.join(".fingerprint/bytes-2/lib-bytes").exists());
        for name in lent {
            let file = fs::metadata(to.join(name)).expect("a file");
            assert_eq!(file.modified().expect("a time stamp"), past, "{name}");
        }
    }

    #[test]
    fn without_rocksdb_nothing_is_lent_and_nothing_is_lent_twice() {
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
