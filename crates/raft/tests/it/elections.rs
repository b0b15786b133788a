//! Elections: Raft §5.2, §5.4.1, thesis §9.6 and §4.2.3.

use crate::cluster::*;

#[test]
fn a_single_voter_elects_itself_and_commits() {
    let mut cluster = Cluster::new(1);
    cluster.elect(N1);
    cluster.propose(N1, 7, "a");
    assert_eq!(cluster.commands(N1), ["a"]);
    assert_eq!(cluster.node(N1).placed, [(synod_types::Ticket(7), synod_types::Slot(2))]);
}

#[test]
fn three_nodes_elect_and_replicate() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.propose(N1, 1, "a");
    cluster.propose(N1, 2, "b");
    cluster.deliver();
    for id in cluster.ids() {
        assert_eq!(cluster.commands(id), ["a", "b"], "{id:?}");
        assert_eq!(terms(&cluster.node(id).disk.log), [1, 1, 1]);
    }
}
