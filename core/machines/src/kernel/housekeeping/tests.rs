//! Unit tests of housekeeping: what goes when, and how a node drains and stops.

use super::*;
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::rig::{dispatch, done, queued};
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::names::InterruptKind;
use crate::kernel::rig::{Rig, calls, operator, pid, reserve, submit, told, user};
use crate::kernel::sessions::rig::{Desk, linear};
use crate::kernel::{CommandBody, Kernel};

const HOUR: Millis = 3_600_000;

fn end(name: &str) -> CommandBody {
    CommandBody::Terminate { pid: pid(name), message: String::new(), force: true }
}

fn new(name: &str) -> CommandBody {
    CommandBody::Submit(Box::new(submit(name)))
}

fn drain(deadline_ms: Option<Millis>) -> CommandBody {
    CommandBody::Drain { deadline_ms }
}

fn shutdown(mode: StopMode) -> CommandBody {
    CommandBody::Shutdown { mode, deadline_ms: None }
}

fn stopped(rig: &Rig) -> Option<(bool, bool)> {
    rig.events.iter().find_map(|event| {
        if let Body::Kernel { event: KernelEvent::Stopped { preserve, clean } } = &event.body {
            return Some((*preserve, *clean));
        }
        None
    })
}

/// A process, and a try that is live, so that the node is not at rest.
fn running() -> Rig {
    let mut rig = Rig::served(1);
    rig.ready(&user("ann"), submit("p"));
    rig.work(dispatch(queued("d", "q")));
    assert_eq!(rig.tasks(1).len(), 1);
    rig
}

#[test]
fn cleanup_comes_at_the_first_full_interval_at_which_something_is_due() {
    let mut rig = Rig::new();
    let start = rig.now;
    assert_eq!(rig.kernel.next_deadline(), None, "of a node with nothing in it nothing is due");
    rig.say(&user("ann"), new("p")).unwrap();
    rig.pass(1);
    rig.say(&user("ann"), end("p")).unwrap();
    let due = start.plus(HOUR + 300_000);
    assert_eq!(rig.kernel.next_deadline(), Some(due), "K361: kept an hour since 1 ms after it");
    rig.pass(HOUR + 299_998);
    assert_eq!(rig.state("p"), ProcessState::Terminated);
    rig.pass(1);
    assert_eq!(rig.state("p"), ProcessState::Zombie, "K360");
    rig.pass(25 * HOUR);
    assert_eq!(rig.kernel.next_deadline(), None);
    assert!(rig.kernel.state().processes.is_empty());
}

#[test]
fn cleanup_by_command_removes_what_is_due_and_nothing_else() {
    let mut config = KernelConfig::new();
    config.cleanup_interval_ms = 1_000 * HOUR;
    let mut rig = Rig::with(config);
    let (ann, op) = (user("ann"), operator());
    assert_eq!(
        told(rig.say(&ann, CommandBody::Cleanup)),
        "permission_denied: only operators do this"
    );
    for name in ["a", "b", "live"] {
        rig.say(&ann, new(name)).unwrap();
    }
    let user = ann.user.clone();
    let endpoint = crate::kernel::ids::Endpoint::whole();
    let check = CommandBody::CheckRateLimit { user, endpoint, record: true };
    rig.say(&ann, check).unwrap();
    rig.say(&ann, end("b")).unwrap();
    rig.pass(1);
    rig.say(&ann, end("a")).unwrap();
    rig.pass(HOUR - 1);
    assert!(rig.kernel.state().is_cleanup_due(rig.now));
    let cleaned = Cleaned::of(&rig.say(&op, CommandBody::Cleanup).unwrap());
    assert_eq!(cleaned, Cleaned { buried: 1, ..Cleaned::default() }, "a has a millisecond left");
    assert!(!rig.kernel.state().is_cleanup_due(rig.now), "K361: whether more is due");
    assert_eq!(rig.say(&op, CommandBody::Cleanup), Ok(vec![]));
    rig.pass(25 * HOUR);
    let cleaned = Cleaned::of(&rig.say(&op, CommandBody::Cleanup).unwrap());
    assert_eq!(cleaned, Cleaned { buried: 1, processes: 2, rates: 1, ..Cleaned::default() });
    assert_eq!(cleaned.total(), 4);
    rig.say(&op, CommandBody::Cleanup).unwrap();
    assert_eq!(rig.state("live"), ProcessState::New, "a live process is never touched");
    assert_eq!(rig.kernel.state().processes.len(), 1);
}

