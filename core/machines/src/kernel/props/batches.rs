//! Goal: the same inputs give the same events and the same state, however many deadlines one
//! decision handles (K10, K435).
//!
//! Method: random commands to kernels that differ in `tick_batch` alone. Time passes in long steps,
//! so that many deadlines are due at once, and what they do draws ids and waits. The driver gives
//! the ticks of one moment one nonce; a driver that draws one for each decision must be caught.

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::ServiceRequest;
use crate::kernel::dispatch::rig::{bind, dispatch, info, queued, register, svc};
use crate::kernel::event::{Body, Event, KernelEvent};
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::names::{ExpiryPolicy, InterruptKind};
use crate::kernel::part::KernelPart;
use crate::kernel::pipeline::retry::RetryPolicy;
use crate::kernel::principal::Principal;
use crate::kernel::rig::{calls, node, operator, pid, reserve, submit, user, worker};
use crate::kernel::services::ServiceMode;
use crate::kernel::{At, Command, CommandBody, Kernel, Time};
use crate::ledger::fold::Part;

#[derive(Clone, Debug)]
enum Step {
    Submit(u8),
    Claim,
    Reserve(u8, u8),
    Ask(u8),
    Dispatch { id: u8, push: bool },
    Lease(u32),
    Acquire,
    End(u8),
    Pass(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6_u8).prop_map(Step::Submit),
        2 => Just(Step::Claim),
        2 => (0..6_u8, 0..4_u8).prop_map(|(process, id)| Step::Reserve(process, id)),
        3 => (0..6_u8).prop_map(Step::Ask),
        6 => (0..30_u8, any::<bool>()).prop_map(|(id, push)| Step::Dispatch { id, push }),
        2 => (1..4_u32).prop_map(Step::Lease),
        2 => Just(Step::Acquire),
        1 => (0..6_u8).prop_map(Step::End),
        3 => prop_oneof![0..2_000_u64, 0..90_000_u64, 0..5_000_000_u64].prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// Who gives nonces to ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nonces {
    /// The ticks of one moment have one.
    OfTheMoment,
    /// Sabotage: each decision has its own, so that what is drawn depends on how many there were.
    OfTheDecision,
}

/// A kernel and what drives it.
struct Driver {
    kernel: Kernel,
    config: KernelConfig,
    now: Time,
    inputs: u64,
    decisions: u64,
    nonces: Nonces,
    events: Vec<Event>,
}

impl Driver {
    fn new(tick_batch: u64, nonces: Nonces) -> Self {
        let config = KernelConfig { tick_batch, ..KernelConfig::new() };
        let kernel = Kernel::new(config.clone()).unwrap();
        let now = Time::from_millis(1_000_000);
        let (inputs, decisions, events) = (0, 0, Vec::new());
        let mut driver = Self { kernel, config, now, inputs, decisions, nonces, events };
        driver.start();
        driver
    }

    fn start(&mut self) {
        let config = Box::new(self.config.clone());
        self.say(&node(), CommandBody::Start { config });
        for mode in [ServiceMode::Push, ServiceMode::Pull] {
            let name = if mode == ServiceMode::Push { "p" } else { "q" };
            self.say(&worker("w"), register(info(name, mode, 3)));
        }
        self.say(&node(), bind("p"));
    }

    fn decide(&mut self, what: u8, number: u64, by: Principal, body: CommandBody) {
        let mut nonce = [what; 16];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        let command = Command { by, worker: None, rate: None, body };
        let decided = self.kernel.execute(At { now: self.now, nonce }, &command);
        self.events.extend(decided.into_iter().flatten());
    }

    fn say(&mut self, by: &Principal, body: CommandBody) {
        self.inputs += 1;
        while self.kernel.next_deadline().is_some_and(|due| due <= self.now) {
            self.decisions += 1;
            let number = match self.nonces {
                Nonces::OfTheMoment => self.now.as_millis(),
                Nonces::OfTheDecision => self.decisions,
            };
            self.decide(1, number, node(), CommandBody::Tick);
        }
        self.decide(2, self.inputs, by.clone(), body);
    }

