//! Goal: nobody hears of a decision that a crash could take back, and all others survive.
//! Method: a keeper on a disk in memory, whose operations complete when the test says so.

mod driven;

use std::time::Duration;

use super::KeeperParams;
use super::io::{File, Folder, Input};
use super::rig::{Disk, Rig, params};
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::effect::Effect;
use crate::kernel::dispatch::{ServiceRequest, Target};
use crate::kernel::housekeeping::StopMode;
use crate::kernel::ids::{DispatchId, ProcessId, ServiceName, ServiceType, UserId};
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::json::Json;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{ExpiryPolicy, InterruptKind, ProcessState, TerminalReason};
use crate::kernel::principal::{Principal, Role};
use crate::kernel::process::Metadata;
use crate::kernel::query::Query;
use crate::kernel::quota::{Limit, QuotaField};
use crate::kernel::rig::submit;
use crate::kernel::services::{ServiceInfo, ServiceMode};
use crate::kernel::{Code, CommandBody};
use crate::ledger::journal::io::Refused;
use crate::ledger::segment;

fn alice() -> Principal {
    Principal::new(UserId::parse("user", "alice").unwrap(), &[Role::User])
}

fn pid(name: &str) -> ProcessId {
    ProcessId::parse("pid", name).unwrap()
}

fn submitted(name: &str) -> CommandBody {
    CommandBody::Submit(Box::new(Submit { ..submit(name) }))
}

fn scheduled(name: &str) -> CommandBody {
    CommandBody::Schedule { pid: pid(name) }
}

fn state(rig: &Rig, name: &str) -> Option<ProcessState> {
    rig.keeper.kernel()?.process(&pid(name)).map(|process| process.state)
}

#[test]
fn a_reply_waits_until_its_events_are_synced() {
    let mut rig = Rig::new();
    let call = rig.send(&alice(), submitted("a"));
    assert_eq!(state(&rig, "a"), Some(ProcessState::New), "applied at once");
    assert!(!rig.replies.contains_key(&call), "K5");
    let before = rig.events;
    rig.step(); // The write.
    assert!(!rig.replies.contains_key(&call), "a write is no sync (L26)");
    rig.settle();
    let decided = rig.replies[&call].as_ref().unwrap();
    assert_eq!((decided.events.len(), decided.reply.as_of), (1, rig.events));
    assert_eq!(rig.events, before + 1);
}

#[test]
fn a_refusal_that_saw_an_event_waits_for_it_too() {
    let mut rig = Rig::new();
    rig.send(&alice(), submitted("a"));
    rig.say(&alice(), submitted("b")).unwrap();
    rig.send(
        &alice(),
        CommandBody::Terminate { pid: pid("a"), message: String::new(), force: false },
    );
    let refused = rig.send(&alice(), scheduled("a"));
    assert!(!rig.replies.contains_key(&refused), "it tells that the process has ended (K445)");
    rig.settle();
    assert_eq!(rig.replies[&refused].as_ref().unwrap_err().code, Code::IllegalTransition);
}

#[test]
fn an_answer_waits_for_what_it_saw() {
    let mut rig = Rig::new();
    rig.send(&alice(), submitted("a"));
    let asked = rig.ask(&alice(), Query::GetProcess { pid: pid("a") });
    assert!(
        !rig.answers.contains_key(&asked),
        "it tells of a process that a crash could take (K5)"
    );
    rig.settle();
    assert_eq!(rig.answers[&asked].as_ref().unwrap().as_of, rig.events);
    let again = rig.ask(&alice(), Query::GetProcess { pid: pid("a") });
    assert!(rig.answers.contains_key(&again), "nothing new to wait for");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_and_the_rest_may_not() {
    let mut rig = Rig::new();
    rig.say(&alice(), submitted("kept")).unwrap();
    let root = rig.root();
    let lost = rig.send(&alice(), submitted("lost"));
    rig.restart(false);
    assert_eq!(state(&rig, "kept"), Some(ProcessState::New), "L70");
    assert_eq!(state(&rig, "lost"), None);
    assert!(!rig.replies.contains_key(&lost));
    assert_ne!(rig.root(), root, "the start is an event (K11)");
    assert_eq!(rig.reports.last().unwrap().events, 2);
}

#[test]
fn a_recovery_gives_the_root_that_was_there_and_gives_it_again() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.say(&alice(), submitted(name)).unwrap();
        rig.say(&alice(), scheduled(name)).unwrap();
    }
    rig.say(&alice(), CommandBody::NextRunnable).unwrap();
    rig.input(Input::Stop);
    rig.settle();
    assert_eq!(rig.told, ["stopped"]);
    let disk = rig.disk.clone();
    let roots: Vec<String> = (0..2)
        .map(|_| {
            let mut again = Rig::on(disk.clone());
            again.settle();
            again.root()
        })
        .collect();
    assert_eq!(roots[0], roots[1], "L72");
    assert_eq!(rig.say(&alice(), submitted("d")).unwrap_err().code, Code::NotDurable);
}

