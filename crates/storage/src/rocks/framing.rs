//! A look at how the write-ahead log and the manifest are framed, before RocksDB reads them.
//!
//! RocksDB checks each record of these files, but three kinds of damage get past it. A record
//! type that belongs to recycled logs, one flipped bit away, makes it read the same header for
//! ever, or take it for the end of the log. A length that points behind the end of the file looks
//! like a write that a crash tore, so all that follows is dropped in silence. And a header of
//! zeros makes it skip to the next block, and go on there.
//!
//! Both files are blocks of 32 KiB, filled with records that do not cross blocks: a masked CRC-32C
//! over type and content, a length, a type, and the content.

use crate::StorageError;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;

/// Whole, first, middle and last piece: the only types that our settings ever write.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// Looks at every write-ahead log and manifest of a database.
///
/// # Errors
/// [`StorageError::Damaged`] with the file's name. A folder or file that cannot be read is left for
/// RocksDB to complain about.
pub(super) fn check(database: &Path) -> Result<(), StorageError> {
    let Ok(entries) = fs::read_dir(database) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let log = path.extension().is_some_and(|end| end == "log");
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !log && !name.starts_with("MANIFEST-") {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if let Ok(Some(reason)) = check_file(file) {
            return Err(StorageError::Damaged { path, reason });
        }
    }
    Ok(())
}

/// What is wrong with a file, if anything is.
fn check_file(mut file: impl Read) -> io::Result<Option<String>> {
    let mut block = vec![0; BLOCK];
    let mut start = 0;
    let mut zeros_since = None;
    loop {
        let length = fill(&mut file, &mut block)?;
        let bytes = &block[..length];
        let end = match zeros_since {
            Some(_) => End::Zeros { from: 0 },
            None => walk(bytes, length < BLOCK),
        };
        match end {
            End::Clean => {}
            End::Damage { at, what } => return Ok(Some(format!("{what} at byte {}", start + at))),
            End::Zeros { from } => {
                let since = *zeros_since.get_or_insert(start + from);
                if bytes[from..].iter().any(|byte| *byte != 0) {
                    return Ok(Some(format!("a record is overwritten with zeros at byte {since}")));
                }
            }
        }
        if length < BLOCK {
            return Ok(None);
        }
        start += BLOCK;
    }
}

/// How the records of a block end.
enum End {
    /// With the block, or with a record that a crash tore.
    Clean,
    /// With a header of zeros: nothing but zeros may follow, in the whole file.
    Zeros { from: usize },
    /// With one that no crash leaves behind.
    Damage { at: usize, what: String },
}

fn walk(block: &[u8], last: bool) -> End {
    let mut at = 0;
    while let Some((header, rest)) = block[at..].split_first_chunk::<HEADER>() {
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let kind = header[6];
        if kind == 0 && length == 0 {
            return End::Zeros { from: at + HEADER };
        }
        if !TYPES.contains(&kind) {
            return End::Damage { at, what: format!("a record of the unknown type {kind}") };
        }
        if length > rest.len() {
            // A torn record is shorter than it says. One that is all there, and merely says that
            // it is longer, was not torn.
            if last && !is_whole(header, rest) {
                return End::Clean;
            }
            return End::Damage { at, what: "a record with a wrong length".into() };
        }
        at += HEADER + length;
    }
    End::Clean
}

/// Whether the checksum fits for any length that leaves the record inside `rest`.
fn is_whole(header: &[u8; HEADER], rest: &[u8]) -> bool {
    let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let mut crc = crc32c_step(!0, header[6]);
    if mask(!crc) == stored {
        return true;
    }
    rest.iter().any(|byte| {
        crc = crc32c_step(crc, *byte);
        mask(!crc) == stored
    })
}

/// RocksDB stores checksums turned and shifted, so that a checksum over checksums stays good.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// One byte of CRC-32C (Castagnoli), bit by bit: only the last record of a file is computed.
fn crc32c_step(crc: u32, byte: u8) -> u32 {
    (0..8).fold(crc ^ u32::from(byte), |crc, _| {
        if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 }
    })
}

/// Reads as much of a block as there is.
fn fill(file: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| crc32c_step(crc, *byte))
    }

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let checked = [&[kind], content].concat();
        let mut bytes = mask(crc32c(&checked)).to_le_bytes().to_vec();
        bytes.extend_from_slice(&(content.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&checked);
        bytes
    }

    /// Two blocks: one filled to its last bytes, which are too few for a header.
    fn sample() -> Vec<u8> {
        let mut file = record(1, b"one");
        file.extend(record(2, &vec![7; BLOCK - file.len() - HEADER - 3]));
        file.resize(BLOCK, 0);
        file.extend(record(4, &[8; 40]));
        file.extend(record(1, &[9; 50]));
        file
    }

    fn verdict(bytes: &[u8]) -> Option<String> {
        check_file(bytes).unwrap()
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn whole_files_and_torn_ends_pass() {
        let file = sample();
        assert_eq!(verdict(&[]), None);
        for end in BLOCK..=file.len() {
            assert_eq!(verdict(&file[..end]), None, "cut at {end}");
        }
        let mut longer = file.clone();
        longer.resize(3 * BLOCK + 9, 0);
        assert_eq!(verdict(&longer), None, "room that was made ahead");
    }

    #[test]
    fn a_wrong_type_length_or_hole_is_named() {
        let file = sample();
        for (at, found) in [(6, "type 5"), (16, "type 6"), (BLOCK + 6, "type 0")] {
            let mut bad = file.clone();
            bad[at] ^= 4;
            let verdict = verdict(&bad).expect("a wrong type");
            assert!(verdict.contains(found), "{verdict}");
        }
        // The last record: each bit of its length that makes it longer.
        let last = BLOCK + 2 * HEADER + 40 - HEADER;
        for bit in [6, 7, 8, 15] {
            let mut bad = file.clone();
            bad[last + 4 + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verdict(&bad), Some(format!("a record with a wrong length at byte {last}")));
        }
        let mut bad = file.clone();
        bad[14] ^= 1;
        bad[15] ^= 0x80;
        assert!(verdict(&bad).is_some(), "a length that leaves its block");
        for zeros in [0..10, BLOCK..BLOCK + 8, last..last + HEADER] {
            let mut bad = file.clone();
            bad[zeros.clone()].fill(0);
            let verdict = verdict(&bad).unwrap_or_else(|| panic!("zeros {zeros:?}"));
            assert!(verdict.contains("zeros"), "{verdict}");
        }
    }
}
