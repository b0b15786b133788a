//! Messages as text for logs and transcripts, one short line each.

use crate::message::Commit;
use crate::message::{
    Accept, Accepted, CHOSEN, ElectionState, Heartbeat, HeartbeatReply, Known, LAST_SLOT, Learn,
    Learned, Message, Nack, Prepare, Probe, Promise, ReadReply, ReadRequest, ReadRound,
    ReadRoundAck, Report, View,
};
use crate::span::Span;
use alloc::format;
use alloc::string::String;
use synod_types::{Ballot, Slot};

/// Describes a message in one line, in the terms of the paper.
pub(crate) fn message(message: &Message) -> String {
    match message {
        Message::Prepare(Prepare { ballot, from, held }) => {
            format!("Prepare({ballot}, from {from}{})", spans(held, *from))
        }
        Message::Promise(Promise { ballot, report }) => {
            format!("Promise({ballot}, {})", report.describe())
        }
        Message::Nack(Nack { promised, .. }) => format!("Nack(promised {promised})"),
        Message::Accept(Accept { run, commit, .. }) => {
            format!("Accept({}, {}, commit {commit})", run.stamp, slots(run.first, run.last()))
        }
        Message::Accepted(accepted) => accepted.describe(),
        Message::Probe(Probe { ballot, number }) => format!("Probe({ballot}, {number})"),
        Message::Commit(Commit { ballot, commit }) => format!("Commit({ballot}, {commit})"),
        Message::Heartbeat(Heartbeat { view, .. }) => format!("Heartbeat({})", view.describe()),
        Message::HeartbeatReply(HeartbeatReply { view, .. }) => {
            format!("HeartbeatReply({})", view.describe())
        }
        Message::Learn(Learn { from, through, held }) => {
            let upto = match *through {
                LAST_SLOT => String::new(),
                through => format!(" to {through}"),
            };
            format!("Learn(from {from}{upto}{})", spans(held, *from))
        }
        Message::Learned(Learned { run, commit, .. }) => {
            format!("Learned({}, commit {commit})", slots(run.first, run.last()))
        }
        Message::Known(it @ Known { first, commit, .. }) => {
            format!("Known(from {first}{}, commit {commit})", spans(&it.spans, *first))
        }
        Message::ReadRound(ReadRound { ballot, round }) => format!("ReadRound({ballot}, {round})"),
        Message::ReadRoundAck(ReadRoundAck { ballot, round }) => {
            format!("ReadRoundAck({ballot}, {round})")
        }
        // Without the id of the read, which means nothing to a reader of transcripts.
        Message::ReadRequest(ReadRequest { ballot, .. }) => format!("ReadRequest({ballot})"),
        Message::ReadReply(ReadReply { ballot, index, .. }) => {
            format!("ReadReply({ballot}, from {index})")
        }
    }
}

impl Accepted {
    fn describe(&self) -> String {
        let Self { ballot, first, through, probe } = *self;
        let what = if first > through { "none".into() } else { slots(first, through) };
        let answered = match probe {
            0 => String::new(),
            number => format!(", probe {number}"),
        };
        format!("Accepted({ballot}, {what}{answered})")
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
            text += &format!(", beyond{}", spans(&self.held, self.from));
        }
        if self.confirmed >= self.from {
            text += &format!(", confirmed to {}", self.confirmed);
        }
        if !self.is_last {
            text += &format!(", more after {}", self.through);
        }
        text
    }
}

impl View {
    fn describe(&self) -> String {
        let state = match (self.state, self.leader) {
            (ElectionState::Following, Some(leader)) => format!("follows {leader}"),
            (ElectionState::Following, None) => "no leader".into(),
            (ElectionState::PreCampaigning, _) => "pre-campaigns".into(),
            (ElectionState::Campaigning, _) => "campaigns".into(),
            (ElectionState::Leading, _) => "leads".into(),
        };
        let promised = match self.state {
            ElectionState::Following | ElectionState::PreCampaigning => {
                // Shown only if it is not the promise to the followed leader.
                let is_other = self.ballot > self.leader.unwrap_or(Ballot::ZERO);
                if is_other { format!(", promised {}", self.ballot) } else { String::new() }
            }
            ElectionState::Campaigning | ElectionState::Leading => format!(" {}", self.ballot),
        };
        let quorum = if self.has_quorum { ", quorum" } else { "" };
        let live_leader = if self.has_live_leader { ", live leader" } else { "" };
        format!("{state}{promised}{quorum}{live_leader}, commit {}", self.commit)
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

fn spans(spans: &[Span], from: Slot) -> String {
    let (mut text, mut first) = (String::new(), from);
    for span in spans {
        text += &format!(", {} {}", slots(first, span.through), stamp(span.stamp));
        first = span.through.next();
    }
    text
}
