//! What nodes say to each other, and what each saying claims.

use crate::per_slot::{DECIDED, Kind, PerSlot};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use synod_consensus::{Gate, Saved};
use synod_types::{Ballot, Lane, NodeId, Slot, Value, Values};

/// No honest log or round ever gets here: at a million a second it takes 146,000 years. A number
/// beyond is damage or malice, and refusing it keeps every sum in this crate from overflowing.
pub(crate) const HORIZON: u64 = 1 << 62;

/// What one node has to tell another at the end of a round: a message for each slot that is
/// concerned. On arrival each is taken on its own, as if it had come alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Letter {
    messages: Vec<Message>,
}

impl Letter {
    /// What it says, in order.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What it says, in order, to own.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }

    pub(crate) fn add(&mut self, message: Message) {
        self.messages.push(message);
    }
}

impl FromIterator<Message> for Letter {
    fn from_iter<I: IntoIterator<Item = Message>>(messages: I) -> Self {
        Self { messages: messages.into_iter().collect() }
    }
}

impl From<Message> for Letter {
    fn from(message: Message) -> Self {
        Self { messages: vec![message] }
    }
}

impl<K: Kind> synod_consensus::Message<PerSlot<K>> for Letter {
    fn gate(&self) -> Gate {
        let durable = |message: &Message| message.gate() == Gate::Durable;
        if self.messages.iter().any(durable) { Gate::Durable } else { Gate::Immediate }
    }

    fn lane(&self) -> Lane {
        self.messages.first().map_or(Lane::Control, Message::lane)
    }

    fn holds(&self, _: NodeId, _: NodeId, disk: &Saved<PerSlot<K>>) -> bool {
        self.messages.iter().all(|message| message.holds(disk))
    }

    fn describe(&self) -> String {
        let words: Vec<_> = self.messages.iter().map(Message::describe::<K>).collect();
        words.join(" + ")
    }
}

/// What a node says about one slot, or about its knowledge. `slot` says which decree it is about;
/// `ballot` is always the proposer's. `value` holds exactly one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Phase 1a: promise to grant nothing below this ballot, and say what you voted for.
    Prepare {
        /// Which decree.
        slot: Slot,
        /// The sender's ballot.
        ballot: Ballot,
    },
    /// Phase 1b: promised.
    Promise {
        /// Which decree.
        slot: Slot,
        /// The ballot that was asked for.
        ballot: Ballot,
        /// The sender's last vote and its ballot.
        accepted: Option<(Ballot, Values)>,
    },
    /// Phase 2a: vote for this.
    Accept {
        /// Which decree.
        slot: Slot,
        /// The sender's ballot.
        ballot: Ballot,
        /// What phase 1 allows to be proposed.
        value: Values,
    },
    /// Phase 2b: voted.
    Accepted {
        /// Which decree.
        slot: Slot,
        /// The ballot voted in.
        ballot: Ballot,
    },
    /// Refused: a higher ballot was promised to another proposer.
    Nack {
        /// Which decree.
        slot: Slot,
        /// The ballot that is refused.
        ballot: Ballot,
        /// The one that has to be beaten.
        promised: Ballot,
    },
    /// These values are chosen.
    Decided {
        /// The slot of the first value.
        first: Slot,
        /// The values, one a slot.
        values: Values,
        /// The sender knows all that is chosen up to here.
        through: Slot,
    },
    /// The sender knows nothing of what is chosen from here on. Answered by
    /// [`Message::Decided`] if there is something to tell.
    Ask {
        /// The first slot it lacks.
        from: Slot,
    },
}

impl Message {
    /// Whether this can come from a working node `from` to `me` at all.
    pub(crate) fn is_sound(&self, from: NodeId, me: NodeId) -> bool {
        let round = |ballot: &Ballot| (1..HORIZON).contains(&ballot.round);
        let place = |slot: &Slot| (1..HORIZON).contains(&slot.0);
        match self {
            Self::Prepare { slot, ballot } => place(slot) && round(ballot) && ballot.node == from,
            Self::Accept { slot, ballot, value } => {
                place(slot) && round(ballot) && ballot.node == from && value.len() == 1
            }
            Self::Promise { slot, ballot, accepted } => {
                let sound = |vote: &(Ballot, Values)| {
                    round(&vote.0) && vote.0 <= *ballot && vote.1.len() == 1
                };
                place(slot)
                    && round(ballot)
                    && ballot.node == me
                    && accepted.as_ref().is_none_or(sound)
            }
            Self::Accepted { slot, ballot } => place(slot) && round(ballot) && ballot.node == me,
            Self::Nack { slot, ballot, promised } => {
                place(slot) && round(promised) && ballot.node == me && promised > ballot
            }
            Self::Decided { first, values, through } => {
                place(first) && !values.is_empty() && through.0 < HORIZON
            }
            Self::Ask { from } => place(from),
        }
    }
}

