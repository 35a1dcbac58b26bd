//! Goal: no crash repeats a session, and no file of keys is understood in two ways.
//! Method: arbitrary starts with torn writes; arbitrary lists, written out and read back.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::{Allowed, Identity, StaticKey, has_small_order, next_session, session_slot};
use crate::cluster::ids::{Instance, NodeId, Session};
use crate::time::Instant;

proptest! {
    #[test]
    fn a_torn_write_neither_loses_nor_repeats_a_session(
        node in any::<[u8; 16]>(), torn in vec(0..=16_usize, 1..30),
    ) {
        let node = NodeId::from_bytes(node);
        // The first start created the file as a whole.
        let mut file = vec![0; 32];
        let (_, slot) = session_slot(Session::FIRST, node);
        file[16..].copy_from_slice(&slot);
        let mut used = Session::FIRST;
        for written in torn {
            let next = next_session(Some(&file), node);
            prop_assert_eq!(next, Ok(Session(used.0 + 1)));
            let next = Session(used.0 + 1);
            let (offset, slot) = session_slot(next, node);
            let start = usize::try_from(offset).unwrap();
            file[start..start + written].copy_from_slice(&slot[..written]);
            // What was torn off may be what stood there before.
            if file[start..start + 16] == slot {
                used = next;
            }
        }
    }

    #[test]
    fn arbitrary_bytes_in_a_session_file_never_pass_for_a_session(
        node in any::<[u8; 16]>(), file in vec(any::<u8>(), 0..40),
    ) {
        prop_assert!(next_session(Some(&file), NodeId::from_bytes(node)).is_err());
    }

    #[test]
    fn a_key_file_reads_back(secret in any::<[u8; 32]>()) {
        let key = StaticKey::from_secret(secret);
        prop_assert!(!has_small_order(&key.public()));
        prop_assert_eq!(StaticKey::parse(key.to_file().as_bytes()), Ok(key));
    }

    #[test]
    fn an_allowlist_reads_back(
        keys in btree_set(any::<[u8; 32]>(), 0..8), blank in vec(0..4_usize, 8),
    ) {
        let mut text = String::new();
        for (key, blank) in keys.iter().zip(blank) {
            text += ["", "\n", "# note\n", " \t\n"][blank];
            key.iter().for_each(|byte| text += &format!("{byte:02x}"));
            text += ["\n", " # note\n", "\t\n", "\r\n"][blank];
        }
        prop_assert_eq!(Allowed::parse(text.as_bytes()), Ok(Allowed::only(keys)));
    }

    #[test]
    fn a_session_only_ever_grows_and_passes_what_was_heard(
        steps in vec((0..20_u64, 0..12_u32), 1..40),
    ) {
        let mut node = Identity::new(NodeId::from_bytes([1; 16]), Session(5), Instance(0));
        let mut now = Instant::START;
        for (minutes, above) in steps {
            now = now.plus_nanos(minutes * 60_000_000_000);
            let (before, above) = (node.session(), Session(above + 1));
            match node.behind(now, above) {
                Ok(Some(session)) => {
                    prop_assert!(above >= before);
                    prop_assert!((1..=2).contains(&(session.0 - above.0)));
                    prop_assert_eq!((session.0 - before.0) % 2, 1, "into the other slot (C7)");
                    prop_assert_eq!(node.session(), session);
                }
                Ok(None) => prop_assert!(above < before && node.session() == before),
                Err(_) => prop_assert!(above >= before && node.session() == before),
            }
        }
    }
}
