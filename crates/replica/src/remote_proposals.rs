//! Requests that other nodes forwarded to this one.

use crate::log_index::RequestId;
use crate::{Request, RequestKind, RequestSeq, Session};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use synod_types::{NodeId, Ticket};

/// Forwarded requests that the core has neither placed nor refused.
#[derive(Debug, Default)]
pub(crate) struct RemoteProposals {
    /// Requests not yet offered to the core, in the order of their arrival, barriers first.
    waiting: VecDeque<RemoteProposal>,
    waiting_bytes: usize,
    offered: BTreeMap<Ticket, RequestId>,
    /// Ids of all waiting and offered requests: further copies are dropped.
    all: BTreeSet<RequestId>,
    /// Latest session of each node, and its first request that is not settled.
    settled: BTreeMap<NodeId, (Session, RequestSeq)>,
    /// Number of offers to the core, for the next ticket.
    last: u64,
}

#[derive(Debug)]
struct RemoteProposal {
    id: RequestId,
    command: Bytes,
    /// True for the barrier of reads: reads wait for it and it takes no disk space, so it goes first.
    is_barrier: bool,
}

impl RemoteProposals {
    /// Returns whether a copy of the request waits or is on offer to the core.
    pub(crate) fn contains(&self, id: &RequestId) -> bool {
        self.all.contains(id)
    }

    /// Returns the number of nodes that have forwarded requests.
    pub(crate) fn nodes(&self) -> usize {
        self.settled.len()
    }

    /// Returns the size of the waiting commands, in bytes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Queues a request for the core.
    pub(crate) fn push(&mut self, id: RequestId, command: Bytes, is_barrier: bool) {
        self.all.insert(id);
        self.waiting_bytes += command.len();
        let proposal = RemoteProposal { id, command, is_barrier };
        // Reads wait for a barrier, and it takes no disk space.
        if is_barrier {
            self.waiting.push_front(proposal);
        } else {
            self.waiting.push_back(proposal);
        }
    }

    /// Removes and returns the next request for the core. If the disk has no `room`, only a barrier
    /// qualifies.
    pub(crate) fn next(&mut self, room: bool) -> Option<(Ticket, Bytes)> {
        // `settle` checks the front only, so a request further back may be settled by now.
        self.drop_settled();
        let proposal = self.waiting.pop_front_if(|proposal| room || proposal.is_barrier)?;
        self.waiting_bytes -= proposal.command.len();
        self.last += 1;
        // Tickets of remote proposals are odd; those of this node's requests are even.
        let ticket = Ticket(self.last * 2 + 1);
        self.offered.insert(ticket, proposal.id);
        Some((ticket, proposal.command))
    }

    /// Returns an offered request to the front of the queue, because the core has no room for it.
    pub(crate) fn put_back(&mut self, ticket: Ticket, command: Bytes) {
        // Its id stays in `all`, so that copies are still dropped.
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

    /// Drops requests of a session below `settled`: they are answered or timed out, and the session
    /// table would ignore them. Drops those at the front of the queue at once, and others when they
    /// reach the front.
    pub(crate) fn settle(&mut self, session: Session, settled: RequestSeq) {
        let latest = self.settled.entry(session.node).or_insert((session, settled));
        // Sessions of different incarnations have no order, because incarnations are random. The
        // session of the newest frame replaces the one before.
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

    /// Removes all waiting requests and returns their ids, because this node does not lead.
    pub(crate) fn drain_waiting(&mut self) -> Vec<RequestId> {
        self.waiting_bytes = 0;
        let ids: Vec<_> = self.waiting.drain(..).map(|proposal| proposal.id).collect();
        // Offered requests stay: the core will place or refuse them.
        ids.iter().for_each(|id| {
            self.all.remove(id);
        });
        ids
    }
}
