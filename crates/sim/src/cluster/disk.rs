//! A node's two disks: the log's, synced batch by batch, and the state's.

use crate::faults::kind::Fault;
use crate::faults::schedule::CrashSpec;
use crate::faults::storage_faults;
use crate::rng::SimRng;
use std::collections::VecDeque;
use std::time::Duration;
use synod_consensus::{Protocol, Saved, Write};
use synod_replica::{DecodeError, decode_op};
use synod_storage::fault_injection::{RecordSet, log_records, replace_log};
use synod_storage::{Batch, LogOp, LogStore, MemoryDisk, MemoryLog, MemoryState, StorageError};
use synod_types::{GroupId, Incarnation, Instant, Seq};

/// Disks of a node, which survive a crash, and the batches that are not durable.
#[derive(Debug)]
pub(crate) struct Disk<P: Protocol> {
    memory: MemoryDisk,
    log: MemoryLog,
    /// Durable content of the log, decoded.
    pub(crate) synced: Saved<P>,
    /// Writes that became durable since the last check.
    pub(crate) newly_durable: Vec<Write<P>>,
    /// Batches that are not durable, oldest first.
    queue: VecDeque<Pending<P>>,
    /// Number of batches that the sync in progress covers.
    syncing: usize,
    /// Time at which that sync ends.
    pub(crate) sync_due: Option<Instant>,
    /// Syncs that end before this time are delayed to it.
    pub(crate) stalled_until: Instant,
    /// Syncs are slow until this time.
    pub(crate) slow_until: Instant,
    /// Failure of the next sync: its kind, the crash, and the time for which the disk cannot be
    /// opened.
    pub(crate) failing_sync: Option<(Fault, CrashSpec, Duration)>,
    /// Time before which the disk cannot be opened, and the fault.
    pub(crate) unreadable: Option<(Fault, Instant)>,
    /// Contents as which a corrupted log may legally load. `None` if it was not corrupted since the
    /// last load.
    pub(crate) corrupted: Option<Vec<Saved<P>>>,
}

#[derive(Debug)]
struct Pending<P: Protocol> {
    seq: Seq,
    batch: Batch,
    writes: Vec<Write<P>>,
    bytes: u64,
}

/// Numbers of batches that a crash lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrashLoss {
    pub(crate) log: usize,
    pub(crate) state: usize,
}

impl<P: Protocol> Disk<P> {
    pub(crate) fn new(incarnation: Incarnation) -> Self {
        let memory = MemoryDisk::new(incarnation);
        Self {
            log: memory.open_log(),
            memory,
            synced: Saved::default(),
            newly_durable: Vec::new(),
            queue: VecDeque::new(),
            syncing: 0,
            sync_due: None,
            stalled_until: Instant::ZERO,
            slow_until: Instant::ZERO,
            failing_sync: None,
            unreadable: None,
            corrupted: None,
        }
    }

    /// Opens both stores for a starting node.
    pub(crate) fn open(&mut self) -> (&mut MemoryLog, MemoryState) {
        self.log = self.memory.open_log();
        (&mut self.log, self.memory.open_state())
    }

    /// Decodes a batch into the protocol's own writes.
    pub(crate) fn decode(batch: &Batch) -> Result<Vec<Write<P>>, DecodeError> {
        batch.ops.iter().map(|(_, op)| decode_op(op)).collect()
    }

    /// Queues a batch; `writes` is its content.
    pub(crate) fn push(&mut self, seq: Seq, batch: Batch, writes: Vec<Write<P>>) {
        let bytes = batch.ops.iter().map(|(_, op)| op_bytes(op)).sum();
        self.queue.push_back(Pending { seq, batch, writes, bytes });
    }

    /// Returns the number of oldest batches that fit into this many bytes, at least one.
    pub(crate) fn batches_within(&self, bytes: u64) -> usize {
        let sums = self.queue.iter().scan(0, |sum, pending| {
            *sum += pending.bytes;
            Some(*sum)
        });
        sums.take_while(|sum| *sum <= bytes).count().max(1)
    }

    /// Returns the bytes that the sync in progress writes.
    pub(crate) fn syncing_bytes(&self) -> u64 {
        self.queue.iter().take(self.syncing).map(|pending| pending.bytes).sum()
    }

