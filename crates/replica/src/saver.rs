//! Writing behind: pieces of the applied state, and the end of the store that writes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use synod_storage::{StateStore, StorageError};
use synod_types::{Changes, Slot};

/// Changes that become part of the stored state together, and the slot that they end at.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Pieces are numbered from 1, in the order in which they are written.
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

    /// Adds the piece that follows.
    pub(crate) fn append(&mut self, mut next: Self) {
        Arc::make_mut(&mut self.changes).append(Arc::make_mut(&mut next.changes));
        (self.number, self.through) = (next.number, next.through);
    }
}

/// Number of the newest piece that is in the store, shared by the saver and the apply side.
#[derive(Clone, Debug, Default)]
pub(crate) struct SavedPieces(Arc<AtomicU64>);

impl SavedPieces {
    /// Returns the number. The store shows this piece, and all before it, to every later read.
    pub(crate) fn newest(&self) -> u64 {
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

    /// Writes a piece, in one atomic batch, after all pieces before it.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    pub fn save(&mut self, piece: &Piece) -> Result<(), StorageError> {
        self.store.write(&piece.changes)?;
        // Only now: from here on the apply side finds the piece's keys in the store alone.
        self.saved.0.store(piece.number, Ordering::Release);
        Ok(())
    }

    /// Makes what was written durable. Nothing waits for this: until it is done, the log has what
    /// the store may lose.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.store.sync()
    }
}
