//! Fingerprints of values and of whole runs, for comparison.

use synod_types::ValueRef;

/// Incremental 64-bit fingerprint. It is not cryptographic and detects only accidental differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn fold(&mut self, word: u64) {
        // The finaliser of SplitMix64.
        let mut mixed = self.0.rotate_left(23) ^ word;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = mixed ^ (mixed >> 31);
    }

    pub(crate) fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.fold(u64::from_le_bytes(word.try_into().expect("chunks of eight")));
        }
        let mut rest = [0; 8];
        rest[..words.remainder().len()].copy_from_slice(words.remainder());
        self.fold(u64::from_le_bytes(rest));
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

/// Returns the fingerprint of one value of the log.
pub(crate) fn of_value(value: &ValueRef<'_>) -> u64 {
    let mut digest = Digest::new();
    match value {
        ValueRef::Noop => digest.fold(1),
        ValueRef::Command(command) => {
            digest.fold(2);
            digest.fold_bytes(command);
        }
        ValueRef::Members(members) | ValueRef::Stop(members) => {
            digest.fold(3 + u64::from(matches!(value, ValueRef::Stop(_))));
            digest.fold(members.epoch().0);
            digest.fold(members.voters().len() as u64);
            members.all().for_each(|node| digest.fold(node.0));
        }
    }
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_values_have_different_fingerprints() {
        let commands: [&[u8]; 6] =
            [b"", b"\0", b"a", b"abcdefgh", b"abcdefgh\0", b"abcdefghabcdefgh"];
        let mut all: Vec<_> = commands.map(|bytes| of_value(&ValueRef::Command(bytes))).into();
        all.push(of_value(&ValueRef::Noop));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 7);
    }
}