    /// Begins a sync, if none is in progress and batches are queued. `count` returns how many of
    /// the queued batches it covers, oldest first. Returns whether a sync began.
    pub(crate) fn begin_sync(&mut self, count: impl FnOnce(usize) -> usize) -> bool {
        if self.syncing > 0 || self.queue.is_empty() {
            return false;
        }
        self.syncing = count(self.queue.len()).clamp(1, self.queue.len());
        true
    }

    /// Ends the sync in progress. Returns the number of the last durable batch.
    pub(crate) fn end_sync(&mut self) -> Result<Option<Seq>, StorageError> {
        self.sync_due = None;
        let covered = std::mem::take(&mut self.syncing);
        self.make_durable(covered)
    }

    /// Commits the oldest `count` batches to the durable log as one batch.
    fn make_durable(&mut self, count: usize) -> Result<Option<Seq>, StorageError> {
        let mut merged = Batch::default();
        let mut last = None;
        for mut pending in self.queue.drain(..count) {
            merged.append(&mut pending.batch);
            pending.writes.iter().for_each(|write| self.synced.apply(write));
            self.newly_durable.append(&mut pending.writes);
            last = Some(pending.seq);
        }
        if last.is_some() {
            self.log.commit(&merged)?;
        }
        Ok(last)
    }

    /// Returns the log with all queued batches applied.
    pub(crate) fn written(&self) -> Saved<P> {
        let mut written = self.synced.clone();
        let writes = self.queue.iter().flat_map(|pending| &pending.writes);
        writes.for_each(|write| written.apply(write));
        written
    }

    /// Crashes the disks. Of the batches not yet reported as durable, the oldest `keep` of the log
    /// and the oldest `keep_state` of the state survive.
    pub(crate) fn crash(
        &mut self,
        keep: usize,
        keep_state: usize,
    ) -> Result<CrashLoss, StorageError> {
        let keep = keep.min(self.queue.len());
        self.make_durable(keep)?;
        let state = self.memory.unsynced().saturating_sub(keep_state);
        let lost = CrashLoss { log: self.queue.len(), state };
        self.queue.clear();
        (self.syncing, self.sync_due) = (0, None);
        self.memory.crash(keep_state);
        Ok(lost)
    }

    /// Returns the records of the log after a crash with this kind of corruption, and all contents
    /// as which they may legally load.
    pub(crate) fn corrupt(
        &self,
        fault: Fault,
        rng: &mut SimRng,
    ) -> Result<(RecordSet, Vec<Saved<P>>), StorageError> {
        let scratch = MemoryDisk::new(Incarnation(0));
        replace_log(&scratch, log_records(&self.memory));
        let mut log = scratch.open_log();
        let (mut images, mut saved) = (vec![log_records(&scratch)], vec![self.synced.clone()]);
        let mut last = self.synced.clone();
        for pending in &self.queue {
            log.commit(&pending.batch)?;
            images.push(log_records(&scratch));
            pending.writes.iter().for_each(|write| last.apply(write));
            saved.push(last.clone());
        }
        Ok((storage_faults::corrupt(fault, &images, rng), saved))
    }

    /// Replaces the content of the log's disk.
    pub(crate) fn replace(&mut self, records: RecordSet, saved: Vec<Saved<P>>) {
        replace_log(&self.memory, records);
        self.corrupted = Some(saved);
    }

    /// Returns the numbers of unsynced batches of the log and of the state.
    pub(crate) fn unsynced_counts(&self) -> [usize; 2] {
        [self.queue.len(), self.memory.unsynced()]
    }
}

/// Returns the size of an operation on disk: its content and a record header.
fn op_bytes(op: &LogOp) -> u64 {
    const RECORD_HEADER: usize = 32;
    let content = match op {
        LogOp::HardState(bytes) | LogOp::Compact { base: bytes, .. } => bytes.len(),
        LogOp::Put(run) => run.values.byte_len(),
        LogOp::TruncateFrom(_) => 0,
    };
    (RECORD_HEADER + content) as u64
}

/// Loads the one group that a simulated node hosts.
pub(crate) fn load(log: &mut MemoryLog) -> Result<synod_storage::StoredGroup, StorageError> {
    log.load(GroupId(0))
}
