//! Fuzzing of all input from the network and from disks: frames with the messages of each protocol,
//! log records, hard states, clients' requests, and the key-value store's commands.

use crate::cores::Cluster;
use crate::{assert_memory_is_bounded, fuzz, mutated};
use arbtest::arbitrary::{Result, Unstructured};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Debug;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::{Output, Protocol, Refusal, StateMachine, StateReader, Write};
use synod_kv::{
    Command, Compare, CompareOperand, CompareRelation, DeleteRange, KeyRange, KvStore, Op, Put,
    Query, Range, Reply, Txn,
};
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_replica::{
    Envelope, Payload, Request, RequestKind, RequestSeq, Session, decode_frame, decode_op,
    encode_frame, encode_write,
};
use synod_storage::LogOp;
use synod_types::{
    ClusterId, Epoch, GroupId, Incarnation, Membership, NodeId, Slot, Value, Values,
};

const ENVELOPE: Envelope = Envelope {
    cluster: ClusterId(7),
    group: GroupId(0),
    epoch: Epoch(1),
    from: NodeId(2),
    incarnation: Incarnation(300),
};

/// Recomputes the checksum of a mutated frame, so that its content is decoded.
fn with_valid_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    if frame.len() >= 5 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&frame[..1]);
        hasher.update(&frame[5..]);
        frame[1..5].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
    frame
}

/// Asserts that a frame decodes to its payload. A mutated one must be rejected, or decode to a
/// payload that encodes and decodes to itself.
fn frames<M>(payload: &Payload<M>, u: &mut Unstructured<'_>) -> Result<()>
where
    M: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let frame = encode_frame(&ENVELOPE, payload);
    let (envelope, read) = decode_frame::<M>(&frame).expect("a whole frame");
    assert_eq!((envelope, &read), (ENVELOPE, payload));
    let corrupted = mutated(&frame, u)?;
    if corrupted != frame {
        // Must not panic. The checksum normally detects the corruption.
        let _ = decode_frame::<M>(&corrupted);
    }
    if let Ok((envelope, payload)) = decode_frame::<M>(&with_valid_checksum(corrupted)) {
        let again = encode_frame(&envelope, &payload);
        assert_eq!(decode_frame::<M>(&again), Ok((envelope, payload)));
    }
    Ok(())
}

/// Asserts the same for the records of a log store.
fn records<P: Protocol>(write: &Write<P>, u: &mut Unstructured<'_>) -> Result<()> {
    let op = encode_write(write);
    assert_eq!(decode_op::<P>(&op).as_ref(), Ok(write));
    let mut mutate = |bytes: Bytes| mutated(&bytes, u).map(Bytes::from);
    let op = match op {
        LogOp::HardState(bytes) => LogOp::HardState(mutate(bytes)?),
        LogOp::Put(mut run) => {
            run.stamp = mutate(run.stamp)?;
            LogOp::Put(run)
        }
        LogOp::TruncateFrom(slot) => LogOp::TruncateFrom(slot),
        LogOp::Compact { through, base } => LogOp::Compact { through, base: mutate(base)? },
    };
    if let Ok(write) = decode_op::<P>(&op) {
        assert_eq!(decode_op::<P>(&encode_write(&write)), Ok(write));
    }
    Ok(())
}

/// Fuzzes the messages and writes of a protocol's run, intact and mutated.
fn protocol<P: Protocol>(config: impl Fn(NodeId, Membership) -> P::Config) {
    let (messages, writes) = Cluster::<P>::new(&config).samples();
    assert!(messages.len() > 20 && writes.len() > 10);
    fuzz(|u| {
        frames(&Payload::Protocol(u.choose(&messages)?.clone()), u)?;
        records(u.choose(&writes)?, u)?;
        let _ = decode_frame::<P::Message>(&with_valid_checksum(u.bytes(u.len())?.to_vec()));
        Ok(())
    });
    assert_memory_is_bounded();
}

#[test]
fn raft_messages_and_writes_decode_or_are_rejected() {
    protocol::<Raft>(|id, members| synod_raft::Config::new(id, members).expect("a voter"));
}

