//! What nodes say to each other, and what each saying claims.

use crate::MultiPaxos;
use crate::span::{Span, are_sound, covering};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::min;
use serde::{Deserialize, Serialize};
use synod_consensus::{Gate, HistoryDigest, IgnoreReason, Run, RunLog, Saved};
use synod_types::{Ballot, Lane, NodeId, Slot};

/// No honest slot or round ever gets here: at a million a second it takes 146,000 years. A number
/// beyond is damage or malice, and refusing it keeps every sum in this crate from overflowing.
pub(crate) const HORIZON: u64 = 1 << 62;

/// The last slot that a log may have.
pub(crate) const LAST: Slot = Slot(HORIZON - 1);

/// The stamp of a value that is known to be chosen. It stands above every ballot, so it wins
/// wherever the highest ballot does, and nothing is ever accepted over it. It is no ballot: it is
/// never promised, and a promise is never compared with it.
pub const CHOSEN: Ballot = Ballot::CHOSEN;

/// Accepted slots of one part of an acceptor's log, above its commit index: the body of a Promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// The first slot that this speaks of: what was asked for.
    pub from: Slot,
    /// The last slot that this speaks of. A slot in between that no run covers is chosen, at or
    /// below `commit`; or it is held at or below the stamp that `held` names; or it is empty.
    pub through: Slot,
    /// The asker's stamps that this report was compared with, from `from` on.
    pub held: Vec<Span>,
    /// Slots through here are chosen, with the values that the asker holds under `held`.
    pub confirmed: Slot,
    /// Values with the ballot each was accepted at, or [`CHOSEN`], in order.
    pub runs: Vec<Run<Ballot>>,
    /// Whether nothing stands behind `through` either.
    pub is_last: bool,
    /// Everything up to here is chosen, and to be learnt: a report has no values for it.
    pub commit: Slot,
    /// Everything up to here is chosen, as a leader said whose values the reporter accepted.
    pub told: Slot,
    /// Digest of the reporter's history through `commit`, or through the slot before `from` if that
    /// is earlier.
    pub digest: HistoryDigest,
}

/// What a node does, as it tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stance {
    /// It follows a leader, or waits for one.
    Follows,
    /// It misses a leader and looks whether it should lead.
    Canvasses,
    /// It has sent Prepare, or finishes what it found; nothing of its own is chosen yet.
    Campaigns,
    /// It leads.
    Leads,
}

/// How a node sees the cluster: what heartbeats carry. It binds nobody; elections listen to it so
/// that only a node that can reach a quorum tries, and only when nobody else is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// The ballot that the sender has promised; its own if it campaigns or leads.
    pub ballot: Ballot,
    /// Whom it follows; itself if it leads. It tells people who read a transcript who is taken for
    /// the leader, which a promise does not: a rival that was promised need not lead yet.
    pub leader: Option<Ballot>,
    /// What it does.
    pub stance: Stance,
    /// Whether it hears from enough voters to lead or to go on leading. A follower asks around only
    /// when it misses its leader: as long as it does not, it knows nothing of the others and says
    /// no. Whether its leader has a quorum is what `happy` tells.
    pub quorum: bool,
    /// Whether it leads, or hears from a leader by itself, and that leader has its quorum.
    pub happy: bool,
    /// Everything up to here is chosen.
    pub commit: Slot,
    /// Digest of the sender's history through there.
    pub digest: HistoryDigest,
    /// Who goes first among equals.
    pub priority: u8,
}

