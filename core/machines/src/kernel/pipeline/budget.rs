//! Bounds and amounts as pipelines state them in JSON (K23, 2.3).

use crate::kernel::json::Json;
use crate::kernel::json::document::{Document, Fields, Place, Problems, wrong_type};
use crate::kernel::quota::Resource;
pub use crate::kernel::quota::{Amounts, Limit};
use crate::kernel::refusal::Code;

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

/// What is left out is 0.
impl Document for Amounts {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let mut fields = Fields::open(json, place, problems)?;
        let mut amount = |name| fields.optional(name).unwrap_or(0);
        let amounts = Self {
            llm_calls: amount("llm_calls"),
            tool_calls: amount("tool_calls"),
            tokens_in: amount("tokens_in"),
            tokens_out: amount("tokens_out"),
            inference_requests: amount("inference_requests"),
            inference_input_chars: amount("inference_input_chars"),
        };
        fields.done();
        Some(amounts)
    }

    fn written(&self) -> Json {
        Json::object(self.named().map(|(name, amount)| (name, Json::from(amount))))
    }
}

impl Amounts {
    /// Returns each amount with its name, in the order of the quota table.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 6] {
        Resource::RESERVABLE.map(|resource| (resource.name(), self.of(resource)))
    }
}
