//! Work that a driver has handed out: to its disk, and to its state machine.

use crate::driver::Run;
use crate::fence::Held;
use std::collections::VecDeque;
use synod_consensus::{Protocol, Write};
use synod_storage::{Batch, LogOp};
use synod_types::{GroupId, Instant, NodeId, Seq, Slot};

/// Bytes that a write takes beside its values, roughly.
const WRITE_OVERHEAD: usize = 64;

/// Progress of one side.
///
/// A side is stalled when it completes nothing while work waits. The age of the oldest work says
/// nothing: under steady load on a slow disk it is the depth of the queue.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Time of the last completion, or of the hand-out to a side that was idle; `None` while
    /// nothing is outstanding.
    since: Option<Instant>,
}

impl Progress {
    fn handed_out(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn completed(&mut self, now: Instant, is_idle: bool) {
        self.since = (!is_idle).then_some(now);
    }
}

/// Everything between the core and its disk.
pub(crate) struct DiskSide<P: Protocol> {
    batch: Batch,
    batch_bytes: usize,
    /// Durable messages of this round: their write has no number yet.
    pub(crate) fresh: Vec<(NodeId, P::Message)>,
    held: Held<(NodeId, P::Message)>,
    newest: Seq,
    written: Seq,
    unwritten: VecDeque<(Seq, usize)>,
    unwritten_bytes: usize,
    progress: Progress,
}

impl<P: Protocol> DiskSide<P> {
    pub(crate) fn new() -> Self {
        Self {
            batch: Batch::default(),
            batch_bytes: 0,
            fresh: Vec::new(),
            held: Held::default(),
            newest: Seq(0),
            written: Seq(0),
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            progress: Progress::default(),
        }
    }

    /// Adds a write to this round's batch.
    pub(crate) fn push(&mut self, group: GroupId, op: LogOp, write: &Write<P>) {
        let values = match write {
            Write::Put(run) => run.values.byte_len(),
            Write::HardState(_) | Write::TruncateFrom(_) | Write::Compact(_) => 0,
        };
        self.batch_bytes += values + WRITE_OVERHEAD;
        self.batch.ops.push((group, op));
    }

    /// Bytes that are not durable yet, this round's included.
    pub(crate) fn outstanding_bytes(&self) -> usize {
        self.batch_bytes + self.unwritten_bytes
    }

    /// Number of the newest batch that was handed out.
    pub(crate) fn newest(&self) -> Seq {
        self.newest
    }

    /// Number of the newest batch that is durable.
    pub(crate) fn written(&self) -> Seq {
        self.written
    }

    /// Returns whether everything that the core ever wrote is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.written == self.newest
    }

    /// Time since when work has waited without a completion.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.progress.since
    }

    /// Ends a round: gives its writes their number and adds them to `lent`, and holds what waits
    /// for them, at most `most` messages. What `me` says to itself is never dropped: no peer would ask
    /// for it again.
    pub(crate) fn seal(
        &mut self,
        now: Instant,
        (me, most): (NodeId, usize),
        lent: &mut Option<(Seq, Batch)>,
    ) {
        if !self.batch.is_empty() {
            self.newest = self.newest.next();
            let bytes = std::mem::take(&mut self.batch_bytes);
            self.unwritten.push_back((self.newest, bytes));
            self.unwritten_bytes += bytes;
            self.progress.handed_out(now);
            let (number, batch) = lent.get_or_insert_default();
            batch.append(&mut self.batch);
            *number = self.newest;
        }
        for (to, message) in self.fresh.drain(..) {
            if to == me || self.held.len() < most {
                self.held.push(self.newest, (to, message));
            }
        }
    }

    /// Everything through `seq` is durable: takes the messages that waited for it.
    pub(crate) fn complete(&mut self, now: Instant, seq: Seq) -> Vec<(NodeId, P::Message)> {
        assert!(seq <= self.newest, "{seq:?} was never handed out");
        if seq > self.written {
            self.written = seq;
            while let Some((_, bytes)) = self.unwritten.pop_front_if(|(front, _)| *front <= seq) {
                self.unwritten_bytes -= bytes;
            }
            self.progress.completed(now, self.unwritten.is_empty());
        }
        self.held.release(self.written).collect()
    }
}

/// Everything between the core and the state machine.
pub(crate) struct ApplySide {
    /// Chosen through this slot.
    emitted: Slot,
    /// Applied through this slot.
    applied: Slot,
    /// Chosen and not handed out yet; shares its memory with the core's log.
    waiting: VecDeque<Run>,
    /// Handed out and not applied: each piece's last slot and its bytes.
    outstanding: VecDeque<(Slot, usize)>,
    outstanding_bytes: usize,
    progress: Progress,
    /// Chosen through a slot, but the log's own copy is durable only with this write.
    undurable: VecDeque<(Seq, Slot)>,
    /// The last slot that `undurable` or a mark for the state has covered.
    marked: Slot,
}

impl ApplySide {
    /// The side of a state machine that has applied through `applied`.
    pub(crate) fn new(applied: Slot) -> Self {
        Self {
            emitted: applied,
            applied,
            waiting: VecDeque::new(),
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            progress: Progress::default(),
            undurable: VecDeque::new(),
            marked: applied,
        }
    }

