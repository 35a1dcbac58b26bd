//! The registry as one table that everyone sees at once (C70–C75).
//!
//! No copies, no gossip, no serials: what a cluster of registries must look like when the network
//! is perfect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use machines::cluster::ids::{ActorId, NodeId, Ref};
use machines::cluster::registry::io::RegisterError;

/// One registration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    at: Ref,
    /// When it ends unless it is renewed; `None` if its node renews it.
    until: Option<Duration>,
    ttl: Duration,
}

/// All registrations of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    now: Duration,
    names_per_node_max: usize,
    names: BTreeMap<String, Held>,
    leaving: BTreeSet<NodeId>,
}

impl Registry {
    /// Makes an empty table in which a node may hold so many names.
    #[must_use]
    pub fn new(names_per_node_max: usize) -> Self {
        Self {
            names_per_node_max,
            ..Self::default()
        }
    }

    /// Lets time pass: manual registrations that were not renewed end (C72).
    pub fn wait(&mut self, span: Duration) {
        self.now += span;
        let now = self.now;
        self.names
            .retain(|_, held| held.until.is_none_or(|until| until > now));
    }

    /// Registers `at` as `name`.
    ///
    /// # Errors
    ///
    /// As the registry of the actor's node would refuse it (C72).
    pub fn register(
        &mut self,
        name: &str,
        at: Ref,
        ttl: Duration,
        manual: bool,
    ) -> Result<(), RegisterError> {
        if self.leaving.contains(&at.node) {
            return Err(RegisterError::Draining);
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&ttl) {
            return Err(RegisterError::TtlRange);
        }
        match self.names.get(name) {
            Some(held) if held.at == at => return self.renew(name, at.node),
            Some(held) => return Err(RegisterError::NameTaken(held.at)),
            None => {}
        }
        let own = self.names.values().filter(|held| held.at.node == at.node);
        if own.count() >= self.names_per_node_max {
            return Err(RegisterError::NodeFull);
        }
        let until = manual.then_some(self.now + ttl);
        self.names.insert(name.to_owned(), Held { at, until, ttl });
        Ok(())
    }

    /// Renews a registration of `node`.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotHeld`].
    pub fn renew(&mut self, name: &str, node: NodeId) -> Result<(), RegisterError> {
        let held = self.names.get_mut(name).filter(|held| held.at.node == node);
        let held = held.ok_or(RegisterError::NotHeld)?;
        held.until = held.until.map(|_| self.now + held.ttl);
        Ok(())
    }

    /// Withdraws a registration of `node`.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotHeld`].
    pub fn unregister(&mut self, name: &str, node: NodeId) -> Result<(), RegisterError> {
        let held = self.names.get(name).filter(|held| held.at.node == node);
        held.ok_or(RegisterError::NotHeld)?;
        self.names.remove(name);
        Ok(())
    }

    /// Ends an actor of `node`.
    pub fn actor_ended(&mut self, node: NodeId, actor: ActorId) {
        self.names
            .retain(|_, held| (held.at.node, held.at.actor) != (node, actor));
    }

    /// Lets `node` leave.
    pub fn leave(&mut self, node: NodeId) {
        self.leaving.insert(node);
        self.names.retain(|_, held| held.at.node != node);
    }

    /// Lets `node` crash and come back in another session.
    pub fn restart(&mut self, node: NodeId) {
        self.leaving.remove(&node);
        self.names.retain(|_, held| held.at.node != node);
    }

    /// Finds a name.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<Ref> {
        self.names.get(name).map(|held| held.at)
    }
}
