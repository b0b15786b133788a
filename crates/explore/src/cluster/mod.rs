//! Test cluster: nodes, their disks, and messages in flight, for the tests of a protocol.

mod node;

pub use node::{ClusterNode, CoreChecks, RunningTimer};

use crate::safety::SafetyChecker;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use synod_consensus::{Input, Protocol, Role, Run, RunLog, Saved, Stamp, Status};
use synod_types::{Instant, NodeId, Ticket, Value};

/// Maximum number of messages that one call delivers.
const MAX_DELIVERIES: usize = 100_000;

/// Nodes, their disks and the network between them, driven by a test.
///
/// A test either steps one node at a time and decides about each message on the [wire](Self::wire), or
/// [runs](Self::run_for) the cluster for some time, in which timers fire and messages arrive when they are due.
/// After each step of a node the cluster checks that no slot has two chosen values and no ballot two leaders,
/// in addition to the checks of [`ClusterNode`].
///
/// `M` is the unit of loss and delivery. It differs from the protocol's message type if that is a batch.
///
/// ```
/// use synod_explore::{CoreChecks, TestCluster};
/// use synod_raft::{Config, Raft, Timer};
/// use synod_types::{Instant, Membership, NodeId};
///
/// let checks = CoreChecks { invariants: Raft::check_invariants, ..CoreChecks::default() };
/// let members = Membership::new([1, 2, 3].map(NodeId), [])?;
/// let configs = [1, 2, 3].map(|id| Config::new(NodeId(id), members.clone()).unwrap());
/// let nodes = configs.map(|config| (config.id(), config, Default::default()));
/// let mut cluster =
///     TestCluster::<Raft>::new(checks, |message| vec![message], Instant::ZERO, nodes);
/// cluster.timeout(NodeId(1), Timer::Election);
/// cluster.deliver();
/// cluster.propose(NodeId(1), 1, "x");
/// cluster.deliver_if(|flight| flight.to != NodeId(3));
/// assert_eq!(cluster.commands(NodeId(2)), ["x"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TestCluster<P: Protocol, M = <P as Protocol>::Message> {
    /// Nodes.
    pub nodes: BTreeMap<NodeId, ClusterNode<P>>,
    /// Messages in flight, the oldest first.
    pub wire: VecDeque<InFlight<M>>,
    /// Current time of all nodes.
    pub now: Instant,
    /// Links that lose all messages, by sender and receiver.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Messages in flight during [`run_for`](Self::run_for), with the times at which they arrive.
    timed: Vec<(Instant, InFlight<M>)>,
    /// Function that returns the units of a message.
    split: fn(P::Message) -> Vec<M>,
    /// All values that nodes have reported as chosen, for comparison.
    history: RunLog<P::Stamp>,
    /// Checker of the rule that a ballot has one leader. The other rules are not used.
    leaders: SafetyChecker<P>,
}

/// Message in flight, with its sender and receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight<M> {
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
    /// Message.
    pub message: M,
}

impl<P: Protocol, M: Into<P::Message>> TestCluster<P, M> {
    /// Recovers nodes from their disks, and starts them at `now`. `split` returns the units of a
    /// message.
    pub fn new(
        checks: CoreChecks<P>,
        split: fn(P::Message) -> Vec<M>,
        now: Instant,
        nodes: impl IntoIterator<Item = (NodeId, P::Config, Saved<P>)>,
    ) -> Self {
        let nodes = nodes
            .into_iter()
            .map(|(id, config, disk)| (id, ClusterNode::recover(id, config, disk, checks)));
        let mut cluster = Self {
            nodes: nodes.collect(),
            wire: VecDeque::new(),
            now,
            cut: BTreeSet::new(),
            timed: Vec::new(),
            split,
            history: RunLog::default(),
            leaders: SafetyChecker::new(),
        };
        for id in cluster.ids() {
            cluster.step(id, Input::Start);
        }
        cluster
    }

