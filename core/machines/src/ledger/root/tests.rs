//! What a root covers, and that it never changes by itself.

use super::{StateRoot, part_root};

const A: [u8; 32] = [0xaa; 32];
const B: [u8; 32] = [0xbb; 32];

/// L50: format version, then tag and root of each part, in its domain.
#[test]
fn l50_the_state_root_of_known_parts_never_changes() {
    // Computed by another program from the definition in the header.
    let none = StateRoot::of_parts(&[]);
    assert_eq!(
        none.to_string(),
        "71e456e8e0fa8d1500b3a82a8924606a021fc398a62c94d48dfbc51b79277168"
    );
    let two = StateRoot::of_parts(&[(1, part_root(&[A, B])), (7, part_root(&[]))]);
    assert_eq!(two.to_string(), "9ae62fecffb9bd1af91cccadb85118187b4aecde141ad009a64902871893d0e0");
}

#[test]
fn l50_tag_order_and_number_of_tables_count() {
    let roots = [
        StateRoot::of_parts(&[(1, part_root(&[A, B]))]),
        StateRoot::of_parts(&[(1, part_root(&[B, A]))]),
        StateRoot::of_parts(&[(2, part_root(&[A, B]))]),
        StateRoot::of_parts(&[(1, part_root(&[A]))]),
        StateRoot::of_parts(&[(1, part_root(&[A])), (2, part_root(&[B]))]),
        StateRoot::of_parts(&[(1, part_root(&[]))]),
        StateRoot::of_parts(&[]),
    ];
    for (at, root) in roots.iter().enumerate() {
        assert!(!roots[..at].contains(root), "{at}");
    }
}

#[test]
#[should_panic(expected = "parts come in order of tag, each once")]
fn a_part_that_comes_twice_is_wrong_code() {
    let _ = StateRoot::of_parts(&[(1, A), (1, B)]);
}

#[test]
fn a_root_is_what_its_text_says_and_no_other_text_is_a_root() {
    let root = StateRoot::from_bytes(std::array::from_fn(|at| u8::try_from(at * 8).unwrap()));
    let text = root.to_string();
    assert_eq!(StateRoot::parse(&text), Some(root));
    assert_eq!(format!("{root:?}"), text[..8]);
    assert_eq!(StateRoot::parse(&text.to_uppercase()), None);
    assert_eq!(StateRoot::parse(&text[1..]), None);
    assert_eq!(StateRoot::parse(&format!("{text}0")), None);
    assert_eq!(StateRoot::parse(&text.replace('8', "é")), None);
}