impl Message {
    /// Whether it must wait for the disk.
    #[must_use]
    pub fn gate(&self) -> Gate {
        match self {
            // Vows: a crash must not undo them. A Prepare is one, too: it says that its ballot is
            // used, which the sender's own promise remembers.
            Self::Prepare { .. } | Self::Promise { .. } | Self::Accepted { .. } => Gate::Durable,
            // Accept rests on promises that were durable when they came. A nack names a promise
            // that may be forgotten: then it did nothing but delay. What is chosen is so on a
            // majority of disks, whatever becomes of the sender's.
            Self::Accept { .. } | Self::Nack { .. } | Self::Decided { .. } | Self::Ask { .. } => {
                Gate::Immediate
            }
        }
    }

    fn lane(&self) -> Lane {
        match self {
            Self::Prepare { .. }
            | Self::Promise { .. }
            | Self::Accept { .. }
            | Self::Accepted { .. }
            | Self::Nack { .. }
            | Self::Decided { .. } => Lane::Log,
            Self::Ask { .. } => Lane::Control,
        }
    }

    /// Whether both may travel in one letter.
    pub(crate) fn travels_like(&self, other: &Self) -> bool {
        (self.gate(), self.lane()) == (other.gate(), other.lane())
    }

    /// About its length in bytes.
    pub(crate) fn size(&self) -> usize {
        let values = match self {
            Self::Accept { value, .. } => value.byte_len(),
            Self::Decided { values, .. } => values.byte_len(),
            Self::Promise { accepted, .. } => {
                accepted.as_ref().map_or(0, |(_, value)| value.byte_len())
            }
            Self::Prepare { .. } | Self::Accepted { .. } | Self::Nack { .. } | Self::Ask { .. } => {
                0
            }
        };
        values + 32
    }

    /// Whether its claim is on its sender's disk.
    fn holds<K: Kind>(&self, disk: &Saved<PerSlot<K>>) -> bool {
        let hard_state = &disk.hard_state;
        let settled = |slot: Slot| slot <= hard_state.chosen() || slot <= disk.base.through;
        let vote = |slot: Slot| disk.log.get(slot);
        match self {
            Self::Prepare { slot, ballot } => {
                settled(*slot) || hard_state.promised(*slot) >= *ballot
            }
            Self::Promise { slot, ballot, accepted } => {
                let told = || match (vote(*slot), accepted) {
                    (None, None) => true,
                    // It voted in this ballot, or above it, since it promised.
                    (Some((stamp, _)), _) if stamp >= *ballot => true,
                    (Some((stamp, held)), Some((told, value))) => {
                        stamp == *told && value.iter().next().is_some_and(|value| value == held)
                    }
                    (None, Some(_)) | (Some(_), None) => false,
                };
                settled(*slot) || (hard_state.promised(*slot) >= *ballot && told())
            }
            Self::Accepted { slot, ballot } => {
                let voted = |(stamp, _): (Ballot, _)| stamp >= *ballot;
                settled(*slot)
                    || (hard_state.promised(*slot) >= *ballot && vote(*slot).is_some_and(voted))
            }
            Self::Accept { .. } | Self::Nack { .. } | Self::Decided { .. } | Self::Ask { .. } => {
                true
            }
        }
    }

    fn describe<K: Kind>(&self) -> String {
        // With one decree only, it needs no name: the lines read as in the papers.
        let at = |slot: &Slot| if K::SLOTS == 1 { String::new() } else { format!("{slot:?}, ") };
        match self {
            Self::Prepare { slot, ballot } => format!("Prepare({}{ballot})", at(slot)),
            Self::Promise { slot, ballot, accepted: None } => {
                format!("Promise({}{ballot}, none)", at(slot))
            }
            Self::Promise { slot, ballot, accepted: Some((voted, value)) } => {
                format!("Promise({}{ballot}, {} of {voted})", at(slot), brief(value))
            }
            Self::Accept { slot, ballot, value } => {
                format!("Accept({}{ballot}, {})", at(slot), brief(value))
            }
            Self::Accepted { slot, ballot } => format!("Accepted({}{ballot})", at(slot)),
            Self::Nack { slot, promised, .. } => format!("Nack({}promised {promised})", at(slot)),
            Self::Decided { first, values, .. } if values.len() == 1 => {
                format!("Decided({}{})", at(first), brief(values))
            }
            Self::Decided { first, values, .. } => {
                let last = first.plus(values.len()).prev();
                format!("Decided({first:?}..{last:?})")
            }
            Self::Ask { from } => format!("Ask(from {from:?})"),
        }
    }
}

/// A value in a word: a protocol does not know what its commands mean, so it shows how they end.
fn brief(value: &Values) -> String {
    match value.iter().next().map(|value| value.to_value()) {
        Some(Value::Command(bytes)) => {
            let tail = &bytes[bytes.len().saturating_sub(8)..];
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

/// Whether a stamp can stand on a working node's disk. Its own ballots may pass the horizon, if
/// someone made it believe that others were there.
pub(crate) fn is_stamp(stamp: Ballot) -> bool {
    stamp == DECIDED || (1..2 * HORIZON).contains(&stamp.round)
}
