//! What a campaign works with: which machine is driven, who checks it, and who breaks it (T32).

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use machines::choices::{Answer, Override, Overrides, Who};

use crate::budget::Budget;
use crate::checker::{Checker, Known, Violation};
use crate::guest::Guest;
use crate::host::State;
use crate::keeper::SPIN;
use crate::keeper::lab::{AnyWing, Order};
use crate::scenario::file::File;
use crate::scenario::{Resolved, Scenario, Subject};
use crate::world::{Ended, Line, Outcome, World};

/// A machine with its checkers and saboteurs.
pub struct Lab<G: Guest> {
    /// The checkers.
    pub known: Known<G>,
    /// How guests are made when nobody breaks anything.
    pub kind: G::Kind,
    /// Who breaks what (T32).
    pub saboteurs: Vec<Sabotage<G>>,
    /// What is driven in place of a cluster: one node's durable state alone.
    pub keepers: Vec<(Subject, Box<dyn AnyWing>)>,
}

/// What there is to know of a saboteur, whatever it breaks.
#[derive(Clone, Copy, Debug)]
pub struct Sheet {
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
    /// What it does to the scenario.
    pub change: fn(&mut File),
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

    /// Returns what there is to know of it.
    #[must_use]
    pub const fn sheet(&self) -> Sheet {
        let Self { name, about, property, scenario, seeds, kind: _, change } = self;
        Sheet { name, about, property, scenario, seeds: *seeds, change: *change }
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
    /// The answers (T12).
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
    /// If it was to be kept: every answer that is not 0, and every one that an override gave.
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

    /// Says whether a run of this laboratory can violate `property`.
    #[must_use]
    pub fn can_violate(&self, property: &str) -> bool {
        let kept = self.keepers.iter().flat_map(|(_, wing)| wing.properties());
        [PANIC, SURVIVOR, SPIN].contains(&property)
            || self.known.find(property).is_some()
            || kept.into_iter().any(|kept| kept == property)
    }

    /// Lists all saboteurs.
    #[must_use]
    pub fn sheets(&self) -> Vec<Sheet> {
        let mut sheets: Vec<Sheet> = self.saboteurs.iter().map(Sabotage::sheet).collect();
        for (_, wing) in &self.keepers {
            sheets.extend(wing.sheets().into_iter().copied());
        }
        sheets
    }

    /// Lists the properties that a run of `scenario` can be watched for.
    #[must_use]
    pub fn properties_of(&self, scenario: &Scenario) -> Vec<&'static str> {
        match self.wing(&scenario.file) {
            Ok(Some(wing)) => wing.properties(),
            Ok(None) | Err(_) => self.known.properties().collect(),
        }
    }

    /// Finds the wing of a scenario, if it is one of a keeper.
    fn wing(&self, file: &File) -> Result<Option<&dyn AnyWing>, String> {
        let Some(keeper) = &file.keeper else {
            return Ok(None);
        };
        let name = keeper.subject.get_ref();
        let found = self.keepers.iter().find(|(subject, _)| subject.name() == name);
        let found = found.ok_or_else(|| format!("nothing here keeps a {name}"))?;
        Ok(Some(found.1.as_ref()))
    }

    /// Checks that a case can be run, and would show something.
    ///
    /// # Errors
    ///
    /// As [`Lab::world`].
    pub fn check(&self, case: &Case) -> Result<(), String> {
        let Some(wing) = self.wing(&case.file)? else {
            return self.world(case).map(|_| ());
        };
        let scenario = Scenario::checked(case.file.clone()).map_err(|(_, what)| what)?;
        let resolved = scenario.resolve(case.seed).map_err(|(_, what)| what)?;
        let properties = self.properties(&scenario);
        wing.check(&resolved, &order(case, &properties, &scenario, Keep::default()))
    }

