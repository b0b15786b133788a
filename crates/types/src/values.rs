//! Batches of log values in one shared buffer.

use crate::Membership;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::hash::{Hash, Hasher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Value of one slot of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// No operation. Fills a slot, so that later slots can be applied.
    Noop,
    /// Command for the state machine, opaque to the protocol.
    Command(Bytes),
    /// Membership change as a log entry (Raft §6). Reserved: no protocol proposes it.
    Members(Membership),
    /// Last entry of a configuration, with the members of the next one (Paxos). Reserved: no protocol proposes it.
    Stop(Membership),
}

/// [`Value`] in a batch. Commands are borrowed from the batch, memberships are decoded.
#[derive(Clone, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// See [`Value::Noop`].
    Noop,
    /// See [`Value::Command`].
    Command(&'a [u8]),
    /// See [`Value::Members`].
    Members(Membership),
    /// See [`Value::Stop`].
    Stop(Membership),
}

impl fmt::Debug for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noop => f.write_str("Noop"),
            Self::Command(bytes) => write!(f, "Command(\"{}\")", bytes.escape_ascii()),
            Self::Members(members) => f.debug_tuple("Members").field(members).finish(),
            Self::Stop(members) => f.debug_tuple("Stop").field(members).finish(),
        }
    }
}

impl ValueRef<'_> {
    /// Returns an owned copy.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Noop => Value::Noop,
            Self::Command(bytes) => Value::Command(Bytes::copy_from_slice(bytes)),
            Self::Members(members) => Value::Members(members.clone()),
            Self::Stop(members) => Value::Stop(members.clone()),
        }
    }
}

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERS: u8 = 2;
const STOP: u8 = 3;
/// Size of an end offset and of the count in the encoding.
const WORD: usize = size_of::<u32>();

/// Immutable batch of values: one shared buffer, cheap to clone and to slice.
///
/// The buffer is the encoding on disk and wire: first the values, each with a leading tag byte; then the end
/// offset of each value; then the number of values. Offsets and number are little-endian `u32`s. A clone or a
/// [`slice`](Self::slice) copies no value.
#[derive(Clone)]
pub struct Values {
    buffer: Bytes,
    from: u32,
    to: u32,
}

/// Error for bytes that are not a valid batch of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedValues;

impl fmt::Display for MalformedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a valid batch of log values")
    }
}

impl core::error::Error for MalformedValues {}

impl Values {
    /// Creates a batch of one command.
    #[must_use]
    pub fn command_only(command: &[u8]) -> Self {
        let mut builder = ValuesBuilder::new();
        builder.push_command(command);
        builder.finish()
    }

    /// Creates a batch of one no-op.
    #[must_use]
    pub fn noop() -> Self {
        let mut builder = ValuesBuilder::new();
        builder.push(&Value::Noop);
        builder.finish()
    }

    /// Parses the bytes of [`as_buffer`](Self::as_buffer). Checks every offset and tag, so that later reads
    /// cannot fail. O(number of values).
    ///
    /// # Errors
    /// If the bytes are not a valid batch.
    pub fn from_buffer(buffer: Bytes) -> Result<Self, MalformedValues> {
        let total = buffer.len().checked_sub(WORD).ok_or(MalformedValues)?;
        let count = read_word(&buffer, total);
        let index = (count as usize).checked_mul(WORD).ok_or(MalformedValues)?;
        let data = total.checked_sub(index).ok_or(MalformedValues)?;
        let values = Self { buffer, from: 0, to: count };
        let mut start = 0;
        for i in 0..count {
            let end = values.end(i);
            if end <= start || end > data || !is_value(&values.buffer[start..end]) {
                return Err(MalformedValues);
            }
            start = end;
        }
        if start == data { Ok(values) } else { Err(MalformedValues) }
    }

    /// Returns the encoding of the batch for disk or wire. Copies the values only if the batch is a proper part of
    /// another one, made by [`slice`](Self::slice).
    #[must_use]
    pub fn as_buffer(&self) -> Bytes {
        if self.from == 0 && self.to == self.total() {
            return self.buffer.clone();
        }
        let base = self.start(self.from);
        let mut bytes = Vec::with_capacity(self.byte_len() + (self.len() + 1) * WORD);
        bytes.extend_from_slice(&self.buffer[base..self.start(self.to)]);
        for i in self.from..self.to {
            bytes.extend_from_slice(&((self.end(i) - base) as u32).to_le_bytes());
        }
        bytes.extend_from_slice(&(self.to - self.from).to_le_bytes());
        bytes.into()
    }

