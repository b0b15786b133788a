//! High-water mark: the last write that is known to be durable.

use crate::StorageError;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Sequence number of the newest write known to be durable, in a file with two copies that are written
/// alternately. A torn write damages one copy; the other has a lower number, which is still valid.
pub(super) struct HighWater {
    path: PathBuf,
    file: File,
    reached: u64,
    /// Number of writes to the file. Even ones go to the first copy.
    writes: u64,
}

/// Distance of the two copies in bytes. They are in different sectors, so that a torn write damages one.
const STRIDE: u64 = 4096;

/// Size of a copy: a number and its checksum.
const COPY_BYTES: usize = 12;

impl HighWater {
    /// Creates the file, durably.
    pub(super) fn create(path: &Path, reached: u64) -> Result<Self, StorageError> {
        let fail = |error| io(path, "create", &error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(fail)?;
        let mut high = Self { path: path.into(), file, reached: 0, writes: 0 };
        // Twice, so that both copies are valid from the start.
        high.raise(reached)?;
        high.raise(reached)?;
        high.sync()?;
        Ok(high)
    }

    /// Opens the file of an existing store.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let mut file = file.map_err(|error| match error.kind() {
            // A complete store always has the file. Without it missing writes would not be detected.
            std::io::ErrorKind::NotFound => damaged(path, "the high-water mark is missing"),
            _ => io(path, "open", &error),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| io(path, "read", &error))?;
        let copies = [decode(&bytes, 0), decode(&bytes, STRIDE as usize)];
        let Some(reached) = copies.into_iter().flatten().max() else {
            return Err(damaged(path, "both copies of the high-water mark have invalid checksums"));
        };
        // The next write replaces the copy with the lower or unreadable number.
        let writes = u64::from(copies[0] == Some(reached));
        Ok(Self { path: path.into(), file, reached, writes })
    }

    /// Returns the sequence number up to which the database is known to have been durable.
    pub(super) fn reached(&self) -> u64 {
        self.reached
    }

    /// Records that the database is durable up to `sequence`. The record survives a kill of the process, and
    /// after a [`sync`](Self::sync) also a power loss.
    pub(super) fn raise(&mut self, sequence: u64) -> Result<(), StorageError> {
        let number = sequence.to_le_bytes();
        let mut copy = [0; COPY_BYTES];
        copy[..8].copy_from_slice(&number);
        copy[8..].copy_from_slice(&crc32fast::hash(&number).to_le_bytes());
        // Alternating positions: a torn write cannot damage the copy of the previous number.
        let at = SeekFrom::Start((self.writes & 1) * STRIDE);
        let written = self.file.seek(at).and_then(|_| self.file.write_all(&copy));
        written.map_err(|error| io(&self.path, "write", &error))?;
        self.writes += 1;
        self.reached = sequence;
        Ok(())
    }

    /// Makes the mark durable.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(|error| io(&self.path, "sync", &error))
    }
}

fn decode(bytes: &[u8], at: usize) -> Option<u64> {
    let copy = bytes.get(at..at + COPY_BYTES)?;
    let (number, sum) = copy.split_first_chunk::<8>()?;
    (*sum == crc32fast::hash(number).to_le_bytes()).then(|| u64::from_le_bytes(*number))
}

fn io(path: &Path, what: &str, error: &std::io::Error) -> StorageError {
    StorageError::Io { path: path.into(), reason: format!("cannot {what} the file: {error}") }
}

fn damaged(path: &Path, reason: &str) -> StorageError {
    StorageError::Damaged { path: path.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_write_leaves_the_previous_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("HIGH");
        let mut high = HighWater::create(&path, 1).unwrap();
        for sequence in 2..20 {
            let before = std::fs::read(&path).unwrap();
            high.raise(sequence).unwrap();
            drop(high);
            let after = std::fs::read(&path).unwrap();
            let at = before.iter().zip(&after).position(|(old, new)| old != new).unwrap();
            for torn in at + 1..at + 3 {
                let mut bytes = before.clone();
                bytes[at..torn].copy_from_slice(&after[at..torn]);
                bytes[torn] ^= 0x40;
                std::fs::write(&path, &bytes).unwrap();
                assert_eq!(HighWater::open(&path).unwrap().reached(), sequence - 1);
            }
            std::fs::write(&path, &after).unwrap();
            high = HighWater::open(&path).unwrap();
            assert_eq!(high.reached(), sequence);
        }
    }

    #[test]
    fn lost_mark_is_reported_as_damage_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("HIGH");
        drop(HighWater::create(&path, 7).unwrap());
        for bytes in [&b""[..], &[0; 3], &[0xFF; 5000]] {
            std::fs::write(&path, bytes).unwrap();
            let error = HighWater::open(&path).err().unwrap();
            assert!(matches!(&error, StorageError::Damaged { path: found, .. } if *found == path));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(HighWater::open(&path), Err(StorageError::Damaged { .. })));
    }
}
