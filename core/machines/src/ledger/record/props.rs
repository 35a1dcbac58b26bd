//! Properties of records: one encoding, and decoders that take any bytes.

use proptest::prelude::*;

use super::*;
use crate::ledger::segment::{File, Header};

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(
        (number, synced) in (1..NUMBER_END).prop_flat_map(|n| (Just(n), 0..n)),
        time_ms: u64,
        chain: Chain,
        body in prop::collection::vec(any::<u8>(), 1..200),
        before in prop::collection::vec(any::<u8>(), 0..20),
        after in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let count = 1 + u32::try_from(body.len() / 3).unwrap();
        let fields = Fields { kind: Kind::Events, number, time_ms, synced, count };
        let mut bytes = before.clone();
        let hash = encode(&fields, &body, &chain, &mut bytes);
        prop_assert_eq!(bytes.len(), before.len() + encoded_len(body.len()));
        bytes.extend_from_slice(&after);
        let frame = Frame::parse(&bytes[before.len()..]).unwrap();
        prop_assert_eq!(frame.fields, fields);
        prop_assert!(frame.follows(&chain));
        prop_assert_eq!(frame.stored(), hash);
        prop_assert!(frame.body().starts_with(&body));
        prop_assert!(frame.body()[body.len()..].iter().all(|byte| *byte == 0));
        prop_assert_eq!(frame.bytes().len() + before.len() + after.len(), bytes.len());
    }

    /// Whatever the bytes, decoders answer, and what they take has one encoding.
    #[test]
    fn decoders_take_any_bytes(
        length in prop_oneof![Just(72_u32), Just(80), any::<u32>()],
        kind in 0..4_u8,
        rest in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..200),
    ) {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(&rest);
        let _ = Header::parse(&bytes);
        let _ = File::parse(&String::from_utf8_lossy(&bytes));
        if let Ok(frame) = Frame::parse(&bytes) {
            let mut again = Vec::new();
            let hash = encode(&frame.fields, frame.body(), &[3; 32], &mut again);
            prop_assert_eq!(&again[..again.len() - 32], &frame.bytes()[..again.len() - 32]);
            prop_assert_eq!(frame.computed(&[3; 32]), hash);
        }
    }
}
