//! Fork, join and merge: stages that run side by side (K273–K278).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::advance::RATE;
use super::event::SessionEvent;
use super::issue::Issuance;
use super::{AttemptEnd, Failure, Session, Standing, Work};
use crate::kernel::decision::Decision;
use crate::kernel::event::Cause;
use crate::kernel::ids::{AttemptId, GroupId, ProcessId, StageName};
use crate::kernel::json::Json;
use crate::kernel::merge::state_changes;
use crate::kernel::names::{BlockReason, TerminalReason};
use crate::kernel::pipeline::kinds::{JoinStrategy, Via};
use crate::kernel::pipeline::route::{Route, branches, default, joined};
use crate::kernel::time::Time;

/// What changes in the state, by branch in order.
type Merge = Vec<(StageName, Vec<(Arc<str>, Json)>)>;

impl Session {
    /// Returns the branches whose outputs are merged, in branch order, if the group has joined
    /// (K276, K277).
    fn merged(&self) -> Option<Vec<StageName>> {
        let group = self.group.as_ref()?;
        let done = |work: &&Work| work.standing == Standing::Done;
        let all_ended = self.works.iter().all(Work::has_ended);
        let done = self.works.iter().filter(done).map(|work| work.stage.clone());
        match group.join {
            JoinStrategy::All => all_ended.then(|| done.collect()),
            JoinStrategy::First => {
                let first: Vec<StageName> = done.take(1).collect();
                (all_ended || !first.is_empty()).then_some(first)
            }
        }
    }

    /// Returns the first branch, in branch order, that failed for good.
    fn first_failure(&self) -> Option<&Failure> {
        let failed = self.works.iter().find(|work| work.standing == Standing::Failed);
        failed.and_then(|work| work.failure.as_ref())
    }

    /// Returns the stages that may still run in run mode Parallel once leave was denied: the stage
    /// for that, to which nothing else but an answer moves there, and what follows from it (K427).
    fn after_denial(&self) -> Option<BTreeSet<StageName>> {
        let denied = self.pipeline.denied_stage.as_ref()?;
        let went = self.edges.keys().any(|(_, to)| to == denied);
        went.then(|| self.pipeline.following(denied))
    }

    fn live_ids(&self) -> Vec<AttemptId> {
        let live = self.works.iter().filter_map(|work| match &work.standing {
            Standing::Live { attempt } => Some(attempt.clone()),
            Standing::Due | Standing::Backoff { .. } | Standing::Done | Standing::Failed => None,
        });
        live.collect()
    }
}

