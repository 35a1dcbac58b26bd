//! What the kernel answers, as JSON with the names of section 13: what commands have done, and what
//! queries are told.
//!
//! Times end in `_at_ms`, spans in `_ms`; a limit of −1 is unlimited, and what is left of one is
//! absent; hashes are hexadecimal digits. What is absent is left out.

mod flow;
mod node;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use machines::kernel::Time;
use machines::kernel::interrupts::interrupt::Interrupt;
use machines::kernel::json::number::Number;
use machines::kernel::json::{Json, View};
use machines::kernel::principal::Holder;
use machines::kernel::process::Metadata;
use machines::kernel::query::budget::{InferenceCheck, QuotaCheck, Remaining, ResourceUse};
use machines::kernel::query::view::ProcessControlBlock;
use machines::kernel::query::{Answer, Told};
use machines::kernel::quota::{Amounts, Limit, Quota, QuotaField, Resource, Usage};
use machines::kernel::reply::{Done, Reply};
use serde_json::{Map, Value, json};

/// Shows what a command has done.
pub(super) fn reply(reply: &Reply) -> Value {
    told(reply.as_of, done(&reply.done))
}

/// Shows what a query is told.
pub(super) fn answer(answer: &Answer) -> Value {
    told(answer.as_of, asked(&answer.told))
}

fn told(as_of: u64, told: Value) -> Value {
    joined([json!({ "as_of": as_of }), told])
}

fn done(done: &Done) -> Value {
    match done {
        Done::Nothing => json!({}),
        Done::Process(shown) => json!({ "process": process(shown) }),
        Done::Reserved { reservation, until, remaining: left } => present(json!({
            "reservation_id": reservation.as_str(),
            "until_at_ms": until.map(Time::as_millis),
            "remaining": remaining(left),
        })),
        Done::Closed { usage: used, remaining: left } => {
            json!({ "usage": usage(used), "remaining": remaining(left) })
        }
        Done::Recorded { usage: used, within_bounds, exceeded } => json!({
            "usage": usage(used),
            "within_bounds": within_bounds,
            "exceeded": exceeded,
        }),
        Done::Envelope { envelope, advanced } => {
            json!({ "envelope": flow::envelope(envelope), "advanced": advanced })
        }
        Done::Session(session) => json!({ "session": flow::session(session) }),
        Done::Instruction(told) => json!({ "instruction": flow::instruction(told) }),
        Done::Interrupt(asked) => json!({ "interrupt": flow::interrupt(asked) }),
        Done::Approval(given) => json!({ "approval": flow::approval(given) }),
        Done::Rate(result) => json!({ "result": node::rate(result) }),
        Done::Service(shown) => json!({ "info": node::service(shown) }),
        Done::Leased { lease, until } => {
            json!({ "lease": lease.as_str(), "until_at_ms": until.as_millis() })
        }
        Done::Dispatched { dispatch, response } => present(json!({
            "dispatch_id": dispatch.as_str(),
            "response": response.as_deref().map(node::response),
        })),
        Done::Tasks(tasks) => json!({ "tasks": tasks.iter().map(node::task).collect::<Value>() }),
        Done::Cleaned { cleaned, more } => {
            json!({ "removed": node::cleaned(cleaned), "more": more })
        }
        Done::Removed { count } => json!({ "removed": count }),
    }
}

