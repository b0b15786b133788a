//! The properties that hold after every event, and the one that is judged at the end: a file each.

pub(crate) mod answers;
pub(crate) mod chosen;
pub(crate) mod claims;
pub(crate) mod history;
pub(crate) mod leaders;
pub(crate) mod logs;
pub(crate) mod state;

use chosen::Chosen;
use history::Seen;
use leaders::Leaders;
use logs::Logs;
use state::Oracle;
use synod_consensus::{Protocol, Quorum};

/// Everything that the checkers remember.
pub(crate) struct Checks<P: Protocol> {
    pub(crate) leaders: Leaders,
    pub(crate) chosen: Chosen,
    pub(crate) logs: Logs<P>,
    pub(crate) oracle: Oracle,
    pub(crate) seen: Seen,
    /// Whether answers are left to what is judged at the end.
    pub(crate) history_only: bool,
}

impl<P: Protocol> Checks<P> {
    pub(crate) fn new(nodes: usize, quorum: Quorum) -> Self {
        Self {
            leaders: Leaders::of::<P>(),
            chosen: Chosen::new(quorum),
            logs: Logs::new(nodes),
            oracle: Oracle::new(),
            seen: Seen::default(),
            history_only: false,
        }
    }
}
