//! A table: an ordered map with a root that is kept up with every change (L50, L51).
//!
//! ```text
//!            insert, update, remove                  root
//!   row ───────────────────────────► pending ─────────────────► hash tree ─► root
//!                 the key                     position and hash
//!                                             of each pending row
//! ```
//!
//! - *Rows* (`table/rows.rs`): a B+ tree in the order of the keys, for look-ups and pages.
//! - *Hash tree* (`table/tree.rs`, with the exact definition of the root): a trie over the BLAKE3
//!   of the keys. It has 64 bytes for each row and knows neither keys nor values.
//! - *Pending*: keys whose rows changed since the hash tree last heard of them. With more than
//!   [`PENDING_MAX`] of them each change settles two, so that a table of which nobody asks the root
//!   stays small and no single call is long. A value that changes a hundred times between two
//!   roots is hashed once.
//!
//! # Clones
//!
//! A clone shares both trees with the original and costs the same for any number of rows (beside
//! the pending keys, of which there are none after [`Table::root`]). Who changes a row afterwards
//! copies the few nodes on its path, once, and the value, once. So a snapshot (L41) is a clone that
//! is written out piece by piece while the original goes on.
//!
//! # Why this, and not a crate
//!
//! A persistent map from elsewhere (`imbl` was looked at) is one of the two trees only, brings
//! random-number and array crates that use `unsafe` with it, counts no ranks, and leaves the slack
//! of its nodes, which is most of what a small row costs, to chance.
//!
//! A tree that is both (a Merkle search tree, a treap with hashed priorities, chunks cut by
//! content) takes its shape from the hashes of keys in key order. Callers choose keys, so someone
//! could choose such as make it deep, or its nodes long, with little work; in a trie over the
//! hashes alone each further level costs them twice as much as all before.
//!
//! # Memory
//!
//! Beside the key and the value itself, in bytes on a 64-bit machine, each allocation rounded up as
//! a usual allocator does; `tests.rs` measures it and holds the bound of 144:
//!
//! | what                                   | a row |
//! |----------------------------------------|-------|
//! | owner of the value                     |    32 |
//! | place in its leaf, slack, nodes above  |    18 |
//! | position and hash                      |    64 |
//! | slack, page, branches                  |    21 |
//!
//! So an idle process with rows in three tables has 405 of its 2,048 bytes (K451) for being there.

mod rows;
mod tree;

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::codec::{Malformed, Reader, Wire};
pub use rows::Iter;
use rows::Rows;
use tree::Scratch;
pub use tree::{EMPTY, HashTree};

/// How many changed rows may wait to be hashed before each change settles two of them.
pub const PENDING_MAX: usize = 1024;

/// An ordered map from `K` to `V` whose [root](Table::root) depends on its content alone (L51).
///
/// The canonical bytes of keys and values are their [`Wire`] encodings.
#[derive(Clone)]
pub struct Table<K, V> {
    rows: Rows<K, V>,
    tree: HashTree,
    /// Keys whose rows may differ from what `tree` has of them.
    pending: BTreeSet<K>,
    /// The key that was noted last, while it is among them: most rows change several times running.
    noted: Option<K>,
}

impl<K: Ord + Clone + Wire, V: Clone + Wire> Table<K, V> {
    /// Makes an empty table.
    #[must_use]
    pub fn new() -> Self {
        let (rows, tree) = (Rows::new(), HashTree::new());
        Self { rows, tree, pending: BTreeSet::new(), noted: None }
    }

    /// Returns how many rows there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// Whether `key` has a value.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of `key`; returns the value before, if there was one.
    pub fn insert(&mut self, key: K, value: V) -> Option<Arc<V>> {
        self.mark(&key);
        self.rows.insert(key, Arc::new(value))
    }

