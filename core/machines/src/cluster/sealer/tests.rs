//! Goal: what was not sealed by the peer, or was opened before, changes nothing (C36).

use super::*;
use crate::cluster::ids::NodeId;
use crate::digest::Digest;

fn pair(suite: Suite) -> (Sealer, Sealer) {
    let (ab, ba) = (Key::new([1; 32]), Key::new([2; 32]));
    (Sealer::new(suite, 0, ab.clone(), ba.clone()), Sealer::new(suite, 0, ba, ab))
}

fn datagram(sealer: &mut Sealer, text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; DatagramHeader::LEN];
    bytes.extend_from_slice(text);
    sealer.seal_datagram(9, &mut bytes);
    bytes
}

fn open(sealer: &mut Sealer, bytes: &[u8]) -> Result<Vec<u8>, NotOpened> {
    let (header, _) = DatagramHeader::split(bytes).unwrap();
    let mut bytes = bytes.to_vec();
    sealer.open_datagram(header, &mut bytes).map(<[u8]>::to_vec)
}

#[test]
fn records_open_in_order_and_only_there() {
    for suite in [Suite::Noise, Suite::Null] {
        let (mut a, mut b) = pair(suite);
        let mut seal = |text: &[u8]| {
            let mut out = vec![0; 2];
            out.extend_from_slice(text);
            a.seal_record(&mut out, 0);
            out
        };
        let (mut first, mut second) = (seal(b"the first one"), seal(b"the second one"));
        assert_eq!(usize::from(first[0]) + 2, first.len());
        let before = Digest::of(&b);
        assert_eq!(b.open_record(&mut second.clone()[2..]), Err(BadTag));
        assert_eq!(Digest::of(&b), before, "a bad tag advances no counter");
        assert_eq!(b.open_record(&mut first[2..]).unwrap(), b"the first one");
        assert_eq!(b.open_record(&mut second[2..]).unwrap(), b"the second one");
        assert_eq!(b.open_record(&mut [0; 5]), Err(BadTag));
    }
}

/// C36, C132: replayed, old and forged datagrams leave the sealer as it was.
#[test]
fn what_does_not_open_moves_no_window() {
    for suite in [Suite::Noise, Suite::Null] {
        let (mut a, mut b) = pair(suite);
        let sent: Vec<_> = (0..1_100).map(|_| datagram(&mut a, b"ping pong")).collect();
        assert_eq!(open(&mut b, &sent[50]).unwrap(), b"ping pong");
        let before = Digest::of(&b);
        assert_eq!(open(&mut b, &sent[50]), Err(NotOpened::Replay));
        for byte in [8, 15, 16, sent[60].len() - 1] {
            let mut forged = sent[60].clone();
            forged[byte] ^= 0x40;
            assert_eq!(open(&mut b, &forged), Err(NotOpened::BadTag));
        }
        assert_eq!(Digest::of(&b), before);
        assert!(open(&mut b, &sent[1_099]).is_ok());
        assert_eq!(open(&mut b, &sent[75]), Err(NotOpened::Old));
        assert!(open(&mut b, &sent[76]).is_ok(), "the oldest of 1,024");
        assert_eq!(open(&mut b, &sent[76]), Err(NotOpened::Replay));
    }
}

/// C33: the two lanes never share a nonce, so a record cannot be sent as a datagram.
#[test]
fn a_record_does_not_open_as_a_datagram() {
    let (mut a, mut b) = pair(Suite::Noise);
    let mut out = vec![0; 2];
    out.extend_from_slice(b"a record");
    a.seal_record(&mut out, 0);
    let header = DatagramHeader { link_index: 9, counter: 0 };
    let mut forged = header.to_array().to_vec();
    forged.extend_from_slice(&out[2..]);
    forged.resize(forged.len().max(36), 0);
    assert_eq!(open(&mut b, &forged), Err(NotOpened::BadTag));
}

#[test]
fn a_key_prints_as_a_dot_and_the_null_tag_depends_on_everything() {
    let (key, other) = (Key::new([1; 32]), Key::new([2; 32]));
    assert_eq!(format!("{key:?}"), "…");
    let tag = |key: &Key, nonce, text: &mut [u8]| Suite::Null.seal(key, nonce, text);
    let base = tag(&key, 0, &mut [1, 2, 3]);
    assert_ne!(base, tag(&other, 0, &mut [1, 2, 3]));
    assert_ne!(base, tag(&key, 1, &mut [1, 2, 3]));
    assert_ne!(base, tag(&key, 0, &mut [1, 2]));
    assert_ne!(base, tag(&key, 0, &mut [1, 2, 3, 0]));
    assert_ne!(NodeId::of_key(key.expose()), NodeId::of_key(other.expose()));
}
