//! Goal: whoever may not link is refused with the right code at both ends, counted, and what the
//! dialler does next is what C23 says.

use std::net::IpAddr;
use std::sync::Arc;

use super::net::{Net, addr, key, params, send};
use super::{codes, downs, ups};
use crate::cluster::counters::{Counter, Labelled};
use crate::cluster::handshake::Terms;
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Addr, Conn, NodeId, Session};
use crate::cluster::links::io::{Input, Output};
use crate::cluster::links::peer::PEERS_MAX;
use crate::cluster::links::{Links, LinksParams};
use crate::cluster::sealer::Suite;
use crate::cluster::swim::io::{Lane, Seed};
use crate::cluster::wire::{ClearReject, CloseReason, Code, HandshakeKind};
use crate::codec::Wire;

fn mismatch(change: impl Fn(&mut LinksParams)) -> Net {
    Net::with(2, Suite::Noise, |node, params| {
        if node == 0 {
            change(params);
        }
    })
}

/// C23: told in clear; the dialler waits `backoff_long`.
#[test]
fn each_mismatch_is_refused_with_its_code_at_both_ends() {
    type Case = (Code, fn(&mut LinksParams));
    let cases: [Case; 4] = [
        (Code::WrongCluster, |p| p.cluster = "other".to_owned()),
        (Code::SchemaMismatch, |p| {
            p.schemas.insert(1, [9; 16]);
        }),
        (Code::FeatureMissing, |p| {
            p.config.features = 1;
            p.config.required = 1;
        }),
        (Code::VersionMismatch, |p| {
            p.config.version_min = 2;
            p.config.version_max = 3;
            p.schemas = [(2, [2; 16]), (3, [3; 16])].into();
        }),
    ];
    for (code, change) in cases {
        let mut net = mismatch(change);
        net.dial(0, 1);
        net.run_ms(50);
        assert_eq!(codes(&net.take(0)), [(code, false)]);
        assert_eq!(codes(&net.take(1)), [(code, true)]);
        for node in &net.nodes {
            let rejects = node.counters();
            assert_eq!(rejects.get_labelled(Labelled::HsReject, code as u8), 1);
        }
        net.frame(0, 1, send(1, vec![1]));
        net.run_ms(59_000);
        assert_eq!(codes(&net.take(0)), [], "backoff_long is 60 s");
        net.run_ms(2_000);
        assert_eq!(codes(&net.take(0)), [(code, false)]);
    }
}

/// C22: a peer that speaks less is spoken to in what both speak.
#[test]
fn the_greatest_common_version_is_found() {
    for dialler in [0, 1] {
        let mut net = mismatch(|params| {
            params.config.version_max = 2;
            params.schemas.insert(2, [2; 16]);
        });
        net.dial(dialler, 1 - dialler);
        net.run_ms(50);
        net.frame(dialler, 1 - dialler, send(1, vec![1]));
        net.run_ms(500);
        assert!(net.linked(0, 1), "{dialler} dialled");
        assert_eq!(net.nodes[0].link(net.id(1)).unwrap().version(), 1);
        assert_eq!(net.nodes[1].link(net.id(0)).unwrap().version(), 1);
    }
}

/// C22: a forged refusal in clear cannot talk two nodes down to a lower version.
#[test]
fn a_forged_clear_reject_is_noticed_as_a_downgrade() {
    let mut net = Net::with(2, Suite::Noise, |_, params| {
        params.config.version_max = 2;
        params.schemas.insert(2, [2; 16]);
    });
    net.dial(0, 1);
    net.run_ms(1);
    let forged = ClearReject {
        code: Code::VersionMismatch,
        version_min: 1,
        version_max: 1,
        schema_hash: [0; 16],
    };
    let mut bytes = Vec::new();
    HandshakeKind::Reject.put_record(&forged.to_bytes(), &mut bytes);
    let entropy = net.entropy();
    let conn = Conn(2);
    net.input(0, Input::Connected { conn, entropy });
    net.input(0, Input::Bytes { conn, bytes });
    assert_eq!(codes(&net.take(0)), [(Code::VersionMismatch, false)]);
    net.dial(0, 1);
    net.run_ms(50);
    assert_eq!(codes(&net.take(0)), [(Code::Downgraded, false)]);
    assert!(!net.linked(0, 1));
    net.dial(0, 1);
    net.run_ms(50);
    assert!(net.linked(0, 1));
    assert_eq!(net.nodes[0].link(net.id(1)).unwrap().version(), 2);
}

