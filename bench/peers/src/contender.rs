//! What is measured, and how large.

use bytes::Bytes;

/// The size of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Cores in the cluster.
    pub nodes: usize,
    /// Bytes of a command.
    pub bytes: usize,
    /// Commands offered at once.
    pub batch: usize,
}

/// A cluster with a leader.
pub trait Contender {
    /// Offers one batch to the leader and carries messages until all is quiet; how many entries
    /// were decided, on every node.
    fn round(&mut self) -> u64;
}

/// Commands made beforehand, handed out in turn: making them is not part of the measurement.
pub struct Commands {
    pool: Vec<Bytes>,
    next: usize,
}

impl Commands {
    /// Different commands of `bytes` bytes each, every one in a buffer of its own.
    pub fn new(bytes: usize) -> Self {
        let pool = (0..1024_usize).map(|n| Bytes::from(vec![n as u8; bytes])).collect();
        Self { pool, next: 0 }
    }

    /// The next command.
    pub fn take(&mut self) -> Bytes {
        self.next = (self.next + 1) % self.pool.len();
        self.pool[self.next].clone()
    }
}