impl Decision<'_> {
    /// Opens the group of a Fork: every rule that is true is a branch (K274).
    pub(super) fn fork(&mut self, pid: &ProcessId) -> bool {
        let found = self.scope(pid).and_then(|scope| {
            let fork = self.state.session(pid)?.here()?;
            let branches: Vec<StageName> = branches(fork, &scope).into_iter().cloned().collect();
            Some((fork.name.clone(), branches, default(fork), fork.join))
        });
        let Some((fork, branches, default, join)) = found.filter(|_| !self.ends_overworked(pid))
        else {
            return false;
        };
        if branches.is_empty() {
            self.go(pid, &Route { target: default, via: Via::Default });
            return true;
        }
        let mut moves = Vec::new();
        for to in &branches {
            let pending = moves.iter().filter(|(_, back)| *back).count() as u64;
            match self.check_edge(pid, (&fork, to), pending) {
                Ok(back) => moves.push((to, back)),
                Err(stopped) => {
                    self.stop_move(pid, &stopped);
                    return true;
                }
            }
        }
        for (to, back) in moves {
            self.emit_move(pid, (Some(fork.clone()), to), (Via::Fork, back));
        }
        self.open_group(pid, branches, join);
        true
    }

    fn open_group(&mut self, pid: &ProcessId, branches: Vec<StageName>, join: JoinStrategy) {
        let group: GroupId = self.mint(|_, _| false);
        self.emit_session(pid, SessionEvent::GroupOpened { group, branches, join });
    }

    /// Opens the next group of run mode Parallel, or completes the session (K278).
    pub(super) fn open_ready(&mut self, pid: &ProcessId) -> bool {
        let Some(session) = self.state.running_session(pid) else {
            return false;
        };
        let only = session.after_denial();
        let may = |stage: &&StageName| only.as_ref().is_none_or(|only| only.contains(*stage));
        let ready = session.pipeline.ready(&session.done).into_iter().filter(may);
        let ready: Vec<StageName> = ready.cloned().collect();
        if ready.is_empty() {
            self.end(pid, TerminalReason::Completed, "the pipeline is completed");
            return true;
        }
        for to in &ready {
            // No edge leads there: a visit is all that is counted.
            self.emit_move(pid, (None, to), (Via::Entry, false));
        }
        self.open_group(pid, ready, JoinStrategy::All);
        true
    }

    /// Hands out the branches that are due and fit, in branch order (K240 e, K275). Says whether
    /// the session can go on at once.
    pub(super) fn issue_branches(&mut self, pid: &ProcessId) -> bool {
        let session = self.state.running_session(pid);
        let due = session.into_iter().flat_map(|session| &session.works);
        let due = due.filter(|work| work.is_due(self.now)).map(|work| work.stage.clone());
        let due: Vec<StageName> = due.collect();
        let (mut first, mut limited) = (None, None);
        for stage in due {
            match self.issue(pid, &stage) {
                Issuance::Issued => {}
                Issuance::Stopped(stop) => first = first.or(Some(stop)),
                Issuance::Limited(until) => limited = limited.or(Some(until)),
                Issuance::Overflowed(failure) => self.fail_for_good(pid, &stage, failure),
            }
        }
        self.join(pid);
        if self.state.running_session(pid).is_none_or(|session| session.group.is_none()) {
            return true;
        }
        let live = self.state.has_live_attempt(pid);
        if let Some(stop) = first {
            // It waits for what the others hold; when none is left, nothing will be free.
            crate::sometimes!("kernel.budget_wait", live);
            if !live {
                self.stop_session(pid, &stop);
                return false;
            }
        }
        if let Some(until) = limited.filter(|_| !live) {
            let session = self.state.running_session(pid);
            let others = session.into_iter().flat_map(|session| &session.works);
            let until = others.filter_map(Work::waits_until).fold(until, Time::min);
            self.block(pid, (BlockReason::Rate, Cause::Rate), until, Arc::from(RATE));
        }
        false
    }

    /// Joins the group, if it is time: the others are superseded, outputs are merged in branch
    /// order, and the session goes on (K276, K277).
    pub(super) fn join(&mut self, pid: &ProcessId) {
        let Some(session) = self.state.running_session(pid) else {
            return;
        };
        let (Some(group), Some(merged)) = (&session.group, session.merged()) else {
            return;
        };
        let (group, first) = (group.id.clone(), group.join == JoinStrategy::First);
        let failure = session.first_failure().cloned();
        let success = match first {
            true => !merged.is_empty(),
            false => failure.is_none(),
        };
        for id in session.live_ids() {
            crate::sometimes!("kernel.branch_superseded");
            self.give_up(pid, &id, AttemptEnd::Superseded);
        }
        let changes = match self.merge(pid, &merged) {
            Ok(changes) => changes,
            Err(told) => {
                self.end(pid, TerminalReason::SystemError, &told);
                return;
            }
        };
        for (stage, changes) in changes {
            self.complete(pid, &stage, changes);
        }
        let winner = merged.first().filter(|_| first).cloned();
        self.emit_session(pid, SessionEvent::GroupJoined { group, winner, merged });
        self.leave_group(pid, success, failure);
    }

    /// Goes on after a join (K277, K278).
    fn leave_group(&mut self, pid: &ProcessId, success: bool, failure: Option<Failure>) {
        let Some(session) = self.state.running_session(pid) else {
            return;
        };
        let parallel = session.is_parallel();
        let found = session.here().filter(|_| !parallel).and_then(|fork| joined(fork, success));
        match (found, failure) {
            (Some(found), _) => self.go(pid, &found),
            (None, Some(failure)) if !success => self.end_failed(pid, &failure),
            // Run mode Parallel looks for what is ready next.
            (None, Some(_) | None) => {}
        }
    }

    /// Plans the merge of branches, in order: first what it would make of the envelope (K277).
    fn merge(&self, pid: &ProcessId, merged: &[StageName]) -> Result<Merge, String> {
        let session = self.state.session(pid).ok_or_else(String::new)?;
        let envelope = self.state.envelope(&session.envelope).ok_or_else(String::new)?;
        let mut after = envelope.clone();
        let (mut plan, mut told) = (Merge::new(), 0);
        for name in merged {
            let (Some(stage), Some(work)) = (session.stage(name), session.work(name)) else {
                continue;
            };
            let mut changes = Vec::new();
            if let Some(output) = &work.output {
                let schema = (&*session.pipeline.state_schema, self.state.config.limits.entries);
                changes = state_changes(schema, output, |key| after.state.get(key))?;
                after.save_output(&stage.output_key, output);
                after.merge_state(&changes);
                told += changes.iter().map(|(_, json)| json.length() as u64).sum::<u64>();
            }
            plan.push((name.clone(), changes));
        }
        // Each branch tells all of what it appended to, however little it was.
        let limits = &self.state.config.limits;
        if told > limits.decision_bytes / 2 {
            let most = limits.decision_bytes / 2;
            return Err(format!("the merge would take {told} bytes of a decision, at most {most}"));
        }
        let most = limits.entries;
        let crowd = [
            ("outputs", envelope.outputs.len(), after.outputs.len()),
            ("state", envelope.state.len(), after.state.len()),
        ];
        let over = crowd.into_iter().find(|(_, was, is)| is > was && *is as u64 > most);
        if let Some((field, _, all)) = over {
            return Err(format!("the merge would make {all} entries of {field}, at most {most}"));
        }
        let most = limits.envelope_bytes;
        match after.bytes() > most {
            true => Err(format!("the merge would make an envelope of more than {most} bytes")),
            false => Ok(plan),
        }
    }
}