/// What nodes say to each other. In Prepare, Accept and Commit the ballot is the sender's own; in
/// Promise, Accepted and Nack it is the receiver's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Phase 1a for every slot from `from` on (PMS 3). Again with a later `from` it asks for the
    /// next part of the report.
    Prepare {
        /// The proposer's ballot, which it has promised itself.
        ballot: Ballot,
        /// The first slot that it wants to hear about.
        from: Slot,
        /// Stamps that it has found from there on: values at or below them are not reported.
        held: Vec<Span>,
    },
    /// Phase 1b: nothing below `ballot` will be accepted any more, and this was.
    Promise {
        /// The ballot that is promised.
        ballot: Ballot,
        /// A part of what was accepted.
        report: Report,
    },
    /// No: a higher ballot was promised.
    Nack {
        /// The ballot that is refused.
        ballot: Ballot,
        /// The one that was promised.
        promised: Ballot,
    },
    /// Phase 2a for consecutive slots; their stamp is the ballot. At least one.
    Accept {
        /// The values.
        run: Run<Ballot>,
        /// Everything up to here is chosen.
        commit: Slot,
        /// Digest of the leader's history through the slot before the run, if all of that is known
        /// to be chosen: always in the first Accept of a reign, hardly ever under load.
        known: Option<HistoryDigest>,
    },
    /// Phase 2b: every slot from `first` through `through` is durably accepted at the ballot.
    Accepted {
        /// The ballot of the Accept.
        ballot: Ballot,
        /// The first slot.
        first: Slot,
        /// The last one; the slot before `first` if there is none.
        through: Slot,
        /// Number of the last probe that was received, or 0: what was sent before it on the same
        /// lane and is not in here was lost.
        probe: u64,
    },
    /// The leader's question what became of its Accepts, sent after them on their lane when they
    /// have not been answered in time. Answered by an Accepted that names its number.
    Probe {
        /// The leader's ballot.
        ballot: Ballot,
        /// Number of the question, from 1 on.
        number: u64,
    },
    /// More is chosen and there is nothing else to say. Not answered.
    Commit {
        /// The leader's ballot.
        ballot: Ballot,
        /// Everything up to here is chosen.
        commit: Slot,
    },
    /// A round of heartbeats: are you there?
    Heartbeat {
        /// Which round of the sender's.
        round: u64,
        /// How the sender sees the cluster.
        view: View,
    },
    /// The answer to a heartbeat. A message of its own, so that it never waits for a disk.
    HeartbeatReply {
        /// Which round is answered.
        round: u64,
        /// How the answerer sees the cluster.
        view: View,
    },
    /// A learner asks for what is chosen from `from` on; anyone may answer.
    Learn {
        /// The first slot that it lacks.
        from: Slot,
        /// The last slot that it asks for: what comes after is on its way from the leader.
        through: Slot,
        /// Stamps of what it holds from `from` on without knowing it to be chosen.
        held: Vec<Span>,
    },
    /// Chosen values. Their stamp says nothing.
    Learned {
        /// The values.
        run: Run<Ballot>,
        /// Everything up to here is chosen and can be asked for.
        commit: Slot,
        /// Digest of the answerer's history through the slot before the run.
        digest: HistoryDigest,
    },
    /// An answer to a learner without values: these slots are chosen, and the answerer holds them
    /// under these stamps.
    Known {
        /// The first slot.
        first: Slot,
        /// The stamps, from `first` on. At least one.
        spans: Vec<Span>,
        /// Everything up to here is chosen and can be asked for.
        commit: Slot,
        /// Digest of the answerer's history through the slot before `first`.
        digest: HistoryDigest,
    },
}

pub(crate) fn is_ballot(ballot: Ballot) -> bool {
    (1..HORIZON).contains(&ballot.round) && ballot.node != NodeId(0)
}

fn is_run(run: &Run<Ballot>) -> bool {
    run.is_sound() && !run.values.is_empty() && run.last().0 < HORIZON
}

impl View {
    fn is_sound(&self, from: NodeId) -> bool {
        let own = matches!(self.stance, Stance::Campaigns | Stance::Leads);
        self.commit.0 < HORIZON
            && (is_ballot(self.ballot) || self.ballot == Ballot::ZERO)
            && (!own || (is_ballot(self.ballot) && self.ballot.node == from))
    }
}

