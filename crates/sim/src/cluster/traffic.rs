//! Counters of bytes and frames that nodes send and write.

/// Frames sent by all nodes, and the work of their log disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames from one node to another, heartbeats included.
    pub frames: u64,
    /// Bytes of these frames with envelopes and checksums, but without overhead of the transport.
    pub bytes: u64,
    /// Syncs of logs; those of the state store are not counted.
    pub syncs: u64,
    /// Bytes written to logs; counted only if the [plan](crate::Plan) limits bandwidth.
    pub written: u64,
    /// Frames dropped because their lane was full.
    pub dropped: u64,
}

impl Traffic {
    pub(crate) fn count_frame(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.bytes += frame.len() as u64;
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            frames: self.frames - earlier.frames,
            bytes: self.bytes - earlier.bytes,
            syncs: self.syncs - earlier.syncs,
            written: self.written - earlier.written,
            dropped: self.dropped - earlier.dropped,
        }
    }
}
