//! Commands that wait for a slot.

use alloc::collections::BTreeMap;
use core::time::Duration;
use synod_types::{Instant, Ticket, Values};

/// A client's command on its way to a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Command {
    /// Its place in the order in which commands came to this node.
    arrival: u64,
    /// Time of its proposal.
    since: Instant,
    pub(crate) ticket: Ticket,
    pub(crate) value: Values,
    /// How many slots it has lost to others.
    pub(crate) lost: u64,
}

/// Commands without a slot, the oldest first: one that comes back takes its old place.
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

    /// Whether more wait than this.
    pub(crate) fn exceeds(&self, commands: usize, bytes: usize) -> bool {
        self.commands.len() > commands || self.bytes > bytes
    }

    /// Returns whether the oldest command was proposed at least `age` ago.
    pub(crate) fn is_stale(&self, now: Instant, age: Duration) -> bool {
        let oldest = self.commands.first_key_value();
        oldest.is_some_and(|(_, command)| now.since(command.since) >= age)
    }

    /// A new command joins.
    pub(crate) fn join(&mut self, now: Instant, ticket: Ticket, value: Values) {
        self.arrivals += 1;
        self.insert(Command { arrival: self.arrivals, since: now, ticket, value, lost: 0 });
    }

    /// A command has lost its slot.
    pub(crate) fn rejoin(&mut self, command: Command) {
        self.insert(Command { lost: command.lost + 1, ..command });
    }

    fn insert(&mut self, command: Command) {
        self.bytes += command.value.byte_len();
        self.commands.insert(command.arrival, command);
    }

    /// The newest command leaves.
    pub(crate) fn leave_newest(&mut self) -> Option<Command> {
        let (_, command) = self.commands.pop_last()?;
        self.bytes -= command.value.byte_len();
        Some(command)
    }

    /// The oldest command leaves.
    pub(crate) fn leave(&mut self) -> Option<Command> {
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
    fn what_comes_back_takes_its_old_place() {
        let mut waiting = CommandQueue::default();
        for ticket in 1..=4 {
            waiting.join(Instant::ZERO, Ticket(ticket), value("x"));
        }
        let gone: Vec<_> = (0..3).filter_map(|_| waiting.leave()).collect();
        for command in gone {
            waiting.rejoin(command);
        }
        waiting.join(Instant::ZERO, Ticket(5), value("y"));
        let order: Vec<_> = core::iter::from_fn(|| waiting.leave()).collect();
        let order: Vec<_> = order.into_iter().map(|it| (it.ticket.0, it.lost)).collect();
        assert_eq!(order, [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)]);
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn it_knows_how_much_it_holds() {
        let mut waiting = CommandQueue::default();
        waiting.join(Instant::ZERO, Ticket(1), value("abc"));
        let bytes = value("abc").byte_len();
        assert!(!waiting.exceeds(1, bytes));
        assert!(waiting.exceeds(0, bytes));
        assert!(waiting.exceeds(1, bytes - 1));
    }
}
