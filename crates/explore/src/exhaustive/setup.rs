//! Setup: a script that leads a cluster to the state where a search starts.

use super::model::{Action, ClusterModel};
use super::state::{Network, Packet, Shared, State};
use bytes::Bytes;
use synod_consensus::{Protocol, Role};
use synod_types::NodeId;

/// Cluster that a script leads to the state where a search starts, such as one with a leader or with
/// divergent logs. Actions of the setup cost no budget. The rules are checked after each action. If the
/// search finds a violation, its trace starts with the actions of the setup.
pub struct Setup<'a, P: Protocol> {
    pub(crate) cluster: &'a ClusterModel<P>,
    pub(crate) state: State<P>,
    pub(crate) trace: Vec<String>,
}

impl<P: Protocol> Setup<'_, P> {
    /// Fires a timer of a node.
    ///
    /// # Panics
    /// If the timer is not running.
    pub fn timeout(&mut self, node: NodeId, timer: P::Timer) {
        assert!(
            self.state.node(node).timers.contains(&timer),
            "{node:?}: timer {timer:?} is not running"
        );
        self.act(&Action::Timeout { node, timer, is_slow: false });
    }

    /// Proposes a command to a node.
    pub fn propose(&mut self, node: NodeId, command: &'static str) {
        let command = Bytes::from_static(command.as_bytes());
        self.act(&Action::Propose { node, command, is_slow: false });
    }

    /// A client reads from a node.
    pub fn read(&mut self, node: NodeId) {
        self.act(&Action::Read { node });
    }

    /// Crashes and restarts a node. The disk keeps all its writes, and the state on disk is that of its last start.
    pub fn crash(&mut self, node: NodeId) {
        let it = self.state.node(node);
        let (unsynced, applied) = (it.unsynced.len(), it.disk.applied);
        self.act(&Action::Crash { node, kept: unsynced, unsynced, applied });
    }

    /// Compacts a node's log through the last slot that it has reported as chosen.
    ///
    /// # Panics
    /// If that slot is not above the base of its log.
    pub fn compact(&mut self, node: NodeId) {
        let it = self.state.node(node);
        let (base, applied) = (it.disk.base.through, it.applied());
        assert!(base < applied, "{node:?}: nothing to compact, base {base}, applied {applied}");
        self.act(&Action::Compact { node });
    }

    /// Delivers messages until none is left for which `arrives` returns true, given the sender, the receiver and
    /// the message. This includes the messages that nodes send in response.
    pub fn deliver(&mut self, arrives: impl Fn(NodeId, NodeId, &P::Message) -> bool) {
        while self.state.violation.is_none() {
            let matching = |it: &&Shared<Packet<P>>| arrives(it.from, it.to, &it.message);
            let next = self.state.network.iter().find(matching).cloned();
            let Some(packet) = next else { return };
            let action = Action::Deliver { packet: packet.clone(), stays: false, is_slow: false };
            self.act(&action);
            // An action without an effect leaves the message in the network.
            self.state.network.remove(&packet);
        }
    }

    /// Loses all messages in flight.
    pub fn lose_all(&mut self) {
        self.state.network = Network::new();
        self.trace.push("all messages in flight are lost".into());
    }

    /// Returns the nodes that report themselves as leaders.
    #[must_use]
    pub fn leaders(&self) -> Vec<NodeId> {
        let ids = (1..).map(NodeId).zip(&self.state.nodes);
        ids.filter(|(_, node)| node.core().status().role == Role::Leader).map(|it| it.0).collect()
    }

    fn act(&mut self, action: &Action<P>) {
        if self.state.violation.is_some() {
            return;
        }
        if let Some(next) = self.cluster.apply(&self.state, action) {
            self.state = next;
            self.trace.push(action.to_string());
        }
    }
}
