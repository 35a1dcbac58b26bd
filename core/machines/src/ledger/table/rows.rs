//! The rows of a table in the order of their keys: a B+ tree whose nodes are shared until written.
//!
//! ```text
//!   Branch [least, rows, node]  …  at most 32          each child: a key that no key in it is
//!      │                                               below, how many rows it has, and itself
//!      ▼
//!   Leaf   [key, value]         …  at most 32          all leaves are equally deep
//! ```
//!
//! A node is written in place while one tree alone has it, and copied first if a clone has it too
//! (path copying); a value stands behind an owner of its own, so a copied leaf copies no values.
//! What row number `n` is, and which number a key has, is found by the counts in the branches.
//!
//! The shape depends on the history, and nothing that is seen outside depends on the shape.
//!
//! The way to the row that was changed last is kept: one decision asks for the same few rows again
//! and again. It is only tried; a row is the right one if its key is.
//!
//! # Source
//!
//! Path copying is of Driscoll, Sarnak, Sleator and Tarjan, *Making data structures persistent*,
//! 1989.

use std::mem;
use std::sync::Arc;

/// How many rows a leaf, and how many children a branch may have.
const NODE_MAX: usize = 32;
/// A node with less is joined with its neighbour.
const NODE_MIN: usize = 8;
/// Room is made for so many more at a time: slack is memory that nobody uses.
const GROWTH: usize = 4;

const _: () = assert!(NODE_MIN * 2 <= NODE_MAX);

/// Which child to take at each level, and which row of the leaf at last.
type Way = [u8; DEPTH_MAX];
/// So many levels of nodes with [`NODE_MIN`] or more have more than 2³² rows.
const DEPTH_MAX: usize = 12;

/// An ordered map whose clones share what they have in common.
#[derive(Clone, Debug)]
pub(super) struct Rows<K, V> {
    count: u32,
    /// To the row that was changed last, unless it was moved since.
    recent: Way,
    root: Arc<Node<K, V>>,
}

#[derive(Clone, Debug)]
enum Node<K, V> {
    Leaf(Vec<Row<K, V>>),
    Branch(Vec<Child<K, V>>),
}

#[derive(Clone, Debug)]
struct Row<K, V> {
    key: K,
    value: Arc<V>,
}

#[derive(Clone, Debug)]
struct Child<K, V> {
    /// No key in `node` is less, and every key in the child before it is.
    least: K,
    rows: u32,
    node: Arc<Node<K, V>>,
}

impl<K: Ord + Clone, V: Clone> Rows<K, V> {
    pub(super) fn new() -> Self {
        Self { count: 0, recent: Way::default(), root: Arc::new(Node::Leaf(Vec::new())) }
    }

    pub(super) const fn len(&self) -> u32 {
        self.count
    }

