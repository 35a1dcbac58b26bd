//! What is seen of a kernel besides replies: answers to questions, and what is done because of
//! events (K5, K445). Those who break it do it too early.

use machines::Instant;
use machines::keeper::io::{self as keeper, Call};
use machines::kernel::dispatch::effect::Effect;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::event::{Body, Event};
use machines::kernel::principal::Principal;
use machines::kernel::query::Query;
use machines::kernel::services::event::ServiceEvent;

use super::{Clerk, Output};
use crate::keeper::io::Number;

/// Somebody wants to be told something.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who.
    pub by: Principal,
    /// What.
    pub query: Query,
}

impl Clerk {
    /// Hands on an effect. It comes behind its events: one that follows from none of those that
    /// were told last follows from nothing that anybody may know.
    pub(super) fn has_effect(&mut self, effect: &Effect) {
        let (first, events) = &self.told;
        let follows = events.iter().any(|event| may_follow(effect, event));
        let last = (*first + events.len() as u64).saturating_sub(1);
        let event = if follows { last } else { 0 };
        self.outputs.push_back(Output::Effect { what: in_words(effect), event });
    }

    /// Answers a question from a copy whose disk does everything at once.
    pub(super) fn tell_ahead(
        &mut self,
        now: Instant,
        wall_ms: u64,
        call: Number,
        Asked { by, query }: &Asked,
    ) {
        let (by, query) = (Box::new(by.clone()), Box::new(query.clone()));
        let input = keeper::Input::Query { call: Call(call), by, query };
        let is_it =
            |told: &super::Told| matches!(told, Output::Told { call: done, .. } if *done == call);
        if let Some(told) = self.ahead_of(now, wall_ms, input, is_it).pop() {
            self.answered.push(Call(call));
            self.outputs.push_back(told);
        }
    }

    /// Does at once what follows from events that are not durable, as a copy does whose disk does
    /// everything at once.
    pub(super) fn act_ahead(&mut self, now: Instant, wall_ms: u64) {
        let is_one = |told: &super::Told| matches!(told, Output::Effect { .. });
        let early = self.ahead_of(now, wall_ms, keeper::Input::Tick, is_one);
        self.outputs.extend(early);
    }
}

fn in_words(effect: &Effect) -> String {
    match effect {
        Effect::HandlerCall { service, task } => {
            format!("a call of {service} under {}", task.lease)
        }
        Effect::TaskReady { service } => format!("word of work for {service}"),
        Effect::DispatchEnded { dispatch } => format!("word of the end of {dispatch}"),
    }
}

/// Says whether an effect can come of an event. Whose service a dispatch was of is not said when it
/// ends: then there may be work for any.
fn may_follow(effect: &Effect, event: &Event) -> bool {
    match (effect, &event.body) {
        (Effect::HandlerCall { task, .. }, Body::Dispatch { event }) => {
            matches!(event, DispatchEvent::Started { lease, .. } if *lease == task.lease)
        }
        (Effect::HandlerCall { task, .. }, Body::Service { event }) => {
            matches!(event, ServiceEvent::HandlerBound { again, .. } if again.contains(&task.lease))
        }
        (Effect::DispatchEnded { dispatch }, Body::Dispatch { event }) => {
            matches!(event, DispatchEvent::Finished { dispatch: ended, .. } if ended == dispatch)
        }
        (Effect::TaskReady { service: ready }, Body::Dispatch { event }) => match event {
            DispatchEvent::Queued { service, .. } | DispatchEvent::Requeued { service, .. } => {
                service == ready
            }
            DispatchEvent::RetryScheduled { .. } | DispatchEvent::Finished { .. } => true,
            DispatchEvent::Started { .. }
            | DispatchEvent::Renewed { .. }
            | DispatchEvent::Removed { .. } => false,
        },
        (Effect::TaskReady { service: ready }, Body::Service { event }) => {
            matches!(event, ServiceEvent::HealthChanged { service, .. } if service == ready)
        }
        (Effect::TaskReady { service }, Body::Slot { event }) => event.frees() == Some(service),
        (
            Effect::HandlerCall { .. } | Effect::TaskReady { .. } | Effect::DispatchEnded { .. },
            _,
        ) => false,
    }
}
