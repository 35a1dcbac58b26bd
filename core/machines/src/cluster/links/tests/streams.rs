//! Goal: what is given to a stream comes out of it, in order, whatever else it carries.

use std::time::Duration;

use super::net::{Net, addr, key, life, params, ping, send};
use super::{downs, frames, seqs};
use crate::cluster::counters::{Counter, Labelled};
use crate::cluster::ids::{Instance, NodeId, Process, Session};
use crate::cluster::links::LinksParams;
use crate::cluster::links::io::{Input, Output};
use crate::cluster::sealer::Suite;
use crate::cluster::swim::io::Lane;
use crate::cluster::wire::{
    BounceCode, CloseReason, Frame, NameDigest, NameEntry, SyncBody, UserFrame,
};

fn body(number: u64, len: usize) -> Vec<u8> {
    let byte = |i: usize| (i as u64 * 31 + number).to_le_bytes()[0];
    (0..len).map(byte).collect()
}

fn sync() -> Frame {
    Frame::Sync1(SyncBody::default())
}

/// C14, C37: a body of 1 MiB is cut, and what is urgent goes between its fragments.
#[test]
fn urgent_frames_overtake_a_long_body() {
    for suite in [Suite::Noise, Suite::Null] {
        let mut net = Net::new(2, suite);
        net.dial(0, 1);
        net.run_ms(50);
        net.take(1);
        net.stuck.insert(0);
        net.frame(0, 1, send(1, body(1, 1 << 20)));
        net.message(0, 1, Lane::Stream, 7);
        net.frame(0, 1, sync());
        net.stuck.clear();
        // The socket says that it has room again.
        let conn = net.conn(0, 1).unwrap();
        let unsent = net.nodes[0].link(net.id(1)).unwrap().unsent;
        assert!(unsent <= net.nodes[0].config().unsent_bytes_max);
        let wrote = super::Input::Wrote { conn, count: unsent };
        net.input(0, wrote);
        net.run_ms(500);
        let told = net.take(1);
        assert_eq!(seqs(&told, Lane::Stream), [ping(7)]);
        let got = frames(&told);
        assert_eq!(got.len(), 2);
        assert_eq!(got[0], sync(), "class 1 before the rest of class 2");
        assert_eq!(got[1], send(1, body(1, 1 << 20)));
        let message = |output: &Output| matches!(output, Output::Message { .. });
        let urgent = told.iter().position(message).unwrap();
        assert_eq!(urgent, 0, "{told:?}");
    }
}

/// C37: bulk of class 1 leaves one record in five to users.
#[test]
fn four_records_of_class_one_are_followed_by_one_of_class_two() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    net.take(1);
    net.stuck.insert(0);
    // Fills the socket.
    net.frame(0, 1, send(1, body(1, 100_000)));
    net.run_ms(50);
    for _ in 0..12 {
        net.frame(0, 1, sync());
    }
    net.stuck.clear();
    let conn = net.conn(0, 1).unwrap();
    net.input(0, super::Input::Wrote { conn, count: 1 << 20 });
    net.run_ms(100);
    let order: Vec<bool> = frames(&net.take(1)).iter().map(|f| *f == sync()).collect();
    // The user frame needs three more records: after 4, 8 and 12 of class 1.
    assert_eq!(order.len(), 13);
    assert!(order[..12].iter().all(|sync| *sync) && !order[12], "{order:?}");
}

/// C38: a full queue takes nothing more, and says so.
#[test]
fn a_full_queue_refuses_frames_by_number() {
    let mut net = Net::with(2, Suite::Null, |_, params| {
        params.config.link_queue_bytes_max = 100_000;
    });
    net.dial(0, 1);
    net.run_ms(50);
    net.stuck.insert(0);
    net.take(0);
    for number in 1..=10 {
        net.frame(0, 1, send(number, body(number, 30_000)));
        let link = net.nodes[0].link(net.id(1)).unwrap();
        assert!(link.queue_bytes() <= 100_000);
        assert!(link.unsent <= net.nodes[0].config().unsent_bytes_max);
    }
    let refused: Vec<u64> = net
        .take(0)
        .iter()
        .filter_map(|output| {
            let Output::NotTaken { number, .. } = output else {
                return None;
            };
            Some(*number)
        })
        .collect();
    assert_eq!(refused.last(), Some(&10));
    net.stuck.clear();
    let conn = net.conn(0, 1).unwrap();
    net.input(0, super::Input::Wrote { conn, count: 1 << 20 });
    net.run_ms(200);
    let got = frames(&net.take(1));
    assert_eq!(got.len() + refused.len(), 10);
    assert_eq!(net.nodes[0].link(net.id(1)).unwrap().queue_bytes(), 0);
}

