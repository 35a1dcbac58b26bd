//! Saboteurs: wrappers that break one promise each, so that every checker is shown to bite (T32).
//!
//! A saboteur stands at the boundary of a production machine: it may change, drop, repeat or hold
//! back what goes in and out, what the clock shows, and what the node is born with. The machine
//! itself holds no test switches.

pub mod cluster;
pub mod membership;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;

use machines::Instant;
use machines::choices::Answer;
use machines::node::io::{Input, Output};

use crate::budget::Budget;
use crate::guest::{Birth, Guest};
use crate::lab::{Case, Keep, Lab, Sheet};
use crate::scenario::Scenario;
use crate::world::Ended;

/// Breaks one promise of the node that it is wrapped around.
pub trait Saboteur<G: Guest>: Send + CopySaboteur<G> {
    /// What the clock shows to the node.
    fn now(&mut self, _node: &G, now: Instant) -> Instant {
        now
    }

    /// What reaches the node instead of `input`, in order.
    fn before(&mut self, node: &mut G, now: Instant, input: Input) -> Vec<Input> {
        let _ = (node, now);
        vec![input]
    }

    /// Changes what the node puts out.
    fn after(&mut self, node: &mut G, now: Instant, outputs: &mut Vec<Output>) {
        let _ = (node, now, outputs);
    }
}

/// Copies a saboteur, for a world that is copied: any that is [`Clone`].
pub trait CopySaboteur<G: Guest> {
    /// Copies the saboteur.
    fn copy(&self) -> Box<dyn Saboteur<G>>;
}

impl<G: Guest, S: Saboteur<G> + Clone + 'static> CopySaboteur<G> for S {
    fn copy(&self) -> Box<dyn Saboteur<G>> {
        Box::new(self.clone())
    }
}

/// How to make a saboteur for a node that is about to be born; it may change the birth as well.
pub type Turn<G> = fn(&mut Birth) -> Box<dyn Saboteur<G>>;

/// How guests are made, and who turns them.
pub struct Turned<G: Guest> {
    /// For the guest inside.
    pub inner: G::Kind,
    /// The saboteur, if there is one.
    pub turn: Option<Turn<G>>,
}

impl<G: Guest> Clone for Turned<G> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), turn: self.turn }
    }
}

/// A production machine, perhaps with a saboteur around it. It dereferences to the machine.
pub struct Sabotaged<G: Guest> {
    node: G,
    saboteur: Option<Box<dyn Saboteur<G>>>,
    outputs: VecDeque<Output>,
}

impl<G: Guest> Deref for Sabotaged<G> {
    type Target = G;

    fn deref(&self) -> &G {
        &self.node
    }
}

impl<G: Guest> Clone for Sabotaged<G> {
    fn clone(&self) -> Self {
        Self {
            node: self.node.clone(),
            saboteur: self.saboteur.as_ref().map(|saboteur| saboteur.copy()),
            outputs: self.outputs.clone(),
        }
    }
}

impl<G: Guest + fmt::Debug> fmt::Debug for Sabotaged<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

impl<G: Guest> Guest for Sabotaged<G> {
    type Kind = Turned<G>;

    fn new(kind: &Turned<G>, now: Instant, mut birth: Birth) -> Self {
        let saboteur = kind.turn.map(|turn| turn(&mut birth));
        Self { node: G::new(&kind.inner, now, birth), saboteur, outputs: VecDeque::new() }
    }

    #[inline]
    fn handle(&mut self, now: Instant, input: Input) {
        let Some(saboteur) = &mut self.saboteur else {
            return self.node.handle(now, input);
        };
        let now = saboteur.now(&self.node, now);
        let mut outputs = Vec::new();
        for input in saboteur.before(&mut self.node, now, input) {
            self.node.handle(now, input);
            outputs.extend(std::iter::from_fn(|| self.node.poll()));
        }
        saboteur.after(&mut self.node, now, &mut outputs);
        self.outputs.extend(outputs);
    }

    #[inline]
    fn poll(&mut self) -> Option<Output> {
        match &self.saboteur {
            None => self.node.poll(),
            Some(_) => self.outputs.pop_front(),
        }
    }

