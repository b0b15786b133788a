//! Requests and the session table, which applies each request at most once.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use synod_types::{Incarnation, NodeId};

/// Prefix of the session table's keys in the state store.
pub(crate) const SESSIONS: [u8; 2] = *b"\0s";
/// First key after those of the session table.
pub(crate) const SESSIONS_END: [u8; 2] = *b"\0t";

/// Identity of one opening of a node's store. It numbers the requests of the node's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session {
    /// Id of the node.
    pub node: NodeId,
    /// Incarnation of the node's store.
    pub incarnation: Incarnation,
    /// Boot count of the store: the number of its opening.
    pub boot: u64,
}

/// Number of a request in its session, from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestSeq(pub u64);

/// Client's command, or barrier of reads, as encoded in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Session of the node that received it from the client.
    pub session: Session,
    /// Number of the request in the session.
    pub seq: RequestSeq,
    /// Lower bound of the session's pending requests. All below it are answered or timed out and are
    /// never retried, so the session table drops them.
    pub settled: RequestSeq,
    /// Command or barrier.
    pub body: RequestKind<Bytes>,
}

/// Content of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind<B> {
    /// Command for the state machine.
    Command(B),
    /// Position in the log after which pending reads may be served. It changes no state.
    Barrier,
}

/// Request decoded from the log; borrows its command.
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
    /// Encodes the request as a command for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let command: &[u8] = match &self.body {
            RequestKind::Command(command) => command,
            RequestKind::Barrier => &[],
        };
        let is_command = matches!(self.body, RequestKind::Command(_));
        let head = (self.session, self.seq, self.settled, is_command);
        // The head takes fewer than 40 bytes, so the buffer never grows.
        let room = Vec::with_capacity(40 + command.len());
        let mut bytes = postcard::to_extend(&head, room).expect("a request always encodes");
        bytes.extend_from_slice(command);
        bytes.into()
    }

    /// Decodes a command from the log. Returns `None` if it is not a request.
    #[must_use]
    pub fn decode(command: &[u8]) -> Option<RequestRef<'_>> {
        let (head, rest) = postcard::take_from_bytes(command).ok()?;
        let (session, seq, settled, is_command): (Session, RequestSeq, RequestSeq, bool) = head;
        let body = if is_command { RequestKind::Command(rest) } else { RequestKind::Barrier };
        Some(RequestRef { session, seq, settled, body })
    }
}

/// Numbers of the applied requests: a part of the replicated state, equal on all nodes.
///
/// It has one entry for each store whose node received a request from a client. Each entry has a key
/// of its own in the store, so that a save writes only the entries that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionTable {
    incarnations: BTreeMap<Owner, Entry>,
    /// Entries that changed since the last [`drain_changed`](Self::drain_changed).
    changed: BTreeSet<Owner>,
}

/// Store of a node, across all of its openings.
type Owner = (NodeId, Incarnation);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    boot: u64,
    settled: RequestSeq,
    /// Applied numbers at or above `settled`, as ranges from first to last with gaps in between.
    /// Usually there is one range, and one more for each request that lags.
    applied: BTreeMap<RequestSeq, RequestSeq>,
}

impl Entry {
    /// Drops the numbers below `settled`.
    fn settle(&mut self, settled: RequestSeq) {
        self.settled = settled;
        // A range that contains `settled` is cut; ranges below it are dropped.
        let mut later = self.applied.split_off(&settled);
        if let Some((_, last)) = self.applied.pop_last()
            && last >= settled
        {
            later.insert(settled, last);
        }
        self.applied = later;
    }

    /// Adds a number. Returns whether it is new.
    fn insert(&mut self, seq: RequestSeq) -> bool {
        let before = self.applied.range(..=seq).next_back();
        let before = before.map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| seq <= last) {
            return false;
        }
        // Merges with the neighbouring ranges, so that the entry stays small.
        let next = RequestSeq(seq.0.saturating_add(1));
        let last = self.applied.remove(&next).unwrap_or(seq);
        let first = before.filter(|(_, last)| last.0 + 1 == seq.0).map_or(seq, |(first, _)| first);
        self.applied.insert(first, last);
        true
    }
}

