//! The state machine that a simulated cluster replicates: a few keys, and commands whose effects
//! tell lost, repeated and reordered ones apart.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use synod_consensus::{StateError, StateMachine};
use synod_types::{Changes, Slot};

/// Values do not grow past this: an append to a longer one starts it anew.
const MAX_VALUE: usize = 256;
/// Asks a machine for the operation that it applied last.
pub(crate) const LAST: &[u8] = b"";

/// A client's command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    /// Unique in a run.
    pub(crate) id: u64,
    /// What to do.
    pub(crate) kind: Kind,
    /// With which key.
    pub(crate) key: u8,
    /// The new value, or what is added to it; empty for the others.
    pub(crate) value: Bytes,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Put,
    Append,
    Get,
    Delete,
}

/// What a command or a query is answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// The command's own number, so that an answer cannot be mistaken for another's.
    pub(crate) id: u64,
    /// The slot that wrote the key last, this command included; 0 if the key is not there.
    pub(crate) version: Slot,
    /// The key's value, for a query and a get.
    pub(crate) value: Bytes,
}

/// The operation that a machine applied last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    pub(crate) slot: Slot,
    pub(crate) id: u64,
    pub(crate) reply: Bytes,
}

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Kv {
    keys: BTreeMap<u8, (Slot, Vec<u8>)>,
    last: Last,
}

impl Command {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = (char::from(self.key), String::from_utf8_lossy(&self.value));
        match self.kind {
            Kind::Put => write!(f, "{key}={value}"),
            Kind::Append => write!(f, "{key}+={value}"),
            Kind::Get => write!(f, "get {key}"),
            Kind::Delete => write!(f, "delete {key}"),
        }
    }
}

impl Reply {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl Last {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl StateMachine for Kv {
    fn load(
        &mut self,
        entries: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), StateError> {
        for (key, stored) in entries {
            let (Some(key), Some((version, value))) = (key.first(), stored.split_first_chunk())
            else {
                return Err(StateError(format!("entry {key:?} is too short")));
            };
            self.keys.insert(*key, (Slot(u64::from_le_bytes(*version)), value.to_vec()));
        }
        Ok(())
    }

    fn apply(&mut self, slot: Slot, command: &[u8], changes: &mut Changes) -> Bytes {
        let Some(command) = Command::decode(command) else { return Bytes::new() };
        let key = command.key;
        let mut value = Bytes::new();
        match command.kind {
            Kind::Put => self.set(slot, key, command.value.to_vec(), changes),
            Kind::Append => {
                let (_, mut grown) = self.keys.remove(&key).unwrap_or_default();
                if grown.len() > MAX_VALUE {
                    grown.clear();
                }
                grown.extend_from_slice(&command.value);
                self.set(slot, key, grown, changes);
            }
            Kind::Get => {
                let held = self.keys.get(&key);
                value = held.map_or(Bytes::new(), |(_, held)| Bytes::copy_from_slice(held));
            }
            Kind::Delete => {
                if self.keys.remove(&key).is_some() {
                    changes.delete(vec![key]);
                }
            }
        }
        let reply = encode(&Reply { id: command.id, version: self.version(key), value });
        self.last = Last { slot, id: command.id, reply: reply.clone() };
        reply
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let Some(key) = query.first() else { return encode(&self.last) };
        let value = self.keys.get(key).map_or(&[][..], |(_, value)| value);
        let value = Bytes::copy_from_slice(value);
        encode(&Reply { id: 0, version: self.version(*key), value })
    }
}

impl Kv {
    fn set(&mut self, slot: Slot, key: u8, value: Vec<u8>, changes: &mut Changes) {
        let mut stored = slot.0.to_le_bytes().to_vec();
        stored.extend_from_slice(&value);
        changes.put(vec![key], stored);
        self.keys.insert(key, (slot, value));
    }

    fn version(&self, key: u8) -> Slot {
        self.keys.get(&key).map_or(Slot::ZERO, |(version, _)| *version)
    }
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_extend(value, Vec::with_capacity(32)).expect("plain data always encodes").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_types::Change;

    fn apply(machine: &mut Kv, slot: u64, kind: Kind, value: &'static [u8]) -> (Reply, Changes) {
        let command = Command { id: slot, kind, key: b'k', value: Bytes::from_static(value) };
        let mut changes = Changes::new();
        let reply = machine.apply(Slot(slot), &command.encode(), &mut changes);
        (Reply::decode(&reply).unwrap(), changes)
    }

    #[test]
    fn what_is_stored_loads_into_an_equal_machine() {
        let mut machine = Kv::default();
        apply(&mut machine, 1, Kind::Put, b"a");
        let (_, changes) = apply(&mut machine, 2, Kind::Append, b"b");
        let entries: Vec<_> = changes
            .as_slice()
            .iter()
            .map(|change| match change {
                Change::Put(key, value) => (key.clone(), value.clone()),
                Change::Delete(key) => panic!("{key:?} was deleted"),
            })
            .collect();
        let mut loaded = Kv::default();
        loaded.load(&mut entries.into_iter()).unwrap();
        let (reply, _) = apply(&mut loaded, 3, Kind::Get, b"");
        assert_eq!((reply.version, &reply.value[..]), (Slot(2), &b"ab"[..]));
    }

    #[test]
    fn a_short_entry_is_refused() {
        let entries = vec![(Bytes::from_static(b"k"), Bytes::from_static(b"short"))];
        assert!(Kv::default().load(&mut entries.into_iter()).is_err());
    }

    #[test]
    fn the_last_operation_can_be_asked_for() {
        let mut machine = Kv::default();
        apply(&mut machine, 7, Kind::Delete, b"");
        let last = Last::decode(&machine.query(LAST)).unwrap();
        assert_eq!((last.slot, last.id), (Slot(7), 7));
        assert_eq!(Reply::decode(&last.reply).unwrap().version, Slot::ZERO);
    }
}
