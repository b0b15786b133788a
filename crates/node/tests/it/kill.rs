//! Nodes are killed again and again while all take writes: nothing acknowledged is lost, and what
//! clients see of a few contended keys is linearizable.

use crate::support::{
    Nodes, PROTOCOLS, Registers, Shape, Write, Writers, everything, one_at_a_time, wait_for,
};
use std::time::{Duration, Instant};

/// Over all protocols together, unless the environment asks for another number.
const KILLS: usize = 51;
const ASKED: &str = "SYNOD_KILLS";
/// Nothing is ever compacted, so a new cluster takes over before the old one starts slowly.
const MOST_OF_ONE_CLUSTER: usize = 25;
/// So many writes are acknowledged between one kill and the next.
const PROGRESS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);
const ALL: [usize; 3] = [0, 1, 2];

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "a killed node must find its log again: RocksDB")]
fn nothing_acknowledged_is_lost_when_nodes_are_killed() {
    let _turn = one_at_a_time();
    let asked = std::env::var(ASKED).map(|number| number.parse().expect("a number of kills"));
    let each = asked.unwrap_or(KILLS).div_ceil(PROTOCOLS.len());
    for protocol in PROTOCOLS {
        let mut killed = 0;
        while killed < each {
            let kills = MOST_OF_ONE_CLUSTER.min(each - killed);
            run(protocol, kills);
            killed += kills;
        }
    }
}

/// Kills nodes of one cluster; every fourth time, all of them at once.
fn run(protocol: &str, kills: usize) {
    let shape = Shape { protocol, store: "rocksdb", settings: "" };
    let mut nodes = Nodes::new(&shape, |_, _, _| None);
    nodes.start_all();
    nodes.leader(&ALL);
    let since = Instant::now();
    let writers = Writers::start(&nodes.ports, 3);
    let registers = Registers::start(&nodes.ports, 2);
    for number in 0..kills {
        serve_a_while(&writers);
        let leader = nodes.leader(&ALL);
        match number % 4 {
            0 => {
                nodes.kill_all();
                nodes.start_all();
            }
            1 | 2 => restart(&mut nodes, leader),
            _ => restart(&mut nodes, (leader + 1) % 3),
        }
        for node in ALL {
            wait_for("the killed node is back", PATIENCE, || nodes.report(node));
        }
    }
    serve_a_while(&writers);
    let (writes, recorder) = (writers.stop(), registers.stop());
    let took = since.elapsed();
    nodes.leader(&ALL);
    let slots = nodes.wait_until_equal(PATIENCE);
    let acknowledged = check_everywhere(&nodes, &writes);
    let events = recorder.check();
    println!(
        "{protocol}: {kills} kills in {took:.1?}; {acknowledged} of {} writes acknowledged, all \
         on every node, states equal at slot {slots}; a history of {events} events linearizable",
        writes.len()
    );
}

fn restart(nodes: &mut Nodes, node: usize) {
    nodes.kill(node);
    nodes.start(node);
}

fn serve_a_while(writers: &Writers) {
    let before = writers.count(Write::acknowledged);
    wait_for("writes are acknowledged", PATIENCE, || {
        (writers.count(Write::acknowledged) >= before + PROGRESS).then_some(())
    });
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
    for node in ALL {
        assert!(acknowledged.iter().any(|write| write.node == node), "node {node} took no write");
    }
    acknowledged.len()
}
