//! Messages as text, one short line each: for logs and transcripts.

use crate::message::Commit;
use crate::message::{
    Accept, Accepted, CHOSEN, Heartbeat, HeartbeatReply, Known, LAST, Learn, Learned, Message,
    Nack, Prepare, Probe, Promise, Report, Stance, View,
};
use crate::span::Span;
use alloc::format;
use alloc::string::String;
use synod_types::{Ballot, Slot};

/// Returns a message in one line, as the paper writes it.
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
                LAST => String::new(),
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
    }
}

impl Accepted {
    fn describe(&self) -> String {
        let Self { ballot, first, through, probe } = *self;
        let what = if first > through { "none".into() } else { slots(first, through) };
        let answers = match probe {
            0 => String::new(),
            number => format!(", probe {number}"),
        };
        format!("Accepted({ballot}, {what}{answers})")
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

fn spans(spans: &[Span], from: Slot) -> String {
    let (mut text, mut first) = (String::new(), from);
    for span in spans {
        text += &format!(", {} {}", slots(first, span.through), stamp(span.stamp));
        first = span.through.next();
    }
    text
}
