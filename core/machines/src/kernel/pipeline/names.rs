//! Names of stages, agents, outputs and services: each its own type (K20).
//!
//! Names are of `[A-Za-z0-9._/-]`. How long they may be is configuration (K25) and checked with the
//! pipeline; no configuration allows more than [`LENGTH_MAX`].

use std::fmt;
use std::sync::Arc;

use crate::codec::{Malformed, Reader, Wire};
use crate::kernel::json::Json;
use crate::kernel::json::document::{Document, Place, Problems};
use crate::kernel::refusal::{Code, Refusal};

/// Ten times the default of 128 bytes (K25).
pub const LENGTH_MAX: usize = 1_280;

/// What a name may be made of (K25).
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-')
}

/// Checks a name; `field` is how errors call it.
fn checked(field: &str, text: &str) -> Result<Arc<str>, Refusal> {
    if text.is_empty() {
        return Err(Refusal::of_field(Code::Required, field, format!("{field} is required")));
    }
    if text.len() > LENGTH_MAX {
        let told = format!("{field}: {} bytes, at most {LENGTH_MAX}", text.len());
        return Err(Refusal::of_field(Code::BadName, field, told));
    }
    match text.bytes().position(|byte| !is_name_byte(byte)) {
        None => Ok(Arc::from(text)),
        Some(at) => {
            let told = format!("{field}: byte {at} is not allowed");
            Err(Refusal::of_field(Code::BadName, field, told))
        }
    }
}

macro_rules! names {
    ($(
        $(#[$doc:meta])*
        $type:ident;
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $type(Arc<str>);

            impl $type {
                /// Checks `text`; `field` is how errors call it.
                ///
                /// # Errors
                ///
                /// `required` or `bad_name` (K395).
                pub fn parse(field: &str, text: &str) -> Result<Self, Refusal> {
                    checked(field, text).map(Self)
                }

                /// Returns the text.
                #[must_use]
                pub fn as_str(&self) -> &str {
                    &self.0
                }
            }

            impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }

            impl fmt::Debug for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }

            impl Document for $type {
                fn read(
                    json: &Json,
                    place: &Place<'_>,
                    problems: &mut Problems,
                ) -> Option<Self> {
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
                    Json::from(Arc::clone(&self.0))
                }
            }

            impl Wire for $type {
                fn encode(&self, out: &mut Vec<u8>) {
                    let length = u16::try_from(self.0.len()).expect("a name is short");
                    out.extend_from_slice(&length.to_le_bytes());
                    out.extend_from_slice(self.0.as_bytes());
                }

                fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                    let here = reader.clone();
                    let length = reader.u16()?;
                    let bytes = reader.take(usize::from(length))?;
                    let text = str::from_utf8(bytes).map_err(|_| here.malformed("a name"))?;
                    Self::parse("", text).map_err(|_| here.malformed("a name"))
                }
            }
        )*
    };
}

names! {
    /// A pipeline.
    PipelineName;
    /// A stage of a pipeline.
    StageName;
    /// An agent.
    AgentName;
    /// Where a stage's output is kept.
    OutputKey;
    /// A service.
    ServiceName;
}

impl OutputKey {
    /// Makes the key that a stage's output has by default: the stage's name.
    #[must_use]
    pub fn of_stage(name: &StageName) -> Self {
        Self(Arc::clone(&name.0))
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