#[test]
fn a_stranger_is_refused_and_never_learns_who_dialled() {
    // The acceptor does not know the dialler: told under keys.
    let only = |node: usize| Arc::new(Allowed::only([key(node).public()]));
    let mut net = Net::with(2, Suite::Noise, |node, params| {
        if node == 1 {
            params.allowed = only(1);
        }
    });
    net.dial(0, 1);
    net.run_ms(50);
    let told = net.take(0);
    assert_eq!(codes(&told), [(Code::NotAllowed, false)]);
    assert!(told.contains(&Output::Rejected { peer: net.id(1), code: Code::NotAllowed }));
    assert_eq!(codes(&net.take(1)), [(Code::NotAllowed, true)]);
    // The dialler does not know the acceptor, whose address it has: no message 3.
    let mut net = Net::with(2, Suite::Noise, |node, params| {
        if node == 0 {
            params.allowed = only(0);
        }
    });
    let target = Seed { addr: addr(1), node: None };
    net.input(0, Input::DialSeed { seed: target });
    net.run_ms(50);
    assert_eq!(codes(&net.take(0)), [(Code::NotAllowed, false)]);
    assert_eq!(codes(&net.take(1)), []);
    let written = net.written.iter().find(|((node, _), _)| *node == 0).unwrap();
    assert_eq!(written.1.len(), 40 + 3 + 32, "preface and message 1 alone");
    // Known not to be allowed: not even dialled.
    net.dial(0, 1);
    let peer = Some(net.id(1));
    let code = Some(Code::NotAllowed);
    let seed = None;
    assert_eq!(net.take(0), [Output::Unreachable { peer, seed, code }]);
}

/// C27, C60: a peer that made room for others is still known by its session.
#[test]
fn a_forgotten_peer_cannot_come_back_in_an_old_session() {
    let mut net = Net::new(2, Suite::Null);
    let peer = net.id(1);
    net.input(0, Input::SessionKnown { peer, session: Session(9) });
    net.now = net.now + std::time::Duration::from_millis(1);
    for n in 0..u64::try_from(PEERS_MAX).unwrap() {
        let mut other = [0xee; 16];
        other[..8].copy_from_slice(&n.to_le_bytes());
        let other = NodeId::from_bytes(other);
        net.nodes[0].handle(net.now, Input::SessionKnown { peer: other, session: Session(1) });
    }
    assert!(!net.nodes[0].peers.contains_key(&peer), "it made room");
    net.dial(1, 0);
    net.run_ms(50);
    assert_eq!(codes(&net.take(0)), [(Code::StaleSession, true)]);
    assert!(net.take(1).contains(&Output::SessionBehind { above: Session(9) }));
}

