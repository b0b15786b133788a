//! Quorums: the sets of voters that may decide.

use alloc::sync::Arc;
use alloc::vec::Vec;
use synod_types::{Membership, NodeId, Slot};

/// Quorum system: the sets of voters that suffice for phase 1 (promises, votes), and those that
/// suffice for phase 2 (acceptances).
///
/// Each set for phase 1 shares a voter with each set for phase 2. Otherwise a new leader could miss a
/// chosen value. This is checked when a quorum system is built. A clone shares its voters.
///
/// ```
/// use synod_consensus::Quorum;
/// use synod_types::{Membership, NodeId};
///
/// let five = Membership::new((1..=5).map(NodeId), [])?;
/// let quorum = Quorum::flexible(&five, 4, 2)?; // Two disks a command; four for a new leader.
/// assert!(quorum.is_second(|node| node.0 <= 2));
/// assert!(!quorum.is_first(|node| node.0 <= 3));
/// assert!(Quorum::flexible(&five, 3, 2).is_err(), "three and two of five need not meet");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    /// A set is a quorum if it is one in every group: one group, or two while members change.
    groups: Arc<[Group]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    voters: Vec<NodeId>,
    first: usize,
    second: usize,
}

/// Reason why two sizes are no quorum system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// The size is zero or exceeds the number of voters.
    #[error("a quorum of {size} is impossible among {voters} voters")]
    Size {
        /// The requested size.
        size: usize,
        /// Number of voters.
        voters: usize,
    },
    /// The two quorums need not intersect.
    #[error(
        "quorums of {first} and {second} may be disjoint: their sum must exceed {voters} voters"
    )]
    NeedNotMeet {
        /// Size for phase 1.
        first: usize,
        /// Size for phase 2.
        second: usize,
        /// Number of voters.
        voters: usize,
    },
}

impl Quorum {
    /// Returns the majorities of the voters, for both phases.
    #[must_use]
    pub fn majority(members: &Membership) -> Self {
        // Any two majorities intersect, so the two phases need no different sizes.
        let size = members.majority();
        let voters = members.voters().to_vec();
        Self { groups: [Group { voters, first: size, second: size }].into() }
    }

    /// Returns the sets of `first` voters for phase 1 and of `second` voters for phase 2 (Howard, Malkhi
    /// and Spiegelman, "Flexible Paxos").
    ///
    /// # Errors
    /// If a size is zero or larger than the number of voters, or `first + second` is not larger.
    pub fn flexible(
        members: &Membership,
        first: usize,
        second: usize,
    ) -> Result<Self, QuorumError> {
        let voters = members.voters().to_vec();
        for size in [first, second] {
            if size == 0 || size > voters.len() {
                return Err(QuorumError::Size { size, voters: voters.len() });
            }
        }
        // With a sum above the number of voters, any two such sets share one. Sets of the same phase
        // need not intersect (Flexible Paxos, §3).
        if first + second <= voters.len() {
            return Err(QuorumError::NeedNotMeet { first, second, voters: voters.len() });
        }
        Ok(Self { groups: [Group { voters, first, second }].into() })
    }

    /// Returns the sets that are quorums in both systems, for both phases: the quorum system while
    /// members change from one to the other (joint consensus, Raft §6).
    #[must_use]
    pub fn joint(self, other: Self) -> Self {
        // No check: such a set contains a quorum of each system, so it intersects as they do.
        Self { groups: self.groups.iter().chain(&*other.groups).cloned().collect() }
    }