/// C84, C145, C146: what is meant for one process of the peer is never said to the next one.
#[test]
fn a_frame_for_another_process_is_not_written() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    let old = net.nodes[0].link(net.id(1)).unwrap().hello().process();
    let new = Process { session: Session(2), instance: Instance(7) };
    let next = LinksParams { life: life(2), instance: new.instance, ..params(1, Suite::Null) };
    net.restart(1, next);
    net.dial(1, 0);
    net.run_ms(50);
    assert!(net.linked(0, 1));
    net.take(0);
    net.take(1);

    let (to, at) = (net.id(1), Some(addr(1)));
    let said = [
        Frame::User(UserFrame::Confirm { upto: 9 }),
        Frame::User(UserFrame::Bounce { number: 3, code: BounceCode::NoActor }),
        send(1, b"for whom".to_vec()),
    ];
    for process in [old, Process { instance: old.instance, ..new }] {
        for frame in said.clone() {
            net.input(0, Input::Frame { to, addr: at, process: Some(process), frame });
        }
    }
    net.run_ms(50);
    assert_eq!(frames(&net.take(1)), []);
    assert_eq!(net.take(0), [], "LinkUp has told the sender what became of them");
    for frame in said.clone() {
        net.input(0, Input::Frame { to, addr: at, process: Some(new), frame });
    }
    net.run_ms(50);
    assert_eq!(frames(&net.take(1)), said);
}

/// C38, C110: a peer that asks and does not read is lost before it has cost much memory; a frame
/// that no peer would take is dropped and counted.
#[test]
fn what_waits_for_a_peer_that_does_not_read_has_a_cap_in_bytes() {
    let mut net = Net::with(2, Suite::Null, |_, params| {
        params.config.message_bytes_max = 64 << 10;
    });
    let digests = |count| {
        let digest = NameDigest { owner: key(3).node(), session: Session(1), serial: 1, age_ms: 0 };
        Frame::Sync1(SyncBody { digests: vec![digest; count], ..SyncBody::default() })
    };
    net.dial(0, 1);
    net.run_ms(50);
    net.frame(0, 1, digests(2_400));
    assert_eq!(net.nodes[0].counters().get(Counter::FrameDropped), 1);
    net.run_ms(50);
    net.take(0);
    net.stuck.insert(0);
    // 56 kB each: one and a part of the next are in the socket, two wait.
    for _ in 0..3 {
        net.frame(0, 1, digests(2_000));
        assert!(net.linked(0, 1));
    }
    net.frame(0, 1, digests(2_000));
    assert_eq!(downs(&net.take(0)), [CloseReason::Silent]);
}

/// C31: without a link the dial queue holds what it may, and no more.
#[test]
fn the_dial_queue_is_bounded_by_bytes_and_items() {
    let mut net = Net::with(2, Suite::Null, |_, params| {
        params.config.dial_queue_bytes_max = 10_000;
        params.config.dial_queue_items_max = 4;
    });
    net.hung.insert((0, 1));
    for number in 1..=6 {
        net.frame(0, 1, send(number, vec![1]));
    }
    let to = net.id(1);
    let refused = |number| Output::NotTaken { to, number };
    assert_eq!(net.take(0), [refused(5), refused(6)]);
    net.run_ms(4_000);
    assert_eq!(net.nodes[0].peers[&to].queue_bytes(), 0);
    net.frame(0, 1, send(7, vec![1; 9_000]));
    net.frame(0, 1, send(8, vec![1; 9_000]));
    assert!(net.take(0).contains(&refused(8)));
    net.frame(0, 1, send(9, vec![1; 17 << 20]));
    assert_eq!(net.take(0), [refused(9)], "above max_message");
}