#[test]
fn a_node_that_dials_itself_drops_that_address() {
    let mut net = Net::new(1, Suite::Noise);
    let target = Seed { addr: addr(0), node: None };
    net.input(0, Input::DialSeed { seed: target });
    net.run_ms(50);
    let told = net.take(0);
    assert_eq!(codes(&told)[0], (Code::SelfConnect, false));
    let dials = net.written.len();
    net.input(0, Input::DialSeed { seed: target });
    net.run_ms(50);
    assert_eq!(net.written.len(), dials, "not dialled again");
    assert!(net.take(0).contains(&Output::Unreachable {
        peer: None,
        seed: Some(target),
        code: Some(Code::SelfConnect)
    }));
    assert_eq!(net.nodes[0].sizes().conns, 0);
    // A refutation is no change of the configuration (C23); a reload is one.
    net.input(0, Input::SelfChanged { life: super::life(1), addr: addr(0) });
    net.input(0, Input::DialSeed { seed: target });
    net.run_ms(50);
    assert_eq!(net.written.len(), dials);
    net.input(0, Input::Reconfigured);
    net.input(0, Input::DialSeed { seed: target });
    net.run_ms(50);
    assert!(net.written.len() > dials, "it may be another's now");
}

/// C5, C110: nobody passes as another node.
#[test]
fn another_node_at_the_address_is_the_wrong_peer() {
    let mut net = Net::new(3, Suite::Noise);
    let peer = net.id(2);
    net.input(0, Input::Dial { peer, addr: addr(1) });
    net.run_ms(50);
    let told = net.take(0);
    assert_eq!(codes(&told), [(Code::WrongPeer, false)]);
    assert!(told.contains(&Output::Unreachable {
        peer: Some(peer),
        seed: None,
        code: Some(Code::WrongPeer)
    }));
    assert_eq!(net.nodes[0].up(), 0);
}

/// C24: a revoked key loses its live link at once, and gets no new one.
#[test]
fn a_revoked_key_loses_its_link_at_once() {
    let mut net = Net::new(3, Suite::Noise);
    net.dial(0, 1);
    net.dial(2, 0);
    net.run_ms(50);
    net.take(0);
    let rest = Arc::new(Allowed::only([key(0).public(), key(2).public()]));
    net.input(0, Input::Allowed(rest));
    assert_eq!(downs(&net.take(0)), [CloseReason::Revoked]);
    net.run_ms(50);
    assert!(net.linked(0, 2));
    assert_eq!(downs(&net.take(1)), [CloseReason::Revoked]);
    net.dial(1, 0);
    net.run_ms(50);
    assert_eq!(codes(&net.take(0)), [(Code::NotAllowed, true)]);
    assert_eq!(net.nodes[0].up(), 1);
}

/// C23, C32: who was refused waits for long, so the one that takes the key back has to dial.
#[test]
fn a_key_that_is_allowed_again_is_dialled_at_once() {
    let mut net = Net::new(2, Suite::Noise);
    net.dial(0, 1);
    net.run_ms(50);
    net.input(0, Input::Allowed(Arc::new(Allowed::only([key(0).public()]))));
    net.message(0, 1, Lane::Datagram, 1);
    net.run_ms(50);
    assert!(!net.linked(0, 1));
    net.input(0, Input::Allowed(Arc::new(Allowed::Any)));
    net.message(0, 1, Lane::Datagram, 2);
    net.run_ms(50);
    assert!(net.linked(0, 1), "and not after backoff_long, which is 60 s");
}

#[test]
fn a_key_revoked_while_its_dial_runs_never_comes_up() {
    let mut net = Net::new(2, Suite::Noise);
    net.hung.insert((0, 1));
    net.dial(0, 1);
    net.frame(0, 1, send(1, vec![1]));
    net.input(0, Input::Allowed(Arc::new(Allowed::only([]))));
    let told = net.take(0);
    assert_eq!(codes(&told), [(Code::Revoked, false)]);
    assert_eq!(net.nodes[0].sizes().conns, 0);
    assert_eq!(net.nodes[0].peers[&net.id(1)].queue_bytes(), 0);
}

#[test]
fn a_draining_node_refuses_in_clear() {
    let mut net = Net::new(2, Suite::Noise);
    net.input(1, Input::Drain);
    net.dial(0, 1);
    net.run_ms(50);
    assert_eq!(codes(&net.take(0)), [(Code::Draining, false)]);
    assert_eq!(codes(&net.take(1)), [(Code::Draining, true)]);
    // It may still dial: its leave must be told.
    net.dial(1, 0);
    net.run_ms(50);
    assert!(net.linked(0, 1));
}

