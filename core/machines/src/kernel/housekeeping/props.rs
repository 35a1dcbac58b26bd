//! K447: cleanup removes nothing live, and when all processes have ended and the longest retention
//! has passed, nothing is left but configuration and counters. Sabotage must be caught.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kernel::CommandBody;
use crate::kernel::dispatch::rig::{dispatch, dsp, queued, svc};
use crate::kernel::ids::{Endpoint, ProcessId};
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::names::InterruptKind;
use crate::kernel::rig::{Rig, calls, operator, pid, reserve, submit, user, worker};
use crate::kernel::sessions::rig::linear;
use crate::kernel::sessions::start::{EnvelopeChoice, Initialize};

#[derive(Clone, Debug)]
enum Step {
    Submit {
        who: u8,
        name: u8,
        under: Option<u8>,
    },
    Claim,
    Reserve {
        who: u8,
        name: u8,
        id: u8,
    },
    Hit {
        who: u8,
        on: u8,
    },
    /// A session and its first attempt.
    Work {
        who: u8,
        name: u8,
    },
    Ask {
        who: u8,
        name: u8,
    },
    Dispatch {
        id: u8,
    },
    Take,
    End {
        who: u8,
        name: u8,
    },
    Pass(u64),
    Cleanup,
}

fn step() -> impl Strategy<Value = Step> {
    let (who, name) = (0..3_u8, 0..12_u8);
    prop_oneof![
        6 => (who.clone(), name.clone(), prop::option::of(0..12_u8))
            .prop_map(|(who, name, under)| Step::Submit { who, name, under }),
        2 => Just(Step::Claim),
        2 => (who.clone(), name.clone(), 0..4_u8)
            .prop_map(|(who, name, id)| Step::Reserve { who, name, id }),
        3 => (who.clone(), 0..3_u8).prop_map(|(who, on)| Step::Hit { who, on }),
        3 => (who.clone(), name.clone()).prop_map(|(who, name)| Step::Work { who, name }),
        2 => (who.clone(), name.clone()).prop_map(|(who, name)| Step::Ask { who, name }),
        2 => (0..6_u8).prop_map(|id| Step::Dispatch { id }),
        1 => Just(Step::Take),
        4 => (who, name).prop_map(|(who, name)| Step::End { who, name }),
        3 => prop_oneof![0..1_000_u64, 0..4_000_000_u64, 0..90_000_000_u64].prop_map(Step::Pass),
        1 => Just(Step::Cleanup),
    ]
}

fn run(rig: &mut Rig, step: &Step) {
    let who = |who: u8| user(&format!("u{who}"));
    let name = |name: u8| format!("p{name}");
    let (by, body) = match step {
        Step::Submit { who: by, name: of, under } => {
            let mut submit = submit(&name(*of));
            submit.parent = under.map(|under| pid(&name(under)));
            (who(*by), CommandBody::Submit(Box::new(submit)))
        }
        Step::Claim => {
            let news: Vec<ProcessId> = rig
                .kernel
                .state()
                .processes
                .iter()
                .filter(|(_, process)| process.state == ProcessState::New)
                .map(|(pid, _)| pid.clone())
                .collect();
            for pid in news {
                let _ = rig.say(&operator(), CommandBody::Schedule { pid });
            }
            (worker("w"), CommandBody::NextRunnable)
        }
        Step::Reserve { who: by, name: of, id } => {
            (who(*by), reserve(&name(*of), &format!("r{id}"), calls(1)))
        }
        Step::Hit { who: by, on } => {
            let user = who(*by).user;
            let endpoint = Endpoint::parse("endpoint", &format!("e{on}")).unwrap();
            (who(*by), CommandBody::CheckRateLimit { user, endpoint, record: true })
        }
        Step::Work { who: by, name: of } => {
            let pid = pid(&name(*of));
            let envelope = EnvelopeChoice::New(Box::default());
            let asked = Initialize { pid: pid.clone(), pipeline: linear(), envelope, force: false };
            let _ = rig.say(&who(*by), CommandBody::InitializeSession(Box::new(asked)));
            (who(*by), CommandBody::NextInstruction { pid })
        }
        Step::Ask { who: by, name: of } => {
            let interrupt = Box::new(NewInterrupt::new(InterruptKind::Confirmation));
            (who(*by), CommandBody::CreateInterrupt { pid: pid(&name(*of)), interrupt })
        }
        Step::Dispatch { id } => (worker("w"), dispatch(queued(&format!("d{id}"), "q"))),
        Step::Take => (worker("w"), CommandBody::LeaseTasks { service: svc("q"), max: 2 }),
        Step::End { who: by, name: of } => {
            let (pid, message) = (pid(&name(*of)), String::new());
            (who(*by), CommandBody::Terminate { pid, message, force: true })
        }
        Step::Pass(millis) => return rig.pass(*millis),
        Step::Cleanup => (operator(), CommandBody::Cleanup),
    };
    // What is refused has changed nothing, which the rig checks (K434).
    let _ = rig.say(&by, body);
}

