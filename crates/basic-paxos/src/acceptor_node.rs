//! Acceptor side of a core: one acceptor for each open slot.

use crate::acceptor::Verdict;
use crate::context::Context;
use crate::message::{Accept, Accepted, Message, Nack, Prepare, Promise};
use crate::protocol::Paxos;
use synod_consensus::{IgnoreReason, ProtocolEvent};
use synod_types::NodeId;

impl<P: Paxos> Context<'_, '_, P> {
    /// Handles phase 1b (PMS §2.2) in an open slot.
    pub(crate) fn on_prepare(&mut self, from: NodeId, prepare: &Prepare) {
        let Prepare { slot, ballot } = *prepare;
        let mut acceptor = self.slots.acceptor(slot);
        let reply = match acceptor.prepare(ballot) {
            Verdict::Granted { changed } => {
                if changed {
                    self.slots.promise(self.now, slot, ballot);
                    self.fx.note(ProtocolEvent::Voted { to: from, ballot });
                }
                // P2c: the proposer needs every vote that may be part of a quorum, chosen or not.
                let accepted = acceptor.accepted().cloned();
                Message::Promise(Promise { slot, ballot, accepted })
            }
            // PMS §2.2 advises to inform a proposer that is outbid: silence is safe, and slower.
            Verdict::Rejected { promised } => Message::Nack(Nack { slot, ballot, promised }),
            // Only a vote can contradict another one.
            Verdict::Contradiction => return,
        };
        self.send(from, reply);
    }

    /// Handles phase 2b (PMS §2.2) in an open slot.
    pub(crate) fn on_accept(&mut self, from: NodeId, accept: Accept) {
        let Accept { slot, ballot, value } = accept;
        let reply = match self.slots.acceptor(slot).accept(ballot, value.clone()) {
            Verdict::Granted { changed } => {
                if changed {
                    // One batch: a vote on disk without its promise fails recovery.
                    self.slots.promise(self.now, slot, ballot);
                    self.slots.put(slot, ballot, value, self.fx);
                }
                Message::Accepted(Accepted { slot, ballot })
            }
            Verdict::Rejected { promised } => Message::Nack(Nack { slot, ballot, promised }),
            Verdict::Contradiction => return self.ignore(from, IgnoreReason::TwoValues),
        };
        self.send(from, reply);
    }
}
