//! Properties of tables: whatever is done to them, they are ordered maps with a root of their own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::rows::inside as rows_inside;
use super::tree::inside as tree_inside;
use super::*;
use crate::ledger::fold::demo::{Key, Text};

type Texts = Table<Key, Text>;
type Model = BTreeMap<Key, Text>;

#[derive(Clone, Debug)]
enum Step {
    Insert {
        key: u32,
        value: u8,
    },
    Remove {
        key: u32,
    },
    Update {
        key: u32,
        value: u8,
    },
    /// Many keys in a row, up or down, `stride` apart: nodes fill and split.
    InsertMany {
        from: u32,
        count: u32,
        stride: u32,
        up: bool,
    },
    /// Many keys in a row: nodes empty and are joined.
    RemoveMany {
        from: u32,
        count: u32,
        stride: u32,
    },
    /// The root is asked for, so that all is hashed up to here.
    Root,
    /// A copy is put aside, so that all is shared from here on.
    Keep,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..3000_u32;
    let stride = 1..4_u32;
    prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert { key, value }),
        4 => key.clone().prop_map(|key| Step::Remove { key }),
        4 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Update { key, value }),
        2 => (key.clone(), 0..1500_u32, stride.clone(), any::<bool>()).prop_map(
            |(from, count, stride, up)| Step::InsertMany { from, count, stride, up }
        ),
        2 => (key, 0..1500_u32, stride)
            .prop_map(|(from, count, stride)| Step::RemoveMany { from, count, stride }),
        2 => Just(Step::Root),
        1 => Just(Step::Keep),
    ]
}

fn insert(table: &mut Texts, model: &mut Model, key: u32, value: u8) {
    let (key, value) = (Key(key), Text(vec![value; usize::from(value % 7)]));
    let old = table.insert(key, value.clone());
    assert_eq!(old.as_deref(), model.insert(key, value).as_ref());
}

fn remove(table: &mut Texts, model: &mut Model, key: u32) {
    let old = table.remove(&Key(key));
    assert_eq!(old.as_deref(), model.remove(&Key(key)).as_ref());
}

/// Makes a step; whether it changed the content is seen in the model.
fn act(step: &Step, table: &mut Texts, model: &mut Model, kept: &mut Vec<(Texts, Model)>) {
    match *step {
        Step::Insert { key, value } => insert(table, model, key, value),
        Step::Remove { key } => remove(table, model, key),
        Step::Update { key, value } => {
            let found = table.update(&Key(key), |text| text.0.push(value));
            assert_eq!(found, model.contains_key(&Key(key)));
            model.entry(Key(key)).and_modify(|text| text.0.push(value));
        }
        Step::InsertMany { from, count, stride, up } => (0..count).for_each(|nth| {
            let nth = if up { nth } else { count - nth };
            insert(table, model, from + nth * stride, 1);
        }),
        Step::RemoveMany { from, count, stride } => {
            (0..count).for_each(|nth| remove(table, model, from + nth * stride));
        }
        Step::Root => {
            table.root();
        }
        Step::Keep => kept.push((table.clone(), model.clone())),
    }
}

/// Compares all that can be asked of a table.
fn check(table: &mut Texts, model: &Model) {
    assert_eq!(table.len() as usize, model.len());
    assert!(table.iter().eq(model.iter()));
    assert!(table.iter().rev().eq(model.iter().rev()));
    for edge in [0, 1, 777, 1500, 2999, 9000] {
        assert_eq!(table.get(&Key(edge)), model.get(&Key(edge)));
        let range = Key(edge)..Key(edge + 500);
        assert_eq!(table.range(range.clone()).len(), model.range(range.clone()).count());
        assert!(table.range(range.clone()).eq(model.range(range)));
        assert!(table.range(..=Key(edge)).rev().eq(model.range(..=Key(edge)).rev()));
    }
    let root = table.root();
    rows_inside::check(&table.rows, |size| size);
    tree_inside::check(&table.tree, |size| size);
    let mut scratch = Texts::new();
    model.iter().for_each(|(key, value)| assert!(scratch.insert(*key, value.clone()).is_none()));
    assert_eq!(scratch.root(), root, "L51: the root is that of the content");
    assert_eq!(*table, scratch);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// L51: whatever the history, with roots asked for and copies put aside in between, a table is
    /// the ordered map of its content, its root is the root of the content made from scratch, and
    /// the copies are what they were.
    #[test]
    fn a_table_is_its_content(steps in prop::collection::vec(step(), 0..40)) {
        let (mut table, mut model, mut kept) = (Texts::new(), Model::new(), Vec::new());
        for step in &steps {
            act(step, &mut table, &mut model, &mut kept);
        }
        check(&mut table, &model);
        for (mut table, model) in kept {
            check(&mut table, &model);
        }
    }

    /// L52: removed row by row, in any order, every table comes back to the empty root.
    #[test]
    fn removal_leads_back_to_empty(
        steps in prop::collection::vec(step(), 0..10),
        seed in any::<u64>(),
    ) {
        let (mut table, mut model, mut kept) = (Texts::new(), Model::new(), Vec::new());
        for step in &steps {
            act(step, &mut table, &mut model, &mut kept);
        }
        let mut keys: Vec<Key> = model.into_keys().collect();
        keys.sort_by_key(|key| crate::digest::mix(seed, u64::from(key.0) | 1 << 40));
        for (nth, key) in keys.iter().enumerate() {
            prop_assert!(table.remove(key).is_some());
            if nth.is_multiple_of(64) {
                table.root();
                rows_inside::check(&table.rows, |size| size);
                tree_inside::check(&table.tree, |size| size);
            }
        }
        prop_assert!(table.is_empty());
        prop_assert_eq!(table.root(), EMPTY);
        rows_inside::check(&table.rows, |size| size);
    }

    /// Two tables with different content have different roots, and with equal content equal ones.
    #[test]
    fn roots_tell_contents_apart(
        one in prop::collection::btree_map(0..40_u32, 0..3_u8, 0..30),
        two in prop::collection::btree_map(0..40_u32, 0..3_u8, 0..30),
    ) {
        let table = |rows: &BTreeMap<u32, u8>| {
            let mut table = Texts::new();
            for (key, value) in rows {
                table.insert(Key(*key), Text(vec![*value]));
            }
            table
        };
        let (mut left, mut right) = (table(&one), table(&two));
        prop_assert_eq!(left.root() == right.root(), one == two);
        prop_assert_eq!(left == right, one == two);
    }
}
