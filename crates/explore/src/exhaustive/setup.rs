//! Setup: brings a cluster to the state where a search begins.

use super::model::{Action, ClusterModel};
use super::state::{Network, Packet, Shared, State};
use bytes::Bytes;
use synod_consensus::{Protocol, Role};
use synod_types::NodeId;

/// A cluster that is led, by a script, to the state where a search begins: a leader elected, logs
/// that differ. What is done here costs no budget, is checked like everything else, and opens the
/// trace of a violation that the search finds.
pub struct Setup<'a, P: Protocol> {
    pub(crate) cluster: &'a ClusterModel<P>,
    pub(crate) state: State<P>,
    pub(crate) trace: Vec<String>,
}

impl<P: Protocol> Setup<'_, P> {
    /// A timer of a node runs out.
    ///
    /// # Panics
    /// If it does not run: the script is wrong.
    pub fn timeout(&mut self, node: NodeId, timer: P::Timer) {
        assert!(self.state.node(node).timers.contains(&timer), "{node:?} runs no {timer:?}");
        self.act(&Action::Timeout { node, timer, is_slow: false });
    }

    /// A client proposes to a node.
    pub fn propose(&mut self, node: NodeId, command: &'static str) {
        let command = Bytes::from_static(command.as_bytes());
        self.act(&Action::Propose { node, command, is_slow: false });
    }

    /// A node crashes with all its writes done, and starts again on the state that it had started on.
    pub fn crash(&mut self, node: NodeId) {
        let it = self.state.node(node);
        let (of, applied) = (it.unsynced.len(), it.disk.applied);
        self.act(&Action::Crash { node, kept: of, of, applied });
    }

    /// A node trims its log up to what it has reported as chosen.
    ///
    /// # Panics
    /// If it has reported nothing since it trimmed last: the script is wrong.
    pub fn trim(&mut self, node: NodeId) {
        let it = self.state.node(node);
        let (held, reported) = (it.disk.base.through, it.applied());
        assert!(held < reported, "{node:?} has nothing to trim behind slot {held}");
        self.act(&Action::Trim { node });
    }

    /// Messages of which `goes` is true for sender, receiver and content arrive, those that they
    /// cause as well, until there are none.
    pub fn deliver(&mut self, goes: impl Fn(NodeId, NodeId, &P::Message) -> bool) {
        while self.state.violation.is_none() {
            let matching = |it: &&Shared<Packet<P>>| goes(it.from, it.to, &it.message);
            let next = self.state.network.iter().find(matching).cloned();
            let Some(packet) = next else { return };
            let action = Action::Deliver { packet: packet.clone(), stays: false, is_slow: false };
            self.act(&action);
            // It may have done nothing.
            self.state.network.remove(&packet);
        }
    }

    /// Loses all messages in flight.
    pub fn lose_all(&mut self) {
        self.state.network = Network::new();
        self.trace.push("all messages in flight are lost".into());
    }

    /// Returns the nodes that lead, by their own status.
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
