//! Messages, and the claims that they make.

use crate::hard_state::HardState;
use alloc::format;
use alloc::string::String;
use serde::{Deserialize, Serialize};
use synod_consensus::{Gate, IgnoreReason, Protocol, Saved};
use synod_types::{Ballot, Lane, NodeId, Slot, Value, Values};

/// Bound of valid slots and rounds: at a million a second they reach it in 146,000 years. Rejecting higher
/// numbers, which are damaged or malicious, keeps all sums in this crate from overflowing.
pub(crate) const HORIZON: u64 = 1 << 62;

/// Stamp of a value that this node learnt as chosen without having voted for it. It is above every
/// ballot, because no vote replaces a chosen value.
pub(crate) const CHOSEN: Ballot = Ballot::CHOSEN;

/// Phase 1a: request to promise this ballot and to report the last vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prepare {
    /// Slot of the decree.
    pub slot: Slot,
    /// The sender's ballot.
    pub ballot: Ballot,
}

/// Phase 1b: the promise to accept nothing below a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// Slot of the decree.
    pub slot: Slot,
    /// The promised ballot.
    pub ballot: Ballot,
    /// The sender's last vote and its ballot.
    pub accepted: Option<(Ballot, Values)>,
}

/// Phase 2a: request to vote for a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accept {
    /// Slot of the decree.
    pub slot: Slot,
    /// The sender's ballot.
    pub ballot: Ballot,
    /// The value that phase 1 allows to be proposed.
    pub value: Values,
}

/// Phase 2b: a vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accepted {
    /// Slot of the decree.
    pub slot: Slot,
    /// The ballot of the vote.
    pub ballot: Ballot,
}

/// Rejection: the sender has promised a higher ballot to another proposer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nack {
    /// Slot of the decree.
    pub slot: Slot,
    /// The rejected ballot.
    pub ballot: Ballot,
    /// The promised one.
    pub promised: Ballot,
}

/// Chosen values of consecutive slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Learned {
    /// Slot of the first value.
    pub first: Slot,
    /// The values, one a slot.
    pub values: Values,
    /// Slot through which the sender knows all chosen values.
    pub through: Slot,
}

/// Request for the values that are chosen from a slot on, answered by [`Learned`] if there are any.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Learn {
    /// First slot that the sender lacks.
    pub from: Slot,
}

/// Notice that the value of a ballot is chosen, for nodes that were sent the value with [`Accept`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chosen {
    /// Slot of the decree.
    pub slot: Slot,
    /// The sender's ballot.
    pub ballot: Ballot,
    /// Slot through which the sender knows all chosen values.
    pub through: Slot,
}

/// Message about one decree, or about chosen values. Ballots are always the proposer's. The order of
/// the variants is part of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Phase 1a.
    Prepare(Prepare),
    /// Phase 1b.
    Promise(Promise),
    /// Phase 2a. `value` holds exactly one value.
    Accept(Accept),
    /// Phase 2b.
    Accepted(Accepted),
    /// Rejection of phase 1a or 2a.
    Nack(Nack),
    /// Chosen values.
    Learned(Learned),
    /// Request for chosen values.
    Learn(Learn),
    /// Notice that a value is chosen.
    Chosen(Chosen),
}

impl Message {
    /// Checks whether a correct node `from` can have sent this to `me`.
    pub(crate) fn validate(&self, from: NodeId, me: NodeId) -> Result<(), IgnoreReason> {
        let is_round = |ballot: &Ballot| (1..HORIZON).contains(&ballot.round);
        let is_slot = |slot: Slot| (1..HORIZON).contains(&slot.0);
        let is_theirs = |ballot: &Ballot| is_round(ballot) && ballot.node == from;
        let is_mine = |ballot: &Ballot| is_round(ballot) && ballot.node == me;
        let is_sound = match self {
            Self::Prepare(it) => is_slot(it.slot) && is_theirs(&it.ballot),
            Self::Accept(it) => is_slot(it.slot) && is_theirs(&it.ballot) && it.value.len() == 1,
            Self::Promise(it) => {
                // P2c counts votes below the ballot; at the ballot itself: a Promise sent again after
                // the vote.
                let is_vote = |(voted, value): &(Ballot, Values)| {
                    is_round(voted) && *voted <= it.ballot && value.len() == 1
                };
                is_slot(it.slot) && is_mine(&it.ballot) && it.accepted.as_ref().is_none_or(is_vote)
            }
            Self::Accepted(it) => is_slot(it.slot) && is_mine(&it.ballot),
            // The rejected ballot may have any round: only the promise is used, and it must be higher.
            Self::Nack(it) => {
                let is_above = is_round(&it.promised) && it.promised > it.ballot;
                is_slot(it.slot) && it.ballot.node == me && is_above
            }
            Self::Learned(it) => {
                is_slot(it.first) && !it.values.is_empty() && it.through.0 < HORIZON
            }
            Self::Learn(it) => is_slot(it.from),
            Self::Chosen(it) => is_slot(it.slot) && is_theirs(&it.ballot) && it.through.0 < HORIZON,
        };
        if is_sound { Ok(()) } else { Err(IgnoreReason::OutOfRange) }
    }

