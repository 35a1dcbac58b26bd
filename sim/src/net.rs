//! The simulated network: what each link, in each direction, does to what crosses it (T20).
//!
//! A fault that is off asks no question. With no fault anywhere all links share one set of
//! conditions, and the table of links is empty.

use machines::Choices;

use crate::strikes::Strikes;

/// The denominator of the shares below.
pub const MILLION: u64 = 1_000_000;

/// What a link does, in one direction, at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The least one-way delay, in nanoseconds.
    pub delay_min: u64,
    /// How much longer it can be.
    pub delay_span: u64,
    /// Datagrams lost, and segments of streams sent again, of a million.
    pub loss: u32,
    /// Datagrams that arrive twice, of a million.
    pub duplicate: u32,
    /// Datagrams held back, of a million.
    pub reorder: u32,
    /// How long such a datagram is held back at the most.
    pub reorder_span: u64,
    /// Datagrams with flipped bits or cut short, of a million.
    pub corrupt: u32,
    /// Stream segments with a flipped bit, of a million: an attacker's work, for TCP has a sum.
    pub tamper: u32,
    /// Bytes a second; 0 is unlimited.
    pub rate: u64,
    /// Bytes that wait for the link at the most; more are dropped.
    pub queue: u64,
    /// The longest datagram; 0 is unlimited.
    pub mtu: u32,
    /// Nothing crosses.
    pub cut: bool,
    /// Streams lose the borders of writes.
    pub fragment: bool,
}

impl Conditions {
    /// Says whether a fault has changed how long something takes.
    fn is_delayed(&self, plain: &Self) -> bool {
        (self.delay_min, self.delay_span) != (plain.delay_min, plain.delay_span)
    }
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is gone.
    Lost,
    /// It arrives at this time, and perhaps once more.
    Arrives {
        /// When.
        at: u64,
        /// When the copy comes, if there is one.
        copy_at: Option<u64>,
        /// Whether its bytes change.
        corrupt: bool,
    },
}

/// The links between all nodes.
#[derive(Clone, Debug)]
pub struct Net {
    nodes: usize,
    /// Which of `kinds` a link has: `from * nodes + to`. Empty: all have the first.
    table: Vec<u16>,
    kinds: Vec<Conditions>,
    /// Per link, when it is free again; empty until a rate is set.
    free_at: Vec<u64>,
    struck: Strikes,
}

impl Net {
    /// Makes a network of `nodes` nodes under the conditions `plain`.
    #[must_use]
    pub fn new(nodes: u32, plain: Conditions) -> Self {
        Self {
            nodes: nodes as usize,
            table: Vec::new(),
            kinds: vec![plain],
            free_at: Vec::new(),
            struck: Strikes::default(),
        }
    }

    /// Counts how often its faults did something.
    #[must_use]
    pub const fn struck(&self) -> &Strikes {
        &self.struck
    }

    /// Returns the conditions from `from` to `to`.
    #[must_use]
    #[inline]
    pub fn between(&self, from: u32, to: u32) -> &Conditions {
        if self.table.is_empty() {
            return &self.kinds[0];
        }
        let kind = self.table[from as usize * self.nodes + to as usize];
        &self.kinds[kind as usize]
    }

    /// Says whether anything can go from `from` to `to` now.
    #[must_use]
    #[inline]
    pub fn is_open(&self, from: u32, to: u32) -> bool {
        !self.between(from, to).cut
    }

    /// Applies `changes` to the plain conditions: each with the links that it concerns.
    ///
    /// # Panics
    ///
    /// If more than 128 changes are in force at once; scenarios are checked for that.
    pub fn reshape<L, C>(&mut self, changes: &[(L, C)])
    where
        L: Fn(u32, u32) -> bool,
        C: Fn(&mut Conditions),
    {
        assert!(changes.len() <= 128, "at most 128 network faults are in force at once");
        self.kinds.truncate(1);
        self.table.clear();
        if changes.is_empty() {
            return;
        }
        self.table.resize(self.nodes * self.nodes, 0);
        let mut masks = vec![0_u128];
        let count = u32::try_from(self.nodes).expect("node counts are u32");
        for from in 0..count {
            for to in 0..count {
                let mask = mask_of(changes, from, to);
                let kind = masks.iter().position(|known| *known == mask).unwrap_or_else(|| {
                    masks.push(mask);
                    self.kinds.push(composed(&self.kinds[0], changes, mask));
                    masks.len() - 1
                });
                self.table[from as usize * self.nodes + to as usize] =
                    u16::try_from(kind).expect("fewer than 2^16 kinds of links");
            }
        }
    }

