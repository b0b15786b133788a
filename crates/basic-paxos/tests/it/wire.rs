//! Pinned bytes of every message and of the disk format.

use crate::cluster::{b, value};
use synod_basic_paxos::{
    Accept, Accepted, BasicPaxos, Chosen, HardState, Learn, Learned, Message, MessageBatch, Nack,
    Prepare, Promise, SingleDecree,
};
use synod_types::Slot;

fn messages() -> Vec<(Message, &'static str, &'static str)> {
    let (slot, ballot) = (Slot(3), b(1, 1));
    let vote = Some((b(1, 2), value("x=5")));
    vec![
        (Message::Prepare(Prepare { slot, ballot }), "Prepare(1.1)", "Prepare(s3, 1.1)"),
        (
            Message::Promise(Promise { slot, ballot, accepted: None }),
            "Promise(1.1, none)",
            "Promise(s3, 1.1, none)",
        ),
        (
            Message::Promise(Promise { slot, ballot: b(2, 1), accepted: vote }),
            "Promise(2.1, \"x=5\" of 1.2)",
            "Promise(s3, 2.1, \"x=5\" of 1.2)",
        ),
        (
            Message::Accept(Accept { slot, ballot, value: value("x=5") }),
            "Accept(1.1, \"x=5\")",
            "Accept(s3, 1.1, \"x=5\")",
        ),
        (Message::Accepted(Accepted { slot, ballot }), "Accepted(1.1)", "Accepted(s3, 1.1)"),
        (
            Message::Nack(Nack { slot, ballot, promised: b(2, 2) }),
            "Nack(promised 2.2)",
            "Nack(s3, promised 2.2)",
        ),
        (
            Message::Learned(Learned { first: slot, values: value("x=5"), through: slot }),
            "Learned(\"x=5\")",
            "Learned(s3, \"x=5\")",
        ),
        (Message::Learn(Learn { from: slot }), "Learn(from s3)", "Learn(from s3)"),
        (Message::Chosen(Chosen { slot, ballot, through: slot }), "Chosen(1.1)", "Chosen(s3, 1.1)"),
    ]
}

#[test]
fn messages_are_described_by_their_names_in_the_paper() {
    for (message, short, long) in messages() {
        let batch = MessageBatch::from(message);
        assert_eq!(synod_consensus::Message::<SingleDecree>::describe(&batch), short);
        assert_eq!(synod_consensus::Message::<BasicPaxos>::describe(&batch), long);
    }
    let batch: MessageBatch = messages().into_iter().map(|(message, ..)| message).take(2).collect();
    let words = synod_consensus::Message::<SingleDecree>::describe(&batch);
    assert_eq!(words, "Prepare(1.1) + Promise(1.1, none)");
}

#[test]
fn messages_decode_to_what_was_encoded() {
    for (message, short, _) in messages() {
        let batch = MessageBatch::from(message);
        let bytes = postcard::to_allocvec(&batch).unwrap();
        assert_eq!(postcard::from_bytes::<MessageBatch>(&bytes), Ok(batch), "{short}");
        for cut in 0..bytes.len() {
            assert!(postcard::from_bytes::<MessageBatch>(&bytes[..cut]).is_err(), "{short} cut");
        }
    }
}

#[test]
fn hard_state_encoding_is_pinned() {
    let promises = [(Slot(8), b(2, 3)), (Slot(10), b(1, 300))];
    let hard_state = HardState::new(Slot(7), promises);
    let bytes = postcard::to_allocvec(&hard_state).unwrap();
    assert_eq!(bytes, [7, 3, 2, 3, 0, 0, 1, 172, 2], "one promise a slot after slot 7");
}
