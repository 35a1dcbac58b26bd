//! What a table holds, what its root is, and what it weighs.

use std::collections::BTreeMap;
use std::ptr;

use super::rows::inside as rows_inside;
use super::tree::inside as tree_inside;
use super::*;
use crate::digest::Digest;
use crate::ledger::fold::demo::{Key, Text};

type Texts = Table<Key, Text>;

fn text(number: u32) -> Text {
    Text(format!("row {number}").into_bytes())
}

/// A table of the rows `key` → "row `key`".
fn table(keys: impl IntoIterator<Item = u32>) -> Texts {
    let mut table = Texts::new();
    keys.into_iter().for_each(|key| assert_eq!(table.insert(Key(key), text(key)), None));
    table
}

fn hex(root: [u8; 32]) -> String {
    root.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keys whose positions share their first ten bits: ten branches lead to the page's two halves.
const DEEP: [u32; 17] = [
    294, 2366, 2707, 4241, 5134, 5185, 7862, 8620, 11960, 12140, 15209, 15236, 15899, 18838, 19302,
    20685, 22836,
];

/// Goal: L52. Method: another program, written from the header of `tree.rs`, computed the roots.
#[test]
fn l52_roots_of_known_tables_never_change() {
    let golden: [(&str, Texts, &str); 8] = [
        ("empty", table([]), "7ca975ec914ea4ff9ae8ae57dee43404a59ddac3abc0216f4111917163bb6024"),
        (
            "one entry",
            table([1]),
            "75c5f8e7ef72eb2ec289f7a88be43f579b2423f469b6e93c820e33b931bbf7ba",
        ),
        (
            "two whose positions share their first 25 bits",
            table([56, 586]),
            "f650983576e4fa392693a42e4456e739de2fcc3f85a559a4278ba14ee001107e",
        ),
        (
            "the same two, and 16 more",
            table([56, 586].into_iter().chain(1_000_000..1_000_016)),
            "153a6f332eb7575f8273fa28c9572487c2690e49342e0bd751a1bbe0c5214361",
        ),
        (
            "a full page",
            table(0..16),
            "dd5fb38aa2a7ee0a5e54d2d8adbcff925e5b5e0aa18e7589049b16915d230d90",
        ),
        (
            "one more than a page",
            table(0..17),
            "d34ef527d8f4ae94ceb2723a9d3104415ca7461837b67ebc50c273d8739e7a2a",
        ),
        (
            "a thousand",
            table(0..1000),
            "a0bba3c47aa4546c4859264d3bdb82b150e0386fb02480d5408b3fec1eab9e3c",
        ),
        (
            "17 whose positions share their first 10 bits",
            table(DEEP),
            "0b083495a7943f3a4d1343593fbc93abb33aed9fdf939237feb6ef1786313166",
        ),
    ];
    for (about, mut table, root) in golden {
        assert_eq!(hex(table.root()), root, "{about}");
        let keys: Vec<Key> = table.iter().map(|(key, _)| *key).collect();
        for key in keys {
            table.remove(&key);
            table.root();
        }
        assert_eq!(table.root(), EMPTY, "{about}, removed one by one");
    }
}

#[test]
fn the_keys_of_the_hashes_are_the_hashes_of_their_names() {
    for (name, key) in tree_inside::keys() {
        assert_eq!(blake3::hash(name.as_bytes()), key, "{name}");
    }
}

#[test]
fn keys_that_share_a_prefix_make_the_tree_deep_and_it_heals_when_they_go() {
    let mut table = table(DEEP);
    table.root();
    assert!(tree_inside::depth(&table.tree) > 10);
    table.remove(&Key(DEEP[3]));
    table.root();
    assert_eq!(tree_inside::depth(&table.tree), 0, "16 rows are a page");
}

#[test]
fn l51_the_order_of_insertion_leaves_no_trace() {
    let mut up = table(0..500);
    let mut down = table((0..500).rev());
    let mut detour = table(250..750);
    (500..750).for_each(|key| assert!(detour.remove(&Key(key)).is_some()));
    detour.root();
    (0..250).for_each(|key| assert!(detour.insert(Key(key), text(key + 1)).is_none()));
    detour.root();
    (0..250).for_each(|key| assert!(detour.update(&Key(key), |value| *value = text(key))));
    assert_eq!(up.root(), down.root());
    assert_eq!(up.root(), detour.root());
    assert_eq!((&up, &up), (&down, &detour));
    assert_eq!(Digest::of(&up), Digest::of(&detour));
    assert_eq!(format!("{up:?}"), format!("{detour:?}"));
}

#[test]
fn a_row_that_differs_in_anything_has_another_root() {
    let mut roots = vec![EMPTY];
    for (key, value) in [(1, "a"), (2, "a"), (1, "b"), (1, ""), (1, "a\0")] {
        let mut table = Texts::new();
        table.insert(Key(key), Text(value.into()));
        roots.push(table.root());
    }
    for (at, root) in roots.iter().enumerate() {
        assert!(!roots[..at].contains(root), "{at}");
    }
}

/// Goal: the way that is kept to a row never leads to another one. Method: rows are changed, and
/// others come and go around them, so that they move within their leaves and to others.
#[test]
fn the_row_that_was_changed_last_is_found_wherever_it_moved() {
    let mut table = table(0..2_000);
    let mut model: BTreeMap<u32, Text> = (0..2_000).map(|key| (key, text(key))).collect();
    for key in (0..2_000).rev().step_by(3) {
        let found = table.update(&Key(key), |value| value.0.push(b'!'));
        assert_eq!(found, model.contains_key(&key));
        model.entry(key).and_modify(|value| value.0.push(b'!'));
        for (gone, new) in (key.saturating_sub(40)..key).zip(5_000 - key..) {
            table.remove(&Key(gone));
            model.remove(&gone);
            assert_eq!(table.get(&Key(key)), model.get(&key), "{key} after {gone} went");
            table.insert(Key(new), text(new));
            model.insert(new, text(new));
            assert_eq!(table.get(&Key(key)), model.get(&key), "{key} after {new} came");
        }
    }
    assert!(model.iter().all(|(key, value)| table.get(&Key(*key)) == Some(value)));
}

/// Goal: L94 without a clock. Method: count the nodes that one change makes stale.
#[test]
fn one_changed_row_makes_one_page_and_the_branches_above_it_stale() {
    for rows in [1, 100, 10_000] {
        let mut table = table(0..rows);
        table.root();
        assert_eq!(tree_inside::stale(&table.tree).0, 0);
        table.update(&Key(rows / 2), |value| value.0.push(b'!'));
        table.pending.clear();
        table.rehash(&Key(rows / 2), &mut Scratch::default());
        let (stale, all) = tree_inside::stale(&table.tree);
        let deepest = tree_inside::depth(&table.tree);
        assert!((1..=deepest + 1).contains(&stale), "{stale} of {all} in {rows} rows");
        assert!(deepest <= 16, "{deepest} deep with {rows} rows");
    }
}

#[test]
fn a_value_that_is_set_back_brings_the_root_back() {
    let mut table = table(0..100);
    let before = table.root();
    table.update(&Key(7), |value| *value = text(8));
    assert_ne!(table.root(), before);
    table.insert(Key(7), text(7));
    assert_eq!(table.current_root(), before);
    assert_eq!(table.root(), before);
}

#[test]
fn what_is_not_there_cannot_be_changed_or_removed() {
    let mut table = table([1, 3]);
    let before = table.root();
    assert!(!table.update(&Key(2), |value| value.0.clear()));
    assert_eq!(table.remove(&Key(2)), None);
    assert_eq!(table.get(&Key(2)), None);
    assert!(!table.contains(&Key(2)));
    assert!(table.pending.is_empty());
    assert_eq!(table.root(), before);
}

/// Goal: L41. Method: after a clone, look at which values are at the same place in memory.
#[test]
fn a_clone_stays_as_it_is_and_shares_all_that_does_not_change() {
    let mut table = table(0..10_000);
    let before = table.root();
    let mut clone = table.clone();
    assert!(ptr::eq(table.get(&Key(5)).unwrap(), clone.get(&Key(5)).unwrap()));
    assert!(table.rows.shares_all_with(&clone.rows));
    table.update(&Key(5), |value| value.0.clear());
    table.remove(&Key(6));
    table.insert(Key(10_000), text(0));
    table.root();
    assert_eq!(clone.get(&Key(5)), Some(&text(5)));
    assert_eq!(clone.len(), 10_000);
    assert_eq!(clone.root(), before);
    let same = |key: &u32| ptr::eq(table.get(&Key(*key)).unwrap(), clone.get(&Key(*key)).unwrap());
    let shared = (0..10_000).filter(|key| *key != 6).filter(same).count();
    assert_eq!(shared, 9_998, "all but the changed and the removed one");
}

#[test]
fn a_value_that_nobody_shares_is_changed_where_it_is() {
    let mut table = table(0..100);
    let before: *const Text = table.get(&Key(5)).unwrap();
    table.update(&Key(5), |value| value.0.clear());
    assert!(ptr::eq(before, table.get(&Key(5)).unwrap()));
}

#[test]
fn changes_that_nobody_asks_the_root_of_do_not_pile_up() {
    let mut busy = table(0..5000);
    (0..10_000_u32).for_each(|key| {
        busy.insert(Key(100_000 + key), text(key));
        busy.remove(&Key(100_000 + key));
        assert!(busy.pending.len() <= PENDING_MAX);
    });
    assert_eq!(busy.root(), table(0..5000).root());
}

#[test]
fn pages_are_ranges_from_both_ends_and_their_length_is_known() {
    let table = table((0..1000).map(|key| key * 2));
    let keys = |rows: Iter<'_, Key, Text>| rows.map(|(key, _)| key.0).collect::<Vec<_>>();
    let page = table.range(Key(11)..);
    assert_eq!(page.len(), 994);
    assert_eq!(keys(page)[..3], [12, 14, 16]);
    assert_eq!(keys(table.range(Key(12)..=Key(16))), [12, 14, 16]);
    let after = (Bound::Excluded(Key(12)), Bound::Excluded(Key(18)));
    assert_eq!(keys(table.range(after)), [14, 16]);
    assert_eq!(keys(table.range(..Key(3))), [0, 2]);
    assert_eq!(keys(table.range(Key(30)..Key(20))), [0_u32; 0]);
    assert_eq!(keys(table.range(Key(5000)..)), [0_u32; 0]);
    let mut both = table.range(Key(500)..Key(508));
    let ends = [both.next(), both.next_back(), both.next_back(), both.next(), both.next()];
    let ends = ends.map(|row| row.map(|(key, _)| key.0));
    assert_eq!(ends, [Some(500), Some(506), Some(504), Some(502), None]);
    assert_eq!(both.next_back(), None);
    assert_eq!(table.first().map(|(key, _)| key.0), Some(0));
    assert_eq!(table.last().map(|(key, _)| key.0), Some(1998));
    assert_eq!(Texts::new().last(), None);
}

#[test]
fn loaded_rows_come_in_order_and_are_keys_and_values() {
    let (one, two) = (Key(1).to_bytes(), Key(256).to_bytes());
    let value = text(1).to_bytes();
    let (mut loaded, mut tree) = (Texts::new(), HashTree::new());
    for key in [&one, &two] {
        assert_eq!(loaded.load(key, &value), Ok(()));
        tree.put(key, &value);
    }
    assert!(loaded.load(&two, &value).is_err(), "twice");
    assert!(loaded.load(&Key(255).to_bytes(), &value).is_err(), "out of order");
    assert!(loaded.load(&Key(257).to_bytes(), &value[1..]).is_err(), "no value");
    assert!(loaded.load(&Key(257).to_bytes()[1..], &value).is_err(), "no key");
    assert_eq!(loaded.len(), 2);
    loaded.seal(tree);
    let mut inserted = Texts::new();
    assert_eq!(inserted.put(&two, &value), Ok(()));
    assert_eq!(inserted.put(&one, &value), Ok(()));
    assert!(inserted.put(&one, &value).is_err(), "twice");
    assert_eq!(inserted.root(), loaded.root());
    assert_eq!(inserted, loaded);
}

#[test]
#[should_panic(expected = "the tree is of the rows that were loaded")]
fn a_tree_of_other_rows_is_wrong_code() {
    table([1, 2]).seal(HashTree::new());
}

#[test]
fn frozen_rows_are_taken_until_there_is_enough() {
    let mut frozen = table([1, 2, 3]).freeze();
    let copy = frozen.clone();
    let mut out = Vec::new();
    frozen.take(&mut out, 1);
    let one = [4, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, b'r', b'o', b'w', b' ', b'1'];
    assert_eq!((&out[..], frozen.rows()), (&one[..], 2));
    frozen.take(&mut out, one.len());
    assert_eq!(frozen.rows(), 2, "there was enough");
    frozen.take(&mut out, one.len() + 1);
    assert_eq!(frozen.rows(), 1);
    frozen.take(&mut out, usize::MAX);
    frozen.take(&mut out, usize::MAX);
    assert_eq!((out.len(), frozen.rows()), (3 * one.len(), 0));
    assert_eq!(copy.rows(), 3, "the copy has all");
}

/// Goal: L41. Method: take rows by the hundred; the table and another frozen one lose nothing, and
/// a value that only the frozen rows still have is freed as soon as it was taken.
#[test]
fn rows_that_were_taken_are_let_go() {
    let mut texts = table(0..5000);
    let mut frozen = texts.freeze();
    let old = texts.rows.get_shared(&Key(10)).expect("it is there");
    texts.update(&Key(10), |value| value.0.clear());
    assert_eq!(Arc::strong_count(&old), 2, "here, and in the frozen rows");
    let (mut bytes, mut taken) = (Vec::new(), 0);
    while frozen.rows() > 0 {
        frozen.take(&mut bytes, (taken + 1) * 2000);
        taken += 1;
        assert_eq!(Arc::strong_count(&old), 1, "let go");
    }
    assert!(taken > 50);
    let mut all = Vec::new();
    table(0..5000).freeze().take(&mut all, usize::MAX);
    assert!(bytes == all);
    assert_eq!(texts.len(), 5000);
    rows_inside::check(&texts.rows, allocation);
}

/// Goal: L41 for the root itself. Method: settle step by step, and count.
#[test]
fn the_root_can_be_worked_out_in_slices() {
    let mut sliced = table(0..700);
    let mut slices = 0;
    while sliced.settle(10) == 0 {
        slices += 1;
    }
    let (stale, nodes) = tree_inside::stale(&sliced.tree);
    assert_eq!(stale, 0);
    let work = 700 + nodes;
    assert!((work / 10..=work / 10 + 1).contains(&slices), "{slices} slices for {work} steps");
    assert_eq!(sliced.root(), table(0..700).root());
    assert_eq!(sliced.settle(10), 10, "nothing to do");
    let changing = |table: &mut Texts, step: u32| {
        table.insert(Key(step), text(step + 1));
        table.settle(3);
    };
    (0..700).for_each(|step| changing(&mut sliced, step));
    let mut whole = Texts::new();
    (0..700).for_each(|key| assert!(whole.insert(Key(key), text(key + 1)).is_none()));
    assert_eq!(sliced.root(), whole.root());
}

/// Bytes that a usual allocator needs for `size` of them: 8 beside, in steps of 16.
fn allocation(size: usize) -> usize {
    match size {
        0 => 0,
        _ => (size + 8).next_multiple_of(16).max(32),
    }
}

/// Goal: the bound in the header of `table.rs`, which K451 needs.
/// Method: walk both trees and count allocations, for keys that come in order and in disorder.
#[test]
fn k451_a_row_costs_at_most_144_bytes_beside_its_key_and_value() {
    for rows in [1_000_u32, 7_000, 10_000, 14_000, 20_000] {
        for spread in [1, 2_654_435_761_u32] {
            let mut table = Table::<Key, [u64; 4]>::new();
            (0..rows).for_each(|row| {
                table.insert(Key(row.wrapping_mul(spread)), [1; 4]);
            });
            table.root();
            let in_rows = rows_inside::check(&table.rows, allocation);
            let in_tree = tree_inside::check(&table.tree, allocation);
            let all = (in_rows + in_tree) / rows as usize;
            assert!((64..=144).contains(&all), "{all} bytes with {rows} rows × {spread}");
        }
    }
}
