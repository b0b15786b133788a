//! The state store: ordered keys, atomic batches, consistent views.

use crate::StorageError;
use bytes::Bytes;
use std::sync::Arc;
use synod_types::Changes;

/// Iterator over entries in the order of their keys.
pub type StoreEntries<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StorageError>> + 'a>;

/// Read access to ordered keys.
pub trait StoreView: Send + Sync {
    /// Returns the value of `key`.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Returns the entries from `from` to before `to` (`None`: to the end), in the order of their keys'
    /// bytes.
    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a>;
}

/// The reading side of a [`StateStore`]: its present content, for any thread, while the store is written.
///
/// A range that a write overtakes may show parts of the write; a [view](Self::view) shows all of a batch
/// or nothing. Readers and views keep the store open: it can be opened again once the store and all of
/// them are dropped.
pub trait StoreReader: StoreView {
    /// Returns a view of the present content, which later writes do not change and which does not block
    /// them. It holds what they replace, so it should be dropped soon.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn view(&self) -> Result<Arc<dyn StoreView>, StorageError>;
}

/// Store of an applied state. It may lag behind the log and is never ahead of it: after a crash it
/// holds a prefix of the batches written, at least up to the last [`sync`](Self::sync). Its content at
/// an open is durable.
pub trait StateStore: Send {
    /// Writes a batch atomically and in order. It is durable after the next [`sync`](Self::sync), and
    /// readers see it when this returns.
    ///
    /// # Errors
    /// Any error is final: the content of the disk is unknown, so the node must stop.
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError>;

    /// Makes all written batches durable.
    ///
    /// # Errors
    /// Any error is final: the content of the disk is unknown, so the node must stop.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Returns the reading side.
    fn reader(&self) -> Arc<dyn StoreReader>;
}
