//! A partition of three nodes into one and two: the minority acknowledges no write, the majority serves,
//! and all nodes converge after the partition heals.

use crate::support::{
    Links, Nodes, PROTOCOLS, Shape, Write, Writers, connect, get, one_at_a_time, page,
    read_all_local, wait_for,
};
use std::time::{Duration, Instant};

/// Without RocksDB, a store in memory is enough: this test kills no node.
const STORE: &str = if cfg!(feature = "rocksdb") { "rocksdb" } else { "memory" };
const TIMEOUT: Duration = Duration::from_secs(60);
/// Number of writes that the majority acknowledges during a partition.
const PROGRESS: usize = 200;
const ALL: [usize; 3] = [0, 1, 2];

/// Time span of a partition, and the isolated node.
struct Partition {
    isolated: usize,
    started: Instant,
    ended: Instant,
}

#[test]
fn minority_acknowledges_no_write_and_healed_nodes_converge() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let links = Links::new();
        // Short, so that requests to the minority time out during the partition.
        let shape = Shape { protocol, store: STORE, settings: "request-timeout = \"2s\"" };
        let mut nodes =
            Nodes::new(&shape, |_, from, to| (from != to).then(|| links.port(from, to)));
        links.open(&nodes.peers);
        nodes.start_all();
        nodes.leader(&ALL);
        let writers = Writers::start(&nodes.ports, 4);

        let leader = nodes.leader(&ALL);
        let first = isolate(&mut nodes, &links, &writers, leader);
        let leader = nodes.leader(&ALL);
        let second = isolate(&mut nodes, &links, &writers, (leader + 1) % 3);

        let writes = writers.stop();
        nodes.leader(&ALL);
        nodes.wait_until_equal(TIMEOUT);
        for (partition, role) in [(&first, "leader"), (&second, "follower")] {
            let majority = check_partition(partition, &writes);
            let took = partition.ended - partition.started;
            println!("{protocol}: {role} isolated for {took:.1?}: {majority} writes acknowledged");
        }
        check_everywhere(&nodes, &writes);
    }
}

/// Isolates a node until the others have made progress and one of its own writes has failed; then
/// heals.
fn isolate(nodes: &mut Nodes, links: &Links, writers: &Writers, isolated: usize) -> Partition {
    let acknowledged = |write: &Write| write.node == isolated && write.acknowledged();
    wait_for("every node acknowledges writes", TIMEOUT, || {
        let serves = |node| writers.count(|write| write.node == node && write.acknowledged()) > 0;
        ALL.into_iter().all(serves).then_some(())
    });
    let others: Vec<_> = ALL.into_iter().filter(|node| *node != isolated).collect();
    links.isolate(isolated);
    let started = Instant::now();
    nodes.leader(&others);
    wait_for("the majority makes progress and a write to the minority fails", TIMEOUT, || {
        let since = |write: &Write| write.started > started;
        let served = |write: &Write| since(write) && write.node != isolated && write.acknowledged();
        let failed =
            |write: &Write| since(write) && write.node == isolated && !write.acknowledged();
        (writers.count(served) >= PROGRESS && writers.count(failed) > 0).then_some(())
    });
    let before = writers.find(|write| acknowledged(write) && write.ended < started);
    let before = before.expect("every node acknowledged writes before");
    check_reads_of_the_minority(nodes.ports[isolated], &before);
    assert_eq!(page(nodes.ports[isolated], "/readyz").code, 503, "the isolated node is ready");
    let ended = Instant::now();
    links.heal(isolated);
    wait_for("the minority serves again", TIMEOUT, || {
        let serves = |write: &Write| acknowledged(write) && write.started > ended;
        (writers.count(serves) > 0).then_some(())
    });
    println!("healed: node {} served again after {:.2?}", isolated + 1, ended.elapsed());
    Partition { isolated, started, ended }
}

/// Checks that an isolated node serves serializable reads and no linearizable ones.
fn check_reads_of_the_minority(port: u16, write: &Write) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = connect(port, Duration::from_secs(20));
        let local = get(&mut client, &write.key, true).await;
        let local = local.expect("a serializable read needs no quorum");
        assert_eq!(local.as_ref(), Some(&write.value));
        let linearizable = get(&mut client, &write.key, false).await;
        let error = linearizable.expect_err("a linearizable read needs a quorum");
        assert!(error.message().starts_with("etcdserver: "), "{error:?}");
    });
}

/// Checks that the minority acknowledged no write that started and ended during the partition.
/// Returns the number of writes that the majority acknowledged.
fn check_partition(partition: &Partition, writes: &[Write]) -> usize {
    let during =
        |write: &&Write| write.started > partition.started && write.ended < partition.ended;
    let during: Vec<_> = writes.iter().filter(during).collect();
    let wrong =
        during.iter().find(|write| write.node == partition.isolated && write.acknowledged());
    assert!(wrong.is_none(), "acknowledged by a minority: {wrong:?}");
    during.iter().filter(|write| write.acknowledged()).count()
}

fn check_everywhere(nodes: &Nodes, writes: &[Write]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for port in &nodes.ports {
        let contents = runtime.block_on(read_all_local(*port));
        for write in writes.iter().filter(|write| write.acknowledged()) {
            assert_eq!(contents.get(&write.key), Some(&write.value), "lost: {write:?}");
        }
    }
}
