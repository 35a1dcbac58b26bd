//! Which datagram counters were accepted: the highest, and a bitmap of 1,024 (C36).

/// How many counters back a datagram may be late.
pub(super) const SPAN: u64 = 1_024;
const WORDS: usize = 16;

/// Why a counter is not new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It is 1,024 or more below the highest.
    Old,
    /// It was accepted before.
    Seen,
}

/// The replay window of one epoch and direction.
///
/// Bit `c % 1,024` says whether counter `c` was accepted, for each `c` in `next − 1,024 .. next`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// 1 + the highest counter accepted, 0 before the first.
    next: u64,
    bits: [u64; WORDS],
}

impl Window {
    /// Starts with nothing accepted.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: 0,
            bits: [0; WORDS],
        }
    }

    /// Returns 1 + the highest counter accepted, 0 before the first.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Says whether `counter` may be accepted; changes nothing (steps 1 and 2).
    ///
    /// # Errors
    ///
    /// [`Stale`] if it was, or may have been, accepted before.
    pub fn check(&self, counter: u64) -> Result<(), Stale> {
        if counter >= self.next {
            return Ok(());
        }
        // next is top + 1.
        if counter + SPAN < self.next {
            return Err(Stale::Old);
        }
        let (word, bit) = place(counter);
        match self.bits[word] & bit {
            0 => Ok(()),
            _ => Err(Stale::Seen),
        }
    }

    /// Notes that `counter` was accepted (step 4). Only for what [`check`](Self::check) let pass
    /// and what opened.
    pub fn accept(&mut self, counter: u64) {
        if counter >= self.next {
            match counter - self.next {
                gap if gap >= SPAN => self.bits = [0; WORDS],
                _ => (self.next..counter).for_each(|skipped| self.clear(skipped)),
            }
            self.next = counter + 1;
        }
        let (word, bit) = place(counter);
        self.bits[word] |= bit;
    }

    fn clear(&mut self, counter: u64) {
        let (word, bit) = place(counter);
        self.bits[word] &= !bit;
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

fn place(counter: u64) -> (usize, u64) {
    let slot = counter % SPAN;
    (usize::from((slot / 64) as u8), 1 << (slot % 64))
}
