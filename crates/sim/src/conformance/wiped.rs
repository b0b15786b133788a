//! Loss of a quorum's disks. No protocol can keep acknowledged writes then, but the surviving node
//! must not mix another history into its state.

use super::steps::{OBSERVATION, crash, healthy, leader, others, run, until, write};
use crate::check::Checks;
use crate::cluster::Cluster;
use crate::cluster::disk::Disk;
use crate::violation::{Violation, ViolationKind};
use synod_consensus::Protocol;
use synod_types::{Incarnation, NodeId, Slot};

/// Two nodes of three restart with empty disks and choose other commands, in the same terms as
/// before or in later ones. The third one either stops, with [`ViolationKind::FatalNodeError`], or
/// keeps its applied state unchanged.
pub fn survivor_of_a_wiped_quorum_does_not_mix_histories<P: Protocol>() {
    for later in [false, true] {
        run_survivor::<P>(later);
    }
}

fn run_survivor<P: Protocol>(later: bool) {
    let mut cluster = healthy::<P>(3);
    let first = leader(&mut cluster);
    for key in b'a'..b'f' {
        write(&mut cluster, first, key, b"old");
    }
    until(&mut cluster, "stored states", |cluster| cluster.has_settled());
    run(&mut cluster, OBSERVATION);
    let survivor = NodeId(3);
    let lost = others(&cluster, &[survivor]);
    let state = cluster.applied(survivor);
    let term = cluster.status(survivor).map(|status| status.ballot.round);
    cluster.partition(&[survivor], &lost);
    crash(&mut cluster, survivor);
    lost.iter().for_each(|node| cluster.wipe(*node).unwrap_or_else(|found| panic!("{found}")));
    cluster.reset_checks();
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
    match cluster.run_for(OBSERVATION) {
        Err(found) => assert_eq!(found.kind, ViolationKind::FatalNodeError, "{found}"),
        Ok(()) => assert_eq!(
            cluster.applied(survivor),
            state,
            "{survivor:?} applied slots of another history"
        ),
    }
}

impl<P: Protocol> Cluster<P> {
    /// Crashes a node and empties its disks: it starts with an unused store.
    ///
    /// # Errors
    /// The first violation.
    fn wipe(&mut self, node: NodeId) -> Result<(), Violation> {
        let index = Self::index(node);
        self.crash_keeping(index, 0, 0).map_err(|found| self.with_time(*found))?;
        let boot = self.world.nodes[index].boot;
        self.world.nodes[index].disk = Disk::new(Incarnation(1000 * (boot + 2) + node.0));
        Ok(())
    }

    /// Resets the checkers as if nothing had been chosen, acknowledged or written, because a quorum
    /// has lost its disks.
    fn reset_checks(&mut self) {
        self.checks = Checks::new(self.world.nodes.len(), self.world.quorum.clone());
        self.workload.clients.floor = Slot::ZERO;
    }
}
