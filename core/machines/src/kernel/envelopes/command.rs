//! Commands on envelopes: create, update, clone, remove (K30–K34, K360).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::index::session_owns;
use super::{Content, Envelope, EnvelopeEvent, EnvelopePatch, GoalsAdvance};
use crate::codec::Wire;
use crate::kernel::decision::Decision;
use crate::kernel::event::{Body, Subject};
use crate::kernel::ids::{
    EnvelopeId, Minted, OutputKey, ProcessId, RequestId, SessionId, StageName, UserId,
};
use crate::kernel::process::{ContentHash, Metadata, short_hash};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// As long as any id that the kernel makes (K20).
const MINTED: &str = "xxx_00000000000000000000000000";

/// What an envelope is to be: `CreateEnvelope`, and the new envelope of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NewEnvelope {
    /// Its id, if the caller chooses it.
    pub id: Option<EnvelopeId>,
    /// What came in.
    pub raw_input: String,
    /// For whom, if not for the caller.
    pub user: Option<UserId>,
    /// The caller's conversation.
    pub session: Option<SessionId>,
    /// The caller's request.
    pub request: Option<RequestId>,
    /// What the caller keeps with it.
    pub metadata: Metadata,
    /// The order of the stages.
    pub stage_order: Vec<StageName>,
}

impl NewEnvelope {
    /// Returns what a repeat is known by: all fields but the id.
    fn digest(&self, user: &UserId) -> ContentHash {
        let mut bytes = Vec::new();
        self.raw_input.encode(&mut bytes);
        user.encode(&mut bytes);
        self.session.encode(&mut bytes);
        self.request.encode(&mut bytes);
        self.metadata.encode(&mut bytes);
        self.stage_order.encode(&mut bytes);
        short_hash(&bytes)
    }
}

