//! Forwarded requests, acknowledgements and refusals for other nodes, batched into frames.

use crate::RequestSeq;
use crate::frame::Payload;
use std::collections::BTreeMap;
use synod_consensus::Refusal;
use synod_types::{Lane, NodeId, Values, ValuesBuilder};

/// Content of a frame for another node, other than a message of the protocol.
pub(crate) enum Outgoing {
    Forward(Values),
    Acknowledged(Vec<u64>),
    Refused(Vec<u64>, Refusal),
}

impl Outgoing {
    /// Returns the lane of the frame. Acknowledgements and refusals are small and must not queue
    /// behind requests.
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::Forward(_) => Lane::Forward,
            Self::Acknowledged(_) | Self::Refused(..) => Lane::Control,
        }
    }

    /// Returns the payload of the frame.
    pub(crate) fn typed<M>(self) -> Payload<M> {
        match self {
            Self::Forward(values) => Payload::Forward(values),
            Self::Acknowledged(requests) => Payload::Acknowledged { requests },
            Self::Refused(requests, why) => Payload::Refused { requests, why },
        }
    }
}

/// Forwarded requests, acknowledgements and refusals of one round.
pub(crate) struct OutgoingQueue {
    /// Size at which a frame of forwarded requests is full.
    forward_bytes: usize,
    forwards: BTreeMap<NodeId, ValuesBuilder>,
    full_forwards: Vec<(NodeId, Values)>,
    /// Acknowledgements of remote proposals, by node.
    acknowledgements: BTreeMap<NodeId, Vec<u64>>,
    /// Refusals of remote proposals, by node and reason.
    refusals: Vec<(NodeId, Refusal, Vec<u64>)>,
}

impl OutgoingQueue {
    pub(crate) fn new(forward_bytes: usize) -> Self {
        Self {
            forward_bytes,
            forwards: BTreeMap::new(),
            full_forwards: Vec::new(),
            acknowledgements: BTreeMap::new(),
            refusals: Vec::new(),
        }
    }

    /// Adds a request for the leader.
    pub(crate) fn forward(&mut self, leader: NodeId, command: &[u8]) {
        let forward = self.forwards.entry(leader).or_default();
        forward.push_command(command);
        if forward.byte_len() >= self.forward_bytes {
            // A longer frame would delay the frames after it on its lane.
            self.full_forwards.push((leader, forward.finish()));
        }
    }

    /// Adds an acknowledgement of a request of `node`.
    pub(crate) fn acknowledge(&mut self, node: NodeId, seq: RequestSeq) {
        self.acknowledgements.entry(node).or_default().push(seq.0);
    }

    /// Adds a refusal of a request of `node`.
    pub(crate) fn refuse(&mut self, node: NodeId, seq: RequestSeq, why: &Refusal) {
        // Requests with the same reason share one frame, which carries the reason once.
        let same = |group: &&mut (NodeId, Refusal, Vec<u64>)| group.0 == node && group.1 == *why;
        match self.refusals.iter_mut().find(same) {
            Some((_, _, requests)) => requests.push(seq.0),
            None => self.refusals.push((node, why.clone(), vec![seq.0])),
        }
    }

    /// Removes and returns everything, one item for each frame.
    pub(crate) fn drain(&mut self) -> Vec<(NodeId, Outgoing)> {
        let mut out = Vec::new();
        // Full frames hold the older requests, so they are sent first.
        for (to, values) in self.full_forwards.drain(..) {
            out.push((to, Outgoing::Forward(values)));
        }
        for (to, forward) in &mut self.forwards {
            // The builders stay, so that the next round reuses their memory.
            if !forward.is_empty() {
                out.push((*to, Outgoing::Forward(forward.finish())));
            }
        }
        for (to, requests) in std::mem::take(&mut self.acknowledgements) {
            out.push((to, Outgoing::Acknowledged(requests)));
        }
        for (to, why, requests) in self.refusals.drain(..) {
            out.push((to, Outgoing::Refused(requests, why)));
        }
        out
    }
}
