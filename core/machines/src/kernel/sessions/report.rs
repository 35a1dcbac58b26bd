//! Reports: what came of an attempt, as its worker tells it (K250–K255).

use std::sync::Arc;

use super::event::{Reported, SessionEvent};
use super::{Attempt, AttemptEnd, Failure, Session};
use crate::codec::Wire;
use crate::kernel::decision::Decision;
use crate::kernel::envelopes::Envelope;
use crate::kernel::event::{Cause, QuotaEvent};
use crate::kernel::ids::{AgentName, AttemptId, ProcessId, ReservationId, StageName};
use crate::kernel::interrupts::interrupt::{NewInterrupt, Origin};
use crate::kernel::json::Json;
use crate::kernel::merge::state_changes;
use crate::kernel::names::{ProcessState, TerminalReason};
use crate::kernel::pipeline::kinds::{ErrorKind, NodeKind, ToolAccess};
use crate::kernel::pipeline::route::{Ended, route};
use crate::kernel::pipeline::{AgentConfig, PipelineStage, Target};
use crate::kernel::process::{ContentHash, short_hash};
use crate::kernel::quota::Amounts;
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::time::Millis;
use crate::wire_struct;

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToolResult {
    /// Which tool.
    pub name: Arc<str>,
    /// Whether it did what it should.
    pub success: bool,
    /// How long it took.
    pub latency_ms: Millis,
    /// What went wrong.
    pub error_kind: Option<ErrorKind>,
}

wire_struct!(ToolResult { name, success, latency_ms, error_kind });

/// What an attempt took (2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metrics {
    /// Calls of models.
    pub llm_calls: u64,
    /// Calls of tools.
    pub tool_calls: u64,
    /// Tokens read by models.
    pub tokens_in: u64,
    /// Tokens written by models.
    pub tokens_out: u64,
    /// Time.
    pub duration_ms: Millis,
    /// The calls of tools.
    pub tool_results: Vec<ToolResult>,
}

wire_struct!(Metrics { llm_calls, tool_calls, tokens_in, tokens_out, duration_ms, tool_results });

impl Metrics {
    /// Returns what of it is charged.
    #[must_use]
    pub const fn amounts(&self) -> Amounts {
        Amounts {
            llm_calls: self.llm_calls,
            tool_calls: self.tool_calls,
            tokens_in: self.tokens_in,
            tokens_out: self.tokens_out,
            ..Amounts::ZERO
        }
    }
}

/// What a worker tells of its attempt (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// Of which process.
    pub pid: ProcessId,
    /// Of which attempt.
    pub attempt: AttemptId,
    /// As which agent.
    pub agent: AgentName,
    /// Whether it did what it should.
    pub success: bool,
    /// What it made: an object. A success without one has made an empty one.
    pub output: Option<Json>,
    /// What went wrong.
    pub error: Option<Arc<str>>,
    /// Of what kind that is; a tool's, if it is not said.
    pub error_kind: Option<ErrorKind>,
    /// What it took.
    pub metrics: Metrics,
    /// Asks a person; the stage is not done then.
    pub interrupt: Option<Box<NewInterrupt>>,
    /// Ends the session, or the branch, as done.
    pub break_loop: bool,
    /// Where a Router goes.
    pub chosen_target: Option<StageName>,
    /// For the next round.
    pub feedback: Option<Arc<str>>,
    /// Lets the process go instead of taking the next task.
    pub release_process: bool,
}

impl Report {
    /// Returns what a repeat is known by.
    fn digest(&self) -> ContentHash {
        let mut bytes = Vec::with_capacity(self.output.as_ref().map_or(0, Json::length) + 256);
        self.agent.encode(&mut bytes);
        self.success.encode(&mut bytes);
        self.output.encode(&mut bytes);
        self.error.encode(&mut bytes);
        self.error_kind.encode(&mut bytes);
        self.metrics.encode(&mut bytes);
        self.interrupt.encode(&mut bytes);
        self.break_loop.encode(&mut bytes);
        self.chosen_target.encode(&mut bytes);
        self.feedback.encode(&mut bytes);
        self.release_process.encode(&mut bytes);
        short_hash(&bytes)
    }
}

