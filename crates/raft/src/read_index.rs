//! Linearizable reads that bypass the log (Raft §8, thesis §6.4).
//!
//! A leader notes from which slot a read may be served when the read arrives, and answers it once a
//! round of heartbeats has confirmed that it still leads. A follower asks the leader, once for all of
//! its reads since the last flush, and serves them from its own state. See [`ReadRounds`] for why
//! that is enough.
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
    /// Takes a read of this node's driver.
    pub(crate) fn on_read(&mut self, id: ReadId, fx: &mut Fx<'_>) {
        let has_room = match &mut self.role {
            Role::Leader(leader) => {
                let me = self.state.config.id();
                return leader.on_read(&self.state, me, id, fx);
            }
            Role::Follower(Some(_)) => self.reads.add(id),
            Role::Follower(None) | Role::PreCandidate(_) | Role::Candidate(_) => {
                return fx.refuse_read(id, Refusal::NotLeader { hint: None });
            }
        };
        if !has_room {
            fx.refuse_read(id, Refusal::Busy);
        }
    }

    /// Begins a round for the reads that wait at a leader, or asks the leader that this node follows.
    /// Reads that have lost their leader are refused: the driver reads again once there is one.
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
            RelayAction::Ask(id) => {
                let request = ReadRequest { term: self.state.hard_state.term, id };
                followed.into_iter().for_each(|to| fx.send(to, Message::ReadRequest(request)));
            }
            RelayAction::Refuse(ids) => {
                let hint = self.leader_id();
                ids.into_iter().for_each(|id| fx.refuse_read(id, Refusal::NotLeader { hint }));
            }
        }
    }

    /// Handles the slot that a leader has fixed for this node's reads. It is not compared with the
    /// leader that was asked, see [`ReadRelay::answered`](synod_consensus::ReadRelay::answered).
    pub(crate) fn on_read_reply(&mut self, reply: ReadReply, fx: &mut Fx<'_>) {
        self.reads.answered(reply.id).for_each(|id| fx.read_ready(id, reply.index));
    }
}

impl Leader {
    /// Takes a read of this node or of a follower, to be confirmed by a round that begins after it.
    pub fn on_read(&mut self, state: &State, from: NodeId, id: ReadId, fx: &mut Fx<'_>) {
        // What this term has acknowledged is committed. What earlier terms have is in the log before the
        // no-op, though perhaps not known to be committed (§5.4.2): therefore a leader serves no read
        // before its no-op is applied (§8).
        let index = max(state.commit, self.term_start);
        if !self.reads.add(from, id, index) && from == state.config.id() {
            fx.refuse_read(id, Refusal::Busy);
        }
    }

    /// Begins one round for all reads that wait for one.
    fn begin_round(&mut self, state: &State, now: Instant, fx: &mut Fx<'_>) {
        if let Some(round) = self.reads.begin() {
            self.send_round(state, now, round, fx);
            // A leader alone is a quorum of one.
            self.confirm_reads(state, fx);
        }
    }

    /// Counts the answer to a round. It is of this very term: one of an earlier term is dropped, and one
    /// of a later term has made this node step down.
    pub fn on_read_ack(&mut self, state: &State, from: NodeId, ack: HeartbeatAck, fx: &mut Fx<'_>) {
        debug_assert_eq!(ack.term, state.hard_state.term);
        if !self.reads.on_ack(from, ack.round) {
            return ignore(from, IgnoreReason::NeverSent, fx);
        }
        self.confirm_reads(state, fx);
    }

    fn confirm_reads(&mut self, state: &State, fx: &mut Fx<'_>) {
        let (me, term) = (state.config.id(), state.hard_state.term);
        for read in self.reads.confirm(me, &state.quorum) {
            if read.reader == me {
                fx.read_ready(read.id, read.index);
            } else {
                let reply = ReadReply { term, id: read.id, index: read.index };
                fx.send(read.reader, Message::ReadReply(reply));
            }
        }
    }

    /// Refuses this node's reads, because it leads no more. Followers ask the next leader.
    pub fn refuse_reads(&mut self, me: NodeId, hint: Option<NodeId>, fx: &mut Fx<'_>) {
        for read in self.reads.drain().filter(|read| read.reader == me) {
            fx.refuse_read(read.id, Refusal::NotLeader { hint });
        }
    }
}
