//! What a leader does: proposing, replicating, counting (Raft §5.3, §5.4.2).

use crate::config::Limits;
use crate::follower::last_not_after;
use crate::message::Position;
use crate::progress::{Progress, Verdict};
use crate::role::Role;
use crate::{Fx, Message, Raft, Timer};
use alloc::vec::Vec;
use core::cmp::{max, min};
use core::mem;
use core::time::Duration;
use synod_consensus::{
    HistoryDigest, IgnoreReason, ProtocolEvent, Refusal, Run, RunLog, StepDownReason, Write,
};
use synod_types::{Instant, NodeId, Slot, Term, Ticket, Values, ValuesBuilder};

/// What only the leader of a term keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    /// The slot of the no-op that opened the term: from here on the log is our own.
    first: Slot,
    /// Our own log is durable up to here.
    durable: Slot,
    /// Our own log was written up to here, and the acknowledgement to ourselves is under way.
    claimed: Slot,
    /// By id, in order. A handful: looking through them beats any map.
    peers: Vec<(NodeId, Progress)>,
    /// Proposals since the last flush, and whose they are.
    offered: ValuesBuilder,
    tickets: Vec<Ticket>,
    /// The bytes of the log behind the commit index.
    uncommitted: usize,
    /// Room for counting; empty between the counts.
    held: Vec<Slot>,
}

impl Leader {
    /// The proposals that are not in the log yet.
    pub fn take_tickets(&mut self) -> Vec<Ticket> {
        mem::take(&mut self.tickets)
    }

    /// What leaves the uncommitted part of the log leaves the count, no matter how it came in.
    pub fn committed(&mut self, bytes: usize) {
        self.uncommitted -= bytes;
    }

    /// Counts the uncommitted bytes anew.
    pub fn set_uncommitted(&mut self, bytes: usize) {
        self.uncommitted = bytes;
    }

    /// What each member holds, this node `me` included.
    pub fn matches(&self, me: NodeId) -> Vec<(NodeId, Slot)> {
        let peers = self.peers.iter().map(|(peer, progress)| (*peer, progress.matched));
        let mut all: Vec<_> = peers.chain([(me, self.durable)]).collect();
        all.sort_unstable();
        all
    }

    fn peer(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }

    /// The last slot that a majority of the voters, this node among them, holds durably.
    fn agreed(&mut self) -> Slot {
        self.held.push(self.durable);
        let voters = self.peers.iter().filter(|(_, peer)| peer.voter);
        self.held.extend(voters.map(|(_, peer)| peer.matched));
        let agreed = majority_of(&mut self.held);
        self.held.clear();
        agreed
    }

    /// Whether a majority of the voters, this node among them, was heard from of late.
    fn hears_majority(&self, now: Instant, patience: Duration) -> bool {
        let voters = self.peers.iter().filter(|(_, peer)| peer.voter);
        let heard = voters.clone().filter(|(_, peer)| peer.is_heard(now, patience));
        let (all, heard) = (1 + voters.count(), 1 + heard.count());
        2 * heard > all
    }
}

/// The highest slot that a majority of `held` reach; sorts on the way. Half of the nodes may hold
/// less: of four, the second lowest is what three reach; of five, the third.
fn majority_of(held: &mut [Slot]) -> Slot {
    held.sort_unstable();
    held[(held.len() - 1) / 2]
}

impl Raft {
    /// A majority gave its votes. A no-op of the new term goes out at once: it is what lets
    /// older entries commit (Raft §5.4.2, §8), and its append tells everyone who leads.
    pub(crate) fn lead_term(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let next = self.log.last().next();
        let others = self.members.others(self.config.id());
        let window = self.config.window();
        let progress = |peer| Progress::new(self.members.is_voter(peer), next, window, now);
        let mut peers: Vec<_> = others.map(|peer| (peer, progress(peer))).collect();
        peers.sort_unstable_by_key(|(peer, _)| *peer);
        self.role = Role::Leader(Leader {
            first: next,
            durable: Slot::ZERO,
            claimed: Slot::ZERO,
            peers,
            offered: ValuesBuilder::new(),
            tickets: Vec::new(),
            uncommitted: self.uncommitted_bytes(),
            held: Vec::new(),
        });
        fx.note(ProtocolEvent::Leading { ballot: self.own_ballot() });
        fx.cancel_timer(Timer::Election);
        self.arm_heartbeat(fx);
        self.extend_log(Values::noop(), fx);
    }

