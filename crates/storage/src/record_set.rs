//! A log as a set of records, and the checks of the records that are read.

use crate::record_codec::{
    BadRecord, FORMAT, Head, Op, head_key, journal_end, op_key, seal, unseal,
};
use crate::{LogOp, StorageError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use synod_types::GroupId;

/// Records of a log by key, in the encoding of the durable stores of this crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordSet {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl RecordSet {
    /// Returns the records by key.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.map
    }

    /// Returns the records by key, for corruption.
    pub fn as_map_mut(&mut self) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        &mut self.map
    }

    /// Adds a group.
    pub(crate) fn put_group<'a>(
        &mut self,
        group: GroupId,
        head: &Head,
        journal: impl IntoIterator<Item = &'a LogOp>,
    ) {
        self.put(&head_key(group), head);
        for (sequence, op) in (head.first..).zip(journal) {
            self.put(&op_key(group, sequence), &Op::of(op));
        }
    }

    /// Removes a group and returns it. A group that fails the checks stays, so that later reads fail, too.
    pub(crate) fn take_group(
        &mut self,
        group: GroupId,
    ) -> Result<(Head, Vec<LogOp>), StorageError> {
        // Nothing is removed before the whole group has passed the checks.
        let found = self.read_group(group).map_err(|mismatch| mismatch.at("memory/log".into()))?;
        self.map.remove(&head_key(group)[..]);
        // All journal keys go, also any before `head.first`, which the checks ignore.
        self.map.retain(|key, _| {
            *key < op_key(group, 0)[..].to_vec() || *key >= journal_end(group)[..].to_vec()
        });
        Ok(found)
    }

    fn read_group(&self, group: GroupId) -> Result<(Head, Vec<LogOp>), LogMismatch> {
        let key = head_key(group);
        let head = self.map.get(&key[..]).map(|value| unseal::<Head>(&key, value));
        let head = head.transpose().map_err(|bad| LogMismatch::of_record(&key, bad))?;
        // Without a head the journal must be empty: the decoder reports any record as surplus.
        let head = head.unwrap_or_default();
        let mut reader = JournalDecoder::new(group, &head);
        // To the end of all sequence numbers, not to `head.next`: a surplus record is damage, too.
        let journal = op_key(group, head.first).to_vec()..journal_end(group).to_vec();
        for (key, value) in self.map.range(journal) {
            reader.push(key, value)?;
        }
        let journal = reader.finish()?;
        Ok((head, journal))
    }

    fn put(&mut self, key: &[u8], record: &impl serde::Serialize) {
        let mut bytes = Vec::new();
        seal(key, record, &mut bytes);
        self.map.insert(key.to_vec(), bytes);
    }
}

/// Decoder of a journal. It checks the sequence numbers against the group's head, so that a missing or
/// surplus record is detected.
pub(crate) struct JournalDecoder<'a> {
    group: GroupId,
    head: &'a Head,
    journal: Vec<LogOp>,
}

impl<'a> JournalDecoder<'a> {
    pub(crate) fn new(group: GroupId, head: &'a Head) -> Self {
        Self { group, head, journal: Vec::new() }
    }

    /// Decodes the next record in the journal's range of keys.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), LogMismatch> {
        let next = self.next_sequence();
        // Keys arrive in order, so any other key means that the record of `next` is missing.
        if next == self.head.next || key != op_key(self.group, next) {
            return Err(self.gap(Some(key)));
        }
        let op = unseal::<Op>(key, value).map_err(|bad| LogMismatch::of_record(key, bad))?;
        self.journal.push(op.into());
        Ok(())
    }

    /// Returns the journal, if it reaches the end that the head records.
    pub(crate) fn finish(self) -> Result<Vec<LogOp>, LogMismatch> {
        if self.next_sequence() == self.head.next { Ok(self.journal) } else { Err(self.gap(None)) }
    }

    /// Returns the sequence number of the next record.
    fn next_sequence(&self) -> u64 {
        self.head.first + self.journal.len() as u64
    }

    fn gap(&self, found: Option<&[u8]>) -> LogMismatch {
        let found = found.map_or("no record".into(), |key| format!("key {}", key.escape_ascii()));
        LogMismatch::Damaged(format!(
            "the journal of group {} has operations {}..{}, but the store has {found} in the \
             place of operation {}",
            self.group,
            self.head.first,
            self.head.next,
            self.next_sequence()
        ))
    }
}

/// Reason why the stored log differs from the written log.
#[derive(Debug)]
pub(crate) enum LogMismatch {
    Damaged(String),
    TooNew(u32),
}

