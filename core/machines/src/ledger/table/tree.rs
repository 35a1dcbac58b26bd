//! The hash tree of a table: the root of a set of (key, value), whatever the way to it (L50, L51).
//!
//! # Definition
//!
//! Let `‖` join bytes, `BLAKE3(k, m)` be BLAKE3 in its keyed mode, and the three keys be the plain
//! BLAKE3 of the texts `lockstep.table.entry.v1`, `lockstep.table.page.v1` and
//! `lockstep.table.branch.v1`.
//!
//! | of a row with canonical bytes `key` and `value` | |
//! |-------------|----------------------------------------------------------------------------|
//! | position    | plain BLAKE3 of `key`, 256 bits, the highest bit of byte 0 first           |
//! | entry hash  | `BLAKE3(entry, u32 length of key, little-endian ‖ key ‖ value)`            |
//!
//! The rows whose positions begin with the same `d` bits are a *subtree* of depth `d`; the table is
//! the subtree of depth 0. Its hash is:
//!
//! | rows in it | hash |
//! |------------|-----------------------------------------------------------------------------|
//! | 0 to 16    | `BLAKE3(page, the entry hashes in order of position, joined)`               |
//! | 17 or more | `BLAKE3(branch, left ‖ right)`: the subtrees of depth `d + 1` below it,     |
//! |            | of the rows whose bit `d` is 0, and of those whose bit `d` is 1             |
//!
//! There is no path compression. An empty subtree has the fixed hash of an empty page, [`EMPTY`].
//!
//! # Cost
//!
//! One changed row makes one page (at most 8 compressions) and about log2(rows / 11) branches (one
//! each) stale. Positions are spread by the hash, so a branch has no more than a few levels above
//! log2(rows), unless someone grinds keys: each level then costs twice the work of the one before.
//!
//! Nodes are shared between clones until written, as those of `rows.rs`.
//!
//! # Source
//!
//! Hashes of pairs as in Merkle, *A digital signature based on a conventional encryption function*,
//! 1987; the trie that ends in pages as in Fagin, Nievergelt, Pippenger and Strong, *Extendible
//! hashing*, 1979.

use std::fmt;
use std::mem;
use std::sync::Arc;

/// A subtree with more rows than that is a branch. Part of the format.
const PAGE_MAX: usize = 16;
/// Room is made for so many more entries at a time.
const GROWTH: usize = 2;

/// The plain BLAKE3 of `lockstep.table.entry.v1`.
const ENTRY: [u8; 32] = *b"\x32\x62\x58\x87\x92\x65\xe9\x04\xaa\xa0\xf1\x6f\xe1\xc4\xfd\x0f\
    \x82\xc5\xf9\xc6\x6e\x70\xba\x41\x07\xd8\x04\x8e\xcc\xe5\x2e\xc0";
/// The plain BLAKE3 of `lockstep.table.page.v1`.
const PAGE: [u8; 32] = *b"\x29\x36\x19\x91\x80\x50\x0a\xdb\x30\xb5\x29\xb6\x98\x4f\xea\xff\
    \xd3\xdc\x23\x11\xaf\x37\xf7\x05\x39\xb0\xfe\x21\x58\xea\x80\xd5";
/// The plain BLAKE3 of `lockstep.table.branch.v1`.
const BRANCH: [u8; 32] = *b"\x62\xf8\x42\x49\xcc\x4e\x4f\x89\xca\x56\x49\x6d\x0f\xb8\x91\x16\
    \xaf\x77\x86\xdf\xba\x8c\x60\x1f\xf9\x6a\xd8\x57\x2d\xae\x64\x71";

/// The root of an empty table.
pub const EMPTY: [u8; 32] = *b"\x7c\xa9\x75\xec\x91\x4e\xa4\xff\x9a\xe8\xae\x57\xde\xe4\x34\x04\
    \xa5\x9d\xda\xc3\xab\xc0\x21\x6f\x41\x11\x91\x71\x63\xbb\x60\x24";

