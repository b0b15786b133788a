//! Waits for conditions, which fail with a liveness violation after a timeout.

use crate::cluster::Cluster;
use crate::violation::{Violation, ViolationKind};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::NodeId;

/// Advances time until the condition holds. After `timeout`, returns a liveness violation.
pub(crate) fn wait<P: Protocol>(
    cluster: &mut Cluster<P>,
    timeout: Duration,
    failure: &str,
    condition: impl Fn(&Cluster<P>) -> bool,
) -> Result<(), Violation> {
    let end = cluster.now() + timeout;
    while !condition(cluster) {
        if cluster.now() >= end {
            return Err(stalled(cluster, &format!("{failure} for {timeout:?}")));
        }
        cluster.run_for(Duration::from_millis(100))?;
    }
    Ok(())
}

/// Returns the violation of a cluster that should make progress and does not.
pub(crate) fn stalled<P: Protocol>(cluster: &Cluster<P>, failure: &str) -> Violation {
    let nodes: Vec<_> = cluster.world.healthy.iter().map(|node| NodeId(*node as u64 + 1)).collect();
    let progress = nodes.iter().map(|id| {
        let applied = cluster.applied(*id).map_or(0, |(slot, _)| slot.0);
        let role = cluster.status(*id).map(|status| (status.role, status.ballot, status.commit));
        format!("{id:?} {role:?} applied {applied}")
    });
    let progress: Vec<_> = progress.collect();
    let explanation = format!(
        "the cluster {failure}: chosen through {}; {}",
        cluster.chosen(),
        progress.join("; ")
    );
    Violation { kind: ViolationKind::Liveness, at: cluster.now(), nodes, explanation }
}
