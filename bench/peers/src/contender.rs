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

/// The commands of one batch, made beforehand: making them is not part of the measurement. They
/// are different ones, each in a buffer of its own, as clients would send them.
pub fn commands(shape: Shape) -> Vec<Bytes> {
    (0..shape.batch).map(|n| Bytes::from(vec![n as u8; shape.bytes])).collect()
}
