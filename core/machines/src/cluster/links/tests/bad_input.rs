//! Goal: what strangers inject changes nothing but a counter, or closes that one link (C111–C113,
//! C133).

use std::collections::{BTreeSet, VecDeque};

use super::net::{Net, addr, key, params, ping, send};
use super::{downs, frames, seqs};
use crate::cluster::counters::{Counter, Labelled};
use crate::cluster::ids::{Conn, Entropy};
use crate::cluster::links::Links;
use crate::cluster::links::io::{Input, Output};
use crate::cluster::sealer::Suite;
use crate::cluster::swim::io::Lane;
use crate::cluster::wire::{CloseReason, DatagramHeader, FrameHeader, FrameKind};
use crate::digest::Digest;
use crate::time::Instant;

fn linked(suite: Suite) -> Net {
    let mut net = Net::new(3, suite);
    net.dial(0, 1);
    net.dial(2, 0);
    net.run_ms(50);
    assert!(net.linked(0, 1) && net.linked(0, 2));
    (0..3).for_each(|node| drop(net.take(node)));
    net
}

/// C113, C133: forged, replayed, old and malformed datagrams change no hash.
#[test]
fn datagrams_that_do_not_open_change_no_hash() {
    for suite in [Suite::Noise, Suite::Null] {
        let mut net = linked(suite);
        net.message(1, 0, Lane::Datagram, 1);
        net.run_ms(20);
        let real = net.datagrams.last().unwrap().1.clone();
        assert_eq!(seqs(&net.take(0), Lane::Datagram), [ping(1)]);
        net.loss = 100;
        net.message(1, 0, Lane::Datagram, 3);
        net.loss = 0;
        let lost = net.datagrams.last().unwrap().1.clone();
        let hash = Digest::of(&net.nodes[0]);
        let mut cases = vec![
            (real.clone(), Counter::DgReplay),
            (real[..35].to_vec(), Counter::DgMalformed),
            (vec![1; 1_201], Counter::DgMalformed),
            (vec![], Counter::DgMalformed),
        ];
        let mut changed = |at: usize, by: u8, counter| {
            let mut bytes = lost.clone();
            bytes[at] ^= by;
            cases.push((bytes, counter));
        };
        changed(0, 2, Counter::DgMalformed);
        changed(1, 1, Counter::DgMalformed);
        changed(15, 0x80, Counter::DgMalformed);
        changed(4, 1, Counter::DgNoLink);
        changed(8, 2, Counter::DgBadTag);
        changed(9, 0xFF, Counter::DgBadTag);
        changed(16, 1, Counter::DgBadTag);
        changed(real.len() - 1, 1, Counter::DgBadTag);
        for (bytes, counter) in cases {
            let before = net.nodes[0].counters().get(counter);
            net.input(0, Input::Datagram(bytes));
            assert_eq!(net.nodes[0].counters().get(counter), before + 1);
            assert_eq!(Digest::of(&net.nodes[0]), hash, "{counter:?}");
        }
        assert_eq!(net.take(0), []);
        // And the link goes on, the lost one included.
        net.message(1, 0, Lane::Datagram, 2);
        net.run_ms(20);
        net.input(0, Input::Datagram(lost));
        assert_eq!(seqs(&net.take(0), Lane::Datagram), [ping(2), ping(3)]);
    }
}

/// C113: an authentic datagram that does not decode is dropped whole.
#[test]
fn an_authentic_datagram_that_does_not_decode_is_dropped() {
    let mut net = linked(Suite::Noise);
    let peer = net.id(0);
    let link = net.nodes[1].peers.get_mut(&peer).unwrap().link.as_mut();
    let epoch = &mut link.unwrap().epochs.current;
    let mut bytes = vec![0; DatagramHeader::LEN];
    bytes.extend_from_slice(&[9; 20]);
    epoch.sealer.seal_datagram(epoch.remote_index, &mut bytes);
    net.input(0, Input::Datagram(bytes));
    assert_eq!(net.nodes[0].counters().get(Counter::DgBody), 1);
    assert_eq!(net.take(0), []);
}

