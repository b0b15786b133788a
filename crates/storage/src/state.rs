//! The state store traits: ordered keys, atomic batches, consistent views.

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

    /// Returns the entries with `from <= key < to` in ascending order of their keys' bytes. Without `to`,
    /// the range has no upper bound.
    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a>;
}

/// Read handle on a [`StateStore`] for other threads. It returns the current content while the store is
/// written.
///
/// A range read that is concurrent with a write may return a part of the batch; a [view](Self::view)
/// contains each batch completely or not at all. Readers and views keep the store open: it can be opened
/// again after the store, its readers and its views are dropped.
pub trait StoreReader: StoreView {
    /// Returns a view of the current content. Later writes do not change it, and it does not block them.
    /// It keeps replaced values alive, so callers drop it soon.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn view(&self) -> Result<Arc<dyn StoreView>, StorageError>;
}

/// Store of the applied state. It may lag behind the log: after a crash it contains a prefix of the
/// written batches, at least up to the last [`sync`](Self::sync). The content found by an open is
/// durable.
pub trait StateStore: Send {
    /// Writes a batch atomically and in order. The batch is visible to readers when this returns, and
    /// durable after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// Every error is final: the content of the disk is unknown afterwards, so the node must stop.
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError>;

    /// Makes all written batches durable.
    ///
    /// # Errors
    /// Every error is final: the content of the disk is unknown afterwards, so the node must stop.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Returns a read handle.
    fn reader(&self) -> Arc<dyn StoreReader>;
}