#[test]
fn a_start_begins_with_the_newest_snapshot_and_ends_with_the_same_root() {
    let mut rig = Rig::new();
    for number in 0..130 {
        rig.say(&alice(), submitted(&format!("p{number}"))).unwrap();
        rig.pass(Duration::from_millis(1));
    }
    assert_eq!(rig.told, ["snapshot of 50", "snapshot of 100"]);
    assert_eq!(rig.folder(Folder::Snapshots).len(), 2, "the newest two are kept (L42)");
    let mut by_records = rig.disk.clone();
    by_records.now.retain(|file, _| file.folder() == Folder::Journal);
    rig.restart(false);
    let report = rig.reports.last().unwrap();
    assert_eq!((report.snapshot, report.replayed), (Some(100), 31));
    let mut slow = Rig::on(by_records);
    slow.now = rig.now;
    slow.settle();
    let processes = |rig: &Rig| rig.keeper.kernel().unwrap().state().process_count();
    assert_eq!(processes(&slow), processes(&rig));
    assert_eq!(slow.reports[0].replayed, 131);
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_an_older_one() {
    let mut rig = Rig::new();
    for number in 0..130 {
        rig.say(&alice(), submitted(&format!("p{number}"))).unwrap();
    }
    let mut disk = rig.disk.clone();
    let newest = disk.now.iter_mut().rfind(|(file, _)| file.folder() == Folder::Snapshots);
    let (_, bytes) = newest.unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut again = Rig::on(disk);
    again.settle();
    let report = &again.reports[0];
    assert_eq!(report.snapshot, Some(50), "{:?}", report.unsound);
    assert_eq!(report.unsound[0].0, 100);
    assert!(state(&again, "p129").is_some());
}

#[test]
fn a_record_of_a_newer_program_refuses_the_start() {
    let mut rig = Rig::new();
    rig.say(&alice(), submitted("a")).unwrap();
    // The first event's tag stands behind the headers of segment and record.
    let mut disk = Disk::default();
    let mut body = Vec::new();
    body.extend_from_slice(&99_u16.to_le_bytes());
    body.extend_from_slice(&1_u16.to_le_bytes());
    body.extend_from_slice(&0_u32.to_le_bytes());
    disk.now.insert(File::Journal(segment::File::Segment(1)), super::rig::segment_with(body));
    let mut again = Rig::on(disk);
    again.settle();
    let told = "refused: journal: record 1: upgrade needed: event tag 99 is unknown";
    assert_eq!(again.told, [told], "L36");
}

#[test]
fn a_full_disk_refuses_commands_and_takes_them_again_when_there_is_room() {
    let mut rig = Rig::new();
    rig.disk.full = true;
    let mut refused = None;
    for number in 0..20_000 {
        if let Err(refusal) = rig.say(&alice(), submitted(&format!("p{number}"))) {
            refused = Some(refusal.code);
            break;
        }
    }
    assert_eq!(refused, Some(Code::DiskFull), "L23");
    rig.disk.full = false;
    rig.pass(Duration::from_secs(2));
    rig.say(&alice(), submitted("again")).unwrap();
}

/// K10, L23: what was due before a command that frees comes before it, though the disk is full.
#[test]
fn what_was_due_comes_before_a_stop_on_a_full_disk() {
    let mut rig = Rig::new();
    rig.say(&alice(), submitted("a")).unwrap();
    let mut interrupt = NewInterrupt::new(InterruptKind::Confirmation);
    interrupt.ttl = Some(1_000);
    let interrupt = Box::new(interrupt);
    rig.say(&alice(), CommandBody::CreateInterrupt { pid: pid("a"), interrupt }).unwrap();
    rig.disk.full = true;
    let mut names = (0..20_000).map(|number| format!("p{number}"));
    let refused = names.find_map(|name| rig.say(&alice(), submitted(&name)).err());
    assert_eq!(refused.map(|refusal| refusal.code), Some(Code::DiskFull), "L23");

    rig.now = rig.now + Duration::from_secs(2);
    let operator = Principal::new(UserId::parse("user", "op").unwrap(), &[Role::Operator]);
    let stop = CommandBody::Shutdown { mode: StopMode::Terminate, deadline_ms: None };
    rig.send(&operator, stop);
    let process = rig.keeper.kernel().unwrap().process(&pid("a")).unwrap();
    assert_eq!(process.terminal_reason, Some(TerminalReason::InterruptDenied), "K161");
    let other = rig.keeper.kernel().unwrap().process(&pid("p0")).unwrap();
    assert_eq!(other.terminal_reason, Some(TerminalReason::KernelShutdown), "K363");
    let stalled = rig.told.iter().any(|line| line.starts_with("stalled"));
    assert!(!stalled, "{:?}", rig.told);
}

/// K5, K204: a handler is called when the start of its try is durable, and not before.
#[test]
fn a_handler_is_called_when_its_try_is_durable() {
    let mut rig = Rig::new();
    let service = ServiceName::parse("service", "poets").unwrap();
    let kind = ServiceType::parse("type", "flow").unwrap();
    let info = ServiceInfo::new(service.clone(), kind);
    let info = Box::new(ServiceInfo { mode: ServiceMode::Push, ..info });
    let operator = Principal::new(UserId::parse("user", "op").unwrap(), &[Role::Operator]);
    rig.say(&operator, CommandBody::RegisterService(info)).unwrap();
    let bind = CommandBody::BindHandler { service: service.clone() };
    rig.say(&Principal::node(), bind).unwrap();
    let target = Target::Name { name: service };
    let request = ServiceRequest::new(target, "song", Json::NULL);
    rig.send(&operator, CommandBody::Dispatch(Box::new(request)));
    assert_eq!(rig.effects, [], "the disk has not answered");
    rig.settle();
    assert!(matches!(rig.effects[..], [Effect::HandlerCall { .. }]), "{:?}", rig.effects);
}

#[test]
fn a_disk_that_fails_for_good_leaves_no_reply_but_not_durable() {
    let mut rig = Rig::new();
    rig.disk.broken = true;
    let call = rig.send(&alice(), submitted("a"));
    rig.settle();
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.replies[&call].as_ref().unwrap_err().code, Code::NotDurable, "K365");
    assert_eq!(rig.told, ["stalled: the device failed"]);
    assert_eq!(rig.say(&alice(), submitted("b")).unwrap_err().code, Code::NotDurable);
}

