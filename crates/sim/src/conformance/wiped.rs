//! A quorum loses its disks. What was acknowledged is lost then, and no protocol can help it; but
//! the node that still has it must not add another history to its state.

use super::steps::{WATCH, crash, healthy, leader, others, run, until, write};
use crate::check::Checks;
use crate::cluster::Cluster;
use crate::cluster::disk::Disk;
use crate::violation::{Violation, ViolationKind};
use synod_consensus::Protocol;
use synod_types::{Incarnation, NodeId, Slot};

/// Two nodes of three come back with empty disks and choose other commands, under the terms of the
/// old history or under later ones. The third one either stops, with
/// [`ViolationKind::UndoesApplied`], or stays at what it has applied.
pub fn survivor_of_a_wiped_quorum_serves_no_mixture<P: Protocol>() {
    for later in [false, true] {
        survive::<P>(later);
    }
}

fn survive<P: Protocol>(later: bool) {
    let mut cluster = healthy::<P>(3);
    let first = leader(&mut cluster);
    for key in b'a'..b'f' {
        write(&mut cluster, first, key, b"old");
    }
    until(&mut cluster, "stored states", |cluster| cluster.has_settled());
    run(&mut cluster, WATCH);
    let survivor = NodeId(3);
    let lost = others(&cluster, &[survivor]);
    let state = cluster.applied(survivor);
    let term = cluster.status(survivor).map(|status| status.ballot.round);
    cluster.partition(&[survivor], &lost);
    crash(&mut cluster, survivor);
    lost.iter().for_each(|node| cluster.wipe(*node).unwrap_or_else(|found| panic!("{found}")));
    cluster.forget_history();
    for node in cluster.members().clone().all() {
        cluster.restart(node).unwrap_or_else(|found| panic!("{found}"));
    }
    for _ in 0..20 {
        write(&mut cluster, lost[0], b'a', b"new");
        let now = cluster.status(lost[0]).map(|status| status.ballot.round);
        if later && term > Some(0) && now <= term.map(|term| term + 1) {
            lost.iter().for_each(|node| crash(&mut cluster, *node));
            for node in &lost {
                cluster.restart(*node).unwrap_or_else(|found| panic!("{found}"));
            }
        }
    }
    cluster.heal();
    match cluster.run_for(WATCH) {
        Err(found) => assert_eq!(found.kind, ViolationKind::UndoesApplied, "{found}"),
        Ok(()) => assert_eq!(cluster.applied(survivor), state, "{survivor:?} goes on"),
    }
}

impl<P: Protocol> Cluster<P> {
    /// Kills a node and empties its disks: it starts with a store that was never used.
    ///
    /// # Errors
    /// The first violation.
    fn wipe(&mut self, node: NodeId) -> Result<(), Violation> {
        let index = Self::index(node);
        self.kill_keeping(index, 0, 0).map_err(|found| self.with_time(*found))?;
        let boot = self.world.nodes[index].boot;
        self.world.nodes[index].disk = Disk::new(Incarnation(1000 * (boot + 2) + node.0));
        Ok(())
    }

    /// Judges from here on as if nothing had been chosen, acknowledged or written: a quorum has
    /// lost its disks.
    fn forget_history(&mut self) {
        self.checks = Checks::new(self.world.nodes.len(), self.world.quorum.clone());
        self.workload.clients.floor = Slot::ZERO;
    }
}
