//! Goal: two nodes that want a link have exactly one, and it carries what it was given, whatever
//! the network and strangers do.
//! Method: a few [`Links`] back to back in the world of `net`; what each told its parent is
//! compared.

mod bad_input;
mod faults;
mod net;
mod refusals;
mod streams;

use std::time::Duration;

use super::io::{Input, Output};
use crate::cluster::ids::{Addr, Session};
use crate::cluster::sealer::Suite;
use crate::cluster::swim::io::{Lane, Seed};
use crate::cluster::wire::{CloseReason, Code, Frame, Name, UserFrame};
use net::{Net, addr, life, params, ping, send};

fn ups(told: &[Output]) -> usize {
    let fresh = |output: &&Output| matches!(output, Output::LinkUp { fresh: true, .. });
    told.iter().filter(fresh).count()
}

fn downs(told: &[Output]) -> Vec<CloseReason> {
    let reason = |output: &Output| {
        let Output::LinkDown { reason, .. } = output else {
            return None;
        };
        Some(*reason)
    };
    told.iter().filter_map(reason).collect()
}

fn frames(told: &[Output]) -> Vec<Frame> {
    let frame = |output: &Output| {
        let Output::Frame { frame, .. } = output else {
            return None;
        };
        Some(frame.clone())
    };
    told.iter().filter_map(frame).collect()
}

fn seqs(told: &[Output], lane: Lane) -> Vec<crate::cluster::wire::Message> {
    let message = |output: &Output| {
        let Output::Message { lane: came, message, .. } = output else {
            return None;
        };
        (*came == lane).then(|| message.clone())
    };
    told.iter().filter_map(message).collect()
}

fn codes(told: &[Output]) -> Vec<(Code, bool)> {
    let code = |output: &Output| {
        let Output::Refused { code, inbound, .. } = output else {
            return None;
        };
        Some((*code, *inbound))
    };
    told.iter().filter_map(code).collect()
}

/// C20: nothing but the handshake crosses before Welcome; then both lanes do.
#[test]
fn a_want_brings_a_link_up_that_carries_both_lanes_both_ways() {
    for suite in [Suite::Noise, Suite::Null] {
        let mut net = Net::new(2, suite);
        net.message(0, 1, Lane::Datagram, 1);
        net.message(0, 1, Lane::Datagram, 2);
        net.frame(0, 1, send(1, b"first".to_vec()));
        net.run_ms(50);
        assert!(net.linked(0, 1));
        let told = net.take(1);
        assert_eq!(ups(&told), 1);
        assert_eq!(seqs(&told, Lane::Datagram), [ping(2)], "the latest one (C31)");
        assert_eq!(frames(&told), [send(1, b"first".to_vec())]);

        net.message(1, 0, Lane::Datagram, 3);
        net.message(1, 0, Lane::Stream, 4);
        net.frame(1, 0, send(1, b"back".to_vec()));
        net.run_ms(50);
        let told = net.take(0);
        assert_eq!(seqs(&told, Lane::Datagram), [ping(3)]);
        assert_eq!(seqs(&told, Lane::Stream), [ping(4)]);
        assert_eq!(frames(&told), [send(1, b"back".to_vec())]);
        assert!(told.contains(&Output::Written { to: net.id(1), number: 1 }));
    }
}

/// C30, C77: who asks for a name needs a link as much as who sends.
#[test]
fn a_look_up_dials_and_goes_on_the_new_link() {
    let mut net = Net::new(2, Suite::Null);
    let query = Frame::NameQuery { query: 7, name: Name::new("a").unwrap() };
    net.frame(0, 1, query.clone());
    net.run_ms(50);
    assert!(net.linked(0, 1));
    assert_eq!(frames(&net.take(1)), [query]);
}

#[test]
fn a_dial_of_a_linked_peer_is_answered_at_once() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    net.take(0);
    net.dial(0, 1);
    let told = net.take(0);
    assert_eq!(told.len(), 1);
    assert!(matches!(told[0], Output::LinkUp { fresh: false, .. }));
}

