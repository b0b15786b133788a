//! Nodes die in the middle of a sync, or a sync fails, one after the other: whatever was
//! acknowledged before is there afterwards, and nobody goes on with a disk that failed.
//!
//! A kill alone does not test what was synced, because the system keeps what a dead process wrote.
//! It tests each moment between two syncs; the simulator's disks lose what was not synced.
#![cfg(feature = "rocksdb")]

use crate::support::{
    Nodes, PROTOCOLS, Registers, Shape, Tracer, Write, Writers, agreed, connect, everything,
    need_strace, one_at_a_time, put, wait_for,
};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

const KILL: Fault = Fault { action: "signal=SIGKILL", kills: true };
const FAIL: Fault = Fault { action: "error=EIO", kills: false };
const SYNCS: [&str; 2] = ["fsync", "fdatasync"];
const PATIENCE: Duration = Duration::from_secs(60);
const ALL: [usize; 3] = [0, 1, 2];

/// What becomes of a sync.
#[derive(Clone, Copy, Debug)]
struct Fault {
    action: &'static str,
    kills: bool,
}

impl Fault {
    fn at(self, sync: &str, number: usize) -> String {
        format!("{sync}:{}:when={number}", self.action)
    }

    /// The node has ended as it should, and has said why if it could.
    fn check_end(self, nodes: &Nodes, node: usize, status: ExitStatus, what: &str) {
        if self.kills {
            assert_eq!(status.signal(), Some(9), "{what}: {status}");
            return;
        }
        assert_eq!(status.code(), Some(1), "{what}: {status}");
        let words = nodes.last_words(node);
        let place = format!("data-{}", node + 1);
        let told = words.contains("Input/output error") && words.contains(&place);
        assert!(told, "{what}: it does not say what happened: {words}");
    }
}

#[test]
fn a_first_start_that_dies_at_any_sync_is_begun_again() {
    every_sync_of_a_first_start(KILL);
}

#[test]
fn a_first_start_stops_at_any_sync_that_fails() {
    every_sync_of_a_first_start(FAIL);
}

/// Goes through all syncs until a start has fewer. The start is the stores' work, whatever the
/// protocol, so the protocols take turns.
fn every_sync_of_a_first_start(fault: Fault) {
    need_strace();
    let _turn = one_at_a_time();
    let mut protocols = PROTOCOLS.iter().cycle();
    for sync in SYNCS {
        let mut number = 1;
        while start_with_fault(protocols.next().expect("a cycle"), &fault.at(sync, number), fault) {
            number += 1;
        }
        println!("{fault:?}: {} starts with {sync}", number - 1);
        assert!(number > 10, "a first start syncs far more often: {number} {sync}");
    }
}

/// Says whether the fault came to pass.
fn start_with_fault(protocol: &str, what: &str, fault: Fault) -> bool {
    let mut nodes = Nodes::alone(protocol);
    nodes.start_with_faults(0, what);
    let status = wait_for("the node serves or ends", PATIENCE, || match nodes.process(0).ended() {
        Some(status) => Some(Some(status)),
        None => agreed(nodes.ports[0]).map(|_| None),
    });
    let Some(status) = status else { return false };
    fault.check_end(&nodes, 0, status, &format!("{protocol}, {what}"));
    nodes.start(0);
    let held = wait_for("it serves", PATIENCE, || serving(&mut nodes));
    assert!(held.is_empty(), "{protocol}, {what}: {held:?}");
    put_until_it_ends(&mut nodes, "first", 1);
    true
}

#[test]
fn what_a_node_alone_acknowledged_survives_death_and_failure_at_any_sync_of_its_writes() {
    need_strace();
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let mut nodes = Nodes::alone(protocol);
        let mut acknowledged = Vec::new();
        for (fault, number) in [KILL, FAIL].into_iter().flat_map(|f| (1..=6).map(move |n| (f, n))) {
            let what = fault.at("fdatasync", number);
            nodes.start(0);
            wait_for("it serves", PATIENCE, || serving(&mut nodes));
            let process = nodes.process(0).0.id();
            let _tracer = Tracer::attach(process, &what, &nodes.file("trace"));
            let round = format!("{}/{number}", fault.action);
            acknowledged.extend(put_until_it_ends(&mut nodes, &round, 10_000));
            let status = nodes.end(0);
            fault.check_end(&nodes, 0, status, &format!("{protocol}, {what}"));
        }
        nodes.start(0);
        let held = wait_for("it serves", PATIENCE, || serving(&mut nodes));
        let lost = acknowledged.iter().find(|key| !held.contains_key(*key));
        assert_eq!(lost, None, "{protocol}: {held:?}");
        assert!(acknowledged.len() >= 6, "{protocol}: hardly a write comes between two faults");
        println!("{protocol}: {} writes acknowledged, all there", acknowledged.len());
    }
}

/// All that a node alone holds, once it serves. Fails if it ends.
fn serving(nodes: &mut Nodes) -> Option<BTreeMap<String, String>> {
    nodes.report(0)?;
    agreed(nodes.ports[0])
}

/// Writes until the node is gone, or so many times; returns the keys that were acknowledged.
fn put_until_it_ends(nodes: &mut Nodes, name: &str, most: usize) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut client = runtime.block_on(async { connect(nodes.ports[0], PATIENCE) });
    let mut acknowledged = Vec::new();
    for number in 0..most {
        let key = format!("{name}/{number}");
        match runtime.block_on(put(&mut client, &key, "value")) {
            Ok(()) => acknowledged.push(key),
            Err(_) => return acknowledged,
        }
    }
    assert!(nodes.process(0).ended().is_none(), "it has acknowledged {most} writes");
    acknowledged
}

#[test]
fn one_of_three_may_die_or_fail_at_a_sync_while_all_take_writes() {
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
            serve_a_while(&writers);
            let victim = nodes.leader(&ALL);
            let what = fault.at("fdatasync", number);
            let process = nodes.process(victim).0.id();
            let tracer = Tracer::attach(process, &what, &nodes.file("trace"));
            let status = nodes.end(victim);
            drop(tracer);
            fault.check_end(&nodes, victim, status, &format!("{protocol}, {what}"));
            nodes.start(victim);
            wait_for("the node is back", PATIENCE, || nodes.report(victim));
        }
        serve_a_while(&writers);
        let (writes, recorder) = (writers.stop(), registers.stop());
        nodes.leader(&ALL);
        nodes.wait_until_equal(PATIENCE);
        let events = recorder.check();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let held = runtime.block_on(everything(nodes.ports[0]));
        for write in writes.iter().filter(|write| write.acknowledged()) {
            assert_eq!(held.get(&write.key), Some(&write.value), "{protocol}: lost: {write:?}");
        }
        println!("{protocol}: {} writes, {events} events linearizable", writes.len());
    }
}

fn serve_a_while(writers: &Writers) {
    let before = writers.count(Write::acknowledged);
    wait_for("writes are acknowledged", PATIENCE, || {
        (writers.count(Write::acknowledged) >= before + 50).then_some(())
    });
}
