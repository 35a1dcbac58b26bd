//! K441: what is done with leave is what was shown, or what the reviewer made of it, once.

use std::collections::BTreeMap;

use machines::kernel::envelopes::Envelope;
use machines::kernel::event::{Body, Event};
use machines::kernel::expression::{FieldRef, Scope};
use machines::kernel::ids::{InterruptId, OutputKey, ProcessId};
use machines::kernel::interrupts::approval::Use;
use machines::kernel::interrupts::event::{ApprovalEvent, InterruptEvent};
use machines::kernel::interrupts::interrupt::Interrupt;
use machines::kernel::interrupts::target::{Target, TargetHash, target_hash};
use machines::kernel::json::Json;
use machines::kernel::names::ReviewDecision;
use machines::kernel::sessions::Session;
use machines::kernel::{CommandBody, Kernel};

use super::super::super::book::Follow;
use super::super::super::kernel::{Clerk, kernel_config};
use super::super::super::{Seen, Watch, World};

type Values = Vec<(FieldRef, Option<Json>)>;

/// Something that leave was asked for.
#[derive(Clone, Debug)]
struct Shown {
    pid: ProcessId,
    target: Target,
    /// Of the bound fields, when it was shown.
    values: Values,
    /// What may be done, after a yes.
    allowed: Option<TargetHash>,
    granted: bool,
    lapsed: bool,
    used: u32,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    follow: Follow,
    /// What the events so far make of the state.
    kernel: Box<Kernel>,
    shown: BTreeMap<InterruptId, Shown>,
    /// By record: the use that was asked for as it was made.
    uses: BTreeMap<u64, Use>,
}

impl Default for Fresh {
    fn default() -> Self {
        let kernel = Kernel::new(kernel_config()).expect("the configuration is legal");
        Self {
            follow: Follow::default(),
            kernel: Box::new(kernel),
            shown: BTreeMap::new(),
            uses: BTreeMap::new(),
        }
    }
}

impl Watch<Clerk> for Fresh {
    fn property(&self) -> &'static str {
        "K441"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        if let Seen::Handled { request, before, after } = seen
            && let CommandBody::ConsumeApproval(wanted) = &request.body
        {
            let made = before.0 + 1..=after.0;
            self.uses.extend(made.map(|record| (record, wanted.as_ref().clone())));
        }
        let mut looked = false;
        let certain = self.follow.see(seen);
        let first = (self.follow.record() + 1).saturating_sub(certain.len() as u64);
        for (record, events) in (first..).zip(certain) {
            for event in events.iter() {
                looked |= self.event(record, event)?;
                self.kernel.apply(event);
            }
        }
        match seen {
            Seen::Recovered(found) => drop(self.uses.split_off(&(found.record + 1))),
            _ => self.uses = self.uses.split_off(&self.follow.record()),
        }
        Ok(looked)
    }
}

impl Fresh {
    fn event(&mut self, record: u64, event: &Event) -> Result<bool, String> {
        match &event.body {
            Body::Interrupt { event } => self.interrupt(event),
            Body::Approval { event } => self.approval(record, event),
            _ => Ok(false),
        }
    }

