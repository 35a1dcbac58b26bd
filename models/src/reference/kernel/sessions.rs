//! Section 8, first part: what a session is, how it begins (K230, K231), what a poll does (K240),
//! and whether the machine knows the same. [`flow`](super::flow) goes from stage to stage,
//! [`attempts`](super::attempts) takes what comes of attempts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use machines::kernel::ids::{
    AgentName, AttemptId, EnvelopeId, InterruptId, OutputKey, ProcessId, StageName,
};
use machines::kernel::json::Json;
use machines::kernel::names::{BlockReason, ProcessState, TerminalReason};
use machines::kernel::pipeline::PipelineStage;
use machines::kernel::pipeline::kinds::{ErrorKind, JoinStrategy, RunMode, Via};
use machines::kernel::principal::{Holder, Role};
use machines::kernel::sessions::report::Report;
use machines::kernel::sessions::start::{EnvelopeChoice, Initialize};
use machines::kernel::sessions::{AttemptEnd, Pipeline, Standing as Real};
use machines::kernel::state::State;
use machines::kernel::{Code, Time};

use super::process::Sums;
use super::values::Fields;
use super::{Answer, Kernel, Note, Wrong};

/// Attempts that are remembered once they are over (2.1).
const REMEMBERED: usize = 64;

/// What went wrong.
pub type Failure = (ErrorKind, String);

/// How far the work on a stage is.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Nobody works on it.
    Due,
    /// Somebody does.
    Live(Box<Attempt>),
    /// It failed, and is tried again then.
    Backoff(Time),
    /// It is done.
    Done,
    /// It failed for good.
    Failed,
}

/// What there is to do at a stage, in one visit.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as in section 8")]
pub struct Work {
    pub stage: StageName,
    pub visit: u64,
    pub tries: u64,
    pub failures: u64,
    pub lost: u64,
    pub standing: Standing,
    /// In a group, until the join (K277).
    pub output: Option<Json>,
    pub failure: Option<Failure>,
    /// Whether somebody was asked for more budget for this try (K118).
    pub asked: bool,
    /// Its place among branches that succeeded.
    pub arrived: usize,
}

impl Work {
    /// Work that nobody has begun.
    #[must_use]
    pub const fn new(stage: StageName, visit: u64) -> Self {
        Self {
            stage,
            visit,
            tries: 0,
            failures: 0,
            lost: 0,
            standing: Standing::Due,
            output: None,
            failure: None,
            asked: false,
            arrived: 0,
        }
    }

    /// The attempt that is live.
    #[must_use]
    pub fn live(&self) -> Option<&Attempt> {
        match &self.standing {
            Standing::Live(attempt) => Some(attempt),
            Standing::Due | Standing::Backoff(_) | Standing::Done | Standing::Failed => None,
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.standing, Standing::Done | Standing::Failed)
    }

    /// Whether it could be handed out.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        match self.standing {
            Standing::Due => true,
            Standing::Backoff(until) => until <= now,
            Standing::Live(_) | Standing::Done | Standing::Failed => false,
        }
    }

    /// Until when it waits for its next try.
    #[must_use]
    pub const fn waits_until(&self) -> Option<Time> {
        match self.standing {
            Standing::Backoff(until) => Some(until),
            Standing::Due | Standing::Live(_) | Standing::Done | Standing::Failed => None,
        }
    }
}

/// An attempt that is live.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as in section 10")]
pub struct Attempt {
    pub id: AttemptId,
    pub agent: AgentName,
    pub branch: Option<u32>,
    pub try_number: u64,
    /// What is left of its hold.
    pub hold: Sums,
    /// What its reservations and records have charged.
    pub charged: Sums,
    pub deadline: Option<Time>,
    pub holder: Holder,
    /// Where a Router may go.
    pub targets: Vec<StageName>,
    /// The question that was closed before it, the answer, and whether nobody gave one.
    pub answer: Option<Unread>,
}

/// How a question ended, for the next task (K163, K167).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The question.
    pub interrupt: InterruptId,
    /// The stage that asked.
    pub stage: Option<StageName>,
    /// The answer.
    pub response: Option<Json>,
    /// Whether there was none in time.
    pub expired: bool,
}