#[test]
fn one_decision_removes_a_thousand_and_says_that_more_is_due() {
    let mut config = KernelConfig::new();
    config.cleanup_interval_ms = 1_000 * HOUR;
    config.retention.zombie_ms = 1_000 * HOUR;
    let mut kernel = Kernel::new(config.clone()).unwrap();
    let mut rig = Rig::with(config);
    let made = 1_500;
    // By hand: the rig compares much after every command.
    let mut nonce = 0_u128;
    let mut say = |kernel: &mut Kernel, at: Time, by, body| {
        nonce += 1;
        let command = crate::kernel::Command { by, worker: None, rate: None, body };
        kernel.execute(crate::kernel::At { now: at, nonce: nonce.to_be_bytes() }, &command)
    };
    for nth in 0..made {
        say(&mut kernel, rig.now, user("ann"), new(&format!("p{nth:04}"))).unwrap();
    }
    // The last ends first.
    for nth in (0..made).rev() {
        rig.now = rig.now.plus(1);
        say(&mut kernel, rig.now, user("ann"), end(&format!("p{nth:04}"))).unwrap();
    }
    let at = rig.now.plus(HOUR);
    let events = say(&mut kernel, at, operator(), CommandBody::Cleanup).unwrap();
    assert_eq!(Cleaned::of(&events).buried, 1_000, "K361");
    let first = events.first().and_then(|event| event.subject.pid.clone());
    assert_eq!(first, Some(pid("p1499")), "oldest first");
    assert!(kernel.state().is_cleanup_due(at));
    let events = say(&mut kernel, at, operator(), CommandBody::Cleanup).unwrap();
    assert_eq!(Cleaned::of(&events).buried, 500);
    assert!(!kernel.state().is_cleanup_due(at));
}

#[test]
fn a_draining_node_takes_on_nothing_new_and_settles_the_rest() {
    let mut rig = running();
    let (ann, op) = (user("ann"), operator());
    rig.say(&ann, reserve("p", "r", calls(1))).unwrap();
    assert_eq!(told(rig.say(&ann, drain(None))), "permission_denied: only operators do this");
    assert_eq!(
        told(rig.say(&op, drain(Some(0)))),
        "bad_value: deadline_ms: 0 is not in 1..=2592000000"
    );
    let refused = "too_large: deadline_ms: 2592000001, at most 2592000000";
    assert_eq!(told(rig.say(&op, drain(Some(2_592_000_001)))), refused, "K25");
    assert_eq!(rig.say(&op, drain(None)).unwrap()[0].body.kind(), "kernel.draining");
    let until = rig.now.plus(30_000);
    assert_eq!(rig.kernel.state().drains_until(), Some(until), "K362: drain_ms");
    assert_eq!(rig.say(&op, drain(None)), Ok(vec![]), "it drains already");
    assert_eq!(told(rig.say(&ann, new("q"))), "draining: node is draining", "K410");
    let mut under = submit("q");
    under.parent = Some(pid("p"));
    let under = CommandBody::Submit(Box::new(under));
    let refused = "permission_denied: process p belongs to another user";
    assert_eq!(told(rig.say(&user("bob"), under)), refused, "K27: access comes first");
    assert_eq!(rig.say(&ann, new("p")), Ok(vec![]), "a repeat takes on nothing new (K6)");
    let settle = crate::kernel::rig::settle("p", "r", calls(1));
    assert!(rig.say(&ann, settle).is_ok(), "K362: settlements go on");
    rig.pass(40_000);
    assert_eq!(stopped(&rig), None, "a drain alone stops nothing");
    rig.say(&op, drain(Some(5))).unwrap();
    assert_eq!(rig.kernel.state().drains_until(), Some(rig.now.plus(5)));
}