#[test]
fn deadlines_of_the_kernel_come_by_themselves() {
    let mut rig = Rig::new();
    rig.say(&alice(), submitted("a")).unwrap();
    rig.say(&alice(), scheduled("a")).unwrap();
    rig.say(&alice(), CommandBody::NextRunnable).unwrap();
    assert_eq!(state(&rig, "a"), Some(ProcessState::Running));
    rig.pass(Duration::from_secs(61));
    assert_eq!(state(&rig, "a"), Some(ProcessState::Ready), "the run lease ended (K79)");
}

fn below(name: &str, parent: &str) -> CommandBody {
    CommandBody::Submit(Box::new(Submit { parent: Some(pid(parent)), ..submit(name) }))
}

/// Counts what has ended of `root` and `p0` to `p1023`.
fn ended(rig: &Rig) -> usize {
    let names = (0..1_024).map(|number| format!("p{number}")).chain(["root".to_owned()]);
    names.filter(|name| state(rig, name) == Some(ProcessState::Terminated)).count()
}

/// K84, L3: a tree whose end no record takes ends wholly, in several decisions; nothing stalls.
#[test]
fn a_tree_larger_than_a_record_ends_and_the_keeper_goes_on() {
    let mut rig = Rig::new();
    rig.say(&alice(), submitted("root")).unwrap();
    for number in 0..1_024 {
        rig.say(&alice(), below(&format!("p{number}"), "root")).unwrap();
    }
    let refused = rig.say(&alice(), below("one-more", "root")).unwrap_err();
    assert_eq!(refused.to_string(), "too_many: children of root: at most 1024", "K25");
    let (message, force) = ("enough, ".repeat(100), true);
    let end = CommandBody::Terminate { pid: pid("root"), message, force };
    let records = rig.keeper.journal().unwrap().appended();
    let before = rig.events;
    rig.say(&alice(), end).unwrap();
    rig.settle();
    assert_eq!(rig.events - before, 1_025, "each ends once");
    assert!(rig.keeper.journal().unwrap().appended() > records + 1);
    assert_eq!(ended(&rig), 1_025);
    rig.say(&alice(), submitted("after")).unwrap();
    rig.restart(false);
    assert_eq!((ended(&rig), state(&rig, "after")), (1_025, Some(ProcessState::New)));
    let stalled = rig.told.iter().any(|line| line.starts_with("stalled"));
    assert!(!stalled, "{:?}", rig.told);
}

