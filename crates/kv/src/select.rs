//! Reading: which keys of a range, in which order, and how many.

use crate::store::Entry;
use crate::{KeyRange, KeyValue, Range, RangeAnswer, Revision, Sort, SortBy};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;

type Found<'a> = (&'a Bytes, &'a Entry);

/// Answers a read. Its revision has been checked.
pub(crate) fn select(entries: &BTreeMap<Bytes, Entry>, range: &Range) -> RangeAnswer {
    if range.count_only {
        let count = within(entries, &range.keys).count() as u64;
        return RangeAnswer { count, ..RangeAnswer::default() };
    }
    // In the order of the keys the first ones are the answer; any other order must see them all.
    let limit = if range.limit == 0 { u64::MAX } else { range.limit };
    let keep = if range.sort.is_some() { u64::MAX } else { limit };
    let (mut found, mut count, mut more) = (Vec::new(), 0, false);
    for entry in within(entries, &range.keys) {
        count += 1;
        if !passes(range, entry.1) {
            continue;
        }
        if (found.len() as u64) < keep {
            found.push(entry);
        } else {
            more = true;
        }
    }
    if let Some(sort) = range.sort {
        found.sort_by(|a, b| order(sort, *a, *b));
        more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let kvs = found.into_iter().map(|(key, entry)| key_value(key, entry, range.keys_only));
    RangeAnswer { kvs: kvs.collect(), more, count }
}

/// The entries of a range in the order of their keys.
pub(crate) fn within<'a>(
    entries: &'a BTreeMap<Bytes, Entry>,
    keys: &KeyRange,
) -> impl Iterator<Item = Found<'a>> + use<'a> {
    keys.bounds().map(|bounds| entries.range::<[u8], _>(bounds)).into_iter().flatten()
}

/// An entry as clients see it.
pub(crate) fn key_value(key: &Bytes, entry: &Entry, key_only: bool) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: if key_only { Bytes::new() } else { entry.value.clone() },
        create_revision: entry.created,
        mod_revision: entry.modified,
        version: entry.version,
    }
}

fn passes(range: &Range, entry: &Entry) -> bool {
    let at_least = |min: Option<Revision>, is: Revision| min.is_none_or(|min| is >= min);
    let at_most = |max: Option<Revision>, is: Revision| max.is_none_or(|max| is <= max);
    at_least(range.min_mod_revision, entry.modified)
        && at_most(range.max_mod_revision, entry.modified)
        && at_least(range.min_create_revision, entry.created)
        && at_most(range.max_create_revision, entry.created)
}

fn order(sort: Sort, (a_key, a): Found<'_>, (b_key, b): Found<'_>) -> Ordering {
    let ascending = match sort.by {
        SortBy::Key => a_key.cmp(b_key),
        SortBy::Version => a.version.cmp(&b.version),
        SortBy::Created => a.created.cmp(&b.created),
        SortBy::Modified => a.modified.cmp(&b.modified),
        SortBy::Value => a.value.cmp(&b.value),
    };
    if sort.descending { ascending.reverse() } else { ascending }
}
