//! Packaging: every crate can be published, and a project outside the workspace can use one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The workspace's root folder.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests are in a folder of the workspace").to_path_buf()
}

/// Returns a folder for cargo's output.
fn output(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// Runs cargo in a folder, with a separate target folder. It runs offline, because all dependencies were
/// downloaded when this test was built.
fn cargo(folder: &Path, target: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--offline")
        .arg("--target-dir")
        .arg(target)
        .current_dir(folder)
        .output()
        .expect("cargo runs")
}

#[track_caller]
fn assert_success(output: &Output) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

/// Returns the published crates: the folders below `crates/`.
fn published() -> Vec<String> {
    let folders = fs::read_dir(root().join("crates")).expect("there are crates");
    let folders = folders.map(|entry| entry.expect("a crate's folder can be read").path());
    let crates = folders.filter(|path| path.join("Cargo.toml").is_file());
    crates.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

#[test]
fn every_crate_can_be_packaged() {
    let target = output("package");
    let arguments = ["--exclude", "synod-bench", "--exclude", "synod-tests", "--allow-dirty"];
    let package = ["package", "--workspace", "--no-verify"];
    assert_success(&cargo(&root(), &target, &[&package[..], &arguments].concat()));
    let crates = published();
    assert!(crates.len() >= 10, "{crates:?}");
    for name in crates {
        let file = target.join(format!("package/synod-{name}-{}.crate", env!("CARGO_PKG_VERSION")));
        assert!(file.is_file(), "{} was not packaged", file.display());
    }
}

#[test]
fn every_package_has_its_licences() {
    for name in published() {
        let package = format!("synod-{name}");
        let arguments = ["package", "--list", "--allow-dirty", "-p", &package];
        let list = cargo(&root(), &output("package"), &arguments);
        assert_success(&list);
        let list = String::from_utf8_lossy(&list.stdout);
        for file in ["LICENSE-APACHE", "LICENSE-MIT", "src/lib.rs"] {
            assert!(list.lines().any(|line| line == file), "{package} lacks {file}: {list}");
        }
    }
}

/// A project that depends only on `synod-raft` builds and runs that crate's example, without C++ and
/// without an async runtime.
#[test]
fn project_outside_the_workspace_can_use_raft_alone() {
    let project = tempfile::tempdir().expect("a temporary folder");
    let folder = project.path();
    let raft = root().join("crates/raft");
    let manifest = format!(
        "[package]\nname = \"consumer\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nsynod-raft = {{ path = {:?} }}\n\n[workspace]\n",
        raft.display()
    );
    fs::write(folder.join("Cargo.toml"), manifest).expect("a new file");
    fs::create_dir(folder.join("src")).expect("a new folder");
    fs::copy(raft.join("examples/in_memory.rs"), folder.join("src/main.rs")).expect("the example");
    // Offline, cargo can use only the versions in this lock file, which are downloaded.
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).expect("the lock file");
    assert_success(&cargo(folder, &folder.join("target"), &["run"]));
    let lock = fs::read_to_string(folder.join("Cargo.lock")).expect("cargo wrote it");
    for heavy in ["tokio", "quinn", "librocksdb-sys", "synod-storage", "synod-replica"] {
        let entry = format!("name = \"{heavy}\"\n");
        assert!(!lock.contains(&entry), "synod-raft depends on {heavy}");
    }
}