#[test]
fn a_dial_that_fails_tells_so_and_drops_what_waited() {
    let mut net = Net::new(2, Suite::Null);
    net.refused.insert((0, 1));
    net.frame(0, 1, send(1, vec![1]));
    net.message(0, 1, Lane::Datagram, 1);
    net.run_ms(20);
    let told = net.take(0);
    let unreachable = Output::Unreachable { peer: Some(net.id(1)), seed: None, code: None };
    assert_eq!(told, std::slice::from_ref(&unreachable));
    net.refused.clear();
    net.run_ms(30_000);
    assert!(!net.linked(0, 1), "nothing wants it");

    // C32: what wants it next waits for the redial delay.
    net.refused.insert((0, 1));
    net.message(0, 1, Lane::Datagram, 2);
    net.run_ms(20);
    assert_eq!(net.take(0), [unreachable]);
    net.refused.clear();
    net.message(0, 1, Lane::Datagram, 3);
    net.run_ms(20);
    assert!(!net.linked(0, 1));
    net.run_ms(400);
    assert!(net.linked(0, 1));
    assert_eq!(seqs(&net.take(1), Lane::Datagram), [ping(3)]);
}

/// C31, C32: whoever sends waits for the redial delay, however often it asks, and is answered;
/// re-probing and joining do not wait (C55, C59).
#[test]
fn a_want_does_not_dial_before_the_redial_delay_is_over() {
    let mut net = Net::new(2, Suite::Null);
    net.refused.insert((0, 1));
    let (peer, addr) = (net.id(1), addr(1));
    let dials = |net: &Net| net.nodes[0].peers[&peer].ordinal;
    for _ in 0..100 {
        net.input(0, Input::Want { peer, addr });
        net.run_ms(10);
    }
    // Delays of at least 100, 200, 400 and 800 ms.
    assert!((3..=4).contains(&dials(&net)), "{} dials", dials(&net));
    net.run_ms(5_000);
    let told = net.take(0);
    assert_eq!(told.len(), dials(&net) as usize, "one answer for each dial: {told:?}");

    net.dial(0, 1);
    net.run_ms(20);
    net.take(0);
    let before = dials(&net);
    net.input(0, Input::Want { peer, addr });
    assert_eq!(dials(&net), before);
    net.dial(0, 1);
    assert_eq!(dials(&net), before + 1);
    net.run_ms(20);
    net.input(0, Input::Want { peer, addr });
    net.input(0, Input::Disconnect { peer, reason: CloseReason::MemberDead });
    let answers = net.take(0);
    assert_eq!(answers.len(), 2, "the dial's and the want's: {answers:?}");
}

/// C32: a link that breaks counts as a failure like any other: the delay is that of one.
#[test]
fn the_delay_after_a_broken_link_is_that_of_a_failed_dial() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    let peer = net.id(1);
    net.cut(|_, _| true);
    net.run_ms(0);
    let state = &net.nodes[0].peers[&peer];
    let delay = state.not_before.nanos_since(net.now) / 1_000_000;
    assert_eq!(state.failures, 1);
    assert!((100..=200).contains(&delay), "{delay} ms, of 200 · (0.5 … 1)");
}

/// C32: the delays double up to the cap, each between half and the whole of it.
#[test]
fn redial_delays_grow_up_to_the_cap() {
    let mut net = Net::new(2, Suite::Null);
    let peer = net.id(1);
    for (failures, most) in [(0, 100), (1, 200), (3, 800), (7, 10_000), (40, 10_000)] {
        for _ in 0..50 {
            let delay = net.nodes[0].redial_delay(peer, failures) / 1_000;
            assert!(delay >= most * 499, "{failures}: {delay}");
            assert!(delay <= most * 1_000, "{failures}: {delay}");
        }
    }
}