/// An attempt that is over.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as in section 10")]
pub struct Over {
    pub id: AttemptId,
    pub agent: AgentName,
    pub holder: Holder,
    /// What was told; nothing if nobody told.
    pub told: Option<Box<Report>>,
}

/// A session.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as in 2.5")]
pub struct Session {
    pub pipeline: Pipeline,
    pub envelope: EnvelopeId,
    pub position: StageName,
    pub visits: BTreeMap<StageName, u64>,
    pub edges: BTreeMap<(StageName, StageName), u64>,
    pub iteration: u64,
    pub base: Sums,
    pub works: Vec<Work>,
    pub group: Option<JoinStrategy>,
    pub done: BTreeSet<StageName>,
    /// Where a denial led, if the stages run by their dependencies.
    pub denied: Option<StageName>,
    pub over: VecDeque<Over>,
    pub response: Option<Json>,
    pub unread: Vec<Unread>,
    /// Keys of outputs that it saved, the newest last.
    pub saved: Vec<OutputKey>,
    pub ended: Option<(TerminalReason, Option<String>)>,
    /// Whether nothing has happened in it yet.
    pub fresh: bool,
}

impl Session {
    /// A stage of its pipeline.
    #[must_use]
    pub fn stage(&self, name: &StageName) -> &PipelineStage {
        let found = self.pipeline.stages.iter().find(|stage| stage.name == *name);
        found.expect("only stages of the pipeline are visited")
    }

    /// The place of a stage in stage order.
    #[must_use]
    pub fn order(&self, name: &StageName) -> usize {
        let found = self.pipeline.stages.iter().position(|stage| stage.name == *name);
        found.expect("only stages of the pipeline are visited")
    }

    /// Attempts that are live, in branch order.
    #[must_use]
    pub fn live(&self) -> Vec<(StageName, Attempt)> {
        let all = self.works.iter();
        all.filter_map(|work| Some((work.stage.clone(), work.live()?.clone()))).collect()
    }

    /// Whether stages run by their dependencies (K278).
    #[must_use]
    pub fn is_parallel(&self) -> bool {
        self.pipeline.run_mode == RunMode::Parallel
    }
}

impl Kernel {
    /// The session of a process if it has not ended.
    pub(super) fn running(&self, pid: &ProcessId) -> Option<&Session> {
        self.sessions.get(pid).filter(|session| session.ended.is_none())
    }

    pub(super) fn session(&self, pid: &ProcessId) -> &Session {
        &self.sessions[pid]
    }

    pub(super) fn session_mut(&mut self, pid: &ProcessId) -> &mut Session {
        let session = self.sessions.get_mut(pid).expect("it was found before");
        session.fresh = false;
        session
    }

    /// Whether somebody works for a process (K78).
    pub(super) fn has_live_attempt(&self, pid: &ProcessId) -> bool {
        self.running(pid).is_some_and(|session| !session.live().is_empty())
    }

    /// What expressions of a session look at (K260).
    pub(super) fn fields(&self, pid: &ProcessId) -> Fields {
        let Some(session) = self.sessions.get(pid) else {
            return Fields::default();
        };
        let envelope = &self.envelopes[&session.envelope];
        let outputs: BTreeMap<OutputKey, Json> = envelope.outputs.iter().cloned().collect();
        let newest = session.saved.iter().rev().find_map(|key| outputs.get(key));
        Fields {
            current: newest.cloned(),
            outputs,
            state: envelope.state.clone(),
            meta: envelope.metadata.clone(),
            interrupt: session.response.clone(),
            missing_differs: self.is(Wrong::MissingDiffers),
        }
    }

