//! Links between nodes, and sets of them.

/// Link from one node to another. Nodes are numbered from 0 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Indices of links that were cut, or clogged, together.
#[derive(Clone, Debug)]
pub(crate) struct LinkSet(pub(super) Vec<usize>);

/// Returns every link from a node of one side to a node of the other.
pub(crate) fn links(from: &[usize], to: &[usize]) -> Vec<Link> {
    let pairs = from.iter().flat_map(|from| to.iter().map(|to| Link { from: *from, to: *to }));
    pairs.filter(|link| link.from != link.to).collect()
}
