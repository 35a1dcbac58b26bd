//! Goal: after any faults every pair that wants a link has exactly one, the same at both ends,
//! within 2·handshake_timeout + backoff_cap (C134); and no frame arrives twice (C146).
//! Method: three nodes, seeded faults of every kind for some seconds, then peace.

use std::collections::BTreeSet;

use super::net::{Net, addr, life, params, send};
use crate::Choices;
use crate::cluster::ids::{Conn, Session};
use crate::cluster::links::io::{Input, Output};
use crate::cluster::sealer::Suite;
use crate::cluster::swim::io::{Lane, Seed};
use crate::cluster::wire::{Frame, UserFrame};

const NODES: usize = 3;

struct Story {
    net: Net,
    choices: Choices,
    sessions: [u32; NODES],
    /// Payloads that arrived: sender's name for the frame, unique in the run.
    arrived: BTreeSet<Vec<u8>>,
    /// Frames since the last start, per node.
    number: [u64; NODES],
    sent: u64,
}

impl Story {
    fn pick(&mut self, bound: u64) -> usize {
        usize::try_from(self.choices.choose("test.pick", [0, 0], bound)).unwrap()
    }

    fn pair(&mut self) -> (usize, usize) {
        let a = self.pick(3);
        (a, (a + 1 + self.pick(2)) % NODES)
    }

    fn fault(&mut self) {
        let (a, b) = self.pair();
        match self.pick(20) {
            0 => drop(self.net.refused.insert((a, b))),
            1 => drop(self.net.hung.insert((a, b))),
            2 => {
                self.net.refused.clear();
                self.net.hung.clear();
            }
            3 => self.net.cut(|node, _| node == a),
            4 => {
                // Only one end notices.
                if let Some(conn) = self.net.conn(a, b) {
                    self.net.pipes.remove(&(a, conn));
                    self.net.input(a, Input::Closed { conn });
                }
            }
            5 => self.restart(a),
            6 => self.net.loss = 40,
            7 => self.net.loss = 0,
            8 => {
                let node = self.net.id(b);
                let node = (self.pick(2) == 0).then_some(node);
                let target = Seed { addr: addr(b), node };
                self.net.input(a, Input::DialSeed { seed: target });
            }
            9 => self.net.dial(a, b),
            10 => {
                let conn = self.net.conn(a, b).unwrap_or(Conn(1));
                let bytes = vec![self.pick(256).to_le_bytes()[0]; 40];
                self.net.input(a, Input::Bytes { conn, bytes });
            }
            11 => self.net.message(a, b, Lane::Datagram, 1),
            12 => {
                let (peer, session) = (self.net.id(b), Session(self.sessions[b]));
                self.net.input(a, Input::SessionKnown { peer, session });
            }
            _ => self.send(a, b),
        }
    }

    fn send(&mut self, a: usize, b: usize) {
        self.number[a] += 1;
        self.sent += 1;
        let mut payload = self.sent.to_le_bytes().to_vec();
        payload.resize(8 + self.pick(60_000), 0);
        self.net.frame(a, b, send(self.number[a], payload));
    }

    fn restart(&mut self, node: usize) {
        self.gather();
        self.sessions[node] += 1;
        self.number[node] = 0;
        let mut fresh = params(node, Suite::Null);
        fresh.life = life(self.sessions[node]);
        fresh.instance.0 += 10 * u64::from(self.sessions[node]);
        self.net.restart(node, fresh);
    }

    /// C146: no frame arrives twice; per sender and link numbers rise (the links check that).
    fn gather(&mut self) {
        for node in 0..NODES {
            for output in self.net.take(node) {
                if let Output::Frame {
                    frame: Frame::User(UserFrame::Send { payload, .. }), ..
                } = output
                {
                    assert!(self.arrived.insert(payload[..8].to_vec()), "twice");
                }
            }
        }
    }

    fn peace(&mut self) {
        self.net.refused.clear();
        self.net.hung.clear();
        self.net.loss = 0;
        for _ in 0..44 {
            for (a, b) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
                self.net.message(a, b, Lane::Datagram, 1);
            }
            self.net.run_ms(500);
        }
    }
}

#[test]
fn after_any_faults_every_pair_has_one_link() {
    let (mut sent, mut arrived) = (0, 0);
    for seed in 0..250 {
        let mut story = Story {
            net: Net::new(NODES, Suite::Null),
            choices: Choices::new(seed),
            sessions: [1; NODES],
            arrived: BTreeSet::new(),
            number: [0; NODES],
            sent: 0,
        };
        story.net.choices = Choices::new(seed + 1_000);
        for _ in 0..60 {
            story.fault();
            let ms = story.choices.choose("test.ms", [0, 0], 400);
            story.net.run_ms(ms);
        }
        story.peace();
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            assert!(story.net.linked(a, b), "seed {seed}: {a} and {b}");
        }
        story.gather();
        sent += story.sent;
        arrived += story.arrived.len() as u64;
        for node in 0..NODES {
            let sizes = story.net.nodes[node].sizes();
            assert_eq!((sizes.conns, sizes.half_open), (2, 0), "seed {seed}");
            assert_eq!(sizes.indexes, 2, "seed {seed}");
        }
    }
    assert!(arrived > sent / 4, "{arrived} of {sent} frames arrived");
    assert!(arrived < sent, "the faults cost some of {sent}");
}
