//! Phase 2: the distinguished proposer (PMS 3).

use crate::config::Limits;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cmp::max;
use core::mem;
use core::time::Duration;
use synod_consensus::{Quorum, Run, RunLog};
use synod_types::{Ballot, Instant, NodeId, Slot, Ticket, ValuesBuilder};

/// A proposer whose phase 1 is done for all slots: it goes on with phase 2, slot after slot, many
/// at a time.
///
/// It keeps count of what each acceptor has; what it proposes stands in the log of its own
/// [`Acceptor`](crate::Acceptor). The three roles by hand:
///
/// ```
/// use synod_multi_paxos::consensus::{Quorum, Run, RunLog};
/// use synod_multi_paxos::types::{Ballot, Instant, Membership, NodeId, Slot};
/// use synod_multi_paxos::{Acceptor, Candidate, HardState, Leader, Limits, Verdict};
///
/// let (now, me, peer, limits) = (Instant::ZERO, NodeId(1), NodeId(2), Limits::default());
/// let members = Membership::new((1..=3).map(NodeId), [])?;
/// let quorum = Quorum::majority(&members);
/// let empty = || Acceptor::new(HardState::default(), RunLog::default());
/// let (mut mine, mut theirs) = (empty(), empty());
///
/// // Phase 1, for all slots. A promise counts once it is durable.
/// let ballot = Ballot { round: 1, node: me };
/// let mut candidate = Candidate::new(now, ballot, Slot(1), mine.log());
/// assert!(mine.promise(ballot) && theirs.promise(ballot));
/// candidate.own_promise(me);
/// candidate.hear(peer, &theirs.report(Slot(1), Slot::ZERO, 1 << 20), Slot::ZERO);
/// assert!(candidate.is_complete(&quorum));
/// let found = candidate.outcome(Slot::ZERO, 1 << 20).expect("few holes");
///
/// // Phase 2: what was found, which is nothing, and the barrier behind it.
/// let span = (found.first, found.barrier());
/// let mut leader = Leader::new(now, ballot, span, members.others(me));
/// let values = found.batches[0].clone();
/// let run = Run { first: found.first, stamp: ballot, values };
/// assert!(matches!(mine.accept(&run, Slot::ZERO), Verdict::Accepted(_)));
/// leader.accepted(now, me, (run.first, run.last()), Slot::ZERO);
/// let sent = leader.next_accept(now, peer, mine.log(), &limits).expect("it lacks the barrier");
/// assert!(matches!(theirs.accept(&sent, Slot::ZERO), Verdict::Accepted(_)));
/// leader.accepted(now, peer, (sent.first, sent.last()), Slot::ZERO);
/// let commit = leader.agreed(&quorum);
/// assert!(leader.committed(commit, run.values.byte_len()), "now it serves");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    ballot: Ballot,
    /// The no-op behind everything that was found. Nothing is served before it is chosen: until
    /// then a value that nobody has seen yet may still come up from the past.
    barrier: Slot,
    is_serving: bool,
    /// What this node's own acceptor has durably accepted.
    durable: Slot,
    /// Its answer to itself was sent for everything up to here.
    pub(crate) claimed: Slot,
    /// By id, in order. A handful: looking through them beats any map.
    peers: Vec<(NodeId, Peer)>,
    /// Proposals since the last flush, and whose they are.
    pub(crate) offered: ValuesBuilder,
    pub(crate) tickets: Vec<Ticket>,
    /// The bytes of the log behind the commit index.
    pub(crate) window_bytes: usize,
}

/// What the leader knows of one acceptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    /// It has accepted everything up to here, from where this ballot began.
    pub matched: Slot,
    /// The next slot to send.
    pub next: Slot,
    /// The commit index that it was told last.
    pub told: Slot,
    /// What was sent and not answered: the last slot of each Accept, and its bytes.
    inflight: VecDeque<(Slot, usize)>,
    bytes: usize,
    /// Something was lost: one Accept at a time until an answer comes.
    careful: bool,
    /// When it answered last, or was sent something with nothing under way.
    since: Instant,
    /// It needs what was compacted away.
    pub lacks_snapshot: bool,
}

impl Peer {
    fn may_send(&self, limits: &Limits) -> bool {
        self.inflight.is_empty() || (!self.careful && self.bytes < limits.inflight_bytes)
    }

    fn sent(&mut self, now: Instant, run: &Run<Ballot>) {
        if self.inflight.is_empty() {
            self.since = now;
        }
        self.next = run.last().next();
        self.inflight.push_back((run.last(), run.values.byte_len()));
        self.bytes += run.values.byte_len();
    }

    fn accepted(&mut self, now: Instant, through: Slot) {
        if through <= self.matched {
            return;
        }
        self.matched = through;
        self.next = max(self.next, through.next());
        self.since = now;
        self.careful = false;
        self.lacks_snapshot = false;
        while let Some((_, bytes)) = self.inflight.pop_front_if(|(last, _)| *last <= through) {
            self.bytes -= bytes;
        }
    }

    fn start_over(&mut self, now: Instant) {
        self.next = self.matched.next();
        self.inflight.clear();
        self.bytes = 0;
        self.careful = true;
        self.since = now;
    }
}

