//! Cluster as a stateright model: the possible actions in a state, and the state after an action.

use super::node_step::{NodeStep, StepContext, catch_panic};
use super::state::{Budget, ModelNode, Network, Packet, Shared, State, index};
use crate::rule::{Checked, Rule, RuleViolation, violated};
use crate::safety::SafetyChecker;
use bytes::Bytes;
use stateright::{Model, Property};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use synod_consensus::{Input, Message, Protocol, Quorum, Role, Saved};
use synod_types::{Instant, NodeId, Slot, Ticket};

/// Maximum number of immediate messages in one action. If there are more, the exchange counts as endless.
const MAX_IMMEDIATE: usize = 1000;

/// Protocol whose parts may be shared between the threads of a search: every protocol that holds only data.
pub trait Explorable:
    Protocol<Config: Sync, Message: Sync, HardState: Sync, Stamp: Sync, Timer: Sync> + Sync
{
}

impl<P> Explorable for P where
    P: Protocol<Config: Sync, Message: Sync, HardState: Sync, Stamp: Sync, Timer: Sync> + Sync
{
}

/// Delivery of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The message may arrive at any later time, in any order, or never.
    AnyTime,
    /// The message arrives at once, within the action that sends it. The search covers fewer orders of messages,
    /// with fewer states. Suitable for messages that only prepare a step, such as pre-votes.
    Immediate,
    /// The message never arrives. Suitable for messages that do not affect any rule.
    Dropped,
}

/// Kind of event at a node. A [`Budget`] bounds the number of events of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A timer of the node fires.
    Timeout,
    /// The node crashes.
    Crash,
    /// A client proposes a command to the node.
    Proposal,
    /// A client reads from the node.
    Read,
    /// A write of the node is not durable at once.
    SlowWrite,
    /// The node compacts its log.
    Compaction,
}

/// Possible next step. `is_slow` is true if the node's writes in this step are not durable at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action<P: Protocol> {
    /// A message arrives. If it `stays` in the network, it may arrive again.
    Deliver { packet: Shared<Packet<P>>, stays: bool, is_slow: bool },
    /// A timer fires.
    Timeout { node: NodeId, timer: P::Timer, is_slow: bool },
    /// A client proposes a command.
    Propose { node: NodeId, command: Bytes, is_slow: bool },
    /// A client reads.
    Read { node: NodeId },
    /// The node compacts its log through the last slot that it has reported as chosen.
    Compact { node: NodeId },
    /// The oldest unsynced batch becomes durable.
    Sync { node: NodeId },
    /// A node crashes and restarts from its disk, which keeps the oldest `kept` of its `unsynced` batches. The
    /// state on disk is applied through the slot `applied`.
    Crash { node: NodeId, kept: usize, unsynced: usize, applied: Slot },
}

impl<P: Protocol> fmt::Display for Action<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slowly = |is_slow: &bool| if *is_slow { " (slow disk)" } else { "" };
        match self {
            Self::Deliver { packet, stays, is_slow } => {
                let Packet { from, to, message } = &**packet;
                let again = if *stays { " (may arrive again)" } else { "" };
                let slow = slowly(is_slow);
                write!(f, "{from:?} -> {to:?}: {}{again}{slow}", message.describe())
            }
            Self::Timeout { node, timer, is_slow } => {
                write!(f, "{node:?}: timer {timer:?} fires{}", slowly(is_slow))
            }
            Self::Propose { node, command, is_slow } => {
                let slow = slowly(is_slow);
                write!(f, "{node:?}: a client proposes \"{}\"{slow}", command.escape_ascii())
            }
            Self::Read { node } => write!(f, "{node:?}: a client reads"),
            Self::Compact { node } => write!(f, "{node:?}: compacts its log"),
            Self::Sync { node } => write!(f, "{node:?}: the oldest batch becomes durable"),
            Self::Crash { node, kept, unsynced, applied } => {
                write!(f, "{node:?}: crashes")?;
                if *unsynced > 0 {
                    write!(f, ", keeps {kept} of {unsynced} unsynced batches")?;
                }
                write!(f, ", and restarts")?;
                if *applied > Slot::ZERO {
                    write!(f, " with its state applied through slot {applied}")?;
                }
                Ok(())
            }
        }
    }
}

