//! What a host does before a node starts: it counts the session up in its file (C7).

use machines::cluster::identity::SessionError;

/// Why a start was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The session file has content, but no valid slot.
    SessionCorrupt,
    /// The session file cannot be read.
    Unreadable,
    /// The session cannot be written.
    DiskFull,
    /// The sessions are used up.
    Exhausted,
}

impl Refusal {
    /// Returns the name that scenarios use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionCorrupt => "session-corrupt",
            Self::Unreadable => "unreadable",
            Self::DiskFull => "disk-full",
            Self::Exhausted => "sessions-exhausted",
        }
    }
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Corrupt => Self::SessionCorrupt,
            SessionError::Exhausted => Self::Exhausted,
        }
    }
}