fn asked(told: &Told) -> Value {
    match told {
        Told::Process(shown) => json!({ "process": process(shown) }),
        Told::Processes(page) => json!({
            "processes": page.processes.iter().map(process).collect::<Value>(),
            "next_page_token": page.next_page_token,
        }),
        Told::Counts(counts) => node::counts(counts),
        Told::QuotaCheck(check) => quota_check(check),
        Told::Use(used) => json!({ "usage": usage(used) }),
        Told::Quota(shown) => json!({ "quota": quota(shown) }),
        Told::Remaining(left) => json!({ "remaining": remaining(left) }),
        Told::Inference(InferenceCheck { allowed, reason }) => {
            json!({ "allowed": allowed, "reason": reason })
        }
        Told::Envelope(envelope) => json!({ "envelope": flow::envelope(envelope) }),
        Told::Bounds(bounds) => present(json!({
            "can_continue": bounds.can_continue,
            "terminal_reason": bounds.terminal_reason.map(|reason| reason.name()),
            "remaining": remaining(&bounds.remaining),
        })),
        Told::Status(status) => json!({ "status": node::status(status) }),
        Told::SystemUsage(used) => json!({ "usage": node::system_usage(used) }),
        Told::Request(status) => json!({ "status": flow::request(status) }),
        Told::Session(session) => json!({ "session": flow::session(session) }),
        Told::Interrupt(asked) => json!({ "interrupt": flow::interrupt(asked) }),
        Told::Pending(asked) => {
            let asked: Option<&Interrupt> = asked.as_deref();
            present(json!({ "interrupt": asked.map(flow::interrupt) }))
        }
        Told::Interrupts(page) => json!({
            "interrupts": page.interrupts.iter().map(flow::interrupt).collect::<Value>(),
            "next_page_token": page.next_page_token,
        }),
        Told::HasPending(pending) => json!({ "has_pending": pending }),
        Told::InterruptCounts(counts) => json!({ "interrupts": node::interrupt_counts(counts) }),
        Told::Rate(result) => json!({ "result": node::rate(result) }),
        Told::RateUsage(windows) => {
            json!({ "windows": windows.iter().map(node::window).collect::<Value>() })
        }
        Told::Service(shown) => json!({ "info": node::service(shown) }),
        Told::Services(shown) => {
            json!({ "services": shown.iter().map(node::service).collect::<Value>() })
        }
        Told::CanAccept(accepts) => json!({ "can_accept": accepts }),
        Told::ServiceStats(stats) => json!({ "stats": node::stats(stats) }),
        Told::Dispatch(shown) => json!({ "dispatch": node::dispatch(shown) }),
    }
}

/// Shows a process (13.3: ProcessControlBlock).
fn process(of: &ProcessControlBlock) -> Value {
    let names = present(json!({
        "pid": of.pid.as_str(),
        "request_id": of.request_id.as_str(),
        "user_id": of.user_id.as_str(),
        "session_id": of.session_id.as_str(),
        "state": of.state.name(),
        "priority": of.priority.name(),
        "driven": of.driven,
        "on_exhausted": of.on_exhausted.name(),
        "parent_pid": of.parent.as_ref().map(|pid| pid.as_str()),
        "child_pids": of.children.iter().map(|pid| pid.as_str()).collect::<Vec<_>>(),
        "pending_interrupt_ids":
            of.pending_interrupts.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "current_stage": of.current_stage.as_ref().map(|stage| stage.as_str()),
        "current_service": of.current_service.as_ref().map(|service| service.as_str()),
        "wait": of.wait.as_deref(),
        "terminal_reason": of.terminal_reason.map(|reason| reason.name()),
        "termination_message": of.termination_message.as_deref(),
    }));
    let block = of.block.as_ref().map(|block| {
        let until = block.until.map(Time::as_millis);
        present(json!({
            "reason": block.reason.name(), "text": &*block.text, "until_at_ms": until
        }))
    });
    let lease = of.run_lease.as_ref().map(|run| {
        json!({
            "lease": run.lease.as_str(),
            "holder": holder(&run.holder),
            "until_at_ms": run.until.as_millis(),
        })
    });
    let rest = present(json!({
        "quota": quota(&of.quota),
        "usage": usage(&of.usage),
        "created_at_ms": of.created_at.as_millis(),
        "started_at_ms": of.started_at.map(Time::as_millis),
        "completed_at_ms": of.completed_at.map(Time::as_millis),
        "last_scheduled_at_ms": of.last_scheduled_at.map(Time::as_millis),
        "ready_at_ms": of.ready_at.map(Time::as_millis),
        "block": block,
        "lease": lease,
        "metadata": metadata(&of.metadata),
    }));
    joined([names, rest])
}

