//! What a campaign works with: which machine is driven, who checks it, and who breaks it (T32).

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use machines::choices::{Answer, Override, Overrides};

use crate::checker::{Checker, Known, Violation};
use crate::guest::Guest;
use crate::scenario::file::File;
use crate::scenario::{Resolved, Scenario};
use crate::world::{Ended, Line, Outcome, World};

/// A machine with its checkers and saboteurs.
pub struct Lab<G: Guest> {
    /// The checkers.
    pub known: Known<G>,
    /// How guests are made when nobody breaks anything.
    pub kind: G::Kind,
    /// Who breaks what (T32).
    pub saboteurs: Vec<Sabotage<G>>,
}

/// One saboteur: what it breaks, where that shows, and how soon it must be found (T32).
pub struct Sabotage<G: Guest> {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// The property that must catch it.
    pub property: &'static str,
    /// The scenario that it is let loose in.
    pub scenario: &'static str,
    /// Seeds within which it must be found.
    pub seeds: u64,
    /// How its guests are made.
    pub kind: G::Kind,
    /// What it does to the scenario: ports are broken by faults beyond the survivor rule.
    pub change: fn(&mut File),
}

impl<G: Guest> Sabotage<G> {
    /// Says what it does.
    #[must_use]
    pub fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// Changes the scenario that it is let loose in.
    #[must_use]
    pub fn change(self, change: fn(&mut File)) -> Self {
        Self { change, ..self }
    }
}

/// What a run is to keep besides its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The hash after each event.
    pub hashes: bool,
    /// The answers that are not 0.
    pub answers: bool,
    /// A line for each event.
    pub trace: bool,
}

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// Marks hit: mark → how often (T25).
    pub marks: BTreeMap<&'static str, u64>,
    /// If it was to be kept.
    pub hashes: Vec<u64>,
    /// If it was to be kept.
    pub answers: Vec<Answer>,
    /// If it was to be kept.
    pub trace: Vec<Line>,
}

/// One run, exactly: the input of replaying and shrinking.
#[derive(Clone, Debug)]
pub struct Case {
    /// The scenario, resolved: no swarm.
    pub file: File,
    /// The seed.
    pub seed: u64,
    /// Replaced answers.
    pub overrides: Vec<Override>,
    /// The saboteur that takes part.
    pub saboteur: Option<String>,
}

/// The property of a run in which a machine broke one of its own assertions.
pub const PANIC: &str = "panic";
/// The property of a run in which a node could not start, unexpectedly.
pub const SURVIVOR: &str = "T22";

impl<G: Guest> Lab<G> {
    /// Finds a saboteur.
    #[must_use]
    pub fn saboteur(&self, name: &str) -> Option<&Sabotage<G>> {
        self.saboteurs.iter().find(|saboteur| saboteur.name == name)
    }

    /// Makes the world of a case, with its checkers; nothing has happened yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the scenario.
    pub fn world(&self, case: &Case) -> Result<World<G>, String> {
        let scenario = Scenario::checked(case.file.clone()).map_err(|(_, what)| what)?;
        let resolved = scenario.resolve(case.seed).map_err(|(_, what)| what)?;
        Ok(self.world_of(&scenario, &resolved, &case.overrides, case.saboteur.as_deref()))
    }

    /// Lists the properties that `scenario` looks for.
    fn properties<'a>(&'a self, scenario: &'a Scenario) -> Vec<&'a str> {
        let mut names: Vec<&str> = match &scenario.properties {
            Some(named) => named.iter().map(String::as_str).collect(),
            None => self.known.unconditional().collect(),
        };
        names.retain(|name| !scenario.except.iter().any(|except| except == name));
        names.extend(scenario.also.iter().map(String::as_str));
        names
    }

    /// Checks that the quiet period of every seed is long enough for every property that needs
    /// one (T23): a property that is looked for is looked at.
    ///
    /// # Errors
    ///
    /// The place of the quiet period, and how long it must be.
    pub fn check_quiet(&self, scenario: &Scenario) -> Result<(), (Range<usize>, String)> {
        let file = &scenario.file;
        let place = file.quiet.as_ref().unwrap_or(&file.duration).span();
        for seed in 0..scenario.seeds {
            let setup = scenario.resolve(seed)?.setup::<G>(Overrides::default(), self.kind.clone());
            let quiet = setup.duration - setup.quiet_at;
            for name in self.properties(scenario) {
                let needed = self.known.needs(name, &setup).filter(|needed| *needed > quiet);
                if let Some(needed) = needed {
                    let needed = needed.div_ceil(1_000_000_000);
                    let what = format!(
                        "must be at least {needed}s, or {name} is never looked at (seed {seed}); \
                         or leave it out: [check] except = [\"{name}\"]"
                    );
                    return Err((place, what));
                }
            }
        }
        Ok(())
    }

