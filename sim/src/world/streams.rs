//! How streams are dialled, carry bytes in order, and end.

use std::net::SocketAddr;

use machines::cluster::ids::Conn;
use machines::node::io::Input;

use super::{Due, World, perform};
use crate::guest::Guest;
use crate::host::State;
use crate::net::{self, RETRANSMIT};
use crate::streams::{Chunk, Side, Stream};

/// The first wait before a dial without answer is tried again; it doubles.
const SYN_AGAIN: u64 = 1_000_000_000;
/// Tries of a dial.
const SYN_TRIES: u32 = 7;
/// Tries to send a segment before the stream is given up.
const SEND_TRIES: u32 = 12;

impl<G: Guest> World<G> {
    pub(super) fn dial(&mut self, node: u32, conn: Conn, addr: SocketAddr) {
        let epoch = self.hosts[node as usize].epoch;
        let target = self.reached(addr);
        let index = u32::try_from(self.streams.len()).expect("fewer than 2^32 streams");
        self.streams.push(Stream::dialled(node, epoch, conn.0, target.unwrap_or(node)));
        self.hosts[node as usize].conns.insert(conn.0, (index, 0));
        match target {
            Some(to) => {
                let at = self.net.segment(node, to, 40, self.now, &mut self.choices);
                self.agenda.push(at, Due::Syn { stream: index, attempt: 0 });
            }
            None => {
                let at = self.now + 2 * self.setup.plain.delay_min + 1;
                self.agenda.push(at, Due::Unreachable { stream: index });
            }
        }
    }

    pub(super) fn syn(&mut self, index: u32, attempt: u32) {
        let [dialler, acceptor] = &self.streams[index as usize].ends;
        let (from, to, open) = (dialler.node, acceptor.node, dialler.open);
        if !open {
            return;
        }
        if self.is_held_up(from, to) || self.is_held_up(to, from) {
            if attempt + 1 == SYN_TRIES {
                return self.unreachable(index);
            }
            let at = self.now + (SYN_AGAIN << attempt);
            self.agenda.push(at, Due::Syn { stream: index, attempt: attempt + 1 });
            return;
        }
        let back = self.net.segment(to, from, 40, self.now, &mut self.choices);
        if self.hosts[to as usize].state != State::Up {
            self.agenda.push(back, Due::Unreachable { stream: index });
            return;
        }
        self.accept(index, from, to);
        self.streams[index as usize].ends[0].last_arrival = back;
        self.agenda.push(back, Due::SynAck { stream: index, attempt: 0 });
    }

    fn accept(&mut self, index: u32, from: u32, to: u32) {
        let host = &mut self.hosts[to as usize];
        let conn = host.next_accept;
        host.next_accept += 2;
        host.conns.insert(conn, (index, 1));
        let stream = &mut self.streams[index as usize];
        stream.accepted = true;
        let end = &mut stream.ends[1];
        end.epoch = host.epoch;
        end.conn = conn;
        end.open = true;
        let entropy = self.entropy(to);
        let source = crate::host::address(from, self.hosts[from as usize].moves).tcp().ip();
        self.deliver(to, Input::Accepted { conn: Conn(conn), source, entropy });
    }

    pub(super) fn syn_ack(&mut self, index: u32, attempt: u32) {
        let [dialler, acceptor] = &self.streams[index as usize].ends;
        let (node, from, open) = (dialler.node, acceptor.node, dialler.open);
        let conn = Conn(dialler.conn);
        if !open {
            return;
        }
        if attempt < SYN_TRIES && self.is_held_up(from, node) {
            let at = self.now + (SYN_AGAIN << attempt);
            self.streams[index as usize].ends[0].last_arrival = at;
            self.agenda.push(at, Due::SynAck { stream: index, attempt: attempt + 1 });
            return;
        }
        let entropy = self.entropy(node);
        self.deliver(node, Input::Connected { conn, entropy });
    }

    pub(super) fn unreachable(&mut self, index: u32) {
        let dialler = &mut self.streams[index as usize].ends[0];
        if !dialler.open {
            return;
        }
        dialler.open = false;
        let (node, conn) = (dialler.node, dialler.conn);
        self.deliver(node, Input::DialFailed { conn: Conn(conn) });
    }

    pub(super) fn write(&mut self, node: u32, conn: Conn, bytes: Vec<u8>) {
        let Some(&(index, side)) = self.hosts[node as usize].conns.get(&conn.0) else {
            return;
        };
        if let Some(tape) = &mut self.tape {
            perform::remember(tape, &bytes);
        }
        if let Some(stream) = self.streams.get_mut(index as usize)
            && stream.ends[side].open
        {
            stream.ends[side].unsent.push_back(bytes);
            self.transmit(index, side);
        }
    }

    pub(super) fn close(&mut self, node: u32, conn: Conn) {
        let Some((index, side)) = self.hosts[node as usize].conns.remove(&conn.0) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(index as usize)
            && stream.ends[side].open
        {
            stream.ends[side].open = false;
            stream.ends[side].closing = true;
            self.transmit(index, side);
        }
    }

    /// Puts into flight what has room in the window.
    fn transmit(&mut self, index: u32, side: Side) {
        let stream = &mut self.streams[index as usize];
        if !stream.accepted {
            return;
        }
        let mut wrote = 0_u32;
        while let Some(chunk) = self.streams[index as usize].sendable(side) {
            if let Chunk::Bytes(bytes) = &chunk {
                wrote = wrote.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            }
            self.launch(index, side, chunk);
        }
        let end = &self.streams[index as usize].ends[side];
        if wrote > 0 && end.open {
            let conn = Conn(end.conn);
            self.later(end.node, self.now, Input::Wrote { conn, count: wrote });
        }
    }

