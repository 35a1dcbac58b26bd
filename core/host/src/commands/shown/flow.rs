//! What works its way through pipelines: envelopes, sessions, instructions, questions (13.3).

use std::collections::BTreeMap;

use machines::kernel::Time;
use machines::kernel::envelopes::{
    Envelope, GoalStage, PriorOutputs, ProcessingRecord, RecordedError,
};
use machines::kernel::ids::StageName;
use machines::kernel::interrupts::approval::Approval;
use machines::kernel::interrupts::interrupt::{Answer, Assignee, Interrupt, Origin};
use machines::kernel::json::document::Document;
use machines::kernel::query::envelope::EnvelopeView;
use machines::kernel::query::status::RequestStatus;
use machines::kernel::sessions::Failure;
use machines::kernel::sessions::instruction::{Instruction, InstructionBody};
use machines::kernel::sessions::task::AgentTask;
use machines::kernel::sessions::view::SessionState;
use serde_json::{Value, json};

use super::{hex, holder, joined, limit, metadata, plain, present, process, remaining, texts};

/// Shows all about a request (13.3: RequestStatus).
pub(super) fn request(of: &RequestStatus) -> Value {
    present(json!({
        "process": process(&of.process),
        "envelope": of.envelope.as_ref().map(envelope),
        "session": of.session.as_ref().map(session),
        "pending_interrupt": of.pending_interrupt.as_deref().map(interrupt),
        "remaining": remaining(&of.remaining),
    }))
}

/// Shows an envelope (13.3: Envelope).
pub(super) fn envelope(of: &EnvelopeView) -> Value {
    let EnvelopeView { id, envelope: held, bounds, interrupt: asked } = of;
    let names = present(json!({
        "envelope_id": id.as_str(),
        "request_id": held.request.as_str(),
        "user_id": held.user.as_str(),
        "session_id": held.session.as_str(),
        "cloned_from": held.cloned_from.as_ref().map(|id| id.as_str()),
        "version": held.version,
        "raw_input": &*held.raw_input,
        "received_at_ms": held.received_at.as_millis(),
        "created_at_ms": held.created_at.as_millis(),
        "updated_at_ms": held.updated_at.as_millis(),
        "metadata": metadata(&held.metadata),
    }));
    let views = present(json!({
        "llm_calls": bounds.used.amounts.llm_calls,
        "max_llm_calls": limit(bounds.max_llm_calls),
        "tool_calls": bounds.used.amounts.tool_calls,
        "agent_hops": bounds.used.agent_hops,
        "max_agent_hops": limit(bounds.max_agent_hops),
        "tokens_in": bounds.used.amounts.tokens_in,
        "tokens_out": bounds.used.amounts.tokens_out,
        "interrupt_pending": asked.is_some(),
        "interrupt": asked.as_deref().map(interrupt),
    }));
    joined([names, views, stages(held), goals(held), audit(held)])
}

/// What an envelope knows of its stages.
fn stages(of: &Envelope) -> Value {
    let names = |stages: &mut dyn Iterator<Item = &StageName>| -> Value {
        stages.map(|stage| Value::from(stage.as_str())).collect()
    };
    let visits: BTreeMap<&str, u64> =
        of.stage_visits.iter().map(|(stage, visits)| (stage.as_str(), *visits)).collect();
    let failed: BTreeMap<&str, &str> =
        of.failed_stages.iter().map(|(stage, error)| (stage.as_str(), &**error)).collect();
    let outputs: BTreeMap<&str, Value> =
        of.outputs.iter().map(|(key, output)| (key.as_str(), plain(&output.value))).collect();
    let ended = of.ended.as_ref();
    present(json!({
        "current_stage": of.current_stage.as_ref().map(|stage| stage.as_str()),
        "stage_order": names(&mut of.stage_order.iter()),
        "iteration": of.iteration,
        "max_iterations": limit(of.max_iterations),
        "stage_visits": visits,
        "active_stages": names(&mut of.active_stages.iter()),
        "completed_stages": names(&mut of.completed_stages.iter()),
        "failed_stages": failed,
        "parallel_mode": of.parallel_mode,
        "outputs": outputs,
        "state": metadata(&of.state),
        "terminated": ended.is_some(),
        "terminal_reason": ended.map(|ended| ended.reason.name()),
        "termination_message": ended.map(|ended| &*ended.message),
        "completed_at_ms": ended.map(|ended| ended.at.as_millis()),
    }))
}

fn goals(of: &Envelope) -> Value {
    let status: BTreeMap<&str, &str> =
        of.goal_status.iter().map(|(goal, status)| (goal.as_ref(), status.name())).collect();
    let stage = |stage: &GoalStage| {
        present(json!({
            "number": stage.number,
            "satisfied": texts(&stage.satisfied),
            "summary": &*stage.summary,
            "plan_id": stage.plan.as_deref(),
        }))
    };
    json!({
        "all_goals": texts(&of.all_goals),
        "remaining_goals": texts(&of.remaining_goals),
        "goal_status": status,
        "goal_stage_number": of.goal_stage_number,
        "max_goal_stages": of.max_goal_stages,
        "completed_goal_stages": of.completed_goal_stages.iter().map(stage).collect::<Value>(),
    })
}

