//! Requests and their sessions, which make retries harmless.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use synod_types::{Incarnation, NodeId};

/// Prefix of the sessions' keys in the state store.
pub(crate) const SESSIONS: [u8; 2] = *b"\0s";
/// The first key after them.
pub(crate) const SESSIONS_END: [u8; 2] = *b"\0t";

/// One opening of one node's store, as the owner of the requests that its clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session {
    /// The node.
    pub node: NodeId,
    /// Incarnation of its store.
    pub incarnation: Incarnation,
    /// Number of the store's opening.
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
    /// Session of the node that received it from the client.
    pub session: Session,
    /// Its number there.
    pub seq: RequestSeq,
    /// All requests of the session below this number are settled: answered or timed out, and never
    /// sent again. The session table drops them.
    pub settled: RequestSeq,
    /// The command or barrier.
    pub body: RequestKind<Bytes>,
}

/// Kind of a request, with its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind<B> {
    /// A command for the state machine.
    Command(B),
    /// Nothing: marks a place in the log for the reads that wait for it.
    Barrier,
}

/// Request decoded from the log, borrowing its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRef<'a> {
    /// See [`Request::session`].
    pub session: Session,
    /// See [`Request::seq`].
    pub seq: RequestSeq,
    /// See [`Request::settled`].
    pub settled: RequestSeq,
    /// See [`Request::body`].
    pub body: RequestKind<&'a [u8]>,
}

impl Request {
    /// Encodes the request as a command of the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let command: &[u8] = match &self.body {
            RequestKind::Command(command) => command,
            RequestKind::Barrier => &[],
        };
        let is_command = matches!(self.body, RequestKind::Command(_));
        let head = (self.session, self.seq, self.settled, is_command);
        // The head is shorter than this, so the buffer never grows.
        let room = Vec::with_capacity(40 + command.len());
        let mut bytes = postcard::to_extend(&head, room).expect("a request always encodes");
        bytes.extend_from_slice(command);
        bytes.into()
    }

    /// Decodes a command of the log; `None` if it is no request.
    #[must_use]
    pub fn decode(command: &[u8]) -> Option<RequestRef<'_>> {
        let (head, rest) = postcard::take_from_bytes(command).ok()?;
        let (session, seq, settled, is_command): (Session, RequestSeq, RequestSeq, bool) = head;
        let body = if is_command { RequestKind::Command(rest) } else { RequestKind::Barrier };
        Some(RequestRef { session, seq, settled, body })
    }
}

/// Requests that were applied: a part of the replicated state, equal on all nodes.
///
/// One entry a store that ever took a request. Each is stored under a key of its own, so that a
/// piece of the state carries the entries that it changed and no others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionTable {
    incarnations: BTreeMap<Owner, Entry>,
    /// Entries that were changed since [`drain_changed`](Self::drain_changed) was last called.
    changed: BTreeSet<Owner>,
}

/// A store that takes requests, whatever the number of its openings.
type Owner = (NodeId, Incarnation);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    boot: u64,
    settled: RequestSeq,
    /// The numbers at or above `settled` that were applied, as ranges: first number to last, with
    /// gaps between them. As a rule there is one, and one more for each request that lags.
    applied: BTreeMap<RequestSeq, RequestSeq>,
}

impl Entry {
    /// Drops what lies below `settled`.
    fn settle(&mut self, settled: RequestSeq) {
        self.settled = settled;
        // The range that contains `settled` is cut, those below it go.
        let mut later = self.applied.split_off(&settled);
        if let Some((_, last)) = self.applied.pop_last()
            && last >= settled
        {
            later.insert(settled, last);
        }
        self.applied = later;
    }

    /// Adds a number; returns whether it is new.
    fn insert(&mut self, seq: RequestSeq) -> bool {
        let before = self.applied.range(..=seq).next_back();
        let before = before.map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| seq <= last) {
            return false;
        }
        // Joins with the ranges on both sides, if the number closes the gap.
        let next = RequestSeq(seq.0.saturating_add(1));
        let last = self.applied.remove(&next).unwrap_or(seq);
        let first = before.filter(|(_, last)| last.0 + 1 == seq.0).map_or(seq, |(first, _)| first);
        self.applied.insert(first, last);
        true
    }
}

impl SessionTable {
    /// Records a request as applied. Returns true exactly once a request, and never for one of an
    /// earlier opening of its node's store, whose clients are gone.
    pub(crate) fn admit(&mut self, session: Session, seq: RequestSeq, settled: RequestSeq) -> bool {
        let owner = (session.node, session.incarnation);
        let entry = self.incarnations.entry(owner).or_default();
        // Sessions of one store are ordered by its openings; a later one ends those before.
        if session.boot < entry.boot {
            return false;
        }
        // Even a copy may raise `settled`, which is part of the stored entry.
        self.changed.insert(owner);
        if session.boot > entry.boot {
            // The numbers of a session begin at 1 again.
            *entry = Entry { boot: session.boot, ..Entry::default() };
        }
        if settled > entry.settled {
            entry.settle(settled);
        }
        // A settled number is refused without a record of it, so the entry stays small.
        seq >= entry.settled && entry.insert(seq)
    }

