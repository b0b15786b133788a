//! Requests and their sessions: what makes a retry harmless.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use synod_types::{Incarnation, NodeId};

/// One life of one node, as the owner of the requests it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session {
    /// The node.
    pub node: NodeId,
    /// Which store.
    pub incarnation: Incarnation,
    /// Which opening of the store.
    pub boot: u64,
}

/// The number of a request in its session, from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestSeq(pub u64);

/// A client's command as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who took it from the client.
    pub session: Session,
    /// Its number there.
    pub seq: RequestSeq,
    /// All requests of the session below this number are settled: answered or given up, and never
    /// sent again. What the table still knows of them can go.
    pub settled: RequestSeq,
    /// What is asked for.
    pub body: Body<Bytes>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<B> {
    /// A command for the state machine.
    Command(B),
    /// Nothing: marks a place in the log for the reads that wait for it.
    Barrier,
}

/// A request as it is read out of the log, borrowing its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRef<'a> {
    /// See [`Request::session`].
    pub session: Session,
    /// See [`Request::seq`].
    pub seq: RequestSeq,
    /// See [`Request::settled`].
    pub settled: RequestSeq,
    /// See [`Request::body`].
    pub body: Body<&'a [u8]>,
}

impl Request {
    /// The request as a command of the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let command: &[u8] = match &self.body {
            Body::Command(command) => command,
            Body::Barrier => &[],
        };
        let is_command = matches!(self.body, Body::Command(_));
        let head = (self.session, self.seq, self.settled, is_command);
        let room = Vec::with_capacity(40 + command.len());
        let mut bytes = postcard::to_extend(&head, room).expect("a request always encodes");
        bytes.extend_from_slice(command);
        bytes.into()
    }

    /// Reads a command of the log; `None` if it is no request.
    #[must_use]
    pub fn decode(command: &[u8]) -> Option<RequestRef<'_>> {
        let (head, rest) = postcard::take_from_bytes(command).ok()?;
        let (session, seq, settled, is_command): (Session, RequestSeq, RequestSeq, bool) = head;
        let body = if is_command { Body::Command(rest) } else { Body::Barrier };
        Some(RequestRef { session, seq, settled, body })
    }
}

/// Which requests were applied: a part of the replicated state, equal on all nodes.
///
/// One entry a store that ever took a request, and in it one number a request under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionTable {
    lives: BTreeMap<(NodeId, Incarnation), Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    boot: u64,
    settled: RequestSeq,
    applied: BTreeSet<RequestSeq>,
}

impl SessionTable {
    /// Whether this request is to be applied now: true exactly once a request, and never for one
    /// of an earlier life of its node, which nobody waits for any more.
    pub(crate) fn admit(&mut self, session: Session, seq: RequestSeq, settled: RequestSeq) -> bool {
        let entry = self.lives.entry((session.node, session.incarnation)).or_default();
        if session.boot < entry.boot {
            return false;
        }
        if session.boot > entry.boot {
            *entry = Entry { boot: session.boot, ..Entry::default() };
        }
        if settled > entry.settled {
            entry.settled = settled;
            entry.applied = entry.applied.split_off(&settled);
        }
        seq >= entry.settled && entry.applied.insert(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Session = Session { node: NodeId(1), incarnation: Incarnation(9), boot: 2 };

    fn admit(table: &mut SessionTable, boot: u64, seq: u64, settled: u64) -> bool {
        table.admit(Session { boot, ..S }, RequestSeq(seq), RequestSeq(settled))
    }

    #[test]
    fn a_request_is_admitted_once_in_any_order() {
        let mut table = SessionTable::default();
        assert!(admit(&mut table, 2, 2, 1));
        assert!(admit(&mut table, 2, 1, 1));
        assert!(!admit(&mut table, 2, 2, 1));
        assert!(!admit(&mut table, 2, 1, 1));
    }

    #[test]
    fn a_settled_request_never_comes_back() {
        let mut table = SessionTable::default();
        assert!(admit(&mut table, 2, 5, 5));
        assert!(!admit(&mut table, 2, 4, 1), "given up, so a late copy is ignored");
        assert!(!admit(&mut table, 2, 5, 1));
    }

    #[test]
    fn a_restart_ends_the_session_before() {
        let mut table = SessionTable::default();
        assert!(admit(&mut table, 2, 1, 1));
        assert!(admit(&mut table, 3, 1, 1), "numbers begin again");
        assert!(!admit(&mut table, 2, 2, 1), "a late copy of the earlier life");
    }

    #[test]
    fn what_is_settled_takes_no_room() {
        let mut table = SessionTable::default();
        for seq in 1..=1000 {
            assert!(admit(&mut table, 2, seq, seq.saturating_sub(10)));
        }
        assert_eq!(table.lives.values().next().unwrap().applied.len(), 11);
    }

    #[test]
    fn a_request_survives_its_encoding() {
        for body in [Body::Command(Bytes::from_static(b"body")), Body::Barrier] {
            let request = Request { session: S, seq: RequestSeq(7), settled: RequestSeq(3), body };
            let bytes = request.encode();
            let read = Request::decode(&bytes).unwrap();
            assert_eq!((read.session, read.seq, read.settled), (S, request.seq, request.settled));
            match (&request.body, read.body) {
                (Body::Command(sent), Body::Command(got)) => assert_eq!(sent, got),
                (sent, got) => assert_eq!((sent, got), (&Body::Barrier, Body::Barrier)),
            }
            assert_eq!(Request::decode(&bytes[..3]), None);
        }
    }
}