/// C36: loss and reordering on the datagram lane lose only what was lost.
#[test]
fn reordered_datagrams_are_accepted_once_each() {
    let mut net = linked(Suite::Noise);
    net.loss = 30;
    for seq in 0..500 {
        net.message(0, 1, Lane::Datagram, seq);
    }
    net.run_ms(50);
    let got = seqs(&net.take(1), Lane::Datagram);
    assert!((250..450).contains(&got.len()), "{}", got.len());
    let counters = net.nodes[1].counters();
    assert_eq!(counters.get(Counter::DatagramsIn), got.len() as u64);
    for (_, bytes) in net.datagrams.clone() {
        net.input(1, Input::Datagram(bytes));
    }
    let got = got.len() + seqs(&net.take(1), Lane::Datagram).len();
    assert_eq!(got, 500, "the lost ones open now, the others are replays");
}

/// Seals `plain` as node 1's next record for node 0 and lets it arrive.
fn record(net: &mut Net, plain: &[u8]) {
    let peer = net.id(0);
    let link = net.nodes[1].peers.get_mut(&peer).unwrap().link.as_mut();
    let mut bytes = vec![0; 2];
    bytes.extend_from_slice(plain);
    let sealer = &mut link.unwrap().epochs.current.sealer;
    sealer.seal_record(&mut bytes, 0);
    let conn = net.conn(0, 1).unwrap();
    net.input(0, Input::Bytes { conn, bytes });
}

fn fragment(kind: FrameKind, first: bool, last: bool, total: u32, body: &[u8]) -> Vec<u8> {
    let header = FrameHeader { kind, first, last, total };
    [&header.to_array()[..], body].concat()
}

/// C112: each kind of bad record closes that link alone, delivers nothing, and is counted.
#[test]
fn bad_records_close_that_link_alone() {
    let send = FrameKind::Send;
    let unknown = Labelled::FrameMalformed;
    type Case = (Vec<Vec<u8>>, Result<Counter, u8>);
    let cases: Vec<Case> = vec![
        (vec![vec![0x0A, 3, 0, 0, 0, 0, 0, 0]], Err(0x0A)),
        (vec![vec![4, 3 | 4, 0, 0, 0, 0, 0, 0]], Err(4)),
        (vec![vec![4, 3 | 16, 0, 0, 0, 0, 0, 0]], Err(4)),
        (vec![vec![4, 3, 1, 0, 0, 0, 0, 0]], Err(4)),
        (vec![fragment(send, true, false, 17 << 20, &[1; 100])], Ok(Counter::FrameTooLarge)),
        (vec![fragment(send, false, true, 10, &[1; 10])], Ok(Counter::FrameFragment)),
        (vec![fragment(send, true, true, 11, &[1; 10])], Ok(Counter::FrameFragment)),
        (
            vec![
                fragment(send, true, false, 20, &[1; 10]),
                fragment(send, false, true, 21, &[1; 10]),
            ],
            Ok(Counter::FrameFragment),
        ),
        (
            vec![
                fragment(send, true, false, 20, &[1; 10]),
                fragment(send, true, false, 20, &[1; 10]),
            ],
            Ok(Counter::FrameFragment),
        ),
        (
            vec![
                fragment(send, true, false, 20, &[1; 10]),
                fragment(send, false, true, 20, &[1; 11]),
            ],
            Ok(Counter::FrameFragment),
        ),
        (
            vec![
                fragment(send, true, false, 20, &[1; 10]),
                fragment(FrameKind::Ask, false, true, 20, &[1; 10]),
            ],
            Ok(Counter::FrameFragment),
        ),
        (vec![fragment(send, true, true, 10, &[1; 10])], Err(0x20)),
        (vec![fragment(FrameKind::Rekey4, true, true, 0, &[])], Ok(Counter::FrameUnexpected)),
        (vec![fragment(FrameKind::Rekey3, true, true, 68, &[1; 68])], Ok(Counter::FrameUnexpected)),
        (vec![fragment(FrameKind::Rekey1, true, true, 32, &[1; 32])], Ok(Counter::FrameUnexpected)),
    ];
    for (records, counted) in cases {
        let mut net = linked(Suite::Null);
        for plain in &records {
            record(&mut net, plain);
        }
        let counters = net.nodes[0].counters();
        match counted {
            Ok(counter) => assert_eq!(counters.get(counter), 1, "{records:?}"),
            Err(kind) => assert_eq!(counters.get_labelled(unknown, kind), 1, "{records:?}"),
        }
        let told = net.take(0);
        assert_eq!(downs(&told), [CloseReason::ProtocolError], "{records:?}");
        assert_eq!(frames(&told), []);
        assert!(net.linked(0, 2));
        net.run_ms(20);
        assert_eq!(downs(&net.take(1)), [CloseReason::ProtocolError]);
    }
}

