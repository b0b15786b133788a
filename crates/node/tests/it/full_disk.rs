//! The disk is full: the node stops and says so, and all that it acknowledged is there once there
//! is room again.
#![cfg(feature = "rocksdb")]

use crate::support::{
    Nodes, PROTOCOLS, agreed, connect, not_tested, one_at_a_time, put, run, text, wait_for,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SMALL: &str = "12m";
const LARGE: &str = "256m";
/// So often the disk is full before it grows.
const ROUNDS: usize = 3;
/// A write that fits a few dozen times.
const VALUE: usize = 200 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk of its own size, gone when dropped.
struct Disk(PathBuf);

impl Disk {
    /// Needs root's rights; says so where there are none.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).expect("a folder");
        let size = format!("size={SMALL}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let why = match mount.output() {
            Ok(output) if output.status.success() => return Some(Self(at.to_owned())),
            Ok(output) => text(&output.stderr),
            Err(error) => error.to_string(),
        };
        not_tested("a full disk", &format!("a small tmpfs takes root's rights: {}", why.trim()));
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
        // A node may still run on it, if the test failed.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_node_and_what_it_acknowledged_is_there_when_there_is_room() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let mut nodes = Nodes::alone(protocol);
        let Some(disk) = Disk::mount(&nodes.file("data-1")) else { return };
        let mut acknowledged = Vec::new();
        for round in 1..=ROUNDS {
            nodes.start(0);
            // A start clears up, so there may be room for a little more; or not even for a start.
            if let Some(held) = serves(&mut nodes) {
                check(&held, &acknowledged, protocol);
                acknowledged.extend(fill(nodes.ports[0], round));
            }
            assert_eq!(nodes.end(0).code(), Some(1), "{protocol}");
            assert_says_full(&nodes, protocol);
        }
        assert!(acknowledged.len() > 5, "{protocol}: the disk has no room at all");
        disk.grow();
        nodes.start(0);
        let held = serves(&mut nodes).expect("there is room");
        check(&held, &acknowledged, protocol);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let written = runtime
            .block_on(async { put(&mut connect(nodes.ports[0], PATIENCE), "room", "again").await });
        assert!(written.is_ok(), "{protocol}: {written:?}");
        println!("{protocol}: full after {} writes, all there", acknowledged.len());
        // Before its disk goes.
        nodes.kill_all();
    }
}

/// What the node holds, once it serves; `None` if it ends instead.
fn serves(nodes: &mut Nodes) -> Option<BTreeMap<String, String>> {
    let port = nodes.ports[0];
    wait_for("the node serves or ends", PATIENCE, || match nodes.process(0).ended() {
        Some(_) => Some(None),
        None => agreed(port).map(Some),
    })
}

fn check(held: &BTreeMap<String, String>, acknowledged: &[String], protocol: &str) {
    for key in acknowledged {
        let value = held.get(key).map(String::len);
        assert_eq!(value, Some(VALUE), "{protocol}: {key} is lost or cut");
    }
}

/// Writes until that fails; returns the keys that were acknowledged.
fn fill(port: u16, round: usize) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = connect(port, PATIENCE);
        let value = "v".repeat(VALUE);
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 1000 {
            let key = format!("{round}/{}", acknowledged.len());
            if put(&mut client, &key, &value).await.is_err() {
                return acknowledged;
            }
            acknowledged.push(key);
        }
        panic!("the disk takes all");
    })
}

fn assert_says_full(nodes: &Nodes, protocol: &str) {
    let words = nodes.last_words(0);
    let told = words.contains("No space left on device") && words.contains("data-1");
    assert!(told, "{protocol}: it does not say what happened: {words}");
}