    fn step(&mut self, step: &Step) {
        let name = |process: &u8| format!("p{process}");
        let ann = user("ann");
        match step {
            Step::Submit(process) => {
                let submit = submit(&name(process));
                let pid = pid(&name(process));
                self.say(&ann, CommandBody::Submit(Box::new(submit)));
                self.say(&ann, CommandBody::Schedule { pid });
            }
            Step::Claim => self.say(&worker("w"), CommandBody::NextRunnable),
            Step::Reserve(process, id) => {
                self.say(&ann, reserve(&name(process), &format!("r{id}"), calls(1)));
            }
            Step::Ask(process) => {
                let mut interrupt = NewInterrupt::new(InterruptKind::Confirmation);
                interrupt.on_expiry = Some(ExpiryPolicy::Escalate);
                let interrupt = Box::new(interrupt);
                let pid = pid(&name(process));
                self.say(&ann, CommandBody::CreateInterrupt { pid, interrupt });
            }
            Step::Dispatch { id, push } => self.say(&worker("w"), dispatch(jittered(*id, *push))),
            Step::Lease(max) => {
                let (service, max) = (svc("q"), *max);
                self.say(&worker("w"), CommandBody::LeaseTasks { service, max });
            }
            Step::Acquire => {
                let (service, pid, lease_ms) = (svc("q"), None, None);
                self.say(&worker("w"), CommandBody::AcquireSlot { service, pid, lease_ms });
            }
            Step::End(process) => {
                let (pid, message) = (pid(&name(process)), String::new());
                self.say(&ann, CommandBody::Terminate { pid, message, force: true });
            }
            Step::Pass(millis) => {
                self.now = self.now.plus(*millis);
                self.say(&operator(), CommandBody::Cleanup);
            }
            Step::Restart => self.start(),
        }
    }

    /// What can be compared: all but the one setting in which the kernels differ.
    fn seen(mut self) -> (Vec<Event>, Vec<[u8; 32]>) {
        let tables = 1..KernelPart::TABLES.len(); // The first is the configuration.
        let _ = self.kernel.root(); // So that counters are in their table.
        let root = |number| KernelPart::table(&mut self.kernel, number).unwrap().root();
        let roots = tables.map(root).collect();
        for event in &mut self.events {
            if let Body::Kernel { event: KernelEvent::Started { config, .. } } = &mut event.body {
                config.tick_batch = 1;
            }
        }
        (self.events, roots)
    }
}

/// A call that fails by its time, is tried again after a wait that chance decides, and so on.
fn jittered(id: u8, push: bool) -> ServiceRequest {
    let request = queued(&format!("d{id}"), if push { "p" } else { "q" });
    let retry = RetryPolicy { max_retries: 3, jitter_pct: 100, ..RetryPolicy::default() };
    // Several have the same times, so that they are due at once.
    ServiceRequest { retry, try_timeout_ms: 1_000 * u64::from(1 + id % 3), ..request }
}

fn check(steps: &[Step], nonces: Nonces) -> Result<(), TestCaseError> {
    let run = |tick_batch| {
        let mut driver = Driver::new(tick_batch, nonces);
        steps.iter().for_each(|step| driver.step(step));
        driver.seen()
    };
    let (events, roots) = run(1_000);
    for tick_batch in [1, 7] {
        let (others, other_roots) = run(tick_batch);
        let first = events.iter().zip(&others).position(|(one, other)| one != other);
        prop_assert_eq!(first, None, "the first event that differs");
        prop_assert_eq!(events.len(), others.len());
        prop_assert_eq!(&roots, &other_roots);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// K435, K10.
    #[test]
    fn batches_of_deadlines_change_nothing(steps in prop::collection::vec(step(), 0..60)) {
        check(&steps, Nonces::OfTheMoment)?;
    }
}

/// The check bites: a driver whose nonces count decisions lets chance depend on the batch.
#[test]
fn a_nonce_for_each_decision_is_caught() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) };
    let algorithm = proptest::test_runner::RngAlgorithm::ChaCha;
    let random = proptest::test_runner::TestRng::deterministic_rng(algorithm);
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner
        .run(&prop::collection::vec(step(), 0..60), |steps| check(&steps, Nonces::OfTheDecision));
    assert!(matches!(outcome, Err(TestError::Fail(..))), "{outcome:?}");
}