/// C134, many seeds: both dial at once, under all kinds of delay.
#[test]
fn a_simultaneous_dial_ends_with_one_link_at_both_ends() {
    for seed in 0..300 {
        let mut net = Net::new(2, Suite::Null);
        net.choices = crate::Choices::new(seed);
        net.dial(0, 1);
        let wait = net.choices.choose("test.wait", [0, 0], 8);
        net.run_ms(wait);
        net.dial(1, 0);
        net.run_ms(100);
        assert!(net.linked(0, 1), "seed {seed}");
        for node in 0..2 {
            let told = net.take(node);
            assert_eq!(ups(&told), 1, "seed {seed}: {told:?}");
            assert_eq!(downs(&told), [], "seed {seed}");
        }
        assert_eq!(net.nodes[0].sizes().conns, 1);
        assert_eq!(net.nodes[1].sizes().conns, 1);
        assert_eq!(net.nodes[0].sizes().half_open, 0);
        assert_eq!(net.nodes[1].sizes().half_open, 0);
    }
}

/// C25: if the dial that wins cannot succeed, the other one does.
#[test]
fn a_parked_dial_comes_up_when_the_own_dial_fails() {
    for (a, b) in [(0, 1), (1, 0)] {
        for hang in [false, true] {
            let mut net = Net::new(2, Suite::Null);
            match hang {
                true => net.hung.insert((a, b)),
                false => net.refused.insert((a, b)),
            };
            net.dial(a, b);
            net.dial(b, a);
            net.run_ms(1_900);
            assert!(net.linked(0, 1), "{a} cannot dial {b}; hang {hang}");
            assert_eq!(downs(&net.take(0)), []);
            assert_eq!(downs(&net.take(1)), []);
        }
    }
}

/// C25: a newer Hello takes the place of a parked one, and keeps it.
#[test]
fn the_newer_of_two_parked_dials_comes_up_when_the_own_dial_fails() {
    let mut net = Net::new(2, Suite::Null);
    let (a, b) = if net.id(0) > net.id(1) { (0, 1) } else { (1, 0) };
    net.hung.insert((a, b));
    net.dial(a, b);
    let own = net.nodes[a].peers[&net.id(b)].dial.unwrap();
    net.dial(b, a);
    net.run_ms(20);
    assert!(net.nodes[a].peers[&net.id(b)].is_parked());
    // Its machine fails, no end of stream comes, and it dials again.
    net.pipes.clear();
    let mut anew = params(b, Suite::Null);
    (anew.life, anew.instance.0) = (life(2), 999);
    net.nodes[b] = super::Links::new(anew);
    net.dial(b, a);
    net.run_ms(20);
    assert!(net.nodes[a].peers[&net.id(b)].is_parked());
    assert_eq!(net.nodes[a].sizes().half_open, 1, "the older one is gone");
    net.input(a, Input::DialFailed { conn: own });
    net.run_ms(20);
    assert!(net.linked(a, b));
    assert_eq!((ups(&net.take(a)), ups(&net.take(b))), (1, 1));
}