    /// Whether both are one and the same tree, so that nothing need be compared.
    pub(super) fn shares_all_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.root, &other.root)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        if let Some(row) = self.recent().filter(|row| row.key == *key) {
            return Some(&row.value);
        }
        let mut node = &*self.root;
        loop {
            match node {
                Node::Branch(children) => node = &children[child_of(children, key)].node,
                Node::Leaf(rows) => return Some(&rows[find(rows, key).ok()?].value),
            }
        }
    }

    /// Returns the row at the end of the way that is kept, whichever it is.
    fn recent(&self) -> Option<&Row<K, V>> {
        let mut node = &*self.root;
        for at in self.recent {
            match node {
                Node::Branch(children) => node = &children.get(usize::from(at))?.node,
                Node::Leaf(rows) => return rows.get(usize::from(at)),
            }
        }
        None
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if self.recent().is_none_or(|row| row.key != *key) {
            self.recent = self.way(key)?;
        }
        let mut node = &mut self.root;
        for at in self.recent {
            match Arc::make_mut(node) {
                Node::Branch(children) => node = &mut children[usize::from(at)].node,
                Node::Leaf(rows) => return Some(Arc::make_mut(&mut rows[usize::from(at)].value)),
            }
        }
        None
    }

    /// Finds the way to a row, if there is one.
    fn way(&self, key: &K) -> Option<Way> {
        let (mut way, mut node) = (Way::default(), &*self.root);
        for step in &mut way {
            let at = match node {
                Node::Branch(children) => child_of(children, key),
                Node::Leaf(rows) => find(rows, key).ok()?,
            };
            *step = u8::try_from(at).expect("a node has 32 at most");
            match node {
                Node::Branch(children) => node = &children[at].node,
                Node::Leaf(_) => return Some(way),
            }
        }
        unreachable!("a table is bounded far below so deep a tree")
    }

    pub(super) fn insert(&mut self, key: K, value: Arc<V>) -> Option<Arc<V>> {
        let (old, right) = put(&mut self.root, key, value);
        if let Some(right) = right {
            let nothing = Arc::new(Node::Branch(Vec::new()));
            let left = Child::of(mem::replace(&mut self.root, nothing));
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
        if old.is_none() {
            self.count = self.count.checked_add(1).expect("a table is bounded far below 2^32");
        }
        old
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        self.get(key)?; // What is not there must not copy a path.
        let old = take(&mut self.root, key)?;
        self.count -= 1;
        while let Node::Branch(children) = &*self.root
            && children.len() <= 1
        {
            let only = children.first().map(|child| Arc::clone(&child.node));
            self.root = only.unwrap_or_else(|| Arc::new(Node::Leaf(Vec::new())));
        }
        Some(old)
    }

    /// Removes the first `number` rows, without keeping nodes from becoming small: for one who
    /// takes all rows from the front, and wants what is only his to be freed bit by bit.
    pub(super) fn forget(&mut self, number: u32) {
        if number >= self.count {
            *self = Self::new();
            return;
        }
        self.count -= number;
        let (mut node, mut number) = (&mut self.root, number);
        while number > 0 {
            match Arc::make_mut(node) {
                Node::Leaf(rows) => {
                    rows.drain(..number as usize);
                    return;
                }
                Node::Branch(children) => {
                    let mut whole = 0;
                    while children[whole].rows <= number {
                        number -= children[whole].rows;
                        whole += 1;
                    }
                    children.drain(..whole);
                    children[0].rows -= number;
                    node = &mut children[0].node;
                }
            }
        }
    }

    /// Returns how many keys are less than `key`, or, with `itself`, not greater.
    pub(super) fn rank(&self, key: &K, itself: bool) -> u32 {
        let (mut node, mut before) = (&*self.root, 0);
        loop {
            match node {
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    before += children[..at].iter().map(|child| child.rows).sum::<u32>();
                    node = &children[at].node;
                }
                Node::Leaf(rows) => {
                    let less = |row: &Row<K, V>| row.key < *key || (itself && row.key == *key);
                    return before + count(rows.partition_point(less));
                }
            }
        }
    }

    /// Iterates the rows with numbers `from` up to, not including, `to`.
    pub(super) fn between(&self, from: u32, to: u32) -> Iter<'_, K, V> {
        let to = to.min(self.count);
        Iter { root: &self.root, from: from.min(to), to, front: None, back: None }
    }
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(rows) => rows.len(),
            Self::Branch(children) => children.len(),
        }
    }
}

impl<K: Ord + Clone, V: Clone> Child<K, V> {
    /// Describes `node`, which is not empty.
    fn of(node: Arc<Node<K, V>>) -> Self {
        let (least, rows) = match &*node {
            Node::Leaf(rows) => (&rows[0].key, count(rows.len())),
            Node::Branch(children) => {
                (&children[0].least, children.iter().map(|child| child.rows).sum())
            }
        };
        Self { least: least.clone(), rows, node }
    }
}

/// What was in a row before, and the part of a node that did not fit.
type Put<K, V> = (Option<Arc<V>>, Option<Child<K, V>>);

/// Turns the length of a node, or a number below the count of rows, into that type.
fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a table is bounded far below 2^32")
}

fn child_of<K: Ord, V>(children: &[Child<K, V>], key: &K) -> usize {
    children.partition_point(|child| child.least <= *key).saturating_sub(1)
}

fn find<K: Ord, V>(rows: &[Row<K, V>], key: &K) -> Result<usize, usize> {
    rows.binary_search_by(|row| row.key.cmp(key))
}

/// Puts a row below `node`; returns what was there, and what `node` has no room for.
fn put<K: Ord + Clone, V: Clone>(node: &mut Arc<Node<K, V>>, key: K, value: Arc<V>) -> Put<K, V> {
    match Arc::make_mut(node) {
        Node::Leaf(rows) => match find(rows, &key) {
            Ok(at) => (Some(mem::replace(&mut rows[at].value, value)), None),
            Err(at) => {
                let tail = place(rows, at, Row { key, value });
                (None, tail.map(|tail| Child::of(Arc::new(Node::Leaf(tail)))))
            }
        },
        Node::Branch(children) => {
            let at = child_of(children, &key);
            if key < children[at].least {
                children[at].least = key.clone();
            }
            let (old, right) = put(&mut children[at].node, key, value);
            children[at].rows += u32::from(old.is_none());
            let Some(right) = right else {
                return (old, None);
            };
            children[at].rows -= right.rows;
            let tail = place(children, at + 1, right);
            (old, tail.map(|tail| Child::of(Arc::new(Node::Branch(tail)))))
        }
    }
}