/// C112: lengths out of range and tags that do not fit.
#[test]
fn bad_lengths_and_tags_close_that_link_alone() {
    for (bytes, counter) in [
        (vec![23, 0], Counter::RecLength),
        (vec![0x11, 0x40], Counter::RecLength),
        ([vec![24, 0], vec![7; 24]].concat(), Counter::RecBadTag),
    ] {
        let mut net = linked(Suite::Noise);
        let conn = net.conn(0, 1).unwrap();
        let other = Digest::of(&net.nodes[0].link(net.id(2)));
        net.input(0, Input::Bytes { conn, bytes });
        assert_eq!(net.nodes[0].counters().get(counter), 1);
        assert_eq!(downs(&net.take(0)), [CloseReason::ProtocolError]);
        assert_eq!(Digest::of(&net.nodes[0].link(net.id(2))), other);
        assert!(net.linked(0, 2));
    }
}

/// C133: random bytes into a random place close at most that link; it is redialled.
#[test]
fn injected_stream_bytes_close_at_most_that_link() {
    for seed in 0..200 {
        let mut net = linked(Suite::Null);
        net.choices = crate::Choices::new(seed);
        let conn = net.conn(0, 1).unwrap();
        let len = 1 + net.choices.choose("test.len", [0, 0], 300);
        let bytes = (0..len)
            .map(|_| net.choices.choose("test.byte", [0, 0], 256).to_le_bytes()[0])
            .collect();
        net.input(0, Input::Bytes { conn, bytes });
        net.frame(1, 0, send(1, vec![1]));
        net.run_ms(100);
        assert!(net.linked(0, 2), "seed {seed}");
        net.dial(1, 0);
        net.run_ms(30_000);
        net.dial(1, 0);
        net.run_ms(500);
        assert!(net.linked(0, 1), "seed {seed}");
    }
}

/// C111: `link_after_close`.
#[test]
fn bytes_after_a_close_are_counted_and_dropped() {
    let mut net = linked(Suite::Null);
    let peer = net.id(0);
    let link = net.nodes[1].peers.get_mut(&peer).unwrap().link.as_mut();
    let mut bytes = link.unwrap().farewell(CloseReason::Idle).unwrap();
    bytes.extend_from_slice(&[1, 2, 3]);
    let conn = net.conn(0, 1).unwrap();
    net.input(0, Input::Bytes { conn, bytes });
    assert_eq!(net.nodes[0].counters().get(Counter::LinkAfterClose), 1);
    assert_eq!(downs(&net.take(0)), [CloseReason::Idle]);
}

