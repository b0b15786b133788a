//! Minimal protocol in which node 1 always leads, with a choice of planted bugs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use synod_consensus::{
    Base, ConfigError, Effects, Gate, HardState, Input, Message, Protocol, RecoveryError, Refusal,
    Role, Run, RunLog, Saved, Status, Write,
};
use synod_types::{Ballot, Instant, Lane, Membership, NodeId, Slot, Term, Ticket, Values};

/// Planted bug of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    None,
    /// Acknowledgements do not wait for the disk.
    EarlyAck,
    /// Followers acknowledge runs that they do not write.
    UnwrittenAck,
    /// The leader counts its own copy as a majority.
    MinorityCommit,
    /// Followers truncate slots that they have reported as chosen.
    TruncatesChosen,
    /// A follower stores a no-op instead of the value.
    WrongValue,
    /// The number of starts is reset at the second start.
    LosesStarts,
    /// The number of starts is reset at the fourth start of a node.
    LosesStartsAtFourth,
    /// Every node claims to lead.
    EveryNodeLeads,
    /// An assertion fails at the first proposal.
    Panicking,
}

const LEADER: NodeId = NodeId(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    pub id: NodeId,
    pub members: Membership,
    pub bug: Bug,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toy {
    config: Config,
    starts: Starts,
    log: RunLog<Term>,
    commit: Slot,
    acked: BTreeMap<NodeId, Slot>,
}

/// Number of starts of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Starts(u64);

impl HardState for Starts {
    fn may_follow(&self, older: &Self) -> bool {
        self >= older
    }
}

impl PartialOrd for Starts {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.0.cmp(&other.0))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ToyMessage {
    Append { run: Run<Term> },
    Ack { through: Slot, early: bool },
    Commit { through: Slot },
}

impl Message<Toy> for ToyMessage {
    fn gate(&self) -> Gate {
        match self {
            Self::Ack { early: false, .. } => Gate::Durable,
            Self::Ack { early: true, .. } | Self::Append { .. } | Self::Commit { .. } => {
                Gate::Immediate
            }
        }
    }

    fn lane(&self) -> Lane {
        Lane::Log
    }

    fn holds(&self, _: NodeId, _: NodeId, disk: &Saved<Toy>) -> bool {
        match self {
            Self::Ack { through, .. } => disk.log.last() >= *through,
            Self::Append { .. } | Self::Commit { .. } => true,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Append { run } => format!("Append({}..{})", run.first, run.last()),
            Self::Ack { through, .. } => format!("Ack({through})"),
            Self::Commit { through } => format!("Commit({through})"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Heartbeat;

type Fx<'a> = Effects<'a, Toy>;

impl Protocol for Toy {
    type Config = Config;
    type Message = ToyMessage;
    type HardState = Starts;
    type Stamp = Term;
    type Timer = Heartbeat;

    const NAME: &'static str = "toy";

    fn config(id: NodeId, members: &Membership) -> Result<Config, ConfigError> {
        Ok(Config { id, members: members.clone(), bug: Bug::None })
    }

    fn recover(config: Config, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        let commit = saved.floor()?;
        let (starts, log) = (saved.hard_state, saved.log);
        Ok(Self { config, starts, log, commit, acked: BTreeMap::new() })
    }

    fn step(&mut self, _: Instant, input: Input<Self>, fx: &mut Fx<'_>) {
        match input {
            Input::Start => {
                let loses_starts = match self.config.bug {
                    Bug::LosesStarts => self.starts.0 > 0,
                    Bug::LosesStartsAtFourth => self.starts.0 == 3,
                    _ => false,
                };
                self.starts.0 = if loses_starts { 0 } else { self.starts.0 + 1 };
                fx.write(Write::HardState(self.starts));
                if self.config.id == LEADER {
                    self.ack(LEADER, fx);
                    set_heartbeat(fx);
                }
            }
            Input::Message { from, message } => self.on_message(from, message, fx),
            Input::Timeout(Heartbeat) => {
                for peer in self.config.members.others(LEADER) {
                    self.replicate(peer, fx);
                }
                set_heartbeat(fx);
            }
            Input::Propose { ticket, command } => self.on_propose(ticket, &command, fx),
            Input::Read(id) => fx.refuse_read(id, Refusal::Unsupported),
            Input::Admin { ticket, .. } => fx.refuse(ticket, Refusal::Unsupported),
            Input::Stalled | Input::Lagging | Input::Compact { .. } | Input::Installed { .. } => {}
        }
    }

    fn flush(&mut self, _: Instant, _: &mut Fx<'_>) {}

    fn base_at(&self, _: Slot) -> Option<Base<Term>> {
        None
    }

    fn status(&self) -> Status {
        let leads = self.config.id == LEADER || self.config.bug == Bug::EveryNodeLeads;
        // The leader's term is its number of starts.
        let followed = self.log.runs().last().map_or(0, |run| run.stamp.0);
        let round = if leads { self.starts.0 } else { followed };
        Status {
            role: if leads { Role::Leader } else { Role::Follower },
            ballot: Ballot { round, node: LEADER },
            leader: Some(LEADER),
            commit: self.commit,
            last: self.log.last(),
            base: Slot::ZERO,
            progress: Vec::new(),
        }
    }
}

impl Toy {
    fn on_message(&mut self, from: NodeId, message: ToyMessage, fx: &mut Fx<'_>) {
        match message {
            ToyMessage::Append { run } => {
                let next = self.log.last().next();
                if run.first <= next && next <= run.last() {
                    self.store(run.from(next), fx);
                }
                self.ack(LEADER, fx);
            }
            ToyMessage::Ack { through, .. } => {
                self.acked.insert(from, through);
                self.advance_commit(fx);
            }
            ToyMessage::Commit { through } => {
                self.advance(through.min(self.log.last()), fx);
                if self.config.bug == Bug::TruncatesChosen && self.commit > Slot::ZERO {
                    fx.write(Write::TruncateFrom(self.commit));
                }
            }
        }
    }

    fn on_propose(&mut self, ticket: Ticket, command: &Bytes, fx: &mut Fx<'_>) {
        assert_ne!(self.config.bug, Bug::Panicking, "planted");
        // Leads once its own acknowledgement shows that the number of starts is durable.
        if !self.acked.contains_key(&LEADER) {
            return fx.refuse(ticket, Refusal::NotLeader { hint: Some(LEADER) });
        }
        let first = self.log.last().next();
        // Commands lost in a crash are written again under another term.
        let stamp = Term(self.starts.0);
        let run = Run { first, stamp, values: Values::command_only(command) };
        fx.write(Write::Put(run.clone()));
        self.log.put(run);
        fx.placed(ticket, first);
        self.ack(LEADER, fx);
        for peer in self.config.members.others(LEADER) {
            self.replicate(peer, fx);
        }
    }

    fn store(&mut self, mut run: Run<Term>, fx: &mut Fx<'_>) {
        if self.config.bug == Bug::WrongValue {
            run.values = (0..run.values.len()).map(|_| synod_types::Value::Noop).collect();
        }
        if self.config.bug != Bug::UnwrittenAck {
            fx.write(Write::Put(run.clone()));
        }
        self.log.put(run);
    }

    fn ack(&self, to: NodeId, fx: &mut Fx<'_>) {
        let early = self.config.bug == Bug::EarlyAck;
        fx.send(to, ToyMessage::Ack { through: self.log.last(), early });
    }

    /// Sends a peer the slots that it has not acknowledged.
    fn replicate(&self, peer: NodeId, fx: &mut Fx<'_>) {
        let acked = self.acked.get(&peer).copied().unwrap_or_default();
        match self.log.chunk(acked.next(), self.log.last(), 1 << 20) {
            Some(run) => fx.send(peer, ToyMessage::Append { run }),
            None => fx.send(peer, ToyMessage::Commit { through: self.commit }),
        }
    }

    fn advance_commit(&mut self, fx: &mut Fx<'_>) {
        let mut acked: Vec<_> = self.acked.values().copied().collect();
        acked.sort_unstable_by(|one, other| other.cmp(one));
        let by_minority = self.config.bug == Bug::MinorityCommit;
        let enough = if by_minority { 1 } else { self.config.members.majority() };
        if let Some(agreed) = acked.get(enough - 1) {
            self.advance(*agreed, fx);
        }
    }

    fn advance(&mut self, through: Slot, fx: &mut Fx<'_>) {
        while self.commit < through {
            let Some(run) = self.log.chunk(self.commit.next(), through, 1 << 20) else { return };
            self.commit = run.last();
            fx.chosen(run);
        }
    }
}

fn set_heartbeat(fx: &mut Fx<'_>) {
    fx.set_timer(Heartbeat, Duration::from_millis(50)..Duration::from_millis(51));
}
