//! Settings of a driver: its identity, and the bounds on the work that it has pending.

use crate::Session;
use std::time::Duration;
use synod_storage::BootId;
use synod_types::{ClusterId, Epoch, GroupId, NodeId};

/// Settings of a driver, without those of its protocol.
#[derive(Clone, Debug)]
pub struct ReplicaSettings {
    /// Id of this node.
    pub node: NodeId,
    /// Id of its cluster.
    pub cluster: ClusterId,
    /// Group of this replica.
    pub group: GroupId,
    /// Epoch of the group's configuration.
    pub epoch: Epoch,
    /// Identity of the log store and number of its opening.
    pub boot_id: BootId,
    /// Seed of the RNG that draws the timers' durations. It must differ on each node and at each
    /// start, or elections may collide repeatedly.
    pub seed: u64,
    /// Delay before the first retry of a request without a reply. It doubles with each retry.
    /// 200 ms by default.
    pub retry: Duration,
    /// Time without a completion, while work waits, after which the disk or the apply side counts as
    /// stalled. A leader then steps down. 2 s by default.
    pub stall: Duration,
    /// Bound on the bytes that are not yet durable. Beyond it a leader keeps commands in its queue.
    /// 4 MiB by default.
    pub unwritten_bytes: usize,
    /// Bound on the bytes that are not yet durable, beyond which frames of the log and bulk lanes are
    /// dropped. It is far more than a peer has in flight: only a disk that hangs reaches it. 64 MiB
    /// by default.
    pub flood_bytes: usize,
    /// Bound on the bytes that the state machine was handed and has not applied. 4 MiB by default.
    pub unapplied_bytes: usize,
    /// Bound on the slots that the state machine was handed and has not applied. 16,384 by default.
    pub unapplied_slots: u64,
    /// Bound on the pending requests of this node's clients. Further ones are refused as busy.
    /// 100,000 by default.
    pub max_outstanding: usize,
    /// Size at which a frame of forwarded requests is sent, in bytes. 256 KiB by default.
    pub forward_bytes: usize,
    /// Bound on the bytes of commands in flight to a leader. Further ones stay queued. 4 MiB by
    /// default.
    pub forward_window: usize,
    /// Bound on the bytes of other nodes' commands that wait for the disk. Further ones are refused
    /// as busy. 32 MiB by default.
    pub remote_proposal_bytes: usize,
    /// Bound on the messages to peers that wait for the disk. Further ones are dropped, as if the
    /// network had lost them. 4,096 by default.
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
