//! Elections: heartbeats in rounds, and the decision to campaign (after Ng, Haridi and Carbone,
//! "Omni-Paxos: Breaking the Barriers of Partial Connectivity").

use crate::Config;
use crate::message::{ElectionState, View};
use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;
use synod_consensus::Quorum;
use synod_types::{Ballot, Instant, NodeId, Slot};

/// Number of rounds whose start times are kept, to measure response times.
const MAX_ROUNDS: usize = 64;

/// Views of the other nodes, and the decision to campaign. Safety rests on ballots alone and does not
/// depend on elections.
///
/// ```
/// use synod_multi_paxos::consensus::HistoryDigest;
/// use synod_multi_paxos::types::{Ballot, Instant, Membership, NodeId, Slot};
/// use synod_multi_paxos::{Config, Election, PreCampaign, ElectionState, View};
///
/// let now = Instant::ZERO;
/// let config = Config::new(NodeId(1), Membership::new((1..=3).map(NodeId), [])?)?;
/// let (ballot, commit) = (Ballot::ZERO, Slot::ZERO);
/// let idle = View {
///     ballot, leader: None, state: ElectionState::Following, has_quorum: false, has_live_leader: false, priority: 0,
///     commit, digest: HistoryDigest::UNKNOWN,
/// };
/// let evaluate_pre_campaign = |reply: View| {
///     let mut election = Election::default();
///     election.begin_pre_campaign(now);
///     let round = election.begin_round(now);
///     election.on_reply(now, NodeId(2), round, reply);
///     election.evaluate_pre_campaign(now, &config, Slot::ZERO)
/// };
/// assert_eq!(evaluate_pre_campaign(idle), PreCampaign::Campaign, "two of three, and no leader");
/// let follows = View { has_live_leader: true, ..idle };
/// assert_eq!(evaluate_pre_campaign(follows), PreCampaign::Wait, "n2 has a live leader");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Election {
    /// Ballot of the leader that is followed.
    leader: Option<Ballot>,
    /// Time of the last message of that leader while it had its quorum.
    last_contact: Instant,
    round: u64,
    /// Start times of the latest rounds, the newest last.
    sent: VecDeque<Instant>,
    peers: BTreeMap<NodeId, Peer>,
    /// First round and start time of the pre-campaign.
    pre_campaign: Option<(u64, Instant)>,
    /// True if it has deferred to another node. It does so once.
    has_deferred: bool,
    /// Highest round of any ballot in a Nack.
    max_nack_round: u64,
}

/// Last reply of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Peer {
    round: u64,
    at: Instant,
    view: View,
    /// Recent maximum of its response time.
    delay: Duration,
}

/// Result of a pre-campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreCampaign {
    /// Too few voters have replied, or one of them has a live leader.
    Wait,
    /// Another node should campaign first.
    Defer,
    /// This node should campaign.
    Campaign,
}

impl Election {
    pub(crate) fn check_invariants(&self) {
        let rounds = usize::try_from(self.round).unwrap_or(usize::MAX);
        assert_eq!(self.sent.len(), rounds.min(MAX_ROUNDS), "the latest rounds are kept");
        assert!(self.sent.iter().is_sorted(), "time does not go back");
        assert!(self.peers.values().all(|peer| peer.round <= self.round), "reply to no round");
        assert!(self.pre_campaign.is_none_or(|(since, _)| since <= self.round + 1), "future round");
    }

    /// Returns the ballot of the followed leader.
    #[must_use]
    pub fn leader(&self) -> Option<Ballot> {
        self.leader
    }

    /// Returns whether the leader sent a message within `timeout` while it had its quorum.
    #[must_use]
    pub fn has_live_leader(&self, now: Instant, timeout: Duration) -> bool {
        self.leader.is_some() && now.since(self.last_contact) < timeout
    }

    /// Follows a leader. Returns whether it is another one than before.
    pub fn follow(&mut self, now: Instant, ballot: Ballot, has_quorum: bool) -> bool {
        // A leader without its quorum is followed but cannot commit: the election timeout runs on.
        if has_quorum {
            self.last_contact = now;
            self.pre_campaign = None;
            self.has_deferred = false;
        }
        self.leader.replace(ballot) != Some(ballot)
    }

    /// Stops following.
    pub fn clear_leader(&mut self) {
        self.leader = None;
    }

    /// Records the promised ballot of a Nack. The next own ballot must be higher.
    pub fn on_nack(&mut self, ballot: Ballot) {
        self.max_nack_round = self.max_nack_round.max(ballot.round);
    }

    /// Returns the highest round of any Nack.
    #[must_use]
    pub fn max_nack_round(&self) -> u64 {
        self.max_nack_round
    }