fn accept(net: &mut Net, conn: u64, source: [u8; 4]) {
    let entropy = net.entropy();
    net.input(0, Input::Accepted { conn: Conn(conn), source: IpAddr::from(source), entropy });
}

/// C21, C111: the rate of one source, and of all: `hs_busy`.
#[test]
fn rates_hold_back_one_source_and_then_all() {
    let mut net = Net::with(1, Suite::Noise, |_, params| {
        params.config.half_open_max = 10_000;
        params.config.half_open_source_max = 10_000;
    });
    let mut conn = 1;
    for _ in 0..150 {
        accept(&mut net, conn, [1, 2, 3, 4]);
        conn += 2;
    }
    assert_eq!(net.nodes[0].counters().get(Counter::HsBusy), 50);
    for source in 0..=255 {
        for _ in 0..2 {
            accept(&mut net, conn, [9, 9, 9, source]);
            conn += 2;
        }
    }
    assert_eq!(net.nodes[0].counters().get(Counter::HsBusy), 50 + 112);
    net.run_ms(1_000);
    for _ in 0..60 {
        accept(&mut net, conn, [1, 2, 3, 4]);
        conn += 2;
    }
    assert_eq!(net.nodes[0].counters().get(Counter::HsBusy), 50 + 112 + 10);
}

/// C21: a source of many half-open connections loses its own oldest; a crowd's loses first.
#[test]
fn half_open_caps_drop_the_oldest_of_the_greatest_source() {
    let mut net = Net::with(1, Suite::Noise, |_, params| {
        params.config.half_open_max = 6;
        params.config.half_open_source_max = 4;
    });
    for conn in [1, 3, 5, 7, 9] {
        accept(&mut net, conn, [1, 1, 1, 1]);
    }
    let refused = |net: &mut Net| codes(&net.take(0)).len();
    assert_eq!(refused(&mut net), 1, "five of one source");
    accept(&mut net, 11, [2, 2, 2, 2]);
    accept(&mut net, 13, [3, 3, 3, 3]);
    assert_eq!(refused(&mut net), 0);
    accept(&mut net, 15, [4, 4, 4, 4]);
    assert_eq!(refused(&mut net), 1, "seven in all");
    assert_eq!(net.nodes[0].sizes().half_open, 6);
    // Oldest first: 1 went for 9, 3 for 15. Closing 5 is still heard of.
    for (conn, left) in [(1, 6), (3, 6), (5, 5), (11, 4), (15, 3)] {
        net.input(0, Input::Closed { conn: Conn(conn) });
        assert_eq!(net.nodes[0].sizes().half_open, left, "{conn}");
    }
}

/// C21, C111: a trickle of bytes does not keep a handshake alive.
#[test]
fn a_slow_loris_is_closed_at_the_step_timeout() {
    let mut net = Net::new(1, Suite::Noise);
    accept(&mut net, 1, [1, 1, 1, 1]);
    let preface = terms(&net).preface(1).to_bytes();
    for byte in &preface[..39] {
        net.input(0, Input::Bytes { conn: Conn(1), bytes: vec![*byte] });
        net.run_ms(50);
    }
    assert_eq!(net.nodes[0].sizes().half_open, 1);
    net.run_ms(60);
    assert_eq!(codes(&net.take(0)), [(Code::Timeout, true)]);
    assert_eq!(net.nodes[0].counters().get(Counter::HsTimeout), 1);
    assert_eq!(net.nodes[0].sizes().conns, 0);
}

fn terms(net: &Net) -> Terms {
    net.nodes[0].terms.clone()
}

