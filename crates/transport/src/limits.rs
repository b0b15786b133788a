//! Limits and counters of all transports.

/// Limits of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Maximum size of a frame in bytes. A larger one is dropped by the sender, and a peer that announces
    /// one is disconnected before any memory is allocated for it.
    pub max_frame: usize,
    /// Maximum number of frames in each lane of each queue.
    pub queue_frames: usize,
    /// Maximum number of bytes in each lane of each queue. A single frame may be larger.
    pub queue_bytes: usize,
}

impl Default for TransportLimits {
    /// Returns 8 MiB a frame, and 4096 frames or 16 MiB a queue.
    fn default() -> Self {
        Self { max_frame: 8 << 20, queue_frames: 4096, queue_bytes: 16 << 20 }
    }
}

/// Counters of the traffic with one peer since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// True if there is a connection at present.
    pub connected: bool,
    /// Number of connections that were established.
    pub connections: u64,
    /// Number of frames sent. They may not have arrived.
    pub sent_frames: u64,
    /// Bytes of the frames sent, without headers.
    pub sent_bytes: u64,
    /// Number of frames dropped by this node: queue full, frame too large, or too old after a reconnect.
    pub dropped_frames: u64,
    /// Number of frames received.
    pub received_frames: u64,
    /// Bytes of the frames received, without headers.
    pub received_bytes: u64,
}

impl PeerStats {
    /// Returns the number of reconnects.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.connections.saturating_sub(1)
    }
}
