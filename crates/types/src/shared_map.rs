//! An ordered map whose copies are cheap: a B+ tree of shared nodes.
//!
//! A clone shares every node, so that a view of the whole store costs one reference count. A change
//! copies the shared nodes on its path, and changes the others in place: a store without views copies
//! nothing. Each inner node has the number of keys below each child, so that the keys of an interval
//! are counted on two paths, without visiting them.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;
use core::slice;

/// The maximum number of slots of a node. Larger nodes make changes under a view more expensive, smaller
/// ones lookups.
const MAX: usize = 32;
/// A node with at most this many slots is merged with a neighbour if both fit into one.
const SMALL: usize = MAX / 4;

/// An ordered map from bytes to values whose copies are cheap: a clone shares the content, and costs one
/// reference count.
#[derive(Clone, Debug)]
pub struct SharedMap<V> {
    root: Arc<Node<V>>,
}

/// All leaves are equally deep. No node but the root is empty.
#[derive(Clone, Debug)]
enum Node<V> {
    Leaf(Vec<(Bytes, V)>),
    Inner(Vec<Child<V>>),
}

#[derive(Clone, Debug)]
struct Child<V> {
    /// At or below each key of this child, and above each key of the child before.
    low: Bytes,
    /// The number of keys.
    len: usize,
    node: Arc<Node<V>>,
}

impl<V: Clone> SharedMap<V> {
    /// Creates an empty map.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())) }
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.root.len()
    }

    /// Returns whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.slots() == 0
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => return find(items, key).ok().map(|at| &items[at].1),
                Node::Inner(children) => node = &children[child_of(children, key)].node,
            }
        }
    }

    /// Returns the value of a key, to change it. Only for a key that is likely to exist: shared nodes on
    /// its path are copied.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let mut node = &mut self.root;
        loop {
            match Arc::make_mut(node) {
                Node::Leaf(items) => {
                    return find(items, key).ok().map(|at| &mut items[at].1);
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    node = &mut children[at].node;
                }
            }
        }
    }

    /// Inserts a value and returns the previous one.
    pub fn insert(&mut self, key: Bytes, value: V) -> Option<V> {
        let (old, split) = insert(&mut self.root, key, value);
        if let Some(right) = split {
            let left = core::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            // Below every key: the leftmost child takes whatever is below its neighbours.
            let left = Child { low: Bytes::new(), len: left.len(), node: left };
            self.root = Arc::new(Node::Inner(vec![left, right]));
        }
        old
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        // A missing key must not copy the nodes on its path.
        self.get(key)?;
        let value = remove(&mut self.root, key);
        while let Node::Inner(children) = &*self.root {
            match &children[..] {
                [only] => self.root = Arc::clone(&only.node),
                _ => break,
            }
        }
        Some(value)
    }

    /// Returns the number of keys in an interval, without a visit to each.
    #[must_use]
    pub fn count(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> usize {
        let (start, end) = bounds;
        let below = match start {
            Bound::Unbounded => 0,
            Bound::Included(key) => self.rank(key, false),
            Bound::Excluded(key) => self.rank(key, true),
        };
        let through = match end {
            Bound::Unbounded => self.len(),
            Bound::Included(key) => self.rank(key, true),
            Bound::Excluded(key) => self.rank(key, false),
        };
        through.saturating_sub(below)
    }

    /// Returns the entries of an interval, in the order of their keys.
    #[must_use]
    pub fn range(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> MapEntries<'_, V> {
        let mut entries =
            MapEntries { left: self.count(bounds), stack: Vec::new(), leaf: [].iter() };
        if entries.left > 0 {
            entries.seek(&self.root, bounds.0);
        }
        entries
    }

    /// Returns all entries, in the order of their keys.
    #[must_use]
    pub fn iter(&self) -> MapEntries<'_, V> {
        self.range((Bound::Unbounded, Bound::Unbounded))
    }

    /// The number of keys below `key`, which counts itself if `inclusive`.
    fn rank(&self, key: &[u8], inclusive: bool) -> usize {
        let mut node = &*self.root;
        let mut below = 0;
        loop {
            match node {
                Node::Leaf(items) => {
                    return below
                        + match find(items, key) {
                            Ok(at) => at + usize::from(inclusive),
                            Err(at) => at,
                        };
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    below += children[..at].iter().map(|child| child.len).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }
}

impl<V> Node<V> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(children) => children.iter().map(|child| child.len).sum(),
        }
    }

    fn slots(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(children) => children.len(),
        }
    }
}

