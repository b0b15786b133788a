//! Outgoing messages of a round, by receiver.

use crate::history::Statement;
use crate::message::Message;
use crate::message_batch::MessageBatch;
use alloc::vec::Vec;
use core::mem;
use synod_types::NodeId;

/// Longest batch, by [`Message::size`]. A message that is longer by itself travels alone.
const MAX_BATCH_BYTES: usize = 256 << 10;

/// Batches of the current round. Messages to one node share a batch if they have the same gate and lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Outgoing {
    /// Statement of new batches.
    pub(crate) statement: Statement,
    batches: Vec<OpenBatch>,
}

/// Batch that may take further messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OpenBatch {
    to: NodeId,
    batch: MessageBatch,
    bytes: usize,
}

impl Outgoing {
    /// Adds a message to an open batch, or to a new one.
    pub(crate) fn push(&mut self, to: NodeId, message: Message) {
        let bytes = message.size();
        let fits = |open: &&mut OpenBatch| {
            // Same gate and lane: a durable message would make the others wait for the disk.
            let first = open.batch.messages().first();
            let alike = first.is_some_and(|first| first.travels_like(&message));
            open.to == to && alike && open.bytes + bytes <= MAX_BATCH_BYTES
        };
        match self.batches.iter_mut().rev().find(fits) {
            Some(open) => {
                open.bytes += bytes;
                open.batch.add(message);
            }
            None => {
                let batch = MessageBatch::new(self.statement, message);
                self.batches.push(OpenBatch { to, batch, bytes });
            }
        }
    }

    /// Removes and returns the batches, in the order in which they were begun.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (NodeId, MessageBatch)> {
        mem::take(&mut self.batches).into_iter().map(|open| (open.to, open.batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Accept, Learn, Prepare};
    use alloc::vec;
    use synod_types::{Ballot, Slot, Values};

    const N2: NodeId = NodeId(2);
    const BALLOT: Ballot = Ballot { round: 1, node: NodeId(1) };

    fn prepare(slot: u64) -> Message {
        Message::Prepare(Prepare { slot: Slot(slot), ballot: BALLOT })
    }

    fn accept(slot: u64, bytes: usize) -> Message {
        let value = Values::command_only(&vec![7; bytes]);
        Message::Accept(Accept { slot: Slot(slot), ballot: BALLOT, value })
    }

    fn lengths(mut outgoing: Outgoing) -> Vec<(u64, usize)> {
        outgoing.take().map(|(to, batch)| (to.0, batch.messages().len())).collect()
    }

    #[test]
    fn durable_messages_do_not_delay_others() {
        let mut outgoing = Outgoing::default();
        for slot in 1..=3 {
            outgoing.push(N2, prepare(slot));
            outgoing.push(N2, accept(slot, 1));
            outgoing.push(NodeId(3), prepare(slot));
        }
        outgoing.push(N2, Message::Learn(Learn { from: Slot(1) }));
        assert_eq!(
            lengths(outgoing),
            [(2, 3), (2, 3), (3, 3), (2, 1)],
            "a request has its own lane"
        );
    }

    #[test]
    fn batch_is_bounded() {
        let mut outgoing = Outgoing::default();
        outgoing.push(N2, accept(1, MAX_BATCH_BYTES / 2));
        outgoing.push(N2, accept(2, MAX_BATCH_BYTES));
        outgoing.push(N2, accept(3, 10));
        outgoing.push(N2, accept(4, 10));
        assert_eq!(lengths(outgoing), [(2, 3), (2, 1)]);
    }

    #[test]
    fn batch_may_be_full_to_the_last_byte() {
        for (more, batches) in [(0, 1), (1, 2)] {
            let mut outgoing = Outgoing::default();
            // A value counts a byte more than its command, and a message 32 more than its value.
            outgoing.push(N2, accept(1, 1000));
            outgoing.push(N2, accept(2, 1000));
            outgoing.push(N2, accept(3, (256 << 10) - 2 * 1033 - 33 + more));
            assert_eq!(lengths(outgoing).len(), batches, "{more} too many");
        }
    }
}