impl Report {
    /// The report of an acceptor that holds nothing from slot `from` on.
    #[must_use]
    pub fn empty(from: Slot) -> Self {
        Self {
            from,
            through: from.prev(),
            held: Vec::new(),
            confirmed: from.prev(),
            runs: Vec::new(),
            is_last: true,
            commit: Slot::ZERO,
            told: Slot::ZERO,
            digest: HistoryDigest::UNKNOWN,
        }
    }

    fn is_sound(&self, ballot: Ballot) -> bool {
        let mut next = self.from;
        for run in &self.runs {
            let known = run.stamp == CHOSEN || (is_ballot(run.stamp) && run.stamp <= ballot);
            if !is_run(run) || run.first < next || !known {
                return false;
            }
            next = run.last().next();
        }
        let is_confirmed = covering(&self.held, self.from, self.confirmed).is_some();
        self.from > Slot::ZERO
            && self.from.prev() <= self.through
            && next.prev() <= self.through
            && self.through.0 < HORIZON
            && self.commit.0 < HORIZON
            && are_sound(&self.held, self.from)
            && (self.confirmed < self.from || (is_confirmed && self.confirmed <= self.commit))
            // A part that brings nothing would be asked for again and again.
            && (self.is_last || self.from <= self.through)
    }

    /// Whether this is what `disk` says.
    fn holds(&self, ballot: Ballot, disk: &RunLog<Ballot>) -> bool {
        let is_there = |run: &Run<Ballot>| {
            (0..run.values.len()).all(|index| {
                let slot = run.first.plus(index);
                let held = disk.get(slot).filter(|(_, value)| *value == run.values.get(index));
                slot <= disk.base()
                    || held.is_some_and(|(stamp, _)| stamp >= run.stamp || run.stamp == CHOSEN)
                    || disk.stamp_at(slot).is_some_and(|stamp| stamp >= ballot)
            })
        };
        let reported =
            |slot: Slot| self.runs.iter().any(|run| (run.first..=run.last()).contains(&slot));
        let omitted = |slot: Slot, stamp: Ballot| {
            slot <= self.commit
                || (slot > self.through && !self.is_last)
                || covering(&self.held, self.from, slot).is_some_and(|span| stamp <= span.stamp)
        };
        // What was accepted at this ballot or above came later than the promise.
        let mut accepted = disk.runs_from(self.from).filter(|run| run.stamp < ballot);
        self.runs.iter().all(is_there)
            && accepted.all(|run| {
                (0..run.values.len())
                    .map(|index| run.first.plus(index))
                    .all(|slot| reported(slot) || omitted(slot, run.stamp))
            })
    }
}

impl Message {
    /// What it states of its sender's history: a digest, and through which slot.
    pub(crate) fn statement(&self) -> Option<(Slot, HistoryDigest)> {
        match self {
            Self::Accept { run, known, .. } => known.map(|digest| (run.first.prev(), digest)),
            Self::Promise { report, .. } => {
                Some((min(report.commit, report.from.prev()), report.digest))
            }
            Self::Heartbeat { view, .. } | Self::HeartbeatReply { view, .. } => {
                Some((view.commit, view.digest))
            }
            Self::Learned { run, digest, .. } => Some((run.first.prev(), *digest)),
            Self::Known { first, digest, .. } => Some((first.prev(), *digest)),
            Self::Prepare { .. }
            | Self::Nack { .. }
            | Self::Accepted { .. }
            | Self::Probe { .. }
            | Self::Commit { .. }
            | Self::Learn { .. } => None,
        }
    }