/// Inserts below a node; returns the old value, and the right half of a node that became too
/// large.
fn insert<V: Clone>(
    node: &mut Arc<Node<V>>,
    key: Bytes,
    value: V,
) -> (Option<V>, Option<Child<V>>) {
    match Arc::make_mut(node) {
        Node::Leaf(items) => match find(items, &key) {
            Ok(at) => (Some(core::mem::replace(&mut items[at].1, value)), None),
            Err(at) => {
                items.insert(at, (key, value));
                (None, split(items).map(|(right, low)| child(Node::Leaf(right), low)))
            }
        },
        Node::Inner(children) => {
            let at = child_of(children, &key);
            if key < children[at].low {
                children[at].low = key.clone();
            }
            let (old, right) = insert(&mut children[at].node, key, value);
            children[at].len += usize::from(old.is_none());
            if let Some(right) = right {
                children[at].len -= right.len;
                children.insert(at + 1, right);
            }
            (old, split(children).map(|(right, low)| child(Node::Inner(right), low)))
        }
    }
}

/// Removes a key that is there.
fn remove<V: Clone>(node: &mut Arc<Node<V>>, key: &[u8]) -> V {
    match Arc::make_mut(node) {
        Node::Leaf(items) => {
            let at = find(items, key).expect("the key was looked up before");
            items.remove(at).1
        }
        Node::Inner(children) => {
            let at = child_of(children, key);
            let value = remove(&mut children[at].node, key);
            children[at].len -= 1;
            match children[at].node.slots() {
                0 => drop(children.remove(at)),
                slots if slots <= SMALL => merge(children, at),
                _ => {}
            }
            value
        }
    }
}

/// Merges a small child with a neighbour if both fit into one node.
fn merge<V: Clone>(children: &mut Vec<Child<V>>, at: usize) {
    let slots = |at: usize| children.get(at).map(|child| child.node.slots());
    let fits = |left: usize| slots(left).zip(slots(left + 1)).is_some_and(|(a, b)| a + b <= MAX);
    let left = match at.checked_sub(1) {
        Some(left) if fits(left) => left,
        _ if fits(at) => at,
        _ => return,
    };
    let right = children.remove(left + 1);
    let child = &mut children[left];
    child.len += right.len;
    match (Arc::make_mut(&mut child.node), Arc::unwrap_or_clone(right.node)) {
        (Node::Leaf(items), Node::Leaf(mut more)) => items.append(&mut more),
        (Node::Inner(items), Node::Inner(mut more)) => items.append(&mut more),
        _ => unreachable!("siblings are equally deep"),
    }
}

/// Something with a key in a node.
trait Slot {
    fn low(&self) -> &Bytes;
}

impl<V> Slot for (Bytes, V) {
    fn low(&self) -> &Bytes {
        &self.0
    }
}

impl<V> Slot for Child<V> {
    fn low(&self) -> &Bytes {
        &self.low
    }
}

/// Cuts the upper half off slots that are too many; the half's lowest key comes with it.
fn split<S: Slot>(slots: &mut Vec<S>) -> Option<(Vec<S>, Bytes)> {
    if slots.len() <= MAX {
        return None;
    }
    // Capacity for the growth of both halves.
    let mut right = Vec::with_capacity(MAX + 1);
    right.extend(slots.drain(MAX / 2..));
    let low = right[0].low().clone();
    Some((right, low))
}

fn child<V>(node: Node<V>, low: Bytes) -> Child<V> {
    Child { low, len: node.len(), node: Arc::new(node) }
}

fn find<V>(items: &[(Bytes, V)], key: &[u8]) -> Result<usize, usize> {
    items.binary_search_by(|(item, _)| item[..].cmp(key))
}

/// The child that a key belongs to: the last one that begins at or below it.
fn child_of<V>(children: &[Child<V>], key: &[u8]) -> usize {
    children.partition_point(|child| &child.low[..] <= key).saturating_sub(1)
}

/// Entries of an interval, in the order of their keys.
#[derive(Debug)]
pub struct MapEntries<'a, V> {
    /// How many are still to come.
    left: usize,
    /// The children after the path to the leaf, deepest last.
    stack: Vec<slice::Iter<'a, Child<V>>>,
    leaf: slice::Iter<'a, (Bytes, V)>,
}

impl<'a, V> MapEntries<'a, V> {
    /// Goes to the first key at or after a bound.
    fn seek(&mut self, mut node: &'a Node<V>, start: Bound<&[u8]>) {
        loop {
            let key = match start {
                Bound::Unbounded => &[],
                Bound::Included(key) | Bound::Excluded(key) => key,
            };
            match node {
                Node::Leaf(items) => {
                    let at = match (find(items, key), start) {
                        (Ok(at), Bound::Excluded(_)) => at + 1,
                        (Ok(at) | Err(at), _) => at,
                    };
                    self.leaf = items[at..].iter();
                    return;
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    self.stack.push(children[at + 1..].iter());
                    node = &children[at].node;
                }
            }
        }
    }

    /// Goes to the next leaf.
    fn next_leaf(&mut self) -> Option<()> {
        let child = loop {
            match self.stack.last_mut()?.next() {
                Some(child) => break child,
                None => drop(self.stack.pop()),
            }
        };
        let mut node = &*child.node;
        loop {
            match node {
                Node::Leaf(items) => {
                    self.leaf = items.iter();
                    return Some(());
                }
                Node::Inner(children) => {
                    let mut children = children.iter();
                    node = &children.next()?.node;
                    self.stack.push(children);
                }
            }
        }
    }
}