    /// K230, K231.
    pub(super) fn initialize(&mut self, asked: &Initialize) -> Answer {
        let pid = &asked.pid;
        self.only_owner(pid)?;
        if let Some(old) = self.running(pid) {
            let id = match &asked.envelope {
                EnvelopeChoice::Known(id) => Some(id),
                EnvelopeChoice::New(new) => new.id.as_ref(),
            };
            let same = old.pipeline == asked.pipeline && id == Some(&old.envelope);
            if same && (!asked.force || old.fresh) {
                self.renew_lease(pid);
                return Ok(());
            }
            if !asked.force {
                return Err(Code::SessionExists);
            }
        }
        self.only_live(pid)?;
        self.only_serving()?;
        let id = self.envelope_for(pid, &asked.envelope)?;
        self.begin(pid, &asked.pipeline, &id);
        self.renew_lease(pid);
        Ok(())
    }

    /// The envelope that a session is to work on, made if it is new.
    fn envelope_for(
        &mut self,
        pid: &ProcessId,
        choice: &EnvelopeChoice,
    ) -> Result<EnvelopeId, Code> {
        let user = self.of(pid).user.clone();
        let known = match choice {
            EnvelopeChoice::Known(id) => Some(id),
            EnvelopeChoice::New(new) => {
                new.id.as_ref().filter(|id| self.envelopes.contains_key(*id))
            }
        };
        let Some(id) = known.cloned() else {
            let EnvelopeChoice::New(new) = choice else {
                return Err(Code::EnvelopeNotFound);
            };
            return self.make_envelope(new, &user);
        };
        let envelope = self.envelope(&id)?;
        match choice {
            EnvelopeChoice::New(new) if envelope.user != user || !envelope.was_asked(new) => {
                return Err(Code::SubmitConflict);
            }
            EnvelopeChoice::Known(_) if envelope.user != user => {
                return Err(Code::PermissionDenied);
            }
            EnvelopeChoice::New(_) | EnvelopeChoice::Known(_) => {}
        }
        let serves = envelope.process.as_ref().filter(|other| *other != pid);
        match serves.is_some_and(|other| self.processes.get(other).is_some_and(|it| it.is_live())) {
            true => Err(Code::EnvelopeInUse),
            false => Ok(id),
        }
    }

    /// It begins; one that is there is given up.
    fn begin(&mut self, pid: &ProcessId, pipeline: &Pipeline, id: &EnvelopeId) {
        let forced = self.running(pid).is_some();
        let held = self.is_held(pid);
        if forced {
            self.give_up_all(pid);
            self.cancel_questions_of_session(pid);
        }
        let mut over = VecDeque::new();
        if let Some(old) = self.sessions.get(pid) {
            over = old.over.clone();
            if old.envelope != *id {
                let envelope = old.envelope.clone();
                let now = self.now;
                self.envelopes.get_mut(&envelope).expect("it is bound").set_free(now);
            }
        }
        let names: Vec<StageName> =
            pipeline.stages.iter().map(|stage| stage.name.clone()).collect();
        let now = self.now;
        let envelope = self.envelopes.get_mut(id).expect("it was found before");
        let at = envelope.current_stage.clone().filter(|stage| names.contains(stage));
        let entry = at.unwrap_or_else(|| names[0].clone());
        envelope.serve(now, pid, (pipeline, &entry));
        let session = Session {
            pipeline: pipeline.clone(),
            envelope: id.clone(),
            position: entry.clone(),
            visits: BTreeMap::new(),
            edges: BTreeMap::new(),
            iteration: 0,
            base: self.of(pid).used.clone(),
            works: Vec::new(),
            group: None,
            done: BTreeSet::new(),
            denied: None,
            over,
            response: None,
            unread: Vec::new(),
            saved: Vec::new(),
            ended: None,
            fresh: false,
        };
        self.sessions.insert(pid.clone(), session);
        self.note(Note::SessionStarted(pid.clone(), entry.clone(), forced));
        if !pipeline_is_parallel(pipeline) {
            self.go_to(pid, None, &entry, Via::Entry);
        }
        self.session_mut(pid).fresh = true;
        // What the old session waited for is nothing to the new one.
        let block = self.of(pid).block.as_ref().map(|block| block.reason);
        let blocked = block.is_some_and(|reason| reason != BlockReason::Manual);
        let waits = self.of(pid).state == ProcessState::Waiting || blocked;
        if forced && waits && !self.is_held(pid) {
            self.change(pid, ProcessState::Ready);
        } else if forced && held && self.of(pid).state == ProcessState::Ready {
            let now = self.now;
            self.of_mut(pid).ready_at = Some(now);
            self.join_ready(pid);
        }
    }

