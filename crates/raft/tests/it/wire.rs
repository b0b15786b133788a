//! Pinned bytes of every message.

use crate::cluster::*;
use synod_consensus::{Gate, HistoryDigest, Message as _, Saved};
use synod_raft::{
    Append, AppendAck, AppendConflict, Commit, HardState, Heartbeat, HeartbeatAck, Message,
    PreVote, PreVoteReply, Raft, ReadReply, ReadRequest, RequestVote, Vote,
};
use synod_types::{Lane, ReadId, Slot, Term};

/// Message, description, bytes, gate and lane.
type Row = (Message, &'static str, &'static str, Gate, Lane);

fn all() -> Vec<Row> {
    [of_elections(), of_replication(), of_heartbeats_and_reads()].concat()
}

fn of_elections() -> Vec<Row> {
    let (term, yes, no) = (Term(3), true, false);
    vec![
        (
            Message::PreVote(PreVote { next_term: term, last: at(4, 2) }),
            "PreVote(t3, last 4@t2)",
            "00030204",
            Gate::Immediate,
            Lane::Control,
        ),
        (
            Message::PreVoteReply(PreVoteReply { term: Term(2), next_term: term, granted: yes }),
            "PreVoteReply(t2, yes to t3)",
            "01020301",
            Gate::Immediate,
            Lane::Control,
        ),
        (
            Message::RequestVote(RequestVote { term, last: at(4, 2) }),
            "RequestVote(t3, last 4@t2)",
            "02030204",
            Gate::Durable,
            Lane::Control,
        ),
        (
            Message::Vote(Vote { term, granted: no }),
            "Vote(t3, no)",
            "030300",
            Gate::Durable,
            Lane::Control,
        ),
    ]
}

fn of_replication() -> Vec<Row> {
    let (term, commit) = (Term(3), Slot(2));
    vec![
        (
            Message::Append(Append {
                term,
                probe: 0,
                prev: at(4, 2),
                run: run(5, 3, &["a", "b"]),
                commit,
                digest: HistoryDigest::UNKNOWN,
            }),
            "Append(t3, prev 4@t2, 5..6@t3, commit 2)",
            "0403000204050310016101620200000004000000020000000200",
            Gate::Immediate,
            Lane::Log,
        ),
        (
            Message::Append(Append {
                term,
                probe: 1,
                prev: at(4, 2),
                run: run(5, 3, &[]),
                commit,
                digest: HistoryDigest::UNKNOWN,
            }),
            "Append(t3, probe 1, prev 4@t2?, commit 2)",
            "0403010204050304000000000200",
            Gate::Immediate,
            Lane::Log,
        ),
        (
            Message::AppendAck(AppendAck { term, probe: 0, matched: Slot(6) }),
            "AppendAck(t3, 6)",
            "05030006",
            Gate::Durable,
            Lane::Control,
        ),
        (
            Message::AppendConflict(AppendConflict { term, probe: 9, at: Slot(6), hint: at(4, 2) }),
            "AppendConflict(t3, probe 9, at 6, hint 4@t2)",
            "060309060204",
            Gate::Durable,
            Lane::Control,
        ),
        (
            Message::Commit(Commit { term, commit }),
            "Commit(t3, 2)",
            "090302",
            Gate::Immediate,
            Lane::Log,
        ),
    ]
}

