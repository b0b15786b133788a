//! Faults in the syncs of a node: it is killed in a sync, or the sync fails. Every acknowledged write
//! survives, and the node stops after a failed sync.
//!
//! A kill does not test whether a write was synced, because the operating system keeps the unsynced writes
//! of a killed process. It tests the restart from each point between two syncs. The simulator's disks also
//! lose unsynced writes.
#![cfg(feature = "rocksdb")]

use crate::support::{
    Nodes, PROTOCOLS, Registers, Shape, Tracer, Write, Writers, connect, need_strace,
    one_at_a_time, put, read_all, read_all_local, wait_for,
};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

const KILL: Fault = Fault { action: "signal=SIGKILL", kills: true };
const FAIL: Fault = Fault { action: "error=EIO", kills: false };
const SYNCS: [&str; 2] = ["fsync", "fdatasync"];
const TIMEOUT: Duration = Duration::from_secs(60);
const ALL: [usize; 3] = [0, 1, 2];

/// Fault that strace injects into a sync.
#[derive(Clone, Copy, Debug)]
struct Fault {
    action: &'static str,
    kills: bool,
}

impl Fault {
    fn at(self, sync: &str, number: usize) -> String {
        format!("{sync}:{}:when={number}", self.action)
    }

    /// Checks that the node exited as the fault requires, with an error line unless it was killed.
    fn check_end(self, nodes: &Nodes, node: usize, status: ExitStatus, what: &str) {
        if self.kills {
            assert_eq!(status.signal(), Some(9), "{what}: {status}");
            return;
        }
        assert_eq!(status.code(), Some(1), "{what}: {status}");
        let error = nodes.error_line(node);
        let folder = format!("data-{}", node + 1);
        let is_clear = error.contains("Input/output error") && error.contains(&folder);
        assert!(is_clear, "{what}: the error names neither cause nor folder: {error}");
    }
}

#[test]
fn first_start_killed_in_any_sync_can_be_repeated() {
    fail_each_sync_of_a_first_start(KILL);
}

#[test]
fn first_start_stops_at_any_failed_sync_and_can_be_repeated() {
    fail_each_sync_of_a_first_start(FAIL);
}

/// Injects the fault into each sync of a first start, one start for each. The stores make these syncs, which
/// do not depend on the protocol, so the protocols alternate.
fn fail_each_sync_of_a_first_start(fault: Fault) {
    need_strace();
    let _turn = one_at_a_time();
    let mut protocols = PROTOCOLS.iter().cycle();
    for sync in SYNCS {
        let mut number = 1;
        while start_with_fault(protocols.next().expect("a cycle"), &fault.at(sync, number), fault) {
            number += 1;
        }
        println!("{fault:?}: {} starts with {sync}", number - 1);
        assert!(number > 10, "only {} {sync} calls were traced", number - 1);
    }
}

/// Starts a node with a fault, then without. Returns whether the fault was injected.
fn start_with_fault(protocol: &str, what: &str, fault: Fault) -> bool {
    let mut nodes = Nodes::single(protocol);
    nodes.start_with_faults(0, what);
    let status = wait_for("the node serves or exits", TIMEOUT, || match nodes.process(0).ended() {
        Some(status) => Some(Some(status)),
        None => read_all(nodes.ports[0]).map(|_| None),
    });
    let Some(status) = status else { return false };
    fault.check_end(&nodes, 0, status, &format!("{protocol}, {what}"));
    nodes.start(0);
    let contents = wait_for("the node serves", TIMEOUT, || contents(&mut nodes));
    assert!(contents.is_empty(), "{protocol}, {what}: {contents:?}");
    put_until_exit(&mut nodes, "first", 1);
    true
}