/// What a report comes to (K252–K254).
enum Verdict {
    /// The stage is not done.
    Failed(Failure),
    /// It is not done: a person is asked.
    Interrupted,
    /// It is: with this output, and these changes of the state.
    Done { output: Json, changes: Vec<(Arc<str>, Json)> },
}

impl Decision<'_> {
    /// `ReportAgentResult` (K250, K251).
    pub(in crate::kernel) fn report(&mut self, report: &Report) -> Result<(), Refusal> {
        let pid = &report.pid;
        self.workable(pid)?;
        let digest = report.digest();
        if self.is_repeated(report, digest)? {
            return Ok(());
        }
        self.check_report(report)?;
        if let Some(new) = &report.interrupt {
            self.check_interrupt(pid, new)?;
        }
        let verdict = self.judge(report);
        let Some((attempt, verdict)) = verdict else {
            return Err(unknown(&report.attempt));
        };
        self.check_sums(pid, &report.metrics.amounts().minus(&attempt.charged))?;
        let (verdict, feedback) = self.within_envelope(report, verdict);
        self.close_reported(report, &attempt, (&verdict, feedback, digest));
        let stage = &attempt.stage;
        let grouped = attempt.branch.is_some();
        match verdict {
            Verdict::Failed(failure) => self.fail(pid, stage, failure),
            Verdict::Interrupted => {
                let (stage, attempt) = (stage.clone(), Some(report.attempt.clone()));
                if let Some(new) = &report.interrupt {
                    self.ask_for_stage(pid, new, Origin::Stage { stage, attempt });
                }
            }
            Verdict::Done { .. } if grouped => {}
            Verdict::Done { output: _, changes } => self.take_success(report, stage, changes),
        }
        if grouped {
            self.join(pid);
        }
        self.rest(pid);
        if report.release_process {
            self.let_go(pid);
        } else {
            self.advance(pid);
        }
        self.checkpoint(pid);
        self.touch_lease(pid);
        Ok(())
    }

    /// Says whether the report was taken before, and refuses what no live attempt told (K250).
    fn is_repeated(&self, report: &Report, digest: ContentHash) -> Result<bool, Refusal> {
        let (pid, id) = (&report.pid, &report.attempt);
        let session = self.state.session(pid).ok_or_else(|| unknown(id))?;
        let live = session.attempts.get(id);
        let closed = session.closed_attempt(id);
        let told = live.map(|attempt| (&attempt.agent, &attempt.holder));
        let told = told.or_else(|| closed.map(|closed| (&closed.agent, &closed.holder)));
        let (agent, holder) = told.ok_or_else(|| unknown(id))?;
        if *agent != report.agent {
            let told = format!("attempt {id} is for agent {agent}, not {}", report.agent);
            return Err(Refusal::new(Code::WrongAgent, told));
        }
        if *holder != self.holder() {
            let told = format!("attempt {id} is worked on by somebody else");
            return Err(Refusal::new(Code::NotHolder, told));
        }
        let late = |how: &str| {
            crate::sometimes!("kernel.late_report");
            let told = format!("attempt {id} was {how}");
            Err(Refusal::new(Code::AttemptSuperseded, told))
        };
        match closed.filter(|_| live.is_none()).map(|closed| closed.end) {
            None => Ok(false),
            Some(AttemptEnd::Reported { digest: known }) if known == digest => Ok(true),
            Some(AttemptEnd::Reported { .. }) => {
                let told = format!("attempt {id} was reported with different content");
                Err(Refusal::new(Code::AttemptClosed, told))
            }
            Some(AttemptEnd::TimedOut) => late("closed by its deadline"),
            Some(AttemptEnd::Lost) => late("lost with its run lease"),
            Some(AttemptEnd::Superseded) => late("superseded"),
        }
    }

    /// Refuses a report that is wrong in itself (K250, K25).
    fn check_report(&self, report: &Report) -> Result<(), Refusal> {
        if let Some(output) = &report.output {
            self.check_output(output)?;
        }
        let told_by_agents = match report.error_kind {
            None | Some(ErrorKind::Tool | ErrorKind::Llm | ErrorKind::Policy) => true,
            // The executor tells of dispatches (K290).
            Some(ErrorKind::Dispatch) => self.by.is_node(),
            Some(
                ErrorKind::Timeout
                | ErrorKind::OutputInvalid
                | ErrorKind::RouterInvalid
                | ErrorKind::WorkerLost
                | ErrorKind::ContextOverflow,
            ) => false,
        };
        if let Some(kind) = report.error_kind.filter(|_| !told_by_agents) {
            let told = format!("error_kind: {kind} is not an agent's to tell");
            return Err(Refusal::of_field(Code::BadValue, "error_kind", told));
        }
        if report.success && (report.error.is_some() || report.error_kind.is_some()) {
            let told = "error: a success has none";
            return Err(Refusal::of_field(Code::BadValue, "error", told));
        }
        self.check_text("error", report.error.as_deref().unwrap_or_default())?;
        self.check_text("feedback", report.feedback.as_deref().unwrap_or_default())?;
        self.check_amounts(&report.metrics.amounts())?;
        let (tools, most) = (&report.metrics.tool_results, self.state.config.limits.entries);
        if tools.len() as u64 > most {
            let told = format!("tool_results: {} entries, at most {most}", tools.len());
            return Err(Refusal::of_field(Code::TooMany, "tool_results", told));
        }
        tools.iter().try_for_each(|tool| self.check_text("tool_results", &tool.name))
    }

    fn check_output(&self, output: &Json) -> Result<(), Refusal> {
        let field = "output_json";
        if output.as_object().is_none() {
            let told = format!("{field}: expected an object, got {}", output.type_name());
            return Err(Refusal::of_field(Code::BadOutput, field, told));
        }
        let checked = self.check_payload(field, output);
        checked.map_err(|over| Refusal::of_field(Code::BadOutput, field, over.text))
    }

    /// Says what a report comes to.
    fn judge(&self, report: &Report) -> Option<(Attempt, Verdict)> {
        let session = self.state.running_session(&report.pid)?;
        let attempt = session.attempts.get(&report.attempt)?.clone();
        let stage = session.stage(&attempt.stage)?;
        let envelope = self.state.envelope(&session.envelope)?;
        if let Some(tool) = forbidden_tool(stage, &report.metrics) {
            let error = Arc::from(format!("tool {tool} is not permitted"));
            let failure = Failure { kind: ErrorKind::Policy, error };
            return Some((attempt, Verdict::Failed(failure)));
        }
        let verdict = match report.success {
            _ if report.interrupt.is_some() => match self.has_no_room(envelope, stage, report) {
                Some(failure) => Verdict::Failed(failure),
                None => Verdict::Interrupted,
            },
            true => self.check_success((report, &attempt), stage, (session, envelope)),
            false => {
                let error = report.error.clone().unwrap_or_else(|| Arc::from("failed"));
                let kind = report.error_kind.unwrap_or(ErrorKind::Tool);
                Verdict::Failed(Failure { kind, error })
            }
        };
        Some((attempt, verdict))
    }

    /// Checks a success (K254).
    fn check_success(
        &self,
        (report, attempt): (&Report, &Attempt),
        stage: &PipelineStage,
        (session, envelope): (&Session, &Envelope),
    ) -> Verdict {
        let failed = |kind, told: String| Verdict::Failed(Failure { kind, error: told.into() });
        let empty = || Json::object::<&str>([]);
        let output = report.output.clone().unwrap_or_else(empty);
        if let Err(told) = stage.check_output(&output) {
            return failed(ErrorKind::OutputInvalid, told);
        }
        if stage.node_kind == NodeKind::Router
            && let Err(told) = check_choice(report, attempt)
        {
            return failed(ErrorKind::RouterInvalid, told);
        }
        let state = |key: &str| envelope.state.get(key);
        let schema = (&*session.pipeline.state_schema, self.state.config.limits.entries);
        let changes = match state_changes(schema, &output, state) {
            Ok(changes) => changes,
            Err(told) => return failed(ErrorKind::OutputInvalid, told),
        };
        if let Some(told) = self.overcrowded(envelope, stage, &changes) {
            return failed(ErrorKind::OutputInvalid, told);
        }
        let growth = growth_of(envelope, (stage, &output), &changes);
        match self.overgrown(envelope, (growth, report.feedback.as_ref())) {
            Some(failure) => Verdict::Failed(failure),
            None => Verdict::Done { output, changes },
        }
    }

    /// What a report that asks brings has its place in the envelope, too (K25, K252).
    fn has_no_room(
        &self,
        envelope: &Envelope,
        stage: &PipelineStage,
        report: &Report,
    ) -> Option<Failure> {
        let output = report.output.as_ref();
        let crowd = output.and_then(|_| self.overcrowded(envelope, stage, &[]));
        if let Some(told) = crowd {
            return Some(Failure { kind: ErrorKind::OutputInvalid, error: told.into() });
        }
        let growth = output.map_or(0, |output| growth_of(envelope, (stage, output), &[]));
        self.overgrown(envelope, (growth, report.feedback.as_ref()))
    }

    /// K25, K254: maps of an envelope have so many entries.
    fn overcrowded(
        &self,
        envelope: &Envelope,
        stage: &PipelineStage,
        changes: &[(Arc<str>, Json)],
    ) -> Option<String> {
        let new = changes.iter().filter(|(key, _)| !envelope.state.contains_key(key)).count();
        let output = usize::from(!envelope.outputs.contains_key(&stage.output_key));
        let counts = [
            ("outputs", output, envelope.outputs.len() + output),
            ("state", new, envelope.state.len() + new),
        ];
        let most = self.state.config.limits.entries;
        let over = counts.into_iter().find(|(_, new, all)| *new > 0 && *all as u64 > most);
        over.map(|(field, _, all)| format!("{field}: {all} entries, at most {most}"))
    }

    /// K254: an envelope stays within its limit.
    fn overgrown(
        &self,
        envelope: &Envelope,
        (growth, feedback): (i64, Option<&Arc<str>>),
    ) -> Option<Failure> {
        let feedback = feedback.map_or(0, |feedback| feedback.len() + 4);
        let growth = growth.saturating_add(i64::try_from(feedback).unwrap_or(i64::MAX));
        let most = self.state.config.limits.envelope_bytes;
        let error = || Arc::from(format!("the envelope would have more than {most} bytes"));
        let over = envelope.bytes().saturating_add_signed(growth) > most;
        over.then(|| Failure { kind: ErrorKind::OutputInvalid, error: error() })
    }

    /// What a failure tells is kept as long as the envelope has room for it (K25): the error three
    /// times, in the history, among the errors and with the stage that failed. Otherwise that it
    /// had no room is all that is kept.
    fn within_envelope(&self, report: &Report, verdict: Verdict) -> (Verdict, Option<Arc<str>>) {
        let feedback = report.feedback.clone();
        let session = self.state.running_session(&report.pid);
        let envelope = session.and_then(|session| self.state.envelope(&session.envelope));
        let (Verdict::Failed(failure), Some(envelope)) = (&verdict, envelope) else {
            return (verdict, feedback);
        };
        let error = i64::try_from(failure.error.len()).unwrap_or(i64::MAX);
        match self.overgrown(envelope, (error.saturating_mul(3), feedback.as_ref())) {
            None => (verdict, feedback),
            Some(Failure { error, kind: _ }) => {
                (Verdict::Failed(Failure { kind: failure.kind, error }), None)
            }
        }
    }

    /// Charges and closes the attempt (K251: 1 and 2).
    fn close_reported(
        &mut self,
        report: &Report,
        attempt: &Attempt,
        (verdict, feedback, digest): (&Verdict, Option<Arc<str>>, ContentHash),
    ) {
        let pid = &report.pid;
        let open = self.reservations_of(pid, &report.attempt);
        let covered = open.iter().fold(attempt.hold, |sum, (_, amounts)| sum.plus(amounts));
        for (reservation, _) in open {
            self.emit_quota(pid, QuotaEvent::Released { reservation });
        }
        let charged = report.metrics.amounts().minus(&attempt.charged);
        let (output, failure) = match verdict {
            Verdict::Failed(failure) => (None, Some(failure.clone())),
            Verdict::Interrupted => (report.output.clone(), None),
            Verdict::Done { output, changes: _ } => (Some(output.clone()), None),
        };
        let reported = Box::new(Reported {
            attempt: report.attempt.clone(),
            output,
            failure,
            interrupted: matches!(verdict, Verdict::Interrupted),
            metrics: report.metrics.clone(),
            charged,
            unreserved: charged.minus(&covered),
            feedback,
            digest,
        });
        self.emit_session(pid, SessionEvent::AttemptReported { reported });
        self.watch(pid);
    }

    fn reservations_of(
        &self,
        pid: &ProcessId,
        attempt: &AttemptId,
    ) -> Vec<(ReservationId, Amounts)> {
        let open = self.state.process(pid).into_iter().flat_map(|process| &process.reservations);
        let open = open.filter(|(_, reservation)| reservation.attempt.as_ref() == Some(attempt));
        open.map(|(id, reservation)| (id.clone(), reservation.amounts)).collect()
    }

    /// A stage outside a group is done: save, and move on (K255).
    fn take_success(&mut self, report: &Report, stage: &StageName, changes: Vec<(Arc<str>, Json)>) {
        let pid = &report.pid;
        self.complete(pid, stage, changes);
        if report.break_loop {
            let told = format!("agent {} asked to break", report.agent);
            self.end(pid, TerminalReason::BreakRequested, &told);
            return;
        }
        let Some(session) = self.state.running_session(pid) else {
            return;
        };
        let chosen = report.chosen_target.clone().map(Target::from);
        let found = session.stage(stage).filter(|_| !session.is_parallel()).and_then(|stage| {
            let ended = match (stage.node_kind, chosen) {
                (NodeKind::Router, Some(target)) => Ended::Chose(target),
                (NodeKind::Router, None)
                | (NodeKind::Agent | NodeKind::Gate | NodeKind::Fork, _) => Ended::Done,
            };
            route(stage, &ended, &self.scope(pid)?)
        });
        if let Some(found) = found
            && !self.ends_overworked(pid)
        {
            self.go(pid, &found);
        }
    }

    /// Running → Ready: the worker wants nothing more for now. While it has other branches of the
    /// group to report, it stays.
    fn let_go(&mut self, pid: &ProcessId) {
        let running = self.state.process(pid).is_some_and(|it| it.state == ProcessState::Running);
        if running && !self.state.has_live_attempt(pid) {
            self.change(pid, ProcessState::Ready, Cause::Released);
        }
    }
}