    /// Returns the voters, each once.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.groups.iter().enumerate().flat_map(move |(index, group)| {
            // Nodes that stay members are voters in both groups of a joint quorum.
            let is_new = move |node: &NodeId| {
                !self.groups[..index].iter().any(|earlier| earlier.voters.contains(node))
            };
            group.voters.iter().copied().filter(is_new)
        })
    }

    /// Returns whether a node is a voter.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.groups.iter().any(|group| group.voters.contains(&node))
    }

    /// Returns whether the nodes that satisfy `has` are a quorum for phase 1.
    #[must_use]
    pub fn is_first(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.groups.iter().all(|group| group.count(&has) >= group.first)
    }

    /// Returns whether the nodes that satisfy `has` are a quorum for phase 2.
    #[must_use]
    pub fn is_second(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.groups.iter().all(|group| group.count(&has) >= group.second)
    }

    /// Returns the highest slot that a quorum for phase 2 has reached. Calls `reached` several times for
    /// each voter, and allocates nothing.
    #[must_use]
    pub fn agreed(&self, reached: impl Fn(NodeId) -> Slot) -> Slot {
        // The result is a slot that some voter has reached, so only these are tried. A sorted list would
        // not do: joint quorums count in two groups.
        let enough = |slot: &Slot| self.is_second(|node| reached(node) >= *slot);
        self.voters().map(&reached).filter(enough).max().unwrap_or(Slot::ZERO)
    }
}

/// Returns the majorities of the voters.
impl From<Membership> for Quorum {
    fn from(members: Membership) -> Self {
        Self::majority(&members)
    }
}