fn quota_check(check: &QuotaCheck) -> Value {
    let exhausted: Vec<&str> = check.exhausted.iter().map(|resource| resource.name()).collect();
    json!({
        "within_bounds": check.within_bounds,
        "exceeded": check.exceeded,
        "exhausted": exhausted,
        "usage": usage(&check.usage),
        "quota": quota(&check.quota),
        "remaining": remaining(&check.remaining),
    })
}

fn quota(of: &Quota) -> Value {
    let field = |field: QuotaField| (field.name().to_owned(), limit(of.field(field)));
    Value::Object(QuotaField::ALL.into_iter().map(field).collect())
}

fn usage(of: &ResourceUse) -> Value {
    let more = json!({ "held": amounts(&of.held), "unreserved": amounts(&of.unreserved) });
    joined([used(&of.used), more])
}

fn used(of: &Usage) -> Value {
    let Usage { amounts: counted, agent_hops, iterations, elapsed_ms } = of;
    let rest =
        json!({ "agent_hops": agent_hops, "iterations": iterations, "elapsed_ms": elapsed_ms });
    joined([amounts(counted), rest])
}

fn amounts(of: &Amounts) -> Value {
    Value::Object(
        of.named().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect(),
    )
}

/// What is not limited is left out.
fn remaining(of: &Remaining) -> Value {
    let left = |resource: Resource| {
        let name = match resource {
            Resource::ElapsedMs => "time_ms",
            Resource::LlmCalls
            | Resource::ToolCalls
            | Resource::AgentHops
            | Resource::Iterations
            | Resource::TokensIn
            | Resource::TokensOut
            | Resource::ContextTokens
            | Resource::InferenceRequests
            | Resource::InferenceInputChars => resource.name(),
        };
        Some((name.to_owned(), of.of(resource)?.into()))
    };
    Value::Object(Resource::ALL.into_iter().filter_map(left).collect())
}

fn limit(of: Limit) -> Value {
    of.most().map_or(json!(-1), Value::from)
}

/// A user's worker: `alice/w1`.
fn holder(of: &Holder) -> String {
    format!("{}/{}", of.user, of.worker)
}

fn metadata(of: &Metadata) -> Value {
    Value::Object(of.iter().map(|(key, value)| (key.to_string(), plain(value))).collect())
}

fn texts(texts: &[Arc<str>]) -> Vec<&str> {
    texts.iter().map(|text| &**text).collect()
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Shows JSON of the kernel, however deep.
pub(crate) fn plain(json: &Json) -> Value {
    match json.view() {
        View::Null => Value::Null,
        View::Bool(value) => Value::Bool(value),
        View::Number(value) => number(value),
        View::Text(text) => Value::from(text.as_ref()),
        View::List(items) => items.iter().map(plain).collect(),
        View::Object(object) => {
            let entry = |(key, value): (&Arc<str>, &Json)| (key.to_string(), plain(value));
            Value::Object(object.iter().map(entry).collect())
        }
    }
}

fn number(number: Number) -> Value {
    match (number.as_i64(), number.as_u64()) {
        (Some(value), _) => value.into(),
        (None, Some(value)) => value.into(),
        (None, None) => number.to_string().parse::<f64>().map_or(Value::Null, Value::from),
    }
}

/// Leaves out what is absent.
fn present(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            value
        }
    }
}

/// Makes one object of several.
fn joined<const N: usize>(parts: [Value; N]) -> Value {
    let mut all = Map::new();
    for part in parts {
        if let Value::Object(fields) = part {
            all.extend(fields);
        }
    }
    Value::Object(all)
}
