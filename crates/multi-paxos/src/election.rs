//! Who should lead: heartbeats in rounds, and what they tell (after Ng, Haridi and Carbone,
//! "Omni-Paxos: Breaking the Barriers of Partial Connectivity").

use crate::Config;
use crate::message::{Stance, View};
use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;
use synod_consensus::Quorum;
use synod_types::{Ballot, Instant, NodeId, Slot};

/// How many rounds are remembered for measuring how long an answer takes.
const ROUNDS: usize = 64;

/// What a node knows of the others' sight of the cluster. Nothing here is ever a matter of
/// safety: ballots see to that.
///
/// ```
/// use synod_multi_paxos::consensus::HistoryDigest;
/// use synod_multi_paxos::types::{Ballot, Instant, Membership, NodeId, Slot};
/// use synod_multi_paxos::{Config, Election, Prospect, Stance, View};
///
/// let now = Instant::ZERO;
/// let config = Config::new(NodeId(1), Membership::new((1..=3).map(NodeId), [])?)?;
/// let (ballot, commit) = (Ballot::ZERO, Slot::ZERO);
/// let idle = View {
///     ballot, leader: None, stance: Stance::Follows, quorum: false, happy: false, priority: 0,
///     commit, digest: HistoryDigest::UNKNOWN,
/// };
/// let prospect = |answer: View| {
///     let mut election = Election::default();
///     election.begin_canvass(now);
///     let round = election.begin_round(now);
///     election.answered(now, NodeId(2), round, answer);
///     election.prospect(now, &config, Slot::ZERO)
/// };
/// assert_eq!(prospect(idle), Prospect::Campaign, "two of three, and nobody is served");
/// assert_eq!(prospect(View { happy: true, ..idle }), Prospect::None, "n2 hears from a leader");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Election {
    /// The ballot of the leader that is followed.
    leader: Option<Ballot>,
    /// When it was heard from last, with its quorum.
    heard: Instant,
    round: u64,
    /// When the latest rounds began, the newest last.
    sent: VecDeque<Instant>,
    peers: BTreeMap<NodeId, Peer>,
    /// In which round and when the node began to look whether it should lead.
    canvass: Option<(u64, Instant)>,
    /// It let another one of higher priority go first, and will not again.
    has_deferred: bool,
    /// The highest round of any ballot that was named in a refusal.
    floor: u64,
}

/// The last answer of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Peer {
    round: u64,
    at: Instant,
    view: View,
    /// How long an answer took, the longest of late.
    delay: Duration,
}

/// What a canvass comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// Too few answer, or somebody is served by a leader.
    None,
    /// Another one should go first.
    Defer,
    /// Go ahead.
    Campaign,
}

impl Election {
    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<Ballot> {
        self.leader
    }

    /// Whether the leader was heard from within `patience`, with its quorum.
    #[must_use]
    pub fn is_happy(&self, now: Instant, patience: Duration) -> bool {
        self.leader.is_some() && now.since(self.heard) < patience
    }

    /// Follows a leader; one that does not see its quorum is known, and is no reason to wait.
    /// Whether it is another one than before.
    pub fn follow(&mut self, now: Instant, ballot: Ballot, has_quorum: bool) -> bool {
        if has_quorum {
            self.heard = now;
            self.canvass = None;
            self.has_deferred = false;
        }
        self.leader.replace(ballot) != Some(ballot)
    }

    /// Nobody is followed any more.
    pub fn unfollow(&mut self) {
        self.leader = None;
    }

    /// A refusal named this ballot: the next one must be higher.
    pub fn raise_floor(&mut self, ballot: Ballot) {
        self.floor = self.floor.max(ballot.round);
    }

    /// The highest round that a refusal named.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Begins a round.
    pub fn begin_round(&mut self, now: Instant) -> u64 {
        self.round += 1;
        self.sent.push_back(now);
        if self.sent.len() > ROUNDS {
            self.sent.pop_front();
        }
        self.round
    }

