//! Proposals of a leader: the batch that is in no log yet, and the size of the values that are not chosen.

use crate::{Effects, Protocol, Refusal};
use alloc::vec::Vec;
use synod_types::{Slot, Ticket, Values, ValuesBuilder};

/// Bounds of a leader's [`Proposals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProposalLimits {
    /// Longest command, in bytes.
    pub command_bytes: usize,
    /// Largest batch, in bytes of values; a longer command has a batch of its own.
    pub batch_bytes: usize,
    /// Values that are proposed and not chosen, in bytes.
    pub open_bytes: usize,
}

/// Returns the size of a command in a batch: a tag names its kind.
pub(crate) fn size_in_batch(command_bytes: usize) -> usize {
    // Settings may be any number, so the sum must not overflow.
    command_bytes.saturating_add(1)
}

/// Proposals of a leader that are not chosen: a batch of commands that are in no log yet, and the size
/// of the values in the log.
///
/// A leader admits a command, ends the batch before it if the two together exceed one message, and
/// adds the command. Ending a batch gives each command its slot. A leader that steps down refuses the
/// batch: it belongs to its term and must not enter the log under another.
///
/// # Invariants
/// 1. Each command of the batch has one ticket, in the same order; each ticket is placed or refused
///    once.
/// 2. The batch and the open values together are within `open_bytes`, for commands that were admitted.
/// 3. A batch of several commands is within `batch_bytes`, so one message carries it whole.
///
/// ```
/// use synod_consensus::{ProposalLimits, Proposals, Refusal};
/// use synod_types::Ticket;
///
/// let limits = ProposalLimits { command_bytes: 8, batch_bytes: 6, open_bytes: 16 };
/// let mut proposals = Proposals::default();
/// assert_eq!(proposals.admit(b"123456789", &limits), Err(Refusal::TooLarge { limit: 8 }));
/// assert_eq!(proposals.admit(b"123", &limits), Ok(()));
/// proposals.push(Ticket(1), b"123");
/// assert!(!proposals.has_room(b"456", &limits), "the batch would exceed 6 bytes");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proposals {
    batch: ValuesBuilder,
    tickets: Vec<Ticket>,
    open_bytes: usize,
}

impl Proposals {
    /// Number of commands in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Returns whether the batch is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Size of the values that are in the log and not chosen, in bytes.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Checks whether a command may be proposed.
    ///
    /// # Errors
    /// If it is too long, or too much is open.
    #[inline]
    pub fn admit(&self, command: &[u8], limits: &ProposalLimits) -> Result<(), Refusal> {
        // First, since a client must not retry a command that is too long.
        Refusal::check_length(command, limits.command_bytes)?;
        // Backpressure: otherwise a leader that commits slowly, or not at all, would fill its memory.
        let open = self.open_bytes + self.batch.byte_len();
        match open + size_in_batch(command.len()) > limits.open_bytes {
            true => Err(Refusal::Busy),
            false => Ok(()),
        }
    }

    /// Returns whether the batch has room for a command. If not, the batch must be ended first: a run
    /// that fits into one message is never cut or copied again.
    #[inline]
    #[must_use]
    pub fn has_room(&self, command: &[u8], limits: &ProposalLimits) -> bool {
        let bytes = self.batch.byte_len() + size_in_batch(command.len());
        // A command longer than one message has a batch, and a message, of its own.
        self.is_empty() || bytes <= limits.batch_bytes
    }

    /// Adds a command to the batch.
    #[inline]
    pub fn push(&mut self, ticket: Ticket, command: &[u8]) {
        self.batch.push_command(command);
        self.tickets.push(ticket);
    }

    /// Ends the batch, and reports its commands as placed from slot `first` on; `None` if it is empty.
    /// The caller writes the values.
    pub fn place<P: Protocol>(&mut self, first: Slot, fx: &mut Effects<'_, P>) -> Option<Values> {
        if self.is_empty() {
            return None;
        }
        debug_assert_eq!(self.batch.len(), self.tickets.len(), "each proposal has a ticket");
        // Placed is no promise: only a chosen command may be reported to its client as done.
        fx.placed_from(first, self.tickets.drain(..));
        Some(self.batch.finish())
    }

    /// Refuses the commands of the batch. They are in no log, so clients may retry elsewhere at once.
    pub fn refuse<P: Protocol>(&mut self, why: &Refusal, fx: &mut Effects<'_, P>) {
        self.batch.clear();
        for ticket in self.tickets.drain(..) {
            fx.refuse(ticket, why.clone());
        }
    }

    /// Adds to the size of open values: these were put into the log and are not chosen.
    pub fn opened(&mut self, bytes: usize) {
        self.open_bytes += bytes;
    }

    /// Subtracts chosen values from the size of open values.
    ///
    /// # Panics
    /// If less is open: with a wrong count a leader would refuse commands that it has room for, or
    /// exceed its bound.
    pub fn chosen(&mut self, bytes: usize) {
        // An unsigned wrap would refuse every later command as Busy.
        assert!(bytes <= self.open_bytes, "{bytes} bytes are chosen of {}", self.open_bytes);
        self.open_bytes -= bytes;
    }

