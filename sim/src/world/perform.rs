//! What nodes want done: datagrams, calls, sessions.

use std::net::SocketAddr;

use machines::cluster::ids::Entropy;
use machines::digest::mix;
use machines::node::io::{Input, Output, Reply};

use super::{Due, World};
use crate::checker::Notice;
use crate::clients::Reaction;
use crate::guest::Guest;
use crate::host::{PORT, State, place_of};
use crate::net::{self, Fate};

/// What an attacker remembers: so many datagrams and pieces of streams.
const TAPE_MAX: usize = 64;

impl<G: Guest> World<G> {
    pub(super) fn perform(&mut self, node: u32, output: Output) {
        match output {
            Output::Datagram { to, bytes } => self.send(node, to, bytes),
            Output::Dial { conn, addr } => self.dial(node, conn, addr),
            Output::Write { conn, bytes } => self.write(node, conn, bytes),
            Output::Close { conn } => self.close(node, conn),
            Output::Draw { conn } => {
                let entropy = self.entropy(node);
                self.later(node, self.now, Input::Drawn { conn, entropy });
            }
            Output::StoreSession { session, offset, bytes } => {
                self.store(node, (session, offset, bytes));
            }
            Output::Reply { .. } | Output::Deliver { .. } => self.told(node, &output),
            Output::Event(_) => {}
            Output::Stop(_) => {
                self.stop(node, State::Down, false);
                self.note("stopped", node);
                self.notify(Notice::Stopped(node));
            }
        }
    }

    /// A datagram leaves `node`.
    #[inline(always)]
    pub(super) fn send(&mut self, node: u32, to: SocketAddr, bytes: Vec<u8>) {
        let Some(to) = self.reached(to) else {
            return;
        };
        if let Some(tape) = &mut self.tape {
            remember(tape, &bytes);
        }
        match self.net.datagram(node, to, bytes.len(), self.now, &mut self.choices) {
            Fate::Lost => {}
            Fate::Arrives { at, copy_at: None, corrupt: false } => {
                self.agenda.push(at, Due::Datagram { to, bytes });
            }
            Fate::Arrives { at, copy_at, corrupt } => {
                if let Some(copy_at) = copy_at {
                    self.agenda.push(copy_at, Due::Datagram { to, bytes: bytes.clone() });
                }
                let mut bytes = bytes;
                if corrupt {
                    let link = [u64::from(node), u64::from(to)];
                    net::corrupt(&mut bytes, link, &mut self.choices);
                }
                self.agenda.push(at, Due::Datagram { to, bytes });
            }
        }
    }

    /// Returns the node that listens at `to`.
    #[inline]
    pub(super) fn reached(&self, to: SocketAddr) -> Option<u32> {
        let (node, moves) = place_of(to.ip())?;
        let host = self.hosts.get(node as usize)?;
        (host.moves == moves && to.port() == PORT).then_some(node)
    }

    /// Gives an input to the present process of `node`, at `at`.
    pub(super) fn later(&mut self, node: u32, at: u64, input: Input) {
        let epoch = self.hosts[node as usize].epoch;
        self.agenda.push(at, Due::Input { node, epoch, input: Box::new(input) });
    }

    /// Draws entropy for a node: a keyed hash of the seed, so that no run shares it. No choice: see
    /// the head of [`world`](super).
    pub(super) fn entropy(&mut self, node: u32) -> Entropy {
        let host = &mut self.hosts[node as usize];
        host.drawn += 1;
        let key = mix(self.setup.seed ^ 0x0065_6e74_726f_7079, host.id.entity() ^ host.drawn);
        let mut bytes = [0; 64];
        for (word, part) in (1_u64..).zip(bytes.chunks_exact_mut(8)) {
            let drawn = mix(key ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0xd6e8_feb8_6659_fd93);
            part.copy_from_slice(&drawn.to_le_bytes());
        }
        Entropy(bytes)
    }

    fn told(&mut self, node: u32, output: &Output) {
        let left = matches!(output, Output::Reply { reply: Reply::Left, .. });
        match self.clients.heard(node, output, &mut self.choices) {
            Reaction::None => {}
            Reaction::Call(after, call, request) => {
                self.later(node, self.now + after, Input::Call { call, request });
            }
        }
        if left {
            self.stop(node, State::Left, false);
            self.struck.count("leave");
            self.note("left", node);
            self.notify(Notice::Left(node));
        }
    }
}

/// Lets the attacker overhear something.
pub(super) fn remember(tape: &mut std::collections::VecDeque<Vec<u8>>, bytes: &[u8]) {
    if tape.len() == TAPE_MAX {
        tape.pop_front();
    }
    tape.push_back(bytes.to_vec());
}