    /// Decides what becomes of a datagram of `length` bytes that leaves `from` for `to` at `now`.
    #[inline]
    pub fn datagram(
        &mut self,
        from: u32,
        to: u32,
        length: usize,
        now: u64,
        choices: &mut Choices,
    ) -> Fate {
        let kind = match self.table.is_empty() {
            true => 0,
            false => self.table[from as usize * self.nodes + to as usize] as usize,
        };
        let link = [u64::from(from), u64::from(to)];
        let on = &self.kinds[kind];
        if on.cut {
            self.struck.count("cut");
            return Fate::Lost;
        }
        if on.mtu != 0 && length > on.mtu as usize {
            self.struck.count("mtu");
            return Fate::Lost;
        }
        if strikes(choices, "net.loss", link, on.loss) {
            self.struck.count("loss");
            return Fate::Lost;
        }
        let mut at = now + delay(choices, "net.delay", link, on);
        if on.is_delayed(&self.kinds[0]) {
            self.struck.count("delay");
        }
        if on.reorder != 0 && strikes(choices, "net.reorder", link, on.reorder) {
            at += choices.choose("net.reorder.by", link, on.reorder_span.max(1));
            self.struck.count("reorder");
        }
        let copy_at = (on.duplicate != 0 && strikes(choices, "net.duplicate", link, on.duplicate))
            .then(|| now + delay(choices, "net.duplicate.delay", link, on));
        if copy_at.is_some() {
            self.struck.count("duplicate");
        }
        let corrupt = on.corrupt != 0 && strikes(choices, "net.corrupt", link, on.corrupt);
        if corrupt {
            self.struck.count("corrupt");
        }
        if on.rate == 0 {
            return Fate::Arrives { at, copy_at, corrupt };
        }
        let (rate, queue) = (on.rate, on.queue);
        match self.transmit(from, to, length, now, rate, queue) {
            None => Fate::Lost,
            Some(sent) => Fate::Arrives {
                at: at + (sent - now),
                copy_at: copy_at.map(|copy| copy + (sent - now)),
                corrupt,
            },
        }
    }

    /// Returns when a stream's segment that leaves now arrives: late, but never lost.
    pub fn segment(
        &mut self,
        from: u32,
        to: u32,
        length: usize,
        now: u64,
        choices: &mut Choices,
    ) -> u64 {
        let link = [u64::from(from), u64::from(to)];
        let on = self.between(from, to).clone();
        let mut at = now + delay(choices, "net.stream.delay", link, &on);
        let mut wait = RETRANSMIT;
        while on.loss != 0 && wait < 64 * RETRANSMIT {
            if !strikes(choices, "net.stream.loss", link, on.loss) {
                break;
            }
            at += wait;
            wait *= 2;
            self.struck.count("loss");
        }
        if on.is_delayed(&self.kinds[0]) {
            self.struck.count("delay");
        }
        if on.rate != 0 {
            let sent = self.transmit(from, to, length, now, on.rate, u64::MAX);
            at += sent.map_or(0, |sent| sent - now);
        }
        at
    }

    /// Returns when the last byte has left, or `None` if the queue is full.
    fn transmit(
        &mut self,
        from: u32,
        to: u32,
        length: usize,
        now: u64,
        rate: u64,
        queue: u64,
    ) -> Option<u64> {
        if self.free_at.is_empty() {
            self.free_at.resize(self.nodes * self.nodes, 0);
        }
        let free = &mut self.free_at[from as usize * self.nodes + to as usize];
        let start = (*free).max(now);
        if start > now {
            self.struck.count("bandwidth");
        }
        let waiting = u128::from(start - now) * u128::from(rate) / 1_000_000_000;
        if waiting > u128::from(queue) {
            return None;
        }
        let span = (length as u128 * 1_000_000_000).div_ceil(u128::from(rate));
        *free = start.saturating_add(u64::try_from(span).unwrap_or(u64::MAX));
        Some(*free)
    }
}

/// How long a stream waits at first before it sends again what got no answer.
pub const RETRANSMIT: u64 = 200_000_000;

/// Draws a one-way delay; asks only if it can differ.
#[inline]
pub fn delay(choices: &mut Choices, site: &'static str, link: [u64; 2], on: &Conditions) -> u64 {
    if on.delay_span == 0 {
        return on.delay_min;
    }
    on.delay_min + choices.choose(site, link, on.delay_span + 1)
}

/// Decides whether a fault of share `share` strikes; asks only if it is on. 0 never strikes.
#[inline]
pub fn strikes(choices: &mut Choices, site: &'static str, who: [u64; 2], share: u32) -> bool {
    share != 0 && choices.choose(site, who, MILLION + 1) > MILLION - u64::from(share)
}

/// Changes the bytes of a datagram: flips one bit, or cuts it short.
pub fn corrupt(bytes: &mut Vec<u8>, link: [u64; 2], choices: &mut Choices) {
    if bytes.is_empty() {
        return;
    }
    let bits = bytes.len() as u64 * 8;
    let at = usize::try_from(choices.choose("net.corrupt.bit", link, bits)).expect("within");
    match choices.choose("net.corrupt.how", link, 4) {
        3 => bytes.truncate(at / 8),
        _ => bytes[at / 8] ^= 1 << (at % 8),
    }
}

fn mask_of<L: Fn(u32, u32) -> bool, C>(changes: &[(L, C)], from: u32, to: u32) -> u128 {
    let hit = changes.iter().enumerate().filter(|(_, (links, _))| links(from, to));
    hit.fold(0, |mask, (place, _)| mask | 1 << place)
}

fn composed<L, C: Fn(&mut Conditions)>(
    plain: &Conditions,
    changes: &[(L, C)],
    mask: u128,
) -> Conditions {
    let mut conditions = plain.clone();
    for (place, (_, change)) in changes.iter().enumerate() {
        if mask & (1 << place) != 0 {
            change(&mut conditions);
        }
    }
    conditions
}

#[cfg(test)]
mod tests;
