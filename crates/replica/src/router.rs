//! Routing of requests: to this node's core while it leads, otherwise to the leader.
//!
//! [`Requests`] holds the requests of this node's clients, and [`RemoteProposals`] those of other
//! nodes. The router offers both to the core in turn, follows leader changes, and collects forwarded
//! requests, acknowledgements and refusals for other nodes.

use crate::log_index::LogIndex;
use crate::outgoing::{Outgoing, OutgoingQueue};
use crate::remote_proposals::RemoteProposals;
use crate::requests::{Requests, own_seq};
use crate::{Applied, ReplicaSettings, Request, RequestKind, RequestSeq};
use bytes::Bytes;
use synod_consensus::{Observer, Protocol, Refusal, Status, Write};
use synod_types::{Ballot, Instant, NodeId, Slot, Ticket, Values};

/// Router of requests between clients, other nodes and the core.
pub(crate) struct Router {
    node: NodeId,
    /// Bound on the size of the waiting remote proposals, in bytes.
    remote_proposal_bytes: usize,
    /// Requests of this node's clients.
    pub(crate) requests: Requests,
    remote_proposals: RemoteProposals,
    /// Index of the requests in the unapplied log.
    log: LogIndex,
    leader: Option<NodeId>,
    /// Ballot of the leader. If the same node leads again, it may have lost the requests of its last term.
    ballot: Ballot,
    /// Node whose request is offered next: 0 for this node, above for the others.
    turn: usize,
    /// Request on offer to the core.
    offered: Option<(Ticket, Bytes)>,
    outgoing: OutgoingQueue,
}

/// Keeps the index of requests in step with the core's writes.
impl<P: Protocol> Observer<P> for Router {
    fn on_write(&mut self, _: &P, write: &Write<P>) {
        match write {
            Write::Put(run) => self.log.put(run.first, &run.values),
            Write::TruncateFrom(from) => self.log.truncate_from(*from),
            Write::HardState(_) | Write::Compact(_) => {}
        }
    }
}

impl Router {
    /// Returns a router without a leader or requests, for a log whose state is applied through
    /// `applied`.
    pub(crate) fn new(settings: &ReplicaSettings, applied: Slot) -> Self {
        Self {
            node: settings.node,
            remote_proposal_bytes: settings.remote_proposal_bytes,
            requests: Requests::new(settings, applied),
            remote_proposals: RemoteProposals::default(),
            log: LogIndex::new(applied),
            leader: None,
            ballot: Ballot::ZERO,
            turn: 0,
            offered: None,
            outgoing: OutgoingQueue::new(settings.forward_bytes),
        }
    }

    /// Adds values of the recovered log to the index of requests.
    pub(crate) fn index(&mut self, first: Slot, values: &Values) {
        self.log.put(first, values);
    }

    /// Returns whether this node leads.
    pub(crate) fn leads(&self) -> bool {
        self.leader == Some(self.node)
    }

    /// Updates the leader and its ballot. Requests in flight may be lost by a change, so those that are
    /// not in this node's log are queued again. The session table drops unnecessary copies. Returns the
    /// number of queued requests, or `None` without a change.
    pub(crate) fn follow_leader(&mut self, status: &Status, applied: Slot) -> Option<u64> {
        if (status.leader, status.ballot) == (self.leader, self.ballot) {
            return None;
        }
        (self.leader, self.ballot) = (status.leader, status.ballot);
        self.log.begin_leadership();
        self.requests.leader_changed(status.leader);
        // Without a leader they cannot be sent. The change to the next leader queues them.
        let has_leader = status.leader.is_some();
        Some(if has_leader { self.requests.requeue_unlogged(applied, &self.log) } else { 0 })
    }

    /// Queues the requests that were removed from this node's log for a retry. Returns their number.
    pub(crate) fn requeue_removed(&mut self) -> u64 {
        let removed = self.log.drain_removed();
        self.requests.requeue_removed(removed, &self.log)
    }

    /// Ends requests whose deadlines have passed, and queues requests that may be lost for a retry.
    /// Returns the number of the latter.
    pub(crate) fn on_wake(&mut self, now: Instant, applied: Slot) -> u64 {
        self.requests.expire(now, self.leader);
        self.requests.requeue_due(now, applied, &self.log)
    }

    /// Ends the applied requests, and serves the reads whose index is applied.
    pub(crate) fn on_applied(&mut self, now: Instant, applied: Applied) {
        self.log.applied(applied.through);
        for done in applied.done {
            self.requests.complete(now, done);
        }
        self.requests.serve_reads(applied.through);
    }

