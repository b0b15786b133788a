//! The bytes of every message and of what is on disk.

use crate::cluster::{b, value};
use synod_basic_paxos::{BasicPaxos, Decree, HardState, Message};
use synod_types::Slot;

fn messages() -> Vec<(Message, &'static str, &'static str)> {
    let (slot, ballot) = (Slot(3), b(1, 1));
    let vote = Some((b(1, 2), value("x=5")));
    vec![
        (Message::Prepare { slot, ballot }, "Prepare(1.1)", "Prepare(s3, 1.1)"),
        (
            Message::Promise { slot, ballot, accepted: None },
            "Promise(1.1, none)",
            "Promise(s3, 1.1, none)",
        ),
        (
            Message::Promise { slot, ballot: b(2, 1), accepted: vote },
            "Promise(2.1, \"x=5\" of 1.2)",
            "Promise(s3, 2.1, \"x=5\" of 1.2)",
        ),
        (
            Message::Accept { slot, ballot, value: value("x=5") },
            "Accept(1.1, \"x=5\")",
            "Accept(s3, 1.1, \"x=5\")",
        ),
        (Message::Accepted { slot, ballot }, "Accepted(1.1)", "Accepted(s3, 1.1)"),
        (
            Message::Nack { slot, ballot, promised: b(2, 2) },
            "Nack(promised 2.2)",
            "Nack(s3, promised 2.2)",
        ),
        (
            Message::Decided { first: slot, values: value("x=5"), through: slot },
            "Decided(\"x=5\")",
            "Decided(s3, \"x=5\")",
        ),
        (Message::Ask { from: slot }, "Ask(from s3)", "Ask(from s3)"),
    ]
}

#[test]
fn every_message_reads_like_the_papers() {
    for (message, short, long) in messages() {
        assert_eq!(synod_consensus::Message::<Decree>::describe(&message), short);
        assert_eq!(synod_consensus::Message::<BasicPaxos>::describe(&message), long);
    }
}

#[test]
fn every_message_survives_the_wire() {
    for (message, short, _) in messages() {
        let bytes = postcard::to_allocvec(&message).unwrap();
        assert_eq!(postcard::from_bytes::<Message>(&bytes), Ok(message), "{short}");
        for cut in 0..bytes.len() {
            assert!(postcard::from_bytes::<Message>(&bytes[..cut]).is_err(), "{short} cut");
        }
    }
}

#[test]
fn the_bytes_on_disk_are_fixed() {
    let promises = [(Slot(8), b(2, 3)), (Slot(300), b(1, 1))].into_iter().collect();
    let hard_state = HardState { chosen: Slot(7), promises };
    let bytes = postcard::to_allocvec(&hard_state).unwrap();
    assert_eq!(bytes, [7, 2, 8, 2, 3, 172, 2, 1, 1]);
}
