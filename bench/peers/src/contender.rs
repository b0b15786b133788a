//! The common interface of the compared implementations, and the parameters of a measurement.

use bytes::Bytes;

/// Parameters of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of cores in the cluster.
    pub nodes: usize,
    /// Size of a command in bytes.
    pub bytes: usize,
    /// Number of commands proposed at once.
    pub batch: usize,
}

/// A cluster of a compared implementation, with an elected leader.
pub trait Contender {
    /// Proposes one batch to the leader and delivers messages until none is in flight. Returns the
    /// number of entries that every node has decided.
    fn round(&mut self) -> u64;
}

/// Returns the commands of one batch, created before the measurement. They differ, and each has its own
/// buffer, like commands of clients.
pub fn commands(shape: Shape) -> Vec<Bytes> {
    (0..shape.batch).map(|n| Bytes::from(vec![n as u8; shape.bytes])).collect()
}