/// Model of a cluster of real cores.
pub(crate) struct ClusterModel<P: Protocol> {
    pub configs: Vec<P::Config>,
    pub quorum: Quorum,
    pub timer_filter: fn(&P::Timer) -> bool,
    pub node_filter: fn(NodeEvent, NodeId) -> bool,
    pub delivery: fn(&P::Message) -> Delivery,
    pub clock_step: Duration,
    /// First state of the search.
    pub start: Option<State<P>>,
    /// Time at which the search ends. From then on no state has a successor, so the search ends when the queued
    /// states are visited. Stateright checks its own time limit only if it has several threads.
    pub deadline: Option<std::time::Instant>,
    /// True if the search has ended. From then on the deadline is ignored: the path to a violation is replayed
    /// for the report.
    pub is_over: AtomicBool,
}

impl<P: Protocol> ClusterModel<P> {
    /// Returns the state in which every node has started on an empty disk.
    pub fn initial_state(&self) -> State<P> {
        let recover = |(id, config): (NodeId, &P::Config)| {
            ModelNode::recover(id, config.clone(), Saved::default())
        };
        let nodes: Result<Vec<_>, _> = self.ids().zip(&self.configs).map(recover).collect();
        let mut violation = None;
        let nodes = nodes.unwrap_or_else(|error| {
            violation = Some(violated(Rule::Recovery, error.to_string()));
            Vec::new()
        });
        let mut state = State {
            nodes: nodes.into_iter().map(Shared::new).collect(),
            network: Network::new(),
            budget: Budget::default(),
            now: Instant::ZERO + Duration::from_secs(3600),
            checker: Shared::new(SafetyChecker::new()),
            has_lost_write: false,
            violation,
        };
        for node in self.ids().take(state.nodes.len()) {
            self.run(&mut state, node, |step| step.input(Input::Start, false));
        }
        state
    }

    /// Returns the state after an action, or `None` if the action has no effect.
    pub fn apply(&self, before: &State<P>, action: &Action<P>) -> Option<State<P>> {
        let mut state = before.clone();
        match action {
            Action::Deliver { packet, stays, is_slow } => {
                if *stays {
                    state.budget.duplicates = state.budget.duplicates.saturating_sub(1);
                } else {
                    state.network.remove(packet);
                }
                let Packet { from, to, message } = (**packet).clone();
                let input = Input::Message { from, message };
                let acted = self.run(&mut state, to, |step| step.input(input, *is_slow));
                // A message without an effect may as well be lost. Compare all nodes, because an immediate
                // reply may have changed another node than the receiver.
                let is_same = state.nodes == before.nodes;
                if !acted && is_same && state.violation.is_none() {
                    return None;
                }
                self.charge_slow_write(before, state, to, *is_slow)
            }
            Action::Timeout { node, timer, is_slow } => {
                state.budget.timeouts = state.budget.timeouts.saturating_sub(1);
                state.now = state.now + self.clock_step;
                self.run(&mut state, *node, |step| {
                    step.node.timers.remove(timer);
                    step.input(Input::Timeout(*timer), *is_slow)
                });
                self.charge_slow_write(before, state, *node, *is_slow)
            }
            Action::Propose { node, command, is_slow } => {
                let ticket = Ticket(u64::from(state.budget.proposals));
                state.budget.proposals = state.budget.proposals.saturating_sub(1);
                let input = Input::Propose { ticket, command: command.clone() };
                self.run(&mut state, *node, |step| step.input(input, *is_slow));
                self.charge_slow_write(before, state, *node, *is_slow)
            }
            Action::Read { node } => {
                state.budget.reads = state.budget.reads.saturating_sub(1);
                self.run(&mut state, *node, |step| step.read());
                Some(state)
            }
            Action::Compact { node } => {
                state.budget.compactions = state.budget.compactions.saturating_sub(1);
                let through = state.node(*node).applied();
                self.run(&mut state, *node, |step| step.input(Input::Compact { through }, false));
                Some(state)
            }
            Action::Sync { node } => {
                self.run(&mut state, *node, |step| step.sync());
                Some(state)
            }
            Action::Crash { node, kept, unsynced, applied } => {
                state.budget.crashes = state.budget.crashes.saturating_sub(1);
                state.has_lost_write |= kept < unsynced;
                let config = self.configs[index(*node)].clone();
                self.run(&mut state, *node, |step| step.restart(config, *kept, *applied));
                Some(state)
            }
        }
    }

