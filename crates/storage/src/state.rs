//! The state store: ordered keys, atomic batches, consistent views.

use crate::StorageError;
use bytes::Bytes;
use synod_types::Changes;

/// Iterator over entries in the order of their keys.
pub type StoreEntries<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StorageError>> + 'a>;

/// Read access to ordered keys.
pub trait StoreView {
    /// Returns the value of `key`.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Returns the entries from `from` to before `to` (`None`: to the end), in the order of their keys'
    /// bytes.
    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a>;
}

/// Store of an applied state. It may lag behind the log and is never ahead of it: after a crash it
/// holds a prefix of the batches written, at least up to the last [`sync`](Self::sync). Its content at
/// an open is durable.
pub trait StateStore: StoreView + Send {
    /// Writes a batch atomically and in order. It is durable after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// Any error is final: the content of the disk is unknown, so the node must stop.
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError>;

    /// Makes all written batches durable.
    ///
    /// # Errors
    /// Any error is final: the content of the disk is unknown, so the node must stop.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Returns a view of the present state that later writes do not change.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn view(&self) -> Result<Box<dyn StoreView + Send + '_>, StorageError>;
}
