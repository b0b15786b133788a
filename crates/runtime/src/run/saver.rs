//! Saver thread: write-behind of the applied state.

use super::metrics::Meter;
use crate::Fatal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use synod_replica::{Piece, Saver};
use synod_storage::StorageError;

/// Capacity of the queue of pieces. If it is full, the apply thread waits, and the driver detects a
/// stall if that takes too long.
pub(super) const PIECES: usize = 64;
/// Longest time that a saved piece stays unsynced. After a power failure the node replays this much of
/// its log. Nothing else depends on the sync.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// Owner of the state store, so that its writes and syncs delay no command.
pub(super) struct StateSaver {
    pub(super) saver: Saver,
    pub(super) pieces: Receiver<Piece>,
    pub(super) meter: Arc<Meter>,
}

impl StateSaver {
    /// Saves pieces until the apply thread closes the queue, then syncs.
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        self.work().map_err(|error| Fatal::State(error.into()))
    }

    fn work(&mut self) -> Result<(), StorageError> {
        // Time at which the oldest unsynced piece was written.
        let mut unsynced: Option<Instant> = None;
        loop {
            let wait =
                unsynced.map_or(SYNC_EVERY, |since| SYNC_EVERY.saturating_sub(since.elapsed()));
            match self.pieces.recv_timeout(wait) {
                Ok(piece) => {
                    self.saver.save(&piece)?;
                    self.meter.saved(piece.through());
                    unsynced.get_or_insert_with(Instant::now);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if unsynced.is_some_and(|since| since.elapsed() >= SYNC_EVERY) {
                self.saver.sync()?;
                unsynced = None;
            }
        }
        self.saver.sync()
    }
}
