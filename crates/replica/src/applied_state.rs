//! Key-value view of the applied state: an overlay of unsaved changes on top of the store.
//!
//! # Consistency of views
//! The saver writes numbered pieces in order, each in one atomic batch, and raises `saved` after each
//! write. Let `w` be the last piece written, and `released` the value of `saved` at the last
//! [`AppliedState::release`]. Then `released <= saved <= w` always holds. For each key that a piece
//! above `released` changed, the overlay has the newest change.
//!
//! - A key in the overlay has its newest value there. The store's value does not matter.
//! - A key that is not in the overlay was changed by no piece above `released`. The store has its
//!   value, because `released <= w`. The value is not too new, because only applied changes are
//!   written.
//!
//! Therefore the overlay as of now and the store at any time before the overlay next shrinks together
//! give the present state. This holds while a piece is written, and even if a read sees half of it. An
//! owned view takes both under a shared borrow of [`AppliedState`]; only [`AppliedState::release`]
//! shrinks the overlay, and it needs an exclusive borrow. The reverse order is wrong: first a view of
//! the store, then `saved`, then an overlay without the pieces that `saved` covers. A piece written in
//! between would be in neither.
//!
//! # Cost
//! The overlay is built at the first read and kept up to date from then on. A state machine that never
//! reads its stored form has none.

use crate::saver::{Piece, SavedPieces};
use bytes::Bytes;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use synod_consensus::{StateEntries, StateError, StateView};
use synod_storage::{StorageError, StoreEntries, StoreReader, StoreView};
use synod_types::{Change, Changes, MapEntries, SharedMap, Slot};

/// Prefix of the state machine's keys in the store. It separates them from the apply side's records.
const DATA: u8 = 1;

/// Store of the applied state, and the changes that it may not have yet.
pub(crate) struct AppliedState {
    store: Arc<dyn StoreReader>,
    saved: SavedPieces,
    /// Pieces handed to the saver and not known to be written.
    writing: VecDeque<Piece>,
    sealed: VecDeque<Piece>,
    /// Changes since the last piece was sealed.
    open: Changes,
    /// Number of the piece that `open` becomes.
    number: u64,
    overlay: OnceLock<Overlay>,
}

/// Newest change of each key, under the state machine's own keys.
type Overlay = SharedMap<Unwritten>;

#[derive(Clone, Debug)]
struct Unwritten {
    /// `None` if the key is deleted.
    value: Option<Bytes>,
    /// Number of the piece that holds the change.
    piece: u64,
}

impl AppliedState {
    pub(crate) fn new(store: Arc<dyn StoreReader>, saved: SavedPieces) -> Self {
        Self {
            store,
            saved,
            writing: VecDeque::new(),
            sealed: VecDeque::new(),
            open: Changes::new(),
            number: 1,
            overlay: OnceLock::new(),
        }
    }

    /// Adds changes of the state machine.
    pub(crate) fn add_changes(&mut self, changes: &Changes) {
        for change in changes.as_slice() {
            let (key, value) = parts(change);
            match value {
                Some(value) => self.open.put(data_key(key), value.clone()),
                None => self.open.delete(data_key(key)),
            }
            // Without an overlay there was no read yet: the first one builds it from the pieces.
            if let Some(overlay) = self.overlay.get_mut() {
                let change = Unwritten { value: value.cloned(), piece: self.number };
                overlay.insert(key.clone(), change);
            }
        }
    }

