//! Tests of the search itself, with a protocol whose few states are known.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use synod_consensus::{
    Base, ConfigError, Effects, Gate, HardState, Input, Message, Protocol, RecoveryError, Role,
    Run, Saved, Status, Write,
};
use synod_explore::{Budget, Coverage, Delivery, Explore, NodeEvent, Rule};
use synod_types::{Ballot, Instant, Lane, Membership, NodeId, Slot, Value, Values};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// Defect planted in a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Defect {
    /// None.
    None,
    /// After a restart the node reports slots again that its state already includes.
    ReportsAgain,
    /// The node removes a slot that it reported.
    Removes,
    /// The node writes another value to a slot that it reported.
    Overwrites,
}

/// Protocol in which n1 sends an offer to n2, n2 forwards it to n3 without a change of its own state, and n3
/// counts it. A client's command goes into the node's own log, and counts as chosen when it is durable there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Relay {
    me: NodeId,
    defect: Defect,
    saved: Saved<Self>,
    received: u8,
    /// Last reported slot.
    chosen: Slot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct NoHardState;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum RelayMessage {
    Offer,
    Forward,
    /// Message to the node itself: its log is durable through this slot.
    Durable(Slot),
}

impl HardState for NoHardState {
    fn may_follow(&self, _: &Self) -> bool {
        true
    }
}

impl Message<Relay> for RelayMessage {
    fn gate(&self) -> Gate {
        match self {
            Self::Offer | Self::Forward => Gate::Immediate,
            Self::Durable(_) => Gate::Durable,
        }
    }

    fn lane(&self) -> Lane {
        Lane::Control
    }

    fn holds(&self, _: NodeId, _: NodeId, _: &Saved<Relay>) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

const BALLOT: Ballot = Ballot { round: 1, node: N1 };

fn value(text: &str) -> Values {
    [Value::Command(text.as_bytes().to_vec().into())].into_iter().collect()
}

impl Relay {
    fn put(&mut self, slot: Slot, values: Values, fx: &mut Effects<'_, Self>) {
        let run = Run { first: slot, stamp: BALLOT, values };
        self.saved.log.put(run.clone());
        fx.write(Write::Put(run));
    }

    fn report(&mut self, through: Slot, fx: &mut Effects<'_, Self>) {
        while self.chosen < through {
            self.chosen = self.chosen.next();
            let (stamp, value) = self.saved.log.get(self.chosen).expect("a log without holes");
            fx.chosen(Run::single(self.chosen, stamp, value.to_value()));
        }
    }
}

impl Protocol for Relay {
    type Config = (NodeId, Membership, Defect);
    type Message = RelayMessage;
    type HardState = NoHardState;
    type Stamp = Ballot;
    type Timer = ();

    const NAME: &'static str = "relay";

    fn config(id: NodeId, members: &Membership) -> Result<Self::Config, ConfigError> {
        Ok((id, members.clone(), Defect::None))
    }

    fn recover((me, _, defect): Self::Config, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        Ok(Self { me, defect, chosen: saved.applied, saved, received: 0 })
    }

    fn step(&mut self, _: Instant, input: Input<Self>, fx: &mut Effects<'_, Self>) {
        match input {
            Input::Start => {
                fx.set_timer((), Duration::ZERO..Duration::ZERO);
                if self.defect == Defect::ReportsAgain {
                    self.chosen = Slot::ZERO;
                }
                self.report(self.saved.log.last(), fx);
            }
            Input::Timeout(()) => match self.defect {
                Defect::Removes if self.chosen > Slot::ZERO => {
                    fx.write(Write::TruncateFrom(self.chosen));
                }
                Defect::Overwrites if self.chosen > Slot::ZERO => {
                    self.put(self.chosen, value("other"), fx);
                }
                _ => fx.send(N2, RelayMessage::Offer),
            },
            Input::Message { message: RelayMessage::Offer, .. } => {
                fx.send(N3, RelayMessage::Forward)
            }
            Input::Message { message: RelayMessage::Forward, .. } => self.received += 1,
            Input::Propose { command, .. } => {
                let slot = self.saved.log.last().next();
                let values: Values = [Value::Command(command)].into_iter().collect();
                self.put(slot, values, fx);
                fx.send(self.me, RelayMessage::Durable(slot));
            }
            Input::Message { message: RelayMessage::Durable(slot), .. } => self.report(slot, fx),
            _ => {}
        }
    }

