//! Replicated state machine of a simulated cluster: the shipped store, with a unique number before
//! each command and reply, so that checks detect lost, repeated and reordered commands.

use bytes::Bytes;
use std::fmt;
use synod_consensus::{Output, StateError, StateMachine, StateReader, StateView};
use synod_kv as kv;
use synod_types::Slot;

/// Query for the operation that a machine applied last.
pub(crate) const LAST: &[u8] = b"";

/// Command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Unique in a run.
    pub(crate) id: u64,
    /// The store's command.
    pub(crate) body: kv::Command,
}

/// Operation that a machine applied last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) slot: Slot,
    pub(crate) id: u64,
    pub(crate) reply: Bytes,
}

/// The shipped store, and the last operation applied to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    store: kv::KvStore,
    last: Last,
}

impl Command {
    /// Returns a plain write of a key with a name of one letter.
    pub(crate) fn put(id: u64, key: u8, value: impl Into<Bytes>) -> Self {
        Self { id, body: kv::Command::Put(kv::Put::new(vec![key], value)) }
    }

    pub(crate) fn encode(&self) -> Bytes {
        numbered(self.id, &self.body.encode())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, body) = split(bytes)?;
        Some(Self { id, body: kv::Command::decode(body).ok()? })
    }
}

/// Prepends a number to bytes.
fn numbered(number: u64, rest: &[u8]) -> Bytes {
    [&number.to_le_bytes(), rest].concat().into()
}

/// Splits a number from the bytes after it.
fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// Returns the number of the command that a reply belongs to, and the store's reply.
pub(crate) fn read_reply(bytes: &[u8]) -> Option<(u64, kv::Reply)> {
    let (id, reply) = split(bytes)?;
    Some((id, kv::Reply::decode(reply).ok()?))
}

/// Returns the value of one key in a machine's state; empty if the key does not exist.
pub(crate) fn value_in(query: impl FnOnce(&[u8]) -> Option<Bytes>, key: u8) -> Option<Bytes> {
    let keys = kv::KeyRange::one(vec![key]);
    let reply = query(&kv::Query::Range(kv::Range::new(keys)).encode())?;
    let kv::ReplyBody::Op(kv::OpResult::Range(found)) =
        kv::Reply::decode(&reply).ok()?.result.ok()?
    else {
        return None;
    };
    Some(found.kvs.into_iter().next().map(|found| found.value).unwrap_or_default())
}

impl Last {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (slot, rest) = split(bytes)?;
        let (id, reply) = split(rest)?;
        Some(Self { slot: Slot(slot), id, reply: Bytes::copy_from_slice(reply) })
    }
}

impl StateMachine for Machine {
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        self.last = Last::default();
        self.store.load(state)
    }

    fn apply(
        &mut self,
        slot: Slot,
        command: &[u8],
        state: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError> {
        let Some((id, body)) = split(command) else { return Ok(Bytes::new()) };
        let reply = numbered(id, &self.store.apply(slot, body, state, output)?);
        self.last = Last { slot, id, reply: reply.clone() };
        Ok(reply)
    }

    fn reader(&self, _: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
        Ok(Box::new(self.clone()))
    }
}

impl StateReader for Machine {
    fn query(&self, query: &[u8]) -> Result<Bytes, StateError> {
        if query != LAST {
            return self.store.query(query);
        }
        let Last { slot, id, reply } = &self.last;
        Ok(numbered(slot.0, &numbered(*id, reply)))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            kv::Command::Put(put) => f.write_str(&describe_put(put)),
            kv::Command::DeleteRange(delete) => f.write_str(&describe_delete(delete)),
            kv::Command::Txn(txn) => f.write_str(&describe_txn(txn)),
            kv::Command::Query(kv::Query::Range(range)) => f.write_str(&describe_range(range)),
            kv::Command::Query(kv::Query::Txn(txn)) => f.write_str(&describe_txn(txn)),
            kv::Command::Query(kv::Query::Revision) => f.write_str("get the revision"),
        }
    }
}

fn describe_put(put: &kv::Put) -> String {
    format!("{}={}", text(&put.key), text(put.value.as_deref().unwrap_or_default()))
}