#[test]
fn only_user_frames_that_count_wait_for_a_link() {
    let mut net = Net::new(2, Suite::Null);
    net.frame(0, 1, sync());
    net.frame(0, 1, Frame::Sync3(Vec::<NameEntry>::new()));
    net.message(0, 1, Lane::Stream, 1);
    net.run_ms(100);
    assert_eq!(net.take(0), []);
    assert_eq!(net.nodes[0].sizes().conns, 0);
}

/// C82, C115: numbers rise, or the link breaks; a jump is accepted.
#[test]
fn a_number_that_repeats_breaks_the_link() {
    let mut net = Net::new(2, Suite::Null);
    for number in [1, 2, 9] {
        net.frame(0, 1, send(number, vec![]));
    }
    net.run_ms(50);
    assert_eq!(frames(&net.take(1)).len(), 3);
    assert_eq!(net.nodes[1].peers[&net.id(0)].seen(), 9);
    net.frame(0, 1, send(9, vec![]));
    net.run_ms(20);
    let told = net.take(1);
    assert_eq!(downs(&told), [CloseReason::ProtocolError]);
    assert_eq!(frames(&told), []);
    assert_eq!(net.nodes[1].counters().get(Counter::NumberRepeat), 1);
    // C83: the next link's Hello says what was seen.
    net.dial(0, 1);
    net.run_ms(500);
    assert!(net.linked(0, 1));
    assert_eq!(net.nodes[0].link(net.id(1)).unwrap().hello().seen, 9);
}

/// C83: a dialler says what it saw of a process that is gone; the one that it finds counts anew.
#[test]
fn what_was_seen_of_a_process_is_not_held_against_the_next_one() {
    let mut net = Net::new(2, Suite::Null);
    net.frame(0, 1, send(9, vec![]));
    net.run_ms(50);
    let mut fresh = params(0, Suite::Null);
    fresh.life = life(2);
    fresh.instance.0 += 10;
    net.restart(0, fresh);
    net.run_ms(1);
    net.dial(1, 0);
    net.run_ms(500);
    assert!(net.linked(0, 1));
    let told = |net: &Net| net.nodes[0].link(net.id(1)).unwrap().hello().seen;
    assert_eq!(told(&net), 0, "none of its own");

    net.frame(0, 1, send(1, vec![]));
    net.run_ms(50);
    net.cut(|_, _| true);
    net.run_ms(1);
    net.dial(1, 0);
    net.run_ms(500);
    assert!(net.linked(0, 1));
    assert_eq!(told(&net), 1, "the same two processes");
}

/// C35: epochs change under traffic, and nothing is lost or refused.
#[test]
fn a_rekey_under_traffic_loses_nothing() {
    for suite in [Suite::Noise, Suite::Null] {
        let mut net = Net::new(2, suite);
        net.dial(0, 1);
        net.run_ms(50);
        let (mut sent, mut seq) = (0, 0);
        let mut got = [Vec::new(), Vec::new()];
        for _ in 0..1_230 {
            sent += 1;
            seq += 1;
            for (a, b) in [(0, 1), (1, 0)] {
                net.frame(a, b, send(sent, body(sent, 20_000)));
                net.message(a, b, Lane::Datagram, seq);
            }
            net.run_ms(200);
            for (node, got) in got.iter_mut().enumerate() {
                got.extend(net.take(node));
            }
        }
        for (node, told) in got.iter().enumerate() {
            assert_eq!(downs(told), []);
            assert_eq!(frames(told).len(), 1_230, "node {node}");
            assert_eq!(seqs(told, Lane::Datagram).len(), 1_230, "node {node}");
            let counters = net.nodes[node].counters();
            assert_eq!(counters.get(Counter::DgNoLink), 0);
            assert_eq!(counters.get(Counter::DgBadTag), 0);
            assert_eq!(counters.get_labelled(Labelled::Rekeys, 0), 2);
            let peer: NodeId = net.id(1 - node);
            let link = net.nodes[node].link(peer).unwrap();
            assert_eq!(link.epoch(), 2);
            assert_eq!(net.nodes[node].sizes().indexes, 2, "the old one is in grace");
        }
        net.run_ms(11_000);
        assert_eq!(net.nodes[0].sizes().indexes, 1);
    }
}