    /// Removes `key`; returns its value, if there was one.
    pub fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        let old = self.rows.remove(key)?;
        self.mark(key);
        Some(old)
    }

    /// Changes the value of `key` in place; returns whether there is one.
    pub fn update(&mut self, key: &K, change: impl FnOnce(&mut V)) -> bool {
        let Some(value) = self.rows.get_mut(key) else {
            return false;
        };
        change(value);
        self.mark(key);
        true
    }

    /// Returns the row with the least key.
    #[must_use]
    pub fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// Returns the row with the greatest key.
    #[must_use]
    pub fn last(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// Iterates all rows in the order of their keys, from either end.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.rows.between(0, self.len())
    }

    /// Iterates the rows whose keys are in `range`, in order, from either end. How many they are is
    /// known at once; finding both ends costs two look-ups. A range that ends before it starts is
    /// empty.
    pub fn range(&self, range: impl RangeBounds<K>) -> Iter<'_, K, V> {
        let from = match range.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(key) => self.rows.rank(key, false),
            Bound::Excluded(key) => self.rows.rank(key, true),
        };
        let to = match range.end_bound() {
            Bound::Unbounded => self.len(),
            Bound::Included(key) => self.rows.rank(key, true),
            Bound::Excluded(key) => self.rows.rank(key, false),
        };
        self.rows.between(from, to)
    }

    /// Returns the root. Hashes the rows that changed since the last time and O(log n) nodes above
    /// each, and nothing else (L94).
    pub fn root(&mut self) -> [u8; 32] {
        let mut scratch = Scratch::default();
        self.noted = None;
        while let Some(key) = self.pending.pop_first() {
            self.rehash(&key, &mut scratch);
        }
        self.tree.root()
    }

    /// Does at most `steps` of the work that [`Table::root`] would do: rows and nodes to hash.
    /// Returns how many steps are left over: none if there may be more to do.
    ///
    /// Whoever asks for the root seldom and may not stop for long does this first, in slices.
    pub fn settle(&mut self, mut steps: u32) -> u32 {
        let mut scratch = Scratch::default();
        self.noted = None;
        while steps > 0
            && let Some(key) = self.pending.pop_first()
        {
            self.rehash(&key, &mut scratch);
            steps -= 1;
        }
        self.tree.settle(steps)
    }

    /// Returns the root without keeping what was hashed: each call costs what changed since the
    /// last [`Table::root`].
    #[must_use]
    pub fn current_root(&self) -> [u8; 32] {
        self.clone().root()
    }

    /// Notes that the row of `key` changed.
    fn mark(&mut self, key: &K) {
        if self.noted.as_ref() == Some(key) {
            return;
        }
        if !self.pending.contains(key) {
            self.pending.insert(key.clone());
        }
        self.noted = Some(key.clone());
        if self.pending.len() > PENDING_MAX {
            let mut scratch = Scratch::default();
            for _ in 0..2 {
                // What was just noted may not have changed yet: it stays.
                let Some(due) = self.pending.iter().find(|due| *due != key).cloned() else {
                    break;
                };
                self.pending.remove(&due);
                self.rehash(&due, &mut scratch);
            }
        }
    }

    /// Tells the hash tree what the row of `key` is now.
    fn rehash(&mut self, key: &K, scratch: &mut Scratch) {
        scratch.key(|out| key.encode(out));
        match self.rows.get(key) {
            Some(value) => {
                scratch.value(|out| value.encode(out));
                self.tree.put_row(scratch);
            }
            None => self.tree.remove_row(scratch),
        }
    }
}

impl<K: Ord + Clone + Wire, V: Clone + Wire> Default for Table<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone + Wire + fmt::Debug, V: Clone + Wire + fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone + Wire, V: Clone + Wire + PartialEq> PartialEq for Table<K, V> {
    /// Compares the content; how it came about is of no account (L51).
    fn eq(&self, other: &Self) -> bool {
        self.rows.shares_all_with(&other.rows)
            || (self.len() == other.len() && self.iter().eq(other.iter()))
    }
}

impl<K: Ord + Clone + Wire, V: Clone + Wire + Eq> Eq for Table<K, V> {}

impl<K: Ord + Clone + Wire + Hash, V: Clone + Wire + Hash> Hash for Table<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.len());
        for row in self.iter() {
            row.hash(state);
        }
    }
}

impl<'a, K: Ord + Clone + Wire, V: Clone + Wire> IntoIterator for &'a Table<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A table of whatever types, as the making and the reading of snapshots see it.
pub trait Stored {
    /// Returns the [root](Table::root).
    fn root(&mut self) -> [u8; 32];

