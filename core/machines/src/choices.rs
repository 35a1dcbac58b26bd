//! One way to choose: every question that could go one way or another is asked here.
//!
//! The n-th question with the same (site, who) gets `hash(seed, site, who, n) mod bound`, or its
//! override (T10). Questions at one site never move the answers at another (T13). Answer 0 is the
//! benign one at every site (T11).
//!
//! # Source
//!
//! Counter-based random numbers: Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*,
//! SC 2011. The mixing function is [`mix`](crate::digest::mix).

mod counts;
mod overrides;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::digest::mix;
use counts::Counts;
pub use overrides::{Answer, Override, Overrides};

/// The entities that a question is about: link, node, client, message number. Unused places are 0.
pub type Who = [u64; 3];

/// A source of decisions, owned by one machine and given at its `new`.
///
/// Two values with the same seed, scope and overrides give the same answers to the same questions.
#[derive(Clone, Debug)]
pub struct Choices {
    seed: u64,
    /// Distinguishes the owners of one seed (the node, say); the first entity of every question.
    scope: u64,
    counts: Counts,
    /// The stream of the last question: the next one is often of the same.
    last: Stream,
    overrides: Option<Arc<Overrides>>,
    recorded: Option<Vec<Answer>>,
}

/// All questions with the same site and entities.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// The hash of its name; 0 for none, which no name has.
    site: u64,
    who: Who,
    key: u64,
}

impl Stream {
    /// Word by word: a comparison of the whole would wait for all of it to be stored first.
    #[inline(always)]
    const fn is_of(&self, site: u64, who: Who) -> bool {
        let [scope, one, other] = self.who;
        self.site == site && scope == who[0] && one == who[1] && other == who[2]
    }
}

impl Choices {
    /// Makes a source from `seed`, with scope 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            scope: 0,
            counts: Counts::default(),
            last: Stream::default(),
            overrides: None,
            recorded: None,
        }
    }

    /// Returns a fresh source of the same seed for the owner `scope`, with the same overrides.
    #[must_use]
    pub fn scoped(&self, scope: u64) -> Self {
        Self { scope, counts: Counts::default(), ..self.clone() }
    }

    /// Returns this source with `overrides` in force.
    #[must_use]
    pub fn with_overrides(mut self, overrides: Arc<Overrides>) -> Self {
        self.overrides = (!overrides.is_empty()).then_some(overrides);
        self
    }

    /// Returns this source keeping a record of every answer that is not 0 (T12), and of every one
    /// that an override gave: so it shows as well which overrides were asked for.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.recorded = Some(Vec::new());
        self
    }

    /// Takes the answers recorded so far, in the order of the questions.
    pub fn take_recorded(&mut self) -> Vec<Answer> {
        self.recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Answers one question: a number in `0..bound`, 0 being the benign one.
    ///
    /// # Panics
    ///
    /// If `bound` is 0: a question without an answer is a defect of the caller.
    #[inline(always)] // The hash of a literal is then a constant.
    pub fn choose(&mut self, site: &'static str, who: [u64; 2], bound: u64) -> u64 {
        self.choose_hashed(site, site_hash(site), who, bound)
    }

    #[inline]
    fn choose_hashed(&mut self, site: &'static str, hash: u64, who: [u64; 2], bound: u64) -> u64 {
        assert!(bound > 0, "a question needs at least one answer");
        let who = [self.scope, who[0], who[1]];
        if !self.last.is_of(hash, who) {
            self.last = Stream { site: hash, who, key: key(self.seed, hash, who) };
        }
        let key = self.last.key;
        let nth = self.counts.next(key);
        if bound == 1 {
            return 0;
        }
        let replaced = match &self.overrides {
            None => None,
            Some(overrides) => overrides.find(site, who, nth).map(|answer| answer.min(bound - 1)),
        };
        let answer = replaced.unwrap_or_else(|| scale(bits(key, nth), bound));
        if (answer != 0 || replaced.is_some())
            && let Some(recorded) = &mut self.recorded
        {
            recorded.push(Answer { site, who, nth, answer });
        }
        answer
    }
}

impl Hash for Choices {
    /// Hashes what decides future answers; the record of past ones does not.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.seed.hash(state);
        self.scope.hash(state);
        self.counts.hash(state);
    }
}

/// Returns the stream key of a question. 64 bits: a collision would only share a counter.
fn key(seed: u64, site: u64, who: Who) -> u64 {
    let mut key = mix(seed ^ 0x2d35_8dcc_aa6c_78a5, site);
    for entity in who {
        key = mix(key ^ entity, 0x8bb8_4b93_962e_acc9).wrapping_add(0x4b33_a62e_d433_d4a3);
    }
    key
}

/// FNV-1a over the name, so that a site's answers survive everything but its renaming.
const fn site_hash(site: &str) -> u64 {
    let bytes = site.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Returns the random bits of the n-th question of a stream.
///
/// Both factors depend on the counter, as in wyrand: with one factor fixed the answers would be
/// evenly spaced points, and each would foretell the next.
const fn bits(key: u64, nth: u32) -> u64 {
    let at = key.wrapping_add((nth as u64 + 1).wrapping_mul(0xa076_1d64_78bd_642f));
    mix(at, at ^ 0xe703_7ed1_a0b4_28db)
}

/// Maps 64 random bits to `0..bound` by multiplication (Lemire 2019), without division.
const fn scale(bits: u64, bound: u64) -> u64 {
    ((bits as u128 * bound as u128) >> 64) as u64
}

#[cfg(test)]
mod tests;
