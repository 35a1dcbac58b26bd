//! Properties and who watches them: a checker sees every event, and says what was broken (T30).

use std::fmt;

use machines::Instant;
use machines::node::io::{Input, Output};

use crate::guest::Guest;
use crate::world::World;

/// A broken property: which, how that shows, and when (T30).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property's number in the specs, such as `C136`.
    pub property: &'static str,
    /// What was seen.
    pub evidence: String,
    /// True time, in nanoseconds.
    pub at: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Instant::from_nanos(self.at);
        write!(f, "{} at {at:?}: {}", self.property, self.evidence)
    }
}

/// One handled input of one node. The node itself is `world.guest(step.node)`, already stepped.
#[derive(Debug)]
pub struct Step<'a> {
    /// Which node.
    pub node: u32,
    /// What its clock showed.
    pub local: Instant,
    /// What happened to it.
    pub input: &'a Input,
    /// What it wanted done; not yet done.
    pub outputs: &'a [Output],
}

/// Something that happened in the world, outside the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The process of a node started; `world.guest(node)` is new.
    Started(u32),
    /// A process could not start.
    Refused(u32, crate::boot::Refusal),
    /// The process of a node died.
    Died(u32),
    /// A node left the cluster by itself, and its process ended.
    Left(u32),
    /// A node stopped by itself ([`Output::Stop`]).
    Stopped(u32),
    /// What crosses which link changed: `world.is_open(from, to)`.
    LinksChanged,
    /// A fault began or ended that is none of the above.
    FaultsChanged,
    /// A node was taken off every other node's allowlist.
    Revoked(u32),
}

/// Watches one property over a run. A safety property answers in `after_step` or `notice`, a
/// liveness property in the quiet period, an eventual one in `end` (T31).
pub trait Checker<G: Guest>: Send + CopyChecker<G> {
    /// Which property; the same as in every violation that it returns.
    fn property(&self) -> &'static str;

    /// Looks at a node that is about to handle an input.
    fn before_step(&mut self, _world: &World<G>, _node: u32, _input: &Input) {}

    /// Looks at one handled input. `world.now()` is the true time.
    ///
    /// # Errors
    ///
    /// The evidence that the property is broken.
    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String>;

    /// Looks at something that happened outside the nodes.
    ///
    /// # Errors
    ///
    /// The evidence that the property is broken.
    fn notice(&mut self, _world: &World<G>, _notice: Notice) -> Result<(), String> {
        Ok(())
    }

    /// The quiet period begins: every fault has healed (T23).
    fn quiet(&mut self, _world: &World<G>) {}

    /// The run is over.
    ///
    /// # Errors
    ///
    /// The evidence that the property is broken.
    fn end(&mut self, _world: &World<G>) -> Result<(), String> {
        Ok(())
    }

    /// How often it has looked at something that could have broken the property. A checker that
    /// never did has shown nothing, and a run says so.
    fn armed(&self) -> u64 {
        1
    }
}

/// Copies a checker with what it has seen, for a world that is copied: any that is [`Clone`].
pub trait CopyChecker<G: Guest> {
    /// Copies the checker.
    fn copy(&self) -> Box<dyn Checker<G>>;
}

impl<G: Guest, C: Checker<G> + Clone + 'static> CopyChecker<G> for C {
    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// How to make a checker for a run.
pub type Make<G> = fn(&crate::world::Setup<G>) -> Box<dyn Checker<G>>;

/// How long a quiet period a property needs in a run to be looked at, in nanoseconds; `None` if
/// nothing in the run could break it.
pub type Needs<G> = fn(&crate::world::Setup<G>) -> Option<u64>;

/// The checkers that there are: property → how to make one.
#[derive(Debug)]
pub struct Known<G: Guest> {
    table: Vec<(&'static str, Make<G>)>,
    /// Those that hold under conditions of their own: watched only where a scenario names them.
    named_only: Vec<&'static str>,
    /// Those that are looked at only in a quiet period that is long enough (T23).
    needs: Vec<(&'static str, Needs<G>)>,
}

impl<G: Guest> Clone for Known<G> {
    fn clone(&self) -> Self {
        let (table, named_only) = (self.table.clone(), self.named_only.clone());
        Self { table, named_only, needs: self.needs.clone() }
    }
}

impl<G: Guest> Default for Known<G> {
    fn default() -> Self {
        Self { table: Vec::new(), named_only: Vec::new(), needs: Vec::new() }
    }
}

impl<G: Guest> Known<G> {
    /// Adds the checker of `property`.
    ///
    /// # Panics
    ///
    /// If that property has one already.
    #[must_use]
    pub fn with(mut self, property: &'static str, make: Make<G>) -> Self {
        assert!(self.find(property).is_none(), "{property} has one checker");
        self.table.push((property, make));
        self
    }

    /// Adds the checker of a property that holds only under conditions of its own, so that a
    /// scenario must ask for it by name.
    #[must_use]
    pub fn with_named(mut self, property: &'static str, make: Make<G>) -> Self {
        self.named_only.push(property);
        self.with(property, make)
    }

    /// Adds the checker of a property that needs a quiet period of some length (T23): a scenario
    /// with a shorter one is refused unless it leaves the property out by name.
    #[must_use]
    pub fn with_quiet(mut self, property: &'static str, needs: Needs<G>, make: Make<G>) -> Self {
        self.needs.push((property, needs));
        self.with(property, make)
    }

    /// Returns how long a quiet period `property` needs in the run of `setup`; `None` if it is
    /// looked at anyway, or never.
    #[must_use]
    pub fn needs(&self, property: &str, setup: &crate::world::Setup<G>) -> Option<u64> {
        let entry = self.needs.iter().find(|(id, _)| *id == property);
        entry.and_then(|(_, needs)| needs(setup))
    }

    /// Lists the properties that hold whatever happens.
    pub fn unconditional(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.properties().filter(|property| !self.named_only.contains(property))
    }

    /// Finds the checker of `property`.
    #[must_use]
    pub fn find(&self, property: &str) -> Option<Make<G>> {
        self.table.iter().find(|(id, _)| *id == property).map(|(_, make)| *make)
    }

    /// Lists the properties.
    pub fn properties(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.table.iter().map(|(id, _)| *id)
    }
}