impl Leader {
    /// Begins phase 2 for the slots from `first` on; `barrier` is the last that recovery proposes.
    /// `others` are all members but the owner of the ballot.
    #[must_use]
    pub fn new(
        now: Instant,
        ballot: Ballot,
        (first, barrier): (Slot, Slot),
        others: impl Iterator<Item = NodeId>,
    ) -> Self {
        let peer = |node| {
            let peer = Peer {
                matched: first.prev(),
                next: first,
                told: Slot::ZERO,
                inflight: VecDeque::new(),
                bytes: 0,
                careful: false,
                since: now,
                lacks_snapshot: false,
            };
            (node, peer)
        };
        let mut peers: Vec<_> = others.map(peer).collect();
        peers.sort_unstable_by_key(|(node, _)| *node);
        Self {
            ballot,
            barrier,
            is_serving: false,
            durable: first.prev(),
            claimed: first.prev(),
            peers,
            offered: ValuesBuilder::new(),
            tickets: Vec::new(),
            window_bytes: 0,
        }
    }

    /// The ballot of everything that it proposes.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Whether its barrier is chosen.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// Everything up to `commit` is chosen, `bytes` of values more than before. Whether the leader
    /// begins to serve with that.
    pub fn committed(&mut self, commit: Slot, bytes: usize) -> bool {
        self.window_bytes = self.window_bytes.saturating_sub(bytes);
        let begins = !self.is_serving && commit >= self.barrier;
        self.is_serving |= begins;
        begins
    }

    /// An acceptor has durably accepted these slots at the leader's ballot, all of them proposed
    /// before. `base` is where the leader's log begins: what lies below is chosen, whoever holds it.
    pub fn accepted(
        &mut self,
        now: Instant,
        from: NodeId,
        (first, through): (Slot, Slot),
        base: Slot,
    ) {
        match self.peers.iter_mut().find(|(node, _)| *node == from) {
            Some((_, peer)) if first <= max(peer.matched, base).next() => {
                peer.accepted(now, through);
            }
            Some(_) => {}
            None if from == self.ballot.node && first <= max(self.durable, base).next() => {
                self.durable = max(self.durable, through);
            }
            None => {}
        }
    }

    /// The last slot that a quorum has accepted, with all before it.
    #[must_use]
    pub fn agreed(&self, quorum: &Quorum) -> Slot {
        quorum.agreed(|node| self.matched(node))
    }

    fn matched(&self, node: NodeId) -> Slot {
        if node == self.ballot.node {
            return self.durable;
        }
        let peer = self.peers.iter().find(|(peer, _)| *peer == node);
        peer.map_or(Slot::ZERO, |(_, peer)| peer.matched)
    }

    /// What each member holds, this node included.
    #[must_use]
    pub fn progress(&self) -> Vec<(NodeId, Slot)> {
        let peers = self.peers.iter().map(|(node, peer)| (*node, peer.matched));
        let mut all: Vec<_> = peers.chain([(self.ballot.node, self.durable)]).collect();
        all.sort_unstable();
        all
    }

    /// The proposals that are not in the log yet.
    pub(crate) fn take_tickets(&mut self) -> Vec<Ticket> {
        mem::take(&mut self.tickets)
    }

    /// The next Accept for `to`: what it lacks of `log`, the leader's own, if it has room for more.
    pub fn next_accept(
        &mut self,
        now: Instant,
        to: NodeId,
        log: &RunLog<Ballot>,
        limits: &Limits,
    ) -> Option<Run<Ballot>> {
        let (_, peer) = self.peers.iter_mut().find(|(node, _)| *node == to)?;
        Sender { now, log, limits, newest: None }.next(peer)
    }

    /// Whether `node` needs what the leader's log does not hold any more, and so a snapshot.
    #[must_use]
    pub fn lacks_snapshot(&self, node: NodeId) -> bool {
        self.peers.iter().any(|(peer, it)| *peer == node && it.lacks_snapshot)
    }

    pub(crate) fn peers_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Peer)> {
        self.peers.iter_mut().map(|(node, peer)| (*node, peer))
    }

    /// Goes back to the first unanswered slot where an answer is overdue: `patience` says after
    /// how long for each acceptor. The very same values go out again, under the same ballot.
    pub fn retry(&mut self, now: Instant, patience: impl Fn(NodeId) -> Duration) {
        for (node, peer) in &mut self.peers {
            if peer.matched.next() < peer.next && now.since(peer.since) >= patience(*node) {
                peer.start_over(now);
            }
        }
    }
}

/// What goes to one acceptor at a flush.
pub(crate) struct Sender<'a> {
    pub now: Instant,
    pub log: &'a RunLog<Ballot>,
    pub limits: &'a Limits,
    /// The end of the log, if one Accept can carry it.
    pub newest: Option<&'a Run<Ballot>>,
}

impl Sender<'_> {
    /// The next run that `peer` lacks and has room for.
    pub fn next(&self, peer: &mut Peer) -> Option<Run<Ballot>> {
        if peer.next > self.log.last() || !peer.may_send(self.limits) {
            return None;
        }
        if peer.next <= self.log.base() {
            peer.lacks_snapshot = true;
            peer.next = self.log.base().next();
        }
        let run = match self.newest {
            Some(newest) if newest.first == peer.next => newest.clone(),
            _ => self.log.chunk(peer.next, self.log.last(), self.limits.accept_bytes)?,
        };
        peer.sent(self.now, &run);
        Some(run)
    }
}