    /// Sends one chunk from `side` to the other end.
    fn launch(&mut self, index: u32, side: Side, mut chunk: Chunk) {
        let stream = &self.streams[index as usize];
        let (from, to) = (stream.ends[side].node, stream.ends[1 - side].node);
        let length = match &mut chunk {
            Chunk::Bytes(bytes) => {
                self.tamper(from, to, bytes);
                bytes.len()
            }
            Chunk::End | Chunk::Reset => 40,
        };
        let at = self.net.segment(from, to, length, self.now, &mut self.choices);
        let target = &mut self.streams[index as usize].ends[1 - side];
        target.last_arrival = target.last_arrival.max(at);
        target.inbound.push_back(chunk);
        let at = target.last_arrival;
        let side = u32::from(side == 0);
        self.agenda.push(at, Due::Arrive { stream: index, side, attempt: 0 });
    }

    fn tamper(&mut self, from: u32, to: u32, bytes: &mut [u8]) {
        let share = self.net.between(from, to).tamper;
        let link = [u64::from(from), u64::from(to)];
        if net::strikes(&mut self.choices, "stream.tamper", link, share) && !bytes.is_empty() {
            let bits = bytes.len() as u64 * 8;
            let bit = self.choices.choose("stream.tamper.bit", link, bits);
            bytes[usize::try_from(bit / 8).expect("within")] ^= 1 << (bit % 8);
            self.struck.count("tamper");
        }
    }

    /// The front of what travels to `side` arrives, or is held up once more.
    pub(super) fn arrive(&mut self, index: u32, side: Side, attempt: u32) {
        let stream = &self.streams[index as usize];
        let (from, to) = (stream.ends[1 - side].node, stream.ends[side].node);
        if self.is_held_up(from, to) {
            if attempt < SEND_TRIES {
                let at = self.now + (RETRANSMIT << attempt.min(8));
                let side = u32::from(side == 1);
                self.agenda.push(at, Due::Arrive { stream: index, side, attempt: attempt + 1 });
            } else {
                self.streams[index as usize].ends[side].inbound.clear();
                self.end_closed(index, 1 - side);
            }
            return;
        }
        match self.streams[index as usize].ends[side].inbound.pop_front() {
            Some(Chunk::Bytes(bytes)) => self.bytes_arrive(index, side, bytes),
            Some(Chunk::End) => self.end_closed(index, side),
            Some(Chunk::Reset) => {
                self.streams[index as usize].forget(1 - side);
                self.end_closed(index, side);
            }
            None => {}
        }
    }

    fn bytes_arrive(&mut self, index: u32, side: Side, bytes: Vec<u8>) {
        let stream = &mut self.streams[index as usize];
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let sender = &mut stream.ends[1 - side];
        sender.in_flight = sender.in_flight.saturating_sub(length);
        if stream.ends[side].open {
            self.hand_in(index, side, bytes);
            self.transmit(index, 1 - side);
        } else if stream.ends[1 - side].open {
            self.launch(index, side, Chunk::Reset);
        }
    }

    fn hand_in(&mut self, index: u32, side: Side, mut bytes: Vec<u8>) {
        let end = &self.streams[index as usize].ends[side];
        let (node, conn) = (end.node, Conn(end.conn));
        let from = self.streams[index as usize].ends[1 - side].node;
        if self.net.between(from, node).fragment && bytes.len() > 1 {
            let link = [u64::from(from), u64::from(node)];
            let at = self.choices.choose("stream.fragment", link, bytes.len() as u64);
            let rest = bytes.split_off(usize::try_from(at).expect("within"));
            if !bytes.is_empty() {
                self.struck.count("fragment");
                self.deliver(node, Input::Bytes { conn, bytes });
            }
            bytes = rest;
        }
        self.deliver(node, Input::Bytes { conn, bytes });
    }

    /// The end at `side` learns that the stream is over.
    pub(super) fn end_closed(&mut self, index: u32, side: Side) {
        let stream = &mut self.streams[index as usize];
        if !stream.ends[side].open {
            return;
        }
        stream.forget(side);
        let (node, conn) = (stream.ends[side].node, stream.ends[side].conn);
        self.deliver(node, Input::Closed { conn: Conn(conn) });
    }

    /// Drops all streams of a process that is gone; `told` peers hear of it.
    pub(super) fn drop_streams(&mut self, node: u32, told: bool) {
        let conns = std::mem::take(&mut self.hosts[node as usize].conns);
        for (index, side) in conns.into_values() {
            let Some(stream) = self.streams.get_mut(index as usize) else {
                continue; // An attacker's.
            };
            stream.forget(side);
            let tell = told && stream.accepted && stream.ends[1 - side].open;
            if tell {
                self.launch(index, side, Chunk::Reset);
            }
        }
    }

    /// Resets every stream between `a` and `b`, at both ends, as something between them can.
    pub(super) fn reset_between(&mut self, a: u32, b: u32) {
        let between = |stream: &Stream| stream.ends[0].node == a && stream.ends[1].node == b;
        let count = u32::try_from(self.streams.len()).expect("fewer than 2^32 streams");
        for index in 0..count {
            let stream = &self.streams[index as usize];
            if between(stream) && stream.accepted && stream.ends.iter().any(|end| end.open) {
                self.struck.count("reset");
                self.end_closed(index, 0);
                self.end_closed(index, 1);
            }
        }
    }

    /// Says whether nothing from `from` reaches the machine of `to`, and counts what a cut holds
    /// up.
    fn is_held_up(&mut self, from: u32, to: u32) -> bool {
        let cut = !self.net.is_open(from, to);
        if cut {
            self.struck.count("cut");
        }
        cut || self.hosts[to as usize].dark
    }
}