    /// Last slot that the core has reported as chosen.
    pub(crate) fn emitted(&self) -> Slot {
        self.emitted
    }

    /// Last slot that the state machine has applied.
    pub(crate) fn applied(&self) -> Slot {
        self.applied
    }

    /// Takes a run that the core reported as chosen.
    pub(crate) fn push(&mut self, run: Run) {
        assert_eq!(run.first, self.emitted.next(), "chosen slots come in order");
        self.emitted = run.last();
        self.waiting.push_back(run);
    }

    /// Returns whether more is chosen than the state machine has been handed.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Time since when work has waited without a completion.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.progress.since
    }

    /// Hands out runs while less than `max_bytes` and `max_slots` are outstanding.
    pub(crate) fn hand_out(
        &mut self,
        now: Instant,
        (max_bytes, max_slots): (usize, u64),
        out: &mut Vec<Run>,
    ) {
        while let Some(run) = self.waiting.front_mut() {
            let slots = max_slots.saturating_sub(run.first.prev().0 - self.applied.0);
            if slots == 0 || self.outstanding_bytes >= max_bytes {
                return;
            }
            let slots = usize::try_from(slots).unwrap_or(usize::MAX);
            let count = run.values.fitting(max_bytes - self.outstanding_bytes).min(slots);
            let piece = Run { first: run.first, values: run.values.slice(0, count) };
            if count == run.values.len() {
                self.waiting.pop_front();
            } else {
                run.values = run.values.slice(count, run.values.len());
                run.first = run.first.plus(count);
            }
            let bytes = piece.values.byte_len();
            self.outstanding.push_back((piece.last(), bytes));
            self.outstanding_bytes += bytes;
            self.progress.handed_out(now);
            out.push(piece);
        }
    }

    /// Everything through `through` is applied.
    pub(crate) fn complete(&mut self, now: Instant, through: Slot) {
        if through <= self.applied {
            return;
        }
        self.applied = through;
        while let Some((_, bytes)) = self.outstanding.pop_front_if(|(last, _)| *last <= through) {
            self.outstanding_bytes -= bytes;
        }
        self.progress.completed(now, self.outstanding.is_empty());
    }

    /// Ends a round whose newest write is `newest`: returns the slot up to which the state may be
    /// persisted, if the log has made it durable.
    pub(crate) fn mark(&mut self, newest: Seq, written: Seq) -> Option<Slot> {
        if self.marked == self.emitted {
            return None;
        }
        self.marked = self.emitted;
        if written == newest {
            return Some(self.emitted);
        }
        self.undurable.push_back((newest, self.emitted));
        None
    }

    /// Returns the slot up to which the state may be persisted once `written` is durable.
    pub(crate) fn durable(&mut self, written: Seq) -> Option<Slot> {
        let mut durable = None;
        while let Some((_, slot)) = self.undurable.pop_front_if(|(seq, _)| *seq <= written) {
            durable = Some(slot);
        }
        durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_types::{Value, Values};

    /// Slots from `first` on with values of these many bytes.
    fn run(first: u64, sizes: &[usize]) -> Run {
        let values: Values =
            sizes.iter().map(|size| Value::Command(vec![7; *size].into())).collect();
        Run { first: Slot(first), values }
    }

    #[test]
    fn a_long_run_is_cut_into_pieces_within_both_bounds() {
        let sizes: Vec<usize> = (0..1000).map(|slot| (slot * 7919) % 300).collect();
        let whole = run(1, &sizes);
        let mut side = ApplySide::new(Slot::ZERO);
        side.push(whole.clone());
        let (mut next, mut rounds) = (Slot(1), 0);
        while next <= whole.last() {
            assert!(side.is_behind());
            let mut pieces = Vec::new();
            side.hand_out(Instant(rounds), (2000, 20), &mut pieces);
            let bytes: usize = pieces.iter().map(|piece| piece.values.byte_len()).sum();
            let slots: usize = pieces.iter().map(|piece| piece.values.len()).sum();
            assert!(
                (1..=20).contains(&slots) && bytes <= 2000 + 301,
                "{slots} slots, {bytes} bytes"
            );
            for piece in &pieces {
                assert_eq!(piece.first, next);
                let (from, to) = (next.0 as usize - 1, piece.last().0 as usize);
                assert_eq!(piece.values, whole.values.slice(from, to));
                next = piece.last().next();
            }
            let mut none = Vec::new();
            side.hand_out(Instant(rounds), (2000, slots as u64), &mut none);
            assert!(none.is_empty(), "the bound is reached");
            side.complete(Instant(rounds), next.prev());
            rounds += 1;
        }
        assert!(!side.is_behind() && side.waiting_since().is_none());
        assert!(rounds >= 50, "{rounds}");
    }

    #[test]
    fn a_value_beyond_the_bound_goes_alone() {
        let mut side = ApplySide::new(Slot(4));
        side.push(run(5, &[5000, 1]));
        let mut pieces = Vec::new();
        side.hand_out(Instant(1), (100, 20), &mut pieces);
        assert_eq!(pieces, [run(5, &[5000])]);
        assert_eq!(side.emitted(), Slot(6));
    }
}
