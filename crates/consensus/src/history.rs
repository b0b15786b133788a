//! Comparison of histories: two nodes must hold the same chosen values.
//!
//! If a quorum loses its disks, it can choose other values for slots that a survivor has applied. Neither
//! Paxos nor Raft covers that fault: without a check each side would append later slots of the other to
//! its own history. So nodes send a digest of their chosen values through a slot, and a receiver whose
//! commit index is as high compares it with its own log.

use crate::{RunLog, Stamp};
use serde::{Deserialize, Serialize};
use synod_types::Slot;

/// Maximum number of slots that are searched for the last command: bounds the cost of a long run of
/// no-ops.
const LOOK_BACK: usize = 64;

/// Bytes of a command that its digest covers. A driver's commands begin with session and request
/// sequence, so these bytes tell commands apart.
const COVERED: usize = 128;

/// A digest has 28 bits: no more than four bytes as a varint.
const BITS: u32 = 28;

/// Digest of the chosen values through a slot. No-ops are equal in every history, so it is the digest of
/// the last command and its slot.
///
/// ```
/// use synod_consensus::{Comparison, HistoryDigest, Run, RunLog};
/// use synod_types::{Slot, Term, Values};
///
/// let log = |command: &[u8]| {
///     let mut log = RunLog::<Term>::default();
///     log.put(Run { first: Slot(1), stamp: Term(1), values: Values::command_only(command) });
///     log
/// };
/// let (mine, theirs) = (log(b"a"), HistoryDigest::of(&log(b"b"), Slot(1)));
/// assert_eq!(theirs.compare(&mine, Slot(1)), Comparison::Differs { from: Slot(1) });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HistoryDigest(u32);

/// Result of comparing a peer's digest with this node's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Unknown: one of the two logs does not hold the last command, because a snapshot has replaced it.
    Hidden,
    /// Unknown: neither history has a command among its last slots.
    NoCommand,
    /// The last command is the same.
    Equal,
    /// The histories differ, in this slot or in one after it.
    Differs {
        /// The slot of this node's last command, or the first one that was searched.
        from: Slot,
    },
}

impl HistoryDigest {
    /// Digest of a history that the log does not hold.
    pub const UNKNOWN: Self = Self(0);
    /// Digest of a history without commands among the last slots.
    pub const NO_COMMAND: Self = Self(1);

    /// Returns the digest of `log` through a chosen slot.
    #[must_use]
    pub fn of<S: Stamp>(log: &RunLog<S>, through: Slot) -> Self {
        Self::last_command(log, through).1
    }

    /// Compares a peer's digest of its history through a slot that is chosen here, too.
    #[must_use]
    pub fn compare<S: Stamp>(self, log: &RunLog<S>, through: Slot) -> Comparison {
        if self == Self::UNKNOWN {
            return Comparison::Hidden;
        }
        match Self::last_command(log, through) {
            // A missing log proves no difference, and a false alarm would stop a healthy node.
            (_, Self::UNKNOWN) => Comparison::Hidden,
            (from, mine) if mine != self => Comparison::Differs { from },
            (_, Self::NO_COMMAND) => Comparison::NoCommand,
            _ => Comparison::Equal,
        }
    }

    /// Returns the last command up to a chosen slot: its own slot, or the last one searched, and its
    /// digest.
    fn last_command<S: Stamp>(log: &RunLog<S>, through: Slot) -> (Slot, Self) {
        let mut slot = through.next();
        for _ in 0..LOOK_BACK {
            if slot <= Slot(1) {
                break;
            }
            slot = slot.prev();
            // A node that has compacted this slot cannot compare it; its snapshot has no values.
            let Some(run) = log.run_at(slot) else { return (slot, Self::UNKNOWN) };
            // Values without a command are skipped: the no-ops of two histories are equal.
            if let Some(command) = run.values.command((slot.0 - run.first.0) as usize) {
                return (slot, Self::of_command(slot, command));
            }
        }
        (slot, Self::NO_COMMAND)
    }

