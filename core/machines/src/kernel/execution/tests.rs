use super::*;
use crate::kernel::CommandBody;
use crate::kernel::event::Event;
use crate::kernel::interrupts::interrupt::{NewInterrupt, Response};
use crate::kernel::names::InterruptKind;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::rig::pid;
use crate::kernel::sessions::rig::{Desk, agent, linear, pipeline};

/// Shows all that happened to `p`.
fn shown(desk: &Desk) -> Vec<ExecutionEvent> {
    let events = (1..).zip(&desk.rig.events);
    let own = events.filter(|(_, event)| event.subject.pid == Some(pid("p")));
    let numbered =
        own.map(|(number, event): (u64, &Event)| Numbered { number, event: event.clone() });
    numbered.filter_map(|numbered| ExecutionEvent::of(&numbered)).collect()
}

fn kinds(desk: &Desk) -> Vec<&'static str> {
    shown(desk).iter().map(|event| event.kind.name()).collect()
}

#[test]
fn a_line_of_stages_is_shown_to_its_end() {
    let mut desk = Desk::new(linear());
    desk.poll();
    desk.succeed("draft", "{'v': 1}");
    desk.succeed("edit", "{'v': 1}");
    let all = [
        "stage_started",
        "stage_completed",
        "stage_started",
        "stage_completed",
        "pipeline_completed",
    ];
    assert_eq!(kinds(&desk), all);
    let shown = shown(&desk);
    assert!(shown.windows(2).all(|pair| pair[0].event < pair[1].event), "K331");
    assert!(shown[0].attempt.is_some());
    assert_eq!(shown[0].stage.as_ref().unwrap().as_str(), "draft");
    let last = shown.last().unwrap();
    assert_eq!(last.terminal_reason, Some(TerminalReason::Completed));
    let ends: Vec<bool> = shown.iter().map(|event| event.kind.is_last()).collect();
    assert_eq!(ends, [false, false, false, false, true], "the last ends the stream, and no other");
}

#[test]
fn failures_retries_and_bounds_are_shown() {
    let retried = agent("a", "'retry': {'max_retries': 1, 'initial_backoff_ms': 5}");
    let mut desk = Desk::new(pipeline(&format!("{{'name': 'f', 'stages': [{retried}]}}")));
    desk.poll();
    desk.fail("a", ErrorKind::Tool);
    desk.rig.now = desk.rig.now.plus(10);
    desk.poll();
    desk.fail("a", ErrorKind::Tool);
    let all =
        ["stage_started", "retry_scheduled", "stage_started", "stage_failed", "pipeline_failed"];
    assert_eq!(kinds(&desk), all);
    let retry = shown(&desk).swap_remove(1).payload.to_string();
    assert!(retry.contains(r#""error":"it broke","error_kind":"Tool""#), "{retry}");

    let looped = agent("a", "'default_next': 'a'");
    let text = format!("{{'name': 'f', 'stages': [{looped}], 'max_iterations': 1}}");
    let mut desk = Desk::new(pipeline(&text));
    desk.poll();
    desk.succeed("a", "{}");
    desk.succeed("a", "{}");
    let last = shown(&desk).pop().unwrap();
    assert_eq!(last.kind, ExecutionEventType::BoundsExceeded);
    assert_eq!(last.terminal_reason, Some(TerminalReason::MaxIterationsExceeded));
}

#[test]
fn groups_questions_and_checkpoints_are_shown() {
    let rules = "[{'expr': {'op': 'Always'}, 'target': 'a'}, \
                  {'expr': {'op': 'Always'}, 'target': 'b'}]";
    let split = format!("{{'name': 'split', 'node_kind': 'Fork', 'routing': {rules}}}");
    let stages = [split, agent("a", ""), agent("b", "")].join(", ");
    let text = format!("{{'name': 'f', 'stages': [{stages}], 'checkpoints': true}}");
    let mut desk = Desk::new(pipeline(&text));
    desk.poll();
    assert_eq!(
        kinds(&desk),
        ["parallel_started", "stage_started", "stage_started", "checkpoint_created"]
    );
    let root = shown(&desk).pop().unwrap().payload.get("root").unwrap().to_string();
    assert_eq!(root.len(), 66, "{root}");
    let before = shown(&desk).len();

    let interrupt = Box::new(NewInterrupt::new(InterruptKind::Confirmation));
    desk.say(CommandBody::CreateInterrupt { pid: pid("p"), interrupt }).unwrap();
    let id = desk.rig.process("p").interrupts[0].clone();
    let response = Box::new(Response { approved: Some(true), ..Response::default() });
    desk.say(CommandBody::ResolveInterrupt { id: id.clone(), response }).unwrap();
    let asked = &shown(&desk)[before..];
    let told: Vec<&str> = asked.iter().map(|event| event.kind.name()).collect();
    assert_eq!(told, ["interrupt_raised", "interrupt_resolved"]);
    assert!(asked.iter().all(|event| {
        event.payload.get("interrupt_id").and_then(Json::as_str) == Some(id.as_str())
    }));

    desk.poll();
    desk.succeed("a", "{}");
    desk.succeed("b", "{}");
    assert!(kinds(&desk).contains(&"parallel_joined"));
    assert_eq!(kinds(&desk).pop(), Some("pipeline_completed"));
}
