//! Linearizable reads of this node's clients, from their arrival until their read index is applied.
//!
//! The read index is the slot that must be applied before a read may be served (Raft thesis §6.4). The
//! driver requests one index from the core for all reads that have arrived since the last request. It
//! retries after a delay, because messages may be lost, and after a leader change. An index is valid for
//! every read that arrived before the driver requested it, because the core determined it later. Retries
//! therefore need no bookkeeping: a late index of an earlier attempt is valid, too.

use crate::driver::{Outcome, Response};
use crate::{ReplicaSettings, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;
use synod_consensus::Refusal;
use synod_types::{Instant, NodeId, ReadId, Slot};

/// Bits of a read's id that count the reads since the start. The bits above hold the boot count, so that
/// ids are unique across restarts. At a million reads a second the counter lasts for half a year.
const COUNTER_BITS: u32 = 44;

/// Limit of the exponential backoff: the longest retry delay is `2^MAX_DOUBLINGS` times the shortest.
const MAX_DOUBLINGS: u32 = 5;

/// Token and deadline of a client's read.
pub(crate) type ClientRead = (Token, Instant);

/// Pending reads of this node's clients.
pub(crate) struct Reads {
    /// Id of the next request of a read index.
    next: ReadId,
    /// Shortest delay before a retry.
    retry: Duration,
    /// Reads that have arrived since the last request of an index.
    arrived: Vec<ClientRead>,
    /// Earlier reads, by the id of the first request after their arrival.
    batches: BTreeMap<ReadId, ReadBatch>,
    /// Earliest deadline of each batch.
    deadlines: BTreeSet<(Instant, ReadId)>,
    /// Batches with an index that is not applied.
    by_slot: BTreeSet<(Slot, ReadId)>,
    /// Last batch that has an index since the last leader change. So have all batches before it.
    confirmed: ReadId,
    /// Number of reads in the batches.
    len: usize,
    /// Number of retries since the last index.
    retries: u32,
    retry_at: Instant,
    applied: Slot,
    /// True if the core has no read index: reads then use a barrier in the log.
    is_unsupported: bool,
}

/// Reads that share a request of a read index.
#[derive(Debug)]
struct ReadBatch {
    reads: Vec<ClientRead>,
    /// Earliest deadline of the reads.
    deadline: Instant,
    /// Read index, once the core has reported it.
    slot: Option<Slot>,
}

impl Reads {
    /// Returns an empty set of reads, for a node whose state is applied through `applied`.
    pub(crate) fn new(settings: &ReplicaSettings, applied: Slot) -> Self {
        Self {
            next: ReadId((settings.boot_id.boot << COUNTER_BITS) + 1),
            retry: settings.retry,
            arrived: Vec::new(),
            batches: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            by_slot: BTreeSet::new(),
            confirmed: ReadId(0),
            len: 0,
            retries: 0,
            retry_at: Instant::ZERO,
            applied,
            is_unsupported: false,
        }
    }

    /// Returns the number of pending reads.
    pub(crate) fn len(&self) -> usize {
        self.arrived.len() + self.len
    }

    /// Adds a client's read.
    pub(crate) fn push(&mut self, token: Token, deadline: Instant) {
        self.arrived.push((token, deadline));
    }

    /// Returns the id of the next request of a read index, if one is due: for newly arrived reads, or as
    /// a retry.
    pub(crate) fn next_read(&mut self, now: Instant) -> Option<ReadId> {
        if self.is_unsupported {
            return None;
        }
        let id = self.next;
        // New reads do not wait for a retry: an index in flight is not valid for them.
        if let Some(deadline) = self.arrived.iter().map(|(_, deadline)| *deadline).min() {
            let reads = std::mem::take(&mut self.arrived);
            self.len += reads.len();
            self.deadlines.insert((deadline, id));
            self.batches.insert(id, ReadBatch { reads, deadline, slot: None });
        } else if self.lacks_index() && self.retry_at <= now {
            self.retries += 1;
        } else {
            return None;
        }
        self.next.0 += 1;
        // Exponential backoff, so that retries do not load a cluster without a quorum.
        self.retry_at = now + self.retry * (1 << self.retries.min(MAX_DOUBLINGS));
        Some(id)
    }

    /// Handles a read index of the core: the reads that arrived before request `id` may be served once
    /// `slot` is applied.
    pub(crate) fn ready(&mut self, id: ReadId, slot: Slot, responses: &mut Vec<Response>) {
        self.retries = 0;
        // The index of an earlier leader is valid, too. Both suffice, so the lower one counts: the log
        // may never reach an index that was the slot of a lost no-op.
        let batches =
            self.batches.range_mut((Excluded(self.confirmed), Included(id.max(self.confirmed))));
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
                // Served after the loop, which borrows the batches.
                served.push(*batch_id);
            }
        }
        self.confirmed = self.confirmed.max(id);
        served.into_iter().for_each(|id| self.serve(id, responses));
    }

    /// Records that the core has no read index. All pending reads move to
    /// [`drain_unsupported`](Self::drain_unsupported).
    pub(crate) fn unsupported(&mut self) {
        self.is_unsupported = true;
        self.deadlines.clear();
        self.by_slot.clear();
        self.len = 0;
        let batches = std::mem::take(&mut self.batches);
        self.arrived.extend(batches.into_values().flat_map(|batch| batch.reads));
    }

    /// Removes and returns the reads that need a barrier in the log, because the core has no read index.
    pub(crate) fn drain_unsupported(&mut self) -> Vec<ClientRead> {
        if self.is_unsupported { std::mem::take(&mut self.arrived) } else { Vec::new() }
    }

    /// Schedules a new request for all pending reads after a leader change. Requests to the last leader
    /// may be lost, and the log may never reach an index that it reported.
    pub(crate) fn leader_changed(&mut self, leader: Option<NodeId>) {
        self.confirmed = ReadId(0);
        // Without a leader a request would be refused, so the retry delay stays.
        if leader.is_some() {
            (self.retries, self.retry_at) = (0, Instant::ZERO);
        }
    }

    /// Serves the reads whose index is applied.
    pub(crate) fn applied(&mut self, through: Slot, responses: &mut Vec<Response>) {
        self.applied = self.applied.max(through);
        while let Some((slot, id)) = self.by_slot.first().copied()
            && slot <= self.applied
        {
            self.serve(id, responses);
        }
    }

    /// Ends the reads whose deadlines have passed.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        leader: Option<NodeId>,
        responses: &mut Vec<Response>,
    ) {
        let outcome = match leader {
            // The client may retry at once with another node.
            None => Outcome::Refused(Refusal::NotLeader { hint: None }),
            // The leader may have been slow, or its replies may be lost.
            Some(_) => Outcome::Unknown,
        };
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(batch) = self.batches.get_mut(&id) else { continue };
            for (token, _) in batch.reads.extract_if(.., |(_, deadline)| *deadline <= now) {
                self.len -= 1;
                responses.push(Response { token, outcome: outcome.clone() });
            }
            match batch.reads.iter().map(|(_, deadline)| *deadline).min() {
                Some(next) => {
                    // The other reads of the batch stay pending.
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
        let retry = self.lacks_index().then_some(self.retry_at);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        retry.into_iter().chain(deadline).min()
    }

    /// Returns whether a batch has no read index of the present leader.
    fn lacks_index(&self) -> bool {
        self.batches.range((Excluded(self.confirmed), Unbounded)).next().is_some()
    }

    /// Ends the reads of a batch as readable.
    fn serve(&mut self, id: ReadId, responses: &mut Vec<Response>) {
        let reads = self.remove(id).map(|batch| batch.reads).unwrap_or_default();
        self.len -= reads.len();
        let response = |(token, _)| Response { token, outcome: Outcome::Readable };
        responses.extend(reads.into_iter().map(response));
    }

    fn remove(&mut self, id: ReadId) -> Option<ReadBatch> {
        let batch = self.batches.remove(&id)?;
        self.deadlines.remove(&(batch.deadline, id));
        if let Some(slot) = batch.slot {
            self.by_slot.remove(&(slot, id));
        }
        Some(batch)
    }
}