    /// Returns the gate: whether it must wait for the disk.
    #[must_use]
    pub fn gate(&self) -> Gate {
        match self {
            // A crash must not undo these. Promise and Accepted: PMS §2.5, stable storage before the
            // response. Prepare: the sender's own promise records that its ballot is used.
            Self::Prepare(_) | Self::Promise(_) | Self::Accepted(_) => Gate::Durable,
            // Accept relies on promises that were durable when they were sent. A crash may undo the
            // promise that a Nack names: then the Nack only caused a delay. Chosen values are on a
            // quorum of disks, even if not on the sender's.
            Self::Accept(_)
            | Self::Nack(_)
            | Self::Learned(_)
            | Self::Learn(_)
            | Self::Chosen(_) => Gate::Immediate,
        }
    }

    pub(crate) fn lane(&self) -> Lane {
        match self {
            // Values take the log's lane, and so does the notice, which must not overtake its value: a
            // node without the value would have to request it.
            Self::Promise(Promise { accepted: Some(_), .. })
            | Self::Accept(_)
            | Self::Learned(_)
            | Self::Chosen(_) => Lane::Log,
            // Short messages that peers wait for: values must not delay them.
            Self::Prepare(_)
            | Self::Promise(Promise { accepted: None, .. })
            | Self::Accepted(_)
            | Self::Nack(_)
            | Self::Learn(_) => Lane::Control,
        }
    }

    /// Returns whether both may travel in one batch.
    pub(crate) fn travels_like(&self, other: &Self) -> bool {
        (self.gate(), self.lane()) == (other.gate(), other.lane())
    }

    /// Returns its approximate length in bytes.
    pub(crate) fn size(&self) -> usize {
        let values = match self {
            Self::Accept(it) => it.value.byte_len(),
            Self::Learned(it) => it.values.byte_len(),
            Self::Promise(it) => it.accepted.as_ref().map_or(0, |(_, value)| value.byte_len()),
            Self::Prepare(_)
            | Self::Accepted(_)
            | Self::Nack(_)
            | Self::Learn(_)
            | Self::Chosen(_) => 0,
        };
        values + 32
    }

    /// Returns whether `disk` backs this message's claim.
    pub(crate) fn holds<P>(&self, disk: &Saved<P>) -> bool
    where
        P: Protocol<HardState = HardState, Stamp = Ballot>,
    {
        // A request for a chosen slot is answered with its value, so its promise does not matter.
        let is_chosen = |slot: Slot| slot <= disk.hard_state.chosen() || slot <= disk.base.through;
        let is_promised = |slot: Slot, ballot: Ballot| disk.hard_state.promised(slot) >= ballot;
        match self {
            Self::Prepare(it) => is_chosen(it.slot) || is_promised(it.slot, it.ballot),
            Self::Promise(it) => {
                let is_reported = || match (disk.log.get(it.slot), &it.accepted) {
                    (None, None) => true,
                    // A vote at this ballot or above came after the promise, and does not contradict it.
                    (Some((stamp, _)), _) if stamp >= it.ballot => true,
                    (Some((stamp, held)), Some((voted, value))) => {
                        stamp == *voted && value.iter().next().is_some_and(|value| value == held)
                    }
                    (None, Some(_)) | (Some(_), None) => false,
                };
                is_chosen(it.slot) || (is_promised(it.slot, it.ballot) && is_reported())
            }
            Self::Accepted(it) => {
                let has_voted = disk.log.get(it.slot).is_some_and(|(stamp, _)| stamp >= it.ballot);
                is_chosen(it.slot) || (is_promised(it.slot, it.ballot) && has_voted)
            }
            Self::Accept(_)
            | Self::Nack(_)
            | Self::Learned(_)
            | Self::Learn(_)
            | Self::Chosen(_) => true,
        }
    }