/// Returns by how many bytes an output and the changes of the state let an envelope grow.
fn growth_of(
    envelope: &Envelope,
    (stage, output): (&PipelineStage, &Json),
    changes: &[(Arc<str>, Json)],
) -> i64 {
    let changes = changes.iter().map(|(key, value)| envelope.growth_by_state(key, value));
    changes.sum::<i64>().saturating_add(envelope.growth_by_output(&stage.output_key, output))
}

/// K254: a Router goes where it was told that it may. Who breaks goes nowhere.
fn check_choice(report: &Report, attempt: &Attempt) -> Result<(), String> {
    match &report.chosen_target {
        Some(chosen) if attempt.targets.contains(chosen) => Ok(()),
        Some(chosen) => Err(format!("target {chosen} was not handed out")),
        None if report.break_loop => Ok(()),
        None => Err("chosen_target is required".to_owned()),
    }
}

/// Finds a tool that was used and that the task did not permit (K253).
fn forbidden_tool<'a>(stage: &PipelineStage, metrics: &'a Metrics) -> Option<&'a Arc<str>> {
    let agent = stage.agent_config.as_ref()?;
    let mut tools = metrics.tool_results.iter().map(|result| &result.name);
    tools.find(|tool| !permits(agent, tool))
}

/// Says whether an agent may use a tool (K253).
#[must_use]
pub fn permits(agent: &AgentConfig, tool: &str) -> bool {
    match agent.tool_access {
        ToolAccess::None => false,
        ToolAccess::All => true,
        ToolAccess::Read | ToolAccess::Write => {
            let listed = |tools: &Vec<Arc<str>>| tools.iter().any(|one| **one == *tool);
            agent.allowed_tools.as_ref().is_none_or(listed)
        }
    }
}

fn unknown(id: &AttemptId) -> Refusal {
    Refusal::new(Code::AttemptNotFound, format!("attempt not found: {id}"))
}
