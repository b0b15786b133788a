//! Nodes are killed repeatedly under writes: no acknowledged write is lost, and the history of a few
//! contended keys is linearizable.

use crate::support::{
    Nodes, PROTOCOLS, Registers, Shape, Write, Writers, one_at_a_time, read_all_local, wait_for,
};
use std::time::{Duration, Instant};

/// Default number of kills, over all protocols.
const KILLS: usize = 51;
/// Environment variable that overrides [`KILLS`].
const KILLS_VARIABLE: &str = "SYNOD_KILLS";
/// Maximum number of kills of one cluster: the log is not compacted, so starts get slower.
const MAX_KILLS_PER_CLUSTER: usize = 25;
/// Number of acknowledged writes between two kills.
const PROGRESS: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(60);
const ALL: [usize; 3] = [0, 1, 2];

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "a restarted node needs its log: RocksDB")]
fn no_acknowledged_write_is_lost_when_nodes_are_killed() {
    let _turn = one_at_a_time();
    let kills = std::env::var(KILLS_VARIABLE);
    let kills = kills.map(|number| number.parse().expect("a number of kills"));
    let each = kills.unwrap_or(KILLS).div_ceil(PROTOCOLS.len());
    for protocol in PROTOCOLS {
        let mut killed = 0;
        while killed < each {
            let kills = MAX_KILLS_PER_CLUSTER.min(each - killed);
            run(protocol, kills);
            killed += kills;
        }
    }
}

/// Kills nodes of one cluster; every fourth time all of them.
fn run(protocol: &str, kills: usize) {
    let shape = Shape { protocol, store: "rocksdb", settings: "" };
    let mut nodes = Nodes::new(&shape, |_, _, _| None);
    nodes.start_all();
    nodes.leader(&ALL);
    let since = Instant::now();
    let writers = Writers::start(&nodes.ports, 3);
    let registers = Registers::start(&nodes.ports, 2);
    for number in 0..kills {
        wait_for_progress(&writers);
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
            wait_for("the killed node serves again", TIMEOUT, || nodes.report(node));
        }
    }
    wait_for_progress(&writers);
    let (writes, recorder) = (writers.stop(), registers.stop());
    let took = since.elapsed();
    nodes.leader(&ALL);
    let slots = nodes.wait_until_equal(TIMEOUT);
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

fn wait_for_progress(writers: &Writers) {
    let before = writers.count(Write::acknowledged);
    wait_for("writes are acknowledged", TIMEOUT, || {
        (writers.count(Write::acknowledged) >= before + PROGRESS).then_some(())
    });
}

/// Checks that all nodes have the same contents, with every acknowledged write. Returns the number
/// of acknowledged writes.
fn check_everywhere(nodes: &Nodes, writes: &[Write]) -> usize {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let contents: Vec<_> =
        nodes.ports.iter().map(|port| runtime.block_on(read_all_local(*port))).collect();
    assert!(contents[1..].iter().all(|other| *other == contents[0]), "the nodes' contents differ");
    let acknowledged: Vec<_> = writes.iter().filter(|write| write.acknowledged()).collect();
    for write in &acknowledged {
        assert_eq!(contents[0].get(&write.key), Some(&write.value), "lost: {write:?}");
    }
    for node in ALL {
        let any = acknowledged.iter().any(|write| write.node == node);
        assert!(any, "node {} acknowledged no write", node + 1);
    }
    acknowledged.len()
}