    /// Returns the number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Returns whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Returns the size of the values in bytes, including one tag byte each.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.start(self.to) - self.start(self.from)
    }

    /// Returns the value at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn get(&self, index: usize) -> ValueRef<'_> {
        let raw = self.raw(index);
        match raw[0] {
            NOOP => ValueRef::Noop,
            COMMAND => ValueRef::Command(&raw[1..]),
            MEMBERS => ValueRef::Members(members(raw)),
            _ => ValueRef::Stop(members(raw)),
        }
    }

    /// Returns the command at `index`, or `None` for another kind of value.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn command(&self, index: usize) -> Option<&[u8]> {
        let raw = self.raw(index);
        (raw[0] == COMMAND).then(|| &raw[1..])
    }

    /// Returns the values in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = ValueRef<'_>> + ExactSizeIterator {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Returns whether any value contains a membership. O(len).
    #[must_use]
    pub fn has_members(&self) -> bool {
        // The tags of values with a membership are the last ones.
        (0..self.len()).any(|index| self.raw(index)[0] >= MEMBERS)
    }

    /// Returns the values `from..to`, which share the buffer.
    ///
    /// # Panics
    /// If `from` is above `to`, or `to` is above [`len`](Self::len).
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.len(), "slice {from}..{to} of {} values", self.len());
        let buffer = self.buffer.clone();
        Self { buffer, from: self.from + from as u32, to: self.from + to as u32 }
    }

    /// Returns the number of leading values whose total size is at most `max_bytes`: at least one, unless the
    /// batch is empty. O(log len).
    #[must_use]
    pub fn fitting(&self, max_bytes: usize) -> usize {
        let base = self.start(self.from);
        let (mut low, mut high) = (usize::from(!self.is_empty()), self.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.start(self.from + middle as u32) - base <= max_bytes {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    /// Returns a value with its tag byte.
    fn raw(&self, index: usize) -> &[u8] {
        assert!(index < self.len(), "value {index} of {}", self.len());
        let at = self.from + index as u32;
        &self.buffer[self.start(at)..self.end(at)]
    }

    /// Returns the number of values in the buffer, of which a slice is a part.
    fn total(&self) -> u32 {
        read_word(&self.buffer, self.buffer.len() - WORD)
    }

    /// Returns the offset at which a value of the buffer starts.
    fn start(&self, at: u32) -> usize {
        if at == 0 { 0 } else { self.end(at - 1) }
    }

    /// Returns the offset at which a value of the buffer ends.
    fn end(&self, at: u32) -> usize {
        // Counted from the end of the buffer, where the number of values follows the end offsets.
        let index = self.buffer.len() - WORD - (self.total() - at) as usize * WORD;
        read_word(&self.buffer, index) as usize
    }
}

fn read_word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; WORD];
    word.copy_from_slice(&bytes[at..at + WORD]);
    u32::from_le_bytes(word)
}

fn is_value(raw: &[u8]) -> bool {
    match raw[0] {
        NOOP => raw.len() == 1,
        COMMAND => true,
        MEMBERS | STOP => postcard::from_bytes::<Membership>(&raw[1..]).is_ok(),
        _ => false,
    }
}

fn members(raw: &[u8]) -> Membership {
    postcard::from_bytes(&raw[1..]).expect(
        "a batch should hold only memberships that were checked when it was built or decoded",
    )
}

impl Default for Values {
    fn default() -> Self {
        ValuesBuilder::new().finish()
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        // Slices of one buffer with the same start and length are equal: their bytes need no comparison.
        let whole = |buffer: &Bytes| (buffer.as_ptr(), buffer.len());
        let shared = whole(&self.buffer) == whole(&other.buffer) && self.from == other.from;
        self.len() == other.len()
            && (shared || (0..self.len()).all(|i| self.raw(i) == other.raw(i)))
    }
}

impl Eq for Values {}