impl<'a, V> Iterator for MapEntries<'a, V> {
    type Item = (&'a Bytes, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            self.next_leaf()?;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<V: Clone + PartialEq> PartialEq for SharedMap<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<V: Clone> Default for SharedMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, V: Clone> IntoIterator for &'a SharedMap<V> {
    type Item = (&'a Bytes, &'a V);
    type IntoIter = MapEntries<'a, V>;

    fn into_iter(self) -> MapEntries<'a, V> {
        self.iter()
    }
}

impl<V: Clone + Eq> Eq for SharedMap<V> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<Bytes, u32>;

    /// Checks what the tree's own types do not say.
    fn check(node: &Node<u32>, low: &[u8], high: Option<&[u8]>, root: bool) -> usize {
        let within = |key: &[u8]| key >= low && high.is_none_or(|high| key < high);
        assert!(node.slots() <= MAX && (root || node.slots() > 0), "{} slots", node.slots());
        match node {
            Node::Leaf(items) => {
                assert!(items.is_sorted_by(|a, b| a.0 < b.0) && items.iter().all(|i| within(&i.0)));
                1
            }
            Node::Inner(children) => {
                assert!(children[1..].iter().all(|child| within(&child.low)));
                let depths = children.iter().enumerate().map(|(at, child)| {
                    assert_eq!(child.len, child.node.len());
                    let low = if at == 0 { low } else { &child.low[..] };
                    let next = children.get(at + 1).map(|next| &next.low[..]);
                    check(&child.node, low, next.or(high), false)
                });
                let depths: Vec<_> = depths.collect();
                assert!(depths.iter().all(|depth| *depth == depths[0]), "{depths:?}");
                depths[0] + 1
            }
        }
    }

    fn key(number: u16) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn bound(kind: u8, key: &Bytes) -> Bound<&[u8]> {
        match kind % 3 {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            _ => Bound::Excluded(key),
        }
    }

    fn same(tree: &SharedMap<u32>, model: &Model) {
        check(&tree.root, b"", None, true);
        assert_eq!(tree.len(), model.len());
        assert!(tree.iter().eq(model.iter()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn tree_agrees_with_an_ordered_map(
            ops in prop::collection::vec((0_u8..10, 0_u16..700), 0..3000),
            probes in prop::collection::vec((any::<u8>(), 0_u16..720, any::<u8>(), 0_u16..720), 20),
            mostly_removes in any::<bool>(),
        ) {
            let (mut tree, mut model) = (SharedMap::new(), Model::new());
            let removes = if mostly_removes { 6 } else { 3 };
            for number in (0..700).filter(|_| mostly_removes) {
                tree.insert(key(number), 7);
                model.insert(key(number), 7);
            }
            let mut views = Vec::new();
            for (value, (op, number)) in (0_u32..).zip(ops) {
                let key = key(number);
                if op < removes {
                    prop_assert_eq!(tree.remove(&key), model.remove(&key));
                } else if op == removes {
                    prop_assert_eq!(tree.get_mut(&key), model.get_mut(&key));
                    tree.get_mut(&key).into_iter().for_each(|held| *held = value);
                    model.get_mut(&key).into_iter().for_each(|held| *held = value);
                } else {
                    prop_assert_eq!(tree.insert(key.clone(), value), model.insert(key, value));
                }
                if value % 500 == 0 {
                    views.push((tree.clone(), model.clone()));
                }
            }
            views.push((tree, model));
            for (tree, model) in &views {
                same(tree, model);
            }
            let (tree, model) = &views[views.len() - 1];
            for (from_kind, from, to_kind, to) in probes {
                let (from, to) = (key(from), key(to.max(from) + 1));
                let bounds = (bound(from_kind, &from), bound(to_kind, &to));
                let expected: Vec<_> = model.range::<[u8], _>(bounds).collect();
                prop_assert_eq!(tree.range(bounds).collect::<Vec<_>>(), expected.clone());
                prop_assert_eq!(tree.count(bounds), expected.len());
                prop_assert_eq!(tree.get(&from), model.get(&from));
            }
        }
    }

    #[test]
    fn emptied_tree_is_a_single_leaf() {
        let mut tree = SharedMap::new();
        (0..5_000).for_each(|number| assert_eq!(tree.insert(key(number), 1), None));
        let view = tree.clone();
        (0..5_000).for_each(|number| assert_eq!(tree.remove(&key(number)), Some(1)));
        assert!(matches!(&*tree.root, Node::Leaf(items) if items.is_empty()));
        assert_eq!(view.len(), 5_000);
        same(&view, &(0..5_000).map(|number| (key(number), 1)).collect());
    }
}
