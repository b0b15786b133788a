//! Nodes pull the chosen values that they lack, from any node that has them.

use crate::cluster::*;
use std::time::Duration;
use synod_multi_paxos::consensus::HistoryDigest;
use synod_multi_paxos::types::{Instant, NodeId, Slot};
use synod_multi_paxos::{ElectionState, Heartbeat, HeartbeatReply, Learn, Message, Timing, View};

/// Returns the view of a node that follows the leader of 3.1 and has a commit index of nine.
fn view(state: ElectionState) -> View {
    let (has_quorum, has_live_leader) = (state == ElectionState::Leading, true);
    let leader = Some(ballot(3, 1));
    View {
        ballot: ballot(3, 1),
        leader,
        state,
        has_quorum,
        has_live_leader,
        commit: Slot(9),
        digest: HistoryDigest::UNKNOWN,
        priority: 0,
    }
}

fn learn_receiver(sent: &[(NodeId, Message)]) -> Option<NodeId> {
    let is_learn =
        |message: &Message| matches!(message, Message::Learn(Learn { from: Slot(1), .. }));
    sent.iter().find_map(|(node, message)| is_learn(message).then_some(*node))
}

/// The leader was stopped for an hour with a reply in flight. The next request times out as usual, because
/// other nodes have the same values.
#[test]
fn one_slow_reply_does_not_delay_later_requests() {
    let mut node = new_node(2, 3);
    let mut now = Instant::ZERO + Duration::from_secs(3600);
    let reply =
        Message::HeartbeatReply(HeartbeatReply { round: 1, view: view(ElectionState::Leading) });
    node.receive(now, N1, reply);
    let mut beat = |node: &mut Node, from: u64, state: ElectionState| {
        now = now + Timing::default().heartbeat;
        learn_receiver(&node.receive(
            now,
            NodeId(from),
            Message::Heartbeat(Heartbeat { round: 1, view: view(state) }),
        ))
    };
    assert_eq!(beat(&mut node, 1, ElectionState::Leading), Some(NodeId(1)));
    let beats = (0..40).map(|_| beat(&mut node, 3, ElectionState::Following));
    let others: Vec<_> = beats.flatten().collect();
    assert_eq!(others.first(), Some(&NodeId(3)), "the leader never answered");
}
