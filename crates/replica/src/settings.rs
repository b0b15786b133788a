//! Settings of a driver: its identity, and the bounds on the work that it has pending.

use crate::Session;
use std::time::Duration;
use synod_storage::BootId;
use synod_types::{ClusterId, Epoch, GroupId, NodeId};

/// Settings of a driver, without those of its protocol.
#[derive(Clone, Debug)]
pub struct ReplicaSettings {
    /// This node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The group that this replica belongs to.
    pub group: GroupId,
    /// The group's configuration.
    pub epoch: Epoch,
    /// Identity of the log store and number of its opening.
    pub boot_id: BootId,
    /// Seed of the RNG that draws the timers' durations; different on each node and at each start.
    pub seed: u64,
    /// Pause before the first retry of a request without an answer; it doubles with each retry.
    /// 200 ms by default.
    pub retry: Duration,
    /// Time without a completion, while work waits, after which a disk or apply side counts as
    /// stalled: a leader steps down. 2 s by default.
    pub stall: Duration,
    /// Bytes that may wait to become durable before a leader proposes no more commands: they stay
    /// queued. 4 MiB by default.
    pub unwritten_bytes: usize,
    /// Bytes that may wait to become durable before frames of the log and bulk lanes are dropped.
    /// Far more than a peer has in flight: only a disk that hangs gets there. 64 MiB by default.
    pub flood_bytes: usize,
    /// Bytes that may be handed to the state machine and not yet applied. 4 MiB by default.
    pub unapplied_bytes: usize,
    /// Slots that may be handed to the state machine and not yet applied. 16,384 by default.
    pub unapplied_slots: u64,
    /// Pending requests of this node's clients; more are refused as busy. 100,000 by default.
    pub max_outstanding: usize,
    /// Size at which a frame of forwarded requests is sent, in bytes. 256 KiB by default.
    pub forward_bytes: usize,
    /// Bytes of commands that may be in flight to a leader; more stay queued. 4 MiB by default.
    pub forward_window: usize,
    /// Bytes of other nodes' commands that may wait for room at the disk; more are refused as
    /// busy. 32 MiB by default.
    pub remote_proposal_bytes: usize,
    /// Messages to peers that may wait for the disk; more are dropped, as the network may drop
    /// them. 4,096 by default.
    pub held_messages: usize,
}

impl ReplicaSettings {
    /// Returns the defaults for a node of a cluster.
    #[must_use]
    pub fn new(cluster: ClusterId, node: NodeId, boot_id: BootId, seed: u64) -> Self {
        Self {
            node,
            cluster,
            group: GroupId(0),
            epoch: Epoch(0),
            boot_id,
            seed,
            retry: Duration::from_millis(200),
            stall: Duration::from_secs(2),
            unwritten_bytes: 4 << 20,
            flood_bytes: 64 << 20,
            unapplied_bytes: 4 << 20,
            unapplied_slots: 16_384,
            max_outstanding: 100_000,
            forward_bytes: 256 << 10,
            forward_window: 4 << 20,
            remote_proposal_bytes: 32 << 20,
            held_messages: 4096,
        }
    }

    /// Returns the session under which this process proposes its clients' requests.
    #[must_use]
    pub fn session(&self) -> Session {
        let BootId { incarnation, boot } = self.boot_id;
        Session { node: self.node, incarnation, boot }
    }
}
