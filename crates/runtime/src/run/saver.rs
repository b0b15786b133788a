//! The saver thread: writes the applied state behind.

use super::metrics::Meter;
use crate::Fatal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use synod_replica::{Piece, Saver};
use synod_storage::StorageError;

/// Pieces that wait for the saver: with more, the apply thread waits, too, and the driver finds
/// it stalled.
pub(super) const PIECES: usize = 64;
/// Interval at which what was saved is synced. A power cut costs the replay of this much log, and
/// nothing else waits for it.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// Owns the state's store, so that a write or a sync of it holds up no command.
pub(super) struct StateSaver {
    pub(super) saver: Saver,
    pub(super) pieces: Receiver<Piece>,
    pub(super) meter: Arc<Meter>,
}

impl StateSaver {
    /// Saves until the apply thread closes its end, then syncs.
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        self.work().map_err(|error| Fatal::State(error.into()))
    }

    fn work(&mut self) -> Result<(), StorageError> {
        // The time of the oldest piece that is not synced.
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
