//! Linearizable reads of this node's clients: from which slot on they may be served, and when that slot
//! is applied.
//!
//! The core is asked once for all reads that came in since the last time, and again after a pause, because
//! messages get lost, or when another node leads. An answer counts for every read that arrived before the
//! core was asked for it: its slot was fixed later. So retries need no bookkeeping, and late
//! answers to earlier attempts are as good as others.

use crate::driver::{Answer, Outcome};
use crate::{ReplicaSettings, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;
use synod_consensus::Refusal;
use synod_types::{Instant, NodeId, ReadId, Slot};

/// Bits of an id that number the reads since the node started; those above hold the boot count, so that no
/// two reads of a node have one id. At a million a second they last for half a year.
const COUNTER_BITS: u32 = 44;

/// Longest pause before a retry, as a power of two of the shortest.
const MAX_DOUBLINGS: u32 = 5;

/// A client's read and its deadline.
pub(crate) type ClientRead = (Token, Instant);

/// Reads that wait for an answer.
pub(crate) struct Reads {
    /// Id of the next read of the core.
    next: ReadId,
    /// Shortest pause before a retry.
    retry: Duration,
    /// Reads that came in since the core was asked last.
    arrived: Vec<ClientRead>,
    /// The others, by the id of the first read of the core after they arrived.
    batches: BTreeMap<ReadId, Batch>,
    /// Earliest deadline of each batch.
    deadlines: BTreeSet<(Instant, ReadId)>,
    /// Batches with a slot that is not applied.
    by_slot: BTreeSet<(Slot, ReadId)>,
    /// Batches up to this one have a slot, of the present leader or of one before.
    answered: ReadId,
    /// Reads in the batches.
    len: usize,
    /// Retries since the last answer.
    retries: u32,
    retry_at: Instant,
    applied: Slot,
    /// The core has no reads: they take the way of commands, through the log.
    is_unsupported: bool,
}

/// Reads that the core was asked for together.
#[derive(Debug)]
struct Batch {
    reads: Vec<ClientRead>,
    /// Earliest deadline.
    deadline: Instant,
    /// Slot from which they may be served, once the core has answered.
    slot: Option<Slot>,
}

impl Reads {
    /// No reads, of a node whose state is applied through `applied`.
    pub(crate) fn new(settings: &ReplicaSettings, applied: Slot) -> Self {
        Self {
            next: ReadId((settings.boot_id.boot << COUNTER_BITS) + 1),
            retry: settings.retry,
            arrived: Vec::new(),
            batches: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            by_slot: BTreeSet::new(),
            answered: ReadId(0),
            len: 0,
            retries: 0,
            retry_at: Instant::ZERO,
            applied,
            is_unsupported: false,
        }
    }

    /// Returns the number of reads.
    pub(crate) fn len(&self) -> usize {
        self.arrived.len() + self.len
    }

    /// Adds a client's read.
    pub(crate) fn push(&mut self, token: Token, deadline: Instant) {
        self.arrived.push((token, deadline));
    }

    /// Returns the id of the next read of the core: for reads that came in since the last one, or for
    /// those that have waited too long for an answer.
    pub(crate) fn next_read(&mut self, now: Instant) -> Option<ReadId> {
        if self.is_unsupported {
            return None;
        }
        let id = self.next;
        if let Some(deadline) = self.arrived.iter().map(|(_, deadline)| *deadline).min() {
            let reads = std::mem::take(&mut self.arrived);
            self.len += reads.len();
            self.deadlines.insert((deadline, id));
            self.batches.insert(id, Batch { reads, deadline, slot: None });
        } else if self.lacks_answer() && self.retry_at <= now {
            self.retries += 1;
        } else {
            return None;
        }
        self.next.0 += 1;
        self.retry_at = now + self.retry * (1 << self.retries.min(MAX_DOUBLINGS));
        Some(id)
    }

    /// Handles an answer of the core: reads that arrived before it was asked may be served from `slot` on.
    pub(crate) fn ready(&mut self, id: ReadId, slot: Slot, answers: &mut Vec<Answer>) {
        self.retries = 0;
        // An earlier leader's slot is right, too, but perhaps the log never gets there: the lower counts.
        let batches =
            self.batches.range_mut((Excluded(self.answered), Included(id.max(self.answered))));
        let mut served = Vec::new();
        for (batch_id, batch) in batches {
            if let Some(before) = batch.slot.filter(|before| *before > slot) {
                self.by_slot.remove(&(before, *batch_id));
                batch.slot = None;
            }
            if batch.slot.is_none() {
                batch.slot = Some(slot);
                self.by_slot.insert((slot, *batch_id));
            }
            if slot <= self.applied {
                served.push(*batch_id);
            }
        }
        self.answered = self.answered.max(id);
        served.into_iter().for_each(|id| self.serve(id, answers));
    }

    /// Records that the core has no reads: those that wait are [taken](Self::take_arrived) to the log.
    pub(crate) fn unsupported(&mut self) {
        self.is_unsupported = true;
        self.deadlines.clear();
        self.by_slot.clear();
        self.len = 0;
        let batches = std::mem::take(&mut self.batches);
        self.arrived.extend(batches.into_values().flat_map(|batch| batch.reads));
    }

    /// Takes the reads that came in since the last time, if they must go through the log.
    pub(crate) fn take_arrived(&mut self) -> Vec<ClientRead> {
        if self.is_unsupported { std::mem::take(&mut self.arrived) } else { Vec::new() }
    }

    /// Has the core asked again for all reads, because another node leads: requests to the last leader may
    /// be lost, and so may the slots that it named.
    pub(crate) fn leader_changed(&mut self, leader: Option<NodeId>) {
        self.answered = ReadId(0);
        if leader.is_some() {
            (self.retries, self.retry_at) = (0, Instant::ZERO);
        }
    }

    /// Serves the reads whose slots are applied.
    pub(crate) fn applied(&mut self, through: Slot, answers: &mut Vec<Answer>) {
        self.applied = self.applied.max(through);
        while let Some((slot, id)) = self.by_slot.first().copied()
            && slot <= self.applied
        {
            self.serve(id, answers);
        }
    }

    /// Ends the reads whose deadlines have passed.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        leader: Option<NodeId>,
        answers: &mut Vec<Answer>,
    ) {
        let outcome = match leader {
            // Nothing was done, so that the client may retry at once with another node.
            None => Outcome::Refused(Refusal::NotLeader { hint: None }),
            Some(_) => Outcome::Unknown,
        };
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(batch) = self.batches.get_mut(&id) else { continue };
            for (token, _) in batch.reads.extract_if(.., |(_, deadline)| *deadline <= now) {
                self.len -= 1;
                answers.push(Answer { token, outcome: outcome.clone() });
            }
            match batch.reads.iter().map(|(_, deadline)| *deadline).min() {
                Some(next) => {
                    batch.deadline = next;
                    self.deadlines.insert((next, id));
                }
                None => drop(self.remove(id)),
            }
        }
    }

    /// Returns the time at which [`expire`](Self::expire) or [`next_read`](Self::next_read) has something
    /// to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let retry = self.lacks_answer().then_some(self.retry_at);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        retry.into_iter().chain(deadline).min()
    }

    fn lacks_answer(&self) -> bool {
        self.batches.range((Excluded(self.answered), Unbounded)).next().is_some()
    }

    fn serve(&mut self, id: ReadId, answers: &mut Vec<Answer>) {
        let reads = self.remove(id).map(|batch| batch.reads).unwrap_or_default();
        self.len -= reads.len();
        let answer = |(token, _)| Answer { token, outcome: Outcome::Readable };
        answers.extend(reads.into_iter().map(answer));
    }

    fn remove(&mut self, id: ReadId) -> Option<Batch> {
        let batch = self.batches.remove(&id)?;
        self.deadlines.remove(&(batch.deadline, id));
        if let Some(slot) = batch.slot {
            self.by_slot.remove(&(slot, id));
        }
        Some(batch)
    }
}