impl Group {
    fn count(&self, has: &impl Fn(NodeId) -> bool) -> usize {
        self.voters.iter().filter(|node| has(**node)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(from: u64, to: u64) -> Membership {
        Membership::new((from..=to).map(NodeId), []).unwrap()
    }

    /// Returns every set of the nodes 1 to `size`, as bits.
    fn sets(size: u64) -> impl Iterator<Item = u64> + Clone {
        (0..1 << size).map(|bits: u64| bits << 1)
    }

    fn within(set: u64) -> impl Fn(NodeId) -> bool {
        move |node| set >> node.0 & 1 == 1
    }

    /// Returns whether each quorum for phase 1 intersects each quorum for phase 2.
    fn phases_intersect(quorum: &Quorum, size: u64) -> bool {
        let second: Vec<u64> = sets(size).filter(|set| quorum.is_second(within(*set))).collect();
        sets(size)
            .filter(|set| quorum.is_first(within(*set)))
            .all(|first| second.iter().all(|second| first & second != 0))
    }

    #[test]
    fn majorities_are_the_sets_of_more_than_half() {
        for size in 1..=9 {
            let quorum = Quorum::majority(&members(1, size));
            for set in sets(size) {
                let expected = u64::from(set.count_ones()) * 2 > size;
                assert_eq!(quorum.is_first(within(set)), expected, "{set:b} of {size}");
                assert_eq!(quorum.is_second(within(set)), expected, "{set:b} of {size}");
            }
            assert!(phases_intersect(&quorum, size));
        }
    }

    #[test]
    fn flexible_sizes_are_accepted_exactly_if_all_their_sets_intersect() {
        for size in 1..=9_u64 {
            for (first, second) in (0..=10).flat_map(|first| (0..=10).map(move |it| (first, it))) {
                let built = Quorum::flexible(&members(1, size), first, second);
                let sets_of =
                    |count: usize| sets(size).filter(move |set| set.count_ones() as usize == count);
                let possible =
                    (1..=size as usize).contains(&first) && (1..=size as usize).contains(&second);
                let intersect = sets_of(first).all(|one| sets_of(second).all(|two| one & two != 0));
                assert_eq!(built.is_ok(), possible && intersect, "{first} and {second} of {size}");
                let Ok(quorum) = built else { continue };
                for set in sets(size) {
                    let count = set.count_ones() as usize;
                    assert_eq!(quorum.is_first(within(set)), count >= first);
                    assert_eq!(quorum.is_second(within(set)), count >= second);
                }
            }
        }
    }

    /// Returns every change from `old` voters to `new` ones, by the number of voters that stay: old
    /// voters and new voters as bits, and the number of nodes. A quorum counts voters, so it does not
    /// matter which ones stay.
    fn changes(old: u64, new: u64) -> impl Iterator<Item = (u64, u64, u64)> {
        (0..=old.min(new)).map(move |stay| {
            let nodes = old + new - stay;
            let bits = |from: u64, to: u64| (from..=to).map(|node| 1 << node).sum();
            (bits(1, old), bits(nodes - new + 1, nodes), nodes)
        })
    }

    fn voters(set: u64) -> Membership {
        Membership::new((1..64).filter(|node| set >> node & 1 == 1).map(NodeId), []).unwrap()
    }

    /// Checks a joint quorum of two groups with these sizes against a count of bits, for every set of
    /// nodes. Supersets of quorums are quorums: if two quorums were disjoint, one of them and its
    /// complement would be, too. So no other pairs have to be tried.
    fn check_joint((old, new, nodes): (u64, u64, u64), sizes: [(usize, usize); 2]) {
        let group = |set, (first, second)| Quorum::flexible(&voters(set), first, second).unwrap();
        let both = group(old, sizes[0]).joint(group(new, sizes[1]));
        let [(old_first, old_second), (new_first, new_second)] = sizes;
        let enough = |set: u64, of_old: usize, of_new: usize| {
            (set & old).count_ones() as usize >= of_old
                && (set & new).count_ones() as usize >= of_new
        };
        assert_eq!(both.voters().count() as u64, nodes);
        assert!((1..=nodes + 1).all(|node| both.is_voter(NodeId(node)) == (node <= nodes)));
        for set in sets(nodes) {
            let first = both.is_first(within(set));
            assert_eq!(first, enough(set, old_first, new_first), "{set:b}: {old:b} to {new:b}");
            let second = both.is_second(within(set));
            assert_eq!(second, enough(set, old_second, new_second), "{set:b}: {old:b} to {new:b}");
            let rest = !set & ((1 << (nodes + 1)) - 2);
            assert!(!first || !both.is_second(within(rest)), "{set:b} and {rest:b} are disjoint");
        }
    }

    #[test]
    fn joint_quorum_is_a_majority_of_both_groups() {
        let majority = |size: u64| (size as usize / 2 + 1, size as usize / 2 + 1);
        for (old, new) in (1..=9).flat_map(|old| (1..=9).map(move |new| (old, new))) {
            for change in changes(old, new) {
                check_joint(change, [majority(old), majority(new)]);
            }
        }
    }

    #[test]
    fn joint_quorum_of_flexible_groups_is_a_quorum_of_both() {
        let sizes = |size: u64| {
            let size = size as usize;
            (1..=size).flat_map(move |one| (size + 1 - one..=size).map(move |two| (one, two)))
        };
        for (old, new) in (1..=4).flat_map(|old| (1..=4).map(move |new| (old, new))) {
            for change in changes(old, new) {
                for one in sizes(old) {
                    sizes(new).for_each(|two| check_joint(change, [one, two]));
                }
            }
        }
    }

    #[test]
    fn joint_quorum_agrees_on_the_lower_of_the_slots_that_its_groups_agree_on() {
        for (old, new) in (1..=9).flat_map(|old| (1..=9).map(move |new| (old, new))) {
            for (old, new, _) in changes(old, new) {
                let both = Quorum::majority(&voters(old)).joint(Quorum::majority(&voters(new)));
                for seed in 0..10_u64 {
                    let reached = |node: NodeId| Slot((node.0 * (seed + 3) * 7) % 11);
                    // A majority has reached the median, rounded down.
                    let middle = |set| {
                        let voters = voters(set);
                        let mut all: Vec<_> =
                            voters.voters().iter().map(|it| reached(*it)).collect();
                        all.sort_unstable();
                        all[(all.len() - 1) / 2]
                    };
                    assert_eq!(both.agreed(reached), middle(old).min(middle(new)));
                }
            }
        }
    }

    #[test]
    fn agreed_slot_is_the_highest_that_a_quorum_has_reached() {
        for size in 1..=9_u64 {
            for second in 1..=size as usize {
                let first = size as usize + 1 - second;
                let quorum = Quorum::flexible(&members(1, size), first, second).unwrap();
                for seed in 0..50_u64 {
                    let reached = |node: NodeId| Slot((node.0 * (seed + 3) * 7) % 11);
                    let agreed = quorum.agreed(reached);
                    assert!(quorum.is_second(|node| reached(node) >= agreed));
                    assert!(!quorum.is_second(|node| reached(node) > agreed));
                }
            }
        }
    }
}