    /// Takes a command into the batch that the next flush makes.
    pub(crate) fn on_propose(&mut self, ticket: Ticket, command: &[u8], fx: &mut Fx<'_>) {
        let hint = self.leader_id();
        let Role::Leader(leader) = &mut self.role else {
            return fx.refuse(ticket, Refusal::NotLeader { hint });
        };
        let limits = self.config.limits();
        if command.len() > limits.command_bytes {
            let limit = limits.command_bytes as u64;
            return fx.refuse(ticket, Refusal::TooLarge { limit });
        }
        let offered = leader.offered.byte_len();
        let size = command.len() + 1;
        if leader.uncommitted + offered + size > limits.uncommitted_bytes {
            return fx.refuse(ticket, Refusal::Busy);
        }
        if offered > 0 && offered + size > limits.append_bytes {
            // A run that one append can carry whole is never cut or copied again.
            self.seal(fx);
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.offered.push_command(command);
            leader.tickets.push(ticket);
        }
    }

    /// Turns what was offered into one run, one write, at most one message a peer, and the
    /// acknowledgement to ourselves.
    pub(crate) fn flush_leader(&mut self, now: Instant, fx: &mut Fx<'_>) {
        self.seal(fx);
        let Role::Leader(leader) = &mut self.role else { return };
        let (term, last) = (self.hard_state.term, self.log.last());
        if leader.claimed < last {
            leader.claimed = last;
            fx.send(self.config.id(), Message::AppendAck { term, probe: 0, matched: last });
        }
        let limits = self.config.limits();
        // Most peers lack exactly this.
        let newest = self.log.runs().next_back();
        let view = View { now, term, commit: self.commit, log: &self.log, limits, newest };
        for (peer, progress) in &mut leader.peers {
            view.replicate(*peer, progress, fx);
        }
    }

    /// A peer's log is durable and equal to ours up to `matched`; or our own is.
    pub(crate) fn on_append_ack(
        &mut self,
        now: Instant,
        from: NodeId,
        (probe, matched): (u64, Slot),
        fx: &mut Fx<'_>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        if matched > self.log.last() {
            return self.ignore(from, IgnoreReason::NeverSent, fx);
        }
        if let Some(progress) = leader.peer(from) {
            progress.hear(now, self.config.timing().heartbeat);
            progress.acked(now, (probe, matched), self.log.base());
        } else {
            leader.durable = leader.durable.max(matched);
        }
        if matched > self.commit {
            self.count(fx);
        }
    }

    /// A peer lacks what an append was to follow: go back, skipping what cannot be equal.
    pub(crate) fn on_append_conflict(
        &mut self,
        now: Instant,
        from: NodeId,
        (probe, at, hint): (u64, Slot, Position),
        fx: &mut Fx<'_>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peer(from) else { return };
        progress.hear(now, self.config.timing().heartbeat);
        match progress.judge(probe, at) {
            Verdict::Lost => self.ignore(from, IgnoreReason::StaleConflict, fx),
            Verdict::Stale => {}
            Verdict::Back => {
                let below = min(hint.slot, at.prev());
                let meeting = last_not_after(&self.log, below, hint.term);
                // Without a place to meet the peer needs what is compacted away.
                let next = meeting.map_or(self.log.base(), |entry| entry.slot.next());
                progress.back_to(now, next);
            }
        }
    }

    /// A peer is alive.
    pub(crate) fn on_heartbeat_ack(&mut self, now: Instant, from: NodeId) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.peer(from)
        {
            progress.hear(now, self.config.timing().heartbeat);
        }
    }

    /// Tells every peer that this node leads, and probes those that owe an acknowledgement.
    pub(crate) fn on_heartbeat_timeout(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let patience = self.config.timing().election.end;
        if self.config.check_quorum() && !leader.hears_majority(now, patience) {
            return self.step_down(None, StepDownReason::NoQuorum, fx);
        }
        let (term, limits) = (self.hard_state.term, self.config.limits());
        let view = View { now, term, commit: self.commit, log: &self.log, limits, newest: None };
        for (peer, progress) in &mut leader.peers {
            view.heartbeat(*peer, progress, fx);
            if progress.is_overdue(now) {
                view.probe(*peer, progress, fx);
            }
        }
        self.arm_heartbeat(fx);
    }

    /// The bytes of the log behind the commit index. O(runs).
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.log.runs_from(self.commit.next()).map(|run| run.values.byte_len()).sum()
    }

    /// Commits what a majority holds. Only entries of our own term commit by counting; older ones
    /// ride along (Raft §5.4.2, fig. 8): a majority may hold an older entry, and a later leader
    /// that does not hold it may still win and overwrite it.
    fn count(&mut self, fx: &mut Fx<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let agreed = leader.agreed();
        if agreed > self.commit && agreed >= leader.first {
            self.advance(agreed, fx);
        }
    }

    /// Puts what was offered into the log.
    fn seal(&mut self, fx: &mut Fx<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.tickets.is_empty() {
            return;
        }
        let values = leader.offered.finish();
        let first = self.log.last().next();
        for (index, ticket) in leader.tickets.drain(..).enumerate() {
            fx.placed(ticket, first.plus(index));
        }
        self.extend_log(values, fx);
    }

    fn extend_log(&mut self, values: Values, fx: &mut Fx<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.uncommitted += values.byte_len();
        let (first, stamp) = (self.log.last().next(), self.hard_state.term);
        let run = Run { first, stamp, values };
        fx.write(Write::Put(run.clone()));
        self.log.put(run);
    }

    fn arm_heartbeat(&self, fx: &mut Fx<'_>) {
        let interval = self.config.timing().heartbeat;
        fx.set_timer(Timer::Heartbeat, interval..interval);
    }
}

