//! What callers and workers ask of dispatches (K200–K206, K211, K212).

use std::collections::BTreeSet;

use crate::kernel::budget::refuse_terminal;
use crate::kernel::decision::Decision;
use crate::kernel::event::{Body, QuotaEvent, Subject};
use crate::kernel::ids::{DispatchId, ProcessId, ReservationId, ServiceName, UserId};
use crate::kernel::json::Json;
use crate::kernel::json::document::Problems;
use crate::kernel::leases::{not_holder, stale};
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::principal::Holder;
use crate::kernel::process::ContentHash;
use crate::kernel::quota::Amounts;
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::services::unknown;
use crate::kernel::time::Time;

use super::event::DispatchEvent;
use super::{Completion, DispatchOutcome, ServiceRequest, Target};

/// Counts what an inference is asked: the characters of `data.text` and of the strings of
/// `data.texts` (K120).
#[must_use]
pub fn inference_chars(data: &Json) -> u64 {
    let chars = |json: &Json| json.as_str().map_or(0, |text| text.chars().count() as u64);
    let texts = data.get("texts").and_then(Json::as_list).unwrap_or_default();
    data.get("text").map_or(0, chars) + texts.iter().map(chars).sum::<u64>()
}

impl Decision<'_> {
    pub(super) fn emit_dispatch(&mut self, id: &DispatchId, event: DispatchEvent) {
        let subject = match self.state.dispatches.get(id) {
            Some(row) => match &row.request.pid {
                Some(pid) => self.subject(pid),
                None => Subject { user: Some(row.user.clone()), ..Subject::default() },
            },
            None => Subject { user: Some(self.by.user.clone()), ..Subject::default() },
        };
        self.emit(subject, Body::Dispatch { event });
    }

    /// `Dispatch` and `DispatchInference`: the second reserves in the same decision (K200–K202,
    /// K212).
    pub(in crate::kernel) fn dispatch(
        &mut self,
        request: &ServiceRequest,
        inference: bool,
    ) -> Result<(), Refusal> {
        self.check_caller(request.pid.as_ref())?;
        let user = match &request.pid {
            Some(pid) => self.known(pid)?.user.clone(),
            None => self.by.user.clone(),
        };
        let content = request.digest(&user, inference);
        if let Some(id) = &request.dispatch {
            self.check_id("dispatch_id", id.as_str())?;
            if self.is_known(id, &user, content)? {
                return Ok(());
            }
        }
        let dispatch: DispatchId = match &request.dispatch {
            Some(id) => id.clone(),
            None => self.mint(|state, id| state.dispatches.contains(id)),
        };
        let (service, amounts) = self.check_dispatch(request, &dispatch, inference)?;

        if let (Some(pid), Some(approval)) = (&request.pid, &request.approval) {
            let used = self.consume_approval(pid, &approval.by(&dispatch));
            debug_assert!(used.is_ok(), "it was checked");
        }
        let reservation = match (&request.pid, amounts) {
            (Some(pid), Some(amounts)) => Some(self.keep_for_inference(pid, amounts, content)),
            (None, _) | (_, None) => None,
        };
        let event = DispatchEvent::Queued {
            dispatch: dispatch.clone(),
            user: user.clone(),
            request: Box::new(request.clone()),
            service: service.clone(),
            content,
            reservation,
        };
        let subject = match &request.pid {
            Some(pid) => self.subject(pid),
            None => Subject { user: Some(user), ..Subject::default() },
        };
        self.emit(subject, Body::Dispatch { event });
        self.pump(&service);
        if let Some(pid) = &request.pid {
            self.touch_lease(pid);
        }
        Ok(())
    }

    /// Checks all that can refuse a new dispatch; finds its service and what is reserved for it.
    fn check_dispatch(
        &self,
        request: &ServiceRequest,
        dispatch: &DispatchId,
        inference: bool,
    ) -> Result<(ServiceName, Option<Amounts>), Refusal> {
        self.refuse_draining()?;
        self.check_request(request)?;
        if let Some(pid) = &request.pid {
            refuse_terminal(pid, self.known(pid)?)?;
        }
        let service = self.find_service(request)?;
        if let Some(pid) = &request.pid {
            self.check_open_of(pid)?;
        }
        let amounts = match inference {
            true => Some(self.check_inference(request)?),
            false => None,
        };
        if let Some(approval) = &request.approval {
            let Some(pid) = &request.pid else {
                let told = "an approval is of a process: pid is required";
                return Err(Refusal::new(Code::ApprovalNotUsable, told));
            };
            self.check_approval(pid, &approval.by(dispatch))?;
        }
        Ok((service, amounts))
    }

    /// Says whether a dispatch was asked for before, with the same content (K200).
    fn is_known(
        &self,
        id: &DispatchId,
        user: &UserId,
        content: ContentHash,
    ) -> Result<bool, Refusal> {
        let Some(known) = self.state.dispatches.get(id) else {
            return Ok(false);
        };
        if known.user != *user && !self.by.is_operator() && !self.by.is_node() {
            return Err(foreign(id));
        }
        match known.content == content {
            true => Ok(true),
            false => {
                let told = format!("dispatch {id} exists with different content");
                Err(Refusal::new(Code::DispatchConflict, told))
            }
        }
    }

    /// Checks every bound of a request (K25).
    fn check_request(&self, request: &ServiceRequest) -> Result<(), Refusal> {
        let limits = &self.state.config.limits;
        if request.method.is_empty() {
            return Err(Refusal::new(Code::Required, "method is required"));
        }
        self.check_text("method", &request.method)?;
        self.check_payload("data", &request.data)?;
        self.check_metadata(&request.metadata)?;
        if let Some(approval) = &request.approval {
            self.check_text("approval.action", &approval.action)?;
            self.check_payload("approval.params", &approval.params)?;
        }
        let spans = [
            ("try_timeout_ms", Some(request.try_timeout_ms)),
            ("deadline_ms", request.deadline_ms),
        ];
        for (field, span) in spans {
            span.map_or(Ok(()), |span| limits.check_span(field, span))?;
        }
        // Each kind may be named, however few entries a list may have.
        let kinds = request.retry.retry_on.len();
        if kinds > ErrorKind::ALL.len() {
            self.check_count("retry.retry_on", kinds)?;
        }
        let mut problems = Problems::new();
        request.retry.check("retry", limits.span_ms, &mut problems);
        problems.refuse(Code::BadValue)
    }

    /// Finds the service, and checks that it takes the call or that the call may wait (K201,
    /// K202).
    fn find_service(&self, request: &ServiceRequest) -> Result<ServiceName, Refusal> {
        let name = match &request.target {
            Target::Name { name } => name,
            Target::Type { service_type, capability } => {
                let found = self.state.desks.choose(service_type, capability.as_ref());
                found.ok_or_else(|| unknown(service_type))?
            }
        };
        self.service(name)?;
        if !request.queue {
            self.check_open(name)?;
        }
        let most = self.state.config.limits.dispatches_waiting;
        let queued = self.state.desks.desk(name).map_or(0, |desk| desk.queued());
        match queued >= most {
            true => {
                let told = format!("queue full: {name}: {queued} wait, at most {most}");
                Err(Refusal::new(Code::QueueFull, told))
            }
            false => Ok(name.clone()),
        }
    }

    /// Checks that one more dispatch can end with its process: all do, in one decision (K82, L3).
    fn check_open_of(&self, pid: &ProcessId) -> Result<(), Refusal> {
        let most = self.state.config.limits.dispatches_open();
        let open = self.state.desks.open_of(pid);
        match open >= most {
            true => {
                let told =
                    format!("queue full: {open} dispatches of {pid} are open, at most {most}");
                Err(Refusal::new(Code::QueueFull, told))
            }
            false => Ok(()),
        }
    }

    /// Checks that one inference fits the budget, and says what it is (K120, K212).
    fn check_inference(&self, request: &ServiceRequest) -> Result<Amounts, Refusal> {
        let Some(pid) = &request.pid else {
            return Err(Refusal::new(Code::Required, "pid is required"));
        };
        let chars = inference_chars(&request.data);
        let amounts =
            Amounts { inference_requests: 1, inference_input_chars: chars, ..Amounts::ZERO };
        let most = self.state.config.limits.reservations;
        if self.known(pid)?.reservations.len() as u64 >= most {
            let told = format!("open reservations of {pid}: at most {most}");
            return Err(Refusal::new(Code::TooMany, told));
        }
        self.check_fits(pid, &amounts, &Amounts::ZERO)?;
        self.refuse_process_rate(pid)?;
        Ok(amounts)
    }

    /// Reserves until the first try starts or the dispatch ends, however long that takes: it has
    /// no lease that could end before (K212).
    fn keep_for_inference(
        &mut self,
        pid: &ProcessId,
        amounts: Amounts,
        content: ContentHash,
    ) -> ReservationId {
        let reservation: ReservationId = self.mint(|state, id| {
            state.process(pid).is_some_and(|process| process.reservations.contains_key(id))
        });
        let event = QuotaEvent::Reserved {
            reservation: reservation.clone(),
            attempt: None,
            amounts,
            until: Time::FAR,
            content,
            holder: self.holder(),
        };
        self.hit_process(pid);
        self.emit_quota(pid, event);
        self.watch(pid);
        reservation
    }

    /// `LeaseTasks`: hands out what waits, as far as there is room (K205).
    pub(in crate::kernel) fn lease_tasks(
        &mut self,
        name: &ServiceName,
        max: u32,
    ) -> Result<(), Refusal> {
        self.check_works_for(name)?;
        let service = self.service(name)?;
        if super::tries::is_push(service) {
            let told = format!("service {name} is served by a handler of the node");
            return Err(Refusal::new(Code::BadValue, told));
        }
        let most = self.state.config.limits.page;
        if u64::from(max) > most {
            return Err(Refusal::new(Code::TooLarge, format!("max: {max}, at most {most}")));
        }
        let holder = self.holder();
        for _ in 0..max {
            let Some(id) = self.next_waiting(name) else {
                break;
            };
            if self.is_full() {
                break;
            }
            self.start_try(&id, Some(holder.clone()));
        }
        Ok(())
    }

    /// `CompleteTask`: ends the live try (K206).
    pub(in crate::kernel) fn complete_task(&mut self, done: &Completion) -> Result<(), Refusal> {
        let content = done.digest();
        let live = self.state.slots.get(&done.lease).and_then(|slot| slot.dispatch.clone());
        let Some(id) = live else {
            return self.complete_again(done, content);
        };
        self.check_works_on(self.state.worker_of(&id))?;
        self.check_completion(done)?;
        if let Some(service) = self.state.dispatches.get(&id).map(|row| row.service.clone()) {
            self.lift(&service);
        }
        match done.success {
            true => self.succeed(&id, done.data.clone(), content),
            false => {
                let kind = done.error_kind.unwrap_or(ErrorKind::Dispatch);
                let error = done.error.as_deref().unwrap_or("the try failed");
                self.fail_try(&id, kind, error, Some(content));
            }
        }
        Ok(())
    }

    /// A completion under a lease that is not the live try's: a repeat, or stale (K206).
    fn complete_again(&self, done: &Completion, content: ContentHash) -> Result<(), Refusal> {
        let ended = self.state.ended_try(&done.lease);
        if let Some(ended) = ended {
            self.check_works_on(ended.holder.as_ref())?;
        }
        match ended.and_then(|ended| ended.content) == Some(content) {
            true => Ok(()),
            false => {
                crate::sometimes!("kernel.stale_completion");
                Err(stale(&done.lease))
            }
        }
    }

    /// Refuses anyone who has nothing to do with a try, live or ended: it is for its worker, an
    /// operator, and, where there is no worker, the node (K27, K370).
    pub(in crate::kernel) fn check_works_on(&self, worker: Option<&Holder>) -> Result<(), Refusal> {
        let may = match worker {
            Some(holder) => self.holds(holder) || self.by.is_operator(),
            None => self.by.is_node(),
        };
        if may { Ok(()) } else { Err(not_holder()) }
    }

    fn check_completion(&self, done: &Completion) -> Result<(), Refusal> {
        let told = |text: &str| Err(Refusal::new(Code::BadValue, text));
        self.check_text("error", done.error.as_deref().unwrap_or_default())?;
        if let Some(data) = &done.data {
            self.check_payload("data", data)?;
        }
        if done.success && (done.error.is_some() || done.error_kind.is_some()) {
            return told("error: a success has none");
        }
        match done.error_kind {
            None | Some(ErrorKind::Tool | ErrorKind::Llm | ErrorKind::Policy) => Ok(()),
            Some(
                ErrorKind::Timeout
                | ErrorKind::OutputInvalid
                | ErrorKind::RouterInvalid
                | ErrorKind::WorkerLost
                | ErrorKind::ContextOverflow
                | ErrorKind::Dispatch,
            ) => told("error_kind: only Tool, Llm and Policy are told by workers"),
        }
    }

    /// `CancelDispatch`; one that has ended stays as it is (K211).
    pub(in crate::kernel) fn cancel_dispatch(&mut self, id: &DispatchId) -> Result<(), Refusal> {
        let Some(row) = self.state.dispatches.get(id) else {
            let told = format!("dispatch not found: {id}");
            return Err(Refusal::new(Code::DispatchNotFound, told));
        };
        if row.user != self.by.user && !self.by.is_operator() && !self.by.is_node() {
            return Err(foreign(id));
        }
        if row.end().is_none() {
            let service = row.service.clone();
            self.finish(id, DispatchOutcome::Cancelled, ("cancelled", "cancelled"));
            self.pump(&service);
        }
        Ok(())
    }

    /// The end of a process ends its dispatches (K82, K211). Returns where there is room now.
    pub(in crate::kernel) fn cancel_dispatches(
        &mut self,
        pid: &ProcessId,
    ) -> BTreeSet<ServiceName> {
        let ids: Vec<DispatchId> = self.state.desks.of_process(pid).cloned().collect();
        let mut freed = BTreeSet::new();
        for id in ids {
            freed.extend(self.state.dispatches.get(&id).map(|row| row.service.clone()));
            let told = format!("process {pid} has ended");
            self.finish(&id, DispatchOutcome::Cancelled, (&told, "cancelled"));
        }
        freed
    }

    /// Removes the dispatches that are kept no longer (K360, K361).
    pub(in crate::kernel) fn remove_due_dispatches(&mut self, most: usize) -> usize {
        let ids = self.state.dispatches_due_for_removal(self.now, most);
        let count = ids.len();
        if count > 0 {
            let event = DispatchEvent::Removed { ids };
            self.emit(Subject::default(), Body::Dispatch { event });
        }
        count
    }
}

fn foreign(id: &DispatchId) -> Refusal {
    Refusal::new(Code::PermissionDenied, format!("dispatch {id} belongs to another user"))
}
