//! Goal: an answer reaches its asker, or comes back, or is dropped: once. A sleeping asker wakes.
//! Method: loom, without a bound: answer against wait, answer against drop, drop against wait;
//! shuttle, with eight ports at once (T70).

use models::atomics::{Half, Weakening};
use models::{Bound, Calm, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::Atomics;
use sync::reply::{Answer, Late, Reply, Unanswered, reply_in};

/// Why no model misses E2.
const LAST: &str = "an asker that goes early has never touched the cell";

/// An answer whose loss a checker notices.
struct Letter<C: Atomics>(u32, C::LeakMark);

fn marked<C: Atomics>(number: u32) -> Letter<C> {
    Letter(number, C::LeakMark::default())
}

/// The two ends of a port.
type Ends<C> = (Calm<Reply<Letter<C>, C>>, Calm<Answer<Letter<C>, C>>);

fn port<C: Checker>() -> Ends<C> {
    let (reply, answer) = reply_in();
    (Calm::new(reply), Calm::new(answer))
}

/// The asker sleeps until the answer is there.
fn answers<C: Checker>() {
    let (reply, mut answer) = port::<C>();
    let join = C::spawn(move || {
        assert!(reply.into_inner().send(Letter(7, C::LeakMark::default())).is_ok());
    });
    let said = C::block_on(&mut *answer);
    assert!(said.is_ok_and(|letter| letter.0 == 7));
    join();
}

/// The asker goes while the answer comes: it is dropped by one side or comes back, once.
fn goes<C: Checker>() {
    let (reply, answer) = port::<C>();
    let join = C::spawn(move || match reply.into_inner().send(Letter(7, C::LeakMark::default())) {
        Ok(()) => {}
        Err(Late(letter)) => assert_eq!(letter.0, 7),
    });
    drop(answer);
    join();
}

/// The asked lets go: the asker is told.
fn lets_go<C: Checker>() {
    let (reply, mut answer) = port::<C>();
    let join = C::spawn(move || drop(reply));
    let said = C::block_on(&mut *answer);
    assert!(said.is_err_and(|why| why == Unanswered::Dropped));
    join();
}

/// G410.
#[test]
fn an_answer_reaches_its_asker() {
    Loom::check("reply answer", Bound::Full, answers::<Loom>);
}

/// G404, G410.
#[test]
fn drop_against_answer_loses_nothing() {
    Loom::check("reply drop against answer", Bound::Full, goes::<Loom>);
}

/// T70: eight askers in one thread, each with an asked of its own; every third goes early.
#[test]
fn answers_find_their_askers_among_many() {
    Shuttle::check("reply shuttle", Bound::Full, || {
        let mut waiting = Vec::new();
        let mut joins = Vec::new();
        for number in 0..8 {
            let (reply, answer) = port::<Shuttle>();
            joins.push(Shuttle::spawn(move || match reply.into_inner().send(marked(number)) {
                Ok(()) => {}
                Err(Late(letter)) => assert_eq!((letter.0, number % 3), (number, 0)),
            }));
            if number % 3 > 0 {
                waiting.push((number, answer));
            }
        }
        for (number, mut answer) in waiting {
            let said = Shuttle::block_on(&mut *answer);
            assert!(said.is_ok_and(|letter| letter.0 == number));
        }
        joins.into_iter().for_each(|join| join());
    });
}

/// G410.
#[test]
fn letting_go_is_seen() {
    Loom::check("reply dropped", Bound::Full, lets_go::<Loom>);
}

/// A model that cannot fail proves nothing: without its orderings, the port must be caught (G410).
#[test]
fn notices_wrong_steps() {
    let bound = Bound::Preemptions(3);
    twin("reply without orderings", Weakening::Everything, "Causality violation", bound, || {
        goes::<Weak>();
    });
}

/// G68.
#[test]
fn notices_each_lost_ordering() {
    let unneeded = [
        ("if self.port.state.swap(state, AcqRel) == GONE {", Half::Acquire, LAST),
        ("if self.port.state.swap(GONE, AcqRel) == ANSWERED {", Half::Release, LAST),
    ];
    orderings(
        "reply",
        "reply.rs",
        &unneeded,
        &[
            (Bound::Full, answers::<Weak>),
            (Bound::Full, goes::<Weak>),
            (Bound::Full, lets_go::<Weak>),
        ],
    );
}
