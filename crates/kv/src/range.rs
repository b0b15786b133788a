//! Range reads with filters, order and limit, executed in bounded pieces.

use crate::entry::Entry;
use crate::{
    KeyRange, KeyValue, KvError, Range, RangeResult, Revision, Sort, SortBy, SortDirection,
};
use bytes::Bytes;
use std::cmp::Ordering;
use std::ops::Bound;
use synod_types::{MapEntries, SharedMap};

/// Size of a key-value pair in a reply, without key and value: an upper bound for its numbers and lengths.
const KEY_OVERHEAD: usize = 48;
/// Minimum number of keys that a sorted read with a limit collects between two sorts.
const MIN_KEPT: usize = 512;

/// Remaining size of a reply in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyBudget(usize);

impl ReplyBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Subtracts the size of a key-value pair from the budget.
    pub(crate) fn take(&mut self, kv: &KeyValue) -> Result<(), KvError> {
        // The budget is shared by all operations of a transaction.
        self.0 = self.0.checked_sub(reply_bytes(kv)).ok_or(KvError::ReplyTooLarge)?;
        Ok(())
    }
}

/// Position in a range: the keys up to it have been read.
#[derive(Debug)]
pub(crate) struct RangeCursor {
    keys: KeyRange,
    /// Last key that was read.
    last: Option<Bytes>,
}

impl RangeCursor {
    pub(crate) fn new(keys: KeyRange) -> Self {
        Self { keys, last: None }
    }

    /// Reads at most `most` keys, and stops early if `each` returns false. Returns whether the range may have
    /// more keys to read.
    pub(crate) fn advance<'a>(
        &mut self,
        entries: &'a SharedMap<Entry>,
        most: usize,
        mut each: impl FnMut(&'a Bytes, &'a Entry) -> Result<bool, KvError>,
    ) -> Result<bool, KvError> {
        let Some((start, end)) = self.keys.bounds() else { return Ok(false) };
        let start = self.last.as_ref().map_or(start, |last| Bound::Excluded(&last[..]));
        let (mut seen, mut last) = (0, None);
        for (key, entry) in entries.range((start, end)).take(most) {
            (seen, last) = (seen + 1, Some(key));
            if !each(key, entry)? {
                return Ok(false);
            }
        }
        // Without a key in this piece the position stays.
        self.last = last.cloned().or_else(|| self.last.take());
        Ok(seen == most)
    }
}

/// Range read in progress. The caller has checked its revision.
#[derive(Debug)]
pub(crate) struct RangeRead {
    range: Range,
    cursor: RangeCursor,
    /// Collected keys. A sorted read needs their values even if the result has only keys.
    found: Vec<KeyValue>,
    /// Size of the collected keys: as part of the result, or as candidates that a limit may remove.
    bytes: usize,
    /// Number of collected keys after which the read stops.
    keep: usize,
    /// True if the limit excluded keys.
    more: bool,
}

impl RangeRead {
    pub(crate) fn new(range: Range) -> Self {
        let limit = limit(&range);
        let keep = match range.sort {
            None => limit,
            // etcd applies the limit before this sort, and reads one more key to detect whether keys remain.
            Some(Sort { order: SortDirection::AscendingWithinLimit, .. })
                if !has_filters(&range) =>
            {
                limit.saturating_add(1)
            }
            // Any other sort needs all keys of the range.
            Some(_) => usize::MAX,
        };
        let cursor = RangeCursor::new(range.keys.clone());
        Self { range, cursor, found: Vec::new(), bytes: 0, keep, more: false }
    }

    /// Returns the size of the collected keys.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads at most `most` keys. Returns the result after the last piece. Keys that the limit may still
    /// remove do not count against the budget.
    pub(crate) fn step(
        &mut self,
        entries: &SharedMap<Entry>,
        most: usize,
        budget: &mut ReplyBudget,
    ) -> Result<Option<RangeResult>, KvError> {
        if !self.range.count_only && self.read_keys(entries, most, budget)? {
            return Ok(None);
        }
        self.finish(entries, budget).map(Some)
    }