    /// K240. Whatever is told follows from the state after it.
    pub(super) fn next_instruction(&mut self, pid: &ProcessId) -> Answer {
        let process = self.known(pid)?;
        let may =
            process.user == self.by.user || self.is_trusted() || self.by.roles.has(Role::Worker);
        if !may && !self.holds(pid) {
            return Err(Code::PermissionDenied);
        }
        let session = self.sessions.get(pid).ok_or(Code::SessionNotFound)?;
        if session.ended.is_some() {
            return Ok(());
        }
        if self.is_held(pid) {
            self.renew_lease(pid);
            return Ok(());
        }
        self.only_runner(pid)?;
        self.go_on(pid)
    }

    /// The run lease is nobody else's (K240 d); what is driven is the node's (K290), and nothing
    /// else is, as the kernel has it.
    fn only_runner(&self, pid: &ProcessId) -> Answer {
        let process = self.of(pid);
        let other = process.lease.as_ref().is_some_and(|lease| lease.holder != self.holder);
        match other || process.submit.driven != self.by.is_node() {
            true => Err(Code::NotHolder),
            false => Ok(()),
        }
    }

    /// K240 (e)–(i).
    fn go_on(&mut self, pid: &ProcessId) -> Answer {
        let session = self.session(pid);
        let rests = session.group.is_some()
            && !session.works.iter().any(|work| work.live().is_some() || work.is_due(self.now));
        match self.of(pid).state {
            _ if self.drain.is_some() || rests => {}
            ProcessState::New => {
                self.schedule_new(pid)?;
                self.claim(pid);
                self.advance(pid);
            }
            ProcessState::Ready => {
                self.claim(pid);
                self.advance(pid);
            }
            ProcessState::Running => self.advance(pid),
            ProcessState::Waiting
            | ProcessState::Blocked
            | ProcessState::Terminated
            | ProcessState::Zombie => {}
        }
        self.renew_lease(pid);
        Ok(())
    }

    /// Remembers an attempt that is over (K250).
    pub(super) fn remember_attempt(&mut self, pid: &ProcessId, over: Over) {
        let list = &mut self.session_mut(pid).over;
        list.push_back(over);
        if list.len() > REMEMBERED {
            list.pop_front();
        }
    }

    /// Says in what the machine's sessions differ.
    #[must_use]
    pub fn sessions_differ(&self, state: &State) -> Option<String> {
        let gone = self
            .processes
            .keys()
            .find(|pid| state.session(pid).is_some() && !self.sessions.contains_key(*pid));
        if let Some(pid) = gone {
            return Some(format!("the session of {pid} should not exist"));
        }
        self.sessions.iter().find_map(|(pid, model)| {
            let Some(real) = state.session(pid) else {
                return Some(format!("the session of {pid} is missing"));
            };
            session_differs(model, real).map(|told| format!("session of {pid}: {told}"))
        })
    }
}

fn pipeline_is_parallel(pipeline: &Pipeline) -> bool {
    pipeline.run_mode == RunMode::Parallel
}

