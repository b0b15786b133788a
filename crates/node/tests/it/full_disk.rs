//! A full disk: the node stops with an error. Once the disk has space again, the node starts with every
//! acknowledged write.
#![cfg(feature = "rocksdb")]

use crate::support::{
    Nodes, PROTOCOLS, connect, not_tested, one_at_a_time, put, read_all, run, text, wait_for,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SMALL: &str = "12m";
const LARGE: &str = "256m";
/// Number of times that the disk fills before it grows.
const ROUNDS: usize = 3;
/// Size of a value in bytes; the disk has space for a few dozen.
const VALUE: usize = 200 << 10;
const TIMEOUT: Duration = Duration::from_secs(60);

/// A small file system, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts a small tmpfs; reports the test as not run without root's rights.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).expect("a folder");
        let size = format!("size={SMALL}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let error = match mount.output() {
            Ok(output) if output.status.success() => return Some(Self(at.to_owned())),
            Ok(output) => text(&output.stderr),
            Err(error) => error.to_string(),
        };
        not_tested("a full disk", &format!("mounting a tmpfs needs root: {}", error.trim()));
        None
    }

    fn grow(&self) {
        let size = format!("remount,size={LARGE}");
        let output = run(Command::new("mount").args(["-o", &size]).arg(&self.0));
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A node may still use it if the test failed.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn full_disk_stops_the_node_and_acknowledged_writes_survive() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let mut nodes = Nodes::single(protocol);
        let Some(disk) = Disk::mount(&nodes.file("data-1")) else { return };
        let mut acknowledged = Vec::new();
        for round in 1..=ROUNDS {
            nodes.start(0);
            // A start frees space, so that a few writes may succeed; or the start itself fails.
            if let Some(contents) = contents_once_serving(&mut nodes) {
                check(&contents, &acknowledged, protocol);
                acknowledged.extend(fill(nodes.ports[0], round));
            }
            assert_eq!(nodes.end(0).code(), Some(1), "{protocol}");
            assert_reports_full_disk(&nodes, protocol);
        }
        assert!(acknowledged.len() > 5, "{protocol}: only {} writes fit", acknowledged.len());
        disk.grow();
        nodes.start(0);
        let contents = contents_once_serving(&mut nodes).expect("the disk has space");
        check(&contents, &acknowledged, protocol);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let written = runtime
            .block_on(async { put(&mut connect(nodes.ports[0], TIMEOUT), "room", "again").await });
        assert!(written.is_ok(), "{protocol}: {written:?}");
        println!("{protocol}: full after {} writes, none lost", acknowledged.len());
        // Before the disk is unmounted.
        nodes.kill_all();
    }
}

/// Waits until the node serves and returns its contents; `None` if it exits instead.
fn contents_once_serving(nodes: &mut Nodes) -> Option<BTreeMap<String, String>> {
    let port = nodes.ports[0];
    wait_for("the node serves or exits", TIMEOUT, || match nodes.process(0).ended() {
        Some(_) => Some(None),
        None => read_all(port).map(Some),
    })
}

fn check(contents: &BTreeMap<String, String>, acknowledged: &[String], protocol: &str) {
    for key in acknowledged {
        let value = contents.get(key).map(String::len);
        assert_eq!(value, Some(VALUE), "{protocol}: {key} is lost or truncated");
    }
}

/// Writes until a write fails; returns the acknowledged keys.
fn fill(port: u16, round: usize) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = connect(port, TIMEOUT);
        let value = "v".repeat(VALUE);
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 1000 {
            let key = format!("{round}/{}", acknowledged.len());
            if put(&mut client, &key, &value).await.is_err() {
                return acknowledged;
            }
            acknowledged.push(key);
        }
        panic!("the disk is not full after {} writes", acknowledged.len());
    })
}

fn assert_reports_full_disk(nodes: &Nodes, protocol: &str) {
    let error = nodes.error_line(0);
    let is_clear = error.contains("No space left on device") && error.contains("data-1");
    assert!(is_clear, "{protocol}: the error names neither cause nor folder: {error}");
}