    /// Describes it in the terms of the paper. Leaves out the slot of a single decree.
    pub(crate) fn describe(&self, is_single: bool) -> String {
        let at = |slot: Slot| if is_single { String::new() } else { format!("{slot:?}, ") };
        match self {
            Self::Prepare(it) => format!("Prepare({}{})", at(it.slot), it.ballot),
            Self::Promise(Promise { slot, ballot, accepted: None }) => {
                format!("Promise({}{ballot}, none)", at(*slot))
            }
            Self::Promise(Promise { slot, ballot, accepted: Some((voted, value)) }) => {
                format!("Promise({}{ballot}, {} of {voted})", at(*slot), brief(value))
            }
            Self::Accept(it) => {
                format!("Accept({}{}, {})", at(it.slot), it.ballot, brief(&it.value))
            }
            Self::Accepted(it) => format!("Accepted({}{})", at(it.slot), it.ballot),
            Self::Nack(it) => format!("Nack({}promised {})", at(it.slot), it.promised),
            Self::Learned(it) if it.values.len() == 1 => {
                format!("Learned({}{})", at(it.first), brief(&it.values))
            }
            Self::Learned(Learned { first, values, .. }) => {
                let last = first.plus(values.len()).prev();
                format!("Learned({first:?}..{last:?})")
            }
            Self::Learn(it) => format!("Learn(from {:?})", it.from),
            Self::Chosen(it) => format!("Chosen({}{})", at(it.slot), it.ballot),
        }
    }
}

/// Describes a value in a word. Commands are opaque to a protocol, so it shows the last word of text in
/// them.
fn brief(value: &Values) -> String {
    match value.iter().next().map(|value| value.to_value()) {
        Some(Value::Command(bytes)) => {
            // The last 8 bytes of text: the driver's header comes first, and traces stay narrow.
            let end = bytes.iter().rposition(u8::is_ascii_graphic).map_or(0, |last| last + 1);
            let tail = &bytes[end.saturating_sub(8)..end];
            let start = tail.iter().rposition(|byte| !byte.is_ascii_graphic());
            let word = &tail[start.map_or(0, |at| at + 1)..];
            format!("\"{}\"", word.escape_ascii())
        }
        Some(Value::Noop) => "no-op".into(),
        Some(Value::Members(_)) => "members".into(),
        Some(Value::Stop(_)) => "stop".into(),
        None => "nothing".into(),
    }
}

