//! Which keys a request is about.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// Where an interval begins and ends, as an ordered map takes it.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// One key, or all keys of an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRange {
    /// Exactly this key.
    One(Bytes),
    /// From the first key on, up to but not including the second. Empty if the second is not
    /// above the first.
    Between(Bytes, Bytes),
    /// This key and all above it.
    From(Bytes),
}

impl KeyRange {
    /// Exactly `key`.
    #[must_use]
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self::One(key.into())
    }

    /// Every key there can be.
    #[must_use]
    pub fn all() -> Self {
        Self::From(Bytes::from_static(b"\0"))
    }

    /// Every key that begins with `prefix`; an empty prefix means every key.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let from = prefix.into();
        if from.is_empty() {
            return Self::all();
        }
        // The first key behind the prefix: raise its last byte that can be raised.
        match from.iter().rposition(|byte| *byte < u8::MAX) {
            Some(at) => {
                let mut to = from[..=at].to_vec();
                to[at] += 1;
                Self::Between(from, to.into())
            }
            None => Self::From(from),
        }
    }

    /// The keys as etcd's requests name them: no `range_end` is one key, a `range_end` of one
    /// zero byte is every key from `key` on, anything else is the first key that is left out.
    #[must_use]
    pub fn from_etcd(key: Bytes, range_end: Bytes) -> Self {
        match &range_end[..] {
            [] => Self::One(key),
            [0] => Self::From(key),
            _ => Self::Between(key, range_end),
        }
    }

    /// The lowest key of the range.
    #[must_use]
    pub fn start(&self) -> &Bytes {
        match self {
            Self::One(key) | Self::Between(key, _) | Self::From(key) => key,
        }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between(from, to) => &from[..] <= key && key < &to[..],
            Self::From(from) => &from[..] <= key,
        }
    }

    /// The range for an ordered map; `None` if no key can lie in it.
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
    fn a_prefix_ends_behind_its_last_key() {
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
    fn etcd_names_ranges_by_their_end() {
        assert_eq!(KeyRange::from_etcd(bytes(b"a"), bytes(b"")), KeyRange::one("a"));
        assert_eq!(KeyRange::from_etcd(bytes(b"a"), bytes(b"\0")), KeyRange::From(bytes(b"a")));
        let range = KeyRange::from_etcd(bytes(b"a"), bytes(b"c"));
        assert_eq!(range, KeyRange::Between(bytes(b"a"), bytes(b"c")));
        assert!(range.contains(b"a") && range.contains(b"b\xff") && !range.contains(b"c"));
    }

    #[test]
    fn a_reversed_range_is_empty() {
        let range = KeyRange::Between(bytes(b"b"), bytes(b"a"));
        assert_eq!(range.bounds(), None);
        assert!(!range.contains(b"a") && !range.contains(b"b"));
        assert_eq!(KeyRange::Between(bytes(b"a"), bytes(b"a")).bounds(), None);
    }
}