/// A row in canonical bytes, as its entry hash takes it in.
///
/// One buffer serves many rows, so that hashing a row allocates nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::ledger) struct Scratch {
    bytes: Vec<u8>,
    key_end: usize,
}

/// Where the key begins in a [`Scratch`]: after its length.
const KEY_AT: usize = 4;

impl Scratch {
    /// Starts over with the key that `put` appends.
    pub(in crate::ledger) fn key(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; KEY_AT]);
        put(&mut self.bytes);
        self.key_end = self.bytes.len();
        let length = u32::try_from(self.key_end - KEY_AT).expect("a key is far below 4 GiB");
        self.bytes[..KEY_AT].copy_from_slice(&length.to_le_bytes());
    }

    /// Goes on with the value that `put` appends.
    pub(in crate::ledger) fn value(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.key_end);
        put(&mut self.bytes);
    }

    fn position(&self) -> [u8; 32] {
        *blake3::hash(&self.bytes[KEY_AT..self.key_end]).as_bytes()
    }

    fn entry(&self) -> Entry {
        let hash = *blake3::keyed_hash(&ENTRY, &self.bytes).as_bytes();
        Entry { position: self.position(), hash }
    }
}

/// Where a row is, and the hash of what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    position: [u8; 32],
    hash: [u8; 32],
}

impl Entry {
    /// Returns bit `depth` of the position: 0 or 1.
    fn bit(&self, depth: usize) -> usize {
        bit(&self.position, depth)
    }
}

fn bit(position: &[u8; 32], depth: usize) -> usize {
    usize::from(position[depth / 8] >> (7 - depth % 8) & 1)
}

/// The hashes of a table's rows, and those above them as far as they are known.
#[derive(Clone, Default)]
pub struct HashTree {
    top: Link,
}

/// A subtree; `None` is an empty one.
type Link = Option<Arc<Node>>;

#[derive(Clone, Debug)]
struct Node {
    /// Unknown since something in this subtree changed.
    hash: Option<[u8; 32]>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    /// 1 to 16 entries in order of position.
    Page(Vec<Entry>),
    /// 17 entries or more, those with bit 0 and those with bit 1.
    Branch { entries: u32, halves: [Link; 2] },
}

impl HashTree {
    /// Makes the tree of no rows.
    #[must_use]
    pub const fn new() -> Self {
        Self { top: None }
    }

    /// Returns of how many rows it is.
    #[must_use]
    pub fn len(&self) -> u32 {
        entries(&self.top)
    }

    /// Whether it is of no rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.top.is_none()
    }

    /// Adds the row in canonical bytes, or puts it in the place of the row with its key.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut row = Scratch::default();
        row.key(|out| out.extend_from_slice(key));
        row.value(|out| out.extend_from_slice(value));
        self.put_row(&row);
    }

    /// Takes out the row with `key` in canonical bytes, if there is one.
    pub fn remove(&mut self, key: &[u8]) {
        let mut row = Scratch::default();
        row.key(|out| out.extend_from_slice(key));
        self.remove_row(&row);
    }

    /// Returns the root. Hashes what changed since the last time, and nothing else.
    pub fn root(&mut self) -> [u8; 32] {
        loop {
            let mut steps = u32::MAX;
            if let Some(root) = settle(&mut self.top, &mut steps) {
                return root;
            }
        }
    }

    /// Hashes at most `steps` nodes of what [`HashTree::root`] would; returns how many steps are
    /// left over: none if there may be more to do.
    pub fn settle(&mut self, mut steps: u32) -> u32 {
        settle(&mut self.top, &mut steps);
        steps
    }

    /// [`HashTree::put`] of a row whose bytes stand in `row`.
    pub(in crate::ledger) fn put_row(&mut self, row: &Scratch) {
        put(&mut self.top, row.entry(), 0);
    }

    /// [`HashTree::remove`] of a row whose key stands in `row`.
    pub(in crate::ledger) fn remove_row(&mut self, row: &Scratch) {
        let position = row.position();
        if holds(&self.top, &position) {
            take(&mut self.top, &position, 0);
        }
    }
}