/// Inserts `item`; returns the tail that there is no room for.
///
/// If the item is the last, it goes alone: keys that come in order then leave full nodes behind.
fn place<T>(items: &mut Vec<T>, at: usize, item: T) -> Option<Vec<T>> {
    if items.len() == items.capacity() {
        items.reserve_exact(GROWTH);
    }
    items.insert(at, item);
    if items.len() <= NODE_MAX {
        return None;
    }
    let cut = if at + 1 == items.len() { at } else { items.len() / 2 };
    let tail = items.split_off(cut);
    items.shrink_to_fit();
    Some(tail)
}

/// Takes the row of `key` out from below `node`.
fn take<K: Ord + Clone, V: Clone>(node: &mut Arc<Node<K, V>>, key: &K) -> Option<Arc<V>> {
    match Arc::make_mut(node) {
        Node::Leaf(rows) => {
            let at = find(rows, key).ok()?;
            let row = rows.remove(at);
            if rows.capacity() - rows.len() > 2 * GROWTH {
                rows.shrink_to(rows.len() + GROWTH);
            }
            Some(row.value)
        }
        Node::Branch(children) => {
            let at = child_of(children, key);
            let old = take(&mut children[at].node, key)?;
            children[at].rows -= 1;
            if children[at].node.len() < NODE_MIN {
                mend(children, at);
            }
            Some(old)
        }
    }
}

/// Joins child `at`, which has become small, with a neighbour, or drops it if it is empty.
fn mend<K: Ord + Clone, V: Clone>(children: &mut Vec<Child<K, V>>, at: usize) {
    if children[at].rows == 0 {
        children.remove(at);
        return;
    }
    if children.len() == 1 {
        return; // The parent joins this branch with its neighbour.
    }
    let left = at.saturating_sub(1);
    let right = children.remove(left + 1);
    let child = &mut children[left];
    let tail = match (Arc::make_mut(&mut child.node), Arc::unwrap_or_clone(right.node)) {
        (Node::Leaf(rows), Node::Leaf(more)) => join(rows, more).map(Node::Leaf),
        (Node::Branch(inner), Node::Branch(more)) => join(inner, more).map(Node::Branch),
        (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => {
            unreachable!("all leaves are equally deep")
        }
    };
    child.rows += right.rows;
    if let Some(tail) = tail {
        let tail = Child::of(Arc::new(tail));
        child.rows -= tail.rows;
        children.insert(left + 1, tail);
    }
}

/// Appends `more`; returns the second half if that is too much for one node.
fn join<T>(items: &mut Vec<T>, mut more: Vec<T>) -> Option<Vec<T>> {
    items.reserve_exact(more.len());
    items.append(&mut more);
    if items.len() <= NODE_MAX {
        return None;
    }
    let tail = items.split_off(items.len() / 2);
    items.shrink_to_fit();
    Some(tail)
}

/// The rows of a table, or of a part of it, in the order of their keys; from both ends.
#[derive(Clone, Debug)]
pub struct Iter<'a, K, V> {
    root: &'a Node<K, V>,
    /// Number of the first row that is left.
    from: u32,
    /// Number after the last row that is left.
    to: u32,
    /// At row `from`, once it was asked for.
    front: Option<Cursor<'a, K, V>>,
    /// At row `to - 1`, once it was asked for.
    back: Option<Cursor<'a, K, V>>,
}

