//! Scripts decoded from bytes. Every byte string is a valid script, so that a shrunk one is valid, too.

use crate::{Batch, LogOp, StoredRun};
use bytes::Bytes;
use std::collections::BTreeMap;
use synod_types::{Changes, GroupId, Slot, Value, Values};

/// Step of a script for a log store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogStep {
    /// Commits a batch.
    Commit(Batch),
    /// Closes the store and opens it again.
    Restart,
    /// Crashes the disk and opens the store again.
    Crash,
}

/// Step of a script for a state store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateStep {
    /// Writes a batch.
    Write(Changes),
    /// Makes all written batches durable.
    Sync,
    /// Closes the store and opens it again.
    Restart,
    /// Crashes the disk and opens the store again.
    Crash,
}

/// Decodes a script for a log store: batches of several operations on three groups. Bases only rise, and
/// no slot at or below the base is written. Each operation takes six bytes.
#[must_use]
pub fn log_steps(bytes: &[u8]) -> Vec<LogStep> {
    let mut steps = Vec::new();
    let mut batch = Batch::default();
    let mut bases: BTreeMap<GroupId, Slot> = BTreeMap::new();
    for (serial, chunk) in bytes.chunks_exact(6).enumerate() {
        let kind = chunk[0] % 16;
        // A batch ends before every restart and crash, and before about 30 % of the operations.
        if kind < 6 && !batch.is_empty() {
            steps.push(LogStep::Commit(std::mem::take(&mut batch)));
        }
        match kind {
            0 => steps.push(LogStep::Restart),
            1 => steps.push(LogStep::Crash),
            _ => {
                let group = GroupId(u64::from(chunk[1] % 3) * 256);
                let base = bases.entry(group).or_default();
                batch.ops.push((group, log_op(base, serial, &chunk[2..])));
            }
        }
    }
    if !batch.is_empty() {
        steps.push(LogStep::Commit(batch));
    }
    steps
}

fn log_op(base: &mut Slot, serial: usize, bytes: &[u8]) -> LogOp {
    let at = base.plus(1 + usize::from(bytes[1] % 24));
    // Unique content, so that a stale one is noticed.
    let content = || Bytes::from(serial.to_string());
    match bytes[0] % 8 {
        0 => LogOp::HardState(content()),
        1 => {
            *base = base.plus(usize::from(bytes[1] % 12));
            LogOp::Compact { through: *base, base: content() }
        }
        2 => LogOp::TruncateFrom(at),
        _ => {
            let count = usize::from(bytes[2] % 8);
            let values: Values = (0..count).map(|i| value(serial, i)).collect();
            // A slice of a longer batch, as protocols often write it.
            let from = usize::from(bytes[3] % 3).min(count);
            let values = values.slice(from, count);
            LogOp::Put(StoredRun { first: at, stamp: vec![bytes[3]; from].into(), values })
        }
    }
}

fn value(serial: usize, at: usize) -> Value {
    if at == 1 { Value::Noop } else { Value::Command(format!("{serial}.{at}").into()) }
}

/// Decodes a script for a state store, with a few short keys, including the empty one. Each change takes
/// four bytes.
#[must_use]
pub fn state_steps(bytes: &[u8]) -> Vec<StateStep> {
    let mut steps = Vec::new();
    let mut changes = Changes::new();
    for (serial, chunk) in bytes.chunks_exact(4).enumerate() {
        let kind = chunk[0] % 16;
        if kind < 8 && !changes.is_empty() {
            steps.push(StateStep::Write(std::mem::take(&mut changes)));
        }
        match kind {
            0 => steps.push(StateStep::Restart),
            1 => steps.push(StateStep::Crash),
            2 => steps.push(StateStep::Sync),
            _ if chunk[3] % 4 == 0 => changes.delete(key(chunk)),
            // Every third value is empty: a key with an empty value must not count as deleted.
            _ if serial % 3 == 0 => changes.put(key(chunk), Bytes::new()),
            _ => changes.put(key(chunk), serial.to_string()),
        }
    }
    if !changes.is_empty() {
        steps.push(StateStep::Write(changes));
    }
    steps
}

fn key(chunk: &[u8]) -> Vec<u8> {
    // The lowest and the highest byte are the boundary cases of ranges and prefixes.
    const LETTERS: [u8; 4] = [0, b'a', b'b', 0xFF];
    let letters = [chunk[1] & 3, (chunk[1] >> 2) & 3, (chunk[1] >> 4) & 3];
    letters[..usize::from(chunk[2] & 3)].iter().map(|at| LETTERS[usize::from(*at)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::random_bytes;

    #[test]
    fn log_scripts_contain_every_kind_of_step_and_operation() {
        let steps = log_steps(&random_bytes(1));
        let count = |is: fn(&LogStep) -> bool| steps.iter().filter(|step| is(step)).count();
        assert!(count(|step| matches!(step, LogStep::Commit(_))) > 5);
        assert!(count(|step| matches!(step, LogStep::Restart)) > 0);
        assert!(count(|step| matches!(step, LogStep::Crash)) > 0);
        let ops: Vec<_> = steps
            .iter()
            .filter_map(|step| if let LogStep::Commit(batch) = step { Some(batch) } else { None })
            .flat_map(|batch| &batch.ops)
            .collect();
        assert!(ops.iter().any(|(_, op)| matches!(op, LogOp::TruncateFrom(_))));
        assert!(ops.iter().any(|(_, op)| matches!(op, LogOp::Compact { .. })));
        assert!(ops.iter().any(|(_, op)| matches!(op, LogOp::Put(_))));
        assert!(ops.iter().any(|(_, op)| matches!(op, LogOp::HardState(_))));
    }
}