    /// Returns the ids of all nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Returns a node.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node(&mut self, id: NodeId) -> &mut ClusterNode<P> {
        self.nodes.get_mut(&id).expect("the node should be in the cluster")
    }

    /// Returns the core of a node.
    #[must_use]
    pub fn core(&self, id: NodeId) -> &P {
        self.nodes[&id].core()
    }

    /// Returns the status of a node.
    #[must_use]
    pub fn status(&self, id: NodeId) -> Status {
        self.core(id).status()
    }

    /// Returns the commit index of a node.
    #[must_use]
    pub fn commit_index(&self, id: NodeId) -> u64 {
        self.status(id).commit.0
    }

    /// Returns the commands that a node reported as chosen since it started, in order.
    #[must_use]
    pub fn commands(&self, id: NodeId) -> Vec<String> {
        self.nodes[&id].commands()
    }

    /// Returns the values that a node reported as chosen since it started, in order: commands as text, others in
    /// lower-case debug form.
    #[must_use]
    pub fn chosen(&self, id: NodeId) -> Vec<String> {
        let text = |value| match value {
            Value::Command(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        self.nodes[&id].chosen().map(|(_, value)| text(value)).collect()
    }

    /// Returns the nodes that report themselves as leaders.
    #[must_use]
    pub fn leaders(&self) -> Vec<NodeId> {
        let nodes = self.nodes.iter();
        nodes.filter(|(_, node)| node.status().role == Role::Leader).map(|(id, _)| *id).collect()
    }

    /// Steps a node with one input, and puts the messages that it sends on the wire.
    pub fn step(&mut self, id: NodeId, input: Input<P>) {
        self.step_all(id, [input]);
    }

    /// Steps a node with several inputs in one round, and puts the messages that it sends on the wire.
    pub fn step_all(&mut self, id: NodeId, inputs: impl IntoIterator<Item = Input<P>>) {
        let now = self.now;
        let node = self.node(id);
        inputs.into_iter().for_each(|input| node.step_without_round(now, input));
        node.settle(now);
        self.collect(id);
    }

    /// Proposes a command to a node.
    pub fn propose(&mut self, id: NodeId, ticket: u64, command: &str) {
        let command = command.as_bytes().to_vec().into();
        self.step(id, Input::Propose { ticket: Ticket(ticket), command });
    }

    /// Fires a timer of a node, even if the timer is not running.
    pub fn timeout(&mut self, id: NodeId, timer: P::Timer) {
        self.node(id).timers.remove(&timer);
        self.step(id, Input::Timeout(timer));
    }

    /// Advances the clock without firing timers.
    pub fn advance(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// Delivers a given message at once, even if its link is cut. It need not have been sent.
    pub fn inject(&mut self, from: NodeId, to: NodeId, message: M) {
        self.step(to, Input::Message { from, message: message.into() });
    }

    /// [Injects](Self::inject) a message, and returns the messages that the receiver sends in response. They do
    /// not stay on the wire.
    pub fn replies(&mut self, from: NodeId, to: NodeId, message: M) -> Vec<M> {
        let before = self.wire.len();
        self.inject(from, to, message);
        self.wire.drain(before..).map(|flight| flight.message).collect()
    }

    /// Delivers the oldest message, or drops it if its link is cut. Returns false if no message is in flight.
    pub fn deliver_one(&mut self) -> bool {
        let Some(InFlight { from, to, message }) = self.wire.pop_front() else { return false };
        if !self.cut.contains(&(from, to)) && self.nodes.contains_key(&to) {
            self.inject(from, to, message);
        }
        true
    }

    /// Delivers messages until none is in flight.
    pub fn deliver(&mut self) {
        self.deliver_if(|_| true);
    }

    /// Delivers messages for which `arrives` is true and drops the others, until none is in flight.
    ///
    /// # Panics
    /// If the exchange of messages does not end.
    pub fn deliver_if(&mut self, arrives: impl Fn(&InFlight<M>) -> bool) {
        for _ in 0..MAX_DELIVERIES {
            match self.wire.front() {
                None => return,
                Some(flight) if !arrives(flight) => drop(self.wire.pop_front()),
                Some(_) => drop(self.deliver_one()),
            }
        }
        panic!(
            "messages are still in flight after {MAX_DELIVERIES} deliveries: the exchange does not end"
        );
    }

    /// Removes the messages of one link from the wire, and returns them.
    pub fn intercept(&mut self, from: NodeId, to: NodeId) -> Vec<M> {
        let all = self.wire.drain(..);
        let (taken, rest): (Vec<_>, Vec<_>) = all.partition(|it| it.from == from && it.to == to);
        self.wire = rest.into();
        taken.into_iter().map(|flight| flight.message).collect()
    }

    /// Cuts all links between the nodes of `group` and the others.
    pub fn partition(&mut self, group: &[NodeId]) {
        let (inside, outside): (Vec<_>, Vec<_>) =
            self.ids().into_iter().partition(|id| group.contains(id));
        for a in inside {
            self.cut.extend(outside.iter().flat_map(|b| [(a, *b), (*b, a)]));
        }
    }

    /// Restores all links.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Makes a hung disk of a node work again, and all writes of the node durable.
    pub fn sync(&mut self, id: NodeId) {
        self.node(id).is_disk_hung = false;
        self.step_all(id, []);
    }

    /// Crashes a node and restarts it from its disk. Writes that are not durable are lost.
    pub fn restart(&mut self, id: NodeId) {
        let now = self.now;
        self.node(id).restart(now);
        self.collect(id);
    }

    /// Runs the cluster for some time: timers fire and messages arrive when they are due. `arrival` returns the
    /// time at which a message arrives, or `None` if it is lost.
    pub fn run_for(
        &mut self,
        time: Duration,
        mut arrival: impl FnMut(Instant, &InFlight<M>) -> Option<Instant>,
    ) {
        let end = self.now + time;
        // Tests also step nodes directly, which leaves messages in their outputs.
        self.ids().into_iter().for_each(|id| self.collect(id));
        loop {
            for flight in self.wire.drain(..) {
                if !self.cut.contains(&(flight.from, flight.to))
                    && let Some(at) = arrival(self.now, &flight)
                {
                    self.timed.push((at, flight));
                }
            }
            let timers = self.nodes.iter().flat_map(|(id, node)| {
                node.timers.iter().map(|(timer, running)| (running.due, *id, *timer))
            });
            let timer = timers.min();
            let flights = self.timed.iter().enumerate();
            let flight = flights.map(|(index, (at, _))| (*at, index)).min();
            let next = timer.map(|it| it.0).into_iter().chain(flight.map(|it| it.0)).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            match (flight.filter(|it| it.0 == at), timer) {
                (Some((_, index)), _) => {
                    let InFlight { from, to, message } = self.timed.remove(index).1;
                    self.inject(from, to, message);
                }
                (None, Some((_, id, timer))) => self.timeout(id, timer),
                (None, None) => unreachable!("a message or a timer should be due"),
            }
        }
        self.now = end;
    }

    /// Puts the messages that a node has sent on the wire, and checks its reports of chosen values.
    fn collect(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("the node should be in the cluster");
        for (to, message) in node.outputs.sent.drain(..) {
            let units = (self.split)(message).into_iter();
            self.wire.extend(units.map(|message| InFlight { from: id, to, message }));
        }
        let runs = node.outputs.chosen.iter().rev();
        let new: Vec<_> = runs.take_while(|run| run.last() > node.compared).collect();
        new.into_iter().rev().for_each(|run| check_agreement(&mut self.history, id, run));
        node.compared = node.applied();
        let status = node.status();
        assert!(status.commit <= status.last, "{status:?}");
        let checked = self.leaders.observe_leader(id, &status).map(drop);
        checked.unwrap_or_else(|found| panic!("{found}"));
    }
}

/// Asserts that no slot of a run was chosen with another value, and adds the run to the history.
fn check_agreement<S: Stamp>(history: &mut RunLog<S>, id: NodeId, run: &Run<S>) {
    let end = history.last();
    for (slot, value) in (0..).map(|index| run.first.plus(index)).zip(run.values.iter()) {
        if slot > end {
            return history.put(run.from(slot));
        }
        let Some((stamp, known)) = history.get(slot) else {
            history.put(Run::single(slot, run.stamp, value.to_value()));
            continue;
        };
        // A value may be chosen at several ballots, but an entry has one term.
        let is_same = known == value && (S::NAMES_PROPOSER || stamp == run.stamp);
        assert!(
            is_same,
            "slot {slot}: {known:?} is already chosen at {stamp:?}, but {id:?} reports {value:?} at {:?}",
            run.stamp
        );
    }
}
