//! What decoders must refuse (C19), one wrong thing at a time.

use super::{
    AnyFrame, Body, ClearReject, Code, DATAGRAM_MAX, DatagramHeader, Entry, Fact, Frame,
    FrameHeader, FrameKind, HandshakeKind, Hello, MESSAGE_MAX, MemberRow, Message, Meta, NameEntry,
    Offer, Preface, Reject, State, SyncBody,
};
use crate::cluster::ids::{Addr, Incarnation, Instance, Life, NodeId, Session};
use crate::codec::{Malformed, Wire};

fn addr() -> Addr {
    Addr::new([10, 0, 0, 1].into(), 7400, 7401).unwrap()
}

fn life(session: u32, incarnation: u32) -> Life {
    Life { session: Session(session), incarnation: Incarnation(incarnation) }
}

fn alive(meta: &[u8]) -> Fact {
    Fact::Alive {
        node: NodeId::from_bytes([7; 16]),
        life: life(1, 0),
        addr: addr(),
        meta: Meta::new(meta).unwrap(),
    }
}

fn hello() -> Hello {
    Hello {
        life: life(1, 0),
        instance: Instance(5),
        seen: 0,
        ordinal: 1,
        link_index: 1,
        addr: addr(),
        version_max: 1,
    }
}

/// Returns the encoding of `value` with the bytes from `at` on replaced.
fn with<T: Wire>(value: &T, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut encoding = value.to_bytes();
    encoding[at..at + bytes.len()].copy_from_slice(bytes);
    encoding
}

fn offset<T: Wire + std::fmt::Debug>(bytes: &[u8]) -> u32 {
    T::from_bytes(bytes).unwrap_err().offset
}

/// C12: on the wire too.
#[test]
fn addresses_that_nobody_can_reach_are_malformed() {
    let mapped = |ip: [u8; 4]| [[0, 0, 0xFF, 0xFF], ip].concat();
    assert_eq!(offset::<Addr>(&with(&addr(), 8, &mapped([0, 0, 0, 0]))), 0);
    assert_eq!(offset::<Addr>(&with(&addr(), 8, &mapped([224, 0, 0, 1]))), 0);
    assert_eq!(offset::<Addr>(&with(&addr(), 0, &[0; 16])), 0);
    assert_eq!(offset::<Addr>(&with(&addr(), 0, &[0xFF])), 0);
    assert_eq!(offset::<Addr>(&with(&addr(), 16, &[0, 0])), 0);
    assert_eq!(offset::<Addr>(&with(&addr(), 18, &[0, 0])), 0);
}

#[test]
fn sessions_0_and_2_to_the_32_minus_1_do_not_exist() {
    assert!(Session::from_bytes(&[0; 4]).is_err());
    assert!(Session::from_bytes(&[0xFF; 4]).is_err());
    assert_eq!(Session::from_bytes(&[0xFE, 0xFF, 0xFF, 0xFF]), Ok(Session::MAX));
}

#[test]
fn a_preface_of_a_later_version_decodes_so_that_it_can_be_answered() {
    let preface = Preface {
        version: 1,
        cluster_tag: [1; 8],
        schema_hash: [2; 16],
        features: super::Features(0b11),
        required: super::Features(0b10),
    };
    let later = with(&with_version(&preface, 2), 32, &[0xFF; 4]);
    assert_eq!(Preface::from_bytes(&later).unwrap().version, 2);

    assert_eq!(offset::<Preface>(&with(&preface, 0, b"HTTP")), 0);
    assert_eq!(offset::<Preface>(&with(&preface, 4, &[0, 0])), 4);
    assert_eq!(offset::<Preface>(&with(&preface, 7, &[1])), 6);
    assert_eq!(offset::<Preface>(&with(&preface, 32, &[0b1010])), 32);
    assert_eq!(offset::<Preface>(&with(&preface, 36, &[0b100])), 36);
}

fn with_version(preface: &Preface, version: u16) -> Preface {
    Preface { version, ..*preface }
}