/// C35: counters ask for a rekey as age does; the acceptor asks the dialler.
#[test]
fn a_worn_counter_asks_for_a_rekey_at_either_end() {
    for worn in [0, 1] {
        let mut net = Net::new(2, Suite::Null);
        net.dial(0, 1);
        net.run_ms(50);
        let peer = net.id(1 - worn);
        let other = net.id(worn);
        let link = |net: &mut Net, node: usize, peer| {
            net.nodes[node].peers.get_mut(&peer).unwrap().link.take()
        };
        // Both ends of the lane jump ahead, so that it still opens.
        let mut at_worn = link(&mut net, worn, peer).unwrap();
        at_worn.epochs.current.sealer.stream_tx = (1 << 60) + 1;
        net.nodes[worn].peers.get_mut(&peer).unwrap().link = Some(at_worn);
        let mut at_other = link(&mut net, 1 - worn, other).unwrap();
        at_other.epochs.current.sealer.stream_rx = (1 << 60) + 1;
        net.nodes[1 - worn].peers.get_mut(&other).unwrap().link = Some(at_other);
        net.frame(worn, 1 - worn, send(1, vec![1]));
        net.run_ms(100);
        assert_eq!(net.nodes[worn].link(peer).unwrap().epoch(), 1, "{worn}");
        assert_eq!(net.nodes[1 - worn].link(other).unwrap().epoch(), 1);
        assert_eq!(frames(&net.take(1 - worn)).len(), 1);
    }
}

/// C35: at 2⁶³ − 2¹⁴ messages an epoch ends, and the link with it.
#[test]
fn a_counter_at_its_end_closes_the_link() {
    for datagram in [false, true] {
        let mut net = Net::new(2, Suite::Null);
        net.dial(0, 1);
        net.run_ms(50);
        let peer = net.id(1);
        let link = net.nodes[0].peers.get_mut(&peer).unwrap().link.as_mut();
        let sealer = &mut link.unwrap().epochs.current.sealer;
        sealer.stream_tx = crate::cluster::sealer::COUNTER_MAX;
        sealer.datagram_tx = crate::cluster::sealer::COUNTER_MAX;
        match datagram {
            true => net.message(0, 1, Lane::Datagram, 1),
            false => net.frame(0, 1, send(1, vec![1])),
        }
        assert_eq!(downs(&net.take(0)), [CloseReason::KeyExpired]);
    }
}

/// C35: a rekey that is not answered ends the link after 10 s, an epoch without one later.
#[test]
fn a_rekey_that_stalls_fails() {
    let mut net = Net::with(2, Suite::Null, |_, params| {
        params.config.keepalive = Duration::from_secs(100);
    });
    net.dial(0, 1);
    net.run_for(Duration::from_secs(115));
    net.pipes.clear();
    net.run_for(Duration::from_secs(20));
    let told = net.take(0);
    assert_eq!(downs(&told), [CloseReason::RekeyFailed]);
    assert_eq!(net.nodes[0].counters().get_labelled(Labelled::Rekeys, 1), 1);
}

/// C132: no counter of any lane is used twice to seal.
#[test]
fn seals_never_share_a_key_and_a_counter() {
    let mut net = Net::new(2, Suite::Null);
    let mut seen = std::collections::BTreeMap::new();
    for seq in 1..2_000 {
        net.message(0, 1, Lane::Datagram, seq);
        net.frame(0, 1, send(u64::from(seq), vec![1]));
        net.run_ms(100);
        for link in net.nodes[0].links() {
            for epoch in link.epochs.all() {
                let sealer = &epoch.sealer;
                let now = (sealer.stream_tx, sealer.datagram_tx);
                let name = *sealer.tx.expose();
                let before = seen.insert(name, now).unwrap_or((0, 0));
                assert!(before.0 <= now.0 && before.1 <= now.1);
            }
        }
    }
    assert_eq!(seen.len(), 2, "one key per epoch");
}
