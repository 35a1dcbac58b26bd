//! What this program drives, with its checkers and saboteurs.

use crate::checker::Known;
use crate::lab::Lab;
use crate::ring::{Ring, RingKind};
use crate::saboteur::{Sabotaged, Turned};

/// The machine under test.
pub type Subject = Sabotaged<Ring>;

/// Makes the laboratory of this program.
#[must_use]
pub fn lab() -> Lab<Subject> {
    let inner = RingKind {
        in_flight: 0,
        period: 100_000_000,
        streams: true,
    };
    Lab {
        known: Known::default(),
        kind: Turned { inner, turn: None },
        saboteurs: Vec::new(),
    }
}