#[test]
fn a_stream_that_breaks_is_redialled_and_what_was_queued_goes_on_the_new_one() {
    let mut net = Net::new(2, Suite::Noise);
    net.dial(0, 1);
    net.run_ms(50);
    net.stuck.insert(0);
    // One goes out, the others wait for the socket.
    for number in 1..=8 {
        net.frame(0, 1, send(number, vec![7; 20_000]));
    }
    net.run_ms(50);
    let got = frames(&net.take(1)).len();
    assert!((1..8).contains(&got), "{got}");
    net.stuck.clear();
    net.cut(|_, _| true);
    net.run_ms(2_000);
    assert!(net.linked(0, 1));
    let told = net.take(1);
    assert_eq!(downs(&told), [CloseReason::Reset]);
    // The frame that was cut off was written, and is not written again (C83).
    let again = frames(&told);
    let first = 8 - again.len() + 1;
    assert!(first == got + 1 || first == got + 2, "{got} then {first}");
    for (frame, number) in again.iter().zip(first..) {
        assert_eq!(*frame, send(number as u64, vec![7; 20_000]));
    }
    let written: Vec<u64> = net
        .take(0)
        .iter()
        .filter_map(|output| {
            let Output::Written { number, .. } = output else {
                return None;
            };
            Some(*number)
        })
        .collect();
    assert_eq!(written, [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// C25 (a), C27: a restarted peer replaces its old link; frames for its old session are gone.
#[test]
fn a_restarted_peer_replaces_its_link() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    // The old stream does not even break at node 0.
    net.pipes.clear();
    net.stuck.insert(0);
    net.frame(0, 1, send(1, vec![0; 100_000]));
    net.take(0);
    let mut fresh = params(1, Suite::Null);
    fresh.life = life(2);
    fresh.instance.0 += 50;
    net.nodes[1] = super::Links::new(fresh);
    net.stuck.clear();
    net.dial(1, 0);
    net.run_ms(50);
    assert!(net.linked(0, 1));
    let told = net.take(0);
    assert_eq!(downs(&told), [CloseReason::PeerRestarted]);
    assert_eq!(ups(&told), 1);
    net.run_ms(1_000);
    assert_eq!(frames(&net.take(1)), []);
    // Its numbers start anew.
    net.frame(1, 0, send(1, vec![1]));
    net.run_ms(50);
    assert_eq!(frames(&net.take(0)).len(), 1);
}

/// C145: frames that wait for one session do not reach the next.
#[test]
fn frames_for_an_old_session_are_dropped_by_a_link_with_a_new_one() {
    let mut net = Net::new(2, Suite::Null);
    let (peer, mut fresh) = (net.id(1), params(1, Suite::Null));
    net.input(0, Input::SessionKnown { peer, session: Session(1) });
    fresh.life = life(2);
    net.nodes[1] = super::Links::new(fresh);
    net.frame(0, 1, send(1, vec![1]));
    net.run_ms(50);
    assert!(net.linked(0, 1));
    assert_eq!(frames(&net.take(1)), []);
}

/// C25 (d): a peer that lost its link and dials again is let in.
#[test]
fn a_peer_that_lost_its_link_replaces_it() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(1, 0);
    net.run_ms(50);
    let conn = net.conn(1, 0).unwrap();
    // Only node 1 notices.
    net.input(1, Input::Closed { conn });
    net.frame(1, 0, send(1, vec![1]));
    net.run_ms(500);
    assert!(net.linked(0, 1));
    let told = net.take(0);
    assert_eq!(downs(&told), [CloseReason::Replaced]);
    assert_eq!(frames(&told).len(), 1);
}

/// C27: who is dialled is told as well. It may not know where the one listens who knows.
#[test]
fn a_stale_session_that_is_dialled_is_told_which_one_is_known() {
    let mut net = Net::new(2, Suite::Noise);
    let peer = net.id(1);
    net.input(0, Input::SessionKnown { peer, session: Session(5) });
    net.dial(0, 1);
    net.run_ms(50);
    assert_eq!(codes(&net.take(0)), [(Code::StaleSession, false)]);
    let told = net.take(1);
    assert!(told.contains(&Output::SessionBehind { above: Session(5) }), "{told:?}");
    assert_eq!(downs(&told), [CloseReason::Reset]);
}

/// C27: an older session, or the same session of another process, is told what is known.
#[test]
fn a_stale_session_is_told_which_one_is_known() {
    for (session, instance) in [(1, 0), (2, 7)] {
        let mut net = Net::new(2, Suite::Noise);
        let mut known = params(1, Suite::Noise);
        known.life = life(2);
        net.nodes[1] = super::Links::new(known.clone());
        net.dial(0, 1);
        net.run_ms(50);
        assert!(net.linked(0, 1));
        known.life = life(session);
        known.instance.0 += instance;
        net.restart(1, known);
        net.run_ms(50);
        net.take(0);
        net.dial(1, 0);
        net.run_ms(50);
        let told = net.take(1);
        assert!(told.contains(&Output::SessionBehind { above: Session(2) }));
        assert!(told.contains(&Output::Rejected { peer: net.id(0), code: Code::StaleSession }));
        assert_eq!(codes(&net.take(0)), [(Code::StaleSession, true)]);
        // It burns a session and goes on in it.
        net.input(1, Input::Renewed(life(3)));
        net.dial(1, 0);
        net.run_ms(50);
        assert!(net.linked(0, 1));
        assert_eq!(net.nodes[0].link(net.id(1)).unwrap().hello().life.session, Session(3));
    }
}

/// C27: a dialler does not take a Welcome of a session that is over.
#[test]
fn a_dialler_refuses_a_stale_acceptor() {
    let mut net = Net::new(2, Suite::Null);
    let peer = net.id(1);
    net.input(0, Input::SessionKnown { peer, session: Session(5) });
    net.dial(0, 1);
    net.run_ms(50);
    assert!(!net.linked(0, 1));
    assert_eq!(codes(&net.take(0)), [(Code::StaleSession, false)]);
    assert_eq!(downs(&net.take(1)), [CloseReason::Reset]);
}

#[test]
fn a_link_of_a_session_that_ended_closes_when_membership_says_so() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    let peer = net.id(1);
    for session in [Session(1), Session(2)] {
        net.input(0, Input::SessionKnown { peer, session });
    }
    net.run_ms(50);
    assert_eq!(downs(&net.take(0)), [CloseReason::PeerRestarted]);
    assert_eq!(downs(&net.take(1)), [CloseReason::Reset]);
}

