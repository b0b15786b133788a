//! Index of the requests in this node's own log.

use crate::{Request, RequestSeq, Session};
use std::collections::BTreeMap;
use synod_types::{Slot, Values};

/// Identity of a request, the same in every copy.
pub(crate) type RequestId = (Session, RequestSeq);

/// Index of the requests in the part of this node's log that is not yet applied, kept up to date
/// from the core's writes.
///
/// A leader uses it to drop a second copy of a request. A follower uses it to detect that a request
/// reached the leader. The index is a hint: a wrong entry causes a late or an unnecessary retry, and
/// the session table makes both harmless.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    slots: BTreeMap<Slot, RequestId>,
    requests: BTreeMap<RequestId, Place>,
    /// Requests that were removed from the log since the last drain.
    removed: Vec<RequestId>,
    applied: Slot,
    /// Number of leader changes since the start.
    leadership: u64,
}

/// Place of a request in the log.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: Slot,
    /// Value of [`LogIndex::leadership`] when it was written there.
    leadership: u64,
}

impl LogIndex {
    /// Returns the index of an empty log whose state is applied through `applied`.
    pub(crate) fn new(applied: Slot) -> Self {
        Self { applied, ..Self::default() }
    }

    /// Records that the log now holds `values` from slot `first` on.
    pub(crate) fn put(&mut self, first: Slot, values: &Values) {
        // The common case is an append: then there is no old entry to look up.
        let appends = self.slots.last_key_value().is_none_or(|(last, _)| *last < first);
        for index in 0..values.len() {
            let slot = first.plus(index);
            // The session table detects copies of applied requests.
            if slot <= self.applied {
                continue;
            }
            // No-ops and configurations have no entry.
            let request = values.command(index).and_then(Request::decode);
            let id = request.map(|request| (request.session, request.seq));
            // A rewrite of the same request in the same slot loses nothing.
            if !appends
                && let Some(old) = self.slots.remove(&slot)
                && id != Some(old)
                && self.remove_from(slot, old)
            {
                self.removed.push(old);
            }
            if let Some(id) = id {
                self.slots.insert(slot, id);
                // The newest copy counts, because the present leader wrote it.
                self.requests.insert(id, Place { slot, leadership: self.leadership });
            }
        }
    }

    /// Records that `slot` and all later slots were removed.
    pub(crate) fn truncate_from(&mut self, slot: Slot) {
        for (at, id) in self.slots.split_off(&slot) {
            // A request with another copy below `slot` is not lost.
            if self.remove_from(at, id) {
                self.removed.push(id);
            }
        }
    }

    /// Removes and returns the requests that were overwritten or truncated since the last call.
    pub(crate) fn drain_removed(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.removed)
    }

    /// Drops all entries through `through`: the session table covers these requests now.
    pub(crate) fn applied(&mut self, through: Slot) {
        // `put` skips these slots from now on, even if the core rewrites them.
        self.applied = self.applied.max(through);
        while let Some(entry) = self.slots.first_entry() {
            if *entry.key() > through {
                return;
            }
            let (slot, id) = entry.remove_entry();
            self.remove_from(slot, id);
        }
    }

    /// Records a change of leader, or of the ballot under which the same node leads.
    pub(crate) fn begin_leadership(&mut self) {
        self.leadership += 1;
    }

    /// Returns whether the request is in the log.
    pub(crate) fn holds(&self, id: &RequestId) -> bool {
        self.requests.contains_key(id)
    }

    /// Returns the slot that holds the request.
    pub(crate) fn slot_of(&self, id: &RequestId) -> Option<Slot> {
        self.requests.get(id).map(|place| place.slot)
    }

    /// Returns whether the request was written to the log under the present leader, which therefore
    /// has it, too.
    pub(crate) fn holds_since_leader_change(&self, id: &RequestId) -> bool {
        self.requests.get(id).is_some_and(|place| place.leadership == self.leadership)
    }

    /// Removes the request unless its newest copy is in another slot. Returns whether it did.
    fn remove_from(&mut self, slot: Slot, id: RequestId) -> bool {
        let is_newest_copy = self.requests.get(&id).is_some_and(|place| place.slot == slot);
        if is_newest_copy {
            self.requests.remove(&id);
        }
        is_newest_copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RequestKind;
    use bytes::Bytes;
    use synod_types::{Incarnation, NodeId, Value};

    const S: Session = Session { node: NodeId(1), incarnation: Incarnation(9), boot: 2 };

    fn id(seq: u64) -> RequestId {
        (S, RequestSeq(seq))
    }

    fn values(seqs: &[u64]) -> Values {
        let request = |seq: &u64| {
            let body = RequestKind::Command(Bytes::from_static(b"x"));
            Request { session: S, seq: RequestSeq(*seq), settled: RequestSeq(1), body }.encode()
        };
        seqs.iter().map(|seq| Value::Command(request(seq))).collect()
    }

    fn index(seqs: &[u64]) -> LogIndex {
        let mut index = LogIndex::new(Slot::ZERO);
        index.put(Slot(1), &values(seqs));
        index
    }

    #[test]
    fn truncated_or_overwritten_request_is_removed() {
        let mut index = index(&[1, 2, 3]);
        index.truncate_from(Slot(3));
        index.put(Slot(1), &values(&[1, 7]));
        assert_eq!(index.drain_removed(), [id(3), id(2)]);
        assert!(index.holds(&id(1)) && index.holds(&id(7)) && !index.holds(&id(2)));
    }

    #[test]
    fn request_with_a_second_copy_is_not_removed() {
        let mut index = index(&[1, 2, 1]);
        index.put(Slot(1), &Values::noop());
        assert!(index.drain_removed().is_empty() && index.holds(&id(1)));
    }

    #[test]
    fn applied_request_leaves_the_index_for_good() {
        let mut index = index(&[1, 2]);
        index.applied(Slot(1));
        assert!(!index.holds(&id(1)) && index.holds(&id(2)));
        index.put(Slot(1), &values(&[1]));
        assert!(!index.holds(&id(1)));
    }

    #[test]
    fn entries_from_before_a_leader_change_do_not_count_for_the_new_leader() {
        let mut index = index(&[1, 2]);
        index.begin_leadership();
        index.put(Slot(2), &values(&[2]));
        assert!(index.holds(&id(1)) && !index.holds_since_leader_change(&id(1)));
        assert!(index.holds_since_leader_change(&id(2)), "the new leader wrote it again");
    }
}