/// K362, K363: the deadline of a drain is no deadline of a stop that nobody had asked for.
#[test]
fn a_shutdown_after_a_drain_has_its_own_time() {
    let mut rig = running();
    rig.say(&operator(), drain(None)).unwrap();
    rig.pass(10_000);
    rig.say(&operator(), shutdown(StopMode::Preserve)).unwrap();
    let until = rig.now.plus(30_000);
    assert_eq!(rig.kernel.state().drains_until(), Some(until));
    rig.pass(5_000);
    assert_eq!(rig.say(&operator(), shutdown(StopMode::Preserve)), Ok(vec![]), "a repeat");
    assert_eq!((stopped(&rig), rig.kernel.state().drains_until()), (None, Some(until)));
}

#[test]
fn a_node_at_rest_stops_at_once_and_preserves_every_process() {
    let mut rig = Rig::new();
    rig.ready(&user("ann"), submit("p"));
    let refused = "permission_denied: only operators do this";
    assert_eq!(told(rig.say(&user("ann"), shutdown(StopMode::Preserve))), refused);
    let before = rig.events.len();
    rig.say(&operator(), shutdown(StopMode::Preserve)).unwrap();
    assert_eq!(rig.kinds(before), ["kernel.draining", "kernel.stopped"], "K363");
    assert_eq!(stopped(&rig), Some((true, true)));
    assert_eq!(rig.state("p"), ProcessState::Ready);
    assert!(rig.kernel.state().is_stopped());
    assert_eq!(rig.say(&operator(), CommandBody::Stop { mode: StopMode::Terminate }), Ok(vec![]));
    let config = Box::new(KernelConfig::new());
    let node = crate::kernel::principal::Principal::node();
    rig.say(&node, CommandBody::Start { config }).unwrap();
    assert!(!rig.kernel.state().is_stopped());
    assert!(rig.say(&user("ann"), new("q")).is_ok(), "K11: it serves again");
}

#[test]
fn the_deadline_stops_a_node_that_is_not_at_rest() {
    let mut rig = running();
    assert!(!rig.kernel.state().at_rest());
    let before = rig.events.len();
    let (mode, deadline_ms) = (StopMode::Terminate, Some(20_000));
    rig.say(&operator(), CommandBody::Shutdown { mode, deadline_ms }).unwrap();
    assert_eq!(rig.kinds(before), ["kernel.draining"]);
    rig.pass(19_999);
    assert_eq!(stopped(&rig), None);
    assert_eq!(rig.state("p"), ProcessState::Ready);
    rig.pass(1);
    assert_eq!(stopped(&rig), Some((false, false)), "K363: not clean");
    let process = rig.process("p");
    assert_eq!(process.terminal_reason, Some(TerminalReason::KernelShutdown), "K363");
    rig.pass(60_000);
    assert_eq!(rig.kinds(before).iter().filter(|kind| **kind == "kernel.stopped").count(), 1);
}

#[test]
fn the_driver_stops_a_node_that_has_come_to_rest() {
    let mut rig = running();
    rig.say(&operator(), shutdown(StopMode::Terminate)).unwrap();
    assert!(!rig.kernel.state().at_rest());
    let lease = rig.lease("d");
    rig.work(done(&lease, "x"));
    assert!(rig.kernel.state().at_rest());
    rig.say(&operator(), CommandBody::Stop { mode: StopMode::Terminate }).unwrap();
    assert_eq!(stopped(&rig), Some((false, true)), "K363: clean");
    assert_eq!(rig.state("p"), ProcessState::Terminated);
}

#[test]
fn a_second_signal_stops_at_once_and_preserves_what_runs() {
    let mut rig = running();
    rig.say(&operator(), shutdown(StopMode::Preserve)).unwrap();
    rig.say(&operator(), CommandBody::Stop { mode: StopMode::Preserve }).unwrap();
    assert_eq!(stopped(&rig), Some((true, false)), "K363");
    assert_eq!((rig.state("p"), rig.stage("d")), (ProcessState::Ready, "running"));
}