/// Returns whether a correct node's disk may hold a stamp. Its own ballots may exceed `HORIZON`, after
/// a Nack with a round just below it.
pub(crate) fn is_stamp(stamp: Ballot) -> bool {
    stamp == CHOSEN || (1..2 * HORIZON).contains(&stamp.round)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Many, MessageBatch, PaxosLog};
    use alloc::vec;
    use alloc::vec::Vec;
    use synod_consensus::{Base, Run, RunLog};

    const ME: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);
    const S1: Slot = Slot(1);
    /// First number out of range.
    const END: u64 = 1 << 62;

    fn b(round: u64, node: NodeId) -> Ballot {
        Ballot { round, node }
    }

    fn value(text: &str) -> Values {
        Values::command_only(text.as_bytes())
    }

    fn promise(ballot: Ballot, accepted: Option<(Ballot, Values)>) -> Message {
        Message::Promise(Promise { slot: Slot(5), ballot, accepted })
    }

    /// Every message about slot `slot` in round `round`, as a correct peer sends it.
    fn all(slot: u64, round: u64) -> Vec<Message> {
        let (slot, theirs, mine) = (Slot(slot), b(round, PEER), b(round, ME));
        vec![
            Message::Prepare(Prepare { slot, ballot: theirs }),
            Message::Accept(Accept { slot, ballot: theirs, value: value("x") }),
            Message::Promise(Promise { slot, ballot: mine, accepted: None }),
            Message::Accepted(Accepted { slot, ballot: mine }),
            Message::Nack(Nack { slot, ballot: b(0, ME), promised: theirs }),
            Message::Chosen(Chosen { slot, ballot: theirs, through: S1 }),
        ]
    }

    #[test]
    fn slots_and_rounds_from_one_to_the_horizon_are_valid() {
        let cases = [(1, 1, true), (END - 1, 1, true), (1, END - 1, true)];
        let bad = [(0, 1, false), (END, 1, false), (1, 0, false), (1, END, false)];
        for (slot, round, expected) in cases.into_iter().chain(bad) {
            for message in all(slot, round) {
                assert_eq!(message.validate(PEER, ME).is_ok(), expected, "{message:?}");
            }
        }
        for (slot, expected) in [(0, false), (1, true), (END - 1, true), (END, false)] {
            let slot = Slot(slot);
            assert_eq!(
                Message::Learn(Learn { from: slot }).validate(PEER, ME).is_ok(),
                expected,
                "{slot:?}"
            );
            let learned =
                Message::Learned(Learned { first: slot, values: value("x"), through: S1 });
            assert_eq!(learned.validate(PEER, ME).is_ok(), expected, "{slot:?}");
            let learned =
                Message::Learned(Learned { first: S1, values: value("x"), through: slot });
            assert_eq!(learned.validate(PEER, ME).is_ok(), slot.0 < END, "{slot:?}");
            let notice = Message::Chosen(Chosen { slot: S1, ballot: b(1, PEER), through: slot });
            assert_eq!(notice.validate(PEER, ME).is_ok(), slot.0 < END, "{slot:?}");
        }
    }

    #[test]
    fn ballot_names_its_proposer() {
        for message in all(1, 1) {
            let own =
                matches!(message, Message::Prepare(_) | Message::Accept(_) | Message::Chosen(_));
            let (from, me) = if own { (NodeId(3), ME) } else { (PEER, NodeId(3)) };
            assert!(message.validate(from, me).is_err(), "{message:?} from {from} to {me}");
        }
    }

    #[test]
    fn number_of_values_is_validated() {
        let two: Values = [Value::Noop, Value::Noop].into_iter().collect();
        for wrong in [Values::default(), two.clone()] {
            let accept =
                Message::Accept(Accept { slot: S1, ballot: b(1, PEER), value: wrong.clone() });
            assert!(accept.validate(PEER, ME).is_err(), "{accept:?}");
            let promise = promise(b(2, ME), Some((b(1, PEER), wrong)));
            assert!(promise.validate(PEER, ME).is_err(), "{promise:?}");
        }
        let learned = |values| Message::Learned(Learned { first: S1, values, through: Slot(0) });
        assert!(learned(two).validate(PEER, ME).is_ok());
        assert!(learned(Values::default()).validate(PEER, ME).is_err());
    }

    #[test]
    fn promise_reports_no_vote_above_its_ballot() {
        for (round, expected) in [(0, false), (1, true), (3, true), (4, false)] {
            let message = promise(b(3, ME), Some((b(round, ME), value("x"))));
            assert_eq!(message.validate(PEER, ME).is_ok(), expected, "{message:?}");
        }
        let nack = |ballot, promised| Message::Nack(Nack { slot: S1, ballot, promised });
        assert!(nack(b(2, ME), b(2, PEER)).validate(PEER, ME).is_ok());
        assert!(
            nack(b(2, ME), b(2, ME)).validate(PEER, ME).is_err(),
            "a promise of the rejected ballot itself"
        );
        assert!(
            nack(b(2, ME), b(1, PEER)).validate(PEER, ME).is_err(),
            "a promise of a lower ballot"
        );
    }

    #[test]
    fn stamp_is_a_ballot_or_marks_a_chosen_value() {
        for (round, expected) in [(0, false), (1, true), (2 * END - 1, true), (2 * END, false)] {
            assert_eq!(is_stamp(b(round, ME)), expected, "round {round}");
        }
        assert!(is_stamp(CHOSEN));
    }

    /// Disk with promise 3.1 for slots 5 and 6 and a vote at 2.1 for "x" in slot 5. Slots through 4 are
    /// chosen, and a snapshot covers slots 1 and 2.
    fn disk() -> Saved<PaxosLog<Many>> {
        let mut log = RunLog::new(Slot(2), b(1, ME));
        for (slot, text) in [(3, "c"), (4, "d"), (5, "x")] {
            log.put(Run { first: Slot(slot), stamp: b(2, ME), values: value(text) });
        }
        let promises = [(Slot(5), b(3, ME)), (Slot(6), b(3, ME))];
        let base = Base { through: Slot(2), stamp: b(1, ME), members: None };
        Saved { hard_state: HardState::new(Slot(4), promises), base, log, applied: Slot::ZERO }
    }

    #[test]
    fn prepare_claims_that_its_ballot_is_used() {
        let cases = [(5, 3, true), (5, 2, true), (5, 4, false), (7, 1, false), (4, 9, true)];
        for (slot, round, expected) in cases {
            let message = Message::Prepare(Prepare { slot: Slot(slot), ballot: b(round, ME) });
            assert_eq!(message.holds(&disk()), expected, "{message:?}");
        }
    }

    #[test]
    fn promise_claims_what_is_promised_and_voted_for() {
        let vote = |round, text| Some((b(round, ME), value(text)));
        let cases = [
            (5, 3, vote(2, "x"), true),
            (5, 4, vote(2, "x"), false),
            (5, 3, vote(1, "x"), false),
            (5, 3, vote(2, "y"), false),
            (5, 3, None, false),
            // A vote after the promise does not contradict it.
            (5, 2, None, true),
            (5, 2, vote(1, "z"), true),
            (6, 3, None, true),
            (6, 3, vote(2, "x"), false),
            (6, 4, None, false),
            (4, 9, None, true),
            (1, 9, None, true),
        ];
        for (slot, round, accepted, expected) in cases {
            let message =
                Message::Promise(Promise { slot: Slot(slot), ballot: b(round, ME), accepted });
            assert_eq!(message.holds(&disk()), expected, "{message:?}");
        }
    }

    #[test]
    fn vote_claims_to_be_on_disk() {
        let cases = [(5, 2, true), (5, 1, true), (5, 3, false), (6, 2, false), (3, 9, true)];
        for (slot, round, expected) in cases {
            let message = Message::Accepted(Accepted { slot: Slot(slot), ballot: b(round, ME) });
            assert_eq!(message.holds(&disk()), expected, "{message:?}");
        }
        let mut disk = disk();
        disk.hard_state = HardState::new(Slot(4), []);
        let vote = Message::Accepted(Accepted { slot: Slot(5), ballot: b(2, ME) });
        assert!(!vote.holds(&disk), "a vote without its promise");
        let mut installed = self::disk();
        installed.base.through = Slot(9);
        assert!(Message::Accepted(Accepted { slot: Slot(9), ballot: b(9, ME) }).holds(&installed));
    }

    #[test]
    fn batch_waits_for_the_disk_if_any_message_does() {
        let learn = Message::Learn(Learn { from: S1 });
        let prepare = Message::Prepare(Prepare { slot: S1, ballot: b(1, PEER) });
        fn of(messages: &[&Message]) -> (Gate, Lane, bool) {
            use synod_consensus::Message as Sent;
            let batch: MessageBatch = messages.iter().map(|message| (*message).clone()).collect();
            let holds = Sent::<PaxosLog<Many>>::holds(&batch, PEER, ME, &disk());
            (Sent::<PaxosLog<Many>>::gate(&batch), Sent::<PaxosLog<Many>>::lane(&batch), holds)
        }
        assert_eq!(of(&[&learn]), (Gate::Immediate, Lane::Control, true));
        assert_eq!(of(&[&learn, &prepare]), (Gate::Durable, Lane::Control, true));
        assert_eq!(of(&[]), (Gate::Immediate, Lane::Control, true));
        let untrue = Message::Prepare(Prepare { slot: Slot(7), ballot: b(1, PEER) });
        assert_eq!(of(&[&prepare, &untrue]), (Gate::Durable, Lane::Control, false));
        let gates: Vec<_> = all(1, 1).iter().map(Message::gate).collect();
        let [durable, immediate] = [Gate::Durable, Gate::Immediate];
        assert_eq!(gates, [durable, immediate, durable, durable, immediate, immediate]);
    }

    #[test]
    fn values_travel_on_the_log_lane_and_do_not_delay_short_messages() {
        let lanes: Vec<_> = all(1, 1).iter().map(Message::lane).collect();
        let [log, control] = [Lane::Log, Lane::Control];
        assert_eq!(lanes, [control, log, control, control, control, log]);
        assert_eq!(promise(b(2, ME), Some((b(1, ME), value("x")))).lane(), log);
        let learned = Message::Learned(Learned { first: S1, values: value("x"), through: S1 });
        assert_eq!(learned.lane(), log, "values, and notices after them");
    }

    #[test]
    fn value_is_described_in_a_word() {
        let members = || synod_types::Membership::new([ME], []).unwrap();
        let cases = [
            (Value::Command(b"a longer text"[..].into()), "\"text\""),
            (Value::Command(b"unbroken-word"[..].into()), "\"ken-word\""),
            (Value::Command(b"key\x05value\0\0"[..].into()), "\"value\""),
            (Value::Command(b""[..].into()), "\"\""),
            (Value::Noop, "no-op"),
            (Value::Members(members()), "members"),
            (Value::Stop(members()), "stop"),
        ];
        for (value, expected) in cases {
            assert_eq!(brief(&[value].into_iter().collect()), expected);
        }
        assert_eq!(brief(&Values::default()), "nothing");
        let values = [Value::Noop, Value::Noop, Value::Noop].into_iter().collect();
        let learned = Message::Learned(Learned { first: Slot(3), values, through: Slot(9) });
        assert_eq!(learned.describe(false), "Learned(s3..s5)");
    }
}
