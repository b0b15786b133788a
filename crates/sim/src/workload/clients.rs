//! Clients: their operations and the outcomes.

use crate::check::replies::{Operation, OperationState};
use crate::workload::operations::ExpectedValues;
use std::collections::BTreeSet;
use synod_types::{Instant, NodeId, Slot};

/// Every operation of a run.
#[derive(Debug)]
pub(crate) struct Clients {
    operations: Vec<Operation>,
    /// Maximum number of operations; those after the end of all faults are not limited.
    pub(crate) most: u64,
    /// Pending operations, by the node that received them.
    pending: Vec<BTreeSet<u64>>,
    pending_count: usize,
    done: u64,
    /// Values that clients expect, by key.
    pub(crate) expected: ExpectedValues,
    /// Highest slot acknowledged to any client.
    pub(crate) floor: Slot,
    /// Latest start of a completed operation.
    pub(crate) newest_begin_done: Instant,
    begun: Vec<Instant>,
    /// Start time from which every operation must complete.
    pub(crate) must_serve: Option<Instant>,
    /// True if limits may be so small that a working node rejects an operation as busy.
    pub(crate) may_reject: bool,
    /// First operation that had to complete and did not.
    pub(crate) unserved: Option<u64>,
}

impl Clients {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            operations: Vec::new(),
            most: u64::MAX,
            pending: vec![BTreeSet::new(); nodes],
            pending_count: 0,
            done: 0,
            expected: ExpectedValues::default(),
            floor: Slot::ZERO,
            newest_begin_done: Instant::ZERO,
            begun: Vec::new(),
            must_serve: None,
            may_reject: false,
            unserved: None,
        }
    }

    /// Returns the number of operations acknowledged.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Returns the number of pending operations.
    pub(crate) fn pending(&self) -> usize {
        self.pending_count
    }

    /// Returns whether any operation is pending.
    pub(crate) fn is_loaded(&self) -> bool {
        self.pending_count > 0
    }

    /// Returns the number of operations so far: the id of the next.
    pub(crate) fn count(&self) -> u64 {
        self.operations.len() as u64
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Operation> {
        self.operations.get(usize::try_from(id).ok()?)
    }

    /// Begins an operation at a node. Returns its id.
    pub(crate) fn begin(&mut self, now: Instant, node: usize) -> u64 {
        let id = self.operations.len() as u64;
        let operation = Operation {
            node: NodeId(node as u64 + 1),
            floor: self.floor,
            state: OperationState::Pending,
        };
        self.operations.push(operation);
        self.begun.push(now);
        self.pending[node].insert(id);
        self.pending_count += 1;
        id
    }

    /// Ends an operation.
    pub(crate) fn finish(&mut self, id: u64, state: OperationState) {
        let index = usize::try_from(id).expect("ids are returned by `begin`");
        let operation = &mut self.operations[index];
        operation.state = state;
        let node = usize::try_from(operation.node.0 - 1).expect("nodes are numbered from 1");
        if !self.pending[node].remove(&id) {
            return;
        }
        self.pending_count -= 1;
        if let OperationState::Done(slot) = state {
            self.done += 1;
            self.floor = self.floor.max(slot);
            self.newest_begin_done = self.newest_begin_done.max(self.begun[index]);
        } else if self.must_serve.is_some_and(|from| self.begun[index] >= from)
            && !(self.may_reject && state == OperationState::Rejected { busy: true })
        {
            self.unserved.get_or_insert(id);
        }
    }

    /// Ends the operations of a crashed node as unknown. Returns their ids.
    pub(crate) fn node_crashed(&mut self, node: usize) -> BTreeSet<u64> {
        let waiting = self.pending[node].clone();
        waiting.iter().for_each(|id| self.finish(*id, OperationState::Unknown));
        waiting
    }
}