#[test]
fn an_offer_has_an_ordered_range_of_versions_and_a_zero_tail() {
    let offer = Offer {
        version_min: 1,
        version_max: 2,
        features: super::Features(1),
        required: super::Features(0),
    };
    assert_eq!(Offer::from_bytes(&offer.to_bytes()), Ok(offer));
    assert_eq!(offset::<Offer>(&with(&offer, 0, &[0, 0])), 0);
    assert_eq!(offset::<Offer>(&with(&offer, 0, &[3, 0])), 2);
    assert_eq!(offset::<Offer>(&with(&offer, 15, &[1])), 12);
}

#[test]
fn a_hello_is_of_a_living_node_with_a_link_index() {
    assert_eq!(offset::<Hello>(&with(&hello(), 0, &[0; 4])), 0);
    assert_eq!(offset::<Hello>(&with(&hello(), 4, &[0xFF; 4])), 0);
    assert_eq!(offset::<Hello>(&with(&hello(), 28, &[0; 4])), 28);
    assert_eq!(offset::<Hello>(&with(&hello(), 52, &[0, 0])), 52);
    assert_eq!(offset::<Hello>(&with(&hello(), 54, &[0, 1])), 54);
}

#[test]
fn only_some_codes_are_told_in_clear() {
    let reject =
        ClearReject { code: Code::Draining, version_min: 1, version_max: 1, schema_hash: [0; 16] };
    let told =
        (0..=u8::MAX).filter(|code| ClearReject::from_bytes(&with(&reject, 0, &[*code])).is_ok());
    assert_eq!(told.collect::<Vec<_>>(), [2, 3, 4, 5, 16]);
}

#[test]
fn a_sealed_reject_carries_a_session_with_stale_session_only() {
    let bytes = |code: Code, detail: u32| Reject { code, detail }.to_bytes();
    assert!(Reject::from_bytes(&bytes(Code::StaleSession, 9)).is_ok());
    assert!(Reject::from_bytes(&bytes(Code::StaleSession, 0)).is_err());
    assert!(Reject::from_bytes(&bytes(Code::StaleSession, u32::MAX)).is_err());
    assert!(Reject::from_bytes(&bytes(Code::NotAllowed, 0)).is_ok());
    assert!(Reject::from_bytes(&bytes(Code::NotAllowed, 9)).is_err());
    assert!(Reject::from_bytes(&bytes(Code::NotAllowed, u32::MAX)).is_err());
}

#[test]
fn a_handshake_record_has_the_one_length_of_its_kind() {
    for kind in HandshakeKind::ALL {
        let header = kind.to_bytes();
        assert_eq!(HandshakeKind::from_bytes(&header), Ok(kind));
        assert_eq!(offset::<HandshakeKind>(&[header[0], header[1] ^ 1, header[2]]), 1);
    }
    assert_eq!(offset::<HandshakeKind>(&[4, 32, 0]), 0);
}

#[test]
fn numbers_stand_for_the_words_of_the_specification() {
    let kinds: Vec<u8> = (0..=u8::MAX).filter(|b| FrameKind::from_u8(*b).is_some()).collect();
    let expected = [(0x01..=0x09).collect::<Vec<u8>>(), vec![0x10, 0x12, 0x13, 0x14]];
    let rest = [vec![0x20, 0x21, 0x22, 0x23, 0x24], vec![0x30, 0x31]];
    assert_eq!(kinds, [expected.concat(), rest.concat()].concat());
    for kind in FrameKind::ALL {
        assert_eq!(FrameKind::from_u8(kind as u8), Some(kind));
    }
    let codes = (0..=u8::MAX).filter(|b| Code::from_u8(*b).is_some());
    assert_eq!(codes.collect::<Vec<_>>(), (1..=17).collect::<Vec<u8>>());
    let reasons = (0..=u8::MAX).filter(|b| super::CloseReason::from_u8(*b).is_some());
    let close: Vec<u8> = (1..=12).chain([14, 16]).collect();
    assert_eq!(reasons.collect::<Vec<_>>(), close);
    let bounces = (0..=u8::MAX).filter(|b| super::BounceCode::from_u8(*b).is_some());
    assert_eq!(bounces.collect::<Vec<_>>(), (1..=7).collect::<Vec<u8>>());
}

