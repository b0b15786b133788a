//! The framing of the write-ahead log and the manifest, checked before RocksDB reads them.
//!
//! RocksDB checks each record of these files, but what it does with a bad one depends on where it
//! stands. A record type of recycled logs, one flipped bit away, makes it read the same header for
//! ever, or take it for the end of the log. A length that points past the end of the file looks
//! like a write that a crash tore, so all that follows is dropped in silence. And a header of
//! zeros makes it skip to the next block, and go on there: an entry in the middle is lost. So every
//! record is checked here, and [`tail`](super::tail) decides what a bad one means.
//!
//! Both files are blocks of 32 KiB, filled with records that do not cross blocks: a masked CRC-32C
//! over type and content, a length, a type, and the content. An entry (a batch of writes, or an
//! edit of the manifest) is one whole record, or a first piece, middle ones and a last one.

use std::io::{self, Read};

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// The bytes at the start of a batch of writes: the first one's sequence number, and their count.
const BATCH_HEADER: usize = 12;

/// The result of a scan of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// End of the last entry before the fault; without a fault, of the last entry.
    pub(super) end: u64,
    /// Sequence number of the last write in that entry, if the file is a write-ahead log.
    pub(super) last: Option<u64>,
    /// First fault: the file continues there without a valid record.
    pub(super) fault: Option<Fault>,
    /// Position after the fault where a valid record starts another entry.
    pub(super) later: Option<u64>,
}

/// A position without a valid record.
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
        scanner.push_block(&block[..length], length < BLOCK);
        if length < BLOCK {
            return Ok(scanner.scan);
        }
    }
}

#[derive(Default)]
struct Scanner {
    scan: Scan,
    /// The position of the block.
    start: u64,
    /// First bytes of the entry whose last piece has not been read.
    entry: Option<Vec<u8>>,
}

impl Scanner {
    /// Scans the next block.
    fn push_block(&mut self, block: &[u8], last: bool) {
        let from = if self.scan.fault.is_none() { self.walk(block, last) } else { 0 };
        if self.scan.fault.is_some() && self.scan.later.is_none() {
            self.scan.later = find_start(&block[from..]).map(|at| self.start + (from + at) as u64);
        }
        self.start += block.len() as u64;
    }

    /// Follows the records of a block. Returns the position of the fault, or the end of the block.
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
                    if self.entry.is_none() {
                        self.scan.end = self.start + at as u64;
                    }
                }
                Err(what) => return self.fault(at, what),
            }
        }
        // A full block's last bytes, too few for a header, hold nothing.
        if last && (at < block.len() || self.entry.is_some()) {
            return self.fault(at, "the end of the file inside an entry");
        }
        block.len()
    }

    fn fault(&mut self, at: usize, what: &'static str) -> usize {
        self.scan.fault = Some(Fault { at: self.start + at as u64, what });
        at
    }

    /// Adds a record to the entry it belongs to.
    fn add(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        let starts = matches!(record.kind, WHOLE | FIRST);
        if starts != self.entry.is_none() {
            return Err("a record out of its order");
        }
        let entry = self.entry.get_or_insert_default();
        let room = BATCH_HEADER.saturating_sub(entry.len()).min(record.content.len());
        entry.extend_from_slice(&record.content[..room]);
        if matches!(record.kind, WHOLE | LAST) {
            self.scan.last = last_write(entry);
            self.entry = None;
        }
        Ok(())
    }
}

/// A record whose checksum fits.
struct Record<'a> {
    kind: u8,
    content: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(header: &[u8; HEADER], rest: &'a [u8]) -> Result<Self, &'static str> {
        let [a, b, c, d, low, high, kind] = *header;
        let length = usize::from(u16::from_le_bytes([low, high]));
        if kind == 0 && length == 0 {
            return Err("zeros where a record is due");
        }
        // Other types come only with settings that no store of ours was written with.
        if !(WHOLE..=LAST).contains(&kind) {
            return Err("a record of an unknown type");
        }
        let Some(content) = rest.get(..length) else {
            return Err("a record with a wrong length, or cut short");
        };
        if mask(crc32c(kind, content)) != u32::from_le_bytes([a, b, c, d]) {
            return Err("a record whose checksum does not fit");
        }
        Ok(Self { kind, content })
    }
}

/// Returns the position of the first valid record that starts an entry. Lengths are unreliable after
/// damage, so a record may begin at every byte. The content of a valid one is skipped.
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

/// Returns the sequence number of the last write of a batch with this beginning.
fn last_write(batch: &[u8]) -> Option<u64> {
    let (first, rest) = batch.split_first_chunk::<8>()?;
    let count = rest.first_chunk::<4>()?;
    let count = u64::from(u32::from_le_bytes(*count));
    Some(u64::from_le_bytes(*first).saturating_add(count).saturating_sub(1))
}

/// Masks a checksum as RocksDB does: rotated and offset, so that a checksum over checksums stays strong.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Returns the CRC-32C (Castagnoli) of a byte and those after it.
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

/// Reads a block, or the rest of the file.
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

    /// Two blocks: the first ends with bytes that are too few for a header. Returns the file and
    /// the end of each entry.
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
    fn checksum_is_castagnoli() {
        assert_eq!(crc32c(b'1', b"23456789"), 0xE306_9283);
    }

    #[test]
    fn whole_file_has_no_fault_and_names_its_last_write() {
        let (file, [_, _, end]) = sample();
        assert_eq!(look(&[]), Scan::default());
        let whole = Scan { end: end as u64, last: Some(11), fault: None, later: None };
        assert_eq!(look(&file), whole);
        let full = BLOCK - HEADER;
        let scan = look(&record(WHOLE, &batch(1, 1, full - BATCH_HEADER)));
        assert_eq!((scan.end, scan.last, scan.fault), (BLOCK as u64, Some(1), None));
    }

    #[test]
    fn every_cut_ends_with_the_last_whole_entry() {
        let (file, [one, two, three]) = sample();
        for cut in 0..three {
            let scan = look(&file[..cut]);
            let ends = [(two, Some(7)), (one, Some(6)), (0, None)];
            let (end, last) = ends.into_iter().find(|(end, _)| *end <= cut).unwrap();
            assert_eq!((scan.end, scan.last), (end as u64, last), "cut at {cut}");
            assert_eq!(scan.fault.is_some(), cut != end, "cut at {cut}");
            assert_eq!(scan.later, None, "cut at {cut}");
        }
        let mut longer = file.clone();
        longer.resize(3 * BLOCK + 9, 0);
        let scan = look(&longer);
        assert_eq!((scan.end, scan.later), (three as u64, None), "room that was made ahead");
    }

    #[test]
    fn every_flip_is_a_fault_and_shows_which_entries_start_after_it() {
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
    fn zeros_hide_no_entry_after_them() {
        let (file, [one, two, three]) = sample();
        let holes = [(0..one, Some(one)), (one..one + 20, Some(two)), (two..two + 10, None)];
        for (hole, later) in holes {
            let mut bad = file.clone();
            bad[hole.clone()].fill(0);
            let scan = look(&bad);
            assert_eq!(scan.fault.expect("a fault").what, "zeros where a record is due");
            assert_eq!((scan.end, scan.later), (hole.start as u64, later.map(|at| at as u64)));
        }
        let mut twice = file[..two].to_vec();
        twice.extend_from_slice(&file[BLOCK..]);
        let scan = look(&twice);
        assert!(scan.fault.expect("a fault").what.contains("out of its order"));
        assert_eq!(scan.later, Some((three - BLOCK - (three - two) + two) as u64));
    }
}