impl Hash for Values {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        for index in 0..self.len() {
            self.raw(index).hash(state);
        }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<Value> for Values {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        let mut builder = ValuesBuilder::new();
        for value in values {
            builder.push(&value);
        }
        builder.finish()
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.as_buffer())
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_buffer(Bytes::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Reusable builder of [`Values`]. Each [`finish`](Self::finish) makes one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ValuesBuilder {
    data: Vec<u8>,
    ends: Vec<u8>,
    count: u32,
}

impl ValuesBuilder {
    /// Creates an empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    ///
    /// # Panics
    /// If the batch would exceed 4 GiB, the range of its offsets. Callers must keep batches smaller.
    pub fn push(&mut self, value: &Value) {
        match value {
            Value::Noop => self.data.push(NOOP),
            Value::Command(command) => return self.push_command(command),
            Value::Members(members) => self.push_members(MEMBERS, members),
            Value::Stop(members) => self.push_members(STOP, members),
        }
        self.end_value();
    }

    /// Adds a command.
    ///
    /// # Panics
    /// If the batch would exceed 4 GiB, the range of its offsets. Callers must keep batches smaller.
    pub fn push_command(&mut self, command: &[u8]) {
        self.data.push(COMMAND);
        self.data.extend_from_slice(command);
        self.end_value();
    }

    /// Adds all values of a finished batch.
    ///
    /// # Panics
    /// If the batch would exceed 4 GiB, the range of its offsets. Callers must keep batches smaller.
    pub fn extend(&mut self, values: &Values) {
        for index in 0..values.len() {
            self.data.extend_from_slice(values.raw(index));
            self.end_value();
        }
    }

    /// Returns the number of added values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns whether no value was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the size of the values in bytes, including one tag byte each.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.data.len()
    }

    /// Returns the batch. The builder is empty afterwards and keeps its allocations.
    #[must_use]
    pub fn finish(&mut self) -> Values {
        let mut buffer = Vec::with_capacity(self.data.len() + self.ends.len() + WORD);
        buffer.extend_from_slice(&self.data);
        buffer.extend_from_slice(&self.ends);
        buffer.extend_from_slice(&self.count.to_le_bytes());
        let values = Values { buffer: buffer.into(), from: 0, to: self.count };
        self.clear();
        values
    }

    /// Removes all values and keeps the allocations.
    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
        self.count = 0;
    }

    fn push_members(&mut self, tag: u8, members: &Membership) {
        self.data.push(tag);
        let bytes =
            postcard::to_allocvec(members).expect("every membership should have an encoding");
        self.data.extend_from_slice(&bytes);
    }

    /// Records the end of the last value.
    fn end_value(&mut self) {
        let end =
            u32::try_from(self.data.len()).expect("a batch of values should be smaller than 4 GiB");
        self.ends.extend_from_slice(&end.to_le_bytes());
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use alloc::vec;

    fn sample() -> Values {
        let members = Membership::new([NodeId(1), NodeId(2)], [NodeId(3)]).unwrap();
        [
            Value::Command(Bytes::from_static(b"a")),
            Value::Noop,
            Value::Command(Bytes::new()),
            Value::Members(members.clone()),
            Value::Stop(members),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn slice_is_encoded_with_its_own_values_only() {
        let whole = sample();
        for from in 0..=whole.len() {
            for to in from..=whole.len() {
                let slice = whole.slice(from, to);
                let bytes = postcard::to_allocvec(&slice).unwrap();
                let back: Values = postcard::from_bytes(&bytes).unwrap();
                assert_eq!(back, slice);
                assert_eq!(back.byte_len(), slice.byte_len());
                let expected: Vec<_> = whole.iter().skip(from).take(to - from).collect();
                assert_eq!(back.iter().collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn batches_that_start_at_one_address_but_differ_in_length_are_not_equal() {
        // The bytes of this command make the first 10 bytes of the buffer a valid, shorter batch.
        let outer = Values::command_only(&[7, 2, 0, 0, 0, 1, 0, 0, 0]);
        let inner = Values::from_buffer(outer.as_buffer().slice(..10)).unwrap();
        assert_eq!(inner.command(0), Some(&[7][..]));
        assert_ne!(inner, outer);
        assert_eq!(outer, outer.clone());
    }

    #[test]
    fn corrupted_buffer_is_rejected_or_read_without_a_panic() {
        let buffer = sample().as_buffer();
        for at in 0..buffer.len() {
            for bit in 0..8 {
                let mut bytes = buffer.to_vec();
                bytes[at] ^= 1 << bit;
                if let Ok(values) = Values::from_buffer(bytes.into()) {
                    let _ = values.iter().count();
                }
            }
            assert!(Values::from_buffer(buffer.slice(..at)).is_err(), "truncated to {at} bytes");
        }
    }

    #[test]
    fn fitting_counts_at_least_one_value_unless_the_batch_is_empty() {
        let values: Values = vec![Value::Command(vec![0; 9].into()); 5].into_iter().collect();
        assert_eq!(values.byte_len(), 50);
        for (bytes, expected) in [(0, 1), (10, 1), (19, 1), (20, 2), (49, 4), (50, 5), (99, 5)] {
            assert_eq!(values.fitting(bytes), expected, "{bytes} bytes");
        }
        assert_eq!(Values::default().fitting(10), 0);
    }
}
