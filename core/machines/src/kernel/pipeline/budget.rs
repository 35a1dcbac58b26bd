//! Bounds and amounts as pipelines state them (K23, 2.3).

use crate::kernel::json::Json;
use crate::kernel::json::document::{Document, Place, Problems, wrong_type};
use crate::kernel::refusal::{Code, Refusal};

/// No sum in the state passes this (K9).
const SUM_MAX: u64 = u64::MAX >> 1;

/// Up to and including a number, or anything (K23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit(u64);

impl Limit {
    /// Anything goes.
    pub const UNLIMITED: Self = Self(u64::MAX);

    /// Up to and including `most`.
    #[must_use]
    pub const fn at_most(most: u64) -> Self {
        Self(if most > SUM_MAX { SUM_MAX } else { most })
    }

    /// Reads what a caller wrote: −1 is unlimited.
    ///
    /// # Errors
    ///
    /// `bad_value` for any other negative (K23).
    pub fn parse(field: &str, value: i64) -> Result<Self, Refusal> {
        match (value, u64::try_from(value)) {
            (-1, _) => Ok(Self::UNLIMITED),
            (_, Ok(most)) => Ok(Self::at_most(most)),
            (_, Err(_)) => {
                let told = format!("{field}: {value} is not a limit");
                Err(Refusal::of_field(Code::BadValue, field, told))
            }
        }
    }

    /// Returns the number, if there is one.
    #[must_use]
    pub const fn most(self) -> Option<u64> {
        match self.0 {
            u64::MAX => None,
            most => Some(most),
        }
    }

    /// Says whether `amount` is within the limit (K101).
    #[must_use]
    pub const fn allows(self, amount: u64) -> bool {
        amount <= self.0
    }
}

impl Document for Limit {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let field = place.to_string();
        match (json.as_number(), json.as_i64()) {
            (_, Some(value)) => match Self::parse(&field, value) {
                Ok(limit) => return Some(limit),
                Err(refusal) => problems.add(refusal.code, field, refusal.text),
            },
            (Some(number), None) => {
                problems.tell(Code::BadValue, field, format!("{number} is not a limit"));
            }
            (None, None) => wrong_type("number", json, place, problems),
        }
        None
    }

    fn written(&self) -> Json {
        self.most().map_or(Json::from(-1_i64), Json::from)
    }
}

document! {
    /// What can be reserved (2.3).
    #[derive(Copy, Default)]
    pub struct Amounts {
        /// Calls of language models.
        pub llm_calls: u64 => or(0),
        /// Calls of tools.
        pub tool_calls: u64 => or(0),
        /// Tokens read by models.
        pub tokens_in: u64 => or(0),
        /// Tokens written by models.
        pub tokens_out: u64 => or(0),
        /// Requests for inference.
        pub inference_requests: u64 => or(0),
        /// Characters sent for inference.
        pub inference_input_chars: u64 => or(0),
    }
}

impl Amounts {
    /// Nothing.
    pub const NOTHING: Self = Self {
        llm_calls: 0,
        tool_calls: 0,
        tokens_in: 0,
        tokens_out: 0,
        inference_requests: 0,
        inference_input_chars: 0,
    };

    /// Returns each amount with its name, in the order of the quota table.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("llm_calls", self.llm_calls),
            ("tool_calls", self.tool_calls),
            ("tokens_in", self.tokens_in),
            ("tokens_out", self.tokens_out),
            ("inference_requests", self.inference_requests),
            ("inference_input_chars", self.inference_input_chars),
        ]
    }
}
