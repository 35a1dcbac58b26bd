//! What a subscription listens to: one type, all below a prefix, or everything (K301).

use std::fmt;

use crate::kernel::ids::MessageType;
use crate::kernel::refusal::Refusal;

/// Which types of events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// `*`: every type.
    All,
    /// `prefix.*`: every type that begins with the prefix and a dot; held without them.
    Below(Box<str>),
    /// This type alone.
    Exact(MessageType),
}

impl Pattern {
    /// Parses `text`; `field` is how errors call it.
    ///
    /// # Errors
    ///
    /// Those of the name or prefix: `required` or `bad_name`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Refusal> {
        if text == "*" {
            return Ok(Self::All);
        }
        match text.strip_suffix(".*") {
            Some(prefix) => {
                MessageType::parse(field, prefix)?;
                Ok(Self::Below(prefix.into()))
            }
            None => MessageType::parse(field, text).map(Self::Exact),
        }
    }

    /// Returns how many bytes its name or prefix has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Below(prefix) => prefix.len(),
            Self::Exact(kind) => kind.as_str().len(),
        }
    }

    /// Tells whether events of `kind` are listened to.
    #[must_use]
    pub fn matches(&self, kind: &MessageType) -> bool {
        match self {
            Self::All => true,
            Self::Below(prefix) => {
                let rest = kind.as_str().strip_prefix(prefix.as_ref());
                rest.is_some_and(|rest| rest.starts_with('.'))
            }
            Self::Exact(exact) => exact == kind,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Below(prefix) => write!(f, "{prefix}.*"),
            Self::Exact(kind) => write!(f, "{kind}"),
        }
    }
}
