//! Encoding in the state store: one entry per key and one for the revision.
//!
//! | stored key | stored value |
//! |---|---|
//! | `k` key | format byte, postcard of (create revision, mod revision, version, value) |
//! | `r` | format byte, postcard of the revision |

use crate::codec;
use crate::entry::Entry;
use crate::{Revision, Version};
use bytes::Bytes;
use synod_consensus::{StateEntries, StateError};
use synod_types::SharedMap;

const KEY: u8 = b'k';
const REVISION: u8 = b'r';

/// Returns the stored key of a key.
pub(crate) fn entry_key(key: &[u8]) -> Bytes {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(KEY);
    stored.extend_from_slice(key);
    stored.into()
}

/// Returns the stored value of a key.
pub(crate) fn entry_value(entry: &Entry) -> Bytes {
    codec::encode(&(entry.created, entry.modified, entry.version, &entry.value))
}

/// Returns the stored key of the revision.
pub(crate) fn revision_key() -> Bytes {
    Bytes::from_static(&[REVISION])
}

/// Returns the stored value of the revision.
pub(crate) fn revision_value(revision: Revision) -> Bytes {
    codec::encode(&revision)
}

/// Decodes the state from its stored entries.
pub(crate) fn load(stored: StateEntries<'_>) -> Result<(Revision, SharedMap<Entry>), StateError> {
    let mut revision = None;
    let mut entries = SharedMap::new();
    for entry in stored {
        let (key, value) = entry?;
        match key.split_first() {
            Some((&KEY, user)) if !user.is_empty() => {
                // Copied, because a store may return slices of larger blocks, which would stay in memory.
                entries.insert(Bytes::copy_from_slice(user), decode_entry(user, &value)?);
            }
            Some((&REVISION, [])) => revision = Some(read::<Revision>("the revision", &value)?),
            _ => return Err(malformed(format!("stored key {key:?} is unknown"))),
        }
    }
    let revision = match revision {
        Some(revision) if revision > Revision::FIRST => revision,
        Some(revision) => {
            let least = Revision::FIRST.next();
            return Err(malformed(format!("stored revision {revision} is below {least}")));
        }
        // The first change writes the revision, so a store without changes has none.
        None if entries.is_empty() => Revision::FIRST,
        None => return Err(malformed("keys are stored without a revision")),
    };
    match entries.iter().find(|(_, entry): &(_, &Entry)| entry.modified > revision) {
        Some((key, entry)) => Err(malformed(format!(
            "key {key:?} has mod revision {}, but the store's revision is {revision}",
            entry.modified
        ))),
        None => Ok((revision, entries)),
    }
}

fn decode_entry(key: &[u8], value: &[u8]) -> Result<Entry, StateError> {
    let what = || format!("key {:?}", Bytes::copy_from_slice(key));
    let (created, modified, version, value): (Revision, Revision, Version, Bytes) =
        codec::decode(value).map_err(|error| malformed(format!("{}: {error}", what())))?;
    // The first change of a store has revision 2, and each later write of a key has a higher revision than
    // the previous one. So the version is at most the number of revisions since the creation.
    let writes = modified.0.checked_sub(created.0).and_then(|since| since.checked_add(1));
    let possible = created > Revision::FIRST
        && version.0 >= 1
        && writes.is_some_and(|writes| version.0 <= writes)
        && (version.0 > 1 || created == modified);
    if !possible {
        return Err(malformed(format!(
            "{}: impossible combination of create revision {created}, mod revision {modified} and \
             version {}",
            what(),
            version.0
        )));
    }
    Ok(Entry { value, created, modified, version })
}

fn read<T: serde::de::DeserializeOwned>(what: &str, value: &[u8]) -> Result<T, StateError> {
    codec::decode(value).map_err(|error| malformed(format!("{what}: {error}")))
}

fn malformed(reason: impl Into<String>) -> StateError {
    StateError::Malformed(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(created: i64, modified: i64, version: i64) -> Entry {
        let (created, modified) = (Revision(created), Revision(modified));
        Entry { value: Bytes::from_static(b"v"), created, modified, version: Version(version) }
    }

    fn load_all(entries: &[(Bytes, Bytes)]) -> Result<Revision, String> {
        let entries = Box::new(entries.iter().cloned().map(Ok));
        load(entries).map(|(revision, _)| revision).map_err(|error| error.to_string())
    }

    fn with_entry(entry: &Entry) -> Vec<(Bytes, Bytes)> {
        vec![(entry_key(b"a"), entry_value(entry)), (revision_key(), revision_value(Revision(9)))]
    }

    #[test]
    fn stored_encoding_does_not_change() {
        assert_eq!(entry_key(b"a"), &b"ka"[..]);
        assert_eq!(entry_value(&sample(2, 3, 2)), &[1, 4, 6, 4, 1, b'v'][..]);
        assert_eq!((revision_key(), revision_value(Revision(3))), ("r".into(), vec![1, 6].into()));
    }

    #[test]
    fn valid_entries_are_loaded() {
        assert_eq!(load_all(&[]), Ok(Revision::FIRST));
        assert_eq!(load_all(&with_entry(&sample(2, 9, 3))), Ok(Revision(9)));
        assert_eq!(load_all(&with_entry(&sample(2, 2, 1))), Ok(Revision(9)));
    }

    #[test]
    fn impossible_entries_are_rejected() {
        let numbers =
            [(1, 1, 1), (2, 2, 0), (2, 3, 1), (2, 2, 2), (3, 2, 1), (2, 10, 2), (-5, 3, 1)];
        for (created, modified, version) in numbers {
            let stored = with_entry(&sample(created, modified, version));
            let why = load_all(&stored).unwrap_err();
            assert!(why.contains("b\"a\""), "{created} {modified} {version}: {why}");
        }
        let mut extreme = sample(2, 3, 2);
        (extreme.created, extreme.modified) = (Revision(i64::MIN), Revision(i64::MAX));
        load_all(&with_entry(&extreme)).unwrap_err();

        let no_revision = [(entry_key(b"a"), entry_value(&sample(2, 2, 1)))];
        assert_eq!(load_all(&no_revision).unwrap_err(), "keys are stored without a revision");
        for (key, value) in [("", "x"), ("k", "x"), ("r", "x"), ("rr", "\u{1}\u{6}"), ("x", "x")] {
            load_all(&[(key.into(), value.into())]).unwrap_err();
        }
        load_all(&[(revision_key(), revision_value(Revision(1)))]).unwrap_err();
    }
}