    /// Does at most `steps` of the work that the root needs, as [`Table::settle`].
    fn settle(&mut self, steps: u32) -> u32;

    /// Returns the rows as they are now; what changes later does not show in them.
    fn freeze(&self) -> Box<dyn Frozen>;

    /// Adds a row given in canonical bytes that comes after all that are there, and leaves its hash
    /// to [`Stored::seal`].
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are not a key and a value, or the key does not come after those
    /// that are there. The table is unchanged.
    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed>;

    /// Ends the loading: `tree` is of the bytes that were loaded.
    ///
    /// # Panics
    ///
    /// If it is not of as many rows as there are.
    fn seal(&mut self, tree: HashTree);

    /// Adds a row given in canonical bytes, wherever its place is, and whatever came before.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are not a key and a value, or the key is there already. The table
    /// is unchanged.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed>;
}

/// The rows of a table at one moment, in canonical bytes, to be taken from the front.
pub trait Frozen: Send + Sync {
    /// Returns how many rows were not taken yet.
    fn rows(&self) -> u32;

    /// Takes rows and appends them to `out`, until it holds `bytes` or there are no more. What only
    /// this holds of them is freed.
    ///
    /// | of each row | |
    /// |-------------|-----------------------------------------------|
    /// | `u32`       | length of the key                             |
    /// | `u32`       | length of the value                           |
    /// | bytes       | the key, then the value, in the standard form |
    fn take(&mut self, out: &mut Vec<u8>, bytes: usize);

    /// Returns a copy that shares all with this.
    fn copy(&self) -> Box<dyn Frozen>;
}

impl Clone for Box<dyn Frozen> {
    fn clone(&self) -> Self {
        self.copy()
    }
}

impl<K, V> Stored for Table<K, V>
where
    K: Ord + Clone + Wire + Send + Sync + 'static,
    V: Clone + Wire + Send + Sync + 'static,
{
    fn root(&mut self) -> [u8; 32] {
        Self::root(self)
    }

    fn settle(&mut self, steps: u32) -> u32 {
        Self::settle(self, steps)
    }

    fn freeze(&self) -> Box<dyn Frozen> {
        Box::new(self.rows.clone())
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let start = Reader::new(key);
        let key = K::from_bytes(key)?;
        if self.last().is_some_and(|(last, _)| *last >= key) {
            return Err(start.malformed("a key after the one before"));
        }
        let value = V::from_bytes(value)?;
        self.rows.insert(key, Arc::new(value));
        Ok(())
    }

    fn seal(&mut self, tree: HashTree) {
        assert_eq!(tree.len(), self.rows.len(), "the tree is of the rows that were loaded");
        self.pending.clear();
        self.noted = None;
        self.tree = tree;
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let start = Reader::new(key);
        let key = K::from_bytes(key)?;
        if self.contains(&key) {
            return Err(start.malformed("a key that is not there yet"));
        }
        self.insert(key, V::from_bytes(value)?);
        Ok(())
    }
}

impl<K, V> Frozen for Rows<K, V>
where
    K: Ord + Clone + Wire + Send + Sync + 'static,
    V: Clone + Wire + Send + Sync + 'static,
{
    fn rows(&self) -> u32 {
        self.len()
    }

    fn take(&mut self, out: &mut Vec<u8>, bytes: usize) {
        let mut taken = 0;
        for (key, value) in self.between(0, self.len()) {
            if out.len() >= bytes {
                break;
            }
            let start = out.len();
            out.extend_from_slice(&[0; 8]);
            key.encode(out);
            let middle = out.len();
            value.encode(out);
            let length = |bytes: usize| {
                u32::try_from(bytes).expect("a row is far below 4 GiB").to_le_bytes()
            };
            let lengths = [length(middle - start - 8), length(out.len() - middle)];
            out[start..start + 8].copy_from_slice(lengths.as_flattened());
            taken += 1;
        }
        self.forget(taken);
    }

    fn copy(&self) -> Box<dyn Frozen> {
        Box::new(self.clone())
    }
}
