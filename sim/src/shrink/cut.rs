//! Ways to make a case smaller.

use toml::Spanned;

use super::Size;
use crate::lab::Case;
use crate::scenario::file::{Fault, File, Word};
use crate::scenario::span;

/// Changes a scenario to a simpler one; `false` if there was nothing to do.
pub(super) type Without = fn(&mut File) -> bool;

/// Parts of a scenario that can go.
pub(super) const LINES: &[Without] = &[
    |file| file.workload.take().is_some(),
    |file| file.config.take().is_some(),
    |file| file.start.take().is_some(),
    |file| file.strangers.take().is_some(),
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
    file.workload
        .as_mut()
        .is_some_and(|work| which(work).take().is_some())
}

/// Measures a case; `None` if its duration cannot be read.
pub(super) fn size(case: &Case) -> Option<Size> {
    let mut bare = case.file.clone();
    bare.fault.clear();
    Some(Size {
        nodes: *case.file.nodes.get_ref(),
        faults: case.file.fault.len(),
        lines: toml::to_string(&bare)
            .ok()?
            .lines()
            .filter(|line| !line.starts_with("ties"))
            .count(),
        duration: span::span(case.file.duration.get_ref()).ok()?,
    })
}

/// Ends the run at `at`: later faults go, longer ones are cut.
pub(super) fn time(case: &Case, at: u64) -> Option<Case> {
    let mut case = case.clone();
    let duration = span::span(case.file.duration.get_ref()).ok()?;
    let quiet = case
        .file
        .quiet
        .as_ref()
        .map_or(Some(0), |q| span::span(q.get_ref()).ok())?;
    if at >= duration {
        return None;
    }
    let quiet_at = (duration - quiet).min(at);
    case.file.duration = Spanned::new(0..0, span::write(at));
    case.file.quiet = case
        .file
        .quiet
        .map(|_| Spanned::new(0..0, span::write(at - quiet_at)));
    case.file
        .fault
        .retain(|fault| span::span(fault.at.text()).is_ok_and(|begin| begin < quiet_at));
    for fault in &mut case.file.fault {
        let begin = span::span(fault.at.text()).ok()?;
        let lasts = fault
            .lasts
            .as_ref()
            .and_then(|lasts| span::span(lasts.text()).ok());
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
    case.file.fault.retain_mut(|fault| keep(fault, fewer));
    case
}

fn keep(fault: &mut Fault, fewer: u32) -> bool {
    if let Some(named) = &mut fault.nodes
        && let Some(list) = named.get_ref().as_array()
    {
        let stays = |node: &&toml::Value| node.as_integer().is_some_and(|n| n < i64::from(fewer));
        let list: Vec<toml::Value> = list.iter().filter(stays).cloned().collect();
        if list.is_empty() {
            return false;
        }
        *named = Spanned::new(0..0, toml::Value::Array(list));
    }
    if let Some(links) = &mut fault.links {
        links
            .get_mut()
            .retain(|[from, to]| *from < fewer && *to < fewer);
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