    /// Why a message is none that a working node `from` sends to `to`.
    pub(crate) fn flaw(&self, from: NodeId, to: NodeId) -> Option<IgnoreReason> {
        const NUMBERS: IgnoreReason = IgnoreReason::OutOfRange;
        let (own, addressed, sound) = match self {
            Self::Prepare { ballot, from, held } => {
                let sound = from.0 < HORIZON && *from > Slot::ZERO && are_sound(held, *from);
                (Some(*ballot), None, sound)
            }
            Self::Promise { ballot, report } => (None, Some(*ballot), report.is_sound(*ballot)),
            Self::Nack { ballot, promised } => {
                (None, Some(*ballot), is_ballot(*promised) && promised > ballot)
            }
            Self::Accept { run, commit, .. } => {
                (Some(run.stamp), None, is_run(run) && commit.0 < HORIZON)
            }
            Self::Accepted { ballot, first, through, .. } => {
                let sound = first.prev() <= *through && through.0 < HORIZON;
                (None, Some(*ballot), sound && *first > Slot::ZERO)
            }
            Self::Probe { ballot, .. } => (Some(*ballot), None, true),
            Self::Commit { ballot, commit } => (Some(*ballot), None, commit.0 < HORIZON),
            Self::Heartbeat { view, .. } | Self::HeartbeatReply { view, .. } => {
                (None, None, view.is_sound(from))
            }
            Self::Learn { from, through, held } => {
                let sound = (Slot(1)..=*through).contains(from) && through.0 < HORIZON;
                (None, None, sound && are_sound(held, *from))
            }
            Self::Learned { run, commit, .. } => (None, None, is_run(run) && run.last() <= *commit),
            Self::Known { first, spans, commit, .. } => {
                let last = spans.last().map_or(Slot(u64::MAX), |span| span.through);
                (None, None, *first > Slot::ZERO && are_sound(spans, *first) && last <= *commit)
            }
        };
        if !sound || !own.into_iter().chain(addressed).all(is_ballot) {
            Some(NUMBERS)
        } else if own.is_some_and(|ballot| ballot.node != from) {
            Some(IgnoreReason::ForeignBallot)
        } else if addressed.is_some_and(|ballot| ballot.node != to) {
            Some(IgnoreReason::OtherAddressee)
        } else {
            None
        }
    }
}

