//! Writer thread: group commit of the log.

use super::core::Signal;
use super::metrics::Meter;
use crate::Fatal;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use synod_storage::{Batch, LogStore};
use synod_types::Seq;
use tokio::sync::mpsc::UnboundedSender;

/// Limit of merged batches, in bytes. It keeps the completions of a slow disk frequent, while a sync of
/// this size costs little more than a sync of one byte.
const MERGED_BYTES: usize = 2 << 20;

/// Owner of the log store. Batches queue while it syncs; it then merges them into one write and one
/// sync, up to the limit.
pub(super) struct Writer {
    pub(super) log: Box<dyn LogStore>,
    pub(super) batches: Receiver<(Seq, Batch)>,
    pub(super) signals: UnboundedSender<Signal>,
    pub(super) meter: Arc<Meter>,
}

impl Writer {
    /// Writes batches until the core closes the queue.
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        let mut next = None;
        while let Some((mut seq, mut batch)) = next.take().or_else(|| self.batches.recv().ok()) {
            let (mut merged, mut bytes) = (1, batch.byte_len());
            while let Ok((later, mut more)) = self.batches.try_recv() {
                bytes += more.byte_len();
                if bytes > MERGED_BYTES {
                    // It was removed from the queue, so the next write begins with it.
                    next = Some((later, more));
                    break;
                }
                batch.append(&mut more);
                seq = later;
                merged += 1;
            }
            let since = Instant::now();
            // Never retried: after a failed sync, the content of the disk is unknown.
            self.log.commit(&batch).map_err(Fatal::Log)?;
            self.meter.synced(since.elapsed(), merged);
            if self.signals.send(Signal::Written(seq)).is_err() {
                return Ok(()); // The core has failed and reported its error.
            }
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Signals the end of the writer, also after an error: a core that stops waits for this.
    fn drop(&mut self) {
        // The core may have ended before.
        let _ = self.signals.send(Signal::WriterDone);
    }
}
