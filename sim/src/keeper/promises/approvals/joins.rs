//! K436: with join All, what is there after the join does not depend on the order of the reports.
//!
//! The reference takes what the branches reported, in branch order, whenever each came in: it
//! merges outputs and state into what was there when the group opened, and adds what was used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machines::kernel::Kernel;
use machines::kernel::event::{Body, Event, QuotaEvent};
use machines::kernel::ids::{OutputKey, ProcessId, StageName};
use machines::kernel::json::Json;
use machines::kernel::pipeline::kinds::{JoinStrategy, MergeRule};
use machines::kernel::quota::Amounts;
use machines::kernel::sessions::event::{Reported, SessionEvent};

use super::super::super::book::Follow;
use super::super::super::kernel::{Clerk, kernel_config};
use super::super::super::{Seen, Watch, World};
use super::{Stories, is_removed, session_event};

type Outputs = BTreeMap<OutputKey, Json>;
type Values = BTreeMap<Arc<str>, Json>;

/// What there is of a session's envelope, and what its process has used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct There {
    outputs: Outputs,
    /// Whose output counts as the newest.
    newest: Option<OutputKey>,
    state: Values,
    used: Amounts,
}

/// A group that waits for all of its branches.
#[derive(Clone, Debug)]
struct Branches {
    stages: Vec<StageName>,
    before: There,
    made: BTreeMap<StageName, Json>,
    done: BTreeSet<StageName>,
    failed: BTreeSet<StageName>,
    /// In the order in which they came in.
    order: Vec<StageName>,
    used: Amounts,
    /// Others have used the same budget meanwhile.
    shared: bool,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    follow: Follow,
    stories: Stories,
    kernel: Box<Kernel>,
    open: BTreeMap<ProcessId, Branches>,
}

impl Default for Joined {
    fn default() -> Self {
        let kernel = Kernel::new(kernel_config()).expect("the configuration is legal");
        Self {
            follow: Follow::default(),
            stories: Stories::default(),
            kernel: Box::new(kernel),
            open: BTreeMap::new(),
        }
    }
}

impl Watch<Clerk> for Joined {
    fn property(&self) -> &'static str {
        "K436"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            for event in events.iter() {
                looked |= self.event(event)?;
                self.stories.add(event);
                self.kernel.apply(event);
            }
        }
        Ok(looked)
    }
}

impl Joined {
    fn event(&mut self, event: &Event) -> Result<bool, String> {
        let Some(pid) = &event.subject.pid else {
            return Ok(false);
        };
        if let Body::Quota { event } = &event.body {
            self.charged(pid, event);
        }
        if is_removed(event) {
            self.open.remove(pid);
        }
        let Some(event) = session_event(event) else {
            return Ok(false);
        };
        match event {
            SessionEvent::Started { .. } | SessionEvent::Ended { .. } => {
                self.open.remove(pid);
            }
            SessionEvent::GroupOpened { branches, join: JoinStrategy::All, .. } => {
                if let Some(before) = self.there(pid) {
                    self.open.insert(pid.clone(), Branches::of(branches, before));
                }
            }
            SessionEvent::AttemptReported { reported } => {
                self.share(self.parent(pid));
                self.reported(pid, reported);
            }
            SessionEvent::AttemptClosed { charged, .. } => {
                self.share(self.parent(pid));
                if let Some(open) = self.open.get_mut(pid) {
                    open.used = open.used.plus(charged);
                }
            }
            SessionEvent::StageFailed { stage, .. } => {
                if let Some(open) = self.open.get_mut(pid) {
                    open.failed.insert(stage.clone());
                    open.made.remove(stage);
                }
            }
            SessionEvent::GroupJoined { merged, .. } => {
                if let Some(open) = self.open.remove(pid).filter(Branches::have_ended) {
                    return self.compare(pid, &open, merged);
                }
            }
            _ => {}
        }
        Ok(false)
    }

    /// What is charged beside attempts is no branch's, and may be a child's.
    fn charged(&mut self, pid: &ProcessId, event: &QuotaEvent) {
        let quiet = matches!(
            event,
            QuotaEvent::Warning { .. } | QuotaEvent::Exceeded { .. } | QuotaEvent::Adjusted { .. }
        );
        if !quiet {
            self.share(Some(pid.clone()));
        }
    }

    /// What a process uses is used by its ancestors, too (K102).
    fn share(&mut self, mut level: Option<ProcessId>) {
        while let Some(pid) = level {
            if let Some(open) = self.open.get_mut(&pid) {
                open.shared = true;
            }
            level = self.parent(&pid);
        }
    }

    fn parent(&self, pid: &ProcessId) -> Option<ProcessId> {
        self.kernel.process(pid).and_then(|process| process.parent.clone())
    }