impl Decision<'_> {
    /// `CreateEnvelope`: makes an envelope, or finds that it was made before (K30, K448).
    pub(in crate::kernel) fn create_envelope(
        &mut self,
        new: &NewEnvelope,
    ) -> Result<EnvelopeId, Refusal> {
        let user = self.for_envelope(new.user.as_ref())?;
        match self.check_new_envelope(new, &user)? {
            Some(known) => Ok(known),
            None => Ok(self.make_envelope(new, user)),
        }
    }

    fn for_envelope(&self, user: Option<&UserId>) -> Result<UserId, Refusal> {
        match user {
            Some(user) if *user != self.by.user && !self.by.is_operator() => {
                let told = format!("only operators make envelopes for others, such as {user}");
                Err(Refusal::new(Code::PermissionDenied, told))
            }
            Some(user) => Ok(user.clone()),
            None => Ok(self.by.user.clone()),
        }
    }

    /// Refuses what [`Decision::make_envelope`] must not be asked for; returns the envelope that a
    /// repeat means.
    pub(in crate::kernel) fn check_new_envelope(
        &self,
        new: &NewEnvelope,
        user: &UserId,
    ) -> Result<Option<EnvelopeId>, Refusal> {
        let ids = [
            ("user_id", new.user.as_ref().map(UserId::as_str)),
            ("envelope_id", new.id.as_ref().map(EnvelopeId::as_str)),
            ("request_id", new.request.as_ref().map(RequestId::as_str)),
            ("session_id", new.session.as_ref().map(SessionId::as_str)),
        ];
        for (field, id) in ids {
            self.check_id(field, id.unwrap_or_default())?;
        }
        if let Some(id) = &new.id
            && self.state.envelope(id).is_some()
        {
            let known = self.owned_envelope(id)?;
            return match known.user == *user && known.digest == new.digest(user) {
                true => Ok(Some(id.clone())),
                false => {
                    let told = format!("envelope {id} exists with different content");
                    Err(Refusal::new(Code::SubmitConflict, told))
                }
            };
        }
        let limits = &self.state.config.limits;
        self.check_input(&new.raw_input)?;
        self.check_metadata(&new.metadata)?;
        self.check_count("stage_order", new.stage_order.len())?;
        for stage in &new.stage_order {
            self.check_name("stage_order", stage.as_str())?;
        }
        if u64::from(self.state.envelopes.len()) >= limits.processes {
            let told = format!("envelopes: at most {}", limits.processes);
            return Err(Refusal::new(Code::TooMany, told));
        }
        self.check_new_size(new, user)?;
        Ok(None)
    }

    /// Ids that are still to be made count as long as any that are made.
    fn check_new_size(&self, new: &NewEnvelope, user: &UserId) -> Result<(), Refusal> {
        let request = new.request.clone().unwrap_or_else(|| RequestId::of(MINTED));
        let session = new.session.clone().unwrap_or_else(|| SessionId::of(MINTED));
        self.check_size(&new_envelope(new, user, (self.now, (request, session))))
    }

    /// Makes an envelope that [`Decision::check_new_envelope`] found sound and new.
    pub(in crate::kernel) fn make_envelope(
        &mut self,
        new: &NewEnvelope,
        user: UserId,
    ) -> EnvelopeId {
        let id = match &new.id {
            Some(id) => id.clone(),
            None => self.mint(|state: &State, id| state.envelope(id).is_some()),
        };
        let request = new.request.clone().unwrap_or_else(|| self.mint(|_, _| false));
        let session = new.session.clone().unwrap_or_else(|| self.mint(|_, _| false));
        let envelope = new_envelope(new, &user, (self.now, (request, session)));
        let subject = subject_of(&envelope);
        let event = EnvelopeEvent::Created { id: id.clone(), envelope: Box::new(envelope) };
        self.emit(subject, Body::Envelope { event });
        id
    }

    /// `UpdateEnvelope` (K31–K33).
    pub(in crate::kernel) fn update_envelope(
        &mut self,
        id: &EnvelopeId,
        patch: &EnvelopePatch,
        expected: Option<u64>,
    ) -> Result<(), Refusal> {
        let envelope = self.held_envelope(id)?;
        if let Some(expected) = expected.filter(|expected| *expected != envelope.version) {
            let told = format!("envelope {id} is at version {}, not {expected}", envelope.version);
            return Err(Refusal::new(Code::VersionConflict, told).about("envelope_id", id));
        }
        self.check_patch(envelope, patch)?;
        if patch.is_owned_by_session() && session_owns(self.state, id) {
            let told = format!("envelope {id} belongs to a session that has not ended");
            return Err(Refusal::new(Code::SessionOwnsEnvelope, told).about("envelope_id", id));
        }
        if *patch == EnvelopePatch::default() {
            return Ok(());
        }
        let mut after = envelope.clone();
        let advanced = after.patch(self.now, patch);
        self.check_counts(envelope, &after)?;
        self.check_size(&after)?;
        let (subject, version) = (subject_of(envelope), envelope.version + 1);
        let (id, patch) = (id.clone(), Box::new(patch.clone()));
        let event = EnvelopeEvent::Updated { id, patch, version, advanced };
        self.emit(subject, Body::Envelope { event });
        Ok(())
    }

    /// `CloneEnvelope` (K34).
    pub(in crate::kernel) fn clone_envelope(
        &mut self,
        from: &EnvelopeId,
    ) -> Result<EnvelopeId, Refusal> {
        let envelope = self.held_envelope(from)?;
        let subject = Subject { pid: None, ..subject_of(envelope) };
        let copy = envelope.copy_of(from, self.now);
        self.check_size(&copy)?;
        let most = self.state.config.limits.processes;
        if u64::from(self.state.envelopes.len()) >= most {
            let told = format!("envelopes: at most {most}");
            return Err(Refusal::new(Code::TooMany, told));
        }
        let id: EnvelopeId = self.mint(|state: &State, id| state.envelope(id).is_some());
        let event = EnvelopeEvent::Cloned { id: id.clone(), from: from.clone() };
        self.emit(subject, Body::Envelope { event });
        Ok(id)
    }

    /// Removes envelopes that are kept no longer; returns how many (K360, K361).
    pub(in crate::kernel) fn remove_due_envelopes(&mut self, most: usize) -> usize {
        let ids = self.state.envelopes_due_for_removal(self.now, most);
        let count = ids.len();
        if count > 0 {
            let event = EnvelopeEvent::Removed { ids };
            self.emit(Subject::default(), Body::Envelope { event });
        }
        count
    }

    /// Removes the envelope of a process that becomes Zombie (section 3).
    pub(in crate::kernel) fn remove_envelope_of(&mut self, pid: &ProcessId) {
        if let Some(id) = self.state.envelope_of(pid).cloned() {
            let subject = self.state.envelope(&id).map(subject_of).unwrap_or_default();
            let event = EnvelopeEvent::Removed { ids: vec![id] };
            self.emit(subject, Body::Envelope { event });
        }
    }

    fn known_envelope(&self, id: &EnvelopeId) -> Result<&Envelope, Refusal> {
        self.state.envelope(id).ok_or_else(|| missing(id))
    }

    /// Finds an envelope that the principal may act on as its owner (K27).
    pub(in crate::kernel) fn owned_envelope(&self, id: &EnvelopeId) -> Result<&Envelope, Refusal> {
        let envelope = self.known_envelope(id)?;
        let owns = envelope.user == self.by.user || self.by.is_operator() || self.by.is_node();
        if owns { Ok(envelope) } else { Err(foreign(id)) }
    }

    /// Finds an envelope that the principal may act on as its owner, or as the holder of the
    /// process that it serves (K370: O H P).
    pub(in crate::kernel) fn held_envelope(&self, id: &EnvelopeId) -> Result<&Envelope, Refusal> {
        let envelope = self.known_envelope(id)?;
        let lease =
            self.state.bound_to(id).and_then(|pid| self.state.process(pid)?.run_lease.as_ref());
        match lease.is_some_and(|lease| lease.holder == self.holder()) {
            true => Ok(envelope),
            false => self.owned_envelope(id),
        }
    }

    fn check_patch(&self, envelope: &Envelope, patch: &EnvelopePatch) -> Result<(), Refusal> {
        self.check_count("outputs", patch.outputs.len())?;
        for (key, value) in &patch.outputs {
            self.check_name("outputs", key.as_str())?;
            self.check_payload(&format!("outputs.{key}"), value)?;
            if !value.is_null() && value.as_object().is_none() {
                let told = format!("outputs.{key}: expected an object, got {}", value.type_name());
                return Err(Refusal::new(Code::BadOutput, told));
            }
        }
        self.check_metadata(&patch.metadata)?;
        let stages =
            [("start_stages", &patch.start_stages), ("complete_stages", &patch.complete_stages)];
        for (field, stages) in stages {
            self.check_count(field, stages.len())?;
            stages.iter().try_for_each(|stage| self.check_name(field, stage.as_str()))?;
        }
        self.check_count("fail_stages", patch.fail_stages.len())?;
        for (stage, error) in &patch.fail_stages {
            self.check_name("fail_stages", stage.as_str())?;
            self.check_text("fail_stages", error)?;
        }
        self.check_count("add_feedback", patch.add_feedback.len())?;
        patch.add_feedback.iter().try_for_each(|text| self.check_text("add_feedback", text))?;
        if let Some(told) = &patch.add_error {
            self.check_text("add_error.error", &told.error)?;
        }
        if let Some(end) = &patch.terminate {
            self.check_text("terminate.message", &end.message)?;
        }
        self.check_goals(envelope, patch)
    }

    /// K33: goals are told once each, and only those that there are can be reached.
    fn check_goals(&self, envelope: &Envelope, patch: &EnvelopePatch) -> Result<(), Refusal> {
        self.check_count("goals_init", patch.goals_init.len())?;
        let mut goals = BTreeSet::new();
        for goal in &patch.goals_init {
            self.check_text("goals_init", goal)?;
            if goal.is_empty() {
                return Err(Refusal::new(Code::Required, "goals_init: a goal is required"));
            }
            if !goals.insert(goal) {
                let told = format!("goals_init: {goal:?} is there twice");
                return Err(Refusal::new(Code::BadValue, told));
            }
        }
        let Some(advance) = &patch.goals_advance else {
            return Ok(());
        };
        let known = |goal: &Arc<str>| match patch.goals_init.is_empty() {
            true => envelope.goal_status.contains_key(goal),
            false => goals.contains(goal),
        };
        self.check_count("goals_advance.satisfied", advance.satisfied.len())?;
        if let Some(goal) = advance.satisfied.iter().find(|goal| !known(goal)) {
            let told = format!("goals_advance.satisfied: {goal:?} is not a goal");
            return Err(Refusal::new(Code::BadValue, told));
        }
        self.check_advance(advance)
    }

    fn check_advance(&self, advance: &GoalsAdvance) -> Result<(), Refusal> {
        self.check_text("goals_advance.summary", &advance.summary)?;
        self.check_text("goals_advance.plan_id", advance.plan.as_deref().unwrap_or_default())?;
        self.check_count("goals_advance.reset_outputs", advance.reset_outputs.len())?;
        let mut names = advance.reset_outputs.iter().map(OutputKey::as_str);
        names.try_for_each(|name| self.check_name("goals_advance.reset_outputs", name))
    }

    /// Refuses to make a map of an envelope longer than maps may be (K25). What a session let grow
    /// beyond that does not keep others from changing the rest.
    fn check_counts(&self, before: &Content, after: &Content) -> Result<(), Refusal> {
        let counts = |of: &Content| {
            [
                ("outputs", of.outputs.len()),
                ("metadata", of.metadata.len()),
                ("active_stages", of.active_stages.len()),
                ("completed_stages", of.completed_stages.len()),
                ("failed_stages", of.failed_stages.len()),
                ("completed_goal_stages", of.completed_goal_stages.len()),
            ]
        };
        let mut grown = counts(before).into_iter().zip(counts(after));
        grown.try_for_each(|((field, before), (_, after))| match after > before {
            true => self.check_count(field, after),
            false => Ok(()),
        })
    }

    /// Refuses an envelope that would have too many bytes (K25).
    fn check_size(&self, after: &Envelope) -> Result<(), Refusal> {
        let most = self.state.config.limits.envelope_bytes;
        match after.bytes() > most {
            true => {
                let told = format!("envelope: {} bytes, at most {most}", after.bytes());
                Err(Refusal::new(Code::TooLarge, told))
            }
            false => Ok(()),
        }
    }

    fn check_input(&self, text: &str) -> Result<(), Refusal> {
        let most = self.state.config.limits.raw_input_bytes;
        if text.len() as u64 > most {
            let told = format!("raw_input: {} bytes, at most {most}", text.len());
            return Err(Refusal::new(Code::TooLarge, told));
        }
        match text.bytes().position(|byte| byte == 0) {
            Some(at) => Err(Refusal::new(Code::BadValue, format!("raw_input: NUL at byte {at}"))),
            None => Ok(()),
        }
    }
}

