//! Keys, sessions and allowlists: what is taken, and what is refused and why.

use super::{
    Allowed, AllowlistInvalid, Identity, KeyFileInvalid, SessionError, StaticKey, has_small_order,
    next_session, session_slot,
};
use crate::cluster::ids::{Incarnation, Instance, NodeId, Session};
use crate::node::io::StopReason;
use crate::time::Instant;

const A_PUBLIC: &str = "c306fb0ef2bf8b7f93bad98155fa37daec74db0c4cbeda6c6f1dba9d36558252";
const B_PUBLIC: &str = "db48257e1237976a74ad8cfedca00213408fe89ac6251f1b930245f242b5c31a";
/// The base point of Ed25519: a legal rotation key.
const ED_KEY: &str = "5866666666666666666666666666666666666666666666666666666666666666";

fn a() -> StaticKey {
    StaticKey::from_secret([0xA1; 32])
}

fn hex(text: &str) -> [u8; 32] {
    super::key::hex32(text.as_bytes()).unwrap()
}

#[test]
fn keys_and_ids_are_those_of_the_examples() {
    assert_eq!(a().public(), hex(A_PUBLIC));
    assert_eq!(a().node().to_string(), "521f8f5d132ea5fb81be5786a868d693");
    let b = StaticKey::from_secret([0xB2; 32]);
    assert_eq!(b.public(), hex(B_PUBLIC));
    assert_eq!(b.node().to_string(), "cb28f22877eb7dca05d55c8ceb9d398e");
}

#[test]
fn a_key_file_is_64_digits_and_a_newline() {
    let file = a().to_file();
    assert_eq!(*file, format!("{}\n", "a1".repeat(32)));
    assert_eq!(StaticKey::parse(file.as_bytes()), Ok(a()));
    assert_eq!(StaticKey::parse(file.to_uppercase().as_bytes()), Ok(a()));
    let why = |file: &str| StaticKey::parse(file.as_bytes()).unwrap_err().0;
    assert_eq!(why(""), "it is empty");
    assert_eq!(why(&"a1".repeat(32)), "the newline at the end is missing");
    assert_eq!(why("a1\n"), "it has fewer than 64 digits");
    assert_eq!(why(&format!(" {}", *file)), "it has more than 64 digits and a newline");
    assert_eq!(why(&file.replacen('a', "g", 1)), "a digit is not hexadecimal");
    let shown = KeyFileInvalid(why("")).to_string();
    assert_eq!(shown, "not a key file: it is empty");
}

#[test]
fn a_key_never_prints() {
    assert_eq!(format!("{:?}", a()), "…");
}

#[test]
fn every_point_of_small_order_is_found_and_no_other() {
    for small in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
    ] {
        assert!(has_small_order(&hex(small)), "{small}");
    }
    assert!(!has_small_order(&hex(A_PUBLIC)));
    let base = "0900000000000000000000000000000000000000000000000000000000000000";
    assert!(!has_small_order(&hex(base)));
}

#[test]
fn sessions_are_written_to_two_slots_in_turn() {
    let node = a().node();
    assert_eq!(session_slot(Session(7), node).0, 16);
    assert_eq!(session_slot(Session(8), node).0, 0);
    let golden = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../scenarios/golden/session_slot.json"
    ));
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    let (_, slot) = session_slot(Session(7), node);
    let slot: String = slot.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(golden["cases"][0]["hex"], slot);
}

/// Returns a session file in which these sessions were written, in that order.
fn file(node: NodeId, sessions: &[u32]) -> Vec<u8> {
    let mut file = Vec::new();
    for session in sessions {
        let (offset, slot) = session_slot(Session(*session), node);
        let start = usize::try_from(offset).unwrap();
        file.resize(file.len().max(start + 16), 0);
        file[start..start + 16].copy_from_slice(&slot);
    }
    file
}

#[test]
fn a_start_takes_the_session_above_the_highest_written() {
    let node = a().node();
    assert_eq!(next_session(None, node), Ok(Session(1)));
    assert_eq!(next_session(Some(&file(node, &[1])), node), Ok(Session(2)));
    assert_eq!(next_session(Some(&file(node, &[1, 2])), node), Ok(Session(3)));
    assert_eq!(next_session(Some(&file(node, &[8, 5])), node), Ok(Session(9)));
    let last = file(node, &[Session::MAX.0]);
    assert_eq!(next_session(Some(&last), node), Err(SessionError::Exhausted));
}

#[test]
fn a_session_file_without_a_slot_of_this_node_is_corrupt() {
    let node = a().node();
    let other = StaticKey::from_secret([0xB2; 32]).node();
    let corrupt =
        |file: &[u8]| assert_eq!(next_session(Some(file), node), Err(SessionError::Corrupt));
    corrupt(&[]);
    corrupt(&[0; 32]);
    corrupt(&file(other, &[1, 2]));
    corrupt(&file(node, &[2])[..15]);
    let (_, slot) = session_slot(Session(7), node);
    corrupt(&slot);
}

#[test]
fn an_allowlist_has_a_key_a_line_and_comments() {
    let text = format!("# ours\n\n{A_PUBLIC}\r\n\t{B_PUBLIC}  rotate={ED_KEY} # later\n");
    let expected = Allowed::only([hex(A_PUBLIC), hex(B_PUBLIC)]);
    assert_eq!(Allowed::parse(text.as_bytes()), Ok(expected));
    assert_eq!(Allowed::parse(b""), Ok(Allowed::only([])));
}

