//! Partition of a history into sets of keys that can be checked independently.
//!
//! Without transactions a key-value store is a set of independent registers, and linearizability is local
//! (Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects", 1990): a history is
//! linearizable if and only if its restriction to each register is. Horn and Kroening use this to check
//! each key by itself ("Faster linearizability checking via P-compositionality", 2015). A transaction takes
//! effect on all its keys at one instant, so the keys that transactions connect are one object, and form
//! one part.

use crate::history::History;
use crate::value::Value;
use std::collections::BTreeMap;

/// Partitions the records of a history by keys. The parts are in the order of their first record.
pub(crate) fn partition(history: &History) -> Vec<Vec<usize>> {
    let mut numbers: BTreeMap<&Value, usize> = BTreeMap::new();
    let mut parents: Vec<usize> = Vec::new();
    for record in &history.records {
        let mut joined: Option<usize> = None;
        for key in record.op.keys() {
            let number = *numbers.entry(key).or_insert_with(|| {
                parents.push(parents.len());
                parents.len() - 1
            });
            let root = root(&parents, number);
            let other = *joined.get_or_insert(root);
            // The older root stays, so that the parts are in the order of their first record.
            parents[root.max(other)] = root.min(other);
            joined = Some(root.min(other));
        }
    }
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut keyless = Vec::new();
    for (index, record) in history.records.iter().enumerate() {
        match record.op.keys().first() {
            Some(key) => parts.entry(root(&parents, numbers[key])).or_default().push(index),
            // A transaction without keys is checked as well: it is illegal if it reports failed comparisons.
            None => keyless.push(vec![index]),
        }
    }
    parts.into_values().chain(keyless).collect()
}

/// Returns the root of a key in the union-find forest.
fn root(parents: &[usize], mut number: usize) -> usize {
    while parents[number] != number {
        number = parents[number];
    }
    number
}
