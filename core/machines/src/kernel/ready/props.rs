//! Goal: K429 and K430 hold for any history of arrivals and claims.
//! Method: claims are compared with a model that scans a plain list.

use proptest::prelude::*;

use super::*;

const AGEING: Millis = 10;

#[derive(Clone, Debug)]
enum Step {
    /// A process of a user becomes ready, so much later than the last one.
    Push { user: u8, priority: u8, later: u64 },
    /// Whose turn it is is served.
    Serve,
    /// Somebody takes the process that stands so far in the list.
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..5_u8, 0..5_u8, 0..8_u64)
            .prop_map(|(user, priority, later)| Step::Push { user, priority, later }),
        4 => Just(Step::Serve),
        1 => (0..20_usize).prop_map(Step::Remove),
    ]
}

/// A process that waits, in the model.
#[derive(Clone, Debug)]
struct Waiting {
    pid: ProcessId,
    user: u8,
    band: usize,
    at: u64,
    number: u64,
    /// Turns that each other user had in its band since it came.
    turns: [u32; 5],
    /// Processes of its user and band before it.
    before: usize,
}

/// K70–K72 by scanning: `order` lists the users of each band, the next one first.
#[derive(Default)]
struct Model {
    waiting: Vec<Waiting>,
    order: [Vec<u8>; BANDS],
}

impl Model {
    fn push(&mut self, new: Waiting) {
        if !self.order[new.band].contains(&new.user) {
            self.order[new.band].push(new.user);
        }
        self.waiting.push(new);
    }

    fn next(&self) -> Option<usize> {
        let oldest = |band: usize| {
            let of_band = self.waiting.iter().filter(|one| one.band == band);
            of_band.map(|one| one.at + band as u64 * AGEING).min()
        };
        let band = (0..BANDS).filter(|band| oldest(*band).is_some()).min_by_key(|b| oldest(*b))?;
        let user = self.order[band][0];
        let of_user = |one: &&(usize, &Waiting)| one.1.band == band && one.1.user == user;
        let first = self.waiting.iter().enumerate().collect::<Vec<_>>();
        first.iter().filter(of_user).min_by_key(|(_, one)| (one.at, one.number)).map(|(at, _)| *at)
    }

    fn take(&mut self, at: usize, served: bool) -> Waiting {
        let taken = self.waiting.remove(at);
        let order = &mut self.order[taken.band];
        let more = self.waiting.iter().any(|w| w.band == taken.band && w.user == taken.user);
        if served || !more {
            order.retain(|user| *user != taken.user);
        }
        if served && more {
            order.push(taken.user);
        }
        if served {
            for other in self.waiting.iter_mut().filter(|w| w.band == taken.band) {
                other.turns[usize::from(taken.user)] += 1;
            }
        }
        taken
    }
}

/// Runs a history through the set and the model, and checks K430 at every claim. `lifo` is the
/// saboteur: the newest of equals goes first.
fn check(steps: &[Step], lifo: bool) -> Result<(), String> {
    let (mut set, mut model, mut now) = (ReadySet::new(), Model::default(), 0);
    for (number, step) in (1_u64..).zip(steps) {
        match step {
            Step::Push { user, priority, later } => {
                now += later;
                let pid = ProcessId::parse("pid", &format!("p{number}")).unwrap();
                let priority = Priority::ALL[usize::from(*priority)];
                let entry = Entry {
                    user: UserId::parse("user", &format!("u{user}")).unwrap(),
                    priority,
                    ready_at: Time::from_millis(now),
                    number: if lifo { u64::MAX - number } else { number },
                };
                set.push(pid.clone(), entry);
                let (band, user) = (usize::from(priority.band()), *user);
                let before = model.waiting.iter().filter(|w| w.band == band && w.user == user);
                let before = before.count();
                let turns = [0; 5];
                model.push(Waiting { pid, user, band, at: now, number, turns, before });
            }
            Step::Serve => {
                let next = set.next(AGEING).cloned();
                let expected = model.next();
                let named = expected.map(|at| model.waiting[at].pid.clone());
                if next != named {
                    return Err(format!("{next:?} instead of {named:?}"));
                }
                if let (Some(pid), Some(at)) = (next, expected) {
                    set.serve(&pid);
                    let served = model.take(at, true);
                    // Between two turns of a user every other has at most one; so the k-th
                    // process of a user waits for at most k turns of each other (K429, K430).
                    let most = served
                        .turns
                        .iter()
                        .enumerate()
                        .filter(|(user, _)| *user != usize::from(served.user));
                    if most.clone().any(|(_, turns)| *turns as usize > served.before + 1) {
                        return Err(format!("{served:?} was overtaken"));
                    }
                }
            }
            Step::Remove(at) if !model.waiting.is_empty() => {
                let at = at % model.waiting.len();
                let taken = model.take(at, false);
                set.remove(&taken.pid);
            }
            Step::Remove(_) => {}
        }
        if set.len() != model.waiting.len() {
            return Err(format!("{} wait, not {}", set.len(), model.waiting.len()));
        }
    }
    Ok(())
}

proptest! {
    /// The set serves as the model does, and nobody is overtaken more often than K430 allows.
    #[test]
    fn turns_are_fair_and_first_in_is_first_out(steps in prop::collection::vec(step(), 0..120)) {
        prop_assert_eq!(check(&steps, false), Ok(()));
    }
}

/// The check bites: LIFO among equals is noticed.
#[test]
fn last_in_first_out_is_noticed() {
    let push = Step::Push { user: 0, priority: 2, later: 0 };
    let steps = [push.clone(), push, Step::Serve];
    assert_eq!(check(&steps, false), Ok(()));
    assert!(check(&steps, true).is_err());
}
