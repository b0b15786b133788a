//! Ordered map with cheap clones: a copy-on-write B+ tree.
//!
//! A clone shares all nodes, so that a view of a whole store costs one reference count. A change copies the
//! shared nodes on the path to its key, and modifies unshared nodes in place: a map without clones copies
//! nothing. Inner nodes have the number of keys of each child, so that the keys of an interval are counted on
//! two paths from the root, without a visit to each key.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;
use core::slice;

/// Maximum number of slots of a node. Larger nodes make changes of shared nodes more expensive, smaller
/// nodes make lookups more expensive.
const MAX: usize = 32;
/// Number of slots up to which a node is merged with a sibling, if both fit into one node.
const SMALL: usize = MAX / 4;

/// Ordered map from bytes to values. A clone shares the content and costs one reference count.
#[derive(Clone, Debug)]
pub struct SharedMap<V> {
    root: Arc<Node<V>>,
}

/// Node of the tree. All leaves have the same depth, and only the root may be empty.
#[derive(Clone, Debug)]
enum Node<V> {
    Leaf(Vec<(Bytes, V)>),
    Inner(Vec<Child<V>>),
}

#[derive(Clone, Debug)]
struct Child<V> {
    /// Lower bound of the child's keys, above all keys of the previous child.
    low: Bytes,
    /// Number of keys.
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

    /// Returns whether the map has no keys.
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

    /// Returns the mutable value of a key. Copies the shared nodes on the key's path even if the key does not
    /// exist, so callers use it for keys that are likely to exist.
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
        // Only a split of the root makes the tree deeper, so all leaves keep the same depth.
        if let Some(right) = split {
            let left = core::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            // The empty key is below every key: the first child has no lower bound.
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
        // A root with one child only adds depth.
        while let Node::Inner(children) = &*self.root {
            match &children[..] {
                [only] => self.root = Arc::clone(&only.node),
                _ => break,
            }
        }
        Some(value)
    }

    /// Returns the number of keys in an interval, in logarithmic time.
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
        // A reversed interval is empty.
        through.saturating_sub(below)
    }

    /// Returns the entries of an interval in ascending order of their keys.
    #[must_use]
    pub fn range(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> MapEntries<'_, V> {
        let mut entries =
            MapEntries { left: self.count(bounds), stack: Vec::new(), leaf: [].iter() };
        // An empty interval may have no first key to seek.
        if entries.left > 0 {
            entries.seek(&self.root, bounds.0);
        }
        entries
    }

    /// Returns all entries in ascending order of their keys.
    #[must_use]
    pub fn iter(&self) -> MapEntries<'_, V> {
        self.range((Bound::Unbounded, Bound::Unbounded))
    }

    /// Returns the number of keys below `key`, plus `key` itself if `inclusive`.
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

/// Inserts a value below a node. Returns the old value, and the right half of the node if it was split.
fn insert<V: Clone>(
    node: &mut Arc<Node<V>>,
    key: Bytes,
    value: V,
) -> (Option<V>, Option<Child<V>>) {
    // `make_mut` copies the node only if a clone shares it.
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
            // Only in the first child of a node, whose lower bound must fall with its lowest key.
            if key < children[at].low {
                children[at].low = key.clone();
            }
            let (old, right) = insert(&mut children[at].node, key, value);
            children[at].len += usize::from(old.is_none());
            if let Some(right) = right {
                // The keys of the right half were counted in the child that was split.
                children[at].len -= right.len;
                children.insert(at + 1, right);
            }
            (old, split(children).map(|(right, low)| child(Node::Inner(right), low)))
        }
    }
}

/// Removes an existing key below a node, and returns its value.
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
                // Only the root may be empty.
                0 => drop(children.remove(at)),
                slots if slots <= SMALL => merge(children, at),
                _ => {}
            }
            value
        }
    }
}

/// Merges a small child with a sibling if both fit into one node.
fn merge<V: Clone>(children: &mut Vec<Child<V>>, at: usize) {
    let slots = |at: usize| children.get(at).map(|child| child.node.slots());
    let fits = |left: usize| slots(left).zip(slots(left + 1)).is_some_and(|(a, b)| a + b <= MAX);
    let left = match at.checked_sub(1) {
        Some(left) if fits(left) => left,
        _ if fits(at) => at,
        _ => return,
    };
    // The lower bound of the left child holds for both.
    let right = children.remove(left + 1);
    let child = &mut children[left];
    child.len += right.len;
    // The right node is moved if it is not shared, and copied otherwise.
    match (Arc::make_mut(&mut child.node), Arc::unwrap_or_clone(right.node)) {
        (Node::Leaf(items), Node::Leaf(mut more)) => items.append(&mut more),
        (Node::Inner(items), Node::Inner(mut more)) => items.append(&mut more),
        _ => unreachable!("siblings have the same depth"),
    }
}

/// Slot of a node: an entry of a leaf, or a child of an inner node.
trait Slot {
    /// Returns the key or the lower bound of the slot.
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

/// Removes the upper half of the slots if there are too many. Returns it with its lowest key.
fn split<S: Slot>(slots: &mut Vec<S>) -> Option<(Vec<S>, Bytes)> {
    if slots.len() <= MAX {
        return None;
    }
    // Full capacity, so that the new node grows without reallocation.
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

/// Returns the index of a key's child: the last child whose lower bound is not above the key.
fn child_of<V>(children: &[Child<V>], key: &[u8]) -> usize {
    // A key below all bounds belongs to the first child.
    children.partition_point(|child| &child.low[..] <= key).saturating_sub(1)
}

/// Entries of an interval, in ascending order of their keys.
#[derive(Debug)]
pub struct MapEntries<'a, V> {
    /// Number of remaining entries.
    left: usize,
    /// Remaining children of each inner node on the path to the leaf, deepest node last.
    stack: Vec<slice::Iter<'a, Child<V>>>,
    leaf: slice::Iter<'a, (Bytes, V)>,
}

impl<'a, V> MapEntries<'a, V> {
    /// Moves to the first key within a lower bound.
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

    /// Moves to the next leaf. Returns `None` after the last one.
    fn next_leaf(&mut self) -> Option<()> {
        let child = loop {
            match self.stack.last_mut()?.next() {
                Some(child) => break child,
                None => drop(self.stack.pop()),
            }
        };
        // Down to the first leaf of that child.
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
        // The count ends the iteration, so that the upper bound is not compared with each key.
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

    /// Checks the invariants of the tree: node sizes, key order, bounds, counts and depth. Returns the depth.
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

    fn assert_equal(tree: &SharedMap<u32>, model: &Model) {
        check(&tree.root, b"", None, true);
        assert_eq!(tree.len(), model.len());
        assert!(tree.iter().eq(model.iter()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn tree_equals_a_std_ordered_map(
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
                assert_equal(tree, model);
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
    fn emptied_tree_is_a_single_leaf_and_its_clone_is_unchanged() {
        let mut tree = SharedMap::new();
        (0..5_000).for_each(|number| assert_eq!(tree.insert(key(number), 1), None));
        let view = tree.clone();
        (0..5_000).for_each(|number| assert_eq!(tree.remove(&key(number)), Some(1)));
        assert!(matches!(&*tree.root, Node::Leaf(items) if items.is_empty()));
        assert_eq!(view.len(), 5_000);
        assert_equal(&view, &(0..5_000).map(|number| (key(number), 1)).collect());
    }
}