    fn reported(&mut self, pid: &ProcessId, reported: &Reported) {
        let stage = self.stories.of(pid).and_then(|story| story.attempts.get(&reported.attempt));
        let (Some(stage), Some(open)) = (stage, self.open.get_mut(pid)) else {
            return;
        };
        open.used = open.used.plus(&reported.metrics.amounts());
        if reported.failure.is_some() {
            return;
        }
        if let Some(output) = &reported.output {
            open.made.insert(stage.clone(), output.clone());
        }
        if !reported.interrupted {
            open.done.insert(stage.clone());
            open.order.push(stage.clone());
        }
    }

    /// What there is of a process's session now.
    fn there(&self, pid: &ProcessId) -> Option<There> {
        let state = self.kernel.state();
        let session = state.session(pid)?;
        let envelope = state.envelope(&session.envelope)?;
        let value = |(key, output): (&OutputKey, &machines::kernel::envelopes::Output)| {
            (key.clone(), output.value.clone())
        };
        Some(There {
            outputs: envelope.outputs.iter().map(value).collect(),
            newest: session.newest_output(envelope).map(|(key, _)| key.clone()),
            state: envelope.state.clone(),
            used: state.process(pid)?.account.used.amounts,
        })
    }

    fn compare(
        &self,
        pid: &ProcessId,
        open: &Branches,
        merged: &[StageName],
    ) -> Result<bool, String> {
        let (Some(story), Some(there)) = (self.stories.of(pid), self.there(pid)) else {
            return Ok(false);
        };
        let in_order: Vec<&StageName> =
            open.stages.iter().filter(|stage| open.done.contains(*stage)).collect();
        let Some(mut expected) = open.merged(&in_order, &story.pipeline) else {
            return Err(format!("{pid} joined what cannot be merged: {:?}", open.made));
        };
        if open.shared {
            expected.used = there.used;
        }
        let orders = (&in_order, merged.iter().collect::<Vec<_>>());
        match expected == there && *orders.0 == orders.1 {
            // One branch has but one order.
            true => Ok(open.order.len() > 1),
            false => Err(format!(
                "{pid} joined {merged:?}, reported as {:?}, and has {there:?}; in branch order \
                 that is {expected:?}",
                open.order
            )),
        }
    }
}

impl Branches {
    fn of(stages: &[StageName], before: There) -> Self {
        Self {
            stages: stages.to_vec(),
            before,
            made: BTreeMap::new(),
            done: BTreeSet::new(),
            failed: BTreeSet::new(),
            order: Vec::new(),
            used: Amounts::ZERO,
            shared: false,
        }
    }

    /// Whether it was not given up before all branches had ended (K273).
    fn have_ended(&self) -> bool {
        self.stages.iter().all(|stage| self.done.contains(stage) || self.failed.contains(stage))
    }

    /// What there is after all were merged in that order; `None` if they cannot be.
    fn merged(
        &self,
        order: &[&StageName],
        pipeline: &machines::kernel::pipeline::PipelineConfig,
    ) -> Option<There> {
        let mut after = self.before.clone();
        after.used = after.used.plus(&self.used);
        for name in order {
            let (Some(stage), Some(output)) = (pipeline.stage(name), self.made.get(*name)) else {
                continue;
            };
            for field in &pipeline.state_schema {
                if let Some(value) = output.get(&field.key) {
                    let merged = merge(field.merge, after.state.get(&field.key), value)?;
                    after.state.insert(Arc::clone(&field.key), merged);
                }
            }
            after.outputs.insert(stage.output_key.clone(), output.clone());
            after.newest = Some(stage.output_key.clone());
        }
        Some(after)
    }
}

/// K281, written once more.
fn merge(rule: MergeRule, there: Option<&Json>, value: &Json) -> Option<Json> {
    let there = there.filter(|there| !there.is_null());
    match rule {
        MergeRule::Replace => Some(value.clone()),
        MergeRule::Append => {
            let mut items = there.map_or(Some(&[][..]), Json::as_list)?.to_vec();
            match value.as_list() {
                Some(more) => items.extend_from_slice(more),
                None => items.push(value.clone()),
            }
            Some(Json::list(items))
        }
        MergeRule::MergeDict => {
            let entries = |json: &Json| {
                let object = json.as_object()?;
                let pair = |(key, value): (&Arc<str>, &Json)| (Arc::clone(key), value.clone());
                Some(object.iter().map(pair).collect::<Values>())
            };
            let mut all = there.map_or(Some(Values::new()), entries)?;
            all.extend(entries(value)?);
            Some(Json::object(all))
        }
    }
}
