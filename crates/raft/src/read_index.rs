//! Linearizable reads that are not written to the log (Raft §8, thesis §6.4).
//!
//! When a read arrives, a leader records the slot from which it may be served. It replies once a round
//! of heartbeats has confirmed that it still leads. A follower sends the leader one request for all
//! reads since its last flush, and serves them from its own state. [`ReadRounds`] explains why this is
//! linearizable.
//!
//! [`ReadRounds`]: synod_consensus::ReadRounds

use crate::core::{Fx, ignore};
use crate::leader::Leader;
use crate::role::Role;
use crate::state::State;
use crate::{HeartbeatAck, Message, Raft, ReadReply, ReadRequest};
use core::cmp::max;
use synod_consensus::{IgnoreReason, Refusal, RelayAction};
use synod_types::{Instant, NodeId, ReadId};

impl Raft {
    /// Handles a read of this node's driver.
    pub(crate) fn on_read(&mut self, id: ReadId, fx: &mut Fx<'_>) {
        let has_room = match &mut self.role {
            Role::Leader(leader) => {
                let me = self.state.config.id();
                return leader.on_read(&self.state, me, id, fx);
            }
            // The request leaves with the flush, so that one serves many reads.
            Role::Follower(Some(_)) => self.reads.add(id),
            Role::Follower(None) | Role::PreCandidate(_) | Role::Candidate(_) => {
                return fx.refuse_read(id, Refusal::NotLeader { hint: None });
            }
        };
        if !has_room {
            fx.refuse_read(id, Refusal::Busy);
        }
    }

    /// Begins a round for a leader's pending reads, or sends a request for a follower's to its leader.
    /// Without a leader it refuses them: the driver retries once there is one.
    pub(crate) fn flush_reads(&mut self, now: Instant, fx: &mut Fx<'_>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.begin_round(&self.state, now, fx);
        }
        let followed = match &self.role {
            Role::Follower(leader) => leader.as_ref().map(|leader| leader.node),
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => None,
        };
        match self.reads.flush(followed.map(|node| self.state.ballot_of(node))) {
            RelayAction::None => {}
            RelayAction::Request(id) => {
                let request = ReadRequest { term: self.state.hard_state.term, id };
                followed.into_iter().for_each(|to| fx.send(to, Message::ReadRequest(request)));
            }
            RelayAction::Refuse(ids) => {
                let hint = self.leader_id();
                ids.into_iter().for_each(|id| fx.refuse_read(id, Refusal::NotLeader { hint }));
            }
        }
    }

    /// Handles a leader's reply to a request for reads. Any leader's reply is valid, not only that of the
    /// one that received the latest request, see [`ReadRelay::on_reply`](synod_consensus::ReadRelay::on_reply).
    pub(crate) fn on_read_reply(&mut self, reply: ReadReply, fx: &mut Fx<'_>) {
        self.reads.on_reply(reply.id).for_each(|id| fx.read_ready(id, reply.index));
    }
}

impl Leader {
    /// Adds a read of this node or of a follower. A round that begins after its arrival confirms it.
    pub fn on_read(&mut self, state: &State, from: NodeId, id: ReadId, fx: &mut Fx<'_>) {
        // Writes that were acknowledged in this term are committed. Those of earlier terms are in the log
        // before the no-op, but perhaps not known to be committed (§5.4.2). Therefore no read is served
        // before the no-op is applied (§8).
        let index = max(state.commit, self.term_start);
        // A follower whose read is not added gets no reply, and its driver retries.
        if !self.reads.add(from, id, index) && from == state.config.id() {
            fx.refuse_read(id, Refusal::Busy);
        }
    }

    /// Begins one round for all pending reads that are in none.
    fn begin_round(&mut self, state: &State, now: Instant, fx: &mut Fx<'_>) {
        if let Some(round) = self.reads.begin() {
            self.send_round(state, now, round, fx);
            // A single voter is a quorum, and gets no reply that could confirm its round.
            self.confirm_reads(state, fx);
        }
    }

    /// Counts a reply to a round. It is of this term: `on_message` drops those of earlier terms, and steps
    /// down for those of later ones.
    pub fn on_read_ack(&mut self, state: &State, from: NodeId, ack: HeartbeatAck, fx: &mut Fx<'_>) {
        debug_assert_eq!(ack.term, state.hard_state.term);
        if !self.reads.on_ack(from, ack.round) {
            return ignore(from, IgnoreReason::NeverSent, fx);
        }
        self.confirm_reads(state, fx);
    }

    fn confirm_reads(&mut self, state: &State, fx: &mut Fx<'_>) {
        let (me, term) = (state.config.id(), state.hard_state.term);
        // A quorum was still in this term after the reads had arrived, so no later leader had been elected
        // and acknowledged a write before that (thesis §6.4).
        for read in self.reads.confirm(me, &state.quorum) {
            if read.reader == me {
                fx.read_ready(read.id, read.index);
            } else {
                let reply = ReadReply { term, id: read.id, index: read.index };
                fx.send(read.reader, Message::ReadReply(reply));
            }
        }
    }

    /// Refuses this node's reads, because it no longer leads. Followers send theirs to the next leader.
    pub fn refuse_reads(&mut self, me: NodeId, hint: Option<NodeId>, fx: &mut Fx<'_>) {
        for read in self.reads.drain().filter(|read| read.reader == me) {
            fx.refuse_read(read.id, Refusal::NotLeader { hint });
        }
    }
}
