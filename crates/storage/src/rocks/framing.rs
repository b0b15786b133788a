//! Framing of the write-ahead log and the manifest, checked before RocksDB reads these files.
//!
//! RocksDB checks each record, but its reaction to an invalid one depends on the kind of damage:
//!
//! - A record type of recycled logs is one flipped bit away from a normal one. RocksDB reads the same
//!   header in an endless loop, or takes it for the end of the log.
//! - A length past the end of the file looks like a torn write: RocksDB silently drops the rest.
//! - A header of zeros makes RocksDB continue at the next block, so that entries in the middle are lost.
//!
//! So every record is checked here, and [`tail`](super::tail) decides whether a fault is a torn write or
//! damage.
//!
//! # Format
//! Both files consist of blocks of 32 KiB, filled with records that do not cross blocks. A record is a
//! masked CRC-32C over type and content, a length, a type, and the content. An entry is a batch of writes or
//! an edit of the manifest: one full record, or a first, any number of middle ones, and a last record.

use std::io::{self, Read};

/// Size of a block in bytes.
const BLOCK: usize = 32 << 10;
/// Size of a record's header: checksum, length and type.
const HEADER: usize = 7;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// Size of a batch's header: the sequence number of its first write, and the number of writes.
const BATCH_HEADER: usize = 12;

/// Result of the scan of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// End of the last entry before the fault, or of the last entry of all without a fault.
    pub(super) end: u64,
    /// Sequence number of the last write in that entry, if the file is a write-ahead log.
    pub(super) last: Option<u64>,
    /// First position where the file continues without a valid record.
    pub(super) fault: Option<Fault>,
    /// Position after the fault of the first valid record that starts an entry.
    pub(super) later: Option<u64>,
}

/// Position without a valid record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: u64,
    pub(super) what: &'static str,
}

/// Scans a file to its end.
pub(super) fn scan(mut file: impl Read) -> io::Result<Scan> {
    let mut block = vec![0; BLOCK];
    let mut scanner = Scanner::default();
    loop {
        let length = fill(&mut file, &mut block)?;
        // Only the last block of a file may be short.
        scanner.push_block(&block[..length], length < BLOCK);
        if length < BLOCK {
            return Ok(scanner.scan);
        }
    }
}

#[derive(Default)]
struct Scanner {
    scan: Scan,
    /// Position of the current block in the file.
    start: u64,
    /// First bytes of the entry whose last record has not been read.
    entry: Option<Vec<u8>>,
}

impl Scanner {
    /// Scans the next block.
    fn push_block(&mut self, block: &[u8], last: bool) {
        // After the first fault only the start of a later entry is searched.
        let from = if self.scan.fault.is_none() { self.walk(block, last) } else { 0 };
        if self.scan.fault.is_some() && self.scan.later.is_none() {
            self.scan.later = find_start(&block[from..]).map(|at| self.start + (from + at) as u64);
        }
        self.start += block.len() as u64;
    }

    /// Checks the records of a block in order. Returns the position of the fault, or the end of the block.
    fn walk(&mut self, block: &[u8], last: bool) -> usize {
        let mut at = 0;
        while let Some((header, rest)) = block[at..].split_first_chunk::<HEADER>() {
            let piece = Record::read(header, rest).and_then(|record| {
                self.add(&record)?;
                Ok(record)
            });
            match piece {
                Ok(record) => {
                    at += HEADER + record.content.len();
                    // The end moves with complete entries only: a cut must not leave half an entry.
                    if self.entry.is_none() {
                        self.scan.end = self.start + at as u64;
                    }
                }
                Err(what) => return self.fault(at, what),
            }
        }
        // The last bytes of a full block are unused if they are too few for a header.
        if last && (at < block.len() || self.entry.is_some()) {
            return self.fault(at, "the file ends inside an entry");
        }
        block.len()
    }

    fn fault(&mut self, at: usize, what: &'static str) -> usize {
        self.scan.fault = Some(Fault { at: self.start + at as u64, what });
        at
    }

    /// Adds a record to its entry.
    fn add(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        let starts = matches!(record.kind, WHOLE | FIRST);
        if starts != self.entry.is_none() {
            return Err("a record type out of order");
        }
        // Only the batch's header is kept, so that memory does not grow with the entry.
        let entry = self.entry.get_or_insert_default();
        let room = BATCH_HEADER.saturating_sub(entry.len()).min(record.content.len());
        entry.extend_from_slice(&record.content[..room]);
        if matches!(record.kind, WHOLE | LAST) {
            // An edit of a manifest has no sequence number there; the caller ignores it.
            self.scan.last = last_write(entry);
            self.entry = None;
        }
        Ok(())
    }
}

/// Record with a valid checksum.
struct Record<'a> {
    kind: u8,
    content: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(header: &[u8; HEADER], rest: &'a [u8]) -> Result<Self, &'static str> {
        let [a, b, c, d, low, high, kind] = *header;
        let length = usize::from(u16::from_le_bytes([low, high]));
        if kind == 0 && length == 0 {
            return Err("zeros in the place of a record");
        }
        // RocksDB writes other types only with options that our stores do not set.
        if !(WHOLE..=LAST).contains(&kind) {
            return Err("a record of an unknown type");
        }
        let Some(content) = rest.get(..length) else {
            return Err("a truncated record or an invalid length");
        };
        if mask(crc32c(kind, content)) != u32::from_le_bytes([a, b, c, d]) {
            return Err("a record with an invalid checksum");
        }
        Ok(Self { kind, content })
    }
}

