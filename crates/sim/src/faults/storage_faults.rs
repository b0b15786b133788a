//! Corruption of a log's records, in violation of the store's contract.

use crate::faults::kind::Fault;
use crate::rng::SimRng;
use synod_storage::fault_injection::RecordSet;

/// Change of a record: its key, and its value or `None` if it is removed.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// Returns the records of a log after a crash that corrupts them. `images` holds the durable
/// records, then the records as of each unsynced batch.
pub(crate) fn corrupt(fault: Fault, images: &[RecordSet], rng: &mut SimRng) -> RecordSet {
    match fault {
        Fault::LoseAnyOrder => lose_any(images, rng),
        Fault::TornWrite if images.len() > 1 => tear_batch(images, rng),
        _ => {
            let mut records = rng.pick(images).clone();
            match fault {
                Fault::TornWrite => truncate_record(&mut records, rng),
                Fault::MisdirectedWrite => misdirect(&mut records, rng),
                _ => flip_bit(&mut records, rng),
            }
            records
        }
    }
}

/// Applies any part of the unsynced changes, down to single records.
fn lose_any(images: &[RecordSet], rng: &mut SimRng) -> RecordSet {
    let mut records = images[0].clone();
    for pair in images.windows(2) {
        for change in changes(&pair[0], &pair[1]) {
            if rng.percent(50) {
                apply(&mut records, change);
            }
        }
    }
    records
}

/// Applies the first records of one batch, and truncates the next one.
fn tear_batch(images: &[RecordSet], rng: &mut SimRng) -> RecordSet {
    let torn = rng.within(1..images.len() as u64) as usize;
    let mut records = images[torn - 1].clone();
    let mut changes = changes(&images[torn - 1], &images[torn]);
    changes.truncate(rng.below(changes.len() as u64) as usize + 1);
    if let Some((_, Some(bytes))) = changes.last_mut() {
        bytes.truncate(rng.below(bytes.len() as u64) as usize);
    }
    changes.into_iter().for_each(|change| apply(&mut records, change));
    records
}

fn truncate_record(records: &mut RecordSet, rng: &mut SimRng) {
    if let Some(bytes) = pick_record(records, rng) {
        bytes.truncate(rng.below(bytes.len() as u64) as usize);
    }
}

fn flip_bit(records: &mut RecordSet, rng: &mut SimRng) {
    if let Some(bytes) = pick_record(records, rng) {
        let bit = rng.below(bytes.len() as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Stores a copy of one record under the key of another.
fn misdirect(records: &mut RecordSet, rng: &mut SimRng) {
    let mut all: Vec<_> = records.as_map().values().cloned().collect();
    rng.shuffle(&mut all);
    if let Some(place) = pick_record(records, rng)
        && let Some(stray) = all.into_iter().find(|other| other != place)
    {
        *place = stray;
    }
}

fn pick_record<'a>(records: &'a mut RecordSet, rng: &mut SimRng) -> Option<&'a mut Vec<u8>> {
    let at = rng.below(records.as_map().len() as u64) as usize;
    records.as_map_mut().values_mut().nth(at).filter(|bytes| !bytes.is_empty())
}

/// Returns the changes from one image to the next.
fn changes(before: &RecordSet, after: &RecordSet) -> Vec<Change> {
    let (before, after) = (before.as_map(), after.as_map());
    let put = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let put = put.map(|(key, value)| (key.clone(), Some(value.clone())));
    put.chain(gone.map(|key| (key.clone(), None))).collect()
}

fn apply(records: &mut RecordSet, (key, value): Change) {
    match value {
        Some(value) => records.as_map_mut().insert(key, value),
        None => records.as_map_mut().remove(&key),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_storage::fault_injection::{log_records, replace_log};
    use synod_storage::{Batch, LogOp, LogStore, MemoryDisk, StoredRun};
    use synod_types::{GroupId, Incarnation, Slot, Values};

    fn batch(slot: u64) -> Batch {
        let values = Values::command_only(&[slot as u8]);
        let run = StoredRun { first: Slot(slot), stamp: vec![1].into(), values };
        let vote = LogOp::HardState(vec![slot as u8].into());
        Batch { ops: vec![(GroupId(0), vote), (GroupId(0), LogOp::Put(run))] }
    }

    /// Returns images of two durable batches and two unsynced ones.
    fn images() -> Vec<RecordSet> {
        let disk = MemoryDisk::new(Incarnation(1));
        let mut log = disk.open_log();
        let mut images = Vec::new();
        for slot in 1..=4 {
            log.commit(&batch(slot)).unwrap();
            images.push(log_records(&disk));
        }
        images.split_off(1)
    }

    /// Returns the number of 200 corrupted disks that are rejected; each of the others equals an
    /// image.
    fn rejected(fault: Fault, images: &[RecordSet]) -> usize {
        let load = |records: &RecordSet| {
            let disk = MemoryDisk::new(Incarnation(1));
            replace_log(&disk, records.clone());
            disk.open_log().load(GroupId(0))
        };
        let whole: Vec<_> = images.iter().map(|image| load(image).unwrap()).collect();
        let loads = (0..200).map(|seed| load(&corrupt(fault, images, &mut SimRng::new(seed))));
        let (loaded, rejected): (Vec<_>, Vec<_>) = loads.partition(Result::is_ok);
        assert!(loaded.into_iter().all(|saved| whole.contains(&saved.unwrap())), "{fault:?}");
        rejected.len()
    }

    #[test]
    fn corruption_is_rejected_and_never_shortens_the_log() {
        let images = images();
        for fault in [Fault::TornWrite, Fault::BitFlip, Fault::MisdirectedWrite] {
            assert_eq!(rejected(fault, &images), 200, "{fault:?}");
            assert_eq!(rejected(fault, &images[..1]), 200, "{fault:?}, nothing unsynced");
        }
    }

    #[test]
    fn loss_that_leaves_a_gapless_prefix_is_not_rejected() {
        let rejected = rejected(Fault::LoseAnyOrder, &images());
        assert!((50..190).contains(&rejected), "{rejected}");
    }
}
