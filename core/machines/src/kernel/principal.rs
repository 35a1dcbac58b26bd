//! Who asks (K26, K27).

use crate::codec::{Malformed, Reader, Wire};
use crate::{wire_enum, wire_struct};

use super::ids::{UserId, WorkerId};
use super::refusal::{Code, Refusal};

/// The user that the driver of a node is, and nobody else.
const NODE: &str = "node";

/// What a principal may be, besides a user (K26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Owns what it makes.
    User = 1,
    /// Does the work of others.
    Worker = 2,
    /// May do whatever an owner may.
    Operator = 4,
    /// The driver of this node itself.
    Node = 8,
}

wire_enum!(Role, "a role" { User = 1, Worker = 2, Operator = 4, Node = 8 });

impl Role {
    /// All, in order.
    pub const ALL: &'static [Self] = &[Self::User, Self::Worker, Self::Operator, Self::Node];

    /// Returns how callers name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Worker => "worker",
            Self::Operator => "operator",
            Self::Node => "node",
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Roles(u8);

impl Roles {
    /// Makes a set.
    #[must_use]
    pub fn of(roles: &[Role]) -> Self {
        Self(roles.iter().fold(0, |bits, role| bits | *role as u8))
    }

    /// Says whether a role is among them.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 & role as u8 != 0
    }
}

impl Wire for Roles {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        match reader.u8()? {
            bits @ 0..16 => Ok(Self(bits)),
            _ => Err(here.malformed("roles")),
        }
    }
}

/// Who asks, from the credentials of the transport, never from a request (K26).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The user.
    pub user: UserId,
    /// What else it is.
    pub roles: Roles,
}

wire_struct!(Principal { user, roles });

impl Principal {
    /// Returns the driver of this node itself.
    ///
    /// # Panics
    ///
    /// Never: the name is an id.
    #[must_use]
    pub fn node() -> Self {
        let user = UserId::parse("user", NODE).expect("the name of the driver is an id");
        Self::new(user, &[Role::Node])
    }

    /// Makes a principal.
    #[must_use]
    pub fn new(user: UserId, roles: &[Role]) -> Self {
        Self { user, roles: Roles::of(roles) }
    }

    /// Refuses somebody else of the node's name: whatever the node holds is known by that (K26).
    ///
    /// # Errors
    ///
    /// `permission_denied`.
    pub fn check(&self) -> Result<(), Refusal> {
        match self.user.as_str() == NODE && !self.is_node() {
            true => {
                let told = format!("user {NODE:?} is the node itself: take another name");
                Err(Refusal::new(Code::PermissionDenied, told))
            }
            false => Ok(()),
        }
    }

    /// Says whether it may do whatever an owner may (K27).
    #[must_use]
    pub const fn is_operator(&self) -> bool {
        self.roles.has(Role::Operator)
    }

    /// Says whether it is the driver of this node (K27).
    #[must_use]
    pub const fn is_node(&self) -> bool {
        self.roles.has(Role::Node)
    }

    /// Says whether it takes work of others: worker, operator or node (K74).
    #[must_use]
    pub const fn takes_any_work(&self) -> bool {
        self.roles.has(Role::Worker) || self.is_operator() || self.is_node()
    }
}

/// Who holds a lease: a user's worker (K27).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Holder {
    /// The user.
    pub user: UserId,
    /// The worker; the user's own name if it gave none.
    pub worker: WorkerId,
}

wire_struct!(Holder { user, worker });