    /// Removes and returns the next request for this node's core, which leads. If the disk has no `room`,
    /// only a barrier qualifies. [`end_offer`](Self::end_offer) must follow.
    pub(crate) fn offer_next(&mut self, now: Instant, room: bool) -> Option<(Ticket, Bytes)> {
        // Fairness: one request of this node for one of each node that forwards. Otherwise the leader's
        // clients would be served before all others.
        self.turn = if self.turn >= self.remote_proposals.nodes() { 0 } else { self.turn + 1 };
        let next = if self.turn > 0 {
            let remote = self.remote_proposals.next(room);
            remote.or_else(|| self.requests.next_proposal(now, room, &self.log))
        } else {
            let own = self.requests.next_proposal(now, room, &self.log);
            own.or_else(|| self.remote_proposals.next(room))
        };
        // Kept until the core accepts it: a busy core returns the request to the queue.
        self.offered.clone_from(&next);
        next
    }

    /// Ends an offer to the core. Returns false if the core had no room for the request.
    pub(crate) fn end_offer(&mut self) -> bool {
        self.offered.take().is_some()
    }

    /// Records that the core placed a request in its log.
    pub(crate) fn placed(&mut self, ticket: Ticket, slot: Slot) {
        match own_seq(ticket) {
            Some(seq) => self.requests.placed(seq, slot),
            None => {
                self.remote_proposals.end_offer(ticket);
            }
        }
    }

    /// Handles the core's refusal of a request: during the offer if the core is busy, or later.
    pub(crate) fn refused(&mut self, ticket: Ticket, why: &Refusal) {
        let is_offered = |(offered, _): &mut (Ticket, Bytes)| *offered == ticket;
        if *why == Refusal::Busy
            && let Some((_, command)) = self.offered.take_if(is_offered)
        {
            // It keeps its place in the queue. If its client or node had to retry, later requests would
            // overtake it.
            match own_seq(ticket) {
                Some(seq) => self.requests.put_back(seq),
                None => self.remote_proposals.put_back(ticket, command),
            }
        } else if let Some(seq) = own_seq(ticket) {
            self.requests.refused(seq, why);
        } else if let Some((session, seq)) = self.remote_proposals.end_offer(ticket) {
            self.outgoing.refuse(session.node, seq, why);
        }
    }

    /// Forwards queued requests within the window, and refuses remote proposals, because this node does
    /// not lead. Returns the number of forwarded requests.
    pub(crate) fn forward_queued(&mut self, now: Instant) -> u64 {
        // Remote proposals are never forwarded: two nodes that each believe that the other one leads
        // would forward them in a loop.
        for (session, seq) in self.remote_proposals.drain_waiting() {
            let why = Refusal::NotLeader { hint: self.leader };
            self.outgoing.refuse(session.node, seq, &why);
        }
        let Some(leader) = self.leader else { return 0 };
        let mut count = 0;
        while let Some(command) = self.requests.next_forward(now) {
            self.outgoing.forward(leader, &command);
            count += 1;
        }
        count
    }

    /// Queues the requests that `from` forwarded.
    pub(crate) fn on_forward(&mut self, from: NodeId, requests: &Values) {
        for index in 0..requests.len() {
            if let Some(command) = requests.command(index) {
                self.queue_remote_proposal(from, command);
            }
        }
    }

    /// Queues a request that `from` forwarded, unless a copy of it is in the queue or in the log.
    /// Acknowledges it if this node leads.
    fn queue_remote_proposal(&mut self, from: NodeId, command: &[u8]) {
        // A node may forward only requests of its own clients.
        let request = Request::decode(command).filter(|request| request.session.node == from);
        let Some(request) = request else { return };
        let id = (request.session, request.seq);
        self.remote_proposals.settle(request.session, request.settled);
        // Only a leader's copy counts: a follower's log may be truncated.
        if self.remote_proposals.contains(&id) || self.leads() && self.log.holds(&id) {
            return self.acknowledge(from, request.seq);
        }
        let waiting = self.remote_proposals.waiting_bytes();
        if waiting + command.len() > self.remote_proposal_bytes {
            return self.outgoing.refuse(from, request.seq, &Refusal::Busy);
        }
        let is_barrier = request.body == RequestKind::Barrier;
        self.remote_proposals.push(id, Bytes::copy_from_slice(command), is_barrier);
        self.acknowledge(from, request.seq);
    }

    fn acknowledge(&mut self, node: NodeId, seq: RequestSeq) {
        // The sender does not retry an acknowledged request, so only a leader acknowledges. Other nodes
        // refuse the request in the next round.
        if self.leads() {
            self.outgoing.acknowledge(node, seq);
        }
    }

    /// Removes and returns the payloads for other nodes.
    pub(crate) fn drain_outgoing(&mut self) -> Vec<(NodeId, Outgoing)> {
        self.outgoing.drain()
    }
}
