//! State that all parts of a core share.

use crate::config::Config;
use crate::message::Message;
use crate::outgoing::Outgoing;
use crate::protocol::Paxos;
use crate::round_trip::RoundTrip;
use crate::slots::Slots;
use synod_consensus::{Effects, IgnoreReason, ProtocolEvent};
use synod_types::{Instant, NodeId};

/// Shared state of a core while it handles one input.
pub(crate) struct Context<'a, 'fx, P: Paxos> {
    pub(crate) now: Instant,
    pub(crate) config: &'a Config,
    pub(crate) slots: &'a mut Slots,
    pub(crate) round_trip: &'a mut RoundTrip,
    pub(crate) outgoing: &'a mut Outgoing,
    pub(crate) fx: &'a mut Effects<'fx, P>,
}

impl<P: Paxos> Context<'_, '_, P> {
    pub(crate) fn me(&self) -> NodeId {
        self.config.id()
    }

    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.outgoing.push(to, message);
    }

    /// Sends a message to every other voter.
    pub(crate) fn send_to_voters(&mut self, message: &Message) {
        // This node's own acceptor is called directly: it has to promise or vote first.
        for voter in self.config.other_voters() {
            self.outgoing.push(voter, message.clone());
        }
    }

    pub(crate) fn ignore(&mut self, from: NodeId, reason: IgnoreReason) {
        self.fx.note(ProtocolEvent::Ignored { from, reason });
    }
}
