//! Names of pipelines, stages, agents and outputs, as JSON has them (K20). How long they may be is
//! configuration (K25) and checked with the pipeline.

use std::sync::Arc;

pub use crate::kernel::ids::{AgentName, OutputKey, PipelineName, ServiceName, StageName};
use crate::kernel::json::Json;
use crate::kernel::json::document::{Document, Place, Problems};

macro_rules! documents {
    ($($type:ident),*) => {
        $(impl Document for $type {
            fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
                let text: Arc<str> = Document::read(json, place, problems)?;
                let field = place.to_string();
                match Self::parse(&field, &text) {
                    Ok(name) => Some(name),
                    Err(refusal) => {
                        problems.add(refusal.code, field, refusal.text);
                        None
                    }
                }
            }

            fn written(&self) -> Json {
                Json::from(self.as_str())
            }
        })*
    };
}

documents!(PipelineName, StageName, AgentName, OutputKey, ServiceName);

impl OutputKey {
    /// Makes the key that a stage's output has by default: the stage's name.
    ///
    /// # Panics
    ///
    /// Never: both are names.
    #[must_use]
    pub fn of_stage(name: &StageName) -> Self {
        Self::parse("output_key", name.as_str()).expect("the name of a stage is a name")
    }
}

impl StageName {
    /// Stands in for the missing name of stage `at` while the rest of a pipeline is checked. No
    /// sound name is told by it, and none leads there.
    pub(super) fn stand_in(at: usize) -> Json {
        Json::from(format!("/stages/{at}/"))
    }
}

impl PipelineName {
    /// Stands in for a missing name while the rest of a pipeline is checked.
    pub(super) fn stand_in() -> Json {
        Json::from("/")
    }
}