/// A place in a tree.
#[derive(Clone, Debug)]
struct Cursor<'a, K, V> {
    /// The branches above, each with the child that is in use.
    path: Vec<(&'a [Child<K, V>], usize)>,
    rows: &'a [Row<K, V>],
    at: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    /// Goes to row `number` below `node`, which has it.
    fn seek(node: &'a Node<K, V>, number: u32) -> Self {
        let mut cursor = Self { path: Vec::new(), rows: &[], at: 0 };
        cursor.descend(node, number);
        cursor
    }

    fn descend(&mut self, mut node: &'a Node<K, V>, mut number: u32) {
        loop {
            match node {
                Node::Branch(children) => {
                    let mut at = 0;
                    while number >= children[at].rows {
                        number -= children[at].rows;
                        at += 1;
                    }
                    self.path.push((children, at));
                    node = &children[at].node;
                }
                Node::Leaf(rows) => {
                    self.rows = rows;
                    self.at = number as usize;
                    return;
                }
            }
        }
    }

    fn row(&self) -> (&'a K, &'a V) {
        let row = &self.rows[self.at];
        (&row.key, &row.value)
    }

    /// Goes to the row after this one, which is there.
    fn forward(&mut self) {
        self.at += 1;
        while self.at == self.rows.len() {
            let (children, at) = self.path.pop().expect("a row follows: the counts say so");
            if let Some(child) = children.get(at + 1) {
                self.path.push((children, at + 1));
                self.descend(&child.node, 0);
            }
        }
    }

    /// Goes to the row before this one, which is there.
    fn backward(&mut self) {
        while self.at == 0 {
            let (children, at) = self.path.pop().expect("a row precedes: the counts say so");
            if let Some(before) = at.checked_sub(1) {
                self.path.push((children, before));
                self.descend(&children[before].node, children[before].rows - 1);
                return;
            }
        }
        self.at -= 1;
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.from == self.to {
            return None;
        }
        let (root, from) = (self.root, self.from);
        let cursor = self.front.get_or_insert_with(|| Cursor::seek(root, from));
        let row = cursor.row();
        self.from += 1;
        if self.from < self.to {
            cursor.forward();
        }
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.to - self.from) as usize;
        (left, Some(left))
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.from == self.to {
            return None;
        }
        let (root, last) = (self.root, self.to - 1);
        let cursor = self.back.get_or_insert_with(|| Cursor::seek(root, last));
        let row = cursor.row();
        self.to -= 1;
        if self.from < self.to {
            cursor.backward();
        }
        Some(row)
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

#[cfg(test)]
pub(super) mod inside {
    //! What only tests may see: whether the tree is sound, and what it weighs.

    use super::*;

    impl<K: Ord + Clone, V: Clone> Rows<K, V> {
        /// Returns the owner of the value of `key`.
        pub(in super::super) fn get_shared(&self, key: &K) -> Option<Arc<V>> {
            let mut node = &*self.root;
            loop {
                match node {
                    Node::Branch(children) => node = &children[child_of(children, key)].node,
                    Node::Leaf(rows) => {
                        return Some(Arc::clone(&rows[find(rows, key).ok()?].value));
                    }
                }
            }
        }
    }

    /// Asserts every rule of the header; returns the bytes on the heap beside keys and values.
    pub(in super::super) fn check<K: Ord + Clone, V: Clone>(
        rows: &Rows<K, V>,
        allocation: fn(usize) -> usize,
    ) -> usize {
        let mut leaf_depths = Vec::new();
        let (count, weight) = walk(&rows.root, 0, &mut leaf_depths, allocation);
        assert_eq!(count, rows.count);
        leaf_depths.dedup();
        assert_eq!(leaf_depths.len(), 1, "all leaves are equally deep");
        if let Node::Branch(children) = &*rows.root {
            assert!(children.len() > 1, "a branch with one child is no root");
        }
        weight
    }

    fn walk<K: Ord + Clone, V: Clone>(
        node: &Node<K, V>,
        depth: usize,
        leaf_depths: &mut Vec<usize>,
        allocation: fn(usize) -> usize,
    ) -> (u32, usize) {
        assert!(node.len() <= NODE_MAX);
        let mut weight = allocation(size_of::<Node<K, V>>() + 2 * size_of::<usize>());
        match node {
            Node::Leaf(rows) => {
                leaf_depths.push(depth);
                assert!(rows.is_sorted_by(|a, b| a.key < b.key));
                let slack = rows.capacity() - rows.len();
                weight += allocation(rows.capacity() * size_of::<Row<K, V>>());
                weight -= rows.len() * size_of::<K>();
                // Each value: its own allocation, less the value.
                let value = allocation(size_of::<V>() + 2 * size_of::<usize>()) - size_of::<V>();
                assert!(slack <= 2 * GROWTH + NODE_MIN, "{slack} places of slack");
                (count(rows.len()), weight + rows.len() * value)
            }
            Node::Branch(children) => {
                weight += allocation(children.capacity() * size_of::<Child<K, V>>());
                let mut all = 0;
                for (at, child) in children.iter().enumerate() {
                    let (rows, below) = walk(&child.node, depth + 1, leaf_depths, allocation);
                    assert_eq!(rows, child.rows);
                    assert!(rows > 0, "no empty node but an empty root");
                    let mut cursor = Cursor::seek(&child.node, 0);
                    assert!(child.least <= *cursor.row().0);
                    cursor = Cursor::seek(&child.node, rows - 1);
                    let next = children.get(at + 1);
                    assert!(next.is_none_or(|next| *cursor.row().0 < next.least));
                    all += rows;
                    weight += below;
                }
                (all, weight)
            }
        }
    }
}