#[test]
fn a_frame_header_with_another_class_than_its_kinds_is_malformed() {
    let header = FrameHeader { kind: FrameKind::Confirm, first: true, last: true, total: 8 };
    assert_eq!(offset::<FrameHeader>(&with(&header, 0, &[0x40])), 0);
    for class in 1..=3 {
        assert_eq!(offset::<FrameHeader>(&with(&header, 1, &[3 | class << 2])), 1);
    }
    assert_eq!(offset::<FrameHeader>(&with(&header, 1, &[3 | 16])), 1);
    assert_eq!(offset::<FrameHeader>(&with(&header, 3, &[1])), 2);
}

/// C15, C113: `dg_malformed`.
#[test]
fn a_datagram_has_36_to_1200_bytes_type_1_and_bit_63() {
    let header = DatagramHeader { link_index: 3, counter: DatagramHeader::COUNTER_MAX };
    let datagram = |len: usize| {
        let mut bytes = header.to_bytes();
        bytes.resize(len, 0xAA);
        bytes
    };
    let (split, sealed) = DatagramHeader::split(&datagram(36))
        .map(|(header, sealed)| (header, sealed.len()))
        .unwrap();
    assert_eq!((split, sealed), (header, 20));
    assert!(DatagramHeader::split(&datagram(35)).is_err());
    assert!(DatagramHeader::split(&datagram(DATAGRAM_MAX)).is_ok());
    assert!(DatagramHeader::split(&datagram(DATAGRAM_MAX + 1)).is_err());
    assert_eq!(offset::<DatagramHeader>(&with(&header, 0, &[2])), 0);
    assert_eq!(offset::<DatagramHeader>(&with(&header, 3, &[1])), 1);
    assert_eq!(offset::<DatagramHeader>(&with(&header, 15, &[0x7F])), 8);
    assert_eq!(offset::<DatagramHeader>(&with(&header, 8, &[0xFF; 8])), 8);
}

/// C16, C19: the four bytes before every body.
#[test]
fn a_message_has_one_version_known_kinds_and_a_true_count() {
    let message = Message { body: Body::Gossip, entries: vec![Entry::Fact(alive(b"x"))] };
    assert_eq!(offset::<Message>(&with(&message, 0, &[2])), 0);
    assert_eq!(offset::<Message>(&with(&message, 1, &[6])), 1);
    assert_eq!(offset::<Message>(&with(&message, 3, &[1])), 3);
    assert!(Message::from_bytes(&with(&message, 2, &[0])).is_err());
    assert!(Message::from_bytes(&with(&message, 2, &[2])).is_err());
    assert_eq!(offset::<Message>(&with(&message, 2, &[255])), 1);
    let rotation = [&[1, 5, 1, 0, 7][..], &[0; 148]].concat();
    assert_eq!(offset::<Message>(&rotation), 4);
}

/// C16: 1,168 bytes at most.
#[test]
fn a_message_may_fill_a_datagram_and_not_more() {
    // 4 + 18 × 64 = 1,156 bytes, and 12 more are missing.
    let mut entries = vec![Entry::Fact(alive(&[9; 18])); 18];
    entries[0] = Entry::Fact(alive(&[9; 30]));
    let full = Message { body: Body::Gossip, entries: entries.clone() };
    assert_eq!(full.encoded_len(), MESSAGE_MAX);
    let bytes = full.to_bytes();
    assert_eq!(Message::from_bytes(&bytes), Ok(full));

    entries[1] = Entry::Fact(alive(&[9; 19]));
    let mut over = vec![1, 5, 18, 0];
    entries.iter().for_each(|entry| entry.encode(&mut over));
    assert_eq!(over.len(), MESSAGE_MAX + 1);
    assert!(Message::from_bytes(&over).is_err());
}