    /// Returns the size of the changes since the last piece was sealed, in bytes.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open.byte_len()
    }

    /// Returns the size of the changes that were not handed to the saver, in bytes.
    pub(crate) fn unsaved_bytes(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|piece| piece.changes.byte_len()).sum();
        self.open.byte_len() + sealed
    }

    /// Returns whether there are changes that were not handed to the saver.
    pub(crate) fn is_unsaved(&self) -> bool {
        !self.open.is_empty() || !self.sealed.is_empty()
    }

    /// Returns the last slot of the newest sealed piece that was not handed to the saver.
    pub(crate) fn sealed(&self) -> Option<Slot> {
        self.sealed.back().map(Piece::through)
    }

    /// Ends the open piece, with the apply side's records in it.
    pub(crate) fn seal(&mut self, through: Slot, records: impl FnOnce(&mut Changes)) {
        let mut changes = std::mem::take(&mut self.open);
        records(&mut changes);
        let piece = Piece { number: self.number, through, changes: Arc::new(changes) };
        self.sealed.push_back(piece);
        self.number += 1;
    }

    /// Merges the sealed pieces that end at or before `durable` into one for the saver, and returns it.
    pub(crate) fn take_sealed(&mut self, durable: Slot) -> Option<Piece> {
        // The state must not get ahead of the log on disk: a crash could otherwise lose slots of the log
        // whose effects are saved.
        let mut sealed = self.sealed.pop_front_if(|piece| piece.through <= durable)?;
        while let Some(next) = self.sealed.pop_front_if(|piece| piece.through <= durable) {
            sealed.append(next);
        }
        // The changes are shared, so this keeps no second copy of them.
        self.writing.push_back(sealed.clone());
        Some(sealed)
    }

    /// Drops the pieces that the saver has written, and their changes from the overlay.
    pub(crate) fn release(&mut self) {
        let newest = self.saved.newest();
        while let Some(piece) = self.writing.pop_front_if(|piece| piece.number <= newest) {
            // A key that leaves the overlay is read from the store from now on.
            let Some(overlay) = self.overlay.get_mut() else { continue };
            for (key, _) in machine_changes(&piece.changes) {
                // A later piece may have changed the key again: that change is not written yet.
                if overlay.get(&key).is_some_and(|change| change.piece <= newest) {
                    overlay.remove(&key);
                }
            }
        }
    }

    fn overlay(&self) -> &Overlay {
        self.overlay.get_or_init(|| {
            // Oldest first, so that the newest change of a key overwrites the others.
            let mut overlay = Overlay::new();
            let pieces = self.writing.iter().chain(&self.sealed);
            let pieces = pieces.map(|piece| (&*piece.changes, piece.number));
            for (changes, piece) in pieces.chain([(&self.open, self.number)]) {
                for (key, value) in machine_changes(changes) {
                    overlay.insert(key, Unwritten { value: value.cloned(), piece });
                }
            }
            overlay
        })
    }
}

impl StateView for AppliedState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        get(self.overlay(), &*self.store, key)
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StateEntries<'a> {
        Box::new(Merged::new(self.overlay(), &*self.store, from, to))
    }

    fn owned(&self) -> Result<Arc<dyn StateView>, StateError> {
        let store = self.store.view().map_err(|error| unreadable(&error))?;
        // The borrow of `self` keeps the overlay from shrinking between the two steps.
        Ok(Arc::new(OwnedView { overlay: self.overlay().clone(), store }))
    }
}

/// View of the applied state as of one slot, independent of [`AppliedState`].
struct OwnedView {
    overlay: Overlay,
    store: Arc<dyn StoreView>,
}

impl StateView for OwnedView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        get(&self.overlay, &*self.store, key)
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StateEntries<'a> {
        Box::new(Merged::new(&self.overlay, &*self.store, from, to))
    }

    fn owned(&self) -> Result<Arc<dyn StateView>, StateError> {
        Ok(Arc::new(Self { overlay: self.overlay.clone(), store: Arc::clone(&self.store) }))
    }
}

fn get(overlay: &Overlay, store: &dyn StoreView, key: &[u8]) -> Result<Option<Bytes>, StateError> {
    match overlay.get(key) {
        Some(change) => Ok(change.value.clone()),
        None => store.get(&data_key(key)).map_err(|error| unreadable(&error)),
    }
}

/// Entries of the overlay and the store, merged in key order. The overlay takes precedence.
struct Merged<'a> {
    overlay: Peekable<MapEntries<'a, Unwritten>>,
    stored: Peekable<StoreEntries<'a>>,
}