#[test]
fn an_acceptor_that_never_answers_is_given_up() {
    let mut net = Net::new(2, Suite::Noise);
    net.dial(0, 1);
    net.run_ms(1);
    let conn = Conn(2);
    let entropy = net.entropy();
    net.input(0, Input::Connected { conn, entropy });
    net.pipes.clear();
    net.run_ms(2_100);
    assert_eq!(codes(&net.take(0)), [(Code::Timeout, false)]);
    // And one that does not even connect.
    net.hung.insert((0, 1));
    net.dial(0, 1);
    net.run_ms(2_900);
    assert_eq!(net.take(0), []);
    net.run_ms(200);
    let peer = Some(net.id(1));
    let (seed, code) = (None, None);
    assert_eq!(net.take(0), [Output::Unreachable { peer, seed, code }]);
}

/// C111: bytes of other protocols, and records out of turn.
#[test]
fn bytes_that_are_no_handshake_close_silently() {
    let net = Net::new(1, Suite::Noise);
    let preface = terms(&net).preface(1).to_bytes();
    let mut http = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n....".to_vec();
    http.truncate(40);
    let with = |tail: &[u8]| [&preface[..], tail].concat();
    let mut zero = preface.clone();
    zero[6] = 1;
    let cases = [
        (http, Code::BadMagic),
        (zero, Code::Malformed),
        (with(&[2, 32, 0]), Code::Malformed),
        (with(&[1, 33, 0]), Code::Malformed),
        (with(&[9, 32, 0]), Code::Malformed),
        (with(&preface), Code::Malformed),
    ];
    for (bytes, code) in cases {
        let mut net = Net::new(1, Suite::Noise);
        accept(&mut net, 1, [1, 1, 1, 1]);
        net.input(0, Input::Bytes { conn: Conn(1), bytes });
        assert_eq!(codes(&net.take(0)), [(code, true)]);
        assert_eq!(net.written.len(), 0, "silently");
        assert_eq!(net.nodes[0].sizes().conns, 0);
    }
}

/// C111: message 3 that does not open, at an acceptor that gave message 2.
#[test]
fn a_third_message_that_does_not_open_is_bad_crypto() {
    let mut net = Net::new(1, Suite::Noise);
    accept(&mut net, 1, [1, 1, 1, 1]);
    let mut bytes = terms(&net).preface(1).to_bytes();
    bytes.extend_from_slice(&[1, 32, 0]);
    bytes.extend_from_slice(&[5; 32]);
    let conn = Conn(1);
    net.input(0, Input::Bytes { conn, bytes });
    assert_eq!(net.written[&(0, conn)].len(), 3 + 112);
    let mut bytes = vec![3, 120, 0];
    bytes.extend_from_slice(&[7; 120]);
    net.input(0, Input::Bytes { conn, bytes });
    assert_eq!(codes(&net.take(0)), [(Code::BadCrypto, true)]);
    assert_eq!(net.nodes[0].counters().get(Counter::HsBadCrypto), 1);
}

/// C9, C27: two processes with one key and one session do not both link.
#[test]
fn two_processes_with_one_key_are_told_apart() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(1, 0);
    net.run_ms(50);
    let mut twin = params(1, Suite::Null);
    twin.instance.0 += 1;
    net.nodes[1] = Links::new(twin);
    net.told[0].clear();
    net.dial(1, 0);
    net.run_ms(50);
    assert_eq!(codes(&net.take(0)), [(Code::StaleSession, true)]);
    assert_eq!(ups(&net.take(1)), 1, "only the first one came up");
}

#[test]
fn an_address_without_a_known_node_is_nobody() {
    let mut net = Net::new(1, Suite::Null);
    let peer = key(5).node();
    let frame = send(1, vec![]);
    net.input(0, Input::Frame { to: peer, addr: None::<Addr>, process: None, frame });
    let (peer, seed, code) = (Some(peer), None, None);
    assert_eq!(net.take(0), [Output::Unreachable { peer, seed, code }]);
}
