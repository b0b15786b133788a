//! Limits that simulators draw.

/// Bounds on what a core sends and keeps in flight, and the sizes of its quorums: settings that
/// protocols have under names of their own. See
/// [`Protocol::bounded`](crate::Protocol::bounded).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// One message that carries values, in bytes of values; a longer single command travels alone.
    pub message_bytes: usize,
    /// Unacknowledged messages to one peer.
    pub window_messages: usize,
    /// Unacknowledged bytes of values to one peer.
    pub window_bytes: usize,
    /// Slots that are proposed and not known to be chosen.
    pub open_slots: usize,
    /// Bytes of values that wait to be chosen. One command must be shorter.
    pub open_bytes: usize,
    /// Sizes of the quorums for phase 1 and phase 2; `None` leaves them as they are.
    pub quorums: Option<(usize, usize)>,
}

impl Bounds {
    /// Returns the longest command that fits into the open bytes, and at most `most`.
    #[must_use]
    pub fn command_bytes(&self, most: usize) -> usize {
        self.open_bytes.saturating_sub(1).min(most)
    }
}