    fn interrupt(&mut self, event: &InterruptEvent) -> Result<bool, String> {
        match event {
            InterruptEvent::Raised { interrupt } => self.raised(interrupt),
            InterruptEvent::Resolved { id, response, accepted: true, .. } => {
                if let Some(shown) = self.shown.get_mut(id) {
                    let modified = response.decision == Some(ReviewDecision::Modify);
                    let data = response.data.as_ref().filter(|_| modified);
                    shown.allowed = Some(match data {
                        None => shown.target.hash,
                        Some(data) => shown.hash(&shown.target.action, data, &shown.values),
                    });
                }
                Ok(false)
            }
            InterruptEvent::Removed { ids } => {
                ids.iter().for_each(|id| drop(self.shown.remove(id)));
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// What is shown is hashed with what its fields are now, or, handed on, were at first (K164).
    fn raised(&mut self, interrupt: &Interrupt) -> Result<bool, String> {
        let Some(target) = interrupt.target.as_deref().cloned() else {
            return Ok(false);
        };
        let before = interrupt.escalated_from.as_ref().and_then(|from| self.shown.get(from));
        let values = match before {
            Some(before) => before.values.clone(),
            None => self.values(&interrupt.pid, &target.binds),
        };
        let shown = Shown {
            pid: interrupt.pid.clone(),
            target,
            values,
            allowed: None,
            granted: false,
            lapsed: false,
            used: 0,
        };
        let (action, params) = (&shown.target.action, &shown.target.params);
        if shown.hash(action, params, &shown.values) != shown.target.hash {
            return Err(format!("{} does not show what it hashes", interrupt.id));
        }
        self.shown.insert(interrupt.id.clone(), shown);
        Ok(false)
    }

    fn values(&self, pid: &ProcessId, binds: &[FieldRef]) -> Values {
        let state = self.kernel.state();
        let session = state.session(pid);
        let fields = session.and_then(|session| {
            let envelope = state.envelope(&session.envelope)?;
            Some(Fields { envelope, session })
        });
        let value = |field: &FieldRef| field.find(fields.as_ref()?).cloned();
        binds.iter().map(|field| (field.clone(), value(field))).collect()
    }

    fn approval(&mut self, record: u64, event: &ApprovalEvent) -> Result<bool, String> {
        let (ApprovalEvent::Granted { interrupt: id, .. }
        | ApprovalEvent::Consumed { interrupt: id, .. }
        | ApprovalEvent::Lapsed { interrupt: id, .. }) = event;
        let wanted = self.uses.get(&record).filter(|wanted| wanted.interrupt == *id).cloned();
        let now = self.shown.get(id).map(|shown| self.values(&shown.pid, &shown.target.binds));
        let (Some(shown), Some(now)) = (self.shown.get_mut(id), now) else {
            return Err(format!("leave for what nobody was shown: {event:?}"));
        };
        match event {
            ApprovalEvent::Granted { hash, .. } => {
                let right = shown.allowed == Some(*hash) && !shown.granted;
                shown.granted = true;
                match right {
                    true => Ok(false),
                    false => Err(format!("{id} gives leave for something else, or twice")),
                }
            }
            ApprovalEvent::Lapsed { .. } => {
                shown.lapsed = true;
                Ok(false)
            }
            ApprovalEvent::Consumed { use_id, .. } => {
                shown.used += 1;
                if shown.used > 1 || !shown.granted || shown.lapsed {
                    return Err(format!("{use_id} used the leave of {id}: {shown:?}"));
                }
                let Some(wanted) = wanted.filter(|wanted| wanted.use_id == *use_id) else {
                    return Err(format!("nobody asked to use the leave of {id} as {use_id}"));
                };
                let done = shown.hash(&wanted.action, &wanted.params, &now);
                match shown.allowed == Some(done) {
                    true => Ok(true),
                    false => Err(format!("{use_id} is not what was shown for {id}: {wanted:?}")),
                }
            }
        }
    }
}

impl Shown {
    fn hash(&self, action: &str, params: &Json, values: &Values) -> TargetHash {
        target_hash(&self.pid, action, params, values)
    }
}

/// Where bound fields are found.
struct Fields<'a> {
    envelope: &'a Envelope,
    session: &'a Session,
}

impl Scope for Fields<'_> {
    fn current(&self) -> Option<&Json> {
        self.session.newest_output(self.envelope).map(|(_, output)| output)
    }

    fn output(&self, key: &OutputKey) -> Option<&Json> {
        self.envelope.outputs.get(key).map(|output| &output.value)
    }

    fn state(&self, key: &str) -> Option<&Json> {
        self.envelope.state.get(key)
    }

    fn meta(&self, key: &str) -> Option<&Json> {
        self.envelope.metadata.get(key)
    }

    fn interrupt(&self) -> Option<&Json> {
        self.session.response.as_ref()
    }
}