    /// Returns the digest of a command. A multiplicative hash, eight bytes at a time: it detects faults
    /// and not attacks, and is computed about once for each message.
    fn of_command(slot: Slot, command: &[u8]) -> Self {
        // An odd constant, so the product loses no bit; the shift mixes the high bits into the low ones.
        let mix = |hash: u64, word: u64| {
            let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            product ^ (product >> 32)
        };
        let covered = &command[..command.len().min(COVERED)];
        // The length tells apart a command and its prefix, padded with zeros below.
        let start = mix(mix(0, slot.0), command.len() as u64);
        let hash = covered.chunks(8).fold(start, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(hash, u64::from_le_bytes(word))
        });
        // The high bits are the best mixed ones; the two lowest values are reserved, see above.
        Self(((hash >> (64 - BITS)) as u32).max(Self::NO_COMMAND.0 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Run;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use synod_types::{Term, Values};

    /// Digest of "a" in slot 1.
    const PINNED: u32 = 136_900_651;

    /// Returns a log with these commands after `base`; "" is a no-op.
    fn log(base: u64, texts: &[&str]) -> RunLog<Term> {
        let mut log = RunLog::new(Slot(base), Term(1));
        for (first, text) in (base + 1..).map(Slot).zip(texts) {
            let noop = text.is_empty();
            let values = if noop { Values::noop() } else { Values::command_only(text.as_bytes()) };
            log.put(Run { first, stamp: Term(1), values });
        }
        log
    }

    fn digest(base: u64, texts: &[&str]) -> HistoryDigest {
        let log = log(base, texts);
        HistoryDigest::of(&log, log.last())
    }

    #[test]
    fn digest_depends_on_the_last_command_and_its_slot_only() {
        let ninth = "12345678";
        let all: [&[&str]; 7] =
            [&["a"], &["b"], &["aa"], &["", "a"], &["a\0"], &[ninth], &["123456789"]];
        let digests: BTreeSet<_> = all.iter().map(|texts| digest(0, texts).0).collect();
        assert_eq!(digests.len(), all.len());
        assert!(digests.iter().all(|digest| *digest < 1 << 28), "four bytes on the wire");
        assert_eq!(digest(0, &["x", "a", "", ""]), digest(0, &["y", "a"]));
        assert_eq!(digest(0, &["", ""]), HistoryDigest::NO_COMMAND);
        assert_eq!(digest(0, &[]), HistoryDigest::NO_COMMAND);
        assert_eq!(digest(2, &[]), HistoryDigest::UNKNOWN, "a snapshot holds it");
        assert_eq!(digest(2, &["", ""]), HistoryDigest::UNKNOWN);
        // Every node computes the same, on any architecture.
        assert_eq!(digest(0, &["a"]).0, PINNED);
    }

    #[test]
    fn digest_covers_128_bytes_and_the_length() {
        let long = "x".repeat(200);
        let with = |at: usize| [&long[..at], "y", &long[at + 1..]].concat();
        let of = |text: &str| digest(0, &[text]);
        assert_ne!(of(&long), of(&with(127)));
        assert_eq!(of(&long), of(&with(128)));
        assert_ne!(of(&long), of(&long[1..]));
    }

    #[test]
    fn last_command_is_searched_in_64_slots() {
        for (noops, found) in [(63, true), (64, false)] {
            let mut texts = Vec::from(["a"]);
            texts.resize(noops + 1, "");
            let is_found = digest(0, &texts) != HistoryDigest::NO_COMMAND;
            assert_eq!(is_found, found, "{noops} no-ops");
        }
    }

    #[test]
    fn histories_are_compared_where_the_shorter_one_ends() {
        use Comparison::{Differs, Equal, Hidden, NoCommand};
        let from = |slot| Differs { from: Slot(slot) };
        let cases: [(&str, u64, &[&str], Comparison); 11] = [
            ("equal", 0, &["a", "", "c", "d"], Equal),
            ("shorter", 0, &["a"], Equal),
            ("ends in a no-op", 0, &["a", ""], Equal),
            ("empty", 0, &[], NoCommand),
            ("another command", 0, &["x"], from(1)),
            ("another before a no-op", 0, &["x", ""], from(1)),
            ("a command for a no-op", 0, &["a", "b"], from(1)),
            ("a no-op for a command", 0, &["a", "", ""], from(3)),
            ("no-ops for commands", 0, &["", ""], from(1)),
            ("hidden by a snapshot", 2, &[], Hidden),
            ("after a snapshot", 2, &["c"], Equal),
        ];
        for (name, base, theirs, expected) in cases {
            let (mine, theirs) = (log(0, &["a", "", "c", "d"]), log(base, theirs));
            let digest = HistoryDigest::of(&theirs, theirs.last());
            assert_eq!(digest.compare(&mine, theirs.last()), expected, "{name}");
        }
        let theirs = log(0, &["x"]);
        let digest = HistoryDigest::of(&theirs, Slot(1));
        assert_eq!(digest.compare(&log(4, &["e"]), Slot(1)), Hidden, "compacted away");
    }
}