impl fmt::Debug for HashTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashTree").field("rows", &self.len()).finish_non_exhaustive()
    }
}

fn entries(link: &Link) -> u32 {
    match link.as_ref().map(|node| &node.body) {
        None => 0,
        Some(Body::Page(page)) => u32::try_from(page.len()).expect("a page has 16 at most"),
        Some(Body::Branch { entries, .. }) => *entries,
    }
}

fn holds(mut link: &Link, position: &[u8; 32]) -> bool {
    let mut depth = 0;
    while let Some(node) = link {
        match &node.body {
            Body::Page(page) => return find(page, position).is_ok(),
            Body::Branch { halves, .. } => link = &halves[bit(position, depth)],
        }
        depth += 1;
    }
    false
}

fn find(page: &[Entry], position: &[u8; 32]) -> Result<usize, usize> {
    page.binary_search_by(|entry| entry.position.cmp(position))
}

/// Puts `entry` into a subtree; returns whether it is one more.
fn put(link: &mut Link, entry: Entry, depth: usize) -> bool {
    let Some(node) = link else {
        *link = page(vec![entry]);
        return true;
    };
    let node = Arc::make_mut(node);
    node.hash = None;
    match &mut node.body {
        Body::Page(page) => match find(page, &entry.position) {
            Ok(at) => {
                page[at].hash = entry.hash;
                false
            }
            Err(at) => {
                if page.len() == page.capacity() {
                    page.reserve_exact(GROWTH);
                }
                page.insert(at, entry);
                if page.len() > PAGE_MAX {
                    node.body = split(mem::take(page), depth);
                }
                true
            }
        },
        Body::Branch { entries, halves } => {
            let more = put(&mut halves[entry.bit(depth)], entry, depth + 1);
            *entries += u32::from(more);
            more
        }
    }
}

fn page(entries: Vec<Entry>) -> Link {
    Some(Arc::new(Node { hash: None, body: Body::Page(entries) }))
}

/// Makes a branch of `page`, which has one entry too many.
///
/// Two different keys never have the same position: that would be a collision of BLAKE3. So a page
/// of depth 256 has one entry at most, and there is always a next bit.
fn split(mut page: Vec<Entry>, depth: usize) -> Body {
    let entries = u32::try_from(page.len()).expect("a page has 17 at most");
    let ones = page.split_off(page.partition_point(|entry| entry.bit(depth) == 0));
    page.shrink_to_fit();
    Body::Branch { entries, halves: [page, ones].map(|half| subtree(half, depth + 1)) }
}

fn subtree(entries: Vec<Entry>, depth: usize) -> Link {
    match entries.len() {
        0 => None,
        1..=PAGE_MAX => page(entries),
        _ => Some(Arc::new(Node { hash: None, body: split(entries, depth) })),
    }
}

/// Takes the entry at `position`, which is there, out of a subtree.
fn take(link: &mut Link, position: &[u8; 32], depth: usize) {
    let node = Arc::make_mut(link.as_mut().expect("the entry was found"));
    node.hash = None;
    match &mut node.body {
        Body::Page(page) => {
            page.remove(find(page, position).expect("the entry was found"));
            if page.capacity() - page.len() > 2 * GROWTH {
                page.shrink_to(page.len() + GROWTH);
            }
            if page.is_empty() {
                *link = None;
            }
        }
        Body::Branch { entries, halves } => {
            take(&mut halves[bit(position, depth)], position, depth + 1);
            *entries -= 1;
            if *entries as usize <= PAGE_MAX {
                node.body = Body::Page(gather(halves));
            }
        }
    }
}

/// Makes one page of two halves that have as much as a page holds.
fn gather(halves: &[Link; 2]) -> Vec<Entry> {
    let mut all = Vec::with_capacity(PAGE_MAX);
    for node in halves.iter().flatten() {
        match &node.body {
            Body::Page(page) => all.extend_from_slice(page),
            Body::Branch { .. } => unreachable!("a subtree with so few entries is a page"),
        }
    }
    all
}