    /// Charges a slow write to the budget. Returns `None` if the step wrote nothing: the same step without a
    /// slow disk covers this case.
    fn charge_slow_write(
        &self,
        before: &State<P>,
        mut state: State<P>,
        node: NodeId,
        is_slow: bool,
    ) -> Option<State<P>> {
        if is_slow {
            if state.node(node).unsynced.is_empty() && state.violation.is_none() {
                return None;
            }
            state.budget.slow_writes = before.budget.slow_writes.saturating_sub(1);
        }
        Some(state)
    }

    /// Runs one node's step, then the steps of the receivers of immediate messages. Returns whether a message
    /// entered the network or a rule was violated.
    fn run(
        &self,
        state: &mut State<P>,
        node: NodeId,
        work: impl FnOnce(&mut NodeStep<'_, P>) -> Checked,
    ) -> bool {
        let mut immediate = VecDeque::new();
        let mut acted = self.step_node(state, node, work, &mut immediate);
        for _ in 0..MAX_IMMEDIATE {
            let Some(Packet { from, to, message }) = immediate.pop_front() else { return acted };
            let input = Input::Message { from, message };
            acted |= self.step_node(state, to, |step| step.input(input, false), &mut immediate);
            if state.violation.is_some() {
                return acted;
            }
        }
        let text = format!("more than {MAX_IMMEDIATE} immediate messages in one action");
        state.violation = Some(violated(Rule::Termination, text));
        acted
    }

    /// Runs one node's step, and puts its messages into the network or into `immediate`.
    fn step_node(
        &self,
        state: &mut State<P>,
        id: NodeId,
        work: impl FnOnce(&mut NodeStep<'_, P>) -> Checked,
        immediate: &mut VecDeque<Packet<P>>,
    ) -> bool {
        let context = StepContext { id, now: state.now, quorum: &self.quorum, nodes: &state.nodes };
        let (node, checker) = (state.node(id).clone(), state.checker.to_arc());
        let done = catch_panic(id, || {
            let mut step = NodeStep::new(context, node, checker);
            work(&mut step)?;
            Ok((step.node, step.checker, step.sent))
        });
        let (node, checker, sent) = match done {
            Ok(done) => done,
            Err(violation) => {
                state.violation = Some(violation);
                return true;
            }
        };
        state.nodes[index(id)] = Shared::new(node);
        state.checker.replace(checker);
        let mut acted = false;
        // A transport does not send to nodes outside the cluster.
        for (to, message) in sent.into_iter().filter(|(to, _)| self.ids().any(|id| id == *to)) {
            let delivery = (self.delivery)(&message);
            let packet = Packet { from: id, to, message };
            match delivery {
                Delivery::AnyTime => acted |= state.network.add(packet),
                Delivery::Immediate => immediate.push_back(packet),
                Delivery::Dropped => {}
            }
        }
        acted
    }

    /// Adds the actions that give a core an input.
    fn inputs(&self, state: &State<P>, is_slow: bool, actions: &mut Vec<Action<P>>) {
        // Writes wait for earlier unsynced batches of the node. So its next write is slow in any case, and
        // charging a slow write for it adds no behaviour.
        let is_allowed = |node: NodeId| {
            !is_slow
                || (state.node(node).unsynced.is_empty()
                    && (self.node_filter)(NodeEvent::SlowWrite, node))
        };
        for packet in state.network.iter().filter(|packet| is_allowed(packet.to)) {
            if state.budget.duplicates > 0 {
                actions.push(Action::Deliver { packet: packet.clone(), stays: true, is_slow });
            }
            actions.push(Action::Deliver { packet: packet.clone(), stays: false, is_slow });
        }
        for node in self.ids().filter(|node| is_allowed(*node)) {
            let it = state.node(node);
            if state.budget.timeouts > 0 && (self.node_filter)(NodeEvent::Timeout, node) {
                let timers = it.timers.iter().filter(|timer| (self.timer_filter)(timer));
                actions.extend(timers.map(|timer| Action::Timeout {
                    node,
                    timer: *timer,
                    is_slow,
                }));
            }
            if state.budget.proposals > 0
                && (self.node_filter)(NodeEvent::Proposal, node)
                && accepts_proposals(it.core())
            {
                let command = Bytes::from(vec![b'a' + state.budget.proposals - 1]);
                actions.push(Action::Propose { node, command, is_slow });
            }
        }
    }

    /// Adds all possible actions in a state.
    fn enabled(&self, state: &State<P>, actions: &mut Vec<Action<P>>) {
        if state.violation.is_some() {
            return;
        }
        self.inputs(state, false, actions);
        if state.budget.slow_writes > 0 {
            self.inputs(state, true, actions);
        }
        for node in self.ids() {
            let unsynced = state.node(node).unsynced.len();
            if unsynced > 0 {
                actions.push(Action::Sync { node });
            }
            if state.budget.reads > 0 && (self.node_filter)(NodeEvent::Read, node) {
                actions.push(Action::Read { node });
            }
            let can_compact = state.node(node).applied() > state.node(node).disk.base.through;
            if can_compact
                && state.budget.compactions > 0
                && (self.node_filter)(NodeEvent::Compaction, node)
            {
                actions.push(Action::Compact { node });
            }
            if state.budget.crashes > 0 && (self.node_filter)(NodeEvent::Crash, node) {
                for applied in state.node(node).applied_after_crash() {
                    let crash = |kept| Action::Crash { node, kept, unsynced, applied };
                    actions.extend((0..=unsynced).map(crash));
                }
            }
        }
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<P> {
        (1..=self.configs.len() as u64).map(NodeId)
    }
}

/// Returns whether a driver proposes commands to this core: only to a leader, or without leaders to any peer.
fn accepts_proposals<P: Protocol>(core: &P) -> bool {
    matches!(core.status().role, Role::Leader | Role::Peer)
}

/// Names of the coverage goals as stateright properties.
pub(crate) const CHOSEN: &str = "a value is chosen";
pub(crate) const READ: &str = "a read is served";
pub(crate) const LOST_WRITE: &str = "a crash undoes a write";
pub(crate) const COMPETING_WRITES: &str = "two ballots write to one slot";
/// Stateright property for all rules together: the state contains no violation.
pub(crate) const SAFE: &str = "safe";

impl<P: Explorable> ClusterModel<P> {
    /// Minimizes a sequence of actions that violates a rule: removes actions as long as the rule is violated.
    pub fn minimize(&self, mut actions: Vec<Action<P>>) -> Option<(Vec<Action<P>>, RuleViolation)> {
        let (length, mut violation) = self.replay(&actions)?;
        actions.truncate(length);
        let mut at = 0;
        while at < actions.len() {
            let mut fewer = actions.clone();
            fewer.remove(at);
            match self.replay(&fewer) {
                Some((length, found)) if found.rule == violation.rule => {
                    fewer.truncate(length);
                    (actions, violation, at) = (fewer, found, 0);
                }
                _ => at += 1,
            }
        }
        Some((actions, violation))
    }

    /// Replays actions. Returns the violation and the number of actions that lead to it, or `None` if there is no
    /// violation or an action is not possible.
    fn replay(&self, actions: &[Action<P>]) -> Option<(usize, RuleViolation)> {
        let mut state = self.start.clone()?;
        let mut steps = actions.iter();
        while state.violation.is_none() {
            let (action, mut enabled) = (steps.next()?, Vec::new());
            self.enabled(&state, &mut enabled);
            state = enabled.contains(action).then(|| self.apply(&state, action))??;
        }
        let violation = state.violation.as_deref().cloned()?;
        Some((actions.len() - steps.len(), violation))
    }
}

impl<P: Explorable> Model for ClusterModel<P> {
    type State = State<P>;
    type Action = Action<P>;

    fn init_states(&self) -> Vec<State<P>> {
        self.start.iter().cloned().collect()
    }

    fn actions(&self, state: &State<P>, actions: &mut Vec<Action<P>>) {
        let is_late = |deadline| std::time::Instant::now() >= deadline;
        if self.is_over.load(Ordering::Relaxed) || !self.deadline.is_some_and(is_late) {
            self.enabled(state, actions);
        }
    }

    fn next_state(&self, state: &State<P>, action: Action<P>) -> Option<State<P>> {
        self.apply(state, &action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn count<P: Protocol>(state: Option<&State<P>>) -> usize {
            state.map_or(0, |state| state.checker.count())
        }
        vec![
            Property::always(SAFE, |_: &Self, state: &State<P>| state.violation.is_none()),
            Property::sometimes(CHOSEN, |model: &Self, state| {
                count(Some(state)) > count(model.start.as_ref())
            }),
            Property::sometimes(LOST_WRITE, |_: &Self, state: &State<P>| state.has_lost_write),
            Property::sometimes(COMPETING_WRITES, |_: &Self, state: &State<P>| {
                state.checker.has_competition()
            }),
            Property::sometimes(READ, |_: &Self, state: &State<P>| state.checker.served() > 0),
        ]
    }
}