impl SessionTable {
    /// Records a request as applied. Returns true at most once for each request, and false for
    /// requests of an earlier opening of the store: their clients are gone.
    pub(crate) fn admit(&mut self, session: Session, seq: RequestSeq, settled: RequestSeq) -> bool {
        let owner = (session.node, session.incarnation);
        let entry = self.incarnations.entry(owner).or_default();
        // A later opening of the store ends the earlier sessions.
        if session.boot < entry.boot {
            return false;
        }
        // Even a copy of an applied request may raise `settled`, which is stored in the entry.
        self.changed.insert(owner);
        if session.boot > entry.boot {
            // The new session numbers its requests from 1 again.
            *entry = Entry { boot: session.boot, ..Entry::default() };
        }
        if settled > entry.settled {
            entry.settle(settled);
        }
        // A settled number is refused without a record, which bounds the size of the entry.
        seq >= entry.settled && entry.insert(seq)
    }

    /// Removes and returns the changed entries, as keys and values for the store.
    pub(crate) fn drain_changed(&mut self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        let incarnations = &self.incarnations;
        std::mem::take(&mut self.changed).into_iter().filter_map(move |owner| {
            let value =
                postcard::to_allocvec(incarnations.get(&owner)?).expect("an entry always encodes");
            Some((key_of(owner), value))
        })
    }

    /// Adds a stored entry. Returns false if it cannot be decoded.
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
    fn a_request_is_admitted_once_in_any_order_of_arrival() {
        let mut table = SessionTable::default();
        assert!(admit(&mut table, 2, 2, 1));
        assert!(admit(&mut table, 2, 1, 1));
        assert!(!admit(&mut table, 2, 2, 1));
        assert!(!admit(&mut table, 2, 1, 1));
    }

    #[test]
    fn settled_request_is_not_admitted_again() {
        let mut table = SessionTable::default();
        assert!(admit(&mut table, 2, 5, 5));
        assert!(!admit(&mut table, 2, 4, 1), "settled, so a late copy is ignored");
        assert!(!admit(&mut table, 2, 5, 1));
    }

    #[test]
    fn restart_ends_the_earlier_session() {
        let mut table = SessionTable::default();
        assert!(admit(&mut table, 2, 1, 1));
        assert!(admit(&mut table, 3, 1, 1), "numbers start at 1 again");
        assert!(!admit(&mut table, 2, 2, 1), "a late copy of the earlier session");
    }

    #[test]
    fn wiped_store_has_sessions_of_its_own_under_a_lower_or_higher_incarnation() {
        for incarnation in [8, 10] {
            let wiped = Session { incarnation: Incarnation(incarnation), boot: 1, ..S };
            let mut table = SessionTable::default();
            assert!(admit(&mut table, 2, 5, 5));
            assert!(table.admit(wiped, RequestSeq(1), RequestSeq(1)), "numbers start at 1 again");
            assert!(!table.admit(wiped, RequestSeq(1), RequestSeq(1)));
            assert!(!admit(&mut table, 2, 4, 1), "the old store's requests stay settled");
            assert!(admit(&mut table, 2, 6, 5), "the log may still hold one of them");
        }
    }

    #[test]
    fn entry_keeps_no_settled_numbers() {
        let mut table = SessionTable::default();
        for seq in 1..=1000 {
            assert!(admit(&mut table, 2, seq, seq.saturating_sub(10)));
        }
        let entry = table.incarnations.values().next().unwrap();
        assert_eq!(entry.applied, [(RequestSeq(990), RequestSeq(1000))].into());
    }

    #[test]
    fn ranges_admit_the_same_requests_as_a_set_of_numbers() {
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
    fn only_changed_entries_are_stored_and_they_load_unchanged() {
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
    fn decode_inverts_encode_for_commands_and_barriers() {
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
