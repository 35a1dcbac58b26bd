//! Stages and the moves between them: which go back, which depend on each other, which are ready.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::JoinStrategy;
use super::names::StageName;
use super::{PipelineConfig, PipelineStage};

impl PipelineConfig {
    /// Says whether a move goes back: to a stage at or before its own in stage order, itself
    /// included (K265).
    #[must_use]
    pub fn is_back_edge(&self, from: &StageName, to: &StageName) -> bool {
        self.index(from).zip(self.index(to)).is_some_and(|(from, to)| to <= from)
    }

    /// Returns the stages that are ready in run mode Parallel, in stage order: not done, with all
    /// of `requires` done (join First: any one of them, if there is one) and all of `after` (K278).
    #[must_use]
    pub fn ready(&self, done: &BTreeSet<StageName>) -> Vec<&StageName> {
        let is_done = |name: &StageName| done.contains(name);
        let is_ready = |stage: &&PipelineStage| {
            let required = match stage.join {
                JoinStrategy::All => stage.requires.iter().all(is_done),
                JoinStrategy::First => {
                    stage.requires.is_empty() || stage.requires.iter().any(is_done)
                }
            };
            !is_done(&stage.name) && required && stage.after.iter().all(is_done)
        };
        self.stages.iter().filter(is_ready).map(|stage| &stage.name).collect()
    }

    /// Returns a stage and all that need it in run mode Parallel, directly or through others.
    #[must_use]
    pub fn following(&self, stage: &StageName) -> BTreeSet<StageName> {
        let mut found = BTreeSet::from([stage.clone()]);
        loop {
            let needs = |other: &&PipelineStage| {
                let mut needs = other.requires.iter().chain(&other.after);
                !found.contains(&other.name) && needs.any(|name| found.contains(name))
            };
            let more = self.stages.iter().filter(needs).map(|other| other.name.clone());
            let more: Vec<StageName> = more.collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }
}

/// How far the search has come with a stage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    /// It is on the way that the search is on.
    OnTheWay,
    Done,
}

/// Stages of all rings that are told, about: who sees so many mends those first.
const TOLD_MAX: usize = 1_024;

/// Returns rings of stages that require, or come after, each other: for a dependency that closes
/// one, the stages from where it leads, in order. There is none exactly if there is no ring; where
/// there are many, not all are told.
///
/// A depth-first search in stage order, with a stack of its own.
pub(super) fn cycles(config: &PipelineConfig) -> Vec<Vec<usize>> {
    let stages = config.stages.iter().enumerate();
    let places: BTreeMap<&StageName, usize> = stages.map(|(at, stage)| (&stage.name, at)).collect();
    let needs = config.stages.iter().map(|stage| needed(&places, stage));
    let needs: Vec<Vec<usize>> = needs.collect();
    let mut seen = vec![Seen::Not; needs.len()];
    let (mut found, mut told): (Vec<Vec<usize>>, usize) = (Vec::new(), 0);
    for start in 0..needs.len() {
        if seen[start] != Seen::Not {
            continue;
        }
        // Stages on the way, each with how many of its needs were followed.
        let mut way = vec![(start, 0)];
        seen[start] = Seen::OnTheWay;
        while let Some((stage, followed)) = way.last_mut() {
            let Some(next) = needs[*stage].get(*followed).copied() else {
                seen[*stage] = Seen::Done;
                way.pop();
                continue;
            };
            *followed += 1;
            match seen[next] {
                Seen::Not => {
                    seen[next] = Seen::OnTheWay;
                    way.push((next, 0));
                }
                Seen::OnTheWay => {
                    let ring = way.iter().map(|(stage, _)| *stage);
                    let ring: Vec<usize> = ring.skip_while(|stage| *stage != next).collect();
                    told += ring.len();
                    found.push(ring);
                    if told >= TOLD_MAX {
                        return found;
                    }
                }
                Seen::Done => {}
            }
        }
    }
    found
}

/// Returns what a stage needs, each once, those that are unknown left out.
fn needed(places: &BTreeMap<&StageName, usize>, stage: &PipelineStage) -> Vec<usize> {
    let names = stage.requires.iter().chain(&stage.after);
    let needs: BTreeSet<usize> = names.filter_map(|name| places.get(name).copied()).collect();
    needs.into_iter().collect()
}