/// What a leader sends from.
struct View<'a> {
    now: Instant,
    term: Term,
    commit: Slot,
    log: &'a RunLog<Term>,
    limits: &'a Limits,
    /// The end of the log.
    newest: Option<&'a Run<Term>>,
}

impl View<'_> {
    /// Sends `peer` what it lacks and has room for; else the commit index, if that is news.
    fn replicate(&self, peer: NodeId, progress: &mut Progress, fx: &mut Fx<'_>) {
        let last = self.log.last();
        while progress.next <= last && progress.may_send() {
            let Some(prev) = self.position(progress.next.prev()) else {
                progress.await_snapshot();
                return fx.ship_snapshot(peer);
            };
            self.append(peer, progress, prev, fx);
        }
        if progress.told < self.commit && progress.is_replicating() {
            progress.told = self.commit;
            fx.send(peer, Message::Commit { term: self.term, commit: self.commit });
        }
    }

    fn append(&self, peer: NodeId, progress: &mut Progress, prev: Position, fx: &mut Fx<'_>) {
        let most = min(self.limits.append_bytes, progress.batch_bytes());
        let run = match self.newest {
            // It is whole, so it can be sent as it is.
            Some(newest) if newest.first == progress.next && newest.values.byte_len() <= most => {
                newest.clone()
            }
            _ => {
                let chunk = self.log.chunk(progress.next, self.log.last(), most);
                chunk.expect("the log has no gaps")
            }
        };
        progress.sent(self.now, &run, self.commit);
        self.send_append(peer, progress, prev, run, fx);
    }

    /// Tells `peer` that this node leads, and repeats the commit index as far as the peer is known
    /// to hold the log.
    fn heartbeat(&self, peer: NodeId, progress: &mut Progress, fx: &mut Fx<'_>) {
        // Every log holds slot 0, and what lies below our own base cannot be named.
        let prev = self.position(progress.matched).unwrap_or_default();
        let commit = min(self.commit, prev.slot);
        progress.told = max(progress.told, commit);
        fx.send(peer, Message::Heartbeat { term: self.term, prev, commit });
    }

    /// Asks `peer`, behind everything that was sent to it, whether it holds the end of that.
    fn probe(&self, peer: NodeId, progress: &mut Progress, fx: &mut Fx<'_>) {
        let asked = if progress.needs_snapshot() { self.log.base() } else { progress.next.prev() };
        let Some(prev) = self.position(asked) else {
            progress.await_snapshot();
            return fx.ship_snapshot(peer);
        };
        if progress.needs_snapshot() {
            fx.ship_snapshot(peer);
        }
        progress.probed(self.now, self.commit);
        let run = Run { first: prev.slot.next(), stamp: self.term, values: Values::default() };
        self.send_append(peer, progress, prev, run, fx);
    }

    fn send_append(
        &self,
        peer: NodeId,
        progress: &Progress,
        prev: Position,
        run: Run<Term>,
        fx: &mut Fx<'_>,
    ) {
        let (term, probe, commit) = (self.term, progress.probe, self.commit);
        let is_known = progress.matched > Slot::ZERO && !run.values.is_empty();
        let digest = match is_known {
            true => HistoryDigest::UNKNOWN,
            false => HistoryDigest::of(self.log, prev.slot),
        };
        fx.send(peer, Message::Append { term, probe, prev, run, commit, digest });
    }

    /// The entry at `slot`; `None` below the base.
    fn position(&self, slot: Slot) -> Option<Position> {
        self.log.stamp_at(slot).map(|term| Position { term, slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_majority_reaches_what_is_agreed_and_no_more(
            held in prop::collection::vec((0..9_u64).prop_map(Slot), 1..10),
        ) {
            let agreed = majority_of(&mut held.clone());
            let reach = |slot: Slot| held.iter().filter(|held| **held >= slot).count();
            let majority = held.len() / 2 + 1;
            prop_assert!(reach(agreed) >= majority, "a majority reaches it");
            prop_assert!(reach(agreed.next()) < majority, "and nothing higher");
        }
    }
}
