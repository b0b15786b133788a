//! Selecting: which keys of a range, in which order, and how many, piece by piece.

use crate::store::Entry;
use crate::tree::{Entries, Tree};
use crate::{KeyRange, KeyValue, KvError, Order, Range, RangeAnswer, Revision, Sort, SortBy};
use bytes::Bytes;
use std::cmp::Ordering;
use std::ops::Bound;

/// The bytes that a key counts in a reply beside its name and its value: a little more than its
/// numbers and lengths take on the wire.
const KEY_OVERHEAD: usize = 48;
/// A sorted selection with a smaller limit keeps this many keys between two cuts.
const MIN_KEPT: usize = 512;

/// The bytes that a reply may still take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room(usize);

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Makes room for a key.
    pub(crate) fn take(&mut self, kv: &KeyValue) -> Result<(), KvError> {
        self.0 = self.0.checked_sub(reply_bytes(kv)).ok_or(KvError::ReplyTooLarge)?;
        Ok(())
    }
}

/// The place in a range up to which it has been walked.
#[derive(Debug)]
pub(crate) struct Walk {
    keys: KeyRange,
    /// The last key seen.
    last: Option<Bytes>,
}

impl Walk {
    pub(crate) fn new(keys: KeyRange) -> Self {
        Self { keys, last: None }
    }

    /// The next keys, at most `most` of them, until `stop` says so. Returns whether more may come.
    pub(crate) fn go<'a>(
        &mut self,
        entries: &'a Tree<Entry>,
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
        self.last = last.cloned().or_else(|| self.last.take());
        Ok(seen == most)
    }
}

/// A read of a range in progress. Its revision has been checked.
#[derive(Debug)]
pub(crate) struct Selection {
    range: Range,
    walk: Walk,
    /// The keys kept, with their values as long as they may be compared.
    found: Vec<KeyValue>,
    /// The bytes of what is kept: of the answer, or of the keys among which a limit still chooses.
    bytes: usize,
    /// More keys than these need not be kept.
    keep: usize,
    more: bool,
}

impl Selection {
    pub(crate) fn new(range: Range) -> Self {
        let limit = limit(&range);
        let keep = match range.sort {
            None => limit,
            // The extra key tells whether there are more.
            Some(Sort { order: Order::AscendingWithinLimit, .. }) if !filters(&range) => {
                limit.saturating_add(1)
            }
            // Any other order must see them all.
            Some(_) => usize::MAX,
        };
        let walk = Walk::new(range.keys.clone());
        Self { range, walk, found: Vec::new(), bytes: 0, keep, more: false }
    }

    /// The bytes of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Walks on over at most `most` keys; returns the answer if that was the end. What a limit
    /// may still cut off takes no room until it is known to stay.
    pub(crate) fn step(
        &mut self,
        entries: &Tree<Entry>,
        most: usize,
        room: &mut Room,
    ) -> Result<Option<RangeAnswer>, KvError> {
        if !self.range.count_only && self.walk(entries, most, room)? {
            return Ok(None);
        }
        self.finish(entries, room).map(Some)
    }

    /// Returns whether keys may be left.
    fn walk(
        &mut self,
        entries: &Tree<Entry>,
        most: usize,
        room: &mut Room,
    ) -> Result<bool, KvError> {
        let Self { range, walk, found, bytes, keep, more } = self;
        let (sort, limit) = (range.sort, limit(range));
        let cut_at = limit.max(MIN_KEPT).saturating_mul(2);
        walk.go(entries, most, |key, entry| {
            if !passes(range, entry) {
                return Ok(true);
            }
            if found.len() == *keep {
                *more = true;
                return Ok(false);
            }
            let key_only = range.keys_only && sort.is_none();
            let kv = key_value(key, entry, key_only);
            *bytes += if sort.is_none() || range.limit == 0 {
                room.take(&kv)?;
                reply_bytes(&kv)
            } else {
                candidate_bytes(&kv)
            };
            found.push(kv);
            if let Some(sort) = sort.filter(|_| found.len() >= cut_at) {
                // Keeps no more of a large range than its answer needs.
                found.sort_by(|a, b| order(sort, a, b));
                found.truncate(limit);
                *bytes = found.iter().map(candidate_bytes).sum();
                *more = true;
            }
            Ok(true)
        })
    }

    fn finish(&mut self, entries: &Tree<Entry>, room: &mut Room) -> Result<RangeAnswer, KvError> {
        let mut kvs = std::mem::take(&mut self.found);
        if let Some(sort) = self.range.sort {
            let limit = limit(&self.range);
            kvs.sort_by(|a, b| order(sort, a, b));
            self.more |= kvs.len() > limit;
            kvs.truncate(limit);
            if self.range.keys_only {
                kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
            }
            if self.range.limit > 0 {
                kvs.iter().try_for_each(|kv| room.take(kv))?;
                self.bytes = kvs.iter().map(reply_bytes).sum();
            }
        }
        let count = self.range.keys.bounds().map_or(0, |bounds| entries.count(bounds));
        Ok(RangeAnswer { kvs, more: self.more, count: count as u64 })
    }
}

/// The entries of a range in the order of their keys.
pub(crate) fn within<'a>(
    entries: &'a Tree<Entry>,
    keys: &KeyRange,
) -> impl Iterator<Item = (&'a Bytes, &'a Entry)> + use<'a> {
    let found: Option<Entries<'a, Entry>> = keys.bounds().map(|bounds| entries.range(bounds));
    found.into_iter().flatten()
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

fn reply_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + KEY_OVERHEAD
}

/// The bytes of a key that a limit may still cut off: its value stays the store's.
fn candidate_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + KEY_OVERHEAD
}

fn limit(range: &Range) -> usize {
    if range.limit == 0 { usize::MAX } else { usize::try_from(range.limit).unwrap_or(usize::MAX) }
}

fn filters(range: &Range) -> bool {
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
        Order::Ascending | Order::AscendingWithinLimit => ascending,
        Order::Descending => ascending.reverse(),
    }
}
