//! A seed does the same in debug and in release.

#[allow(dead_code, reason = "the example's main function")]
#[path = "../examples/traces.rs"]
mod traces;

use std::process::Command;

/// This build does the runs itself, and cargo builds the other profile's program for them: so the
/// test needs no hashes that must be kept up to date. Everything that is built for it is
/// plain Rust: a minute at most, once.
#[test]
fn debug_and_release_builds_produce_the_same_digest() {
    let other = if cfg!(debug_assertions) { "release" } else { "dev" };
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "synod-sim", "--example", "traces"])
        .args(["--profile", other])
        .output()
        .expect("cargo built this test");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{other}: {error}");
    let theirs = String::from_utf8(output.stdout).expect("lines of text");
    let ours = traces::traces();
    assert_eq!(ours.lines().count(), 9, "{ours}");
    assert_eq!(ours, theirs, "this build's traces and those of the profile {other}");
}
