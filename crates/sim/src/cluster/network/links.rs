//! Sets of links between nodes.

/// Links that were cut, or clogged, together, by their index.
#[derive(Clone, Debug)]
pub(crate) struct LinkSet(pub(super) Vec<usize>);

/// Every link from a node of one side to one of the other.
pub(crate) fn links(from: &[usize], to: &[usize]) -> Vec<(usize, usize)> {
    let pairs = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).collect()
}