    /// Makes the world of a case, with its checkers; nothing has happened yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the scenario, or a property or saboteur that there is not: without it the
    /// run would show nothing.
    pub fn world(&self, case: &Case) -> Result<World<G>, String> {
        let scenario = Scenario::checked(case.file.clone()).map_err(|(_, what)| what)?;
        let resolved = scenario.resolve(case.seed).map_err(|(_, what)| what)?;
        self.world_of(&scenario, &resolved, &case.overrides, case.saboteur.as_deref())
    }

    /// Lists the properties that `scenario` looks for.
    fn properties<'a>(&'a self, scenario: &'a Scenario) -> Vec<&'a str> {
        let mut names: Vec<&str> = match &scenario.properties {
            Some(named) => named.iter().map(String::as_str).collect(),
            None => match self.wing(&scenario.file) {
                Ok(Some(wing)) => wing.properties(),
                Ok(None) | Err(_) => self.known.unconditional().collect(),
            },
        };
        names.retain(|name| !scenario.except.iter().any(|except| except == name));
        let also: Vec<&str> = scenario.also.iter().map(String::as_str).collect();
        names.retain(|name| !also.contains(name));
        names.extend(also);
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
        if file.keeper.is_some() {
            return Ok(()); // What its quiet period is for is looked at in any.
        }
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
        if scenario.file.keeper.is_some() {
            let named = scenario.properties.iter().flatten().chain(&scenario.also);
            return named.cloned().collect();
        }
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
    ) -> Result<World<G>, String> {
        let kind = match saboteur {
            None => &self.kind,
            Some(name) => {
                let found = self.saboteur(name);
                &found.ok_or_else(|| format!("there is no saboteur {name}"))?.kind
            }
        };
        let overrides: Overrides = overrides.iter().cloned().collect();
        let setup = Arc::new(resolved.setup::<G>(overrides, kind.clone()));
        let names = self.properties(scenario);
        let made = names.iter().map(|name| match self.known.find(name) {
            Some(make) => Ok(make(&setup)),
            None => Err(format!("there is no checker of {name}")),
        });
        let checkers = made.collect::<Result<Vec<Box<dyn Checker<G>>>, String>>()?;
        Ok(World::new(setup, checkers))
    }

    /// Runs one seed of a scenario.
    ///
    /// # Errors
    ///
    /// What is wrong with the scenario for this seed.
    pub fn run(&self, scenario: &Scenario, seed: u64, keep: Keep) -> Result<Ran, String> {
        Ok(self.run_within(scenario, seed, keep, Budget::ENDLESS)?.expect(UNSPENT))
    }

    /// Runs one seed of a scenario, or returns `None` once `budget` is spent.
    ///
    /// # Errors
    ///
    /// What is wrong with the scenario for this seed.
    pub fn run_within(
        &self,
        scenario: &Scenario,
        seed: u64,
        keep: Keep,
        budget: Budget<'_>,
    ) -> Result<Option<Ran>, String> {
        let resolved = scenario.resolve(seed).map_err(|(_, what)| what)?;
        if let Some(wing) = self.wing(&scenario.file)? {
            let properties = self.properties(scenario);
            let order = Order {
                properties: &properties,
                overrides: Overrides::default(),
                saboteur: None,
                expect: &scenario.expect,
                keep,
            };
            return wing.run(&resolved, order, budget);
        }
        let world = self.world_of(scenario, &resolved, &[], None)?;
        Ok(finish(world, keep, &scenario.expect, budget))
    }

    /// Runs a case.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as [`Lab::world`] says.
    pub fn run_case(&self, case: &Case, keep: Keep) -> Result<Ran, String> {
        Ok(self.run_case_within(case, keep, Budget::ENDLESS)?.expect(UNSPENT))
    }

    /// Runs a case, or returns `None` once `budget` is spent.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as [`Lab::world`] says.
    pub fn run_case_within(
        &self,
        case: &Case,
        keep: Keep,
        budget: Budget<'_>,
    ) -> Result<Option<Ran>, String> {
        if let Some(wing) = self.wing(&case.file)? {
            let scenario = Scenario::checked(case.file.clone()).map_err(|(_, what)| what)?;
            let resolved = scenario.resolve(case.seed).map_err(|(_, what)| what)?;
            let properties = self.properties(&scenario);
            return wing.run(&resolved, order(case, &properties, &scenario, keep), budget);
        }
        let expect: Vec<String> =
            case.file.expect.iter().map(|expected| expected.get_ref().clone()).collect();
        Ok(finish(self.world(case)?, keep, &expect, budget))
    }
}