    /// Lists the properties that some seed of `scenario` must have looked at: those that it names,
    /// and those that its quiet period is for.
    #[must_use]
    pub fn to_arm(&self, scenario: &Scenario) -> Vec<String> {
        let setup = |seed| scenario.resolve(seed).ok();
        let setups = (0..3).filter_map(setup);
        let setups: Vec<_> =
            setups.map(|r| r.setup::<G>(Overrides::default(), self.kind.clone())).collect();
        let named = scenario.properties.iter().flatten().chain(&scenario.also);
        let named: Vec<&str> = named.map(String::as_str).collect();
        let mut names = self.properties(scenario);
        names.retain(|name| {
            let needed = setups.iter().any(|setup| self.known.needs(name, setup).is_some());
            named.contains(name) || needed
        });
        names.into_iter().map(str::to_owned).collect()
    }

    fn world_of(
        &self,
        scenario: &Scenario,
        resolved: &Resolved,
        overrides: &[Override],
        saboteur: Option<&str>,
    ) -> World<G> {
        let sabotage = saboteur.and_then(|name| self.saboteur(name));
        let kind = sabotage.map_or(&self.kind, |sabotage| &sabotage.kind).clone();
        let overrides: Overrides = overrides.iter().cloned().collect();
        let setup = Arc::new(resolved.setup::<G>(overrides, kind));
        let names = self.properties(scenario);
        let made = names.iter().filter_map(|name| self.known.find(name));
        let checkers: Vec<Box<dyn Checker<G>>> = made.map(|make| make(&setup)).collect();
        World::new(setup, checkers)
    }

    /// Runs one seed of a scenario.
    ///
    /// # Errors
    ///
    /// What is wrong with the scenario for this seed.
    pub fn run(&self, scenario: &Scenario, seed: u64, keep: Keep) -> Result<Ran, String> {
        let resolved = scenario.resolve(seed).map_err(|(_, what)| what)?;
        Ok(finish(self.world_of(scenario, &resolved, &[], None), keep, &scenario.expect))
    }

    /// Runs a case.
    ///
    /// # Errors
    ///
    /// What is wrong with its scenario.
    pub fn run_case(&self, case: &Case, keep: Keep) -> Result<Ran, String> {
        let expect: Vec<String> =
            case.file.expect.iter().map(|expected| expected.get_ref().clone()).collect();
        Ok(finish(self.world(case)?, keep, &expect))
    }
}

/// Runs a world to its end. A machine that panics has violated the property [`PANIC`].
fn finish<G: Guest>(mut world: World<G>, keep: Keep, expect: &[String]) -> Ran {
    if keep.hashes {
        world = world.hashing();
    }
    if keep.answers {
        world = world.recording();
    }
    if keep.trace {
        world = world.tracing();
    }
    let _ = machines::marks::take();
    let caught = quietly(|| world.run());
    let mut outcome = caught.unwrap_or_else(|evidence| {
        let violation = Violation { property: PANIC, evidence, at: world.now() };
        Outcome { ended: Ended::Violated(violation), ..world.outcome() }
    });
    if outcome.ended == Ended::Passed
        && let Some(reason) = surprise(&outcome, expect)
    {
        let evidence = format!("a node could not start: {reason}");
        let violation = Violation { property: SURVIVOR, evidence, at: outcome.at };
        outcome.ended = Ended::Violated(violation);
    }
    Ran {
        outcome,
        marks: machines::marks::take(),
        hashes: world.take_hashes(),
        answers: world.take_recorded(),
        trace: world.take_trace(),
    }
}

/// Returns a lasting refusal that the scenario does not expect (T22).
fn surprise(outcome: &Outcome, expect: &[String]) -> Option<&'static str> {
    let lasting = ["session-corrupt", "sessions-exhausted"];
    let seen = lasting.iter().filter(|reason| outcome.refusals.contains_key(*reason));
    seen.copied().find(|reason| !expect.iter().any(|expected| expected == reason))
}

thread_local! {
    static WATCHED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic in it is returned as a text and not printed.
fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let watched = WATCHED.with_borrow_mut(|text| {
                let watched = text.is_some();
                if let Some(text) = text {
                    *text = info.to_string().replace('\n', " ");
                }
                watched
            });
            if !watched {
                before(info);
            }
        }));
    });
    WATCHED.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(work));
    let text = WATCHED.take().unwrap_or_default();
    result.map_err(|payload: Box<dyn Any + Send>| {
        drop(payload);
        text
    })
}