/// Replays `events` and says what went too early, if anything did: a live process, or one that has
/// not been over for as long as it is kept.
fn gone_too_early(events: &[Event]) -> Result<(), String> {
    let mut ended: BTreeMap<ProcessId, Time> = BTreeMap::new();
    for event in events {
        let (Body::Process { event: what }, Some(pid)) = (&event.body, &event.subject.pid) else {
            continue;
        };
        let kept = match what {
            ProcessEvent::Terminated { .. } => {
                ended.insert(pid.clone(), event.time);
                continue;
            }
            ProcessEvent::StateChanged { to: ProcessState::Zombie, .. } => 3_600_000,
            ProcessEvent::Removed => 25 * 3_600_000,
            ProcessEvent::Created { .. }
            | ProcessEvent::StateChanged { .. }
            | ProcessEvent::LeaseRenewed { .. } => continue,
        };
        match ended.get(pid) {
            None => return Err(format!("K447: {pid} went and was live")),
            Some(at) if event.time.since(*at) < kept => {
                return Err(format!("K447: {pid} went {} ms after its end", event.time.since(*at)));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What is left when nothing is live and the longest retention has passed.
fn leftovers(state: &State) -> Vec<&'static str> {
    let tables = [
        ("processes", state.processes.is_empty()),
        ("ready", state.ready.iter().all(|ready| ready.is_empty())),
        ("interrupts", state.interrupts.is_empty()),
        ("approvals", state.approvals.is_empty()),
        ("slots", state.slots.is_empty()),
        ("dispatches", state.dispatches.is_empty()),
        ("turns", state.turns.is_empty()),
        ("sessions", state.sessions.is_empty()),
        ("envelopes", state.envelopes.is_empty()),
        ("rates", state.rates.keys().is_empty()),
        ("indexes of what is over", state.over == Over::default()),
    ];
    tables.into_iter().filter(|(_, empty)| !empty).map(|(name, _)| name).collect()
}

fn end_all(rig: &mut Rig) {
    while let Some(pid) = rig.kernel.state().process_index.first_live().cloned() {
        let end = CommandBody::Terminate { pid, message: String::new(), force: true };
        rig.say(&operator(), end).unwrap();
    }
    for id in 0..6 {
        let dispatch = dsp(&format!("d{id}"));
        // One that is not there, or has ended, is refused or makes no event.
        let _ = rig.say(&worker("w"), CommandBody::CancelDispatch { dispatch });
    }
    // The longest retention, a slot of the day's window, and an interval.
    rig.pass(25 * 3_600_000 + 1_728_000 + 300_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// K447.
    #[test]
    fn nothing_live_goes_and_nothing_over_stays(steps in prop::collection::vec(step(), 0..60)) {
        let mut rig = Rig::served(2);
        for step in &steps {
            run(&mut rig, step);
        }
        end_all(&mut rig);
        prop_assert_eq!(gone_too_early(&rig.events), Ok(()));
        prop_assert_eq!(leftovers(rig.kernel.state()), Vec::<&str>::new());
        let unregister = CommandBody::UnregisterService { service: svc("q") };
        rig.say(&worker("w"), unregister).unwrap();
        prop_assert_eq!(rig.kernel.state().live_work(), 0);
    }
}

/// K447's sabotage: what was closed of a session is kept.
#[test]
fn a_session_that_is_kept_is_caught() {
    let mut rig = Rig::served(2);
    rig.say(&user("u0"), CommandBody::Submit(Box::new(submit("p0")))).unwrap();
    run(&mut rig, &Step::Work { who: 0, name: 0 });
    let session = rig.kernel.state().sessions.get(&pid("p0")).cloned();
    let session = session.expect("the process has a session");
    assert_eq!(session.attempts.len(), 1);
    end_all(&mut rig);
    assert_eq!(leftovers(rig.kernel.state()), Vec::<&str>::new());
    let mut kept = rig.kernel.state().clone();
    kept.sessions.insert(pid("p0"), session);
    assert_eq!(leftovers(&kept), ["sessions"]);
}

/// The checkers bite: keeping one row, and removing a process before its time, are caught.
#[test]
fn what_stays_and_what_goes_too_early_is_caught() {
    let mut rig = Rig::new();
    rig.ready(&user("ann"), submit("p"));
    let mut state = rig.kernel.state().clone();
    assert_eq!(leftovers(&state), ["processes", "ready"]);
    state.over.add(&pid("p"), &{
        let mut process = rig.process("p").clone();
        (process.state, process.completed_at) = (ProcessState::Zombie, Some(Time::ZERO));
        process
    });
    assert!(leftovers(&state).contains(&"indexes of what is over"));
    let mut events = rig.events.clone();
    let mut removed = events.last().unwrap().clone();
    removed.body = Body::Process { event: ProcessEvent::Removed };
    events.push(removed.clone());
    assert_eq!(gone_too_early(&events), Err("K447: p went and was live".to_owned()));
    let end = CommandBody::Terminate { pid: pid("p"), message: String::new(), force: true };
    rig.say(&user("ann"), end).unwrap();
    rig.events.push(removed);
    assert_eq!(gone_too_early(&rig.events), Err("K447: p went 0 ms after its end".to_owned()));
}