/// A crash between the decisions of such an end leaves the rest due: the next start goes on.
#[test]
fn a_crash_in_the_middle_of_a_large_end_leaves_the_rest_due() {
    let mut rig = Rig::new();
    rig.say(&alice(), submitted("root")).unwrap();
    for number in 0..1_024 {
        rig.say(&alice(), below(&format!("p{number}"), "root")).unwrap();
    }
    let (message, force) = (String::new(), true);
    rig.send(&alice(), CommandBody::Terminate { pid: pid("root"), message, force });
    let (parts, records) = (rig.keeper.journal().unwrap(), 1_026);
    assert!(parts.appended() > records, "{} records", parts.appended());
    while rig.keeper.journal().unwrap().durable() < records + 1 {
        assert!(rig.step());
    }
    rig.restart(false);
    let found = rig.reports.last().unwrap().record;
    assert!(found > records, "the first part was durable: {found}");
    assert_eq!(ended(&rig), 1_025, "K84");
}

/// K25, K395: what no record takes and nothing can cut is refused; the state is as it was.
#[test]
fn a_decision_longer_than_a_record_is_refused_and_the_keeper_goes_on() {
    let mut rig = Rig::new();
    let worker = Principal::new(UserId::parse("user", "w").unwrap(), &[Role::Worker]);
    let service = ServiceName::parse("service", &"s".repeat(120)).unwrap();
    let kind = ServiceType::parse("service_type", "t").unwrap();
    let info = ServiceInfo { max_concurrent: 2_000, ..ServiceInfo::new(service.clone(), kind) };
    rig.say(&worker, CommandBody::RegisterService(Box::new(info))).unwrap();
    for _ in 0..2_000 {
        let (service, pid, lease_ms) = (service.clone(), None, None);
        rig.say(&worker, CommandBody::AcquireSlot { service, pid, lease_ms }).unwrap();
    }
    let root = rig.root();
    let gone = CommandBody::UnregisterService { service };
    let refused = rig.say(&worker, gone).unwrap_err();
    assert_eq!(refused.code, Code::TooLarge, "{refused}");
    assert_eq!(rig.root(), root, "K2");
    rig.say(&alice(), submitted("after")).unwrap();
    let stalled = rig.told.iter().any(|line| line.starts_with("stalled"));
    assert!(!stalled, "{:?}", rig.told);
}

/// K10, L3, K82: a process with as many dispatches as it may have, all of them with long ids, comes
/// to its end in time; neither that nor the next start stalls.
#[test]
fn a_process_with_all_its_dispatches_times_out_and_the_keeper_goes_on() {
    let mut rig = Rig::new();
    let worker = Principal::new(UserId::parse("user", "w").unwrap(), &[Role::Worker]);
    let service = ServiceName::parse("service", "q").unwrap();
    let info = ServiceInfo::new(service.clone(), ServiceType::parse("service_type", "t").unwrap());
    rig.say(&worker, CommandBody::RegisterService(Box::new(info))).unwrap();
    let (name, fields) = ("p".repeat(128), [QuotaField::TimeoutMs, QuotaField::SoftTimeoutMs]);
    let quota = fields.map(|field| (field, Limit::at_most(10_000))).to_vec();
    let body = CommandBody::Submit(Box::new(Submit { quota, ..submit(&name) }));
    rig.say(&worker, body).unwrap();
    rig.say(&worker, scheduled(&name)).unwrap();
    rig.say(&worker, CommandBody::NextRunnable).unwrap();
    let mut refused = None;
    for number in 0..800 {
        let target = Target::Name { name: service.clone() };
        let mut request = ServiceRequest::new(target, "run", Json::NULL);
        let id = format!("{number:0>128}");
        request.dispatch = Some(DispatchId::parse("dispatch_id", &id).unwrap());
        (request.pid, request.queue) = (Some(pid(&name)), true);
        let said = rig.say(&worker, CommandBody::Dispatch(Box::new(request)));
        refused = refused.or(said.err().map(|refusal| refusal.code));
    }
    rig.pass(Duration::from_secs(11));
    for _ in 0..2 {
        let stalled = rig.told.iter().any(|line| line.starts_with("stalled"));
        assert!(!stalled, "{:?}", rig.told);
        assert_eq!(state(&rig, &name), Some(ProcessState::Terminated), "K112");
        rig.restart(false);
    }
    assert_eq!(refused, Some(Code::QueueFull));
}