#[test]
fn a_live_attempt_is_waited_for_and_its_report_is_taken() {
    let mut desk = Desk::new(linear());
    assert!(desk.rig.kernel.state().at_rest(), "a session without an attempt is at rest");
    desk.poll();
    assert_eq!(desk.rig.kernel.state().live_work(), 1);
    desk.rig.say(&operator(), shutdown(StopMode::Preserve)).unwrap();
    assert_eq!(stopped(&desk.rig), None, "K363");
    let report = desk.done("draft", "{}");
    desk.report(&report);
    assert!(desk.rig.kernel.state().at_rest(), "K362: the report is taken, nothing is issued");
    desk.rig.say(&operator(), CommandBody::Stop { mode: StopMode::Preserve }).unwrap();
    assert_eq!(stopped(&desk.rig), Some((true, true)));
}

#[test]
fn a_long_stop_takes_several_decisions_and_ends_everything() {
    let mut kernel = Kernel::new(KernelConfig::new()).unwrap();
    let node = crate::kernel::principal::Principal::node();
    let mut nonce = 0_u128;
    let now = Time::from_millis(5);
    let mut say = |kernel: &mut Kernel, by, body| {
        nonce += 1;
        let command = crate::kernel::Command { by, worker: None, rate: None, body };
        kernel.execute(crate::kernel::At { now, nonce: nonce.to_be_bytes() }, &command).unwrap()
    };
    let config = Box::new(KernelConfig::new());
    say(&mut kernel, node.clone(), CommandBody::Start { config });
    for nth in 0..2_500 {
        say(&mut kernel, user("ann"), new(&format!("p{nth:04}")));
    }
    say(&mut kernel, operator(), shutdown(StopMode::Terminate));
    let mut decisions = 1;
    while kernel.next_deadline().is_some_and(|due| due <= now) {
        assert!(!kernel.state().is_stopped(), "stopped is the last event");
        say(&mut kernel, node.clone(), CommandBody::Tick);
        decisions += 1;
    }
    assert_eq!(decisions, 3);
    assert!(kernel.state().is_stopped());
    assert_eq!(kernel.state().tally.of(ProcessState::Terminated), 2_500);
}

#[test]
fn the_refusal_of_a_failed_journal_is_not_durable() {
    let text = "not_durable: the journal has failed: nothing more is decided";
    assert_eq!(not_durable().to_string(), text, "K365");
}

#[test]
fn other_retention_at_the_next_start_holds_for_what_is_over_already() {
    let mut rig = Rig::new();
    rig.say(&user("ann"), new("p")).unwrap();
    rig.say(&user("ann"), end("p")).unwrap();
    let mut config = KernelConfig::new();
    config.retention.terminated_ms = 1;
    let node = crate::kernel::principal::Principal::node();
    rig.say(&node, CommandBody::Start { config: Box::new(config) }).unwrap();
    rig.pass(300_000);
    assert_eq!(rig.state("p"), ProcessState::Zombie, "K11, K360");
}

#[test]
fn a_closed_interrupt_goes_a_day_after_it_was_closed() {
    let mut rig = Rig::new();
    let ann = user("ann");
    rig.ready(&ann, submit("p"));
    let interrupt = Box::new(NewInterrupt::new(InterruptKind::Checkpoint));
    rig.say(&ann, CommandBody::CreateInterrupt { pid: pid("p"), interrupt }).unwrap();
    rig.pass(100 * HOUR);
    assert_eq!(rig.kernel.state().interrupts.len(), 1, "what is pending is never touched (K361)");
    let id = rig.kernel.state().interrupts.first().map(|(id, _)| id.clone()).unwrap();
    rig.say(&ann, CommandBody::CancelInterrupt { id, reason: String::new() }).unwrap();
    rig.pass(24 * HOUR - 1);
    assert_eq!(rig.kernel.state().interrupts.len(), 1);
    rig.pass(1);
    assert_eq!(Cleaned::of(&rig.events).interrupts, 1, "K175, K360");
    assert!(rig.kernel.state().interrupts.is_empty());
}
