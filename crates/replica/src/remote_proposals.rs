//! Requests that other nodes forwarded to this one.

use crate::log_index::RequestId;
use crate::{Request, RequestKind, RequestSeq, Session};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use synod_types::{NodeId, Ticket};

/// Forwarded requests until the core has placed or refused them.
#[derive(Debug, Default)]
pub(crate) struct RemoteProposals {
    /// Those that the core was not offered yet, in the order of their arrival.
    waiting: VecDeque<RemoteProposal>,
    waiting_bytes: usize,
    offered: BTreeMap<Ticket, RequestId>,
    /// All of the above: a second copy of one is dropped.
    all: BTreeSet<RequestId>,
    /// The latest session of each node, and its first request that is not settled.
    settled: BTreeMap<NodeId, (Session, RequestSeq)>,
    last: u64,
}

#[derive(Debug)]
struct RemoteProposal {
    id: RequestId,
    command: Bytes,
    /// A barrier takes no room on the disk, and reads wait for it: it goes first.
    is_barrier: bool,
}

impl RemoteProposals {
    /// Returns whether a copy of the request waits or is offered to the core.
    pub(crate) fn contains(&self, id: &RequestId) -> bool {
        self.all.contains(id)
    }

    /// Number of nodes that have forwarded requests.
    pub(crate) fn nodes(&self) -> usize {
        self.settled.len()
    }

    /// Bytes of the commands that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Adds a request to those that wait.
    pub(crate) fn push(&mut self, id: RequestId, command: Bytes, is_barrier: bool) {
        self.all.insert(id);
        self.waiting_bytes += command.len();
        let proposal = RemoteProposal { id, command, is_barrier };
        // Reads wait for it, and it takes no room.
        if is_barrier {
            self.waiting.push_front(proposal);
        } else {
            self.waiting.push_back(proposal);
        }
    }

    /// Takes the next request for the core; without `room` on the disk, only a barrier.
    pub(crate) fn next(&mut self, room: bool) -> Option<(Ticket, Bytes)> {
        // Requests may have been settled while others were in front of them.
        self.drop_settled();
        let proposal = self.waiting.pop_front_if(|proposal| room || proposal.is_barrier)?;
        self.waiting_bytes -= proposal.command.len();
        self.last += 1;
        // Odd tickets; even ones are this node's own.
        let ticket = Ticket(self.last * 2 + 1);
        self.offered.insert(ticket, proposal.id);
        Some((ticket, proposal.command))
    }

    /// Takes back a request that the core has no room for.
    pub(crate) fn put_back(&mut self, ticket: Ticket, command: Bytes) {
        // It keeps its id in `all`, so that copies are still dropped.
        let Some(id) = self.offered.remove(&ticket) else { return };
        let is_barrier =
            Request::decode(&command).is_some_and(|request| request.body == RequestKind::Barrier);
        self.waiting_bytes += command.len();
        self.waiting.push_front(RemoteProposal { id, command, is_barrier });
    }

    /// Ends the offer of a request that the core placed or refused.
    pub(crate) fn end_offer(&mut self, ticket: Ticket) -> Option<RequestId> {
        let id = self.offered.remove(&ticket)?;
        self.all.remove(&id);
        Some(id)
    }

    /// Drops requests of a node below `settled`: their clients are answered or have given up, and
    /// applying them would do nothing. Those at the front of the queue go at once, the others when it
    /// is their turn.
    pub(crate) fn settle(&mut self, session: Session, settled: RequestSeq) {
        let latest = self.settled.entry(session.node).or_insert((session, settled));
        // Incarnations are random, so their order does not say which session is the later one.
        let highest = if latest.0 == session { latest.1.max(settled) } else { settled };
        *latest = (session, highest);
        self.drop_settled();
    }

    fn drop_settled(&mut self) {
        let settled = &self.settled;
        let is_settled = |proposal: &mut RemoteProposal| {
            let (session, seq) = proposal.id;
            let latest = settled.get(&session.node);
            latest.is_some_and(|(latest, settled)| *latest == session && seq < *settled)
        };
        while let Some(proposal) = self.waiting.pop_front_if(is_settled) {
            self.waiting_bytes -= proposal.command.len();
            self.all.remove(&proposal.id);
        }
    }

    /// Removes all that wait and returns their ids: this node does not lead.
    pub(crate) fn dismiss(&mut self) -> Vec<RequestId> {
        self.waiting_bytes = 0;
        let ids: Vec<_> = self.waiting.drain(..).map(|proposal| proposal.id).collect();
        // Those that the core was offered stay: it still places or refuses them.
        ids.iter().for_each(|id| {
            self.all.remove(id);
        });
        ids
    }
}
