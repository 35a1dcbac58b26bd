//! The cluster: who a node is, whom it trusts, who is a member, which names exist, and how a
//! message finds an actor, whatever machines and networks do.

pub mod config;
pub mod counters;
pub mod handshake;
pub mod identity;
pub mod ids;
pub mod links;
pub mod registry;
mod remembered;
pub mod router;
pub mod sealer;
pub mod swim;
pub mod wire;
