//! The wings of the laboratory for keepers: which properties are watched, and who breaks them.

use std::sync::Arc;

use machines::choices::Overrides;

use super::bus::{self, Hub};
use super::checkers::{self, Make};
use super::io::Guest;
use super::kernel::{Clerk, Turn as Broken};
use super::ledger::{Ledger, Turn};
use super::promises;
use super::{Setup, World};
use crate::budget::Budget;
use crate::checker::Violation;
use crate::lab::{Keep, PANIC, Ran, SURVIVOR, Sheet, quietly};
use crate::scenario::file::File;
use crate::scenario::{Resolved, Subject};
use crate::world::{Ended, Outcome};

/// One saboteur of a keeper.
pub struct Sabotage<G: Guest> {
    /// What it is called, what it breaks, and where that shows.
    pub sheet: Sheet,
    /// What it does.
    pub turn: G::Turn,
}

/// What is watched in one kind of keeper, and who breaks it.
pub struct Wing<G: Guest> {
    /// Property → its watch.
    pub watches: Vec<(&'static str, Make<G>)>,
    /// Who breaks what (T32).
    pub saboteurs: Vec<Sabotage<G>>,
}

/// What of a run is decided outside the scenario.
#[derive(Debug)]
pub struct Order<'a> {
    /// What is watched.
    pub properties: &'a [&'a str],
    /// Replaced answers.
    pub overrides: Overrides,
    /// Who takes part.
    pub saboteur: Option<&'a str>,
    /// Refusals to start that are expected.
    pub expect: &'a [String],
    /// What is kept.
    pub keep: Keep,
}

/// A wing, whatever it keeps.
pub trait AnyWing: Send + Sync {
    /// Lists the properties that are watched.
    fn properties(&self) -> Vec<&'static str>;
    /// Lists the saboteurs.
    fn sheets(&self) -> Vec<&Sheet>;
    /// Checks that a run can be made.
    ///
    /// # Errors
    ///
    /// A property or a saboteur that there is not.
    fn check(&self, resolved: &Resolved, order: &Order<'_>) -> Result<(), String>;
    /// Makes a run; `None` once `budget` is spent.
    ///
    /// # Errors
    ///
    /// As [`AnyWing::check`].
    fn run(
        &self,
        resolved: &Resolved,
        order: Order<'_>,
        budget: Budget<'_>,
    ) -> Result<Option<Ran>, String>;
}

impl<G: Guest> Wing<G> {
    fn world(&self, resolved: &Resolved, order: &Order<'_>) -> Result<World<G>, String> {
        let turn = match order.saboteur {
            None => None,
            Some(name) => {
                let found = self.saboteurs.iter().find(|sabotage| sabotage.sheet.name == name);
                Some(found.ok_or_else(|| format!("there is no saboteur {name}"))?.turn)
            }
        };
        let setup: Option<Setup<G>> = resolved.keeper_setup(order.overrides.clone(), turn);
        let setup = setup.ok_or("the scenario has no keeper")?;
        let made = order.properties.iter().map(|name| {
            let found = self.watches.iter().find(|(property, _)| property == name);
            found.map(|(_, make)| make()).ok_or_else(|| format!("there is no checker of {name}"))
        });
        Ok(World::new(Arc::new(setup), made.collect::<Result<_, _>>()?))
    }
}

impl<G: Guest> AnyWing for Wing<G> {
    fn properties(&self) -> Vec<&'static str> {
        self.watches.iter().map(|(property, _)| *property).collect()
    }

    fn sheets(&self) -> Vec<&Sheet> {
        self.saboteurs.iter().map(|sabotage| &sabotage.sheet).collect()
    }

    fn check(&self, resolved: &Resolved, order: &Order<'_>) -> Result<(), String> {
        self.world(resolved, order).map(|_| ())
    }

    fn run(
        &self,
        resolved: &Resolved,
        order: Order<'_>,
        budget: Budget<'_>,
    ) -> Result<Option<Ran>, String> {
        let mut world = self.world(resolved, &order)?;
        let keep = order.keep;
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
        let Some(outcome) = to_the_end(&mut world, order.expect, budget) else {
            return Ok(None);
        };
        Ok(Some(Ran {
            outcome,
            marks: machines::marks::take(),
            hashes: world.take_hashes(),
            answers: world.take_recorded(),
            trace: world.take_trace(),
        }))
    }
}

/// Steps between two looks at the budget.
const LOOK: u32 = 256;