fn session_differs(model: &Session, real: &machines::kernel::sessions::Session) -> Option<String> {
    let ended = real.ended.as_ref().map(|end| end.reason);
    let message = model.ended.as_ref().and_then(|(_, message)| message.clone());
    let told = real.ended.as_ref().map(|end| end.message.to_string());
    let right = message.is_none() || message == told;
    let same = [
        ("pipeline", real.pipeline == model.pipeline),
        ("envelope", real.envelope == model.envelope),
        ("position", real.position == model.position),
        ("visits", real.visits == model.visits),
        ("edges", real.edges == model.edges),
        ("iteration", real.iteration == model.iteration),
        ("group", real.group.as_ref().map(|group| group.join) == model.group),
        ("done", real.done == model.done),
        ("ended", ended == model.ended.as_ref().map(|(reason, _)| *reason)),
        ("message", right),
        ("response", real.response.is_some() == model.response.is_some()),
    ];
    if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
        let ends = (&real.ended, &model.ended, &real.response, &model.response);
        let seen = (&real.position, &real.visits, &real.edges, real.iteration, &real.done);
        let meant = (&model.position, &model.visits, &model.edges, model.iteration, &model.done);
        return Some(format!("{what}: {seen:?}, not {meant:?}; {ends:?}"));
    }
    let open = model.ended.is_none();
    if open && real.works.len() != model.works.len() {
        return Some(format!("works: {:?}, not {:?}", real.works, model.works));
    }
    let works = model.works.iter().zip(&real.works).filter(|_| open);
    let works = works.filter_map(|(model, real)| work_differs(model, real));
    let live: BTreeMap<AttemptId, Attempt> =
        model.live().into_iter().map(|(_, attempt)| (attempt.id.clone(), attempt)).collect();
    let attempts = live.iter().filter_map(|(id, model)| {
        let Some(real) = real.attempts.get(id) else {
            return Some(format!("{id} is not live"));
        };
        attempt_differs(model, real)
    });
    let count = (real.attempts.len() != live.len()).then(|| format!("live: {:?}", real.attempts));
    works.chain(attempts).chain(count).next().or_else(|| over_differs(model, real))
}

fn over_differs(model: &Session, real: &machines::kernel::sessions::Session) -> Option<String> {
    let reported = |end: &AttemptEnd| matches!(end, AttemptEnd::Reported { .. });
    let real: BTreeMap<_, _> =
        real.closed.iter().map(|one| (&one.attempt, reported(&one.end))).collect();
    let model: BTreeMap<_, _> =
        model.over.iter().map(|one| (&one.id, one.told.is_some())).collect();
    (real != model).then(|| format!("closed: {real:?}, not {model:?}"))
}

fn work_differs(model: &Work, real: &machines::kernel::sessions::Work) -> Option<String> {
    let standing = match (&model.standing, &real.standing) {
        (Standing::Due, Real::Due) | (Standing::Done, Real::Done) => true,
        (Standing::Failed, Real::Failed) => true,
        (Standing::Live(model), Real::Live { attempt }) => model.id == *attempt,
        (Standing::Backoff(model), Real::Backoff { until, .. }) => model == until,
        (_, _) => false,
    };
    let counts = (model.visit, model.tries, model.failures, model.lost);
    let right = standing
        && model.stage == real.stage
        && counts == (real.visit, real.tries, u64::from(real.failures), real.lost)
        && model.failure.as_ref().map(|(kind, _)| *kind)
            == real.failure.as_ref().map(|failure| failure.kind);
    (!right).then(|| format!("{real:?}, not {model:?}"))
}

fn attempt_differs(model: &Attempt, real: &machines::kernel::sessions::Attempt) -> Option<String> {
    use machines::kernel::quota::Resource;
    let of = |sums: &Sums, one: Resource| sums.get(&one).copied().unwrap_or(0);
    let holds = Resource::RESERVABLE.into_iter().all(|one| {
        (of(&model.hold, one), of(&model.charged, one)) == (real.hold.of(one), real.charged.of(one))
    });
    let right = holds
        && (&model.agent, model.branch, model.try_number)
            == (&real.agent, real.branch, real.try_number)
        && (model.deadline, &model.holder, &model.targets)
            == (real.deadline, &real.holder, &real.targets);
    (!right).then(|| format!("{real:?}, not {model:?}"))
}

/// What a person answered, as later tasks and expressions read it (K167, 13.3).
#[must_use]
pub fn answer_json(
    response: &machines::kernel::interrupts::interrupt::Response,
    by: &str,
    at: Time,
) -> Json {
    let text = |text: &Arc<str>| Json::from(&**text);
    let entries = [
        ("text", response.text.as_ref().map(text)),
        ("approved", response.approved.map(Json::from)),
        ("decision", response.decision.map(|decision| Json::from(decision.name()))),
        ("data", response.data.clone()),
        ("by", Some(Json::from(by))),
        ("received_at", Some(Json::from(at.as_millis()))),
    ];
    Json::object(entries.into_iter().filter_map(|(key, value)| Some((key, value?))))
}
