//! The state machine's side: ordered keys, atomic batches, consistent views.

use crate::StorageError;
use bytes::Bytes;
use synod_types::Changes;

/// Keys and their values in order.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StorageError>> + 'a>;

/// Reading of ordered keys.
pub trait StateView {
    /// The value of `key`.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// The entries from `from` on, up to but not including `to` (`None`: to the end), in the
    /// order of their keys' bytes.
    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> Entries<'a>;
}

/// Where an applied state is kept. It may lag behind the log, never pass it: after a crash it
/// holds a prefix of the batches written, at least up to the last [`sync`](Self::sync). What a
/// store holds when it is opened is durable.
pub trait StateStore: StateView + Send {
    /// Writes a batch, atomically and in order. Not necessarily durable yet.
    ///
    /// # Errors
    /// Any error is final: the disk's content is unknown, so the node must stop.
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// Any error is final: the disk's content is unknown, so the node must stop.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// The state as it is now, unmoved by later writes.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn view(&self) -> Result<Box<dyn StateView + Send + '_>, StorageError>;
}
