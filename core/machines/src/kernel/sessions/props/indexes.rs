//! Goal: whoever owns, runs and asks about a process, every index is what its table gives, after
//! each event and not only after each decision (K12).
//! Method: random sessions whose workers are not their owners; a follower applies one event at a
//! time, and is compared with one that finds all that is derived anew.

use proptest::prelude::*;

use super::pipelines::{Shape, shape};
use super::{Act, act};
use crate::kernel::CommandBody;
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::names::InterruptKind;
use crate::kernel::principal::Principal;
use crate::kernel::query::index::ProcessIndex;
use crate::kernel::rig::{check_derived, operator, pid, user, worker};
use crate::kernel::sessions::rig::{Desk, linear};

/// What somebody does to alice's process.
#[derive(Clone, Debug)]
enum Step {
    /// What a worker does.
    Work(Act),
    Schedule,
    Claim,
    /// The process waits for an answer, whoever works for it.
    Question,
    Terminate,
    CleanUp,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => act().prop_map(Step::Work),
        2 => Just(Step::Schedule),
        3 => Just(Step::Claim),
        3 => Just(Step::Question),
        1 => prop_oneof![Just(Step::Terminate), Just(Step::CleanUp)],
    ]
}

/// The owner, two workers, an operator.
fn who(number: u8) -> Principal {
    match number {
        0 => user("alice"),
        1..=3 => worker("w"),
        4 => worker("v"),
        _ => operator(),
    }
}

impl Step {
    fn run(&self, desk: &mut Desk, shape: &Shape) {
        let pid = pid("p");
        let body = match self {
            Self::Work(act) => return act.run(desk, shape),
            Self::Schedule => CommandBody::Schedule { pid },
            Self::Claim => CommandBody::NextRunnable,
            Self::Question => {
                let interrupt = Box::new(NewInterrupt::new(InterruptKind::Confirmation));
                CommandBody::CreateInterrupt { pid, interrupt }
            }
            Self::Terminate => CommandBody::Terminate { pid, message: String::new(), force: true },
            Self::CleanUp => CommandBody::CleanupProcess { pid },
        };
        let _ = desk.say(body); // What is refused has changed nothing.
    }
}

fn run(shape: &Shape, steps: &[(u8, Step)]) -> Result<(), String> {
    let mut desk = Desk::new(shape.pipeline());
    for (number, step) in steps {
        if desk.rig.kernel.process(&pid("p")).is_none() {
            return Ok(());
        }
        let (mut follower, seen) = (desk.rig.kernel.clone(), desk.rig.events.len());
        desk.by = who(*number);
        step.run(&mut desk, shape);
        for event in &desk.rig.events[seen..] {
            follower.apply(event);
            check_derived(&follower).map_err(|why| format!("{}: {why}", event.body.kind()))?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// K12, for processes that others than their owners run.
    #[test]
    fn every_index_follows_from_its_table_after_each_event(
        shape in shape(),
        steps in prop::collection::vec((0..6_u8, step()), 0..40),
    ) {
        run(&shape, &steps).map_err(TestCaseError::fail)?;
    }
}

/// The check bites: an index that lost what it knew is noticed.
#[test]
fn an_index_that_is_not_what_its_table_gives_is_noticed() {
    let mut kernel = Desk::new(linear()).rig.kernel;
    assert_eq!(check_derived(&kernel), Ok(()));
    kernel.state.process_index = ProcessIndex::default();
    assert!(check_derived(&kernel).unwrap_err().starts_with("K12"));
}
