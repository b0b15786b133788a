//! The properties that hold after every event, one file each.

pub(crate) mod answers;
pub(crate) mod chosen;
pub(crate) mod claims;
pub(crate) mod leaders;
pub(crate) mod logs;
pub(crate) mod state;

use chosen::Chosen;
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
}

impl<P: Protocol> Checks<P> {
    pub(crate) fn new(nodes: usize, quorum: Quorum) -> Self {
        Self {
            leaders: Leaders::of::<P>(),
            chosen: Chosen::new(quorum),
            logs: Logs::new(nodes),
            oracle: Oracle::new(),
        }
    }
}
