//! Requests, acknowledgements and refusals that leave for other nodes, gathered into frames.

use crate::RequestSeq;
use crate::frame::Payload;
use std::collections::BTreeMap;
use synod_consensus::Refusal;
use synod_types::{Lane, NodeId, Values, ValuesBuilder};

/// Content of a frame for another node, other than a message of the protocol.
pub(crate) enum Outgoing {
    Forward(Values),
    Taken(Vec<u64>),
    Refused(Vec<u64>, Refusal),
}

impl Outgoing {
    /// Returns the lane of the network: answers are small and must not wait behind requests.
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::Forward(_) => Lane::Forward,
            Self::Taken(_) | Self::Refused(..) => Lane::Control,
        }
    }

    /// Returns the payload of the frame.
    pub(crate) fn typed<M>(self) -> Payload<M> {
        match self {
            Self::Forward(values) => Payload::Forward(values),
            Self::Taken(requests) => Payload::Taken { requests },
            Self::Refused(requests, why) => Payload::Refused { requests, why },
        }
    }
}

/// Everything of a round that leaves for other nodes.
pub(crate) struct OutgoingQueue {
    /// Size at which a frame of forwarded requests is full.
    forward_bytes: usize,
    forwards: BTreeMap<NodeId, ValuesBuilder>,
    full_forwards: Vec<(NodeId, Values)>,
    /// Remote proposals that this node has, to be acknowledged.
    taken: BTreeMap<NodeId, Vec<u64>>,
    /// Refusals of remote proposals, gathered by node and reason.
    refusals: Vec<(NodeId, Refusal, Vec<u64>)>,
}

impl OutgoingQueue {
    pub(crate) fn new(forward_bytes: usize) -> Self {
        Self {
            forward_bytes,
            forwards: BTreeMap::new(),
            full_forwards: Vec::new(),
            taken: BTreeMap::new(),
            refusals: Vec::new(),
        }
    }

    /// Adds a request for the leader.
    pub(crate) fn forward(&mut self, leader: NodeId, command: &[u8]) {
        let forward = self.forwards.entry(leader).or_default();
        forward.push_command(command);
        if forward.byte_len() >= self.forward_bytes {
            // A frame that is too long would hold up others on its lane.
            self.full_forwards.push((leader, forward.finish()));
        }
    }

    /// Adds an acknowledgement of a request of `node`.
    pub(crate) fn acknowledge(&mut self, node: NodeId, seq: RequestSeq) {
        self.taken.entry(node).or_default().push(seq.0);
    }

    /// Adds a refusal of a request of `node`.
    pub(crate) fn refuse(&mut self, node: NodeId, seq: RequestSeq, why: &Refusal) {
        // One frame for each reason: the reason is sent once for all requests in it.
        let same = |group: &&mut (NodeId, Refusal, Vec<u64>)| group.0 == node && group.1 == *why;
        match self.refusals.iter_mut().find(same) {
            Some((_, _, requests)) => requests.push(seq.0),
            None => self.refusals.push((node, why.clone(), vec![seq.0])),
        }
    }

    /// Takes all of it, a frame an item.
    pub(crate) fn drain(&mut self) -> Vec<(NodeId, Outgoing)> {
        let mut out = Vec::new();
        // Full frames hold the older requests, so they leave first.
        for (to, values) in self.full_forwards.drain(..) {
            out.push((to, Outgoing::Forward(values)));
        }
        for (to, forward) in &mut self.forwards {
            // Builders stay, with their memory, for the next round.
            if !forward.is_empty() {
                out.push((*to, Outgoing::Forward(forward.finish())));
            }
        }
        for (to, requests) in std::mem::take(&mut self.taken) {
            out.push((to, Outgoing::Taken(requests)));
        }
        for (to, why, requests) in self.refusals.drain(..) {
            out.push((to, Outgoing::Refused(requests, why)));
        }
        out
    }
}