/// C131: a canary in payloads and names of messages never crosses in clear.
#[test]
fn no_plaintext_crosses_after_the_handshake() {
    let mut net = linked(Suite::Noise);
    let canary = *b"sixteen letters!";
    net.frame(0, 1, send(1, canary.repeat(3_000)));
    net.run_ms(50);
    assert_eq!(frames(&net.take(1)).len(), 1);
    let all: Vec<&[u8]> = net.written.values().map(Vec::as_slice).collect();
    for bytes in all {
        assert!(!bytes.windows(16).any(|window| window == canary));
    }
}

/// C35, C112: a rekey under another static key breaks the link as RekeyFailed.
#[test]
fn a_rekey_with_another_key_fails() {
    let mut net = Net::new(2, Suite::Noise);
    net.dial(0, 1);
    net.run_ms(50);
    net.nodes[1].terms.key = key(9);
    let peer = net.id(1);
    let now = net.now;
    net.nodes[0].with_link(now, peer, |links, link| {
        links.rekey(now, link);
        Ok(())
    });
    let conn = net.conn(0, 1).unwrap();
    let entropy = net.entropy();
    assert_eq!(net.nodes[0].poll(), Some(Output::Draw { conn }));
    net.input(0, Input::Drawn { conn, entropy });
    net.run_ms(50);
    assert_eq!(downs(&net.take(0)), [CloseReason::RekeyFailed]);
    assert_eq!(net.nodes[0].counters().get(Counter::FrameUnexpected), 1);
    assert_eq!(net.nodes[0].sizes().indexes, 0, "C150");
    assert_eq!(net.nodes[1].sizes().indexes, 0, "C150");
}

/// C35, C150: a rekey that fails, or goes on out of turn, keeps no link index.
#[test]
fn a_rekey_that_does_not_open_or_is_out_of_turn_leaves_no_index() {
    for third in [true, false] {
        let mut net = Net::new(2, Suite::Noise);
        net.dial(0, 1);
        net.run_ms(50);
        net.take(1);
        let (now, peer, conn) = (net.now, net.id(0), net.conn(1, 0).unwrap());
        net.nodes[1].with_link(now, peer, |links, link| links.rekey1(now, link, [9; 32]));
        assert_eq!(net.nodes[1].poll(), Some(Output::Draw { conn }));
        let entropy = net.entropy();
        net.input(1, Input::Drawn { conn, entropy });
        assert_eq!(net.nodes[1].sizes().indexes, 2, "Rekey2 was answered");
        net.nodes[1].with_link(now, peer, |links, link| match third {
            true => links.rekey3(now, link, &[0; 68]),
            false => links.rekey2(now, link, &[0; 100]),
        });
        while net.nodes[1].poll().is_some() {}
        assert!(net.nodes[1].link(peer).is_none());
        assert_eq!(net.nodes[1].sizes().indexes, 0);
    }
}

/// A state of two nodes and what is under way between them, for trying every order.
#[derive(Clone, Hash)]
struct Orders {
    nodes: [Links; 2],
    /// Under way: (to, stream or dial) → inputs in order.
    channels: Vec<((usize, Conn), VecDeque<Step>)>,
    pipes: Vec<((usize, Conn), (usize, Conn))>,
    accepted: u64,
    fails: u32,
}

#[derive(Clone, Hash)]
enum Step {
    Arrive(Conn),
    Input(Input),
}

impl Orders {
    fn push(&mut self, to: usize, conn: Conn, step: Step) {
        let found = self.channels.iter().position(|(key, _)| *key == (to, conn));
        match found {
            Some(at) => self.channels[at].1.push_back(step),
            None => self.channels.push(((to, conn), [step].into())),
        }
    }

    fn other(&self, end: (usize, Conn)) -> Option<(usize, Conn)> {
        let pipe = |(a, b): &((usize, Conn), (usize, Conn))| match end {
            end if end == *a => Some(*b),
            end if end == *b => Some(*a),
            _ => None,
        };
        self.pipes.iter().find_map(pipe)
    }

