//! What goes into an outbox comes out of an assembly (C14, C37, C112).

use std::collections::VecDeque;

use proptest::prelude::*;

use super::assembly::Assembly;
use super::outbox::{Outbox, Queued};
use crate::cluster::ids::{ActorId, Session};
use crate::cluster::wire::{
    AnyFrame, Class, Control, FRAGMENT_MAX, Frame, FrameHeader, SyncBody, UserFrame,
};

fn user(number: u64, len: usize) -> AnyFrame {
    let byte = |i: usize| (i as u64 ^ number).to_le_bytes()[0];
    AnyFrame::Frame(Frame::User(UserFrame::Send {
        number,
        to: ActorId(1),
        from: ActorId(2),
        tag: 3,
        payload: (0..len).map(byte).collect(),
    }))
}

fn frame() -> impl Strategy<Value = (u8, usize)> {
    (0_u8..3, prop_oneof![0_usize..100, 16_300..16_400_usize, 30_000..80_000_usize])
}

fn make(class: u8, number: u64, len: usize) -> AnyFrame {
    match class {
        0 => AnyFrame::Control(Control::Keepalive),
        1 => AnyFrame::Frame(Frame::Sync1(SyncBody::default())),
        _ => user(number, len),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames of one class come out whole and in order, no record is longer than its bound, no
    /// frame of class 0 waits behind another class, and of class 2 at least one record in five.
    #[test]
    fn an_assembly_gives_back_what_an_outbox_was_given(
        steps in prop::collection::vec(prop_oneof![
            frame().prop_map(Some),
            Just(None),
            Just(None),
        ], 0..60),
    ) {
        let mut outbox = Outbox::default();
        let mut assembly = Assembly::default();
        let mut waiting: [VecDeque<AnyFrame>; 3] = Default::default();
        let (mut number, mut row) = (0, 0);
        let drained = steps.iter().copied().chain(std::iter::repeat_n(None, 400));
        for step in drained {
            if let Some((class, len)) = step {
                number += 1;
                let frame = make(class, number, len);
                outbox.push(Queued::new(&frame, Session(1)));
                waiting[usize::from(class)].push_back(frame);
                continue;
            }
            let mut plain = Vec::new();
            let len = outbox.next_len();
            let Some(taken) = outbox.take(&mut plain) else {
                prop_assert!(waiting.iter().all(VecDeque::is_empty));
                continue;
            };
            prop_assert_eq!(len, Some(plain.len()));
            prop_assert!(plain.len() <= FrameHeader::LEN + FRAGMENT_MAX);
            let class = taken.kind.class();
            prop_assert!(class == Class::Urgent || waiting[0].is_empty());
            row = match class {
                Class::User => 0,
                Class::Urgent => row,
                Class::Sync if waiting[2].is_empty() => row.min(4),
                Class::Sync => row + 1,
            };
            prop_assert!(row <= 5);
            if let Some(frame) = assembly.take(&plain, 16 << 20).unwrap() {
                let expected = waiting[class as usize].pop_front();
                prop_assert_eq!(Some(frame), expected);
            }
        }
        prop_assert!(outbox.is_empty());
        prop_assert_eq!(assembly.bytes(), 0);
    }

    /// Arbitrary plaintexts never panic, and never hold more than came (C117).
    #[test]
    fn an_assembly_holds_no_more_than_came(
        plains in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 8..200),
            (0_u8..4, 0_u32..70_000, prop::collection::vec(any::<u8>(), 0..200)).prop_map(
                |(flags, total, body)| {
                    let mut plain = vec![0x20, 8 | flags, 0, 0];
                    plain.extend_from_slice(&total.to_le_bytes());
                    plain.extend(body);
                    plain
                },
            ),
        ], 0..40),
    ) {
        let mut assembly = Assembly::default();
        let mut came = 0;
        for plain in plains {
            came += plain.len();
            let before = assembly.clone();
            if assembly.take(&plain, 65_536).is_err() {
                assembly = before;
            }
            prop_assert!(assembly.bytes() <= came.min(3 * 65_536));
        }
    }
}
