//! Load on links of bounded rate, whose lane of values is overtaken by heartbeats and answers.

use crate::cluster::*;
use std::time::Duration;
use synod_multi_paxos::types::{NodeId, Slot};

const COMMAND: usize = 20_000;
const MS: Duration = Duration::from_millis(1);

/// Proposes a command every 5 ms (4 MB/s) for this time. Returns their number.
fn load(cluster: &mut Cluster, time: Duration) -> usize {
    let command = "x".repeat(COMMAND);
    let count = time.as_millis() / 5;
    for _ in 0..count {
        let now = cluster.now;
        cluster.node(N1).propose(now, 1, &command);
        cluster.run_for(5 * MS);
    }
    assert_eq!(cluster.node(N1).outputs.refused, [], "the window takes them all");
    count as usize
}

/// Returns the number of proposed commands that `id` has not chosen.
fn backlog(cluster: &mut Cluster, id: NodeId) -> u64 {
    cluster.node(N1).status().last.0 - cluster.node(id).status().commit.0
}

fn assert_sent_once(cluster: &Cluster, offered: usize) {
    let needed = 2 * offered * COMMAND;
    let (sent, dropped) = (cluster.lanes.sent, cluster.lanes.dropped);
    assert!(sent <= needed / 20 * 21, "{sent} bytes sent, {needed} needed, {dropped} dropped");
    assert_eq!(dropped, 0, "what is in flight fits its lane");
    assert_eq!(cluster.leaders(), [N1]);
}

#[test]
fn burst_beyond_the_link_rate_is_sent_once_and_drains_in_five_seconds() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    // 200 Mbit/s.
    cluster.lanes.rate = 25_000;
    let mut offered = load(&mut cluster, Duration::from_secs(2));
    let (now, command) = (cluster.now, "x".repeat(COMMAND));
    for _ in 0..2_000 {
        cluster.node(N1).propose(now, 1, &command);
        offered += 1;
    }
    offered += load(&mut cluster, Duration::from_secs(5));
    for id in cluster.ids() {
        assert!(backlog(&mut cluster, id) <= 20, "{id} lags");
    }
    cluster.run_for(TIMEOUT);
    assert!(cluster.nodes.values().all(|node| node.commands().len() == offered));
    assert_sent_once(&cluster, offered);
}

#[test]
fn returning_follower_under_load_is_sent_each_slot_once() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    // 100 Mbit/s; the other nodes have links of their own.
    cluster.lanes.rate = 12_500;
    let mut offered = load(&mut cluster, Duration::from_secs(1));
    cluster.links(&[(N1, N2)]);
    offered += load(&mut cluster, Duration::from_secs(10));
    cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
    let lag = backlog(&mut cluster, N3);
    assert!(lag >= 2_000, "{lag}");
    // 40 MB of backlog at 8.5 MB/s beyond the load.
    offered += load(&mut cluster, Duration::from_millis(2 * 4_700));
    assert!(backlog(&mut cluster, N3) <= 20, "{} behind", backlog(&mut cluster, N3));
    cluster.run_for(TIMEOUT);
    assert!(cluster.nodes.values().all(|node| node.commands().len() == offered));
    assert_sent_once(&cluster, offered);
}

/// The same, but another node leads when it returns: values that the first leader had chosen are pulled.
#[test]
fn values_chosen_by_an_earlier_leader_are_pulled_once_under_load() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N2);
    cluster.lanes.rate = 12_500;
    cluster.links(&[(N1, N2)]);
    let (now, command) = (cluster.now, "x".repeat(COMMAND));
    for _ in 0..1_000 {
        cluster.node(N2).propose(now, 1, &command);
    }
    cluster.run_for(Duration::from_secs(3));
    assert!(cluster.node(N1).status().commit > Slot(1_000));
    let at = cluster.now;
    cluster.node(N2).step(at, synod_multi_paxos::consensus::Input::Stalled);
    cluster.leader_of(&[N1], 8 * TIMEOUT);
    let mut offered = 1_000;
    cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
    offered += load(&mut cluster, Duration::from_secs(6));
    cluster.run_for(TIMEOUT);
    for node in cluster.nodes.values() {
        assert_eq!(node.commands().len(), offered, "{:?}", node.id());
    }
    assert_sent_once(&cluster, offered);
}