impl synod_consensus::Message<MultiPaxos> for Message {
    fn gate(&self) -> Gate {
        match self {
            // Vows: a crash must not undo them. Prepare is one, too: it says that the proposer has
            // promised its own ballot, and so will never use it twice.
            Self::Prepare { .. } | Self::Promise { .. } | Self::Accepted { .. } => Gate::Durable,
            // Nothing here rests on the sender's disk.
            Self::Nack { .. }
            | Self::Accept { .. }
            | Self::Probe { .. }
            | Self::Commit { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatReply { .. }
            | Self::Learn { .. }
            | Self::Learned { .. }
            | Self::Known { .. } => Gate::Immediate,
        }
    }

    fn lane(&self) -> Lane {
        match self {
            // Acknowledgements and questions are small and must not wait for values.
            Self::Prepare { .. }
            | Self::Nack { .. }
            | Self::Accepted { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatReply { .. }
            | Self::Learn { .. }
            | Self::Known { .. } => Lane::Control,
            Self::Promise { .. }
            | Self::Accept { .. }
            | Self::Probe { .. }
            | Self::Commit { .. }
            | Self::Learned { .. } => Lane::Log,
        }
    }

    fn holds(&self, from: NodeId, to: NodeId, disk: &Saved<MultiPaxos>) -> bool {
        let promised = disk.hard_state.promised;
        match self {
            Self::Prepare { ballot, .. } => *ballot <= promised,
            // To itself a node only says that its vow is durable: its log was never asked.
            Self::Promise { ballot, .. } if from == to => *ballot <= promised,
            Self::Promise { ballot, report } => {
                *ballot <= promised && report.holds(*ballot, &disk.log)
            }
            // Of no slot nothing is said.
            Self::Accepted { first, through, .. } if first > through => true,
            Self::Accepted { ballot, first, through, .. } => {
                let mut next = (*first).max(disk.log.base().next());
                for run in disk.log.runs_from(next) {
                    if run.first != next || run.stamp < *ballot {
                        break;
                    }
                    next = run.last().next();
                }
                *ballot <= promised && next > *through
            }
            Self::Nack { .. }
            | Self::Accept { .. }
            | Self::Probe { .. }
            | Self::Commit { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatReply { .. }
            | Self::Learn { .. }
            | Self::Learned { .. }
            | Self::Known { .. } => true,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Prepare { ballot, from, held } => {
                format!("Prepare({ballot}, from {from}{})", describe(held, *from))
            }
            Self::Promise { ballot, report } => {
                format!("Promise({ballot}, {})", report.describe())
            }
            Self::Nack { promised, .. } => format!("Nack(promised {promised})"),
            Self::Accept { run, commit, .. } => {
                format!("Accept({}, {}, commit {commit})", run.stamp, slots(run.first, run.last()))
            }
            Self::Accepted { ballot, first, through, probe } => {
                let what = match first > through {
                    true => "none".into(),
                    false => slots(*first, *through),
                };
                let answers = match probe {
                    0 => String::new(),
                    number => format!(", probe {number}"),
                };
                format!("Accepted({ballot}, {what}{answers})")
            }
            Self::Probe { ballot, number } => format!("Probe({ballot}, {number})"),
            Self::Commit { ballot, commit } => format!("Commit({ballot}, {commit})"),
            Self::Heartbeat { view, .. } => format!("Heartbeat({})", view.describe()),
            Self::HeartbeatReply { view, .. } => format!("HeartbeatReply({})", view.describe()),
            Self::Learn { from, through, held } => {
                let upto = match *through {
                    LAST => String::new(),
                    through => format!(" to {through}"),
                };
                format!("Learn(from {from}{upto}{})", describe(held, *from))
            }
            Self::Learned { run, commit, .. } => {
                format!("Learned({}, commit {commit})", slots(run.first, run.last()))
            }
            Self::Known { first, spans, commit, .. } => {
                format!("Known(from {first}{}, commit {commit})", describe(spans, *first))
            }
        }
    }
}

impl Report {
    fn describe(&self) -> String {
        let mut text = String::new();
        for run in &self.runs {
            text += &format!("{} {}, ", slots(run.first, run.last()), stamp(run.stamp));
        }
        if self.runs.is_empty() {
            text += "none, ";
        }
        text += &format!("commit {}", self.commit);
        if !self.held.is_empty() {
            text += &format!(", beyond{}", describe(&self.held, self.from));
        }
        if self.confirmed >= self.from {
            text += &format!(", confirmed to {}", self.confirmed);
        }
        if !self.is_last {
            text += &format!(", more behind {}", self.through);
        }
        text
    }
}

impl View {
    fn describe(&self) -> String {
        let stance = match (self.stance, self.leader) {
            (Stance::Follows, Some(leader)) => format!("follows {leader}"),
            (Stance::Follows, None) => "follows nobody".into(),
            (Stance::Canvasses, _) => "canvasses".into(),
            (Stance::Campaigns, _) => "campaigns".into(),
            (Stance::Leads, _) => "leads".into(),
        };
        let promised = match self.stance {
            Stance::Follows | Stance::Canvasses => {
                let is_news = self.ballot > self.leader.unwrap_or(Ballot::ZERO);
                if is_news { format!(", promised {}", self.ballot) } else { String::new() }
            }
            Stance::Campaigns | Stance::Leads => format!(" {}", self.ballot),
        };
        let quorum = if self.quorum { ", quorum" } else { "" };
        let happy = if self.happy { ", happy" } else { "" };
        format!("{stance}{promised}{quorum}{happy}, commit {}", self.commit)
    }
}

fn slots(first: Slot, last: Slot) -> String {
    if first == last { format!("{first}") } else { format!("{first}..{last}") }
}

fn stamp(stamp: Ballot) -> String {
    match stamp {
        CHOSEN => "chosen".into(),
        ballot => format!("at {ballot}"),
    }
}

fn describe(spans: &[Span], from: Slot) -> String {
    let (mut text, mut first) = (String::new(), from);
    for span in spans {
        text += &format!(", {} {}", slots(first, span.through), stamp(span.stamp));
        first = span.through.next();
    }
    text
}
