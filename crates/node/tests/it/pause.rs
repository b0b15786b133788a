//! A leader whose process is paused, and still believes to be the leader when it resumes: no client reads a
//! stale value, from it or from another node.

use crate::support::{Nodes, PROTOCOLS, Registers, Shape, one_at_a_time, wait_for};
use std::time::{Duration, Instant};

/// Without RocksDB, a store in memory is enough: this test kills no node.
const STORE: &str = if cfg!(feature = "rocksdb") { "rocksdb" } else { "memory" };
/// Durations of the pauses: from about the length of an election to more than a connection's idle timeout.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// Shortest pause during which the other nodes must make progress.
const LONG_PAUSE: Duration = Duration::from_secs(2);
/// Number of operations that each other node completes during a long pause, and each node after it.
const PROGRESS: usize = 50;
const TIMEOUT: Duration = Duration::from_secs(60);
const ALL: [usize; 3] = [0, 1, 2];

#[test]
fn no_read_is_stale_when_a_paused_leader_resumes() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let shape = Shape { protocol, store: STORE, settings: "" };
        let mut nodes = Nodes::new(&shape, |_, _, _| None);
        nodes.start_all();
        nodes.leader(&ALL);
        let registers = Registers::start(&nodes.ports, 3);
        for pause in PAUSES {
            wait_for_progress(&registers);
            let leader = nodes.leader(&ALL);
            pause_and_resume(&mut nodes, &registers, leader, pause);
        }
        wait_for_progress(&registers);
        let events = registers.stop().check();
        nodes.wait_until_equal(TIMEOUT);
        println!("{protocol}: leaders paused for {PAUSES:?}: {events} events linearizable");
    }
}

/// Waits until every node has completed more operations.
fn wait_for_progress(registers: &Registers) {
    let before = ALL.map(|node| registers.done(node));
    wait_for("every node serves", TIMEOUT, || {
        ALL.into_iter().all(|node| registers.done(node) >= before[node] + PROGRESS).then_some(())
    });
}

fn pause_and_resume(nodes: &mut Nodes, registers: &Registers, leader: usize, pause: Duration) {
    let others: Vec<_> = ALL.into_iter().filter(|node| *node != leader).collect();
    nodes.process(leader).signal("STOP");
    let started = Instant::now();
    let before: Vec<_> = others.iter().map(|node| registers.done(*node)).collect();
    let others_progressed = || {
        let mut done = others.iter().zip(&before);
        done.all(|(node, before)| registers.done(*node) >= before + PROGRESS)
    };
    wait_for("the other nodes make progress", TIMEOUT, || {
        (started.elapsed() >= pause && (pause < LONG_PAUSE || others_progressed())).then_some(())
    });
    nodes.process(leader).signal("CONT");
}
