//! Limits and counters of all transports.

/// Limits of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Maximum size of a frame in bytes. A larger one is dropped by the sender, and a peer that announces
    /// one is disconnected before any memory is allocated for it.
    pub max_frame: usize,
    /// Maximum number of frames in each lane of each queue.
    pub queue_frames: usize,
    /// Maximum number of bytes in each lane of each queue. An empty lane accepts a larger frame.
    pub queue_bytes: usize,
}

impl Default for TransportLimits {
    /// Returns limits of 8 MiB per frame, and of 4096 frames and 16 MiB per lane of a queue.
    fn default() -> Self {
        Self { max_frame: 8 << 20, queue_frames: 4096, queue_bytes: 16 << 20 }
    }
}

/// Counters of the traffic with one peer since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// True if the peer is connected now.
    pub connected: bool,
    /// Number of connections established so far, reconnects included.
    pub connections: u64,
    /// Number of frames sent. Some may have been lost.
    pub sent_frames: u64,
    /// Bytes of the frames sent, without their length headers.
    pub sent_bytes: u64,
    /// Number of frames to the peer that this node dropped: the queue was full, the frame was too large,
    /// or newer frames replaced it while there was no connection.
    pub dropped_frames: u64,
    /// Number of frames received.
    pub received_frames: u64,
    /// Bytes of the frames received, without their length headers.
    pub received_bytes: u64,
}

impl PeerStats {
    /// Returns the number of reconnects.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.connections.saturating_sub(1)
    }
}