fn to_the_end<G: Guest>(
    world: &mut World<G>,
    expect: &[String],
    budget: Budget<'_>,
) -> Option<Outcome> {
    let look = if world.setup().sweep.is_some() { 8 } else { LOOK };
    let mut steps = 0_u32;
    let ran = quietly(|| {
        loop {
            if steps.is_multiple_of(look) && budget.is_spent() {
                return false;
            }
            if !world.step() {
                return true;
            }
            steps = steps.wrapping_add(1);
        }
    });
    let mut outcome = world.outcome();
    match ran {
        Ok(false) => return None,
        Ok(true) => {}
        Err(evidence) => {
            let violation = Violation { property: PANIC, evidence, at: world.now() };
            outcome.ended = Ended::Violated(violation);
        }
    }
    let surprise = |reason: &&&str| !expect.iter().any(|expected| expected == **reason);
    if outcome.ended == Ended::Passed
        && let Some(reason) = outcome.refusals.keys().find(surprise)
    {
        let evidence = format!("the node could not start: {reason}");
        let violation = Violation { property: SURVIVOR, evidence, at: outcome.at };
        outcome.ended = Ended::Violated(violation);
    }
    Some(outcome)
}

/// Returns the wings of this program.
#[must_use]
pub fn all() -> Vec<(Subject, Box<dyn AnyWing>)> {
    vec![
        (Subject::Ledger, Box::new(ledger())),
        (Subject::Kernel, Box::new(kernel())),
        (Subject::Bus, Box::new(bus())),
    ]
}

fn ledger() -> Wing<Ledger> {
    Wing { watches: checkers::of_ledger(), saboteurs: sabotages(&[OF_LEDGER]) }
}

fn kernel() -> Wing<Clerk> {
    let tables = [OF_PROCESSES, OF_SESSIONS, OF_APPROVALS, OF_SERVICES, OF_DRIVEN];
    Wing { watches: promises::of_kernel(), saboteurs: sabotages(&tables) }
}

fn bus() -> Wing<Hub> {
    Wing { watches: bus::of_bus(), saboteurs: sabotages(&[OF_BUS]) }
}

