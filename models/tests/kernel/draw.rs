//! Random numbers of a test: the same for the same seed, on every machine.

use machines::Choices;

/// A stream of numbers.
pub(crate) struct Draw {
    choices: Choices,
}

impl Draw {
    /// Makes the stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { choices: Choices::new(seed) }
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.choices.choose("models.kernel", [0, 0], bound)
    }

    /// Whether something of `percent` happens.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub(crate) fn of<T: Clone>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).expect("a short list")].clone()
    }
}