#[test]
fn acknowledged_writes_of_a_single_node_survive_a_fault_at_any_sync() {
    need_strace();
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let mut nodes = Nodes::single(protocol);
        let mut acknowledged = Vec::new();
        for (fault, number) in [KILL, FAIL].into_iter().flat_map(|f| (1..=6).map(move |n| (f, n))) {
            let what = fault.at("fdatasync", number);
            nodes.start(0);
            wait_for("the node serves", TIMEOUT, || contents(&mut nodes));
            let process = nodes.process(0).0.id();
            let _tracer = Tracer::attach(process, &what, &nodes.file("trace"));
            let round = format!("{}/{number}", fault.action);
            acknowledged.extend(put_until_exit(&mut nodes, &round, 10_000));
            let status = nodes.end(0);
            fault.check_end(&nodes, 0, status, &format!("{protocol}, {what}"));
        }
        nodes.start(0);
        let contents = wait_for("the node serves", TIMEOUT, || contents(&mut nodes));
        let lost = acknowledged.iter().find(|key| !contents.contains_key(*key));
        assert_eq!(lost, None, "{protocol}: {contents:?}");
        assert!(acknowledged.len() >= 6, "{protocol}: only {} writes", acknowledged.len());
        println!("{protocol}: {} writes acknowledged, none lost", acknowledged.len());
    }
}

/// Returns the contents of a single node, or `None` until it serves. Panics if it exits.
fn contents(nodes: &mut Nodes) -> Option<BTreeMap<String, String>> {
    nodes.report(0)?;
    read_all(nodes.ports[0])
}

/// Writes until the node exits, at most `max_writes` times. Returns the acknowledged keys.
fn put_until_exit(nodes: &mut Nodes, name: &str, max_writes: usize) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut client = runtime.block_on(async { connect(nodes.ports[0], TIMEOUT) });
    let mut acknowledged = Vec::new();
    for number in 0..max_writes {
        let key = format!("{name}/{number}");
        match runtime.block_on(put(&mut client, &key, "value")) {
            Ok(()) => acknowledged.push(key),
            Err(_) => return acknowledged,
        }
    }
    assert!(nodes.process(0).ended().is_none(), "the node exited after {max_writes} writes");
    acknowledged
}

#[test]
fn acknowledged_writes_survive_a_sync_fault_on_one_of_three_nodes() {
    need_strace();
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let shape = Shape { protocol, store: "rocksdb", settings: "" };
        let mut nodes = Nodes::new(&shape, |_, _, _| None);
        nodes.start_all();
        nodes.leader(&ALL);
        let writers = Writers::start(&nodes.ports, 2);
        let registers = Registers::start(&nodes.ports, 2);
        for (fault, number) in [(KILL, 1), (FAIL, 1), (KILL, 30), (FAIL, 7)] {
            wait_for_progress(&writers);
            let leader = nodes.leader(&ALL);
            let what = fault.at("fdatasync", number);
            let process = nodes.process(leader).0.id();
            let tracer = Tracer::attach(process, &what, &nodes.file("trace"));
            let status = nodes.end(leader);
            drop(tracer);
            fault.check_end(&nodes, leader, status, &format!("{protocol}, {what}"));
            nodes.start(leader);
            wait_for("the node serves again", TIMEOUT, || nodes.report(leader));
        }
        wait_for_progress(&writers);
        let (writes, recorder) = (writers.stop(), registers.stop());
        nodes.leader(&ALL);
        nodes.wait_until_equal(TIMEOUT);
        let events = recorder.check();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let contents = runtime.block_on(read_all_local(nodes.ports[0]));
        for write in writes.iter().filter(|write| write.acknowledged()) {
            assert_eq!(contents.get(&write.key), Some(&write.value), "{protocol}: lost: {write:?}");
        }
        println!("{protocol}: {} writes, {events} events linearizable", writes.len());
    }
}

fn wait_for_progress(writers: &Writers) {
    let before = writers.count(Write::acknowledged);
    wait_for("writes are acknowledged", TIMEOUT, || {
        (writers.count(Write::acknowledged) >= before + 50).then_some(())
    });
}