impl LogMismatch {
    pub(crate) fn of_record(key: &[u8], bad: BadRecord) -> Self {
        match bad {
            BadRecord::TooNew(found) => Self::TooNew(found),
            BadRecord::Damaged => {
                Self::Damaged(format!("invalid checksum or encoding of key {}", key.escape_ascii()))
            }
        }
    }

    /// Converts the mismatch to the error of a file or folder.
    pub(crate) fn at(self, path: PathBuf) -> StorageError {
        match self {
            Self::Damaged(reason) => StorageError::Damaged { path, reason },
            Self::TooNew(found) => StorageError::TooNew { path, found, known: FORMAT },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, LogStore, MemoryDisk, StoredRun};
    use synod_types::{Incarnation, Slot, Values};

    const GROUP: GroupId = GroupId(1);

    fn put(slot: u64) -> LogOp {
        let values = Values::command_only(&[slot as u8; 5]);
        LogOp::Put(StoredRun { first: Slot(slot), stamp: vec![1].into(), values })
    }

    /// Returns a disk with two groups. The journal of [`GROUP`] was truncated, compacted and appended to.
    fn disk() -> MemoryDisk {
        let disk = MemoryDisk::new(Incarnation(3));
        let mut log = disk.open_log();
        let base = vec![7].into();
        let ops = [
            LogOp::HardState(vec![9].into()),
            put(1),
            put(2),
            put(3),
            LogOp::TruncateFrom(Slot(3)),
            LogOp::Compact { through: Slot(1), base },
            put(3),
        ];
        let mut ops: Vec<_> = ops.into_iter().map(|op| (GROUP, op)).collect();
        ops.push((GroupId(2), put(1)));
        log.commit(&Batch { ops }).unwrap();
        disk
    }

    #[test]
    fn imported_log_equals_the_exported_one() {
        let (disk, twin) = (disk(), disk());
        disk.replace(disk.records());
        assert_eq!(disk.records(), twin.records());
        let (mut log, mut other) = (disk.open_log(), twin.open_log());
        assert_eq!(log.load(GROUP).unwrap(), other.load(GROUP).unwrap());
        let batch = Batch { ops: vec![(GROUP, put(4)), (GroupId(2), put(2))] };
        log.commit(&batch).unwrap();
        other.commit(&batch).unwrap();
        for group in [GROUP, GroupId(2)] {
            assert_eq!(log.load(group).unwrap(), other.load(group).unwrap());
        }
        assert_eq!(disk.records(), twin.records());
    }

    #[test]
    fn open_handle_is_invalid_after_its_records_are_replaced() {
        let disk = disk();
        let mut log = disk.open_log();
        disk.replace(disk.records());
        assert!(log.load(GROUP).is_err());
    }

    fn assert_rejected(records: RecordSet, damage: &str) {
        let disk = disk();
        disk.replace(records);
        let mut log = disk.open_log();
        let error = log.load(GROUP).err().unwrap_or_else(|| panic!("{damage} is not detected"));
        assert!(matches!(error, StorageError::Damaged { .. }), "{damage}: {error}");
        let error = log.commit(&Batch { ops: vec![(GROUP, put(9))] });
        assert!(error.is_err(), "{damage}: a commit to the damaged group succeeds");
        assert!(log.load(GROUP).is_err(), "{damage}: the second load succeeds");
        assert!(log.load(GroupId(2)).is_ok(), "{damage}: the other group is affected");
    }

    #[test]
    fn every_flip_truncation_loss_and_swap_of_records_is_rejected() {
        let whole = disk().records();
        let keys: Vec<_> = whole.as_map().keys().cloned().collect();
        let ours: Vec<_> = keys.iter().filter(|key| key[8] == GROUP.0 as u8).collect();
        // `put(1)` was compacted away.
        assert_eq!(ours.len(), 5, "a head and four operations");
        for key in &ours {
            for bit in 0..whole.as_map()[*key].len() * 8 {
                let mut bad = whole.clone();
                bad.as_map_mut().get_mut(*key).unwrap()[bit / 8] ^= 1 << (bit % 8);
                assert_rejected(bad, "a flipped bit");
            }
            let mut bad = whole.clone();
            bad.as_map_mut().get_mut(*key).unwrap().pop();
            assert_rejected(bad, "a truncated record");
            let mut bad = whole.clone();
            bad.as_map_mut().remove(*key);
            assert_rejected(bad, "a lost record");
            for other in ours.iter().filter(|other| other != &key) {
                let mut bad = whole.clone();
                let moved = whole.as_map()[*other].clone();
                bad.as_map_mut().insert(key.to_vec(), moved);
                assert_rejected(bad, "a record under another key");
            }
        }
    }
}
