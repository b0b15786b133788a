//! Changes of the state store.

use alloc::vec::Vec;
use bytes::Bytes;

/// Change of one key in the state store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key to a value.
    Put(Bytes, Bytes),
    /// Deletes a key.
    Delete(Bytes),
}

/// Changes of the state store, in order. A later change of a key replaces an earlier one.
///
/// A state machine appends its changes while it applies commands. Its caller then writes them to the state
/// store in one atomic batch, together with the applied slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    list: Vec<Change>,
    bytes: usize,
}

impl Changes {
    /// Creates an empty list of changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a change that sets a key to a value.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.list.push(Change::Put(key, value));
    }

    /// Appends a change that deletes a key.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.list.push(Change::Delete(key));
    }

    /// Moves all changes of `later` to the end of this list.
    pub fn append(&mut self, later: &mut Self) {
        self.bytes += core::mem::take(&mut later.bytes);
        self.list.append(&mut later.list);
    }

    /// Returns the changes in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Change] {
        &self.list
    }

    /// Returns whether there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the total size of keys and values in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// Removes all changes and keeps the allocation.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
    }
}
