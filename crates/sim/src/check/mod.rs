//! Checks of a run: most after every event, linearizability at the end. Each has its own file.

pub(crate) mod chosen;
pub(crate) mod claims;
pub(crate) mod digest;
pub(crate) mod history;
pub(crate) mod leaders;
pub(crate) mod logs;
mod node_set;
pub(crate) mod replies;
pub(crate) mod state;

use crate::check::digest::of_value;
use crate::violation::{Checked, Violation};
use chosen::{Chosen, NodeRound};
use history::ClientHistory;
use leaders::Leaders;
use logs::Logs;
use state::Oracle;
use synod_consensus::{Protocol, Quorum, RunLog, Write};
use synod_types::{NodeId, Slot, ValueRef};

/// State of all checkers.
pub(crate) struct Checks<P: Protocol> {
    pub(crate) leaders: Leaders,
    pub(crate) chosen: Chosen,
    pub(crate) logs: Logs<P>,
    pub(crate) oracle: Oracle,
    pub(crate) history: ClientHistory,
    /// True if replies are checked only at the end, by the history.
    pub(crate) history_only: bool,
}

impl<P: Protocol> Checks<P> {
    pub(crate) fn new(nodes: usize, quorum: Quorum) -> Self {
        Self {
            leaders: Leaders::of::<P>(),
            chosen: Chosen::new(quorum.clone()),
            logs: Logs::new(nodes, quorum),
            oracle: Oracle::new(),
            history: ClientHistory::default(),
            history_only: false,
        }
    }

    /// Checks a slot that a node reports as chosen. Returns whether it is the first report.
    pub(crate) fn report<'a>(
        &mut self,
        reporter: NodeRound,
        slot: Slot,
        value: &ValueRef<'_>,
        disks: impl Iterator<Item = (NodeId, &'a RunLog<P::Stamp>)>,
    ) -> Result<bool, Box<Violation>> {
        let is_first = self.chosen.report(reporter, slot, value, disks)?;
        if is_first {
            self.logs.check_report(reporter.node, slot, of_value(value))?;
        }
        Ok(is_first)
    }

    /// Checks writes of a node that became durable. The node also holds slots up to `floor` as a
    /// snapshot.
    pub(crate) fn synced<'a>(
        &mut self,
        node: NodeId,
        floor: Slot,
        writes: impl IntoIterator<Item = &'a Write<P>>,
    ) -> Checked {
        for write in writes {
            if let Write::Put(run) = write {
                self.logs.synced(node, run)?;
            }
            self.chosen.synced(node, write, floor);
        }
        self.chosen.check_kept(node)
    }

    /// Checks the log with which a node starts; more of it may have become durable than was
    /// reported.
    pub(crate) fn reload(&mut self, node: NodeId, log: &RunLog<P::Stamp>) -> Checked {
        self.logs.reload(node, log)?;
        self.chosen.reload(node, log);
        self.chosen.check_kept(node)
    }
}