/// Returns the hash of a subtree, and keeps it; or nothing if that takes more than `steps`, which
/// count down.
fn settle(link: &mut Link, steps: &mut u32) -> Option<[u8; 32]> {
    let Some(node) = link else {
        return Some(EMPTY);
    };
    if node.hash.is_some() {
        return node.hash;
    }
    let node = Arc::make_mut(node);
    let hash = match &mut node.body {
        Body::Page(page) => {
            *steps = steps.checked_sub(1)?;
            let mut joined = [[0; 32]; PAGE_MAX];
            for (place, entry) in joined.iter_mut().zip(&*page) {
                *place = entry.hash;
            }
            blake3::keyed_hash(&PAGE, joined[..page.len()].as_flattened())
        }
        Body::Branch { halves: [left, right], .. } => {
            let joined = [settle(left, steps)?, settle(right, steps)?];
            *steps = steps.checked_sub(1)?;
            blake3::keyed_hash(&BRANCH, joined.as_flattened())
        }
    };
    node.hash = Some(*hash.as_bytes());
    node.hash
}

#[cfg(test)]
pub(super) mod inside {
    //! What only tests may see: whether the tree is sound, and what it weighs.

    use super::*;

    /// Asserts the shape that the definition gives; returns the bytes on the heap.
    pub(in super::super) fn check(tree: &HashTree, allocation: fn(usize) -> usize) -> usize {
        walk(&tree.top, 0, allocation).1
    }

    /// Returns the keys of the three kinds of hashes, each with the text it is the hash of.
    pub(in super::super) const fn keys() -> [(&'static str, [u8; 32]); 3] {
        [
            ("lockstep.table.entry.v1", ENTRY),
            ("lockstep.table.page.v1", PAGE),
            ("lockstep.table.branch.v1", BRANCH),
        ]
    }

    /// Returns how deep the deepest page is.
    pub(in super::super) fn depth(tree: &HashTree) -> usize {
        fn below(link: &Link) -> usize {
            match link.as_ref().map(|node| &node.body) {
                None | Some(Body::Page(_)) => 0,
                Some(Body::Branch { halves, .. }) => {
                    1 + halves.iter().map(below).max().expect("there are two")
                }
            }
        }
        below(&tree.top)
    }

    /// Returns how many nodes have no hash, and how many nodes there are.
    pub(in super::super) fn stale(tree: &HashTree) -> (usize, usize) {
        fn below(link: &Link) -> (usize, usize) {
            let Some(node) = link else {
                return (0, 0);
            };
            let own = usize::from(node.hash.is_none());
            match &node.body {
                Body::Page(_) => (own, 1),
                Body::Branch { halves, .. } => {
                    let [left, right] = halves.each_ref().map(below);
                    (own + left.0 + right.0, 1 + left.1 + right.1)
                }
            }
        }
        below(&tree.top)
    }

    fn walk(link: &Link, depth: usize, allocation: fn(usize) -> usize) -> (Vec<Entry>, usize) {
        let Some(node) = link else {
            return (Vec::new(), 0);
        };
        let own = allocation(size_of::<Node>() + 2 * size_of::<usize>());
        match &node.body {
            Body::Page(page) => {
                assert!((1..=PAGE_MAX).contains(&page.len()));
                (page.clone(), own + allocation(page.capacity() * size_of::<Entry>()))
            }
            Body::Branch { entries, halves } => {
                let [left, right] = halves.each_ref().map(|half| walk(half, depth + 1, allocation));
                assert!(left.0.iter().all(|entry| entry.bit(depth) == 0));
                assert!(right.0.iter().all(|entry| entry.bit(depth) == 1));
                let all = [left.0, right.0].concat();
                assert!(all.is_sorted_by(|a, b| a.position < b.position));
                assert!(all.len() > PAGE_MAX, "so few are a page");
                assert_eq!(all.len(), *entries as usize);
                (all, own + left.1 + right.1)
            }
        }
    }
}
