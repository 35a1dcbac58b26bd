//! What those are who ask a kernel, and how they name what they make: the same in every crowd.

use machines::kernel::Refusal;
use machines::kernel::ids::UserId;
use machines::kernel::principal::{Principal, Role};

use super::io::Work;

/// How many users there are.
pub(super) const USERS: u64 = 3;

/// What a caller is, among those who run processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// May do everything.
    Operator,
    /// Owns processes.
    User(u64),
    /// Takes any work.
    Worker,
}

impl Part {
    /// Returns what a caller is: the first the operator, a third of the others users.
    #[must_use]
    pub(super) fn of(work: &Work, caller: u32) -> Self {
        match u64::from(caller) {
            0 => Self::Operator,
            nth if nth <= USERS.max(u64::from(work.callers) / 3) => Self::User((nth - 1) % USERS),
            _ => Self::Worker,
        }
    }

    /// Returns who a caller says that it is.
    #[must_use]
    pub(super) fn principal(self, caller: u32) -> Principal {
        let (name, role) = match self {
            Self::Operator => ("operator".to_owned(), Role::Operator),
            Self::User(user) => (format!("user{user}"), Role::User),
            Self::Worker => (format!("worker{caller}"), Role::Worker),
        };
        Principal::new(id(UserId::parse("user", &name)), &[role])
    }
}

/// Takes an id that was made of a short name.
///
/// # Panics
///
/// If it is none.
#[must_use]
pub(super) fn id<T>(made: Result<T, Refusal>) -> T {
    made.expect("a short name is an id")
}

/// Returns a number as a place in a list.
///
/// # Panics
///
/// If it is larger than any list.
#[must_use]
pub(super) fn place(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}

/// New names: each caller numbers its own.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// How many each caller has made.
    made: Vec<u64>,
}

impl Names {
    /// Makes those of so many callers.
    #[must_use]
    pub(super) fn new(callers: u32) -> Self {
        Self { made: vec![0; callers as usize] }
    }

    /// Returns a name of a kind that nobody has had.
    ///
    /// # Panics
    ///
    /// If there is no such caller.
    pub(super) fn next(&mut self, caller: u32, kind: &str) -> String {
        let made = &mut self.made[caller as usize];
        *made += 1;
        format!("{kind}-{caller}-{made}")
    }
}