fn order<'a>(
    case: &'a Case,
    properties: &'a [&'a str],
    scenario: &'a Scenario,
    keep: Keep,
) -> Order<'a> {
    Order {
        properties,
        overrides: case.overrides.iter().cloned().collect(),
        saboteur: case.saboteur.as_deref(),
        expect: &scenario.expect,
        keep,
    }
}

const UNSPENT: &str = "an endless budget is never spent";
/// Steps between two looks at the budget.
const LOOK: u32 = 1_024;

/// Runs a world to its end. A machine that panics has violated the property [`PANIC`].
fn finish<G: Guest>(
    mut world: World<G>,
    keep: Keep,
    expect: &[String],
    budget: Budget<'_>,
) -> Option<Ran> {
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
    let mut steps = 0_u32;
    let mut to_the_end = |world: &mut World<G>| {
        loop {
            if steps.is_multiple_of(LOOK) && budget.is_spent() {
                return None;
            }
            if !world.step() {
                return Some(world.outcome());
            }
            steps = steps.wrapping_add(1);
        }
    };
    let mut outcome = match quietly(|| to_the_end(&mut world)) {
        Ok(outcome) => outcome?,
        Err(evidence) => {
            let violation = Violation { property: PANIC, evidence, at: world.now() };
            Outcome { ended: Ended::Violated(violation), ..world.outcome() }
        }
    };
    if outcome.ended == Ended::Passed
        && let Some(reason) = surprise(&world, &outcome, expect)
    {
        let evidence = format!("a node could not start: {reason}");
        let violation = Violation { property: SURVIVOR, evidence, at: outcome.at };
        outcome.ended = Ended::Violated(violation);
    }
    Some(Ran {
        outcome,
        marks: machines::marks::take(),
        hashes: world.take_hashes(),
        answers: world.take_recorded(),
        trace: world.take_trace(),
    })
}

/// Returns a lasting refusal that the scenario does not expect (T22): one that no retry ends, or
/// any that still stands at the end.
fn surprise<G: Guest>(
    world: &World<G>,
    outcome: &Outcome,
    expect: &[String],
) -> Option<&'static str> {
    let lasting = ["session-corrupt", "sessions-exhausted"];
    let seen = lasting.into_iter().filter(|reason| outcome.refusals.contains_key(reason));
    let standing = (0..world.nodes()).filter_map(|node| match world.host(node).state() {
        State::Refused(refusal) => Some(refusal.name()),
        State::Off | State::Booting | State::Up | State::Down | State::Left => None,
    });
    let mut refused = seen.chain(standing);
    refused.find(|reason| !expect.iter().any(|expected| expected == reason))
}

/// Lists the overrides that no question of a run asked for; `answers` are those of the run. An
/// override that never counts shows that a site was renamed, or that the run went another way.
pub fn never_asked<'a>(
    overrides: &'a [Override],
    answers: &[Answer],
) -> impl Iterator<Item = &'a Override> {
    let mut asked: BTreeSet<(&str, Option<Who>, Option<u32>)> = BTreeSet::new();
    for Answer { site, who, nth, .. } in answers {
        asked.extend([(*site, None, None), (*site, Some(*who), None)]);
        asked.insert((*site, Some(*who), Some(*nth)));
    }
    overrides.iter().filter(move |entry| {
        let asked: &BTreeSet<(&str, Option<Who>, Option<u32>)> = &asked;
        !asked.contains(&(entry.site.as_str(), entry.who, entry.nth))
    })
}

thread_local! {
    static WATCHED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic in it is returned as a text and not printed.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
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