/// What an envelope keeps for the record.
fn audit(of: &Envelope) -> Value {
    let prior = |prior: &PriorOutputs| {
        let outputs: BTreeMap<&str, Value> =
            prior.outputs.iter().map(|(key, value)| (key.as_str(), plain(value))).collect();
        json!({ "iteration": prior.iteration, "outputs": outputs })
    };
    json!({
        "history": of.history.iter().map(record).collect::<Value>(),
        "errors": of.errors.iter().map(recorded).collect::<Value>(),
        "prior_outputs": of.prior_outputs.iter().map(prior).collect::<Value>(),
        "loop_feedback": of.loop_feedback.iter().map(|text| &**text).collect::<Vec<_>>(),
        "dropped": {
            "history": of.history.dropped(),
            "errors": of.errors.dropped(),
            "prior_outputs": of.prior_outputs.dropped(),
            "loop_feedback": of.loop_feedback.dropped(),
        },
    })
}

fn record(of: &ProcessingRecord) -> Value {
    present(json!({
        "agent": of.agent.as_str(),
        "stage": of.stage.as_str(),
        "visit": of.visit,
        "try": of.try_number,
        "attempt_id": of.attempt.as_str(),
        "started_at_ms": of.started_at.as_millis(),
        "completed_at_ms": of.completed_at.map(Time::as_millis),
        "duration_ms": of.duration_ms,
        "status": of.status.name(),
        "error": of.error.as_deref(),
        "llm_calls": of.llm_calls,
    }))
}

fn recorded(of: &RecordedError) -> Value {
    present(json!({
        "agent": of.agent.as_ref().map(|agent| agent.as_str()),
        "stage": of.stage.as_ref().map(|stage| stage.as_str()),
        "error": &*of.error,
        "error_kind": of.error_kind.map(|kind| kind.name()),
        "at_ms": of.at.as_millis(),
    }))
}

/// Shows a session (13.3: SessionState). Its envelope is told by its id.
pub(super) fn session(of: &SessionState) -> Value {
    let edge = |(edge, count): (&(StageName, StageName), &u64)| {
        let (from, to) = (edge.0.as_str(), edge.1.as_str());
        json!({ "from": from, "to": to, "count": count })
    };
    let live = of.live.iter().map(|(id, attempt)| {
        present(json!({
            "attempt_id": id.as_str(),
            "stage": attempt.stage.as_str(),
            "holder": holder(&attempt.holder),
            "deadline_at_ms": attempt.deadline.map(Time::as_millis),
        }))
    });
    let group = of.group.as_ref();
    let group =
        group.map(|group| json!({ "group_id": group.id.as_str(), "join": group.join.name() }));
    let visits: BTreeMap<&str, u64> =
        of.visits.iter().map(|(stage, visits)| (stage.as_str(), *visits)).collect();
    let ended = of.ended.as_ref();
    present(json!({
        "pid": of.pid.as_str(),
        "pipeline": plain(&of.pipeline.canonical()),
        "envelope_id": of.envelope.as_str(),
        "current_stage": of.position.as_str(),
        "stage_order": of.stage_order.iter().map(|stage| stage.as_str()).collect::<Vec<_>>(),
        "edges": of.edges.iter().map(edge).collect::<Value>(),
        "visits": visits,
        "iteration": of.iteration,
        "live": live.collect::<Value>(),
        "group": group,
        "terminated": ended.is_some(),
        "terminal_reason": ended.map(|ended| ended.reason.name()),
        "outcome": ended.map(|ended| ended.reason.outcome().name()),
        "message": ended.map(|ended| &*ended.message),
        "last_activity_at_ms": of.last_activity_at.as_millis(),
    }))
}

/// Shows what to do now (13.3: Instruction).
pub(super) fn instruction(of: &Instruction) -> Value {
    let kind = of.body.kind().name();
    let head = json!({ "kind": kind, "pid": of.pid.as_str(), "as_of": of.as_of });
    let body = match &of.body {
        InstructionBody::RunAgent(one) => json!({ "tasks": [task(one)] }),
        InstructionBody::RunAgents(tasks) => {
            json!({ "tasks": tasks.iter().map(task).collect::<Value>() })
        }
        InstructionBody::Terminate { reason, outcome, message } => json!({
            "terminal_reason": reason.name(),
            "outcome": outcome.name(),
            "message": &**message,
        }),
        InstructionBody::WaitInterrupt { interrupt: asked } => {
            present(json!({ "interrupt": asked.as_deref().map(interrupt) }))
        }
        InstructionBody::WaitParallel { outstanding, until } => present(json!({
            "outstanding": outstanding.iter().map(|stage| stage.as_str()).collect::<Vec<_>>(),
            "until_at_ms": until.map(Time::as_millis),
        })),
        InstructionBody::Wait { reason, until } => present(json!({
            "wait_reason": reason.name(),
            "until_at_ms": until.map(Time::as_millis),
        })),
    };
    joined([head, body])
}