fn describe_delete(delete: &kv::DeleteRange) -> String {
    format!("delete {}", text(delete.keys.start()))
}

fn describe_range(range: &kv::Range) -> String {
    format!("get {}", text(range.keys.start()))
}

fn describe_txn(txn: &kv::Txn) -> String {
    let branch = |ops: &[kv::Op]| {
        let words = ops.iter().map(|op| match op {
            kv::Op::Put(put) => describe_put(put),
            kv::Op::DeleteRange(delete) => describe_delete(delete),
            kv::Op::Range(range) => describe_range(range),
        });
        words.collect::<Vec<_>>().join(", ")
    };
    let compares = txn.compares.iter().map(|compare| {
        let key = text(compare.keys.start());
        match &compare.operand {
            kv::CompareOperand::Value(value) => format!("{key} is {}", text(value)),
            _ if compare.relation == kv::CompareRelation::Equal => format!("no {key}"),
            _ => format!("a {key}"),
        }
    });
    let compares = compares.collect::<Vec<_>>().join(" and ");
    match compares.as_str() {
        "" => branch(&txn.success),
        compares => {
            format!("if {compares} then {} else {}", branch(&txn.success), branch(&txn.failure))
        }
    }
}

/// Returns the bytes as text, without the padding of long values.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let short = text.trim_end_matches('-');
    match text.len() - short.len() {
        0..4 => text.into_owned(),
        padding => format!("{short}<{padding} more>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use synod_types::Changes;

    impl Machine {
        /// Applies a command to a machine without a store; returns the reply and the changes.
        pub(crate) fn apply_alone(&mut self, slot: u64, command: &[u8]) -> (Bytes, Changes) {
            let mut output = Output::new();
            let reply = self.apply(Slot(slot), command, &BTreeMap::new(), &mut output);
            (reply.unwrap(), output.changes)
        }
    }

    #[test]
    fn reply_and_last_query_contain_the_id_of_the_command() {
        let mut machine = Machine::default();
        let command = Command::put(7, b'k', "v");
        let (reply, changes) = machine.apply_alone(command.id, &command.encode());
        assert!(!changes.as_slice().is_empty());
        let (id, answer) = read_reply(&reply).unwrap();
        assert_eq!((id, answer.result.is_ok()), (7, true));
        let last = Last::decode(&machine.query(LAST).unwrap()).unwrap();
        assert_eq!(last, Last { slot: Slot(7), id: 7, reply });
        assert_eq!(value_in(|query| machine.query(query).ok(), b'k').as_deref(), Some(&b"v"[..]));
        assert_eq!(value_in(|query| machine.query(query).ok(), b'l').as_deref(), Some(&b""[..]));
    }

    #[test]
    fn commands_display_their_operation_and_round_trip() {
        let put = Command::put(1, b'k', "v");
        assert_eq!(put.to_string(), "k=v");
        assert_eq!(Command::decode(&put.encode()), Some(put));
        let delete = kv::Op::DeleteRange(kv::DeleteRange::new(kv::KeyRange::one("k")));
        let get = kv::Op::Range(kv::Range::new(kv::KeyRange::one("l")));
        let is = |operand| kv::Compare {
            keys: kv::KeyRange::one("k"),
            relation: kv::CompareRelation::Equal,
            operand,
        };
        let operands =
            [kv::CompareOperand::Value("v".into()), kv::CompareOperand::Version(kv::Version(0))];
        let compares = operands.into_iter().map(is).collect();
        let txn = kv::Txn { compares, success: vec![delete, get.clone()], failure: vec![get] };
        let command = Command { id: 2, body: kv::Command::Txn(txn) };
        let words = "if k is v and no k then delete k, get l else get l";
        assert_eq!(command.to_string(), words);
        assert_eq!(Command::decode(&command.encode()), Some(command));
    }

    #[test]
    fn invalid_command_leaves_the_state_unchanged() {
        let mut machine = Machine::default();
        for (slot, command) in [(1, &b"short"[..]), (2, b"eightbytes and nonsense")] {
            assert!(machine.apply_alone(slot, command).1.is_empty());
        }
        assert_eq!(Command::decode(b"eightbytes and nonsense"), None);
    }
}
