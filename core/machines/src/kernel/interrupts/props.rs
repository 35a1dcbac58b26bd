//! Goal: an interrupt ends once, silence is no yes, leave is for what was shown, nobody sleeps for
//! ever and a refusal changes nothing (K422, K426, K427, K434, K441, K174).
//! Method: random questions, answers, uses and waits on a few processes. The oracle reads commands
//! and events alone; each rule is then shown to notice its sabotage, done to the state behind the
//! kernel's back.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::kernel::CommandBody;
use crate::kernel::event::{Body, Event, ProcessEvent};
use crate::kernel::ids::{InterruptId, UseId};
use crate::kernel::json::Json;
use crate::kernel::names::{
    ExpiryPolicy, InterruptKind, InterruptStatus, ProcessState, ReviewDecision,
};
use crate::kernel::principal::Principal;
use crate::kernel::rig::{Rig, operator, pid, submit, user, worker};
use crate::kernel::state::State;

use super::approval::Use;
use super::event::{ApprovalEvent, InterruptEvent};
use super::interrupt::{Interrupt, NewInterrupt, NewTarget, Response};
use super::rig::{HOUR, MINUTE, approved, ask, decides, new, resolve, says, text, to_user};
use super::target::target_hash;

const PROCESSES: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    Submit(u8),
    Claim,
    Release(u8),
    Terminate(u8),
    CleanUp(u8),
    Ask { process: u8, new: Box<NewInterrupt> },
    Answer { who: u8, nth: u8, says: u8, quoted: bool },
    Cancel { who: u8, nth: u8 },
    Consume { nth: u8, sum: u64, use_id: u8 },
    Pass(u64),
}

fn payment(sum: u64) -> Json {
    Json::object([("sum", Json::from(sum))])
}

