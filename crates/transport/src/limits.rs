//! Bounds and counters that every transport here has.

/// What one transport carries and keeps at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame, in bytes. A larger one is dropped where it is sent, and a peer that
    /// announces one all the same is disconnected before a byte is set aside for it.
    pub max_frame: usize,
    /// How many frames may wait, for each lane of each queue.
    pub queue_frames: usize,
    /// How many bytes may wait, for each lane of each queue. A single frame may be larger.
    pub queue_bytes: usize,
}

impl Default for Limits {
    /// Frames of 8 MiB; 4096 frames or 16 MiB may wait.
    fn default() -> Self {
        Self { max_frame: 8 << 20, queue_frames: 4096, queue_bytes: 16 << 20 }
    }
}

/// What passed between this node and one peer since the peer was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Whether there is a connection now.
    pub connected: bool,
    /// How often a connection was made; one less than this is the number of reconnects.
    pub connections: u64,
    /// Frames handed to the network. That they arrive is not promised.
    pub sent_frames: u64,
    /// Their bytes, without the transport's own.
    pub sent_bytes: u64,
    /// Frames dropped on this side: queue full, too large, or overtaken while disconnected.
    pub dropped_frames: u64,
    /// Frames received.
    pub received_frames: u64,
    /// Their bytes, without the transport's own.
    pub received_bytes: u64,
}

impl PeerStats {
    /// How often the connection had to be made again.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.connections.saturating_sub(1)
    }
}