impl EnvelopePatch {
    /// Says whether it changes what a session owns: outputs, stages, the end (K32).
    #[must_use]
    pub fn is_owned_by_session(&self) -> bool {
        let resets = |advance: &GoalsAdvance| !advance.reset_outputs.is_empty();
        !self.outputs.is_empty()
            || !self.start_stages.is_empty()
            || !self.complete_stages.is_empty()
            || !self.fail_stages.is_empty()
            || self.goals_advance.as_ref().is_some_and(resets)
            || self.terminate.is_some()
    }
}

/// The row of a new envelope.
fn new_envelope(
    new: &NewEnvelope,
    user: &UserId,
    (now, (request, session)): (Time, (RequestId, SessionId)),
) -> Envelope {
    let mut content = Content::new((request, user.clone(), session), now);
    content.digest = new.digest(user);
    content.raw_input = Arc::from(new.raw_input.as_str());
    content.metadata.clone_from(&new.metadata);
    content.stage_order.clone_from(&new.stage_order);
    Envelope::of(content)
}

/// Whom events of an envelope are about.
fn subject_of(envelope: &Envelope) -> Subject {
    Subject {
        pid: envelope.process.clone(),
        user: Some(envelope.user.clone()),
        session: Some(envelope.session.clone()),
        request: Some(envelope.request.clone()),
    }
}

/// Refuses for an envelope that there is not.
pub(in crate::kernel) fn missing(id: &EnvelopeId) -> Refusal {
    let told = format!("envelope not found: {id}");
    Refusal::new(Code::EnvelopeNotFound, told).about("envelope_id", id)
}

/// Refuses for an envelope of somebody else.
pub(in crate::kernel) fn foreign(id: &EnvelopeId) -> Refusal {
    let told = format!("envelope {id} belongs to another user");
    Refusal::new(Code::PermissionDenied, told).about("envelope_id", id)
}
