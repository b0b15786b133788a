//! Phase 2: the distinguished proposer (PMS 3).

use crate::candidate::Outcome;
use crate::config::Limits;
use alloc::vec::Vec;
use core::cmp::{max, min};
use core::mem;
use core::time::Duration;
use synod_consensus::{Quorum, Run, RunLog, SendWindow, WindowLimits};
use synod_types::{Ballot, Instant, NodeId, Slot, Ticket, ValuesBuilder};

/// Unanswered Accepts to one acceptor.
const MAX_BATCHES: usize = 4096;

/// Queueing that an acceptor's answers may show on top of the round trip before fewer bytes are
/// kept in flight.
const TARGET_DELAY: Duration = Duration::from_millis(50);

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
/// candidate.hear(peer, &theirs.report(Slot(1), &[], Slot::ZERO, 1 << 20), Slot::ZERO);
/// assert!(candidate.is_complete(&quorum, Slot::ZERO));
/// let mut found = candidate.outcome(Slot::ZERO).expect("few holes");
///
/// // Phase 2: what was found, which is nothing, and the barrier behind it.
/// let (first, barrier) = (found.first(), found.barrier());
/// let mut leader = Leader::new(ballot, first, barrier, &limits, members.others(me));
/// let run = found.next_batch(ballot, 1 << 20).expect("the barrier");
/// assert!(matches!(mine.accept(&run, Slot::ZERO), Verdict::Accepted(_)));
/// leader.accepted(now, me, run.first, run.last(), Slot::ZERO);
/// let sent = leader.next_accept(now, peer, mine.log(), &limits).expect("it lacks the barrier");
/// assert!(matches!(theirs.accept(&sent, Slot::ZERO), Verdict::Accepted(_)));
/// leader.accepted(now, peer, sent.first, sent.last(), Slot::ZERO);
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
    /// What phase 1 has found and is still to be proposed.
    pub(crate) recovery: Option<Outcome>,
    /// Everything from where this ballot began through here is proposed. What the own log holds
    /// beyond was accepted at older ballots.
    pub(crate) proposed: Slot,
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
    /// What was sent and not answered.
    window: SendWindow,
    probes: Probes,
    /// It needs what was compacted away.
    pub lacks_snapshot: bool,
}

/// Questions what became of Accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Probes {
    /// Numbers of the first and the last question since the last Accept was sent.
    first: u64,
    last: u64,
    /// The first slot that was not sent before them; zero once they are answered.
    sent: Slot,
}

impl Peer {
    fn probe(&mut self, now: Instant) -> u64 {
        self.window.probed(now);
        self.probes.last += 1;
        if self.probes.sent != self.next {
            self.probes.first = self.probes.last;
            self.probes.sent = self.next;
        }
        self.probes.last
    }

    fn accepted(&mut self, now: Instant, through: Slot) {
        if through <= self.matched {
            return;
        }
        self.matched = through;
        self.next = max(self.next, through.next());
        self.lacks_snapshot = false;
        self.window.acked(now, through);
    }

    /// The answer to a probe: what was sent before the probe and is not accepted was lost. Nothing
    /// else has this node send a slot again, however long an answer takes: it may be queued still.
    fn probe_answered(&mut self, now: Instant, number: u64) {
        let Probes { first, last, sent } = self.probes;
        if !(first..=last).contains(&number) || sent == Slot::ZERO {
            return;
        }
        self.probes.sent = Slot::ZERO;
        if self.matched.next() < sent {
            self.window.lost(now);
            self.next = self.matched.next();
        }
    }
}

impl Leader {
    /// Begins phase 2 for the slots from `first` on; `barrier` is the last that recovery proposes.
    /// `others` are all members but the owner of the ballot.
    #[must_use]
    pub fn new(
        ballot: Ballot,
        first: Slot,
        barrier: Slot,
        limits: &Limits,
        others: impl Iterator<Item = NodeId>,
    ) -> Self {
        let limits = WindowLimits {
            batches: MAX_BATCHES,
            bytes: limits.inflight_bytes,
            target_delay: TARGET_DELAY,
        };
        let peer = |node| {
            let peer = Peer {
                matched: first.prev(),
                next: first,
                told: Slot::ZERO,
                window: SendWindow::new(limits),
                probes: Probes::default(),
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
            recovery: None,
            proposed: first.prev(),
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
    pub fn accepted(&mut self, now: Instant, from: NodeId, first: Slot, through: Slot, base: Slot) {
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
    /// All of the log from the leader's first slot on must be proposed by it.
    pub fn next_accept(
        &mut self,
        now: Instant,
        to: NodeId,
        log: &RunLog<Ballot>,
        limits: &Limits,
    ) -> Option<Run<Ballot>> {
        let (_, peer) = self.peers.iter_mut().find(|(node, _)| *node == to)?;
        Sender { now, log, limits, last: log.last(), newest: None }.next(peer)
    }

    /// Whether `node` needs what the leader's log does not hold any more, and so a snapshot.
    #[must_use]
    pub fn lacks_snapshot(&self, node: NodeId) -> bool {
        self.peers.iter().any(|(peer, it)| *peer == node && it.lacks_snapshot)
    }

    pub(crate) fn peers_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Peer)> {
        self.peers.iter_mut().map(|(node, peer)| (*node, peer))
    }

    /// Returns whom to send a probe, and its number: acceptors whose answers are overdue, by what
    /// their answers take and with back-off.
    pub fn overdue_probes(&mut self, now: Instant) -> Vec<(NodeId, u64)> {
        let overdue = self.peers.iter_mut().filter(|(_, peer)| peer.window.is_overdue(now));
        overdue.map(|(node, peer)| (*node, peer.probe(now))).collect()
    }

    /// Records that an acceptor answers heartbeats again after a silence: a probe need not wait.
    pub(crate) fn peer_returned(&mut self, from: NodeId) {
        if let Some((_, peer)) = self.peers.iter_mut().find(|(node, _)| *node == from) {
            peer.window.peer_returned();
        }
    }

    /// Takes the number in an answer. The very values that were lost go out again, under the same
    /// ballot.
    pub fn probe_answered(&mut self, now: Instant, from: NodeId, number: u64) {
        if let Some((_, peer)) = self.peers.iter_mut().find(|(node, _)| *node == from) {
            peer.probe_answered(now, number);
        }
    }
}

/// What goes to one acceptor at a flush.
pub(crate) struct Sender<'a> {
    pub now: Instant,
    pub log: &'a RunLog<Ballot>,
    pub limits: &'a Limits,
    /// The last slot that is proposed.
    pub last: Slot,
    /// The end of what is proposed, as one run.
    pub newest: Option<&'a Run<Ballot>>,
}

impl Sender<'_> {
    /// The next run that `peer` lacks and has room for.
    pub fn next(&self, peer: &mut Peer) -> Option<Run<Ballot>> {
        if peer.next > self.last || !peer.window.has_room() {
            return None;
        }
        if peer.next <= self.log.base() {
            peer.lacks_snapshot = true;
            peer.next = self.log.base().next();
        }
        let most = min(self.limits.accept_bytes, peer.window.batch_bytes());
        let run = match self.newest {
            Some(newest) if newest.first == peer.next && newest.values.byte_len() <= most => {
                newest.clone()
            }
            _ => self.log.chunk(peer.next, self.last, most)?,
        };
        peer.next = run.last().next();
        peer.window.sent(self.now, run.last(), SendWindow::frame_bytes(&run.values));
        Some(run)
    }
}