/// A saboteur, by its name, the property that it breaks, where that shows and within how many
/// seeds; then what it does, in words and as a turn.
type Row<T> = ((&'static str, &'static str, &'static str, u64), &'static str, T);

fn sabotages<G: Guest>(tables: &[&[Row<G::Turn>]]) -> Vec<Sabotage<G>> {
    let sabotage = |row: &Row<G::Turn>| {
        let ((name, property, scenario, seeds), about, turn) = *row;
        let change = |_: &mut File| {};
        Sabotage { sheet: Sheet { name, about, property, scenario, seeds, change }, turn }
    };
    tables.iter().flat_map(|table| table.iter()).map(sabotage).collect()
}

/// Of the ledger.
const OF_LEDGER: &[Row<Turn>] = &[
    (
        ("acknowledges-at-write", "L70", "ledger-power-cuts", 5),
        "takes a record for durable when it is written",
        Turn::AcknowledgesAtWrite,
    ),
    (
        ("recovers-single-events", "L71", "ledger-power-cuts", 5),
        "recovers part of a record",
        Turn::RecoversSingleEvents,
    ),
    (
        ("leaves-table-out", "L72", "ledger-power-cuts", 5),
        "leaves a table out of snapshots",
        Turn::LeavesTableOut,
    ),
    (
        ("replies-at-apply", "L73", "ledger-power-cuts", 2),
        "replies before the disk has the record",
        Turn::RepliesAtApply,
    ),
    (
        ("takes-all-for-torn", "L74", "ledger-rot", 10),
        "cuts off whatever cannot be read",
        Turn::TakesAllForTorn,
    ),
    (
        ("syncs-again", "L75", "ledger-failed-syncs", 5),
        "syncs the same file again after a failed sync",
        Turn::SyncsAgain,
    ),
    (
        ("drops-what-did-not-fit", "L76", "ledger-full-disk", 5),
        "goes on as if what did not fit were written",
        Turn::DropsWhatDidNotFit,
    ),
    (
        ("removes-too-early", "L77", "ledger-power-cuts", 5),
        "removes segments before the snapshot has its name",
        Turn::RemovesTooEarly,
    ),
    (
        ("syncs-another-folder", "L77", "ledger-power-cuts", 5),
        "removes segments while the next one may lose its name",
        Turn::SyncsAnotherFolder,
    ),
    (
        ("takes-everything", "L78", "ledger-slow-disk", 3),
        "lets any number of records wait for the disk",
        Turn::TakesEverything,
    ),
    (
        ("ignores-lock", "L79", "ledger-two-processes", 3),
        "does not look at the lock of the data folder",
        Turn::IgnoresLock,
    ),
];

/// Of processes and what they may use.
const OF_PROCESSES: &[Row<Broken>] = &[
    (
        ("grants-before-checking", "K420", "kernel-mixed", 5),
        "grants what was asked for, and then looks at the limit",
        Broken::GrantsBeforeChecking,
    ),
    (
        ("hands-out-unchecked", "K420", "kernel-flows", 10),
        "hands a stage out whatever its process and those above it have left",
        Broken::HandsOutUnchecked,
    ),
    (
        ("hides-excess", "K420", "kernel-mixed", 5),
        "counts what was used beyond what was reserved as if it had been reserved",
        Broken::HidesExcess,
    ),
    (
        ("forgets-holds", "K421", "kernel-mixed", 5),
        "forgets what a process had reserved when it ends",
        Broken::ForgetsHolds,
    ),
    (
        ("resolves-twice", "K422", "kernel-mixed", 10),
        "lets a question that was closed be answered again",
        Broken::ResolvesTwice,
    ),
    (
        ("lets-waiting-run", "K423", "kernel-mixed", 5),
        "lets a process that waits be claimed",
        Broken::LetsWaitingRun,
    ),
    (
        ("loses-ready", "K426", "kernel-mixed", 3),
        "tells nobody of the processes that wait for their turn",
        Broken::LosesReady,
    ),
    (
        ("forgets-after-snapshot", "K428", "kernel-power-cuts", 5),
        "does not know all of the state after a snapshot was loaded",
        Broken::ForgetsAfterSnapshot,
    ),
    (
        ("leaves-ready-out", "K428", "kernel-power-cuts", 5),
        "leaves what is ready out of what follows from a snapshot",
        Broken::LeavesReadyOut,
    ),
    (("never-ages", "K429", "kernel-queue", 5), "serves by priority alone", Broken::NeverAges),
    (
        ("newest-first", "K430", "kernel-mixed", 5),
        "serves the newest process of a user first",
        Broken::NewestFirst,
    ),
    (
        ("counts-refused", "K434", "kernel-mixed", 3),
        "counts a command before it is checked",
        Broken::CountsRefused,
    ),
    (
        ("records-refused", "K434", "kernel-mixed", 3),
        "counts a refused command by an event",
        Broken::RecordsRefused,
    ),
    (
        ("skips-an-event", "K444", "kernel-streams", 3),
        "lets a reader that comes back go on one event too far",
        Broken::SkipsAnEvent,
    ),
    (
        ("overstates-oldest", "K444", "kernel-late-readers", 3),
        "tells who comes too late that less is kept than there is",
        Broken::OverstatesOldest,
    ),
    (
        ("answers-at-apply", "K445", "kernel-power-cuts", 3),
        "replies before the disk has the record",
        Broken::RepliesAtApply,
    ),
    (
        ("tells-at-apply", "K445", "kernel-power-cuts", 3),
        "answers questions before the disk has what they are told of",
        Broken::TellsAtApply,
    ),
    (
        ("acts-at-apply", "K445", "kernel-services", 3),
        "calls handlers and tells of work before the disk has the events",
        Broken::ActsAtApply,
    ),
    (
        ("remembers-last", "K448", "kernel-mixed", 10),
        "remembers only the last closed reservation",
        Broken::RemembersLast,
    ),
    (
        ("answers-another", "K448", "kernel-mixed", 3),
        "answers a repeat as if it had been asked for something else",
        Broken::AnswersAnother,
    ),
    (
        ("follows-clock", "K449", "kernel-clock-jumps", 5),
        "takes the clock as it is when it jumps back",
        Broken::FollowsClock,
    ),
];

/// Of sessions.
const OF_SESSIONS: &[Row<Broken>] = &[
    (
        ("issues-per-poll", "K424", "kernel-flows", 3),
        "hands every poll an attempt of its own",
        Broken::IssuesPerPoll,
    ),
    (
        ("issues-again", "K425", "kernel-flows", 3),
        "issues a stage again without closing who works on it",
        Broken::IssuesAgain,
    ),
    (
        ("ends-only-session", "K437", "kernel-flows", 3),
        "ends a session and not its process",
        Broken::EndsOnlySession,
    ),
    (
        ("lets-errors-pass", "K439", "kernel-flows", 10),
        "does not check where a failure leads",
        Broken::LetsErrorsPass,
    ),
    (
        ("retries-uncounted", "K440", "kernel-flows", 10),
        "tries again without counting",
        Broken::RetriesUncounted,
    ),
    (
        ("puts-off", "K440", "kernel-executor", 3),
        "lets who waits for another try wait on and on",
        Broken::PutsOff,
    ),
];

/// Of leave that is asked for.
const OF_APPROVALS: &[Row<Broken>] = &[
    (
        ("takes-silence-for-yes", "K427", "kernel-approvals", 3),
        "goes on when nobody said yes in time",
        Broken::TakesSilenceForYes,
    ),
    (
        ("merges-on-arrival", "K436", "kernel-approvals", 5),
        "merges branches in the order in which they report",
        Broken::MergesOnArrival,
    ),
    (
        ("forgets-wake", "K426", "kernel-approvals", 5),
        "lets who was answered, or by nobody in time, wait on",
        Broken::ForgetsWake,
    ),
    (
        ("begins-again", "K438", "kernel-approvals", 3),
        "begins at the first stage again after an answer",
        Broken::BeginsAgain,
    ),
    (
        ("skips-recheck", "K441", "kernel-approvals", 3),
        "does not look again at what is done with leave",
        Broken::SkipsRecheck,
    ),
];

/// Of services, rates, access and housekeeping.
const OF_SERVICES: &[Row<Broken>] = &[
    (
        ("forgets-drain", "K362", "kernel-drain", 5),
        "takes on new work while it drains",
        Broken::ForgetsDrain,
    ),
    (
        ("counts-fewer-slots", "K431", "kernel-services", 20),
        "divides a window into slots, and counts one too few",
        Broken::CountsFewerSlots,
    ),
    (
        ("tells-later", "K431", "kernel-services", 3),
        "tells who is refused for a rate to come again a millisecond too late",
        Broken::TellsLater,
    ),
    (
        ("releases-twice", "K432", "kernel-services", 5),
        "releases a slot that was released already",
        Broken::ReleasesTwice,
    ),
    (
        ("accepts-old-lease", "K433", "kernel-services", 5),
        "lets a completion under an old lease end the live try",
        Broken::AcceptsOldLease,
    ),
    (
        ("orders-by-address", "K435", "kernel-services", 5),
        "lets first what comes first in memory",
        Broken::OrdersByAddress,
    ),
    (
        ("forgets-to-look", "K446", "kernel-services", 3),
        "tells anybody what a process has used",
        Broken::ForgetsToLook,
    ),
    (
        ("tells-of-holder", "K446", "kernel-services", 3),
        "tells who may not ask at all that somebody else holds what it asked for",
        Broken::TellsOfHolder,
    ),
    (
        ("keeps-attempts", "K447", "kernel-flows", 5),
        "keeps closed attempts when their process goes",
        Broken::KeepsAttempts,
    ),
    (
        ("hurries-closed", "K447", "kernel-services", 3),
        "removes questions as soon as they are closed",
        Broken::HurriesClosed,
    ),
    (
        ("hurries-envelopes", "K447", "kernel-services", 3),
        "removes envelopes that nobody uses at once",
        Broken::HurriesEnvelopes,
    ),
    (
        ("keeps-ended", "K447", "kernel-services", 3),
        "keeps dispatches that were cancelled",
        Broken::KeepsEnded,
    ),
];

/// Of what the node drives.
const OF_DRIVEN: &[Row<Broken>] = &[
    (
        ("reports-ahead", "K251", "kernel-executor", 3),
        "reports what nobody has made yet",
        Broken::ReportsAhead,
    ),
    (
        ("tells-anybody", "K290", "kernel-executor", 3),
        "tells anybody who asks what is the node's to do",
        Broken::TellsAnybody,
    ),
    (
        ("forgets-driven", "K294", "kernel-executor", 3),
        "does not know what it drives",
        Broken::ForgetsDriven,
    ),
];

/// Of the bus.
const OF_BUS: &[Row<bus::Turn>] = &[
    (
        ("drops-markers", "K442", "kernel-bus", 3),
        "tells nobody of what a full queue has lost",
        bus::Turn::DropsMarkers,
    ),
    (
        ("closes-ranks", "K442", "kernel-bus", 3),
        "the same, and numbers what comes after it as if nothing were missing",
        bus::Turn::ClosesRanks,
    ),
    (
        ("probes-twice", "K443", "kernel-bus", 10),
        "lets a call through while the probe of a half-open breaker is under way",
        bus::Turn::ProbesTwice,
    ),
    (
        ("calls-while-open", "K443", "kernel-bus", 5),
        "lets a call through while its breaker is open",
        bus::Turn::CallsWhileOpen,
    ),
];
