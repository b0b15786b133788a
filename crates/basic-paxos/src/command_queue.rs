//! Queue of commands without a slot.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use synod_types::{Instant, Ticket, Values};

/// Client's command that is not chosen yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Command {
    /// Number in the order of arrival at this node.
    arrival: u64,
    /// Time of its proposal.
    since: Instant,
    pub(crate) ticket: Ticket,
    pub(crate) value: Values,
    /// Number of slots that it has lost to other values.
    pub(crate) lost: u64,
}

/// Commands without a slot, in order of arrival. A requeued command takes its old place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct CommandQueue {
    commands: BTreeMap<u64, Command>,
    bytes: usize,
    arrivals: u64,
}

impl CommandQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Returns whether more commands or bytes are queued than these.
    pub(crate) fn exceeds(&self, commands: usize, bytes: usize) -> bool {
        self.commands.len() > commands || self.bytes > bytes
    }

    /// Returns whether the oldest command was proposed at least `age` ago.
    pub(crate) fn is_stale(&self, now: Instant, age: Duration) -> bool {
        let oldest = self.commands.first_key_value();
        oldest.is_some_and(|(_, command)| now.since(command.since) >= age)
    }

    /// Adds a new command.
    pub(crate) fn push(&mut self, now: Instant, ticket: Ticket, value: Values) {
        self.arrivals += 1;
        self.insert(Command { arrival: self.arrivals, since: now, ticket, value, lost: 0 });
    }

    /// Puts back a command that has lost its slot, in its old place.
    pub(crate) fn requeue(&mut self, command: Command) {
        // Losses are counted because each raises the command's next ballot: see `Proposal::new`.
        self.insert(Command { lost: command.lost + 1, ..command });
    }

    /// Checks that each command is queued or in one proposal, and that the bytes are counted.
    pub(crate) fn check_invariants<'a>(&'a self, proposed: impl Iterator<Item = &'a Command>) {
        let bytes: usize = self.commands.values().map(|command| command.value.byte_len()).sum();
        assert_eq!(self.bytes, bytes, "queued bytes are counted");
        // A command in two places could be chosen in two slots.
        let mut arrivals: BTreeSet<_> = self.commands.keys().copied().collect();
        for command in proposed {
            assert!(arrivals.insert(command.arrival), "{:?} is in one place", command.ticket);
            assert!(command.arrival <= self.arrivals, "arrivals are numbered in order");
        }
    }

    fn insert(&mut self, command: Command) {
        self.bytes += command.value.byte_len();
        let replaced = self.commands.insert(command.arrival, command);
        debug_assert!(replaced.is_none(), "a command is queued once");
    }

    /// Removes the newest command.
    pub(crate) fn pop_newest(&mut self) -> Option<Command> {
        let (_, command) = self.commands.pop_last()?;
        self.bytes -= command.value.byte_len();
        Some(command)
    }

    /// Removes the oldest command.
    pub(crate) fn pop_oldest(&mut self) -> Option<Command> {
        let (_, command) = self.commands.pop_first()?;
        self.bytes -= command.value.byte_len();
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn value(text: &str) -> Values {
        Values::command_only(text.as_bytes())
    }

    #[test]
    fn requeued_command_takes_its_old_place() {
        let mut queue = CommandQueue::default();
        for ticket in 1..=4 {
            queue.push(Instant::ZERO, Ticket(ticket), value("x"));
        }
        let gone: Vec<_> = (0..3).filter_map(|_| queue.pop_oldest()).collect();
        for command in gone {
            queue.requeue(command);
        }
        queue.push(Instant::ZERO, Ticket(5), value("y"));
        let order: Vec<_> = core::iter::from_fn(|| queue.pop_oldest()).collect();
        let order: Vec<_> = order.into_iter().map(|it| (it.ticket.0, it.lost)).collect();
        assert_eq!(order, [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn queue_counts_commands_and_bytes() {
        let mut queue = CommandQueue::default();
        queue.push(Instant::ZERO, Ticket(1), value("abc"));
        let bytes = value("abc").byte_len();
        assert!(!queue.exceeds(1, bytes));
        assert!(queue.exceeds(0, bytes));
        assert!(queue.exceeds(1, bytes - 1));
    }
}
