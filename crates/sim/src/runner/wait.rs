//! Waiting for a cluster, with a liveness violation at the end of patience.

use crate::cluster::Cluster;
use crate::violation::{Violation, ViolationKind};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::NodeId;

/// Lets time pass until something is so.
pub(crate) fn wait<P: Protocol>(
    cluster: &mut Cluster<P>,
    patience: Duration,
    complaint: &str,
    is_so: impl Fn(&Cluster<P>) -> bool,
) -> Result<(), Violation> {
    let end = cluster.now() + patience;
    while !is_so(cluster) {
        if cluster.now() >= end {
            return Err(stalled(cluster, &format!("{complaint} for {patience:?}")));
        }
        cluster.run_for(Duration::from_millis(100))?;
    }
    Ok(())
}

/// A healed cluster does not do what it should.
pub(crate) fn stalled<P: Protocol>(cluster: &Cluster<P>, complaint: &str) -> Violation {
    let nodes: Vec<_> = cluster.world.healthy.iter().map(|node| NodeId(*node as u64 + 1)).collect();
    let words = nodes.iter().map(|id| {
        let applied = cluster.applied(*id).map_or(0, |(slot, _)| slot.0);
        let role = cluster.status(*id).map(|status| (status.role, status.ballot, status.commit));
        format!("{id:?} {role:?} applied {applied}")
    });
    let words: Vec<_> = words.collect();
    let explanation = format!(
        "the healed cluster {complaint}: chosen through {}; {}",
        cluster.chosen(),
        words.join("; ")
    );
    Violation { kind: ViolationKind::Liveness, at: cluster.now(), nodes, explanation }
}