#[test]
fn one_wrong_line_makes_the_whole_allowlist_invalid() {
    let invalid = |line, text: &str| {
        let AllowlistInvalid { line: at, why } = Allowed::parse(text.as_bytes()).unwrap_err();
        assert_eq!(at, line, "{why}");
        why
    };
    let short = "a key is 64 hexadecimal digits";
    assert_eq!(invalid(2, &format!("{A_PUBLIC}\nany\n")), short);
    assert_eq!(invalid(1, &A_PUBLIC[..63]), short);
    let twice = format!("{A_PUBLIC}\n#\n{}", A_PUBLIC.to_uppercase());
    assert_eq!(invalid(3, &twice), "this key stands above already");
    assert!(invalid(1, &"0".repeat(64)).contains("small order"));
    assert!(invalid(1, &format!("{A_PUBLIC} {B_PUBLIC}")).contains("`rotate=`"));
    assert!(invalid(1, &format!("{A_PUBLIC} rotate=12")).contains("rotation key"));
    let small = format!("{A_PUBLIC} rotate=01{}", "0".repeat(62));
    assert!(invalid(1, &small).contains("small order"));
    let off_curve = format!("{A_PUBLIC} rotate=02{}", "0".repeat(62));
    assert!(invalid(1, &off_curve).contains("no point"));
    let more = format!("{A_PUBLIC} rotate={ED_KEY} x");
    assert!(invalid(1, &more).contains("nothing but a comment"));
}

#[test]
fn keys_that_are_gone_are_revoked() {
    let both = Allowed::only([hex(A_PUBLIC), hex(B_PUBLIC)]);
    let one = Allowed::only([hex(B_PUBLIC)]);
    assert_eq!(one.revoked_since(&both), [a().node()].into());
    assert!(both.revoked_since(&one).is_empty());
    assert!(Allowed::Any.revoked_since(&both).is_empty());
}

#[test]
fn a_refutation_goes_above_what_was_heard_until_incarnations_end() {
    let above = |own, heard| Incarnation(own).above(Incarnation(heard));
    assert_eq!(above(0, 0), Some(Incarnation(1)));
    assert_eq!(above(2, 5), Some(Incarnation(6)));
    assert_eq!(above(5, 2), Some(Incarnation(6)));
    assert_eq!(above(0, Incarnation::MAX.0 - 1), Some(Incarnation::MAX));
    assert_eq!(above(0, Incarnation::MAX.0), None);
    assert_eq!(above(Incarnation::MAX.0, 0), None);
}

fn identity(session: u32) -> Identity {
    Identity::new(a().node(), Session(session), Instance(1))
}

fn minutes(count: u64) -> Instant {
    Instant::from_millis(count * 60_000)
}

#[test]
fn a_node_that_is_behind_burns_the_session_above_the_highest_known() {
    let mut node = identity(1);
    assert_eq!(node.behind(minutes(0), Session(7)), Ok(Some(Session(8))));
    assert_eq!(node.session(), Session(8));
    assert_eq!(node.behind(minutes(0), Session(7)), Ok(None));
    assert_eq!(node.session(), Session(8));
    assert_eq!(node.behind(minutes(0), Session(8)), Ok(Some(Session(9))));
}

#[test]
fn a_jump_over_2_to_the_20_means_that_the_key_is_in_use() {
    let far = 1 + Identity::JUMP_MAX;
    let mut node = identity(1);
    assert_eq!(node.behind(minutes(0), Session(far)), Err(StopReason::KeyInUse));
    assert_eq!(node, identity(1));
    assert_eq!(node.behind(minutes(0), Session(far - 1)), Err(StopReason::KeyInUse));
    assert_eq!(node.behind(minutes(0), Session(far - 2)), Ok(Some(Session(far - 1))));
}

/// C7: a crash may tear the write of a burnt session; the slot of the present one must stay whole.
#[test]
fn a_burnt_session_never_takes_the_slot_of_the_present_one() {
    for above in 1..20 {
        let mut node = identity(1);
        let burnt = node.behind(minutes(0), Session(above)).unwrap().unwrap();
        assert!(burnt > Session(above) && burnt.0 <= above + 2);
        let slot = |session| session_slot(session, node.node()).0;
        assert_ne!(slot(burnt), slot(Session(1)), "{above} is known");
    }
}

#[test]
fn a_fourth_jump_within_ten_minutes_means_that_the_key_is_in_use() {
    let mut node = identity(1);
    for minute in 0..3 {
        let session = node.session();
        assert!(node.behind(minutes(minute), session).is_ok());
    }
    let mut late = node.clone();
    let just_before = Instant::from_nanos(minutes(10).as_nanos() - 1);
    assert_eq!(node.behind(just_before, Session(4)), Err(StopReason::KeyInUse));
    assert_eq!(late.behind(minutes(10), Session(4)), Ok(Some(Session(5))));
    assert_eq!(late.behind(minutes(10), Session(5)), Err(StopReason::KeyInUse));
}

#[test]
fn a_node_stops_when_its_sessions_are_used_up() {
    let mut node = identity(Session::MAX.0);
    let stopped = Err(StopReason::SessionsExhausted);
    assert_eq!(node.behind(minutes(0), Session::MAX), stopped);
    assert_eq!(node.renew(), Err(StopReason::SessionsExhausted));
    let mut node = identity(Session::MAX.0 - 1);
    assert_eq!(node.renew(), Ok(Session::MAX));
}