    /// Begins a round.
    pub fn begin_round(&mut self, now: Instant) -> u64 {
        self.round += 1;
        self.sent.push_back(now);
        if self.sent.len() > MAX_ROUNDS {
            self.sent.pop_front();
        }
        self.round
    }

    /// Returns the time since the last round began.
    #[must_use]
    pub fn since_last_round(&self, now: Instant) -> Duration {
        self.sent.back().map_or(Duration::ZERO, |sent| now.since(*sent))
    }

    /// Records a reply. Returns whether it counts: a reply to an older round than the peer's last one, or
    /// to no round, does not.
    pub fn on_reply(&mut self, now: Instant, from: NodeId, round: u64, view: View) -> bool {
        let previous = self.peers.get(&from);
        // Replies may be late, repeated or reordered; each round of a peer counts once.
        if round > self.round || previous.is_some_and(|previous| round <= previous.round) {
            return false;
        }
        // A reply to a round whose start time is dropped cannot be measured, and is ignored.
        let back = usize::try_from(self.round - round).unwrap_or(usize::MAX);
        let index = self.sent.len().checked_sub(back.saturating_add(1));
        let Some(sent) = index.and_then(|index| self.sent.get(index)) else { return false };
        let delay = now.since(*sent);
        // A maximum that decays by an eighth a reply: one fast reply must not hide a slow path.
        let delay =
            previous.map_or(delay, |previous| delay.max(previous.delay - previous.delay / 8));
        self.peers.insert(from, Peer { round, at: now, view, delay });
        true
    }

    /// Returns the response time of a node.
    #[must_use]
    pub fn delay(&self, node: NodeId) -> Duration {
        self.peers.get(&node).map_or(Duration::ZERO, |peer| peer.delay)
    }

    /// Returns whether `node` replied within `timeout`.
    #[must_use]
    pub fn answered_within(&self, now: Instant, node: NodeId, timeout: Duration) -> bool {
        self.peers.get(&node).is_some_and(|peer| now.since(peer.at) <= timeout)
    }

    /// Returns whether a pre-campaign is in progress.
    #[must_use]
    pub fn is_pre_campaigning(&self) -> bool {
        self.pre_campaign.is_some()
    }

    /// Begins a pre-campaign: only replies to rounds from now on count.
    pub fn begin_pre_campaign(&mut self, now: Instant) {
        self.pre_campaign = Some((self.round + 1, now));
    }

    /// Ends the pre-campaign.
    pub fn end_pre_campaign(&mut self) {
        self.pre_campaign = None;
    }

    /// Ends the pre-campaign and stops following, because the node campaigns.
    pub fn begin_campaign(&mut self) {
        self.pre_campaign = None;
        self.has_deferred = false;
        self.leader = None;
    }

    /// Returns whether enough voters have replied to the pre-campaign of `me` to lead.
    #[must_use]
    pub fn reaches_quorum(&self, me: NodeId, quorum: &Quorum) -> bool {
        let Some((since, _)) = self.pre_campaign else { return false };
        let has =
            |node| node == me || self.peers.get(&node).is_some_and(|peer| peer.round >= since);
        // A leader needs phase 1 once and phase 2 for each value.
        quorum.is_first(has) && quorum.is_second(has)
    }

    /// Decides whether this node, whose log ends with `last`, should campaign: it reaches enough voters,
    /// no node that replies has a live leader, and none should go first. A node goes first if it has a
    /// higher priority, or a commit index above `last`: this node would have to pull these slots before
    /// it serves. This node defers once, for one election timeout, and waits one heartbeat for the reply
    /// of such a node.
    pub fn evaluate_pre_campaign(
        &mut self,
        now: Instant,
        config: &Config,
        last: Slot,
    ) -> PreCampaign {
        let Some((since, began)) = self.pre_campaign else { return PreCampaign::Wait };
        if !self.reaches_quorum(config.id(), config.quorum()) {
            return PreCampaign::Wait;
        }
        let mut replies = self.peers.values().filter(|peer| peer.round >= since);
        // Omni-Paxos: a node with a live leader makes a new election needless, and disruptive.
        let serves = |view: &View| {
            view.has_live_leader || (view.state == ElectionState::Campaigning && view.has_quorum)
        };
        if replies.clone().any(|peer| serves(&peer.view)) {
            return PreCampaign::Wait;
        }
        let comes_first =
            |peer: &Peer| peer.view.priority > config.priority() || peer.view.commit > last;
        if !self.has_deferred {
            // Once: a preferred node that never leads must not keep the only possible leader waiting.
            if replies.any(comes_first) {
                self.has_deferred = true;
                return PreCampaign::Defer;
            }
            let mut others = self.peers.values();
            if others.any(comes_first) && now.since(began) < config.timing().heartbeat {
                return PreCampaign::Wait;
            }
        }
        PreCampaign::Campaign
    }
}