#[test]
fn multi_paxos_messages_and_writes_decode_or_are_rejected() {
    protocol::<MultiPaxos>(|id, members| {
        synod_multi_paxos::Config::new(id, members).expect("a voter")
    });
}

#[test]
fn basic_paxos_messages_and_writes_decode_or_are_rejected() {
    protocol::<BasicPaxos>(|id, members| {
        synod_basic_paxos::Config::new(id, members).expect("a voter")
    });
}

fn values(u: &mut Unstructured<'_>) -> Result<Values> {
    let mut values = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        values.push(match u.int_in_range(0..=3)? {
            0 => Value::Noop,
            1 => Value::Members(Membership::new([NodeId(1)], []).expect("a voter")),
            _ => Value::Command(u.arbitrary::<Vec<u8>>()?.into()),
        });
    }
    Ok(values.into_iter().collect())
}

/// Clients' requests in frames to the leader and in the log.
#[test]
fn client_requests_decode_or_are_rejected() {
    fuzz(|u| {
        let payload = match u.int_in_range(0..=2)? {
            0 => Payload::Forward(values(u)?),
            1 => Payload::Acknowledged { requests: u.arbitrary()? },
            _ => Payload::Refused {
                requests: u.arbitrary()?,
                why: Refusal::NotLeader { hint: None },
            },
        };
        frames::<u8>(&payload, u)?;
        let session =
            Session { node: NodeId(1), incarnation: Incarnation(u.arbitrary()?), boot: 3 };
        let (seq, settled) = (RequestSeq(u.arbitrary()?), RequestSeq(u.arbitrary()?));
        let body = RequestKind::Command(u.arbitrary::<Vec<u8>>()?.into());
        let bytes = Request { session, seq, settled, body }.encode();
        let read = Request::decode(&bytes).expect("a request");
        assert_eq!((read.session, read.seq, read.settled), (session, seq, settled));
        let corrupted = mutated(&bytes, u)?;
        if let Some(read) = Request::decode(&corrupted) {
            let body = match read.body {
                RequestKind::Command(command) => {
                    RequestKind::Command(Bytes::copy_from_slice(command))
                }
                RequestKind::Barrier => RequestKind::Barrier,
            };
            let (session, seq, settled) = (read.session, read.seq, read.settled);
            let again = Request { session, seq, settled, body }.encode();
            let second = Request::decode(&again).expect("a request");
            assert_eq!((second.session, second.seq, second.settled), (session, seq, settled));
        }
        Ok(())
    });
    assert_memory_is_bounded();
}

/// The commands and replies of the key-value store. Every command, valid or not, gets a reply.
#[test]
fn store_commands_decode_or_are_rejected() {
    let put = || Put::new("key", "value");
    let range = || Range::new(KeyRange::prefix("k"));
    let txn = Txn {
        compares: vec![Compare {
            keys: KeyRange::one("key"),
            relation: CompareRelation::Equal,
            operand: CompareOperand::Value("value".into()),
        }],
        success: vec![Op::Put(put()), Op::Range(range())],
        failure: vec![Op::DeleteRange(DeleteRange::new(KeyRange::all()))],
    };
    let commands = [
        Command::Put(put()),
        Command::DeleteRange(DeleteRange::new(KeyRange::prefix("k"))),
        Command::Txn(txn),
        Command::Query(Query::Range(range())),
    ];
    fuzz(|u| {
        let mut store = KvStore::new();
        for slot in 1..u.int_in_range(2..=6)? {
            let command = u.choose(&commands)?;
            assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(command));
            let bytes = mutated(&command.encode(), u)?;
            if let Ok(command) = Command::decode(&bytes) {
                assert_eq!(Command::decode(&command.encode()), Ok(command));
            }
            let reply = store.apply(Slot(slot), &bytes, &BTreeMap::new(), &mut Output::new());
            let reply = reply.expect("no store is read");
            let reply = Reply::decode(&reply).expect("every command has a reply");
            let corrupted = mutated(&reply.encode(), u)?;
            if let Ok(reply) = Reply::decode(&corrupted) {
                assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
            }
            store.query(&bytes).expect("no store is read");
        }
        Ok(())
    });
    assert_memory_is_bounded();
}
