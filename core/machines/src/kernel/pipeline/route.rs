//! Where to go from a stage, and whether that is still allowed: pure functions (K260–K262, K265,
//! K274, K277).

#[cfg(test)]
mod tests;

use std::fmt;

use super::budget::Limit;
use super::kinds::Via;
use super::names::StageName;
use super::{PipelineConfig, PipelineStage, RouterTarget, Target};
use crate::kernel::expression::Scope;

/// How a stage ended, as routing sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Well, or it is a Gate.
    Done,
    /// It is a Router, and chose one of the targets handed out.
    Chose(Target),
    /// It failed for good.
    Failed,
}

/// Where to go, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// To where.
    pub target: Target,
    /// Why.
    pub via: Via,
}

/// Decides where to go from a stage that is no Fork, in the order of K261. `None` if the session
/// ends by K271: the stage failed, and nothing says where to go then.
///
/// | the stage | goes |
/// |---|---|
/// | failed | to error_next; a Router else to default_next (K262); else the session ends |
/// | is a Router that chose | to what it chose |
/// | ended otherwise | by the first rule that is true, else to default_next, else to the end |
#[must_use]
pub fn route(stage: &PipelineStage, ended: &Ended, scope: &impl Scope) -> Option<Route> {
    let by = |target: &Target, via| Some(Route { target: target.clone(), via });
    match ended {
        Ended::Failed => match (&stage.error_next, &stage.default_next) {
            (Some(name), _) => by(&Target::from(name.clone()), Via::Error),
            (None, Some(target)) if is_router(stage) => by(target, Via::Default),
            (None, Some(_) | None) => None,
        },
        Ended::Chose(target) => by(target, Via::Router),
        Ended::Done => {
            let first = stage.routing.iter().find(|rule| rule.expr.evaluate(scope));
            match first {
                Some(rule) => by(&rule.target, Via::Rule),
                None => by(&default(stage), Via::Default),
            }
        }
    }
}

/// Returns the branches of a Fork, in declared order: the targets of all rules that are true
/// (K274). There may be none: then the session goes to [`default`].
#[must_use]
pub fn branches<'a>(stage: &'a PipelineStage, scope: &impl Scope) -> Vec<&'a StageName> {
    let rules = stage.routing.iter().filter(|rule| rule.expr.evaluate(scope));
    rules.filter_map(|rule| rule.target.stage()).collect()
}

/// Decides where to go from a Fork whose group has joined (K277). `None` if the session ends by
/// K271, with the first failed branch.
#[must_use]
pub fn joined(stage: &PipelineStage, success: bool) -> Option<Route> {
    match (success, &stage.error_next) {
        (true, _) => Some(Route { target: default(stage), via: Via::Join }),
        (false, Some(name)) => Some(Route { target: name.clone().into(), via: Via::Error }),
        (false, None) => None,
    }
}

/// Returns where a stage leads if nothing else is said: default_next, else the end.
#[must_use]
pub fn default(stage: &PipelineStage) -> Target {
    stage.default_next.clone().unwrap_or(Target::End)
}

/// Returns the targets that a Router is handed: those without a condition, or with a true one
/// (K262).
#[must_use]
pub fn handed_out<'a>(stage: &'a PipelineStage, scope: &impl Scope) -> Vec<&'a RouterTarget> {
    let fits =
        |target: &&RouterTarget| target.when.as_ref().is_none_or(|when| when.evaluate(scope));
    stage.router_targets.iter().filter(fits).collect()
}

const fn is_router(stage: &PipelineStage) -> bool {
    matches!(stage.node_kind, super::kinds::NodeKind::Router)
}

/// How often things were done before a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Visits of the stage that the move leads to.
    pub visits: u64,
    /// Times that the edge was taken.
    pub edge: u64,
    /// Back edges that the session took.
    pub iteration: u64,
    /// Back edges that the process took, by its ledger.
    pub iterations: u64,
    /// How many back edges the process's quota allows.
    pub iterations_limit: Limit,
}

/// Which bound a move would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// The visits of a stage: MaxStageVisitsExceeded.
    StageVisits,
    /// The count of an edge: EdgeLimitExceeded.
    Edge,
    /// The iterations of the pipeline or of the quota: MaxIterationsExceeded.
    Iterations,
}

/// A move that would pass a bound: the session ends where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Which bound.
    pub bound: Bound,
    /// What is told: `edge limit reached: critic -> writer (2)`.
    pub message: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Checks a move from a stage to another, as every move is checked (K265). Returns whether it goes
/// back, which counts an iteration.
///
/// # Errors
///
/// The first bound that it would pass, in the order of K265. Limits are inclusive: an edge with the
/// limit 2 is taken twice.
pub fn check_move(
    config: &PipelineConfig,
    (from, to): (&StageName, &StageName),
    taken: &Taken,
) -> Result<bool, Stopped> {
    let stopped = |bound, message| Err(Stopped { bound, message });
    let max_visits = config.stage(to).and_then(|stage| stage.max_visits);
    if !max_visits.unwrap_or(Limit::UNLIMITED).allows(taken.visits.saturating_add(1)) {
        let message = format!("stage visit limit reached: {to} ({})", taken.visits);
        return stopped(Bound::StageVisits, message);
    }
    if !config.edge_limit(from, to).allows(taken.edge.saturating_add(1)) {
        let message = format!("edge limit reached: {from} -> {to} ({})", taken.edge);
        return stopped(Bound::Edge, message);
    }
    let back = config.is_back_edge(from, to);
    let fits = config.max_iterations.allows(taken.iteration.saturating_add(1))
        && taken.iterations_limit.allows(taken.iterations.saturating_add(1));
    if back && !fits {
        let message = format!("iteration limit reached: {from} -> {to} ({})", taken.iteration);
        return stopped(Bound::Iterations, message);
    }
    Ok(back)
}