    /// Reads at most `most` keys. Returns whether the range may have more keys to read.
    fn read_keys(
        &mut self,
        entries: &SharedMap<Entry>,
        most: usize,
        budget: &mut ReplyBudget,
    ) -> Result<bool, KvError> {
        let Self { range, cursor, found, bytes, keep, more } = self;
        let (sort, limit) = (range.sort, limit(range));
        // Sorts only at twice the limit keep the cost for each key logarithmic.
        let cut_at = limit.max(MIN_KEPT).saturating_mul(2);
        cursor.advance(entries, most, |key, entry| {
            if !passes(range, entry) {
                return Ok(true);
            }
            if found.len() == *keep {
                *more = true;
                return Ok(false);
            }
            // A sort may compare values, so they are dropped only after it.
            let key_only = range.keys_only && sort.is_none();
            let kv = key_value(key, entry, key_only);
            // Without a sort or a limit the key is certainly part of the result.
            *bytes += if sort.is_none() || range.limit == 0 {
                budget.take(&kv)?;
                reply_bytes(&kv)
            } else {
                candidate_bytes(&kv)
            };
            found.push(kv);
            if let Some(sort) = sort.filter(|_| found.len() >= cut_at) {
                // Keys after the limit cannot be part of the result: memory stays bounded on a large range.
                found.sort_by(|a, b| order(sort, a, b));
                found.truncate(limit);
                *bytes = found.iter().map(candidate_bytes).sum();
                *more = true;
            }
            Ok(true)
        })
    }

    fn finish(
        &mut self,
        entries: &SharedMap<Entry>,
        budget: &mut ReplyBudget,
    ) -> Result<RangeResult, KvError> {
        let mut kvs = std::mem::take(&mut self.found);
        if let Some(sort) = self.range.sort {
            let limit = limit(&self.range);
            kvs.sort_by(|a, b| order(sort, a, b));
            self.more |= kvs.len() > limit;
            kvs.truncate(limit);
            // Only now, because the sort may have compared values.
            if self.range.keys_only {
                kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
            }
            if self.range.limit > 0 {
                kvs.iter().try_for_each(|kv| budget.take(kv))?;
                self.bytes = kvs.iter().map(reply_bytes).sum();
            }
        }
        // As in etcd the count ignores limit and filters.
        let count = self.range.keys.bounds().map_or(0, |bounds| entries.count(bounds));
        Ok(RangeResult { kvs, more: self.more, count: count as u64 })
    }
}

/// Returns the entries of a range in ascending order of their keys.
pub(crate) fn entries_in<'a>(
    entries: &'a SharedMap<Entry>,
    keys: &KeyRange,
) -> impl Iterator<Item = (&'a Bytes, &'a Entry)> + use<'a> {
    let found: Option<MapEntries<'a, Entry>> = keys.bounds().map(|bounds| entries.range(bounds));
    found.into_iter().flatten()
}

/// Converts an entry to the type of replies.
pub(crate) fn key_value(key: &Bytes, entry: &Entry, key_only: bool) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: if key_only { Bytes::new() } else { entry.value.clone() },
        create_revision: entry.created,
        mod_revision: entry.modified,
        version: entry.version,
    }
}

fn reply_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + KEY_OVERHEAD
}

/// Returns the size of a key that the limit may still remove. Its value is shared with the store and takes no
/// memory of its own.
fn candidate_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + KEY_OVERHEAD
}

fn limit(range: &Range) -> usize {
    if range.limit == 0 { usize::MAX } else { usize::try_from(range.limit).unwrap_or(usize::MAX) }
}

fn has_filters(range: &Range) -> bool {
    range.min_mod_revision.is_some()
        || range.max_mod_revision.is_some()
        || range.min_create_revision.is_some()
        || range.max_create_revision.is_some()
}

fn passes(range: &Range, entry: &Entry) -> bool {
    let at_least = |min: Option<Revision>, is: Revision| min.is_none_or(|min| is >= min);
    let at_most = |max: Option<Revision>, is: Revision| max.is_none_or(|max| is <= max);
    at_least(range.min_mod_revision, entry.modified)
        && at_most(range.max_mod_revision, entry.modified)
        && at_least(range.min_create_revision, entry.created)
        && at_most(range.max_create_revision, entry.created)
}

fn order(sort: Sort, a: &KeyValue, b: &KeyValue) -> Ordering {
    let ascending = match sort.by {
        SortBy::Key => a.key.cmp(&b.key),
        SortBy::Version => a.version.cmp(&b.version),
        SortBy::Created => a.create_revision.cmp(&b.create_revision),
        SortBy::Modified => a.mod_revision.cmp(&b.mod_revision),
        SortBy::Value => a.value.cmp(&b.value),
    };
    match sort.order {
        SortDirection::Ascending | SortDirection::AscendingWithinLimit => ascending,
        SortDirection::Descending => ascending.reverse(),
    }
}
