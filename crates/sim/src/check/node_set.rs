//! A set of nodes.

use synod_types::NodeId;

/// Set of nodes of a simulation, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeSet(u64);

impl NodeSet {
    pub(crate) fn set(&mut self, node: NodeId, is_in: bool) {
        let bit = 1 << (node.0 % 64);
        self.0 = if is_in { self.0 | bit } else { self.0 & !bit };
    }

    pub(crate) fn has(self, node: NodeId) -> bool {
        self.0 >> (node.0 % 64) & 1 == 1
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = NodeId> {
        (0..64).map(NodeId).filter(move |node| self.has(*node))
    }
}
