//! A seed gives the same results in debug and release builds.

#[allow(dead_code, reason = "the example's main function")]
#[path = "../examples/traces.rs"]
mod traces;

use std::process::Command;

/// Compares the results of this build with those of the other profile, which the test builds and
/// runs with cargo. The example depends on plain Rust only, so the first build takes at most a
/// minute.
#[test]
fn debug_and_release_builds_produce_the_same_hashes() {
    let other = if cfg!(debug_assertions) { "release" } else { "dev" };
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "synod-sim", "--example", "traces"])
        .args(["--profile", other])
        .output()
        .expect("cargo built this test");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{other}: {error}");
    let other_build = String::from_utf8(output.stdout).expect("lines of text");
    let this_build = traces::traces();
    assert_eq!(this_build.lines().count(), 9, "{this_build}");
    assert_eq!(this_build, other_build, "this build's traces and those of the profile {other}");
}