/// L3, K4, K22: the events of one decision are one record, numbered on without gaps, and a crash
/// leaves all of them or none.
#[test]
fn a_decision_of_many_events_is_one_record_that_survives_as_a_whole() {
    for synced in [false, true] {
        let mut rig = Rig::new();
        rig.say(&alice(), submitted("root")).unwrap();
        for name in ["a", "b", "c"] {
            rig.say(&alice(), below(name, "root")).unwrap();
        }
        let (records, events) = (rig.keeper.journal().unwrap().appended(), rig.events);
        let (message, force) = (String::new(), true);
        rig.send(&alice(), CommandBody::Terminate { pid: pid("root"), message, force });
        assert_eq!(rig.keeper.journal().unwrap().appended(), records + 1, "L3");
        assert_eq!(rig.keeper.kernel().unwrap().last_event(), events + 4, "K22");
        if synced {
            rig.settle();
            assert_eq!(rig.events, events + 4);
        }
        rig.restart(false);
        let end = if synced { ProcessState::Terminated } else { ProcessState::New };
        for name in ["root", "a", "b", "c"] {
            assert_eq!(state(&rig, name), Some(end), "K4");
        }
        let report = rig.reports.last().unwrap();
        let found = if synced { (records + 1, events + 4) } else { (records, events) };
        assert_eq!((report.record, report.events), found, "records and events from 1");
    }
}

/// L22, L23: who is told to come again later is told at once, though the disk has stopped.
#[test]
fn back_pressure_does_not_wait_for_the_disk() {
    let mut rig = Rig::new();
    let mut calls = Vec::new();
    while rig.keeper.journal().unwrap().room(false).is_ok() {
        let long = Submit { metadata: metadata(60 << 10), ..submit(&format!("p{}", calls.len())) };
        calls.push(rig.send(&alice(), CommandBody::Submit(Box::new(long))));
        assert!(calls.len() < 100, "back-pressure begins at 256 KiB");
    }
    let call = rig.send(&alice(), submitted("late"));
    let refused = rig.replies[&call].as_ref().unwrap_err().code;
    assert_eq!(refused, Code::Busy);
    assert!(calls.iter().all(|call| !rig.replies.contains_key(call)), "K5");
    rig.settle();
    assert!(calls.iter().all(|call| rig.replies[call].is_ok()));
    rig.say(&alice(), submitted("late")).unwrap();
}

/// A keeper that has written as much as may wait for a sync, and synced none of it.
fn unproved() -> Rig {
    let mut rig = Rig::new();
    let mut made = 0;
    while rig.keeper.journal().unwrap().room(false).is_ok() {
        let long = Submit { metadata: metadata(60 << 10), ..submit(&format!("p{made}")) };
        rig.send(&alice(), CommandBody::Submit(Box::new(long)));
        made += 1;
    }
    rig.write_all();
    rig
}

/// L74: however much a crash left unproved, the next start is taken down.
#[test]
fn a_start_after_a_crash_under_back_pressure_is_no_refusal() {
    let mut rig = unproved();
    rig.restart(true);
    assert!(rig.keeper.kernel().is_some(), "it serves");
    assert_eq!(state(&rig, "p0"), Some(ProcessState::New));
    rig.say(&alice(), submitted("next")).unwrap();
}

/// A keeper that a crash left so much for that it has not decided its start yet.
fn starting() -> Rig {
    let rig = unproved();
    let mut again = Rig::on(rig.disk);
    while again.reports.is_empty() {
        assert!(again.step());
    }
    assert_eq!(again.keeper.journal().unwrap().room(true), Err(Refused::Busy));
    again
}