    /// Time since the last round began.
    #[must_use]
    pub fn since_round(&self, now: Instant) -> Duration {
        self.sent.back().map_or(Duration::ZERO, |sent| now.since(*sent))
    }

    /// Takes an answer; one to an older round than the last, or to none, says nothing any more.
    pub fn answered(&mut self, now: Instant, from: NodeId, round: u64, view: View) -> bool {
        let known = self.peers.get(&from);
        if round > self.round || known.is_some_and(|known| round <= known.round) {
            return false;
        }
        let back = usize::try_from(self.round - round).unwrap_or(usize::MAX);
        let index = self.sent.len().checked_sub(back.saturating_add(1));
        let Some(sent) = index.and_then(|index| self.sent.get(index)) else { return false };
        let delay = now.since(*sent);
        // Forgets a long delay slowly.
        let delay = known.map_or(delay, |known| delay.max(known.delay - known.delay / 8));
        self.peers.insert(from, Peer { round, at: now, view, delay });
        true
    }

    /// How long an answer of a node takes.
    #[must_use]
    pub fn delay(&self, node: NodeId) -> Duration {
        self.peers.get(&node).map_or(Duration::ZERO, |peer| peer.delay)
    }

    /// Whether `node` answered within `patience`.
    #[must_use]
    pub fn hears(&self, now: Instant, node: NodeId, patience: Duration) -> bool {
        self.peers.get(&node).is_some_and(|peer| now.since(peer.at) <= patience)
    }

    /// Whether the node looks whether it should lead.
    #[must_use]
    pub fn is_canvassing(&self) -> bool {
        self.canvass.is_some()
    }

    /// Begins to look: only answers to rounds from now on count.
    pub fn begin_canvass(&mut self, now: Instant) {
        self.canvass = Some((self.round + 1, now));
    }

    /// Looks no more.
    pub fn end_canvass(&mut self) {
        self.canvass = None;
    }

    /// The node campaigns, and follows nobody.
    pub fn campaigned(&mut self) {
        self.canvass = None;
        self.has_deferred = false;
        self.leader = None;
    }

    /// Whether enough voters have answered the canvass of `me` to lead.
    #[must_use]
    pub fn reaches_quorum(&self, me: NodeId, quorum: &Quorum) -> bool {
        let Some((since, _)) = self.canvass else { return false };
        let has =
            |node| node == me || self.peers.get(&node).is_some_and(|peer| peer.round >= since);
        quorum.is_first(has) && quorum.is_second(has)
    }

    /// Returns whether this node, whose log ends with `last`, should campaign: it reaches enough voters, nobody who
    /// answers hears from a leader that has its quorum, and nobody who answers should go first. That
    /// is who has a higher priority, or knows more to be chosen than this node holds: it would have to
    /// pull that before it serves anyone. It gets the time of one election timeout, once. An
    /// answer of such a node is waited for, for one heartbeat.
    pub fn prospect(&mut self, now: Instant, config: &Config, last: Slot) -> Prospect {
        let Some((since, began)) = self.canvass else { return Prospect::None };
        if !self.reaches_quorum(config.id(), config.quorum()) {
            return Prospect::None;
        }
        let mut answers = self.peers.values().filter(|peer| peer.round >= since);
        let serves = |view: &View| view.happy || (view.stance == Stance::Campaigns && view.quorum);
        if answers.clone().any(|peer| serves(&peer.view)) {
            return Prospect::None;
        }
        let comes_first =
            |peer: &Peer| peer.view.priority > config.priority() || peer.view.commit > last;
        if !self.has_deferred {
            if answers.any(comes_first) {
                self.has_deferred = true;
                return Prospect::Defer;
            }
            let mut others = self.peers.values();
            if others.any(comes_first) && now.since(began) < config.timing().heartbeat {
                return Prospect::None;
            }
        }
        Prospect::Campaign
    }
}
