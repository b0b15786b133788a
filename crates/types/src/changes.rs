//! What applying a command did to a state machine's stored form.

use alloc::vec::Vec;
use bytes::Bytes;

/// One change of an ordered map of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key now has this value.
    Put(Bytes, Bytes),
    /// The key is gone.
    Delete(Bytes),
}

/// The changes of the stored state, in order; later ones win.
///
/// A state machine appends here while it applies, and the apply side writes them to the state
/// store, together with the applied slot, in one atomic batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    list: Vec<Change>,
    bytes: usize,
}

impl Changes {
    /// Nothing changed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The key now has this value.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.list.push(Change::Put(key, value));
    }

    /// The key is gone.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.list.push(Change::Delete(key));
    }

    /// Moves all of `later` behind what is here.
    pub fn append(&mut self, later: &mut Self) {
        self.bytes += core::mem::take(&mut later.bytes);
        self.list.append(&mut later.list);
    }

    /// The changes, first to last.
    #[must_use]
    pub fn as_slice(&self) -> &[Change] {
        &self.list
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The size of all keys and values together, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// Forgets all changes and keeps the allocation.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
    }
}