/// C55: seeds are dialled by address alone, and end up as peers.
#[test]
fn seeds_become_peers_whoever_dialled() {
    for at_once in [false, true] {
        let mut net = Net::new(2, Suite::Null);
        let seed = |addr: Addr, node| Input::DialSeed { seed: Seed { addr, node } };
        net.input(0, seed(addr(1), None));
        if at_once {
            net.input(1, seed(addr(0), None));
        }
        net.run_ms(50);
        assert!(net.linked(0, 1));
        let told = net.take(0);
        let answered =
            told.iter().filter(|output| matches!(output, Output::LinkUp { seed: Some(_), .. }));
        assert_eq!(answered.count(), 1, "{told:?}");
        // Again, now that there is a link: by address, and by name.
        let node = Some(net.id(1));
        for node in [None, node] {
            net.input(0, seed(addr(1), node));
            net.run_ms(50);
            let told = net.take(0);
            let answer = told
                .iter()
                .any(|output| matches!(output, Output::LinkUp { seed: Some(_), fresh: false, .. }));
            assert!(answer, "{told:?}");
        }
        assert!(net.linked(0, 1));
        // A seed that is not there.
        net.input(0, seed(addr(7), None));
        net.run_ms(50);
        let lost = Some(Seed { addr: addr(7), node: None });
        assert_eq!(net.take(0), [Output::Unreachable { peer: None, seed: lost, code: None }]);
    }
}

/// C30: the least recently used link makes room.
#[test]
fn the_least_recently_used_link_makes_room() {
    let mut net = Net::with(4, Suite::Null, |node, params| {
        if node == 0 {
            params.config.links_max = 2;
        }
    });
    for peer in 1..3 {
        net.dial(0, peer);
        net.run_ms(20);
    }
    net.message(0, 1, Lane::Datagram, 1);
    net.dial(0, 3);
    net.run_ms(50);
    assert!(net.linked(0, 1));
    assert!(net.linked(0, 3));
    assert_eq!(net.conn(0, 2), None);
    assert_eq!(downs(&net.take(0)), [CloseReason::LinkCap]);
    assert_eq!(downs(&net.take(2)), [CloseReason::LinkCap]);
}

