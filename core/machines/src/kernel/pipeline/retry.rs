//! How long to wait before a failed try is repeated, and whether it is (K209, K269).

#[cfg(test)]
mod tests;

use super::kinds::ErrorKind;
use crate::kernel::json::document::Problems;
use crate::kernel::refusal::Code;
use crate::wire_struct;

document! {
    /// When and how a failed try is repeated.
    pub struct RetryPolicy {
        /// How many times at most.
        pub max_retries: u32 => or(0),
        /// The wait before the first, in milliseconds.
        pub initial_backoff_ms: u64 => or(1_000),
        /// The longest wait.
        pub max_backoff_ms: u64 => or(30_000),
        /// How each wait compares to the one before, in percent.
        pub multiplier_pct: u32 => or(200),
        /// How much of a wait chance may take away, in percent; at most 100.
        pub jitter_pct: u32 => or(0),
        /// After which kinds of failure.
        pub retry_on: Vec<ErrorKind> => or(RetryPolicy::RETRIED.to_vec()),
    }
}

wire_struct!(RetryPolicy {
    max_retries,
    initial_backoff_ms,
    max_backoff_ms,
    multiplier_pct,
    jitter_pct,
    retry_on,
});

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 0,
            initial_backoff_ms: 1_000,
            max_backoff_ms: 30_000,
            multiplier_pct: 200,
            jitter_pct: 0,
            retry_on: Self::RETRIED.to_vec(),
        }
    }
}

impl RetryPolicy {
    /// What is retried by default.
    pub const RETRIED: [ErrorKind; 6] = [
        ErrorKind::Tool,
        ErrorKind::Llm,
        ErrorKind::Timeout,
        ErrorKind::OutputInvalid,
        ErrorKind::RouterInvalid,
        ErrorKind::Dispatch,
    ];

    /// Says whether a failure of `kind` is retried when it is failure number `failures`, from 1.
    /// Policy never is (K271).
    #[must_use]
    pub fn retries(&self, kind: ErrorKind, failures: u32) -> bool {
        kind != ErrorKind::Policy && failures <= self.max_retries && self.retry_on.contains(&kind)
    }

    /// Returns the wait before retry number `retry`, from 1, in milliseconds:
    /// `d = min(initial × (multiplier / 100)ⁿ⁻¹, max)`, rounded down at each step, less
    /// `⌊d × drawn / 100⌋`. `drawn` is of `0..=jitter_pct`; more is taken for that.
    ///
    /// Whatever the policy and the number, it takes a few thousand steps at the most: a wait that
    /// no longer changes, or has passed the longest, is known for all that follow.
    #[must_use]
    pub fn backoff(&self, retry: u32, drawn: u32) -> u64 {
        let multiplier = u128::from(self.multiplier_pct);
        let longest = u128::from(self.max_backoff_ms);
        let mut wait = u128::from(self.initial_backoff_ms);
        for _ in 1..retry {
            let next = wait * multiplier / 100;
            if next == wait || (next > wait && wait >= longest) {
                break;
            }
            wait = next;
        }
        let wait = wait.min(longest);
        let jitter = u128::from(drawn.min(self.jitter_pct).min(100));
        let wait = wait - wait * jitter / 100;
        u64::try_from(wait).expect("it is at most the longest wait")
    }

    /// Adds what is out of range to `problems`; `field` is how they call the policy.
    pub(in crate::kernel) fn check(&self, field: &str, span_ms: u64, problems: &mut Problems) {
        let spans = [
            ("initial_backoff_ms", self.initial_backoff_ms),
            ("max_backoff_ms", self.max_backoff_ms),
        ];
        for (name, span) in spans {
            if span > span_ms {
                let field = format!("{field}.{name}");
                problems.tell(Code::TooLarge, field, format!("{span}, at most {span_ms}"));
            }
        }
        if self.jitter_pct > 100 {
            let field = format!("{field}.jitter_pct");
            problems.tell(Code::BadValue, field, format!("{}, at most 100", self.jitter_pct));
        }
    }
}