/// C8, C17: Left has no incarnation, all others have.
#[test]
fn only_left_has_the_incarnation_of_those_that_left() {
    let fact = alive(b"");
    assert_eq!(offset::<Fact>(&with(&fact, 21, &[0xFF; 4])), 17);
    let row = |state, age_ms, incarnation, addr| MemberRow {
        node: NodeId::from_bytes([7; 16]),
        life: life(1, incarnation),
        state,
        age_ms,
        addr,
        meta: Meta::EMPTY,
    };
    let legal = |row: MemberRow| MemberRow::from_bytes(&row.to_bytes()).is_ok();
    let left = Incarnation::LEFT.0;
    assert!(legal(row(State::Alive, 0, 0, Some(addr()))));
    assert!(!legal(row(State::Alive, 1, 0, Some(addr()))));
    assert!(!legal(row(State::Alive, 0, left, Some(addr()))));
    assert!(!legal(row(State::Suspect, 0, 0, None)));
    assert!(legal(row(State::Dead, 1, 0, None)));
    assert!(!legal(row(State::Dead, 1, left, None)));
    assert!(legal(row(State::Left, 1, left, None)));
    assert!(!legal(row(State::Left, 1, 0, Some(addr()))));
}

#[test]
fn metadata_beyond_64_bytes_is_malformed() {
    let fact = alive(&[1; 64]);
    let mut bytes = fact.to_bytes();
    assert_eq!(Fact::from_bytes(&bytes), Ok(fact));
    bytes[45] = 65;
    bytes.push(1);
    assert_eq!(offset::<Fact>(&bytes), 45);
}

/// C10, C17, C70, C72: an actor from 1.
#[test]
fn names_have_legal_bytes_an_actor_and_a_ttl_of_1_s_to_1_h() {
    let entry = NameEntry {
        name: super::Name::new("ab").unwrap(),
        owner: NodeId::from_bytes([7; 16]),
        session: Session(1),
        actor: Some(crate::cluster::ids::ActorId(1)),
        version: 1,
        serial: 1,
        ttl_ms: 1_000,
        age_ms: 0,
    };
    assert_eq!(offset::<NameEntry>(&with(&entry, 2, b" ")), 1);
    assert_eq!(offset::<NameEntry>(&with(&entry, 3, &[0x7F])), 1);
    assert_eq!(offset::<NameEntry>(&with(&entry, 24, &[0; 8])), 24);
    assert_eq!(offset::<NameEntry>(&with(&entry, 40, &999_u32.to_le_bytes())), 40);
    assert_eq!(offset::<NameEntry>(&with(&entry, 40, &3_600_001_u32.to_le_bytes())), 40);
    assert!(NameEntry::from_bytes(&with(&entry, 40, &3_600_000_u32.to_le_bytes())).is_ok());
    let empty = [&[6, 0][..], &[1; 36]].concat();
    assert_eq!(offset::<NameEntry>(&empty), 1);
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_refused_before_anything_is_allocated() {
    let claims = [u32::MAX, 1 << 27, 1];
    for claim in claims {
        assert_eq!(offset::<SyncBody>(&[&claim.to_le_bytes()[..], &[0; 8]].concat()), 0);
        let sync3 = AnyFrame::decode_body(FrameKind::Sync3, &claim.to_le_bytes());
        assert_eq!(sync3.map_err(|e: Malformed| e.offset), Err(0));
    }
}

#[test]
fn rotation_statements_are_unknown_in_version_1() {
    let bytes = [&[0; 8][..], &1_u32.to_le_bytes(), &[0; 148]].concat();
    assert_eq!(offset::<SyncBody>(&bytes), 8);
}

#[test]
fn a_frame_of_the_links_is_not_for_the_machines_above() {
    assert!(AnyFrame::decode_body(FrameKind::Keepalive, &[]).is_ok());
    assert!(Frame::decode_body(FrameKind::Keepalive, &[]).is_err());
    assert!(AnyFrame::decode_body(FrameKind::Keepalive, &[0]).is_err());
}

#[test]
fn a_message_without_entries_needs_no_memory_of_its_own() {
    let ping = Message { body: Body::Ping { seq: 42 }, entries: Vec::new() };
    let mut out = Vec::with_capacity(ping.encoded_len());
    let (buffer, room) = (out.as_ptr(), out.capacity());
    ping.encode(&mut out);
    assert_eq!((out.as_ptr(), out.capacity()), (buffer, room));
    assert_eq!(Message::from_bytes(&out).unwrap().entries.capacity(), 0);
}