/// C30: a link with a send that is not confirmed makes no room and is not idle; one that finds no
/// room is a failure like any other, so that it is not dialled in a loop.
#[test]
fn a_link_with_an_unconfirmed_send_makes_no_room() {
    let mut net = Net::with(4, Suite::Null, |node, params| {
        if node == 0 {
            params.config.links_max = 2;
            params.config.link_idle = Duration::from_secs(20);
        }
    });
    for peer in 1..3 {
        net.dial(0, peer);
        net.frame(0, peer, send(1, vec![1]));
        net.run_ms(20);
    }
    net.take(0);
    net.dial(0, 3);
    net.run_ms(20);
    assert_eq!(downs(&net.take(0)), [CloseReason::LinkCap]);
    assert!(net.linked(0, 1));
    assert!(net.linked(0, 2));
    let (peer, other) = (net.id(3), net.id(0));
    assert!(net.nodes[0].peers[&peer].not_before > net.now);
    assert!(net.nodes[3].peers[&other].not_before > net.now);

    net.frame(1, 0, Frame::User(UserFrame::Confirm { upto: 1 }));
    net.run_for(Duration::from_secs(1));
    net.dial(0, 3);
    net.run_ms(20);
    assert_eq!(net.conn(0, 1), None, "the one that is confirmed");
    assert!(net.linked(0, 3));
    net.run_for(Duration::from_secs(25));
    assert!(net.linked(0, 2), "not idle");
    assert!(!net.linked(0, 3), "idle");
}

/// C34: keepalives keep an unused link up until it is idle; then both ends close it.
#[test]
fn an_unused_link_lives_on_keepalives_until_it_is_idle() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_for(Duration::from_secs(200));
    assert!(net.linked(0, 1));
    net.message(0, 1, Lane::Datagram, 1);
    net.run_for(Duration::from_secs(299));
    assert!(net.linked(0, 1));
    net.run_for(Duration::from_secs(2));
    assert_eq!(downs(&net.take(0)), [CloseReason::Idle]);
    assert_eq!(downs(&net.take(1)), [CloseReason::Idle]);
    assert!(net.nodes[0].sizes().indexes == 0 && net.nodes[1].sizes().indexes == 0);
}

/// C34: three keepalives.
#[test]
fn a_stream_on_which_nothing_arrives_closes_silent() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    net.pipes.clear();
    // Datagrams do not keep it up: its stream is dead.
    for _ in 0..35 {
        net.message(1, 0, Lane::Datagram, 1);
        net.run_ms(1_000);
    }
    assert_eq!(downs(&net.take(0))[0], CloseReason::Silent);
}

#[test]
fn shutdown_closes_everything_and_tells_the_peers() {
    let mut net = Net::new(3, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    net.hung.insert((0, 2));
    net.dial(0, 2);
    net.input(0, Input::CloseAll(CloseReason::Shutdown));
    net.run_ms(50);
    assert_eq!(downs(&net.take(0)), [CloseReason::Shutdown]);
    assert_eq!(downs(&net.take(1)), [CloseReason::Shutdown]);
    assert_eq!(net.nodes[0].sizes().conns, 0);
    assert_eq!(net.nodes[0].sizes().timers, 0);
}

#[test]
fn disconnect_ends_the_link_and_forgets_what_waits() {
    let mut net = Net::new(2, Suite::Null);
    net.dial(0, 1);
    net.run_ms(50);
    net.stuck.insert(0);
    for number in 1..=8 {
        net.frame(0, 1, send(number, vec![0; 20_000]));
    }
    let peer = net.id(1);
    net.input(0, Input::Disconnect { peer, reason: CloseReason::MemberDead });
    net.run_ms(5_000);
    assert_eq!(downs(&net.take(0)), [CloseReason::MemberDead]);
    assert_eq!(downs(&net.take(1)), [CloseReason::Reset]);
    assert_eq!(net.nodes[0].peers[&peer].queue_bytes(), 0);
    assert!(!net.linked(0, 1));
}
