//! Goal: no sequence of commands breaks the accounts, the states or the ready set (K420, K421,
//! K423, K426, K434, K449).
//! Method: random commands of three users on a few processes, and every invariant after each.

mod batches;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::event::{Body, Event, ProcessEvent, QuotaEvent};
use super::ids::ProcessId;
use super::names::ProcessState;
use super::principal::Principal;
use super::quota::{Amounts, Limit, QuotaField, Resource};
use super::rig::{
    Rig, calls, limits, operator, pid, record, reserve, rsv, settle, submit, user, worker,
};
use super::state::State;
use super::{CommandBody, Time};

const PROCESSES: u8 = 5;
const RESERVATIONS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    Submit { who: u8, process: u8, parent: Option<u8>, limit: u64 },
    Schedule { who: u8, process: u8 },
    Next { who: u8 },
    Move { who: u8, process: u8, to: ProcessState },
    Terminate { who: u8, process: u8, force: bool },
    CleanUp { who: u8, process: u8 },
    Reserve { who: u8, process: u8, id: u8, amount: u64 },
    Settle { who: u8, process: u8, id: u8, amount: u64 },
    Release { who: u8, process: u8, id: u8 },
    Record { who: u8, process: u8, amount: u64 },
    Adjust { who: u8, process: u8, limit: u64 },
    Pass(u64),
    Back(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, process, id) = (0..4_u8, 0..PROCESSES, 0..RESERVATIONS);
    let (amount, limit) = (0..6_u64, 0..12_u64);
    let to = prop::sample::select(ProcessState::ALL);
    prop_oneof![
        3 => (who.clone(), process.clone(), prop::option::of(process.clone()), limit.clone())
            .prop_map(|(who, process, parent, limit)| Step::Submit { who, process, parent, limit }),
        3 => (who.clone(), process.clone())
            .prop_map(|(who, process)| Step::Schedule { who, process }),
        3 => who.clone().prop_map(|who| Step::Next { who }),
        3 => (who.clone(), process.clone(), to)
            .prop_map(|(who, process, to)| Step::Move { who, process, to }),
        1 => (who.clone(), process.clone(), any::<bool>())
            .prop_map(|(who, process, force)| Step::Terminate { who, process, force }),
        1 => (who.clone(), process.clone())
            .prop_map(|(who, process)| Step::CleanUp { who, process }),
        5 => (who.clone(), process.clone(), id.clone(), amount.clone())
            .prop_map(|(who, process, id, amount)| Step::Reserve { who, process, id, amount }),
        3 => (who.clone(), process.clone(), id.clone(), amount.clone())
            .prop_map(|(who, process, id, amount)| Step::Settle { who, process, id, amount }),
        2 => (who.clone(), process.clone(), id)
            .prop_map(|(who, process, id)| Step::Release { who, process, id }),
        2 => (who.clone(), process.clone(), amount)
            .prop_map(|(who, process, amount)| Step::Record { who, process, amount }),
        1 => (who, process, limit)
            .prop_map(|(who, process, limit)| Step::Adjust { who, process, limit }),
        3 => prop_oneof![0..5_000_u64, 0..200_000_u64, 0..8_000_000_u64].prop_map(Step::Pass),
        1 => (0..10_000_u64).prop_map(Step::Back),
    ]
}

fn principal(number: u8) -> Principal {
    match number {
        0 => user("alice"),
        1 => user("bob"),
        2 => worker("w"),
        _ => operator(),
    }
}

fn name(process: u8) -> String {
    format!("p{process}")
}