/// Returns the position of the first valid record that starts an entry. Lengths are unreliable after a
/// fault, so a record may begin at any byte. The content of a valid record is skipped, because a value may
/// contain bytes that look like a record.
fn find_start(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some((header, rest)) = bytes[at..].split_first_chunk::<HEADER>() {
        match Record::read(header, rest) {
            Ok(record) if matches!(record.kind, WHOLE | FIRST) => return Some(at),
            Ok(record) => at += HEADER + record.content.len(),
            Err(_) => at += 1,
        }
    }
    None
}

/// Returns the sequence number of the last write of a batch, from the batch's first bytes.
fn last_write(batch: &[u8]) -> Option<u64> {
    let (first, rest) = batch.split_first_chunk::<8>()?;
    let count = rest.first_chunk::<4>()?;
    let count = u64::from(u32::from_le_bytes(*count));
    Some(u64::from_le_bytes(*first).saturating_add(count).saturating_sub(1))
}

/// Masks a checksum like RocksDB, by a rotation and an offset: a CRC over data that contains CRCs is weak.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Returns the CRC-32C (Castagnoli) of a record's type and content.
fn crc32c(kind: u8, content: &[u8]) -> u32 {
    !content.iter().fold(crc32c_step(!0, kind), |crc, byte| crc32c_step(crc, *byte))
}

fn crc32c_step(crc: u32, byte: u8) -> u32 {
    (crc >> 8) ^ CRC32C[usize::from(crc as u8 ^ byte)]
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Fills a block from the file, or reads the rest of the file. Returns the number of bytes read.
fn fill(file: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            // A read may return less than a block before the end of the file.
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

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = mask(crc32c(kind, content)).to_le_bytes().to_vec();
        bytes.extend_from_slice(&(content.len() as u16).to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(content);
        bytes
    }

    fn batch(first: u64, count: u32, size: usize) -> Vec<u8> {
        let mut bytes = first.to_le_bytes().to_vec();
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.resize(BATCH_HEADER + size, 7);
        bytes
    }

    /// Returns a file of two blocks and the end of each of its entries. The last bytes of the first block
    /// are too few for a header.
    fn sample() -> (Vec<u8>, [usize; 3]) {
        let mut file = record(WHOLE, &batch(5, 2, 3));
        let one = file.len();
        let room = BLOCK - file.len() - HEADER - 3;
        file.extend(record(FIRST, &batch(7, 1, room - BATCH_HEADER)));
        file.resize(BLOCK, 0);
        file.extend(record(LAST, &[8; 40]));
        let two = file.len();
        file.extend(record(WHOLE, &batch(8, 4, 50)));
        let three = file.len();
        (file, [one, two, three])
    }

    fn look(bytes: &[u8]) -> Scan {
        scan(bytes).unwrap()
    }

    #[test]
    fn checksum_equals_the_published_check_value() {
        assert_eq!(crc32c(b'1', b"23456789"), 0xE306_9283);
    }

    #[test]
    fn intact_file_has_no_fault_and_returns_its_last_write() {
        let (file, [_, _, end]) = sample();
        assert_eq!(look(&[]), Scan::default());
        let whole = Scan { end: end as u64, last: Some(11), fault: None, later: None };
        assert_eq!(look(&file), whole);
        let full = BLOCK - HEADER;
        let scan = look(&record(WHOLE, &batch(1, 1, full - BATCH_HEADER)));
        assert_eq!((scan.end, scan.last, scan.fault), (BLOCK as u64, Some(1), None));
    }

    #[test]
    fn truncated_file_ends_with_its_last_complete_entry() {
        let (file, [one, two, three]) = sample();
        for cut in 0..three {
            let scan = look(&file[..cut]);
            let ends = [(two, Some(7)), (one, Some(6)), (0, None)];
            let (end, last) = ends.into_iter().find(|(end, _)| *end <= cut).unwrap();
            assert_eq!((scan.end, scan.last), (end as u64, last), "truncated at byte {cut}");
            assert_eq!(scan.fault.is_some(), cut != end, "truncated at byte {cut}");
            assert_eq!(scan.later, None, "truncated at byte {cut}");
        }
        // RocksDB may allocate space ahead of its writes, which holds zeros.
        let mut longer = file.clone();
        longer.resize(3 * BLOCK + 9, 0);
        let scan = look(&longer);
        assert_eq!((scan.end, scan.later), (three as u64, None), "preallocated space");
    }

    #[test]
    fn every_flip_is_a_fault_and_the_next_entry_is_found() {
        let (file, [one, two, three]) = sample();
        let records = [0..one, one..BLOCK - 3, BLOCK..two, two..three];
        for (index, record) in records.iter().enumerate() {
            for at in record.clone().take(HEADER + 30) {
                for bit in 0..8 {
                    let mut bad = file.clone();
                    bad[at] ^= 1 << bit;
                    let scan = look(&bad);
                    let fault = scan.fault.expect("a fault");
                    assert_eq!(fault.at, record.start as u64, "byte {at} bit {bit}");
                    let later = [Some(one), Some(two), Some(two), None][index];
                    assert_eq!(scan.later, later.map(|at| at as u64), "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn entry_after_zeros_is_found() {
        let (file, [one, two, three]) = sample();
        let holes = [(0..one, Some(one)), (one..one + 20, Some(two)), (two..two + 10, None)];
        for (hole, later) in holes {
            let mut bad = file.clone();
            bad[hole.clone()].fill(0);
            let scan = look(&bad);
            assert_eq!(scan.fault.expect("a fault").what, "zeros in the place of a record");
            assert_eq!((scan.end, scan.later), (hole.start as u64, later.map(|at| at as u64)));
        }
        let mut twice = file[..two].to_vec();
        twice.extend_from_slice(&file[BLOCK..]);
        let scan = look(&twice);
        assert!(scan.fault.expect("a fault").what.contains("out of order"));
        assert_eq!(scan.later, Some((three - BLOCK - (three - two) + two) as u64));
    }
}