    fn flush(&mut self, _: Instant, _: &mut Effects<'_, Self>) {}

    fn base_at(&self, _: Slot) -> Option<Base<Ballot>> {
        None
    }

    fn status(&self) -> Status {
        Status {
            role: Role::Peer,
            ballot: BALLOT,
            leader: None,
            commit: self.saved.log.last(),
            last: self.saved.log.last(),
            base: Slot::ZERO,
            progress: Vec::new(),
        }
    }
}

fn explore(nodes: u64, defect: Defect) -> Explore<Relay> {
    Explore::new(nodes, move |node, members| (node, members, defect)).unwrap()
}

/// Returns the number of states after one timeout of n1.
fn count_states(delivery: fn(&RelayMessage) -> Delivery) -> usize {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let is_allowed = |event, node| event == NodeEvent::Timeout && node == N1;
    explore(3, Defect::None).with_events(is_allowed).delivery(delivery).budget(budget).run().states
}

#[test]
fn immediate_reply_may_change_another_node_than_the_receiver() {
    // The initial state; offer sent; offer forwarded; forwarded offer received.
    assert_eq!(count_states(|_| Delivery::AnyTime), 4);
    let delivery = |message: &RelayMessage| match message {
        RelayMessage::Offer => Delivery::AnyTime,
        RelayMessage::Forward | RelayMessage::Durable(_) => Delivery::Immediate,
    };
    assert_eq!(count_states(delivery), 3, "initial, offer sent, forwarded offer received");
}

#[test]
fn search_stops_at_its_time_limit_breadth_first_and_depth_first() {
    let budget = Budget { timeouts: 3, ..Budget::default() };
    let search = || explore(3, Defect::None).budget(budget);
    assert!(search().run().states > 10);
    for search in [search(), search().depth_first()] {
        let report = search.max_time(Duration::ZERO).run();
        assert_eq!(report.states, 1, "only the initial state");
        assert!(!report.is_exhausted);
    }
}

#[test]
fn search_that_reaches_its_time_limit_reports_its_coverage() {
    // More than a million states.
    let budget = Budget { proposals: 100, crashes: 250, ..Budget::default() };
    let search = || explore(1, Defect::None).budget(budget).max_time(Duration::from_millis(50));
    for search in [search(), search().depth_first()] {
        let report = search.run();
        report.assert_safe(&[Coverage::Chosen]);
        assert!(!report.is_exhausted);
    }
}

/// Explores a single node with two proposals, a crash and a timeout. Returns the violated rule.
fn violated_rule(defect: Defect) -> Option<Rule> {
    let budget = Budget { proposals: 2, crashes: 1, timeouts: 1, ..Budget::default() };
    let report = explore(1, defect).with_events(|_, _| true).budget(budget).run();
    assert!(report.counterexample.is_some() || report.reached.contains(&Coverage::Chosen));
    report.counterexample.map(|found| found.violation.rule)
}

#[test]
fn repeated_report_after_a_restart_is_a_violation() {
    assert_eq!(violated_rule(Defect::None), None);
    assert_eq!(violated_rule(Defect::ReportsAgain), Some(Rule::ChosenInOrder));
}

#[test]
fn change_of_an_applied_slot_is_a_violation() {
    assert_eq!(violated_rule(Defect::Removes), Some(Rule::AppliedUnchanged));
    assert_eq!(violated_rule(Defect::Overwrites), Some(Rule::AppliedUnchanged));
}
