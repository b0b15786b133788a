//! The writer thread: group commit.

use super::core::Signal;
use super::metrics::Meter;
use crate::Fatal;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use synod_storage::{Batch, LogStore};
use synod_types::Seq;
use tokio::sync::mpsc::UnboundedSender;

/// Batches are merged until they have so many bytes. The completions of a slow disk then come at
/// short intervals, while a sync of that much costs little more than one of a byte.
const MERGED_BYTES: usize = 2 << 20;

/// Owns the log store. While one sync runs, the next batches gather; all that wait become one
/// write and one sync, up to a bound.
pub(super) struct Writer {
    pub(super) log: Box<dyn LogStore>,
    pub(super) batches: Receiver<(Seq, Batch)>,
    pub(super) signals: UnboundedSender<Signal>,
    pub(super) meter: Arc<Meter>,
}

impl Writer {
    /// Writes until the core closes its end.
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        let mut next = None;
        while let Some((mut seq, mut batch)) = next.take().or_else(|| self.batches.recv().ok()) {
            let (mut merged, mut bytes) = (1, batch.byte_len());
            while let Ok((later, mut more)) = self.batches.try_recv() {
                bytes += more.byte_len();
                if bytes > MERGED_BYTES {
                    next = Some((later, more));
                    break;
                }
                batch.append(&mut more);
                seq = later;
                merged += 1;
            }
            let since = Instant::now();
            // A sync that failed is never tried again: the disk's content is unknown.
            self.log.commit(&batch).map_err(Fatal::Log)?;
            self.meter.synced(since.elapsed(), merged);
            if self.signals.send(Signal::Written(seq)).is_err() {
                return Ok(()); // The core failed, and has reported it.
            }
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Signals that nothing more is written, after a failure, too: a core that stops waits for it.
    fn drop(&mut self) {
        // The core may have ended.
        let _ = self.signals.send(Signal::WriterDone);
    }
}