impl Step {
    fn command(&self) -> Option<(Principal, CommandBody)> {
        let pid_of = |process: &u8| pid(&name(*process));
        let (by, body) = match self {
            Self::Submit { who, process, parent, limit } => {
                let quota = limits(&[(QuotaField::MaxLlmCalls, *limit)]);
                let parent = parent.as_ref().map(pid_of);
                let new = super::lifecycle::Submit { quota, parent, ..submit(&name(*process)) };
                (who, CommandBody::Submit(Box::new(new)))
            }
            Self::Schedule { who, process } => {
                (who, CommandBody::Schedule { pid: pid_of(process) })
            }
            Self::Next { who } => (who, CommandBody::NextRunnable),
            Self::Move { who, process, to } => {
                let (pid, reason) = (pid_of(process), String::new());
                (who, CommandBody::TransitionState { pid, to: *to, reason })
            }
            Self::Terminate { who, process, force } => {
                let (pid, message) = (pid_of(process), String::new());
                (who, CommandBody::Terminate { pid, message, force: *force })
            }
            Self::CleanUp { who, process } => {
                (who, CommandBody::CleanupProcess { pid: pid_of(process) })
            }
            Self::Reserve { who, process, id, amount } => {
                (who, reserve(&name(*process), &format!("r{id}"), calls(*amount)))
            }
            Self::Settle { who, process, id, amount } => {
                (who, settle(&name(*process), &format!("r{id}"), calls(*amount)))
            }
            Self::Release { who, process, id } => {
                let (pid, reservation) = (pid_of(process), rsv(&format!("r{id}")));
                (who, CommandBody::Release { pid, reservation })
            }
            Self::Record { who, process, amount } => (who, record(&name(*process), calls(*amount))),
            Self::Adjust { who, process, limit } => {
                let quota = limits(&[(QuotaField::MaxLlmCalls, *limit)]);
                (who, CommandBody::AdjustQuota { pid: pid_of(process), quota })
            }
            Self::Pass(_) | Self::Back(_) => return None,
        };
        Some((principal(*by), body))
    }
}

/// What must hold of any state.
pub(super) fn check_state(state: &State) -> Result<(), String> {
    let mut held: BTreeMap<&ProcessId, Amounts> = BTreeMap::new();
    let mut used: BTreeMap<&ProcessId, Amounts> = BTreeMap::new();
    for (pid, process) in state.processes.iter() {
        let own = process.reservations.values();
        let holds = state.session(pid).into_iter().flat_map(|session| session.attempts.values());
        let holds = holds.map(|attempt| attempt.hold);
        let own = own.map(|one| one.amounts).chain(holds);
        let own = own.fold(Amounts::ZERO, |sum, one| sum.plus(&one));
        let mut level = Some(pid);
        while let Some((at, above)) = level.and_then(|at| Some((at, state.process(at)?))) {
            let sum = held.entry(at).or_insert(Amounts::ZERO);
            *sum = sum.plus(&own);
            level = above.parent.as_ref();
        }
        if let Some(parent) = &process.parent {
            let sum = used.entry(parent).or_insert(Amounts::ZERO);
            *sum = sum.plus(&process.account.used.amounts);
        }
    }
    for (pid, process) in state.processes.iter() {
        if held.get(pid).copied().unwrap_or(Amounts::ZERO) != process.account.held {
            return Err(format!("K421: {pid} holds {:?}", process.account.held));
        }
        let below = used.get(pid).copied().unwrap_or(Amounts::ZERO);
        if !below.minus(&process.account.used.amounts).is_zero() {
            return Err(format!("K421: the children of {pid} used more than it"));
        }
        check_place(state, pid)?;
    }
    for state_of in ProcessState::ALL {
        let count = state.processes.iter().filter(|(_, process)| process.state == *state_of);
        if count.count() as u64 != state.tally.of(*state_of) {
            return Err(format!("the tally of {} is wrong", state_of.name()));
        }
    }
    Ok(())
}

/// K426: who is Ready is in one ready set, once; nobody else is in any.
fn check_place(state: &State, pid: &ProcessId) -> Result<(), String> {
    let Some(process) = state.process(pid) else {
        return Ok(());
    };
    let sets = state.ready.iter().filter(|set| set.entry(pid).is_some()).count();
    let expected = usize::from(process.state == ProcessState::Ready && !process.is_held());
    let holds = process.state == ProcessState::Running || state.has_live_attempt(pid);
    let leased = process.run_lease.is_some() == holds;
    match sets == expected && leased {
        true => Ok(()),
        false => Err(format!("K426: {pid} is {} and in {sets} ready sets", process.state.name())),
    }
}

