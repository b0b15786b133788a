//! The leader is stopped, as by a slow machine, and goes on as if nothing had happened: whatever
//! it believes then, no client reads anything stale, from it or from anyone.

use crate::support::{Nodes, PROTOCOLS, Registers, Shape, one_at_a_time, wait_for};
use std::time::{Duration, Instant};

/// Memory serves where RocksDB is not compiled in: nobody is killed here.
const STORE: &str = if cfg!(feature = "rocksdb") { "rocksdb" } else { "memory" };
/// Shorter and far longer than an election takes; the last one longer than patience with a peer.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// From here on the others must have gone on.
const LONG: Duration = Duration::from_secs(2);
/// So many operations the others do by themselves in a long pause, and each node after it.
const PROGRESS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);
const ALL: [usize; 3] = [0, 1, 2];

#[test]
fn no_read_is_stale_when_a_stopped_leader_goes_on() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let shape = Shape { protocol, store: STORE, settings: "" };
        let mut nodes = Nodes::new(&shape, |_, _, _| None);
        nodes.start_all();
        nodes.leader(&ALL);
        let registers = Registers::start(&nodes.ports, 3);
        for pause in PAUSES {
            serve_a_while(&registers);
            let leader = nodes.leader(&ALL);
            stop_and_go_on(&mut nodes, &registers, leader, pause);
        }
        serve_a_while(&registers);
        let events = registers.stop().check();
        nodes.wait_until_equal(PATIENCE);
        println!("{protocol}: leaders stopped for {PAUSES:?}: {events} events linearizable");
    }
}

/// Every node does something.
fn serve_a_while(registers: &Registers) {
    let before = ALL.map(|node| registers.done(node));
    wait_for("every node serves", PATIENCE, || {
        ALL.into_iter().all(|node| registers.done(node) >= before[node] + PROGRESS).then_some(())
    });
}

fn stop_and_go_on(nodes: &mut Nodes, registers: &Registers, leader: usize, pause: Duration) {
    let others: Vec<_> = ALL.into_iter().filter(|node| *node != leader).collect();
    nodes.process(leader).signal("STOP");
    let begun = Instant::now();
    let before: Vec<_> = others.iter().map(|node| registers.done(*node)).collect();
    let gone_on = || {
        let mut done = others.iter().zip(&before);
        done.all(|(node, before)| registers.done(*node) >= before + PROGRESS)
    };
    wait_for("the others go on", PATIENCE, || {
        (begun.elapsed() >= pause && (pause < LONG || gone_on())).then_some(())
    });
    nodes.process(leader).signal("CONT");
}
