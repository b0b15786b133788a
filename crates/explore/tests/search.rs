//! The search itself, over a protocol that is small enough to know every state of it.

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

/// Defects that a node can be told to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Defect {
    /// None.
    None,
    /// It reports slots that the state holds once more.
    ReportsAgain,
    /// It removes what it reported.
    Removes,
    /// It writes another value over what it reported.
    Overwrites,
}

/// n1 offers a value, n2 passes it on to n3 without a change of its own, and n3 writes it. A client's
/// command goes into the node's own log and counts as chosen: nodes have a log each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Relay {
    me: NodeId,
    defect: Defect,
    saved: Saved<Self>,
    received: u8,
    /// Reported through here.
    chosen: Slot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Passed {
    Offer,
    On,
    /// To the node itself: its log is durable through this slot.
    Durable(Slot),
}

impl HardState for Nothing {
    fn may_follow(&self, _: &Self) -> bool {
        true
    }
}

impl Message<Relay> for Passed {
    fn gate(&self) -> Gate {
        match self {
            Self::Offer | Self::On => Gate::Immediate,
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
    type Message = Passed;
    type HardState = Nothing;
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
                _ => fx.send(N2, Passed::Offer),
            },
            Input::Message { message: Passed::Offer, .. } => fx.send(N3, Passed::On),
            Input::Message { message: Passed::On, .. } => self.received += 1,
            Input::Propose { command, .. } => {
                let slot = self.saved.log.last().next();
                let values: Values = [Value::Command(command)].into_iter().collect();
                self.put(slot, values, fx);
                fx.send(self.me, Passed::Durable(slot));
            }
            Input::Message { message: Passed::Durable(slot), .. } => self.report(slot, fx),
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

fn relayed(traffic: fn(&Passed) -> Delivery) -> usize {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let strikes = |trouble, node| trouble == NodeEvent::Timeout && node == N1;
    explore(3, Defect::None).allowing(strikes).delivery(traffic).budget(budget).run().states
}

#[test]
fn immediate_answers_reach_nodes_other_than_the_receiver() {
    // Offered; passed on; received.
    assert_eq!(relayed(|_| Delivery::AnyTime), 4);
    let on_is = |message: &Passed| match message {
        Passed::Offer => Delivery::AnyTime,
        Passed::On | Passed::Durable(_) => Delivery::Immediate,
    };
    assert_eq!(relayed(on_is), 3, "the state in which n3 has received it is one of them");
}

#[test]
fn a_search_ends_with_its_time_in_either_order() {
    let budget = Budget { timeouts: 3, ..Budget::default() };
    let search = || explore(3, Defect::None).budget(budget);
    assert!(search().run().states > 10);
    for search in [search(), search().depth_first()] {
        let report = search.max_time(Duration::ZERO).run();
        assert_eq!(report.states, 1, "the first one");
        assert!(!report.is_exhausted);
    }
}

#[test]
fn a_search_out_of_time_reports_how_it_came_to_what_it_saw() {
    // More than a million states.
    let budget = Budget { proposals: 100, crashes: 250, ..Budget::default() };
    let search = || explore(1, Defect::None).budget(budget).max_time(Duration::from_millis(50));
    for search in [search(), search().depth_first()] {
        let report = search.run();
        report.assert_safe(&[Coverage::Chosen]);
        assert!(!report.is_exhausted);
    }
}

/// A single node that takes a command, may crash, and has a timer that may run out.
fn alone(defect: Defect) -> Option<Rule> {
    let budget = Budget { proposals: 2, crashes: 1, timeouts: 1, ..Budget::default() };
    let report = explore(1, defect).allowing(|_, _| true).budget(budget).run();
    assert!(report.found.is_some() || report.seen.contains(&Coverage::Chosen));
    report.found.map(|found| found.violation.rule)
}

#[test]
fn a_node_restarts_on_an_applied_state() {
    assert_eq!(alone(Defect::None), None);
    assert_eq!(alone(Defect::ReportsAgain), Some(Rule::Order));
}

#[test]
fn applied_slots_stay_as_they_are() {
    assert_eq!(alone(Defect::Removes), Some(Rule::AppliedStays));
    assert_eq!(alone(Defect::Overwrites), Some(Rule::AppliedStays));
}
