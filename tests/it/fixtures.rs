//! The bytes of everything that travels or is stored. They may change until the first release, but
//! never by accident: `SYNOD_REWRITE=1 cargo test -p synod-tests fixtures` writes them anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use synod_consensus::{Base, Run, Write};
use synod_raft::{HardState, Message, Position, Raft};
use synod_replica::{
    Body, Envelope, Payload, Request, RequestSeq, Session, decode_frame, encode_frame, encode_write,
};
use synod_storage::LogOp;
use synod_types::{
    ClusterId, Epoch, GroupId, Incarnation, Membership, NodeId, Slot, Term, Value, Values,
};

const REWRITE: &str = "SYNOD_REWRITE";

/// Compares the lines with the file of that name, or writes it.
#[track_caller]
fn check(file: &str, lines: &[(String, Vec<u8>)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(file);
    let mut text = String::new();
    for (name, bytes) in lines {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{name}: {hex}").expect("a string takes it");
    }
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, &text).expect("the fixture can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{} differs: if that is meant, set {REWRITE}=1", path.display());
}

fn values() -> Values {
    let members = Membership::new([NodeId(1), NodeId(2)], [NodeId(3)]).expect("a group");
    let command = Value::Command(b"set x".to_vec().into());
    [Value::Noop, command, Value::Members(members.clone()), Value::Stop(members)]
        .into_iter()
        .collect()
}

fn messages() -> Vec<Message> {
    let (term, at) = (Term(300), |term, slot| Position { term: Term(term), slot: Slot(slot) });
    let run = Run { first: Slot(128), stamp: Term(299), values: values() };
    vec![
        Message::PreVote { asked: term, last: at(299, 127) },
        Message::PreVoteReply { term, asked: term, granted: true },
        Message::RequestVote { term, last: at(299, 127) },
        Message::Vote { term, granted: true },
        Message::Append { term, prev: at(298, 127), run, commit: Slot(126) },
        Message::AppendAck { term, matched: Slot(131) },
        Message::AppendConflict { term, at: Slot(127), hint: at(5, 100) },
        Message::Heartbeat { term, prev: at(299, 131), ask: true, commit: Slot(131) },
        Message::HeartbeatAck { term },
        Message::Commit { term, commit: Slot(131) },
    ]
}

/// No `_` arm: a new message does not compile until it has a name, and so a fixture.
fn name(message: &Message) -> &'static str {
    match message {
        Message::PreVote { .. } => "PreVote",
        Message::PreVoteReply { .. } => "PreVoteReply",
        Message::RequestVote { .. } => "RequestVote",
        Message::Vote { .. } => "Vote",
        Message::Append { .. } => "Append",
        Message::AppendAck { .. } => "AppendAck",
        Message::AppendConflict { .. } => "AppendConflict",
        Message::Heartbeat { .. } => "Heartbeat",
        Message::HeartbeatAck { .. } => "HeartbeatAck",
        Message::Commit { .. } => "Commit",
    }
}
const MESSAGES: usize = 10;

#[test]
fn raft_frames() {
    let envelope = Envelope {
        cluster: ClusterId(7),
        group: GroupId(1),
        epoch: Epoch(2),
        from: NodeId(3),
        incarnation: Incarnation(0x0123_4567_89ab_cdef),
    };
    let mut lines = Vec::new();
    for message in messages() {
        let (name, payload) = (name(&message).to_owned(), Payload::Protocol(message));
        let frame = encode_frame(&envelope, &payload);
        assert_eq!(decode_frame(&frame), Ok((envelope, payload)));
        lines.push((name, frame.to_vec()));
    }
    let names: BTreeSet<_> = lines.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), MESSAGES, "every message has a fixture");
    check("raft-frames.txt", &lines);
}

#[test]
fn raft_records() {
    let members = Membership::new([NodeId(1)], []).expect("a group");
    let hard_state = HardState { term: Term(300), vote: Some(NodeId(2)) };
    let base = Base { through: Slot(9), stamp: Term(4), members: Some(members) };
    let writes: [Write<Raft>; 3] = [
        Write::HardState(hard_state),
        Write::Put(Run { first: Slot(128), stamp: Term(299), values: values() }),
        Write::Compact(base),
    ];
    let lines: Vec<_> = writes
        .iter()
        .map(|write| match encode_write(write) {
            LogOp::HardState(bytes) => ("hard state".to_owned(), bytes.to_vec()),
            LogOp::Put(run) => {
                let parts = [&run.stamp[..], &run.values.as_buffer()].concat();
                ("stamp and values of a run".to_owned(), parts)
            }
            LogOp::TruncateFrom(_) => unreachable!("none is among the samples"),
            LogOp::Compact { base, .. } => ("base".to_owned(), base.to_vec()),
        })
        .collect();
    check("raft-records.txt", &lines);
}

#[test]
fn requests() {
    let session = Session { node: NodeId(3), incarnation: Incarnation(500), boot: 2 };
    let (seq, settled) = (RequestSeq(70_000), RequestSeq(69_000));
    let encode = |body| Request { session, seq, settled, body }.encode().to_vec();
    let command = encode(Body::Command(b"command".to_vec().into()));
    let lines = [("command".to_owned(), command), ("barrier".to_owned(), encode(Body::Barrier))];
    check("requests.txt", &lines);
}
