//! Three nodes are cut into one and two: the one acknowledges nothing, the two go on, and healing
//! brings all together.

use crate::support::{
    Links, Nodes, PROTOCOLS, Shape, Write, Writers, connect, everything, get, one_at_a_time, page,
    wait_for,
};
use std::time::{Duration, Instant};

/// Memory serves where RocksDB is not compiled in: nobody is killed here.
const STORE: &str = if cfg!(feature = "rocksdb") { "rocksdb" } else { "memory" };
const PATIENCE: Duration = Duration::from_secs(60);
/// So many writes the majority acknowledges during the cut.
const PROGRESS: usize = 200;
const ALL: [usize; 3] = [0, 1, 2];

/// When a cut began and ended, and who was alone.
struct Cut {
    alone: usize,
    begun: Instant,
    ended: Instant,
}

#[test]
fn a_minority_acknowledges_nothing_and_healing_converges() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let links = Links::new();
        // Short, so that what the minority cannot do is given up during the cut.
        let shape = Shape { protocol, store: STORE, settings: "request-timeout = \"2s\"" };
        let mut nodes =
            Nodes::new(&shape, |_, from, to| (from != to).then(|| links.port(from, to)));
        links.open(&nodes.peers);
        nodes.start_all();
        nodes.leader(&ALL);
        let writers = Writers::start(&nodes.ports, 4);

        let leader = nodes.leader(&ALL);
        let first = cut_off(&mut nodes, &links, &writers, leader);
        let leader = nodes.leader(&ALL);
        let second = cut_off(&mut nodes, &links, &writers, (leader + 1) % 3);

        let writes = writers.stop();
        nodes.leader(&ALL);
        nodes.wait_until_equal(PATIENCE);
        for (cut, who) in [(&first, "the leader"), (&second, "a follower")] {
            let majority = check_cut(cut, &writes);
            let took = cut.ended - cut.begun;
            println!("{protocol}: {who} alone for {took:.1?}: {majority} writes by the others");
        }
        check_everywhere(&nodes, &writes);
    }
}

/// Cuts a node off until the others have served and it has given up writes; then heals.
fn cut_off(nodes: &mut Nodes, links: &Links, writers: &Writers, alone: usize) -> Cut {
    wait_for("every node takes writes", PATIENCE, || {
        let takes = |node| writers.count(|write| write.node == node && write.acknowledged()) > 0;
        ALL.into_iter().all(takes).then_some(())
    });
    let others: Vec<_> = ALL.into_iter().filter(|node| *node != alone).collect();
    links.isolate(alone);
    let begun = Instant::now();
    nodes.leader(&others);
    wait_for("the majority goes on and the minority gives up", PATIENCE, || {
        let since = |write: &Write| write.begun > begun;
        let served = |write: &Write| since(write) && write.node != alone && write.acknowledged();
        let given_up = |write: &Write| since(write) && write.node == alone && !write.acknowledged();
        (writers.count(served) >= PROGRESS && writers.count(given_up) > 0).then_some(())
    });
    let own = |write: &Write| write.node == alone && write.acknowledged() && write.ended < begun;
    let held = writers.find(own).expect("every node took writes before");
    check_reads_of_the_minority(nodes.ports[alone], &held);
    assert_eq!(page(nodes.ports[alone], "/readyz").code, 503, "it is not ready for anything");
    let ended = Instant::now();
    links.heal(alone);
    wait_for("the minority serves again", PATIENCE, || {
        let serves =
            |write: &Write| write.node == alone && write.acknowledged() && write.begun > ended;
        (writers.count(serves) > 0).then_some(())
    });
    println!("healed: node {} served again after {:.2?}", alone + 1, ended.elapsed());
    Cut { alone, begun, ended }
}

/// Alone, a node answers for itself and for nobody else.
fn check_reads_of_the_minority(port: u16, held: &Write) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = connect(port, Duration::from_secs(20));
        let own = get(&mut client, &held.key, true).await;
        assert_eq!(own.expect("a serializable read needs nobody").as_ref(), Some(&held.value));
        let fresh = get(&mut client, &held.key, false).await;
        let error = fresh.expect_err("a linearizable read needs a majority");
        assert!(error.message().starts_with("etcdserver: "), "{error:?}");
    });
}

/// Nothing that began and ended during the cut was acknowledged by the minority.
fn check_cut(cut: &Cut, writes: &[Write]) -> usize {
    let during = |write: &&Write| write.begun > cut.begun && write.ended < cut.ended;
    let during: Vec<_> = writes.iter().filter(during).collect();
    let wrong = during.iter().find(|write| write.node == cut.alone && write.acknowledged());
    assert!(wrong.is_none(), "acknowledged by a minority: {wrong:?}");
    during.iter().filter(|write| write.acknowledged()).count()
}

fn check_everywhere(nodes: &Nodes, writes: &[Write]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for port in &nodes.ports {
        let held = runtime.block_on(everything(*port));
        for write in writes.iter().filter(|write| write.acknowledged()) {
            assert_eq!(held.get(&write.key), Some(&write.value), "lost: {write:?}");
        }
    }
}
