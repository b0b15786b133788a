//! Checks of leaders: one per ballot, with a complete log.

use super::chosen::Chosen;
use crate::violation::{Checked, ViolationKind, violation};
use std::collections::BTreeMap;
use synod_consensus::{Protocol, Role, Saved, Stamp, Status};
use synod_types::{Ballot, NodeId, Slot};

/// Checks that a ballot has at most one leader and, where logs are stamped with terms, that a
/// leader's log holds every slot chosen before its term (Raft §5.2, §5.4).
#[derive(Debug)]
pub(crate) struct Leaders {
    /// True if a round must have at most one leader. A term does not contain its node, so two
    /// leaders of one term would write indistinguishable slots.
    one_per_round: bool,
    by_ballot: BTreeMap<Ballot, NodeId>,
}

impl Leaders {
    pub(crate) fn of<P: Protocol>() -> Self {
        let one_per_round = !P::Stamp::NAMES_PROPOSER;
        Self { one_per_round, by_ballot: BTreeMap::new() }
    }

    /// Checks a node's status after an event. Returns whether the node has just become leader.
    pub(crate) fn observe(
        &mut self,
        node: NodeId,
        status: &Status,
    ) -> Result<bool, Box<crate::Violation>> {
        if status.role != Role::Leader {
            return Ok(false);
        }
        let mut ballot = status.ballot;
        if self.one_per_round {
            ballot.node = NodeId(0);
        }
        let leader = *self.by_ballot.entry(ballot).or_insert(NodeId(0));
        if leader == node {
            return Ok(false);
        }
        if leader == NodeId(0) {
            self.by_ballot.insert(ballot, node);
            return Ok(true);
        }
        let text = format!("{leader:?} and {node:?} both lead under {}", status.ballot);
        Err(violation(ViolationKind::TwoLeaders, [leader, node], text))
    }

    /// Checks the log of a new leader, including unsynced writes.
    pub(crate) fn check_complete<P: Protocol>(
        &self,
        node: NodeId,
        status: &Status,
        written: &Saved<P>,
        chosen: &Chosen,
    ) -> Checked {
        if !self.one_per_round {
            return Ok(());
        }
        for slot in written.base.through.next().0..=chosen.last().0 {
            let slot = Slot(slot);
            let Some(record) = chosen.at(slot) else { continue };
            if record.round < status.ballot.round && !record.is_held_by(slot, &written.log) {
                let text = format!(
                    "{node:?} leads term {} without slot {slot}, which {:?} reported as chosen in \
                     term {}",
                    status.ballot.round, record.by, record.round
                );
                return Err(violation(ViolationKind::LeaderIncomplete, [node, record.by], text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaders(one_per_round: bool) -> Leaders {
        Leaders { one_per_round, by_ballot: BTreeMap::new() }
    }

    fn leads(node: u64, round: u64) -> Status {
        Status {
            role: Role::Leader,
            ballot: Ballot { round, node: NodeId(node) },
            leader: Some(NodeId(node)),
            commit: Slot::ZERO,
            last: Slot::ZERO,
            base: Slot::ZERO,
            progress: Vec::new(),
        }
    }

    #[test]
    fn two_leaders_of_one_term_are_found() {
        let mut leaders = leaders(true);
        assert_eq!(leaders.observe(NodeId(1), &leads(1, 3)), Ok(true));
        assert_eq!(leaders.observe(NodeId(1), &leads(1, 3)), Ok(false), "already known as leader");
        assert_eq!(leaders.observe(NodeId(2), &leads(2, 4)), Ok(true));
        let found = leaders.observe(NodeId(2), &leads(2, 3)).unwrap_err();
        assert_eq!(found.kind, ViolationKind::TwoLeaders);
    }

    #[test]
    fn round_may_have_several_leaders_where_ballots_name_their_node() {
        let mut leaders = leaders(false);
        assert_eq!(leaders.observe(NodeId(1), &leads(1, 3)), Ok(true));
        assert_eq!(leaders.observe(NodeId(2), &leads(2, 3)), Ok(true));
    }
}
