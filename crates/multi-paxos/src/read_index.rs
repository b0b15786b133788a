//! Linearizable reads that bypass the log: Raft's ReadIndex (Raft §8), with ballots for terms.
//!
//! A leader fixes the read index when a read arrives. The read is ready once a quorum has confirmed, in a
//! round that began later, that it has promised no higher ballot. A follower sends the leader one request
//! for all of its reads since the last flush, and serves them from its own state.
//!
//! The acceptors of a round are a quorum of phase 2, so one of them is in each quorum of phase 1. It had
//! not promised a higher ballot when it replied, so no successor had completed phase 1 when the round
//! began. Until then only values of this leader, or values that its own phase 1 found, were chosen.

use crate::MultiPaxos;
use crate::core::{Context, Fx, Role, ignore};
use crate::leader::Leader;
use crate::message::{Message, Nack, ReadReply, ReadRequest, ReadRound, ReadRoundAck};
use core::cmp::max;
use synod_consensus::{IgnoreReason, Refusal, RelayAction};
use synod_types::{NodeId, ReadId};

impl MultiPaxos {
    /// Handles a read of this node's driver.
    pub(crate) fn on_read(&mut self, id: ReadId, fx: &mut Fx<'_>) {
        let (me, has_leader) = (self.config.id(), self.election.leader().is_some());
        match self.parts() {
            (Role::Leader(leader), ctx) => leader.on_read(&ctx, me, id, fx),
            (Role::Follower, _) if has_leader => {
                if !self.reads.add(id) {
                    fx.refuse_read(id, Refusal::Busy);
                }
            }
            (Role::Follower | Role::Candidate(_), _) => {
                fx.refuse_read(id, Refusal::NotLeader { hint: None });
            }
        }
    }

    /// Begins a round for the reads that wait at a leader, or sends a request to the followed leader.
    /// Reads that have lost their leader are refused; the driver retries them.
    pub(crate) fn flush_reads(&mut self, fx: &mut Fx<'_>) {
        if let (Role::Leader(leader), ctx) = self.parts() {
            leader.begin_round(&ctx, fx);
        }
        let followed = if self.is_proposer() { None } else { self.election.leader() };
        match (self.reads.flush(followed), followed) {
            (RelayAction::Request(id), Some(ballot)) => {
                fx.send(ballot.node, Message::ReadRequest(ReadRequest { ballot, id }));
            }
            (RelayAction::Refuse(ids), _) => {
                let why = Refusal::NotLeader { hint: None };
                ids.into_iter().for_each(|id| fx.refuse_read(id, why.clone()));
            }
            (RelayAction::None | RelayAction::Request(_), _) => {}
        }
    }

    /// Handles a leader's request to confirm its ballot.
    pub(crate) fn on_read_round(&self, from: NodeId, request: ReadRound, fx: &mut Fx<'_>) {
        let ReadRound { ballot, round } = request;
        let promised = self.acceptor.promised();
        // A lower promise is no obstacle (the leader's Accepts may be late): the round must only show that
        // no higher ballot has completed phase 1.
        let reply = if ballot < promised {
            Message::Nack(Nack { ballot, promised })
        } else {
            Message::ReadRoundAck(ReadRoundAck { ballot, round })
        };
        fx.send(from, reply);
    }

    /// Handles the read index that a leader has fixed for this node's reads. The reply may be another
    /// leader's, see [`ReadRelay::on_reply`](synod_consensus::ReadRelay::on_reply).
    pub(crate) fn on_read_reply(&mut self, reply: ReadReply, fx: &mut Fx<'_>) {
        self.reads.on_reply(reply.id).for_each(|id| fx.read_ready(id, reply.index));
    }
}

impl Leader {
    /// Adds a read of this node or of a follower, which a round that begins later confirms.
    pub(crate) fn on_read(&mut self, ctx: &Context<'_>, from: NodeId, id: ReadId, fx: &mut Fx<'_>) {
        // This leader is the first to know the slots that its ballot has chosen. Values that lower ballots
        // may have chosen were found in phase 1 and are before the barrier (PMS 3).
        let index = max(ctx.learner.commit(), self.barrier);
        if !self.reads.add(from, id, index) && from == ctx.config.id() {
            fx.refuse_read(id, Refusal::Busy);
        }
    }

    /// Begins one round for all waiting reads.
    fn begin_round(&mut self, ctx: &Context<'_>, fx: &mut Fx<'_>) {
        if let Some(round) = self.reads.begin() {
            self.send_round(ctx, round, fx);
            // The leader itself may be a quorum of phase 2.
            self.confirm_reads(ctx, fx);
        }
    }

    /// Retransmits the round in flight, if there is one.
    pub(crate) fn repeat_round(&mut self, ctx: &Context<'_>, fx: &mut Fx<'_>) {
        let round = self.reads.open_round();
        if round > 0 {
            self.send_round(ctx, round, fx);
        }
    }

    fn send_round(&self, ctx: &Context<'_>, round: u64, fx: &mut Fx<'_>) {
        let (me, ballot) = (ctx.config.id(), self.ballot());
        for voter in ctx.members.voters().iter().copied().filter(|voter| *voter != me) {
            fx.send(voter, Message::ReadRound(ReadRound { ballot, round }));
        }
    }

    /// Counts the confirmation of a round.
    pub(crate) fn on_read_round_ack(
        &mut self,
        ctx: &Context<'_>,
        from: NodeId,
        ack: ReadRoundAck,
        fx: &mut Fx<'_>,
    ) {
        let ReadRoundAck { ballot, round } = ack;
        if ballot != self.ballot() {
            // A round of an earlier ballot began before this node led.
            return ignore(from, IgnoreReason::OtherBallot, fx);
        }
        if !self.reads.on_ack(from, round) {
            return ignore(from, IgnoreReason::NeverSent, fx);
        }
        self.confirm_reads(ctx, fx);
    }

    fn confirm_reads(&mut self, ctx: &Context<'_>, fx: &mut Fx<'_>) {
        let (me, ballot) = (ctx.config.id(), self.ballot());
        for read in self.reads.confirm(me, ctx.config.quorum()) {
            if read.reader == me {
                fx.read_ready(read.id, read.index);
            } else {
                let reply = ReadReply { ballot, id: read.id, index: read.index };
                fx.send(read.reader, Message::ReadReply(reply));
            }
        }
    }

    /// Refuses this node's reads, because it has stepped down.
    pub(crate) fn refuse_reads(&mut self, hint: Option<NodeId>, fx: &mut Fx<'_>) {
        // Followers send their reads to the next leader, or refuse them.
        let me = self.ballot().node;
        for read in self.reads.drain().filter(|read| read.reader == me) {
            fx.refuse_read(read.id, Refusal::NotLeader { hint });
        }
    }
}