fn of_heartbeats_and_reads() -> Vec<Row> {
    let (term, commit) = (Term(3), Slot(2));
    vec![
        (
            Message::Heartbeat(Heartbeat { term, prev: at(4, 2), commit, round: 0 }),
            "Heartbeat(t3, prev 4@t2, commit 2)",
            "070302040200",
            Gate::Immediate,
            Lane::Control,
        ),
        (
            Message::HeartbeatAck(HeartbeatAck { term, round: 0 }),
            "HeartbeatAck(t3)",
            "080300",
            Gate::Immediate,
            Lane::Control,
        ),
        (
            Message::Heartbeat(Heartbeat { term, prev: at(4, 2), commit, round: 5 }),
            "Heartbeat(t3, prev 4@t2, commit 2, round 5)",
            "070302040205",
            Gate::Immediate,
            Lane::Control,
        ),
        (
            Message::HeartbeatAck(HeartbeatAck { term, round: 5 }),
            "HeartbeatAck(t3, round 5)",
            "080305",
            Gate::Immediate,
            Lane::Control,
        ),
        (
            Message::ReadRequest(ReadRequest { term, id: ReadId(9) }),
            "ReadRequest(t3)",
            "0a0309",
            Gate::Immediate,
            Lane::Control,
        ),
        (
            Message::ReadReply(ReadReply { term, id: ReadId(9), index: Slot(6) }),
            "ReadReply(t3, from 6)",
            "0b030906",
            Gate::Immediate,
            Lane::Control,
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn bytes_description_gate_and_lane_of_each_message_are_pinned() {
    for (message, words, bytes, gate, lane) in all() {
        let encoded = postcard::to_allocvec(&message).unwrap();
        assert_eq!(hex(&encoded), bytes, "{words}");
        assert_eq!(postcard::from_bytes::<Message>(&encoded).unwrap(), message);
        assert_eq!(message.describe(), words);
        assert_eq!((message.gate(), message.lane()), (gate, lane), "{words}");
    }
}

#[test]
fn bytes_of_the_hard_state_are_pinned() {
    for (vote, bytes) in [(None, "0700"), (Some(N3), "070103")] {
        let hard_state = HardState { term: Term(7), vote };
        assert_eq!(hex(&postcard::to_allocvec(&hard_state).unwrap()), bytes);
    }
}

/// Checks each claim against a disk that backs it, and against disks that do not.
#[test]
fn claim_holds_only_if_the_disk_backs_it() {
    let term = Term(3);
    let disk = |term, vote, log: &[u64]| saved(term, vote, log);
    let vote = |granted| Message::Vote(Vote { term, granted });
    let request = Message::RequestVote(RequestVote { term, last: at(2, 1) });
    let ack = Message::AppendAck(AppendAck { term, probe: 0, matched: Slot(2) });
    let conflict =
        Message::AppendConflict(AppendConflict { term, probe: 0, at: Slot(2), hint: at(1, 1) });
    let cases: Vec<(Message, Saved<Raft>, bool)> = vec![
        (vote(true), disk(3, Some(N2), &[]), true),
        (vote(true), disk(3, Some(N3), &[]), false),
        (vote(true), disk(3, None, &[]), false),
        (vote(true), disk(2, Some(N2), &[]), false),
        (vote(true), disk(4, None, &[]), true),
        (vote(false), disk(3, Some(N3), &[]), true),
        (vote(false), disk(2, None, &[]), false),
        (request.clone(), disk(3, Some(N1), &[1, 1]), true),
        (request.clone(), disk(3, Some(N2), &[1, 1]), false),
        (request, disk(2, Some(N1), &[1, 1]), false),
        (ack.clone(), disk(3, None, &[1, 1]), true),
        (ack.clone(), disk(3, None, &[1]), false),
        (ack.clone(), disk(2, None, &[1, 1]), false),
        (ack, disk(4, None, &[]), true),
        (conflict.clone(), disk(3, None, &[1]), true),
        (conflict, disk(2, None, &[1]), false),
        (Message::HeartbeatAck(HeartbeatAck { term, round: 5 }), disk(0, None, &[]), true),
    ];
    for (message, disk, holds) in cases {
        let case = format!("{} over {:?}", message.describe(), disk.hard_state);
        assert_eq!(message.holds(N1, N2, &disk), holds, "{case}");
    }
}

#[test]
fn term_never_decreases_and_no_vote_is_taken_back() {
    use synod_consensus::HardState as _;
    let state = |term, vote| HardState { term: Term(term), vote };
    let cases = [
        ((2, None), (2, Some(N1)), true),
        ((2, Some(N1)), (2, Some(N1)), true),
        ((2, Some(N1)), (2, Some(N2)), false),
        ((2, Some(N1)), (2, None), false),
        ((2, Some(N1)), (3, None), true),
        ((2, Some(N1)), (3, Some(N2)), true),
        ((2, None), (1, None), false),
    ];
    for (older, newer, allowed) in cases {
        let (older, newer) = (state(older.0, older.1), state(newer.0, newer.1));
        assert_eq!(newer.may_follow(&older), allowed, "{newer:?} after {older:?}");
    }
}
