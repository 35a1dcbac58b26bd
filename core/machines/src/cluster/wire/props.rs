//! Goal: every value has one encoding, and no bytes but that one decode to it (C19).
//! Method: arbitrary values go out and back; damaged encodings that still decode go back and out.

use proptest::prelude::*;

use super::strategies::{self as some, damage, damaged};
use super::{
    AnyFrame, ClearReject, DatagramHeader, Entry, FrameHeader, Hello, MemberRow, Message,
    NameDigest, NameEntry, Offer, Preface, SyncBody,
};
use crate::cluster::ids::{Addr, Ref};
use crate::codec::{Reader, Wire};

/// Says whether `value` comes back from its encoding, and from nothing shorter.
fn comes_back<T: Wire + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = value.to_bytes();
    assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(value));
    for cut in 0..bytes.len() {
        assert!(T::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

/// Says whether `bytes`, if they decode, are what they decode to.
fn are_the_encoding<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert_eq!(value.to_bytes(), bytes);
    }
}

/// Like [`are_the_encoding`], and what is left over is not looked at.
fn start_with_the_encoding<T: Wire>(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    if let Ok(value) = T::decode(&mut reader) {
        let taken = bytes.len() - reader.remaining();
        assert_eq!(value.to_bytes(), &bytes[..taken]);
    }
}

proptest! {
    #[test]
    fn small_values_come_back(
        addr in some::addr(), reference in some::reference(), name in some::name(),
    ) {
        comes_back(&addr);
        comes_back(&reference);
        comes_back(&name);
    }

    #[test]
    fn handshake_values_come_back(
        preface in some::preface(), offer in some::offer(), hello in some::hello(),
        reject in some::clear_reject(),
    ) {
        comes_back(&preface);
        comes_back(&offer);
        comes_back(&hello);
        comes_back(&reject);
        prop_assert_eq!(preface.to_bytes().len(), Preface::LEN);
        prop_assert_eq!(offer.to_bytes().len(), Offer::LEN);
        prop_assert_eq!(hello.to_bytes().len(), Hello::LEN);
        prop_assert_eq!(reject.to_bytes().len(), ClearReject::LEN);
    }

    #[test]
    fn headers_come_back(frame in some::frame_header(), datagram in some::datagram_header()) {
        comes_back(&frame);
        comes_back(&datagram);
    }

    #[test]
    fn messages_come_back_and_know_their_length(message in some::message()) {
        comes_back(&message);
        prop_assert_eq!(message.to_bytes().len(), message.encoded_len());
        for entry in &message.entries {
            prop_assert_eq!(entry.to_bytes().len(), entry.encoded_len());
        }
    }

    #[test]
    fn sync_parts_come_back_and_know_their_length(
        row in some::member_row(), digest in some::name_digest(), body in some::sync_body(),
    ) {
        comes_back(&row);
        comes_back(&digest);
        comes_back(&body);
        prop_assert_eq!(row.to_bytes().len(), row.encoded_len());
        prop_assert_eq!(digest.to_bytes().len(), NameDigest::LEN);
        prop_assert_eq!(body.to_bytes().len(), body.encoded_len());
    }

    #[test]
    fn frames_come_back(frame in some::any_frame()) {
        let mut body = Vec::new();
        frame.encode_body(&mut body);
        let decoded = AnyFrame::decode_body(frame.kind(), &body);
        prop_assert_eq!(decoded.as_ref(), Ok(&frame));
        if let AnyFrame::Frame(frame) = &frame {
            prop_assert_eq!(body.len(), frame.body_len());
        }
    }

    #[test]
    fn a_damaged_frame_decodes_to_what_it_says_or_not_at_all(
        frame in some::any_frame(), damage in damage(),
    ) {
        let mut body = Vec::new();
        frame.encode_body(&mut body);
        let body = damaged(body, &damage);
        if let Ok(other) = AnyFrame::decode_body(frame.kind(), &body) {
            let mut again = Vec::new();
            other.encode_body(&mut again);
            prop_assert_eq!(other.kind(), frame.kind());
            prop_assert_eq!(again, body);
        }
    }

    #[test]
    fn a_damaged_value_decodes_to_what_it_says_or_not_at_all(
        message in some::message(), sync in some::sync_body(), row in some::member_row(),
        entry in some::name_entry(), hello in some::hello(), preface in some::preface(),
        offer in some::offer(), reject in some::clear_reject(), damage in damage(),
    ) {
        are_the_encoding::<Message>(&damaged(message.to_bytes(), &damage));
        are_the_encoding::<SyncBody>(&damaged(sync.to_bytes(), &damage));
        are_the_encoding::<MemberRow>(&damaged(row.to_bytes(), &damage));
        are_the_encoding::<NameEntry>(&damaged(entry.to_bytes(), &damage));
        are_the_encoding::<Hello>(&damaged(hello.to_bytes(), &damage));
        are_the_encoding::<Preface>(&damaged(preface.to_bytes(), &damage));
        are_the_encoding::<Offer>(&damaged(offer.to_bytes(), &damage));
        are_the_encoding::<ClearReject>(&damaged(reject.to_bytes(), &damage));
    }

    #[test]
    fn any_bytes_are_the_encoding_of_what_they_decode_to(
        bytes in proptest::collection::vec(prop_oneof![0..8_u8, any::<u8>()], 0..120),
    ) {
        start_with_the_encoding::<Addr>(&bytes);
        start_with_the_encoding::<Ref>(&bytes);
        start_with_the_encoding::<FrameHeader>(&bytes);
        start_with_the_encoding::<DatagramHeader>(&bytes);
        start_with_the_encoding::<Entry>(&bytes);
        start_with_the_encoding::<Message>(&bytes);
        start_with_the_encoding::<MemberRow>(&bytes);
        start_with_the_encoding::<SyncBody>(&bytes);
        start_with_the_encoding::<Hello>(&bytes);
    }
}