    /// Takes the entries that changed, each with its key and its value in the store.
    pub(crate) fn drain_changed(&mut self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        let incarnations = &self.incarnations;
        std::mem::take(&mut self.changed).into_iter().filter_map(move |owner| {
            let value =
                postcard::to_allocvec(incarnations.get(&owner)?).expect("an entry always encodes");
            Some((key_of(owner), value))
        })
    }

    /// Adds an entry as it was stored; `false` if it is none.
    #[must_use]
    pub(crate) fn load(&mut self, key: &[u8], value: &[u8]) -> bool {
        let (Some(owner), Ok((entry, []))) = (owner_of(key), postcard::take_from_bytes(value))
        else {
            return false;
        };
        self.incarnations.insert(owner, entry);
        true
    }
}

fn key_of(owner: Owner) -> Vec<u8> {
    let (node, incarnation) = owner;
    [&SESSIONS[..], &node.0.to_be_bytes(), &incarnation.0.to_be_bytes()].concat()
}

fn owner_of(key: &[u8]) -> Option<Owner> {
    let (node, incarnation) = key.strip_prefix(&SESSIONS[..])?.split_first_chunk()?;
    let node = NodeId(u64::from_be_bytes(*node));
    Some((node, Incarnation(u64::from_be_bytes(incarnation.try_into().ok()?))))
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
        assert!(!admit(&mut table, 2, 4, 1), "settled, so a late copy is ignored");
        assert!(!admit(&mut table, 2, 5, 1));
    }

    #[test]
    fn a_restart_ends_the_session_before() {
        let mut table = SessionTable::default();
        assert!(admit(&mut table, 2, 1, 1));
        assert!(admit(&mut table, 3, 1, 1), "numbers begin again");
        assert!(!admit(&mut table, 2, 2, 1), "a late copy of the earlier session");
    }

    #[test]
    fn a_wiped_store_has_sessions_of_its_own_whatever_its_incarnation() {
        for incarnation in [8, 10] {
            let wiped = Session { incarnation: Incarnation(incarnation), boot: 1, ..S };
            let mut table = SessionTable::default();
            assert!(admit(&mut table, 2, 5, 5));
            assert!(table.admit(wiped, RequestSeq(1), RequestSeq(1)), "numbers begin again");
            assert!(!table.admit(wiped, RequestSeq(1), RequestSeq(1)));
            assert!(!admit(&mut table, 2, 4, 1), "the old store's requests stay settled");
            assert!(admit(&mut table, 2, 6, 5), "one of them may be in the log still");
        }
    }

    #[test]
    fn what_is_settled_takes_no_room() {
        let mut table = SessionTable::default();
        for seq in 1..=1000 {
            assert!(admit(&mut table, 2, seq, seq.saturating_sub(10)));
        }
        let entry = table.incarnations.values().next().unwrap();
        assert_eq!(entry.applied, [(RequestSeq(990), RequestSeq(1000))].into());
    }

    #[test]
    fn ranges_admit_what_a_set_of_numbers_admits() {
        let mut rng = 1_u64;
        let mut draw = |end: u64| {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
            (rng >> 33) % end
        };
        for _ in 0..200 {
            let mut table = SessionTable::default();
            let (mut set, mut floor) = (BTreeSet::new(), 0);
            for step in 0..60 {
                let (seq, settled) = (1 + draw(30), draw(step / 2 + 1));
                floor = floor.max(settled);
                set = set.split_off(&floor);
                let expected = seq >= floor && set.insert(seq);
                assert_eq!(admit(&mut table, 2, seq, settled), expected, "{seq} of {table:?}");
            }
        }
    }

    #[test]
    fn only_what_changed_is_stored_and_it_loads_as_it_was() {
        let mut table = SessionTable::default();
        let other = Session { node: NodeId(7), ..S };
        let mut stored = BTreeMap::new();
        for seq in [1, 2, 5, 9] {
            assert!(table.admit(other, RequestSeq(seq), RequestSeq(1)));
        }
        stored.extend(table.drain_changed());
        assert_eq!(stored.len(), 1);
        assert!(admit(&mut table, 2, 1, 1));
        let second: Vec<_> = table.drain_changed().collect();
        assert_eq!(second.len(), 1, "the first entry is not written again");
        stored.extend(second);
        assert_eq!(table.drain_changed().count(), 0);
        let mut again = SessionTable::default();
        for (key, value) in &stored {
            assert!(SESSIONS[..] <= key[..] && key[..] < SESSIONS_END[..]);
            assert!(again.load(key, value));
        }
        assert_eq!(again, table);
        assert!(!again.load(&SESSIONS, &[]) && !again.load(b"\0s0123456789abcdef", b"\xff"));
    }

    #[test]
    fn a_request_survives_its_encoding() {
        for body in [RequestKind::Command(Bytes::from_static(b"body")), RequestKind::Barrier] {
            let request = Request { session: S, seq: RequestSeq(7), settled: RequestSeq(3), body };
            let bytes = request.encode();
            let read = Request::decode(&bytes).unwrap();
            assert_eq!((read.session, read.seq, read.settled), (S, request.seq, request.settled));
            match (&request.body, read.body) {
                (RequestKind::Command(sent), RequestKind::Command(got)) => assert_eq!(sent, got),
                (sent, got) => {
                    assert_eq!((sent, got), (&RequestKind::Barrier, RequestKind::Barrier))
                }
            }
            assert_eq!(Request::decode(&bytes[..3]), None);
        }
    }
}
