//! Ranges of keys.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// Bounds of an interval of an ordered map.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Single key, or interval of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRange {
    /// Single key.
    One(Bytes),
    /// Keys from the first bound to before the second. Empty if the second is not above the first.
    Between(Bytes, Bytes),
    /// This key and all keys above it.
    From(Bytes),
}

impl KeyRange {
    /// Creates a range of a single key.
    #[must_use]
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self::One(key.into())
    }

    /// Creates the range of all keys.
    #[must_use]
    pub fn all() -> Self {
        // The lowest key: empty keys are not allowed.
        Self::From(Bytes::from_static(b"\0"))
    }

    /// Creates the range of all keys with a prefix. The empty prefix selects all keys.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let from = prefix.into();
        if from.is_empty() {
            return Self::all();
        }
        // The upper bound is the first key after the prefix: the last byte below 0xFF is incremented, and
        // the bytes after it are dropped. A prefix of 0xFF bytes only has no upper bound.
        match from.iter().rposition(|byte| *byte < u8::MAX) {
            Some(at) => {
                let mut to = from[..=at].to_vec();
                to[at] += 1;
                Self::Between(from, to.into())
            }
            None => Self::From(from),
        }
    }

    /// Converts a range of an etcd request. An empty `range_end` selects one key, a single zero byte selects
    /// all keys from `key` on, and any other value is the exclusive upper bound.
    #[must_use]
    pub fn from_etcd(key: Bytes, range_end: Bytes) -> Self {
        match &range_end[..] {
            [] => Self::One(key),
            [0] => Self::From(key),
            _ => Self::Between(key, range_end),
        }
    }

    /// Returns the lower bound of the range.
    #[must_use]
    pub fn start(&self) -> &Bytes {
        match self {
            Self::One(key) | Self::Between(key, _) | Self::From(key) => key,
        }
    }

    /// Returns whether the range contains `key`.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between(from, to) => &from[..] <= key && key < &to[..],
            Self::From(from) => &from[..] <= key,
        }
    }

    /// Returns the bounds for an ordered map, or `None` for an empty range.
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        match self {
            Self::One(key) => Some((Bound::Included(key), Bound::Included(key))),
            Self::Between(from, to) if from < to => {
                Some((Bound::Included(from), Bound::Excluded(to)))
            }
            Self::Between(..) => None,
            Self::From(from) => Some((Bound::Included(from), Bound::Unbounded)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: &[u8]) -> Bytes {
        Bytes::copy_from_slice(key)
    }

    #[test]
    fn prefix_range_contains_exactly_the_keys_with_the_prefix() {
        let cases: [(&[u8], KeyRange); 5] = [
            (b"", KeyRange::From(bytes(b"\0"))),
            (b"a", KeyRange::Between(bytes(b"a"), bytes(b"b"))),
            (b"a\xff", KeyRange::Between(bytes(b"a\xff"), bytes(b"b"))),
            (b"a\xff\xff", KeyRange::Between(bytes(b"a\xff\xff"), bytes(b"b"))),
            (b"\xff\xff", KeyRange::From(bytes(b"\xff\xff"))),
        ];
        for (prefix, range) in cases {
            assert_eq!(KeyRange::prefix(bytes(prefix)), range, "prefix {prefix:?}");
            for key in [&b"a"[..], b"a\xff\xff", b"a\xff\xff\xff", b"b", b"\xff\xff", b"\xff\xff0"]
            {
                assert_eq!(range.contains(key), key.starts_with(prefix), "{key:?} of {prefix:?}");
            }
        }
    }

    #[test]
    fn etcd_range_end_selects_one_key_an_interval_or_all_later_keys() {
        assert_eq!(KeyRange::from_etcd(bytes(b"a"), bytes(b"")), KeyRange::one("a"));
        assert_eq!(KeyRange::from_etcd(bytes(b"a"), bytes(b"\0")), KeyRange::From(bytes(b"a")));
        let range = KeyRange::from_etcd(bytes(b"a"), bytes(b"c"));
        assert_eq!(range, KeyRange::Between(bytes(b"a"), bytes(b"c")));
        assert!(range.contains(b"a") && range.contains(b"b\xff") && !range.contains(b"c"));
    }

    #[test]
    fn reversed_range_is_empty() {
        let range = KeyRange::Between(bytes(b"b"), bytes(b"a"));
        assert_eq!(range.bounds(), None);
        assert!(!range.contains(b"a") && !range.contains(b"b"));
        assert_eq!(KeyRange::Between(bytes(b"a"), bytes(b"a")).bounds(), None);
    }
}
