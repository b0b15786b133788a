//! Tests of a host's fence, with scripted cores and disks that lag.

use super::*;
use crate::{
    Base, ConfigError, Effects, HardState, Refusal, Role, Run, Status, TimerChange,
    Write as DiskWrite,
};
use alloc::string::String;
use alloc::vec;
use core::time::Duration;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use synod_types::{Ballot, Lane, Membership, Term, Ticket, Values};

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const NOW: Instant = Instant(1);

/// Core that performs the acts in a message. It counts its writes and puts the count into messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scripted {
    writes: u64,
    chosen: Slot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Act {
    Write,
    /// Sends a durable message.
    Claim(NodeId),
    /// Sends a message that claims nothing.
    Hint(NodeId),
    /// Reports the next slot as chosen.
    Choose,
    /// Reports a slot past the next one as chosen.
    ChooseLater,
    /// Removes the slots from here on.
    Truncate(Slot),
    Compact(Slot),
    Contradict,
    /// Sends itself a message, and sends it again on each arrival.
    Echo,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Msg {
    Do(Vec<Act>),
    /// Claims that this number of writes is durable.
    Claim(u64),
    Hint(u64),
    Echo,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Nothing;

impl HardState for Nothing {
    fn may_follow(&self, _: &Self) -> bool {
        true
    }
}

impl Message<Scripted> for Msg {
    fn gate(&self) -> Gate {
        match self {
            Self::Claim(_) => Gate::Durable,
            Self::Do(_) | Self::Hint(_) | Self::Echo => Gate::Immediate,
        }
    }
    fn lane(&self) -> Lane {
        Lane::Log
    }
    fn holds(&self, _: NodeId, _: NodeId, _: &Saved<Scripted>) -> bool {
        true
    }
    fn describe(&self) -> String {
        String::new()
    }
}

impl Protocol for Scripted {
    type Config = ();
    type Message = Msg;
    type HardState = Nothing;
    type Stamp = Term;
    type Timer = u8;
    const NAME: &'static str = "scripted";

    fn config(_: NodeId, _: &Membership) -> Result<(), ConfigError> {
        Ok(())
    }

    fn recover((): (), saved: Saved<Self>) -> Result<Self, RecoveryError> {
        Ok(Self { writes: 0, chosen: saved.floor()? })
    }

    fn step(&mut self, _: Instant, input: Input<Self>, fx: &mut Effects<'_, Self>) {
        match input {
            Input::Message { message: Msg::Do(acts), .. } => {
                acts.into_iter().for_each(|act| self.act(act, fx));
            }
            Input::Message { message: Msg::Echo, .. } => fx.send(ME, Msg::Echo),
            Input::Message { from: ME, message: Msg::Claim(writes) } => {
                fx.send(PEER, Msg::Hint(writes));
            }
            Input::Installed { base } if base.through > self.chosen => {
                self.chosen = base.through;
                fx.write(DiskWrite::Compact(base));
            }
            Input::Propose { ticket, .. } => fx.refuse(ticket, Refusal::Busy),
            Input::Start => fx.set_timer(1, Duration::ZERO..Duration::ZERO),
            _ => {}
        }
    }

    fn flush(&mut self, _: Instant, _: &mut Effects<'_, Self>) {}

    fn base_at(&self, _: Slot) -> Option<Base<Term>> {
        None
    }

    fn status(&self) -> Status {
        Status {
            role: Role::Peer,
            ballot: Ballot::ZERO,
            leader: None,
            commit: self.chosen,
            last: self.chosen,
            base: Slot::ZERO,
            progress: Vec::new(),
        }
    }
}

impl Scripted {
    fn act(&mut self, act: Act, fx: &mut Effects<'_, Self>) {
        let run = |first| Run { first, stamp: Term(1), values: Values::command_only(b"x") };
        match act {
            Act::Write => {
                self.writes += 1;
                fx.write(DiskWrite::HardState(Nothing));
            }
            Act::Claim(to) => fx.send(to, Msg::Claim(self.writes)),
            Act::Hint(to) => fx.send(to, Msg::Hint(self.writes)),
            Act::Choose => {
                self.chosen = self.chosen.next();
                fx.chosen(run(self.chosen));
            }
            Act::ChooseLater => fx.chosen(run(self.chosen.plus(2))),
            Act::Truncate(slot) => fx.write(DiskWrite::TruncateFrom(slot)),
            Act::Compact(through) => {
                fx.write(DiskWrite::Compact(Base { through, ..Base::default() }));
            }
            Act::Contradict => fx.contradicted(Contradiction { slot: Slot(1), by: PEER }),
            Act::Echo => fx.send(ME, Msg::Echo),
        }
    }
}

fn started() -> Host<Scripted> {
    let mut host = Host::recover(ME, (), Saved::default()).unwrap();
    let timers = mem::take(&mut host.input(NOW, Input::Start, &mut ()).timers);
    assert_eq!(timers, [TimerChange::Set(1, Duration::ZERO..Duration::ZERO)]);
    host
}

fn script(host: &mut Host<Scripted>, acts: &[Act]) -> Option<FatalError> {
    let input = Input::Message { from: PEER, message: Msg::Do(acts.into()) };
    host.input(NOW, input, &mut ()).fatal
}

/// Runs a round. Returns the number of its batch, and its messages to the peer.
fn round(host: &mut Host<Scripted>) -> (Option<Seq>, Vec<Msg>) {
    let round = host.round(NOW, &mut ());
    assert!(round.is_quiet);
    assert_eq!(round.seq.is_some(), !round.writes.is_empty());
    (round.seq, round.sends.drain(..).map(|(_, message)| message).collect())
}

#[test]
fn durable_message_waits_for_the_writes_of_its_round_and_others_do_not() {
    let mut host = started();
    script(&mut host, &[Act::Claim(PEER), Act::Write, Act::Hint(PEER)]);
    assert_eq!(round(&mut host), (Some(Seq(1)), vec![Msg::Hint(1)]));
    assert_eq!(round(&mut host), (None, vec![]));
    host.written(Seq(1));
    assert_eq!(round(&mut host), (None, vec![Msg::Claim(0)]));
}

#[test]
fn durable_message_leaves_at_once_when_nothing_is_unwritten() {
    let mut host = started();
    script(&mut host, &[Act::Claim(PEER)]);
    assert_eq!(round(&mut host), (None, vec![Msg::Claim(0)]));
}

#[test]
fn durable_message_does_not_wait_for_later_writes() {
    let mut host = started();
    script(&mut host, &[Act::Write]);
    assert_eq!(round(&mut host).0, Some(Seq(1)));
    script(&mut host, &[Act::Claim(PEER)]);
    assert_eq!(round(&mut host), (None, vec![]));
    script(&mut host, &[Act::Write]);
    assert_eq!(round(&mut host).0, Some(Seq(2)));
    host.written(Seq(1));
    assert_eq!(round(&mut host), (None, vec![Msg::Claim(1)]));
}

#[test]
fn self_message_is_delivered_when_its_writes_are_durable() {
    let mut host = started();
    script(&mut host, &[Act::Write, Act::Claim(ME)]);
    assert_eq!(round(&mut host), (Some(Seq(1)), vec![]));
    host.written(Seq(1));
    assert_eq!(round(&mut host), (None, vec![Msg::Hint(1)]), "sent when its own claim arrives");
}

#[test]
fn round_ends_although_self_messages_do_not() {
    let mut host = started();
    script(&mut host, &[Act::Echo]);
    assert!(!host.round(NOW, &mut ()).is_quiet);
}

#[test]
fn bound_on_held_messages_drops_messages_to_peers_only() {
    let mut host = started().with_max_held(2);
    script(&mut host, &[Act::Write]);
    script(&mut host, &[Act::Claim(PEER); 3]);
    script(&mut host, &[Act::Claim(ME)]);
    assert_eq!(round(&mut host).0, Some(Seq(1)));
    host.written(Seq(1));
    assert_eq!(round(&mut host).1, [Msg::Claim(1), Msg::Claim(1), Msg::Hint(1)]);
}

#[test]
fn durable_mark_rises_with_the_disk() {
    let mut host = started();
    script(&mut host, &[Act::Choose]);
    assert_eq!(host.round(NOW, &mut ()).durable, Some(Slot(1)), "nothing is unwritten");
    script(&mut host, &[Act::Write, Act::Choose]);
    assert_eq!(host.round(NOW, &mut ()).durable, None);
    script(&mut host, &[Act::Choose]);
    assert_eq!(host.round(NOW, &mut ()).durable, None);
    assert_eq!((host.chosen(), host.durable()), (Slot(3), Slot(1)));
    host.written(Seq(1));
    assert_eq!(host.round(NOW, &mut ()).durable, Some(Slot(3)));
    assert_eq!(host.round(NOW, &mut ()).durable, None, "reported once");
}

#[test]
fn slots_chosen_in_a_fatal_step_never_become_durable() {
    let mut host = started();
    assert_eq!(script(&mut host, &[Act::Write, Act::Choose]), None);
    let (first, _) = round(&mut host);
    let fatal = script(&mut host, &[Act::Write, Act::Choose, Act::Contradict]);
    assert!(fatal.is_some());
    assert_eq!(host.round(NOW, &mut ()).durable, None, "its write was dropped");
    host.written(first.unwrap());
    assert_eq!(host.round(NOW, &mut ()).durable, None, "and the node stops");
    assert_eq!(host.durable(), Slot::ZERO);
}

#[test]
fn nothing_leaves_after_a_fatal_error() {
    let cases = [
        (Act::Truncate(Slot(1)), FatalError::TruncatesChosen { from: Slot(1), chosen: Slot(1) }),
        (Act::Contradict, FatalError::Contradicted { slot: Slot(1), by: PEER }),
        (
            Act::Compact(Slot(2)),
            FatalError::CompactsElsewhere { through: Slot(2), base: Slot(0), chosen: Slot(1) },
        ),
        (Act::ChooseLater, FatalError::OutOfOrder { slot: Slot(3), next: Slot(2) }),
    ];
    for (act, fatal) in cases {
        let mut host = started();
        assert_eq!(script(&mut host, &[Act::Choose]), None);
        let acts = [Act::Hint(PEER), Act::Write, act, Act::Claim(PEER)];
        assert_eq!(script(&mut host, &acts), Some(fatal));
        let lent = host.round(NOW, &mut ());
        assert_eq!((lent.seq, lent.writes.len(), lent.sends.len()), (None, 0, 0), "{act:?}");
        assert_eq!((lent.outputs.fatal, lent.outputs.chosen.len()), (Some(fatal), 0));
        assert_eq!(script(&mut host, &[Act::Hint(PEER)]), Some(fatal));
        assert_eq!(host.round(NOW, &mut ()).sends.len(), 0, "{act:?}");
    }
}

#[test]
fn truncating_after_the_chosen_slots_is_allowed() {
    let mut host = started();
    assert_eq!(script(&mut host, &[Act::Choose]), None);
    assert_eq!(script(&mut host, &[Act::Compact(Slot(1))]), None);
    assert_eq!(script(&mut host, &[Act::Truncate(Slot(2))]), None);
}

#[test]
fn snapshot_raises_the_chosen_slot_unless_the_core_rejects_it() {
    let mut host = started();
    let at = |through| Base { through, ..Base::default() };
    assert_eq!(host.input(NOW, Input::Installed { base: at(Slot(7)) }, &mut ()).fatal, None);
    assert_eq!(host.chosen(), Slot(7));
    assert_eq!(script(&mut host, &[Act::Choose]), None, "slot 8");
    assert_eq!(host.input(NOW, Input::Installed { base: at(Slot(3)) }, &mut ()).fatal, None);
    assert_eq!(host.chosen(), Slot(8));
    assert_eq!(script(&mut host, &[Act::Choose]), None, "slot 9");
    let passing =
        FatalError::CompactsElsewhere { through: Slot(20), base: Slot(7), chosen: Slot(9) };
    assert_eq!(script(&mut host, &[Act::Compact(Slot(20))]), Some(passing));
}

#[test]
fn outputs_that_are_not_taken_are_discarded() {
    let mut host = started();
    let propose = Input::Propose { ticket: Ticket(7), command: bytes::Bytes::new() };
    assert_eq!(host.input(NOW, propose.clone(), &mut ()).refused.len(), 1);
    let _ = host.input(NOW, propose, &mut ());
    assert_eq!(host.round(NOW, &mut ()).outputs.refused.len(), 0);
}

#[test]
#[should_panic(expected = "was never handed out")]
fn batch_that_was_not_handed_out_cannot_be_written() {
    started().written(Seq(1));
}

#[test]
fn hosts_that_differ_only_in_the_number_of_durable_batches_are_equal() {
    let (mut one, mut other) = (started(), started());
    script(&mut one, &[Act::Write]);
    assert_eq!(round(&mut one).0, Some(Seq(1)));
    assert_ne!(one, other);
    one.written(Seq(1));
    other.core.writes = 1;
    assert_eq!(one, other);
    for host in [&mut one, &mut other] {
        script(host, &[Act::Write, Act::Claim(PEER)]);
        let _ = host.round(NOW, &mut ());
    }
    assert_eq!((one.newest(), other.newest()), (Seq(2), Seq(1)));
    assert_eq!(one, other);
}

fn act() -> impl Strategy<Value = Act> {
    let to = prop_oneof![Just(ME), Just(PEER)];
    prop_oneof![
        Just(Act::Write),
        to.clone().prop_map(Act::Claim),
        to.prop_map(Act::Hint),
        Just(Act::Choose),
    ]
}

/// Next action of a driver.
#[derive(Clone, Debug)]
enum Step {
    Input(Vec<Act>),
    Round,
    /// Completion of this number of batches by the disk.
    Written(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => prop::collection::vec(act(), 1..4).prop_map(Step::Input),
        3 => Just(Step::Round),
        2 => (1_usize..3).prop_map(Step::Written),
    ];
    prop::collection::vec(step, 1..60)
}

/// Asserts that the writes that back each claim are durable when it is released.
struct Claims {
    durable: u64,
}

impl Observer<Scripted> for Claims {
    fn on_release(&mut self, _: &Scripted, _: NodeId, message: &Msg) {
        if let Msg::Claim(writes) = message {
            assert!(*writes <= self.durable, "{writes} writes claimed, {} durable", self.durable);
        }
    }
}

proptest! {
    #[test]
    fn no_schedule_releases_a_claim_before_its_writes(steps in steps()) {
        let mut host = started();
        let (mut claims, mut disk) = (Claims { durable: 0 }, VecDeque::new());
        // In the end the disk catches up, so that all held messages leave.
        let rest = [Step::Round, Step::Written(usize::MAX), Step::Round];
        for step in steps.into_iter().chain(rest) {
            match step {
                Step::Input(acts) => {
                    let message = Msg::Do(acts);
                    let _ = host.input(NOW, Input::Message { from: PEER, message }, &mut claims);
                }
                Step::Round => {
                    let round = host.round(NOW, &mut claims);
                    disk.extend(round.seq.map(|seq| (seq, round.writes.len() as u64)));
                }
                Step::Written(count) => {
                    for (seq, writes) in disk.drain(..count.min(disk.len())) {
                        claims.durable += writes;
                        host.written(seq);
                    }
                }
            }
        }
        prop_assert!(host.is_idle() && host.held.is_empty() && host.fresh.is_empty());
        prop_assert_eq!(host.durable(), host.chosen());
    }
}