fn question() -> impl Strategy<Value = Box<NewInterrupt>> {
    let kind = prop_oneof![
        prop::sample::select(InterruptKind::ALL),
        Just(InterruptKind::Confirmation),
        Just(InterruptKind::AgentReview),
    ];
    let policy = prop::option::of(prop::sample::select(ExpiryPolicy::ALL));
    let ttl = prop::option::of(1..2 * HOUR);
    let flags = (prop::option::of(any::<bool>()), prop::bool::weighted(0.8), any::<bool>());
    let key = prop::option::weighted(0.2, 0..2_u8);
    (kind, policy, ttl, flags, 0..3_u64, key).prop_map(
        |(kind, on_expiry, ttl, (auto_expire, blocking, assigned), sum, key)| {
            let target =
                NewTarget { action: Arc::from("pay"), params: payment(sum), binds: Vec::new() };
            Box::new(NewInterrupt {
                on_expiry: on_expiry.filter(|policy| policy.suits(kind)),
                ttl,
                auto_expire: auto_expire.filter(|_| kind != InterruptKind::Checkpoint),
                blocking: Some(blocking || kind.asks_leave()),
                assignee: to_user("bob").filter(|_| assigned),
                target: (sum > 0).then(|| Box::new(target)),
                key: key.and_then(|key| text(&format!("k{key}"))),
                ..new(kind)
            })
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let (process, who, nth) = (0..PROCESSES, 0..3_u8, 0..8_u8);
    prop_oneof![
        2 => process.clone().prop_map(Step::Submit),
        8 => Just(Step::Claim),
        1 => process.clone().prop_map(Step::Release),
        1 => process.clone().prop_map(Step::Terminate),
        1 => process.clone().prop_map(Step::CleanUp),
        6 => (process, question()).prop_map(|(process, new)| Step::Ask { process, new }),
        6 => (who.clone(), nth.clone(), 0..6_u8, prop::bool::weighted(0.9))
            .prop_map(|(who, nth, says, quoted)| Step::Answer { who, nth, says, quoted }),
        1 => (who, nth.clone()).prop_map(|(who, nth)| Step::Cancel { who, nth }),
        6 => (nth, 0..4_u64, 0..2_u8)
            .prop_map(|(nth, sum, use_id)| Step::Consume { nth, sum, use_id }),
        3 => prop_oneof![0..MINUTE, 0..2 * HOUR].prop_map(Step::Pass),
    ]
}

fn principal(number: u8) -> Principal {
    match number {
        0 => user("alice"),
        1 => user("bob"),
        _ => operator(),
    }
}

/// What somebody answers to a kind: mostly what fits.
fn answer(kind: InterruptKind, says_what: u8) -> Response {
    match (kind, says_what) {
        (_, 5) => Response::default(),
        (InterruptKind::Confirmation, what) => approved(what % 2 == 0),
        (InterruptKind::AgentReview, 0 | 1) => decides(ReviewDecision::Approve),
        (InterruptKind::AgentReview, 2) => decides(ReviewDecision::Reject),
        (InterruptKind::AgentReview, _) => {
            Response { data: Some(payment(3)), ..decides(ReviewDecision::Modify) }
        }
        (
            InterruptKind::Clarification
            | InterruptKind::Checkpoint
            | InterruptKind::ResourceExhausted
            | InterruptKind::Timeout
            | InterruptKind::SystemError,
            _,
        ) => says("so"),
    }
}

/// The oracle: what is known of an interrupt from the events alone.
#[derive(Clone, Debug)]
struct Known {
    interrupt: Interrupt,
    ends: u32,
    accepted: Option<Response>,
    granted: u32,
    used: u32,
}

#[derive(Clone, Debug, Default)]
struct Oracle {
    known: BTreeMap<InterruptId, Known>,
    order: Vec<InterruptId>,
}

impl Oracle {
    fn nth(&self, nth: u8) -> Option<&InterruptId> {
        // The newest come first: of them there is more to say.
        self.order.iter().rev().nth(usize::from(nth))
    }

    /// Reads the events of one decision, and what it was asked.
    fn read(&mut self, events: &[Event], asked: Option<&CommandBody>) -> Result<(), String> {
        for event in events {
            if let Body::Interrupt { event } = &event.body {
                self.interrupt(event, events)?;
            }
            if let Body::Approval { event } = &event.body {
                self.approval(event, asked)?;
            }
        }
        Ok(())
    }

    fn interrupt(&mut self, event: &InterruptEvent, all: &[Event]) -> Result<(), String> {
        match event {
            InterruptEvent::Raised { interrupt } => {
                let id = interrupt.id.clone();
                let interrupt = interrupt.as_ref().clone();
                let known = Known { interrupt, ends: 0, accepted: None, granted: 0, used: 0 };
                self.order.push(id.clone());
                match self.known.insert(id.clone(), known) {
                    None => Ok(()),
                    Some(_) => Err(format!("K422: {id} was raised twice")),
                }
            }
            InterruptEvent::Resolved { id, response, accepted, .. } => {
                let known = self.end(id)?;
                let yes = response.approved == Some(true)
                    || response.decision.is_some_and(|said| said != ReviewDecision::Reject);
                known.accepted = accepted.then(|| response.as_ref().clone());
                match known.interrupt.kind.asks_leave() && *accepted != yes {
                    true => Err(format!("K156: {id} was taken for another answer")),
                    false => Ok(()),
                }
            }
            InterruptEvent::Expired { id, escalated_to, .. } => {
                let known = self.end(id)?;
                let silent = known.interrupt.kind.asks_leave() && escalated_to.is_none();
                let pid = &known.interrupt.pid;
                let over = all.iter().any(|event| {
                    event.subject.pid.as_ref() == Some(pid)
                        && event.body.kind() == "process.terminated"
                });
                match silent && !over {
                    true => Err(format!("K427: {pid} goes on though nobody answered {id}")),
                    false => Ok(()),
                }
            }
            InterruptEvent::Cancelled { id, .. } => self.end(id).map(|_| ()),
            InterruptEvent::Removed { ids } => {
                let open = ids.iter().find(|id| self.known.get(id).is_none_or(|one| one.ends != 1));
                open.map_or(Ok(()), |id| Err(format!("K361: {id} was removed while pending")))
            }
        }
    }

    fn end(&mut self, id: &InterruptId) -> Result<&mut Known, String> {
        let known = self.known.get_mut(id).ok_or_else(|| format!("{id} was never raised"))?;
        known.ends += 1;
        match known.ends {
            1 => Ok(known),
            _ => Err(format!("K422: {id} left Pending twice")),
        }
    }

    fn approval(
        &mut self,
        event: &ApprovalEvent,
        asked: Option<&CommandBody>,
    ) -> Result<(), String> {
        match event {
            ApprovalEvent::Granted { interrupt: id, hash, .. } => {
                let known = self.known.get_mut(id).ok_or("K427: of nothing")?;
                known.granted += 1;
                let Some(response) = known.accepted.as_ref().filter(|_| known.granted == 1) else {
                    return Err(format!("K427: {id} was not said yes to, or twice"));
                };
                let shown = known.interrupt.target.as_ref().ok_or("K170: no target")?;
                let params = response.data.as_ref().unwrap_or(&shown.params);
                match target_hash(&known.interrupt.pid, &shown.action, params, &[]) == *hash {
                    true => Ok(()),
                    false => Err(format!("K441: {id} was granted for something else")),
                }
            }
            ApprovalEvent::Consumed { interrupt: id, .. } => {
                let known = self.known.get_mut(id).ok_or("K441: of nothing")?;
                known.used += 1;
                if known.used > 1 || known.granted != 1 {
                    return Err(format!("K441: {id} was used {} times", known.used));
                }
                let said = known.accepted.as_ref().and_then(|response| response.data.as_ref());
                let shown = known.interrupt.target.as_ref().map(|target| &target.params);
                let Some(CommandBody::ConsumeApproval(wanted)) = asked else {
                    return Err("K441: used by no command".to_owned());
                };
                match Some(&wanted.params) == said.or(shown) {
                    true => Ok(()),
                    false => Err(format!("K441: {id} was used for what nobody saw")),
                }
            }
            ApprovalEvent::Lapsed { .. } => Ok(()),
        }
    }
}

/// What must hold of any state.
fn check_state(state: &State) -> Result<(), String> {
    let counts = state.counters.interrupts;
    let mut pending: BTreeMap<_, Vec<&Interrupt>> = BTreeMap::new();
    for (_, interrupt) in state.interrupts.iter().filter(|(_, one)| one.is_pending()) {
        pending.entry(&interrupt.pid).or_default().push(interrupt);
    }
    let sum: usize = pending.values().map(Vec::len).sum();
    if sum as u64 != counts.pending() {
        return Err(format!("K174: {sum} are pending, not {}", counts.pending()));
    }
    for (pid, process) in &state.processes {
        let mut own = pending.remove(pid).unwrap_or_default();
        own.sort_unstable_by_key(|interrupt| interrupt.number);
        let ids: Vec<_> = own.iter().map(|interrupt| interrupt.id.clone()).collect();
        let blocking = own.iter().filter(|interrupt| interrupt.blocking).count();
        if ids != process.interrupts || blocking != process.blocking as usize {
            return Err(format!("K153: {pid} does not know what it waits for"));
        }
        let state_of = process.state;
        let set = state.ready.iter().any(|set| set.entry(pid).is_some());
        let wakes = blocking > 0 || process.wait.is_some();
        if (state_of == ProcessState::Waiting && !wakes)
            || (state_of == ProcessState::Running && blocking > 0)
            || set != (state_of == ProcessState::Ready && blocking == 0)
        {
            return Err(format!("K426: {pid} is {} and nobody wakes it", state_of.name()));
        }
        if state_of.is_terminal() && !ids.is_empty() {
            return Err(format!("K173: {pid} is over and asks"));
        }
    }
    Ok(())
}

/// K434: a refusal leaves everything as it was.
fn check_same(before: &State, after: &State) -> Result<(), String> {
    let same = before.processes == after.processes
        && before.interrupts == after.interrupts
        && before.approvals == after.approvals
        && before.counters == after.counters
        && before.ready == after.ready
        && before.deadlines == after.deadlines
        && before.asked == after.asked;
    if same { Ok(()) } else { Err("K434: refused, and yet something changed".to_owned()) }
}

fn command(step: &Step, oracle: &Oracle, rig: &Rig) -> Option<(Principal, CommandBody)> {
    let name = |process: &u8| format!("p{process}");
    let alice = user("alice");
    let to = |process: &u8, to| CommandBody::TransitionState {
        pid: pid(&name(process)),
        to,
        reason: "because".to_owned(),
    };
    Some(match step {
        Step::Submit(process) => {
            let (pid, known) = (pid(&name(process)), rig.kernel.process(&pid(&name(process))));
            let body = match known.is_some_and(|process| process.state == ProcessState::New) {
                true => CommandBody::Schedule { pid },
                false => CommandBody::Submit(Box::new(submit(&name(process)))),
            };
            (alice, body)
        }
        Step::Claim => (worker("w"), CommandBody::NextRunnable),
        Step::Release(process) => (alice, to(process, ProcessState::Ready)),
        Step::Terminate(process) => (alice, to(process, ProcessState::Terminated)),
        Step::CleanUp(process) => (alice, CommandBody::CleanupProcess { pid: pid(&name(process)) }),
        Step::Ask { process, new } => (alice, ask(&name(process), new.as_ref().clone())),
        Step::Answer { who, nth, says, quoted } => {
            let id = oracle.nth(*nth)?;
            let asked = &oracle.known.get(id)?.interrupt;
            let shown = asked.target.as_ref().map(|target| target.hash);
            let target_hash = shown.filter(|_| *quoted);
            let response = Response { target_hash, ..answer(asked.kind, *says) };
            (principal(*who), resolve(id, response))
        }
        Step::Cancel { who, nth } => (principal(*who), super::rig::cancel(oracle.nth(*nth)?)),
        Step::Consume { nth, sum, use_id } => {
            // Mostly what was granted, and half of that for what was shown.
            let granted = oracle.known.values().filter(|known| known.granted > 0);
            let granted = granted.max_by_key(|known| known.interrupt.number);
            let newest = granted.map(|known| &known.interrupt.id).filter(|_| *nth > 1);
            let id = newest.or_else(|| oracle.nth(*nth))?.clone();
            let params = rig.kernel.state().interrupt(&id).and_then(Interrupt::approved_params);
            let wanted = Use {
                interrupt: id,
                action: Arc::from("pay"),
                params: params.filter(|_| *sum < 2).cloned().unwrap_or_else(|| payment(*sum)),
                use_id: UseId::parse("use_id", &format!("u{use_id}")).unwrap(),
            };
            (worker("w"), CommandBody::ConsumeApproval(Box::new(wanted)))
        }
        Step::Pass(_) => return None,
    })
}

/// Says one thing and reads what came of it.
fn say(rig: &mut Rig, oracle: &mut Oracle, said: (Principal, CommandBody)) -> Result<(), String> {
    let before = rig.kernel.state().clone();
    let (by, body) = said;
    match rig.say(&by, body.clone()) {
        Ok(events) => oracle.read(&events, Some(&body))?,
        Err(_) => check_same(&before, rig.kernel.state())?,
    }
    check_state(rig.kernel.state())
}

/// Lets time pass, deadline by deadline: what falls due at one time is read together.
fn pass(rig: &mut Rig, oracle: &mut Oracle, millis: u64) -> Result<(), String> {
    let end = rig.now.plus(millis);
    while let Some(due) = rig.kernel.next_deadline().filter(|due| *due <= end) {
        let before = rig.events.len();
        let wait = due.since(rig.now);
        rig.pass(wait);
        oracle.read(&rig.events[before..], None)?;
        check_state(rig.kernel.state())?;
    }
    let rest = end.since(rig.now);
    rig.pass(rest);
    Ok(())
}

fn run(steps: &[Step]) -> Result<(Rig, Oracle), String> {
    let (mut rig, mut oracle) = (Rig::new(), Oracle::default());
    for step in steps {
        if let Step::Consume { .. } = step {
            // Who uses leave runs the process: it is claimed if it is there to be.
            pass(&mut rig, &mut oracle, 0)?;
            say(&mut rig, &mut oracle, (worker("w"), CommandBody::NextRunnable))?;
        }
        match (step, command(step, &oracle, &rig)) {
            (Step::Pass(millis), _) => pass(&mut rig, &mut oracle, *millis)?,
            (_, Some(said)) => {
                // What is due comes first, and is read for itself.
                pass(&mut rig, &mut oracle, 0)?;
                say(&mut rig, &mut oracle, said)?;
            }
            (_, None) => {}
        }
    }
    for (id, interrupt) in &rig.kernel.state().interrupts {
        let ends = oracle.known.get(id).map(|known| known.ends);
        if ends != Some(u32::from(interrupt.status != InterruptStatus::Pending)) {
            return Err(format!("K422: {id} ended {ends:?} times"));
        }
    }
    Ok((rig, oracle))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// No sequence of questions, answers and silence breaks a rule.
    #[test]
    fn interrupts_end_once_and_silence_is_no_yes(steps in prop::collection::vec(step(), 0..60)) {
        run(&steps).map_err(TestCaseError::fail)?;
    }
}

/// The sequences reach what they are about.
#[test]
fn random_sequences_reach_every_end() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..300 {
        let steps = prop::collection::vec(step(), 60).new_tree(&mut runner).unwrap().current();
        for event in &run(&steps).unwrap().0.events {
            *seen.entry(event.body.kind()).or_default() += 1;
        }
    }
    let kinds = ["raised", "resolved", "expired", "cancelled", "removed"];
    let kinds = kinds.iter().map(|kind| format!("interrupt.{kind}"));
    let approvals = ["granted", "consumed", "lapsed"].iter().map(|kind| format!("approval.{kind}"));
    for kind in kinds.chain(approvals) {
        let count = seen.get(kind.as_str()).copied().unwrap_or(0);
        assert!(count >= 3, "{kind}: {seen:?}");
    }
}

/// A process that runs, what it asked leave for, and its oracle.
fn leave() -> (Rig, Oracle, InterruptId) {
    let (mut rig, mut oracle) = (Rig::new(), Oracle::default());
    rig.running("p0");
    let target = NewTarget { action: Arc::from("pay"), params: payment(1), binds: Vec::new() };
    let target = Some(Box::new(target));
    let asked = ask("p0", NewInterrupt { target, ..new(InterruptKind::Confirmation) });
    say(&mut rig, &mut oracle, (user("alice"), asked)).unwrap();
    let id = oracle.order[0].clone();
    (rig, oracle, id)
}

fn yes(rig: &Rig, id: &InterruptId) -> (Principal, CommandBody) {
    (user("alice"), resolve(id, rig.shown(id, approved(true))))
}

fn noticed(result: Result<(), String>, rule: &str) {
    let told = result.unwrap_err();
    assert!(told.starts_with(rule), "{told}");
}

/// K422: a kernel that accepts a second resolve.
#[test]
fn a_second_resolve_is_noticed() {
    let (mut rig, mut oracle, id) = leave();
    let said = yes(&rig, &id);
    say(&mut rig, &mut oracle, said).unwrap();
    let sound = rig.interrupt(&id).clone();
    rig.kernel.state.interrupts.update(&id, |interrupt| {
        interrupt.status = InterruptStatus::Pending;
        interrupt.answer = None;
    });
    let no = resolve(&id, rig.shown(&id, approved(false)));
    let events = rig.kernel.execute(at(&rig), &by_alice(no.clone())).unwrap();
    noticed(oracle.clone().read(&events, Some(&no)), "K422");
    assert!(!sound.is_pending());
}

fn at(rig: &Rig) -> crate::kernel::At {
    crate::kernel::At { now: rig.now, nonce: [9; 16] }
}

fn by_alice(body: CommandBody) -> crate::kernel::Command {
    crate::kernel::Command { by: user("alice"), worker: None, rate: None, body }
}

/// K427: a kernel that clears a confirmation when it expires, and lets the process go on.
#[test]
fn a_yes_by_silence_is_noticed() {
    let (mut rig, mut oracle, id) = leave();
    rig.kernel.state.interrupts.update(&id, |interrupt| {
        interrupt.on_expiry = ExpiryPolicy::Continue;
    });
    noticed(pass(&mut rig, &mut oracle, 2 * HOUR), "K427");

    // Or one that grants what was cancelled.
    let (mut rig, mut oracle, id) = leave();
    say(&mut rig, &mut oracle, (user("alice"), super::rig::cancel(&id))).unwrap();
    let hash = rig.interrupt(&id).target.as_ref().unwrap().hash;
    let event = ApprovalEvent::Granted { interrupt: id, hash, until: rig.now };
    noticed(oracle.approval(&event, None), "K427");
}

/// K441: a kernel that skips the check of what is about to be done.
#[test]
fn an_approval_for_something_else_is_noticed() {
    let (mut rig, mut oracle, id) = leave();
    let said = yes(&rig, &id);
    say(&mut rig, &mut oracle, said).unwrap();
    rig.claim("p0");
    let more = payment(1_000);
    rig.kernel.state.approvals.update(&id, |approval| {
        approval.hash = target_hash(&pid("p0"), "pay", &more, &[]);
    });
    let use_id = UseId::parse("use_id", "u").unwrap();
    let wanted = Use { interrupt: id, action: Arc::from("pay"), params: more, use_id };
    let body = CommandBody::ConsumeApproval(Box::new(wanted));
    noticed(say(&mut rig, &mut oracle, (worker("w"), body)), "K441");
}

/// K426: a kernel that forgets to wake a process when its last question is closed.
#[test]
fn a_forgotten_wake_is_noticed() {
    let (rig, _, id) = leave();
    let mut state = rig.kernel.state().clone();
    let event = InterruptEvent::Expired { id, policy: ExpiryPolicy::Continue, escalated_to: None };
    assert_eq!(check_state(&state), Ok(()));
    state.apply_interrupt(rig.now, &event);
    noticed(check_state(&state), "K426");

    // And one that lets a held process run.
    let mut state = rig.kernel.state().clone();
    state.processes.update(&pid("p0"), |process| process.state = ProcessState::Running);
    noticed(check_state(&state), "K426");
}

/// K434: a kernel that counts before it checks.
#[test]
fn a_count_before_the_check_is_noticed() {
    let (rig, _, _) = leave();
    let before = rig.kernel.state().clone();
    let mut after = before.clone();
    assert_eq!(check_same(&before, &after), Ok(()));
    after.processes.update(&pid("p0"), |process| process.interrupts_ever += 1);
    noticed(check_same(&before, &after), "K434");
}

/// K423: the transitions of interrupts are those of the table.
#[test]
fn only_legal_transitions_come_of_answers() {
    let (mut rig, mut oracle, id) = leave();
    let said = yes(&rig, &id);
    say(&mut rig, &mut oracle, said).unwrap();
    for event in &rig.events {
        if let Body::Process { event: ProcessEvent::StateChanged { from, to, .. } } = &event.body {
            assert!(from.next().contains(to), "{from:?} -> {to:?}");
        }
    }
}