    fn input(&mut self, node: usize, input: Input) {
        self.nodes[node].handle(Instant::from_millis(1), input);
        while let Some(output) = self.nodes[node].poll() {
            self.carry(node, output);
        }
    }

    fn carry(&mut self, node: usize, output: Output) {
        if let Output::Dial { conn, .. } = output {
            self.push(1 - node, conn, Step::Arrive(conn));
        } else if let Output::Write { conn, bytes } = output {
            if let Some((to, conn)) = self.other((node, conn)) {
                self.push(to, conn, Step::Input(Input::Bytes { conn, bytes }));
            }
        } else if let Output::Close { conn } = output
            && let Some((to, conn)) = self.other((node, conn))
        {
            self.push(to, conn, Step::Input(Input::Closed { conn }));
        }
    }

    /// Lets the head of channel `at` happen; `fail` fails a dial instead.
    fn take(&mut self, at: usize, fail: bool) {
        let (to, _) = self.channels[at].0;
        let step = self.channels[at].1.pop_front().unwrap();
        if self.channels[at].1.is_empty() {
            self.channels.remove(at);
        }
        match step {
            Step::Input(input) => self.input(to, input),
            Step::Arrive(conn) if fail => {
                self.fails += 1;
                self.input(1 - to, Input::DialFailed { conn });
            }
            Step::Arrive(conn) => {
                self.accepted += 2;
                let other = Conn(self.accepted + 1);
                self.pipes.push(((1 - to, conn), (to, other)));
                let entropy = |tag: usize| Entropy([u8::try_from(tag + 1).unwrap(); 64]);
                let node = 1 - to;
                let connected = Input::Connected { conn, entropy: entropy(node) };
                self.push(node, conn, Step::Input(connected));
                self.input(
                    to,
                    Input::Accepted {
                        conn: other,
                        source: addr(node).tcp().ip(),
                        entropy: entropy(to + 2),
                    },
                );
            }
        }
    }

    fn settled(&self) -> bool {
        self.channels.is_empty()
    }
}

/// C134, every order: both nodes dial at once, at most one dial fails. In every end state both
/// have one link, and it is the same stream.
#[test]
fn in_every_order_of_a_simultaneous_dial_one_link_is_left() {
    let node = |node| Links::new(params(node, Suite::Null));
    let mut start = Orders {
        nodes: [node(0), node(1)],
        channels: Vec::new(),
        pipes: Vec::new(),
        accepted: 0,
        fails: 0,
    };
    let ids = [start.nodes[0].node(), start.nodes[1].node()];
    for node in [0, 1] {
        start.input(node, Input::Dial { peer: ids[1 - node], addr: addr(1 - node) });
    }
    let (mut seen, mut todo, mut ends) = (BTreeSet::new(), vec![start], 0);
    while let Some(state) = todo.pop() {
        for node in &state.nodes {
            assert!(node.up() <= 1);
            let peers = || node.peers.values();
            assert!(!peers().any(|peer| peer.link().is_some() && peer.is_dialling()));
        }
        if state.settled() {
            ends += 1;
            let conn = |node: usize| state.nodes[node].link(ids[1 - node]).map(|l| l.conn());
            let (a, b) = (conn(0), conn(1));
            match (a, b) {
                (Some(a), Some(b)) => assert_eq!(state.other((0, a)), Some((1, b))),
                _ => panic!("{a:?} {b:?} after {} failures", state.fails),
            }
            continue;
        }
        for at in 0..state.channels.len() {
            let arrives = matches!(state.channels[at].1.front(), Some(Step::Arrive(_)));
            for fail in [false, true] {
                if fail && (!arrives || state.fails > 0) {
                    continue;
                }
                let mut next = state.clone();
                next.take(at, fail);
                if seen.insert(Digest::of(&next)) {
                    todo.push(next);
                }
            }
        }
    }
    assert!(ends > 1, "{ends}");
    assert!(seen.len() > 100, "{}", seen.len());
}
