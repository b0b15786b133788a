//! Bounds that simulators draw.

/// Bounds of messages, windows and open values, and the sizes of quorums. Each protocol translates them
/// into its own settings, see [`Protocol::bounded`](crate::Protocol::bounded).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// One message that carries values, in bytes of values; a longer single command travels alone.
    pub message_bytes: usize,
    /// Unacknowledged messages to one peer.
    pub window_messages: usize,
    /// Unacknowledged bytes of values to one peer.
    pub window_bytes: usize,
    /// Slots that are proposed and not yet chosen.
    pub open_slots: usize,
    /// Bytes of values that are proposed and not yet chosen. One command must be shorter.
    pub open_bytes: usize,
    /// Sizes of the quorums for phase 1 and phase 2; `None` leaves them as they are.
    pub quorums: Option<(usize, usize)>,
}

impl Bounds {
    /// Returns the longest command that fits into the open bytes, and at most `most`.
    #[must_use]
    pub fn command_bytes(&self, most: usize) -> usize {
        // One byte less: a command takes a tag beside its bytes, and must fit into the open bytes.
        self.open_bytes.saturating_sub(1).min(most)
    }
}
