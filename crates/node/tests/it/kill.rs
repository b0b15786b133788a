//! Leaders are killed again and again while all nodes take writes: nothing acknowledged is lost.

use crate::support::{
    Nodes, PROTOCOLS, Shape, Write, Writers, everything, one_at_a_time, wait_for,
};
use std::time::{Duration, Instant};

const KILLS: usize = 20;
/// So many writes are acknowledged between one kill and the next.
const PROGRESS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "a killed node must find its log again: RocksDB")]
fn nothing_acknowledged_is_lost_when_leaders_are_killed() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let shape = Shape { protocol, store: "rocksdb", settings: "" };
        let mut nodes = Nodes::new(&shape, |_, _, _| None);
        nodes.start_all();
        nodes.leader(&[0, 1, 2]);
        let since = Instant::now();
        let writers = Writers::start(&nodes.ports, 4);
        for _ in 0..KILLS {
            let leader = kill_the_leader(&mut nodes, &writers);
            nodes.start(leader);
            wait_for("the killed node is back", PATIENCE, || nodes.report(leader));
        }
        let writes = writers.stop();
        let took = since.elapsed();
        nodes.leader(&[0, 1, 2]);
        let slots = nodes.wait_until_equal(PATIENCE);
        let acknowledged = check_everywhere(&nodes, &writes);
        println!(
            "{protocol}: {KILLS} leaders killed in {took:.1?}; {acknowledged} of {} writes \
             acknowledged, all on every node, states equal at slot {slots}",
            writes.len()
        );
    }
}

/// Waits until the cluster has served for a while, and kills whoever leads it.
fn kill_the_leader(nodes: &mut Nodes, writers: &Writers) -> usize {
    let before = writers.count(Write::acknowledged);
    wait_for("writes are acknowledged", PATIENCE, || {
        (writers.count(Write::acknowledged) >= before + PROGRESS).then_some(())
    });
    let leader = nodes.leader(&[0, 1, 2]);
    nodes.kill(leader);
    leader
}

/// Every acknowledged write is on every node, and all nodes hold the same.
fn check_everywhere(nodes: &Nodes, writes: &[Write]) -> usize {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let held: Vec<_> = nodes.ports.iter().map(|port| runtime.block_on(everything(*port))).collect();
    assert!(held[1..].iter().all(|other| *other == held[0]), "the nodes hold different keys");
    let acknowledged: Vec<_> = writes.iter().filter(|write| write.acknowledged()).collect();
    for write in &acknowledged {
        assert_eq!(held[0].get(&write.key), Some(&write.value), "lost: {write:?}");
    }
    for node in 0..3 {
        assert!(acknowledged.iter().any(|write| write.node == node), "node {node} took no write");
    }
    acknowledged.len()
}