    /// Replaces the size of open values, after a snapshot has replaced a part of the log.
    pub fn recount(&mut self, open_bytes: usize) {
        self.open_bytes = open_bytes;
    }

    /// Asserts the invariants; `open_bytes` is the size of the open values in the log.
    pub fn check_invariants(&self, open_bytes: usize) {
        assert_eq!(self.batch.len(), self.tickets.len(), "each proposal has a ticket");
        assert_eq!(self.open_bytes, open_bytes, "open values are counted");
    }
}

impl Refusal {
    /// Checks that a command is at most `limit` bytes long.
    ///
    /// # Errors
    /// If it is longer.
    #[inline]
    pub fn check_length(command: &[u8], limit: usize) -> Result<(), Self> {
        match command.len() > limit {
            true => Err(Self::TooLarge { limit: limit as u64 }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outbox;
    use crate::host::tests::Scripted;
    use alloc::vec;
    use synod_types::Value;

    const LIMITS: ProposalLimits =
        ProposalLimits { command_bytes: 5, batch_bytes: 6, open_bytes: 12 };

    /// Returns a batch of these commands, with tickets from 1 on.
    fn batch_of(commands: &[&[u8]]) -> Proposals {
        let mut proposals = Proposals::default();
        for (ticket, command) in (1..).zip(commands) {
            proposals.push(Ticket(ticket), command);
        }
        proposals
    }

    #[test]
    fn command_is_admitted_up_to_each_limit() {
        // (open bytes, commands of one byte in the batch, length of the command, result)
        let busy = Err(Refusal::Busy);
        let cases = [
            (0, 0, 5, Ok(())),
            (0, 0, 6, Err(Refusal::TooLarge { limit: 5 })),
            (6, 0, 5, Ok(())),
            (7, 0, 5, busy.clone()),
            (4, 1, 5, Ok(())),
            (5, 1, 5, busy.clone()),
            (12, 0, 0, busy),
            (12, 0, 6, Err(Refusal::TooLarge { limit: 5 })),
        ];
        for (open, batch, length, expected) in cases {
            let mut proposals = batch_of(&vec![&b"a"[..]; batch]);
            proposals.opened(open);
            let admitted = proposals.admit(&vec![0; length], &LIMITS);
            assert_eq!(admitted, expected, "{length} bytes, {open} open, {batch} in the batch");
        }
    }

    #[test]
    fn batch_of_several_commands_fits_into_one_message() {
        assert!(batch_of(&[]).has_room(b"123456789", &LIMITS), "alone, a command may be longer");
        assert!(batch_of(&[b"1"]).has_room(b"123", &LIMITS));
        assert!(!batch_of(&[b"1"]).has_room(b"1234", &LIMITS));
        assert!(!batch_of(&[b"123456789"]).has_room(b"", &LIMITS));
    }

    #[test]
    fn each_command_of_a_batch_is_placed_once_and_in_order() {
        let mut proposals = batch_of(&[b"a", b"b"]);
        let mut outbox = Outbox::<Scripted>::default();
        let values = proposals.place(Slot(7), &mut outbox.effects()).expect("a batch");
        let commands = ["a", "b"].map(|text| Value::Command(text.into()));
        assert_eq!(values, commands.into_iter().collect());
        assert_eq!(proposals.place(Slot(9), &mut outbox.effects()), None);
        proposals.refuse(&Refusal::Busy, &mut outbox.effects());
        assert_eq!(outbox.outputs.placed, [(Ticket(1), Slot(7)), (Ticket(2), Slot(8))]);
        assert_eq!(outbox.outputs.refused, []);
        proposals.check_invariants(0);
    }

    #[test]
    fn refused_command_is_in_no_later_batch() {
        let mut proposals = batch_of(&[b"a", b"b"]);
        let mut outbox = Outbox::<Scripted>::default();
        let why = Refusal::NotLeader { hint: None };
        proposals.refuse(&why, &mut outbox.effects());
        assert_eq!(outbox.outputs.refused, [(Ticket(1), why.clone()), (Ticket(2), why)]);
        proposals.push(Ticket(3), b"c");
        let values = proposals.place(Slot(1), &mut outbox.effects()).expect("a batch");
        assert_eq!(values, Values::command_only(b"c"));
        assert_eq!(outbox.outputs.placed, [(Ticket(3), Slot(1))]);
    }

    #[test]
    fn chosen_values_make_room() {
        let mut proposals = Proposals::default();
        proposals.opened(12);
        proposals.chosen(2);
        assert_eq!((proposals.open_bytes(), proposals.admit(b"a", &LIMITS)), (10, Ok(())));
        proposals.recount(11);
        assert_eq!(proposals.admit(b"a", &LIMITS), Err(Refusal::Busy));
        proposals.check_invariants(11);
    }

    #[test]
    #[should_panic(expected = "3 bytes are chosen of 2")]
    fn more_chosen_values_than_open_ones_are_a_bug() {
        let mut proposals = Proposals::default();
        proposals.opened(2);
        proposals.chosen(3);
    }
}
