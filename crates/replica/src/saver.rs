//! Write-behind of the applied state: atomic pieces, and the saver that writes them to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use synod_storage::{StateStore, StorageError};
use synod_types::{Changes, Slot};

/// Changes of the applied state that are saved in one atomic batch, and the last slot that they cover.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Number of the piece, from 1, in the order of the writes.
    pub(crate) number: u64,
    pub(crate) through: Slot,
    pub(crate) changes: Arc<Changes>,
}

impl Piece {
    /// Returns the last slot whose effects are part of the piece.
    #[must_use]
    pub fn through(&self) -> Slot {
        self.through
    }

    /// Appends the next piece.
    pub(crate) fn append(&mut self, mut next: Self) {
        Arc::make_mut(&mut self.changes).append(Arc::make_mut(&mut next.changes));
        (self.number, self.through) = (next.number, next.through);
    }
}

/// Number of the newest piece in the store, shared by the saver and the apply side.
#[derive(Clone, Debug, Default)]
pub(crate) struct SavedPieces(Arc<AtomicU64>);

impl SavedPieces {
    /// Returns the number. Every later read of the store includes this piece and all before it.
    pub(crate) fn newest(&self) -> u64 {
        // Pairs with the release in `Saver::save`: the write happened before.
        self.0.load(Ordering::Acquire)
    }
}

/// Writes pieces of the applied state to its store.
pub struct Saver {
    store: Box<dyn StateStore>,
    saved: SavedPieces,
}

impl Saver {
    pub(crate) fn new(store: Box<dyn StateStore>, saved: SavedPieces) -> Self {
        Self { store, saved }
    }

    /// Writes a piece in one atomic batch. Pieces must be written in the order of their numbers.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    pub fn save(&mut self, piece: &Piece) -> Result<(), StorageError> {
        self.store.write(&piece.changes)?;
        // Only after the write: from now on the apply side may read the piece's keys from the store.
        self.saved.0.store(piece.number, Ordering::Release);
        Ok(())
    }

    /// Makes the written pieces durable. Nothing waits for this: until then, the log still has every
    /// change that the store may lose.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.store.sync()
    }
}