    #[inline]
    fn deadline(&self) -> Instant {
        self.node.deadline()
    }

    fn digest(&self) -> u64 {
        self.node.digest()
    }

    fn take_recorded(&mut self) -> Vec<Answer> {
        self.node.take_recorded()
    }

    fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        G::public_key(secret)
    }
}

/// What came of letting one saboteur loose.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Hunt {
    /// The saboteur.
    pub saboteur: &'static str,
    /// The property that must catch it.
    pub property: &'static str,
    /// The scenario.
    pub scenario: &'static str,
    /// Its budget.
    pub budget: u64,
    /// Seeds needed, or `None` if it was not found.
    pub seeds: Option<u64>,
    /// Virtual time in nanoseconds over all seeds needed.
    pub virtual_ns: u64,
    /// What was seen, or why it was not.
    pub evidence: String,
}

/// Lets saboteur `name` loose, seed after seed, until its property catches it. Each seed is run
/// without the saboteur first: a property that is violated all the same catches nobody, and ends
/// the hunt. Returns `None` once `budget` is spent.
///
/// # Errors
///
/// If there is no such saboteur or scenario, or the scenario is wrong.
pub fn hunt<G: Guest>(
    lab: &Lab<G>,
    name: &str,
    scenarios: &[Scenario],
    budget: Budget<'_>,
) -> Result<Option<Hunt>, String> {
    let sabotage = sheet(lab, name)?;
    let mut hunt = Hunt {
        saboteur: sabotage.name,
        property: sabotage.property,
        scenario: sabotage.scenario,
        budget: sabotage.seeds,
        seeds: None,
        virtual_ns: 0,
        evidence: "not found".to_owned(),
    };
    for seed in 0..sabotage.seeds {
        let mut case = case(lab, name, scenarios, seed)?;
        let saboteur = case.saboteur.take();
        // The control: what the changed scenario violates by itself, nobody has caught.
        let Some(control) = lab.run_case_within(&case, Keep::default(), budget)? else {
            return Ok(None);
        };
        if let Ended::Violated(violation) = control.outcome.ended {
            hunt.evidence = format!("without the saboteur as well: {violation}");
            return Ok(Some(hunt));
        }
        case.saboteur = saboteur;
        let Some(ran) = lab.run_case_within(&case, Keep::default(), budget)? else {
            return Ok(None);
        };
        hunt.virtual_ns += ran.outcome.at;
        if let Ended::Violated(violation) = ran.outcome.ended {
            if violation.property == sabotage.property {
                hunt.seeds = Some(seed + 1);
                hunt.evidence = violation.evidence;
                return Ok(Some(hunt));
            }
            hunt.evidence = format!("only {violation}");
        }
    }
    Ok(Some(hunt))
}

fn sheet<G: Guest>(lab: &Lab<G>, name: &str) -> Result<Sheet, String> {
    let mut sheets = lab.sheets().into_iter();
    sheets.find(|sheet| sheet.name == name).ok_or_else(|| format!("there is no saboteur {name}"))
}

/// Makes the run of one seed in which saboteur `name` takes part.
///
/// # Errors
///
/// If there is no such saboteur or scenario, or the scenario is wrong.
pub fn case<G: Guest>(
    lab: &Lab<G>,
    name: &str,
    scenarios: &[Scenario],
    seed: u64,
) -> Result<Case, String> {
    let sabotage = sheet(lab, name)?;
    let scenario = scenarios.iter().find(|scenario| scenario.name() == sabotage.scenario);
    let scenario = scenario.ok_or_else(|| format!("there is no scenario {}", sabotage.scenario))?;
    let mut file = scenario.resolve(seed).map_err(|(_, what)| what)?.file;
    (sabotage.change)(&mut file);
    let check = file.check.get_or_insert_default();
    check.properties = Some(vec![toml::Spanned::new(0..0, sabotage.property.to_owned())]);
    check.also.clear();
    check.except.clear();
    Ok(Case { file, seed, overrides: Vec::new(), saboteur: Some(sabotage.name.to_owned()) })
}

#[cfg(test)]
mod tests;
