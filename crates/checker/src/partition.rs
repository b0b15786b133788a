//! The partition of a history into sets of keys that can be checked independently.
//!
//! Linearizability is P-compositional (Horn and Kroening, "Faster linearizability checking via
//! P-compositionality", 2015): a history of a key-value store is linearizable if and only if its
//! restriction to each key is. A transaction takes effect on several keys at one instant, so the
//! keys that transactions connect form one part.

use crate::history::History;
use crate::value::Value;
use std::collections::BTreeMap;

/// Splits the records of a history by keys. The parts come in the order of their first mention.
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
            // The older one stays, so that the order is that of the first mention.
            parents[root.max(other)] = root.min(other);
            joined = Some(root.min(other));
        }
    }
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut keyless = Vec::new();
    for (index, record) in history.records.iter().enumerate() {
        match record.op.keys().first() {
            Some(key) => parts.entry(root(&parents, numbers[key])).or_default().push(index),
            // A transaction without keys can still have a wrong answer.
            None => keyless.push(vec![index]),
        }
    }
    parts.into_values().chain(keyless).collect()
}

fn root(parents: &[usize], mut number: usize) -> usize {
    while parents[number] != number {
        number = parents[number];
    }
    number
}
