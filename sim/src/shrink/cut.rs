//! Ways to make a case smaller.

use std::fmt;

use machines::choices::{Override, Who};
use toml::Spanned;

use crate::failure;
use crate::lab::Case;
use crate::scenario::file::{Fault, File, Word};
use crate::scenario::span;

/// Nanoseconds of a millisecond.
pub(super) const MS: u64 = 1_000_000;

/// How large a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes.
    pub nodes: u32,
    /// Entries of the plan.
    pub faults: usize,
    /// Lines of the scenario that are neither: workload, network, configuration, builds.
    pub lines: usize,
    /// Virtual time, in nanoseconds.
    pub duration: u64,
    /// Overrides of entities and of single answers; a whole site at 0 is no burden.
    pub overrides: usize,
    /// Bytes of the file, without the lines that name times.
    pub bytes: usize,
}

impl Size {
    /// Says whether no part of the scenario is larger.
    pub(super) const fn parts_within(self, other: Self) -> bool {
        self.nodes <= other.nodes
            && self.faults <= other.faults
            && self.lines <= other.lines
            && self.duration <= other.duration
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, faults, duration, overrides, bytes, .. } = self;
        let time = span::write(*duration);
        write!(f, "{nodes} nodes, {faults} faults, {time}, {overrides} overrides, {bytes} bytes")
    }
}

/// Changes a scenario to a simpler one; `false` if there was nothing to do.
pub(super) type Without = fn(&mut File) -> bool;

/// Parts of a scenario that can go.
pub(super) const LINES: &[Without] = &[
    |file| file.workload.take().is_some(),
    |file| file.config.take().is_some(),
    |file| file.start.take().is_some(),
    |file| file.strangers.take().is_some(),
    |file| file.seeds.take().is_some(),
    |file| {
        file.check.as_mut().is_some_and(|check| !std::mem::take(&mut check.sometimes).is_empty())
    },
    |file| file.ties.replace(false) != Some(false),
    |file| network(file, |network| network.loss.take().is_some()),
    |file| network(file, |network| network.duplicate.take().is_some()),
    |file| network(file, |network| network.reorder.take().is_some()),
    |file| network(file, |network| network.corrupt.take().is_some()),
    |file| network(file, |network| network.rate.take().is_some()),
    |file| network(file, |network| network.mtu.take().is_some()),
    |file| operation(file, |work| &mut work.register),
    |file| operation(file, |work| &mut work.unregister),
    |file| operation(file, |work| &mut work.lookup),
    |file| operation(file, |work| &mut work.send),
    |file| operation(file, |work| &mut work.ask),
    |file| operation(file, |work| &mut work.reopen),
];

/// Ways to make one fault simpler.
pub(super) const SIMPLER: &[fn(&mut Fault) -> bool] = &[
    |fault| fault.times.take().is_some(),
    |fault| fault.stagger.take().is_some(),
    |fault| fault.power.take().is_some(),
    |fault| fault.direction.take().is_some(),
];

fn network(file: &mut File, change: impl Fn(&mut crate::scenario::file::Network) -> bool) -> bool {
    file.network.as_mut().is_some_and(change)
}

fn operation(
    file: &mut File,
    which: impl Fn(&mut crate::scenario::file::Workload) -> &mut Option<Spanned<f64>>,
) -> bool {
    file.workload.as_mut().is_some_and(|work| which(work).take().is_some())
}

/// Measures a case.
pub(super) fn size(case: &Case) -> Size {
    let mut bare = case.file.clone();
    bare.fault.clear();
    let lines = toml::to_string(&bare).unwrap_or_default();
    let times = ["at =", "for =", "duration =", "quiet =", "every =", "stagger ="];
    let text = failure::text_of(case);
    let counted = text.lines().filter(|line| !times.iter().any(|time| line.starts_with(time)));
    Size {
        nodes: *case.file.nodes.get_ref(),
        faults: case.file.fault.len(),
        lines: lines.lines().filter(|line| !line.starts_with("ties")).count(),
        // A time that cannot be read is no scenario's.
        duration: span::span(case.file.duration.get_ref()).unwrap_or(u64::MAX),
        overrides: case.overrides.iter().filter(|entry| entry.who.is_some()).count(),
        bytes: counted.map(|line| line.len() + 1).sum(),
    }
}

/// Sets a site, an entity of it or a single answer to 0.
pub(super) fn zero(site: &str, who: Option<Who>, nth: Option<u32>) -> Override {
    Override { site: site.to_owned(), who, nth, answer: 0 }
}

/// Ends the run at `at`: later faults go, longer ones are cut.
pub(super) fn time(case: &Case, at: u64) -> Option<Case> {
    let mut case = case.clone();
    let duration = span::span(case.file.duration.get_ref()).ok()?;
    let quiet = case.file.quiet.as_ref().map_or(Some(0), |q| span::span(q.get_ref()).ok())?;
    if at >= duration {
        return None;
    }
    let quiet_at = (duration - quiet).min(at);
    case.file.duration = Spanned::new(0..0, span::write(at));
    case.file.quiet = case.file.quiet.map(|_| Spanned::new(0..0, span::write(at - quiet_at)));
    case.file.fault.retain(|fault| span::span(fault.at.text()).is_ok_and(|begin| begin < quiet_at));
    // No process of a later build starts any more.
    let in_time = |from: &Word| span::span(from.text()).is_ok_and(|from| from < quiet_at);
    case.file.node.retain(|entry| entry.from.as_ref().is_none_or(in_time));
    for fault in &mut case.file.fault {
        let begin = span::span(fault.at.text()).ok()?;
        let lasts = fault.lasts.as_ref().and_then(|lasts| span::span(lasts.text()).ok());
        if lasts.is_some_and(|lasts| begin + lasts > quiet_at) {
            fault.lasts = Some(Word::new(&span::write(quiet_at - begin)));
        }
    }
    Some(case)
}

/// Keeps the first `fewer` nodes; what is said about others goes.
pub(super) fn nodes(case: &Case, fewer: u32) -> Case {
    let mut case = case.clone();
    case.file.nodes = Spanned::new(0..0, fewer);
    case.file.node.retain_mut(|entry| keep_named(&mut entry.nodes, fewer));
    case.file.fault.retain_mut(|fault| keep(fault, fewer));
    case
}

/// Keeps the first `fewer` nodes of a list; `false` if none is left. `"all"` stays.
fn keep_named(named: &mut Spanned<toml::Value>, fewer: u32) -> bool {
    let Some(list) = named.get_ref().as_array() else {
        return true;
    };
    let stays = |node: &&toml::Value| node.as_integer().is_some_and(|n| n < i64::from(fewer));
    let list: Vec<toml::Value> = list.iter().filter(stays).cloned().collect();
    let some = !list.is_empty();
    *named = Spanned::new(0..0, toml::Value::Array(list));
    some
}

fn keep(fault: &mut Fault, fewer: u32) -> bool {
    if fault.nodes.as_mut().is_some_and(|named| !keep_named(named, fewer)) {
        return false;
    }
    if let Some(links) = &mut fault.links {
        links.get_mut().retain(|[from, to]| *from < fewer && *to < fewer);
        if links.get_ref().is_empty() {
            return false;
        }
    }
    if let Some(groups) = &mut fault.groups {
        for group in groups.get_mut() {
            group.retain(|node| *node < fewer);
        }
    }
    true
}
