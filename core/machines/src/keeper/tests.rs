//! Goal: nobody hears of a decision that a crash could take back, and all others survive.
//! Method: a keeper on a disk in memory, whose operations complete when the test says so.

use std::time::Duration;

use super::KeeperParams;
use super::io::{File, Folder, Input};
use super::rig::{Disk, Rig, params};
use crate::kernel::config::KernelConfig;
use crate::kernel::ids::{ProcessId, UserId};
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{ExpiryPolicy, InterruptKind, ProcessState};
use crate::kernel::principal::{Principal, Role};
use crate::kernel::query::Query;
use crate::kernel::rig::submit;
use crate::kernel::{Code, CommandBody};
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