/// K420: a hold is granted only if it fits at every level. K423: only legal transitions.
fn check_event(after: &State, event: &Event) -> Result<(), String> {
    let Some(pid) = &event.subject.pid else {
        return Ok(());
    };
    match &event.body {
        // Nothing of a resource always fits, even where its limit was lowered (K267).
        Body::Quota { event: QuotaEvent::Reserved { amounts, .. } } if amounts.llm_calls > 0 => {
            for (level, process) in after.lineage(pid) {
                let taken = process.account.taken(Resource::LlmCalls);
                let unreserved = process.account.unreserved.llm_calls;
                if !process.quota.max_llm_calls.allows(taken.saturating_sub(unreserved)) {
                    return Err(format!("K420: {level} overshoots: {taken}"));
                }
            }
        }
        Body::Process { event: ProcessEvent::StateChanged { from, to, .. } } => {
            if !from.next().contains(to) {
                return Err(format!("K423: {} -> {}", from.name(), to.name()));
            }
        }
        Body::Kernel { .. }
        | Body::Process { .. }
        | Body::Quota { .. }
        | Body::Rate { .. }
        | Body::Envelope { .. }
        | Body::Interrupt { .. }
        | Body::Approval { .. }
        | Body::Service { .. }
        | Body::Slot { .. }
        | Body::Dispatch { .. }
        | Body::Session { .. } => {}
    }
    Ok(())
}

fn run(steps: &[Step]) -> Result<Rig, String> {
    let mut rig = Rig::new();
    for step in steps {
        let before = rig.events.len();
        match (step, step.command()) {
            (Step::Pass(millis), _) => rig.pass(*millis),
            (Step::Back(millis), _) => {
                rig.now = Time::from_millis(rig.now.as_millis().saturating_sub(*millis));
            }
            (_, Some((by, body))) => {
                // K434 and K2 are checked by the rig: what is refused has changed nothing.
                let _ = rig.say(&by, body);
            }
            (_, None) => {}
        }
        for event in &rig.events[before..] {
            check_event(rig.kernel.state(), event)?;
        }
        check_state(rig.kernel.state())?;
    }
    match rig.events.is_sorted_by_key(|event| event.time) {
        true => Ok(rig),
        false => Err("K449: time went back".to_owned()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No sequence of commands breaks an invariant, and folding the events again gives the state.
    #[test]
    fn accounts_and_states_hold_and_events_are_all(steps in prop::collection::vec(step(), 0..80)) {
        let mut rig = run(&steps).map_err(TestCaseError::fail)?;
        let mut again = State::new(super::config::KernelConfig::new());
        rig.events.iter().for_each(|event| again.apply(event));
        prop_assert_eq!(again.processes.root(), rig.kernel.state.processes.root());
        prop_assert_eq!(&again.ready, &rig.kernel.state.ready);
        prop_assert_eq!(again.counters, rig.kernel.state.counters);
    }
}

/// The checks bite: an account, a ready set, a grant and a transition that are wrong are noticed.
#[test]
fn each_invariant_is_noticed_when_broken() {
    let mut rig = Rig::new();
    rig.ready(&user("alice"), submit("p0"));
    rig.say(&user("alice"), reserve("p0", "r", calls(2))).unwrap();
    assert_eq!(check_state(rig.kernel.state()), Ok(()));
    let broken = |change: fn(&mut State)| {
        let mut state = rig.kernel.state.clone();
        change(&mut state);
        check_state(&state).unwrap_err()
    };
    let forgot_the_hold = broken(|state| {
        state.processes.update(&pid("p0"), |process| process.account.held = Amounts::ZERO);
    });
    assert!(forgot_the_hold.starts_with("K421"), "{forgot_the_hold}");
    let lost_wakeup = broken(|state| state.ready[0].remove(&pid("p0")));
    assert!(lost_wakeup.starts_with("K426"), "{lost_wakeup}");

    let reserved = rig.events.last().unwrap();
    assert_eq!(check_event(rig.kernel.state(), reserved), Ok(()));
    let mut overshot = rig.kernel.state.clone();
    overshot.processes.update(&pid("p0"), |process| {
        process.quota.max_llm_calls = Limit::at_most(1);
    });
    assert!(check_event(&overshot, reserved).unwrap_err().starts_with("K420"));
}
