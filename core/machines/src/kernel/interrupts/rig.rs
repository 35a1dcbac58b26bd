//! Questions and answers for tests of interrupts.

use std::sync::Arc;

use crate::kernel::event::{Body, Event};
use crate::kernel::ids::{InterruptId, UseId, UserId};
use crate::kernel::json::Json;
use crate::kernel::json::strategies::json;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{InterruptKind, ProcessState, ReviewDecision};
use crate::kernel::principal::Principal;
use crate::kernel::rig::{Rig, pid, submit, user, worker};
use crate::kernel::{CommandBody, Refusal};

use super::approval::{Approval, Use};
use super::event::InterruptEvent;
use super::interrupt::{Assignee, Interrupt, NewInterrupt, NewTarget, Response};

pub(in crate::kernel) const MINUTE: u64 = 60_000;
pub(in crate::kernel) const HOUR: u64 = 60 * MINUTE;

pub(in crate::kernel) fn new(kind: InterruptKind) -> NewInterrupt {
    NewInterrupt::new(kind)
}

pub(in crate::kernel) fn text(text: &str) -> Option<Arc<str>> {
    Some(Arc::from(text))
}

pub(in crate::kernel) fn to_user(name: &str) -> Option<Assignee> {
    Some(Assignee::User { user: UserId::parse("assignee", name).unwrap() })
}

/// May X be paid 10?
pub(in crate::kernel) fn pay() -> Option<Box<NewTarget>> {
    let params = json(r#"{"to":"X","sum":10}"#);
    Some(Box::new(NewTarget { action: Arc::from("pay"), params, binds: Vec::new() }))
}

pub(in crate::kernel) fn ask(name: &str, new: NewInterrupt) -> CommandBody {
    CommandBody::CreateInterrupt { pid: pid(name), interrupt: Box::new(new) }
}

pub(in crate::kernel) fn resolve(id: &InterruptId, response: Response) -> CommandBody {
    CommandBody::ResolveInterrupt { id: id.clone(), response: Box::new(response) }
}

pub(in crate::kernel) fn cancel(id: &InterruptId) -> CommandBody {
    CommandBody::CancelInterrupt { id: id.clone(), reason: "never mind".to_owned() }
}

pub(in crate::kernel) fn consume(id: &InterruptId, params: &str, use_id: &str) -> CommandBody {
    CommandBody::ConsumeApproval(Box::new(Use {
        interrupt: id.clone(),
        action: Arc::from("pay"),
        params: json(params),
        use_id: UseId::parse("use_id", use_id).unwrap(),
    }))
}

pub(in crate::kernel) fn says(words: &str) -> Response {
    Response { text: text(words), ..Response::default() }
}

pub(in crate::kernel) fn approved(approved: bool) -> Response {
    Response { approved: Some(approved), ..Response::default() }
}

pub(in crate::kernel) fn decides(decision: ReviewDecision) -> Response {
    Response { decision: Some(decision), ..Response::default() }
}

pub(in crate::kernel) fn modifies(data: &str) -> Response {
    let data: Option<Json> = Some(json(data));
    Response { data, ..decides(ReviewDecision::Modify) }
}

/// The ids of the interrupts that were raised, oldest first.
pub(in crate::kernel) fn raised(events: &[Event]) -> Vec<InterruptId> {
    let mut ids = Vec::new();
    for event in events {
        if let Body::Interrupt { event: InterruptEvent::Raised { interrupt } } = &event.body {
            ids.push(interrupt.id.clone());
        }
    }
    ids
}

impl Rig {
    /// Asks as alice, who owns everything here.
    pub(in crate::kernel) fn ask(&mut self, name: &str, new: NewInterrupt) -> InterruptId {
        let events = self.say(&user("alice"), ask(name, new)).unwrap();
        raised(&events).pop().unwrap()
    }

    /// A process of alice that the worker `w` runs.
    pub(in crate::kernel) fn running(&mut self, name: &str) {
        self.ready(&user("alice"), submit(name));
        self.claim(name);
    }

    pub(in crate::kernel) fn claim(&mut self, name: &str) {
        self.say(&worker("w"), CommandBody::NextRunnable).unwrap();
        assert_eq!(self.state(name), ProcessState::Running);
    }

    pub(in crate::kernel) fn submitted(&mut self, submit: Submit) {
        self.say(&user("alice"), CommandBody::Submit(Box::new(submit))).unwrap();
    }

    pub(in crate::kernel) fn interrupt(&self, id: &InterruptId) -> &Interrupt {
        self.kernel.state().interrupt(id).unwrap()
    }

    pub(in crate::kernel) fn approval(&self, id: &InterruptId) -> Option<&Approval> {
        self.kernel.state().approval(id)
    }

    /// The answer as it quotes what was shown.
    pub(in crate::kernel) fn shown(&self, id: &InterruptId, response: Response) -> Response {
        let hash = self.interrupt(id).target.as_ref().map(|target| target.hash);
        Response { target_hash: hash, ..response }
    }

    pub(in crate::kernel) fn answer(
        &mut self,
        by: &Principal,
        id: &InterruptId,
        response: Response,
    ) -> Result<Vec<Event>, Refusal> {
        self.say(by, resolve(id, response))
    }
}