impl<'a> Merged<'a> {
    fn new(overlay: &'a Overlay, store: &'a dyn StoreView, from: &[u8], to: Option<&[u8]>) -> Self {
        // Without an end, the range must still stop before the keys of the next prefix.
        let stored_to = to.map_or_else(|| vec![DATA + 1], data_key);
        let stored = store.range(&data_key(from), Some(&stored_to)).peekable();
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        Self { overlay: overlay.range((Bound::Included(from), to)).peekable(), stored }
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<(Bytes, Bytes), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let stored = match self.stored.peek() {
                Some(Ok((key, _))) => Some(&key[1..]),
                Some(Err(error)) => {
                    let error = unreadable(error);
                    // The iterator ends after an error: entries after it could be incomplete.
                    self.stored = (Box::new(std::iter::empty()) as StoreEntries<'_>).peekable();
                    self.overlay.by_ref().for_each(drop);
                    return Some(Err(error));
                }
                None => None,
            };
            let next =
                self.overlay.next_if(|(key, _)| stored.is_none_or(|stored| key[..] <= *stored));
            let Some((key, change)) = next else {
                let (key, value) = self.stored.next()?.ok()?;
                return Some(Ok((key.slice(1..), value)));
            };
            if stored == Some(&key[..]) {
                self.stored.next(); // The overlay's change replaces the stored entry.
            }
            if let Some(value) = &change.value {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}

/// Returns the state machine's changes in a piece, under its own keys.
fn machine_changes(changes: &Changes) -> impl Iterator<Item = (Bytes, Option<&Bytes>)> {
    let changes = changes.as_slice().iter().map(parts);
    let of_machine = changes.filter(|(key, _)| key.first() == Some(&DATA));
    of_machine.map(|(key, value)| (key.slice(1..), value))
}

/// Returns the key of a change and its value, or `None` if it is a deletion.
fn parts(change: &Change) -> (&Bytes, Option<&Bytes>) {
    match change {
        Change::Put(key, value) => (key, Some(value)),
        Change::Delete(key) => (key, None),
    }
}

fn data_key(key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(key.len() + 1);
    prefixed.push(DATA);
    prefixed.extend_from_slice(key);
    prefixed
}

fn unreadable(error: &StorageError) -> StateError {
    StateError::Store(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saver::Saver;
    use synod_storage::{MemoryState, StateStore};

    fn put(key: &'static str, value: &'static str) -> Changes {
        let mut changes = Changes::new();
        changes.put(key, value);
        changes
    }

    #[test]
    fn overlay_is_built_at_the_first_read_and_shrinks_after_each_write() {
        let (store, saved) = (MemoryState::new(), SavedPieces::default());
        let mut state = AppliedState::new(store.reader(), saved.clone());
        let mut saver = Saver::new(Box::new(store), saved);
        for (slot, key) in (1..).map(Slot).zip(["a", "b", "a"]) {
            state.add_changes(&put(key, "value"));
            state.seal(slot, |changes| changes.put("\0meta", "record"));
        }
        state.add_changes(&put("c", "value"));
        let first = state.take_sealed(Slot(1)).unwrap();
        assert!(state.overlay.get().is_none(), "nothing was read");
        let all =
            |state: &AppliedState| state.range(&[], None).map(|entry| entry.unwrap().0).collect();
        let keys: Vec<Bytes> = all(&state);
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!(state.overlay().len(), 3);
        saver.save(&first).unwrap();
        state.release();
        assert_eq!(state.overlay().len(), 3, "a later piece has the key, too");
        let rest = state.take_sealed(Slot(3)).unwrap();
        state.release();
        assert_eq!(state.overlay().len(), 3, "the piece is not written");
        saver.save(&rest).unwrap();
        state.release();
        assert_eq!(state.overlay().len(), 1);
        let keys: Vec<Bytes> = all(&state);
        assert_eq!(keys, ["a", "b", "c"]);
    }

    #[test]
    fn puts_and_deletions_in_the_overlay_hide_stored_entries() {
        let mut store = MemoryState::new();
        let mut stored = Changes::new();
        for key in ["\0s", "\u{1}a", "\u{1}b", "\u{1}c", "\u{2}"] {
            stored.put(key, "old");
        }
        store.write(&stored).unwrap();
        let mut state = AppliedState::new(store.reader(), SavedPieces::default());
        let mut changes = put("b", "new");
        changes.delete("c");
        changes.put("d", "new");
        changes.delete("e");
        state.add_changes(&changes);
        let owned = state.owned().unwrap();
        state.add_changes(&put("a", "later"));
        let entries = |from: &str, to: Option<&str>| {
            let range = owned.range(from.as_bytes(), to.map(str::as_bytes));
            range
                .map(|entry| entry.map(|(key, value)| [&key[..], &value[..]].concat()).unwrap())
                .collect::<Vec<_>>()
        };
        let all = [&b"aold"[..], b"bnew", b"dnew"];
        assert_eq!(entries("", None), all);
        assert_eq!(entries("b", None), all[1..]);
        assert_eq!(entries("", Some("d")), all[..2]);
        assert_eq!(entries("d", Some("b")), [] as [&[u8]; 0]);
        for (key, value) in [("a", Some("old")), ("b", Some("new")), ("c", None), ("e", None)] {
            assert_eq!(owned.get(key.as_bytes()).unwrap(), value.map(Bytes::from), "{key}");
        }
        assert_eq!(state.get(b"a").unwrap(), Some("later".into()));
    }
}
