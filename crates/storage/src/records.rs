//! A log as records, and the checks that what is read back must pass.

use crate::record::{BadRecord, FORMAT, Head, Op, head_key, journal_end, op_key, seal, unseal};
use crate::{LogOp, StorageError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use synod_types::GroupId;

/// The records of a log: keys and bytes, as they lie in every durable store of this crate.
///
/// A [`MemoryDisk`](crate::MemoryDisk) turns its log into records and reads it back from them
/// through the checks that a real store makes, so that what damage does can be seen without a
/// real disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records {
    /// Every record under its key.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.map
    }

    /// The same, to be damaged.
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

    /// Removes a group and returns it, once it is found to be what was written. A group that is
    /// damaged stays.
    pub(crate) fn take_group(
        &mut self,
        group: GroupId,
    ) -> Result<(Head, Vec<LogOp>), StorageError> {
        let found = self.read_group(group).map_err(|misfit| misfit.at("memory/log".into()))?;
        self.map.remove(&head_key(group)[..]);
        self.map.retain(|key, _| {
            *key < op_key(group, 0)[..].to_vec() || *key >= journal_end(group)[..].to_vec()
        });
        Ok(found)
    }

    fn read_group(&self, group: GroupId) -> Result<(Head, Vec<LogOp>), Misfit> {
        let key = head_key(group);
        let head = self.map.get(&key[..]).map(|value| unseal::<Head>(&key, value));
        let head = head.transpose().map_err(|bad| Misfit::of_record(&key, bad))?;
        let head = head.unwrap_or_default();
        let mut reader = JournalReader::new(group, &head);
        let journal = op_key(group, head.first).to_vec()..journal_end(group).to_vec();
        for (key, value) in self.map.range(journal) {
            reader.take(key, value)?;
        }
        let journal = reader.end()?;
        Ok((head, journal))
    }

    fn put(&mut self, key: &[u8], record: &impl serde::Serialize) {
        let mut bytes = Vec::new();
        seal(key, record, &mut bytes);
        self.map.insert(key.to_vec(), bytes);
    }
}

/// Takes a journal record by record and makes sure that it is the one that the head speaks of:
/// none missing, none behind it.
pub(crate) struct JournalReader<'a> {
    group: GroupId,
    head: &'a Head,
    journal: Vec<LogOp>,
}

impl<'a> JournalReader<'a> {
    pub(crate) fn new(group: GroupId, head: &'a Head) -> Self {
        Self { group, head, journal: Vec::new() }
    }

    /// Takes the next record that lies in the journal's range.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Misfit> {
        let due = self.due();
        if due == self.head.next || key != op_key(self.group, due) {
            return Err(self.out_of_step(Some(key)));
        }
        let op = unseal::<Op>(key, value).map_err(|bad| Misfit::of_record(key, bad))?;
        self.journal.push(op.into());
        Ok(())
    }

    /// There is no more: the journal.
    pub(crate) fn end(self) -> Result<Vec<LogOp>, Misfit> {
        if self.due() == self.head.next { Ok(self.journal) } else { Err(self.out_of_step(None)) }
    }

    /// The sequence number of the record to come.
    fn due(&self) -> u64 {
        self.head.first + self.journal.len() as u64
    }

    fn out_of_step(&self, found: Option<&[u8]>) -> Misfit {
        let found = found.map_or("nothing more".into(), |key| format!("{}", key.escape_ascii()));
        Misfit::Damaged(format!(
            "the journal of group {} runs from {} to before {}, but where operation {} is due \
             there is {found}",
            self.group,
            self.head.first,
            self.head.next,
            self.due()
        ))
    }
}

/// What was read is not what was written.
#[derive(Debug)]
pub(crate) enum Misfit {
    Damaged(String),
    TooNew(u32),
}

impl Misfit {
    pub(crate) fn of_record(key: &[u8], bad: BadRecord) -> Self {
        match bad {
            BadRecord::TooNew(found) => Self::TooNew(found),
            BadRecord::Damaged => {
                Self::Damaged(format!("the record under key {} does not fit", key.escape_ascii()))
            }
        }
    }

    /// The error to report, with the file or folder.
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

    /// A disk whose journal was compacted, cut and written again; and another group on it.
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
    fn what_was_turned_into_records_is_read_back_and_goes_on() {
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
    fn an_open_log_is_dead_once_its_records_are_replaced() {
        let disk = disk();
        let mut log = disk.open_log();
        disk.replace(disk.records());
        assert!(log.load(GROUP).is_err());
    }

    fn refused(records: Records, what: &str) {
        let disk = disk();
        disk.replace(records);
        let mut log = disk.open_log();
        let error = log.load(GROUP).err().unwrap_or_else(|| panic!("{what} is not noticed"));
        assert!(matches!(error, StorageError::Damaged { .. }), "{what}: {error}");
        let error = log.commit(&Batch { ops: vec![(GROUP, put(9))] });
        assert!(error.is_err(), "{what}: written over");
        assert!(log.load(GROUP).is_err(), "{what}: found whole the second time");
        assert!(log.load(GroupId(2)).is_ok(), "{what}: concerns one group");
    }

    #[test]
    fn every_flip_cut_loss_and_exchange_of_records_is_refused() {
        let whole = disk().records();
        let keys: Vec<_> = whole.as_map().keys().cloned().collect();
        let ours: Vec<_> = keys.iter().filter(|key| key[8] == GROUP.0 as u8).collect();
        assert_eq!(ours.len(), 5, "a head and four operations");
        for key in &ours {
            for bit in 0..whole.as_map()[*key].len() * 8 {
                let mut bad = whole.clone();
                bad.as_map_mut().get_mut(*key).unwrap()[bit / 8] ^= 1 << (bit % 8);
                refused(bad, "a flipped bit");
            }
            let mut bad = whole.clone();
            bad.as_map_mut().get_mut(*key).unwrap().pop();
            refused(bad, "a cut record");
            let mut bad = whole.clone();
            bad.as_map_mut().remove(*key);
            refused(bad, "a lost record");
            for other in ours.iter().filter(|other| other != &key) {
                let mut bad = whole.clone();
                let moved = whole.as_map()[*other].clone();
                bad.as_map_mut().insert(key.to_vec(), moved);
                refused(bad, "a misdirected record");
            }
        }
    }
}
