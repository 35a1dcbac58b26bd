//! `[keeper]`: one node's durable state alone, understood (T50).

use toml::Spanned;

use super::file::{File, Keeper};
use super::{At, span};
use crate::keeper::io::{Script, Work};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A small fold on journal, recovery and snapshots.
    Ledger,
    /// The kernel.
    Kernel,
    /// The kernel's bus, which keeps nothing.
    Bus,
}

impl Subject {
    /// What it is called in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Kernel => "kernel",
            Self::Bus => "bus",
        }
    }
}

/// What `[keeper]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What is kept.
    pub subject: Subject,
    /// What the callers do.
    pub work: Work,
    /// How long an operation of the disk takes: at least, and up to so much more.
    pub disk: (u64, u64),
    /// A snapshot is due after so many records.
    pub snapshots: u64,
    /// How many read the events.
    pub readers: u64,
    /// How long segments are kept that snapshots cover, in nanoseconds, where that is given.
    pub keep: Option<u64>,
    /// How many seeds share the cuts of a sweep.
    pub sweep: Option<u64>,
}

/// The most callers, keys and bytes: each is remembered.
const MOST: u64 = 1_000_000;

/// Understands `[keeper]`, if it is there.
pub(super) fn compile(file: &File) -> Result<Option<Kept>, At> {
    let Some(keeper) = &file.keeper else {
        return Ok(None);
    };
    if *file.nodes.get_ref() != 1 {
        return Err((file.nodes.span(), "must be 1: a keeper is of one node".into()));
    }
    let place = keeper.subject.span();
    let clustered = [
        ("network", file.network.is_some()),
        ("workload", file.workload.is_some()),
        ("config", file.config.is_some()),
        ("strangers", file.strangers.is_some()),
        ("node", !file.node.is_empty()),
    ];
    if let Some((key, _)) = clustered.iter().find(|(_, there)| *there) {
        return Err((place, format!("a keeper has no cluster: leave out {key}")));
    }
    let subject = match keeper.subject.get_ref().as_str() {
        "ledger" => Subject::Ledger,
        "kernel" => Subject::Kernel,
        "bus" => volatile(keeper)?,
        _ => return Err((place, "must be \"ledger\", \"kernel\" or \"bus\"".into())),
    };
    Ok(Some(Kept {
        subject,
        work: work(keeper)?,
        disk: range(keeper.disk.as_ref(), (50_000, 450_000))?,
        snapshots: number(keeper.snapshots.as_ref(), 400)?,
        readers: keeper.readers.as_ref().map_or(Ok(0), |readers| number(Some(readers), 0))?,
        keep: keeper.keep.as_ref().map(length).transpose()?,
        sweep: keeper.sweep.as_ref().map(|sweep| number(Some(sweep), 1)).transpose()?,
    }))
}

/// Returns what the run of a seed is drawn from: seeds that share the cuts of a sweep share the
/// run, or no run would be cut everywhere.
pub(super) fn run_of(file: &File, seed: u64) -> u64 {
    let sweep = file.keeper.as_ref().and_then(|keeper| keeper.sweep.as_ref());
    // A sweep of 0 is refused, in its turn.
    seed / sweep.map_or(1, |sweep| (*sweep.get_ref()).max(1))
}

/// A bus has no disk, and its own words.
fn volatile(keeper: &Keeper) -> Result<Subject, At> {
    let pointless = [
        ("bytes", keeper.bytes.as_ref().map(Spanned::span)),
        ("keys", keeper.keys.as_ref().map(Spanned::span)),
        ("records", keeper.records.as_ref().map(Spanned::span)),
        ("script", keeper.script.as_ref().map(Spanned::span)),
        ("disk", keeper.disk.as_ref().map(Spanned::span)),
        ("snapshots", keeper.snapshots.as_ref().map(Spanned::span)),
        ("keep", keeper.keep.as_ref().map(Spanned::span)),
        ("sweep", keeper.sweep.as_ref().map(Spanned::span)),
    ];
    let found = pointless.into_iter().find_map(|(key, place)| Some((key, place?)));
    match found {
        Some((key, place)) => Err((place, format!("a bus keeps nothing: leave out {key}"))),
        None => Ok(Subject::Bus),
    }
}

fn work(keeper: &Keeper) -> Result<Work, At> {
    let callers = keeper.callers.as_ref().map_or(4, |callers| *callers.get_ref());
    if let Some(place) = keeper.callers.as_ref().filter(|_| !(1..=10_000).contains(&callers)) {
        return Err((place.span(), "must be 1 to 10000 callers".into()));
    }
    let records = keeper.records.as_ref();
    Ok(Work {
        callers,
        think: range(keeper.think.as_ref(), (2_000_000, 18_000_000))?,
        bytes: number(keeper.bytes.as_ref(), 300)?,
        keys: number(keeper.keys.as_ref(), 32)?,
        records: records.map(|records| number(Some(records), 1)).transpose()?,
        script: script(keeper)?,
    })
}

fn script(keeper: &Keeper) -> Result<Script, At> {
    let Some(script) = &keeper.script else {
        return Ok(Script::Mixed);
    };
    match script.get_ref().as_str() {
        "mixed" => Ok(Script::Mixed),
        "queue" => Ok(Script::Queue),
        "flows" => Ok(Script::Flows),
        "fork-join" => Ok(Script::ForkJoin),
        "services" => Ok(Script::Services),
        "drain" => Ok(Script::Drain),
        "approvals" => Ok(Script::Approvals),
        "executor" => Ok(Script::Executor),
        _ => {
            let all = "mixed, queue, flows, fork-join, services, drain, approvals or executor";
            Err((script.span(), format!("must be one of {all}")))
        }
    }
}

fn range(value: Option<&Spanned<String>>, default: (u64, u64)) -> Result<(u64, u64), At> {
    value.map_or(Ok(default), |text| span::range(text.get_ref()).map_err(|why| (text.span(), why)))
}

fn length(value: &Spanned<String>) -> Result<u64, At> {
    span::span(value.get_ref()).map_err(|why| (value.span(), why))
}

fn number(value: Option<&Spanned<u64>>, default: u64) -> Result<u64, At> {
    match value {
        None => Ok(default),
        Some(value) if (1..=MOST).contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => Err((value.span(), format!("must be 1 to {MOST}"))),
    }
}