/// Shows what an agent is to do (13.3: AgentTask).
fn task(of: &AgentTask) -> Value {
    let names = present(json!({
        "attempt_id": of.attempt.as_str(),
        "stage": of.stage.as_str(),
        "agent_name": of.agent.as_str(),
        "agent_config": plain(&of.config.written()),
        "visit": of.visit,
        "try_number": of.try_number,
        "branch": of.branch,
        "deadline_at_ms": of.deadline.map(Time::as_millis),
        "lease": of.lease.as_ref().map(|lease| lease.as_str()),
        "lease_until_at_ms": of.lease_until.map(Time::as_millis),
        "envelope": plain(&of.context),
    }));
    let rest = present(json!({
        "output_schema": of.output_schema.as_ref().map(plain),
        "required_output_fields": texts(&of.required_output_fields),
        "router_targets": plain(&of.router_targets.written()),
        "allowed_tools": of.allowed_tools.as_deref().map(texts),
        "max_tool_rounds": of.max_tool_rounds,
        "interrupt_id": of.interrupt.as_ref().map(|id| id.as_str()),
        "interrupt_response": of.interrupt_response.as_ref().map(plain),
        "interrupt_expired": of.interrupt_expired,
        "approval": of.approval.as_ref().map(approval),
        "prior_error": of.prior_error.as_ref().map(failure),
    }));
    joined([names, rest])
}

fn failure(of: &Failure) -> Value {
    json!({ "error_kind": of.kind.name(), "error": &*of.error })
}

/// Shows a question to a person (13.3: KernelInterrupt).
pub(super) fn interrupt(of: &Interrupt) -> Value {
    let assignee = |of: &Assignee| match of {
        Assignee::User { user } => user.to_string(),
        Assignee::Role { role } => format!("role:{}", role.name()),
    };
    let stage = match &of.origin {
        Origin::Stage { stage, .. } => Some(stage.as_str()),
        Origin::External | Origin::Kernel => None,
    };
    let question = present(json!({
        "id": of.id.as_str(),
        "kind": of.kind.name(),
        "status": of.status.name(),
        "pid": of.pid.as_str(),
        "request_id": of.request.as_str(),
        "user_id": of.user.as_str(),
        "session_id": of.session.as_str(),
        "envelope_id": of.envelope.as_ref().map(|id| id.as_str()),
        "question": of.question.as_deref(),
        "message": of.message.as_deref(),
        "data": of.data.as_ref().map(plain),
        "key": of.key.as_deref(),
        "origin_stage": stage,
        "trace_id": of.trace.as_deref(),
        "span_id": of.span.as_deref(),
    }));
    let target = of.target.as_ref().map(|target| {
        json!({
            "action": &*target.action,
            "params": plain(&target.params),
            "binds": plain(&target.binds.written()),
        })
    });
    let course = present(json!({
        "blocking": of.blocking,
        "auto_expire": of.auto_expire,
        "require_response": of.require_response,
        "on_expiry": of.on_expiry.name(),
        "assignee": of.assignee.as_ref().map(assignee),
        "escalate_to": of.escalate_to.as_ref().map(assignee),
        "escalated_from": of.escalated_from.as_ref().map(|id| id.as_str()),
        "target": target,
        "target_hash": of.target.as_ref().map(|target| hex(&target.hash)),
        "created_at_ms": of.created_at.as_millis(),
        "expires_at_ms": of.expires_at.map(Time::as_millis),
        "closed_at_ms": of.closed_at.map(Time::as_millis),
        "cancel_reason": of.cancel_reason.as_deref(),
        "response": of.answer.as_deref().map(response),
    }));
    joined([question, course])
}

/// Shows an answer (13.3: InterruptResponse).
fn response(of: &Answer) -> Value {
    let Answer { response: said, by, received_at } = of;
    present(json!({
        "text": said.text.as_deref(),
        "approved": said.approved,
        "decision": said.decision.map(|decision| decision.name()),
        "data": said.data.as_ref().map(plain),
        "target_hash": said.target_hash.map(|hash| hex(&hash)),
        "by": by.as_str(),
        "received_at_ms": received_at.as_millis(),
    }))
}

/// Shows leave to do one thing (13.3: Approval).
pub(super) fn approval(of: &Approval) -> Value {
    present(json!({
        "pid": of.pid.as_str(),
        "state": of.state.name(),
        "target_hash": hex(&of.hash),
        "granted_at_ms": of.granted_at.as_millis(),
        "until_at_ms": of.until.as_millis(),
        "used_by": of.used_by.as_ref().map(|used| used.as_str()),
    }))
}