/// K363, L16: a stop that comes before the start is decided is a clean one.
#[test]
fn a_stop_before_the_start_is_decided_is_clean() {
    let mut rig = starting();
    rig.input(Input::Stop);
    rig.settle();
    assert_eq!(rig.told, ["stopped"]);
    let mut again = Rig::on(rig.disk);
    again.settle();
    assert_eq!(again.told, [""; 0]);
    assert_eq!(state(&again, "p0"), Some(ProcessState::New), "L74");
}

/// K363, L24: a disk that fails for good while the node stops ends the stop, too.
#[test]
fn a_stop_ends_when_the_disk_fails_for_good() {
    let mut rig = Rig::new();
    let call = rig.send(&alice(), submitted("a"));
    rig.input(Input::Stop);
    assert_eq!(rig.told, [""; 0], "something is not durable");
    rig.disk.broken = true;
    rig.settle();
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.replies[&call].as_ref().unwrap_err().code, Code::NotDurable, "K365");
    assert_eq!(rig.told, ["stalled: the device failed", "stopped"]);
}

/// L23, L74: a disk that is full again at any point of the opening puts off the start, and no more.
#[test]
fn a_start_on_a_disk_that_is_nearly_full_stalls_at_no_point() {
    let mut rested = 0;
    for steps in 0..16 {
        let mut rig = starting();
        for _ in 0..steps {
            rig.step();
        }
        rig.disk.full = true;
        rig.settle();
        rested += usize::from(rig.keeper.journal().unwrap().is_full());
        rig.disk.full = false;
        rig.pass(Duration::from_secs(3));
        assert_eq!(rig.told, [""; 0], "after {steps} steps");
        rig.say(&alice(), submitted("next")).unwrap();
    }
    assert!(rested > 1, "{rested}");
}

/// K10: a clock that jumps back does not put off what was due.
#[test]
fn what_was_due_stays_due_when_the_clock_jumps_back() {
    let mut rig = Rig::new();
    rig.say(&alice(), submitted("a")).unwrap();
    rig.say(&alice(), scheduled("a")).unwrap();
    rig.ahead = Duration::from_secs(3_600);
    rig.say(&alice(), CommandBody::NextRunnable).unwrap();
    rig.ahead = Duration::ZERO;
    let fields = [QuotaField::TimeoutMs, QuotaField::SoftTimeoutMs];
    let quota = fields.map(|field| (field, Limit::at_most(0))).to_vec();
    rig.say(&alice(), CommandBody::AdjustQuota { pid: pid("a"), quota }).unwrap();
    rig.pass(Duration::from_millis(10));
    assert_eq!(state(&rig, "a"), Some(ProcessState::Terminated));
}

fn metadata(bytes: usize) -> Metadata {
    [("text".into(), Json::from("x".repeat(bytes).as_str()))].into_iter().collect()
}

/// K435, K10: what is drawn at deadlines, and after them, is the same for every `tick_batch`.
#[test]
fn ids_do_not_depend_on_how_many_deadlines_one_decision_handles() {
    let ids = |tick_batch| {
        let kernel = KernelConfig { tick_batch, ..KernelConfig::new() };
        let mut rig = Rig::with(Disk::default(), KeeperParams { kernel, ..params(1) });
        rig.settle();
        for name in ["a", "b", "c"] {
            rig.say(&alice(), submitted(name)).unwrap();
            let mut interrupt = NewInterrupt::new(InterruptKind::Confirmation);
            (interrupt.ttl, interrupt.on_expiry) = (Some(1_000), Some(ExpiryPolicy::Escalate));
            let interrupt = Box::new(interrupt);
            rig.say(&alice(), CommandBody::CreateInterrupt { pid: pid(name), interrupt }).unwrap();
        }
        rig.now = rig.now + Duration::from_secs(2);
        rig.input(Input::Tick); // All three expire, and each is asked anew under an id of its own.
        rig.say(&alice(), submitted("d")).unwrap();
        let kernel = rig.keeper.kernel().unwrap();
        let process = |name| format!("{:?}", kernel.process(&pid(name)).unwrap());
        (kernel.last_event(), ["a", "b", "c", "d"].map(process))
    };
    let (events, processes) = ids(1_000);
    assert_eq!((events, processes.clone()), ids(1));
    assert_eq!((events, processes), ids(2));
}
