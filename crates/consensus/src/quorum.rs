//! Quorums: the sets of voters that may decide.

use alloc::sync::Arc;
use alloc::vec::Vec;
use synod_types::{Membership, NodeId, Slot};

/// Quorum system: the sets of voters that suffice for phase 1 (promises, votes), and those that
/// suffice for phase 2 (acceptances).
///
/// Each set for phase 1 shares a voter with each set for phase 2, or a new leader could overlook a
/// decision. That is checked when a quorum system is built. A clone shares its voters.
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
    /// A set decides if it does in every group: one group, or two while members change.
    groups: Arc<[Group]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    voters: Vec<NodeId>,
    first: usize,
    second: usize,
}

/// Reason why two sizes make no quorum system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// The size is zero or exceeds the number of voters.
    #[error("a quorum of {size} among {voters} voters")]
    Size {
        /// The requested size.
        size: usize,
        /// Number of voters.
        voters: usize,
    },
    /// The two quorums need not intersect.
    #[error("{first} and {second} of {voters} voters need not share one: their sum must be larger")]
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
        if first + second <= voters.len() {
            return Err(QuorumError::NeedNotMeet { first, second, voters: voters.len() });
        }
        Ok(Self { groups: [Group { voters, first, second }].into() })
    }

    /// Returns the sets that decide in both systems, for both phases. They decide while members change
    /// from one system to the other (joint consensus, Raft §6).
    #[must_use]
    pub fn joint(self, other: Self) -> Self {
        Self { groups: self.groups.iter().chain(&*other.groups).cloned().collect() }
    }

    /// Returns the voters, each once.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.groups.iter().enumerate().flat_map(move |(index, group)| {
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

    /// Every set of the nodes 1 to 9, as bits.
    fn sets(size: u64) -> impl Iterator<Item = u64> + Clone {
        (0..1 << size).map(|bits: u64| bits << 1)
    }

    fn within(set: u64) -> impl Fn(NodeId) -> bool {
        move |node| set >> node.0 & 1 == 1
    }

    /// Checks the type against what it is for: two sets that pass different phases meet.
    fn always_meet(quorum: &Quorum, size: u64) -> bool {
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
            assert!(always_meet(&quorum, size));
        }
    }

    #[test]
    fn flexible_sizes_are_taken_exactly_when_all_their_sets_meet() {
        for size in 1..=9_u64 {
            for (first, second) in (0..=10).flat_map(|first| (0..=10).map(move |it| (first, it))) {
                let built = Quorum::flexible(&members(1, size), first, second);
                let sets_of =
                    |count: usize| sets(size).filter(move |set| set.count_ones() as usize == count);
                let possible =
                    (1..=size as usize).contains(&first) && (1..=size as usize).contains(&second);
                let meet = sets_of(first).all(|one| sets_of(second).all(|two| one & two != 0));
                assert_eq!(built.is_ok(), possible && meet, "{first} and {second} of {size}");
                let Ok(quorum) = built else { continue };
                for set in sets(size) {
                    let count = set.count_ones() as usize;
                    assert_eq!(quorum.is_first(within(set)), count >= first);
                    assert_eq!(quorum.is_second(within(set)), count >= second);
                }
            }
        }
    }

    /// Every way in which a group of `old` voters can turn into one of `new`, by how many stay:
    /// which voters matter not, because a quorum counts them. The two as bits, and how many nodes
    /// there are altogether.
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

    /// Checks a joint quorum of two groups with these sizes against counting bits, for every set of
    /// nodes there is. A superset of enough is enough; so if two sets that need to meet did not,
    /// one and its complement would not either, and no further pairs have to be tried.
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
            assert!(!first || !both.is_second(within(rest)), "{set:b} and {rest:b} do not meet");
        }
    }

    #[test]
    fn joint_needs_enough_of_both() {
        let majority = |size: u64| (size as usize / 2 + 1, size as usize / 2 + 1);
        for (old, new) in (1..=9).flat_map(|old| (1..=9).map(move |new| (old, new))) {
            for change in changes(old, new) {
                check_joint(change, [majority(old), majority(new)]);
            }
        }
    }

    #[test]
    fn joint_needs_enough_of_both_where_quorums_are_flexible() {
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
    fn a_joint_quorum_agrees_on_what_each_of_the_two_has_reached() {
        for (old, new) in (1..=9).flat_map(|old| (1..=9).map(move |new| (old, new))) {
            for (old, new, _) in changes(old, new) {
                let both = Quorum::majority(&voters(old)).joint(Quorum::majority(&voters(new)));
                for seed in 0..10_u64 {
                    let reached = |node: NodeId| Slot((node.0 * (seed + 3) * 7) % 11);
                    // What a majority has reached is the one in the middle, or below it.
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
    fn agreed_is_reached_by_enough_and_nothing_higher_is() {
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
