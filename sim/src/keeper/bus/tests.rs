use std::sync::Arc;

use machines::kernel::bus::io::{
    Ask, Category, ConnectionId, CorrelationId, Gap, Item, Output, Overflow, Receipt, Replier,
    Subscribe, SubscriptionNumber,
};
use machines::kernel::bus::pattern::Pattern;
use machines::kernel::ids::UserId;
use machines::kernel::principal::{Principal, Role};
use machines::kernel::{Code, Refusal};

use super::accounts::Accounts;
use super::circuits::Circuits;
use super::*;
use crate::keeper::io::{Crowd, Work};
use crate::lab::Keep;
use crate::scenario::Scenario;
use crate::subject::lab;
use crate::world::Ended;

const SMALL: &str = r#"
name = "small"
about = "The bus is used while its process dies."
nodes = 1
duration = "8s"
quiet = "1s"
seeds = 3

[keeper]
subject = "bus"
callers = 12
think = "1ms..20ms"

[[fault]]
kind = "kill"
at = "3s"
for = "100ms"
nodes = [0]
"#;

fn kind(text: &str) -> MessageType {
    MessageType::parse("type", text).unwrap()
}

fn user(name: &str) -> Principal {
    Principal::new(UserId::parse("user", name).unwrap(), &[Role::User])
}

const HERE: ConnectionId = ConnectionId(1);
const SUB: SubscriptionNumber = SubscriptionNumber(1);

fn given(outputs: Vec<Output>) -> Vec<Event> {
    outputs.into_iter().map(Event::Given).collect()
}

/// A subscription of alice's to all that begins with `a.`, which handles `do`, and can take ten.
fn opened() -> Accounts {
    let mut accounts = Accounts::default();
    let wish = Subscribe {
        call: CallId(1),
        by: user("alice"),
        connection: HERE,
        types: vec![Pattern::parse("types", "a.*").unwrap()],
        handles: vec![kind("do")],
        overflow: Overflow::DropOldest,
    };
    accounts.called(&Asked::Subscribe(wish));
    let subscribed = given(vec![Output::Subscribed { call: CallId(1), result: Ok(SUB) }]);
    accounts.look(&subscribed).unwrap();
    accounts.called(&Asked::Pull { subscription: SUB, credit: 10 });
    accounts
}

/// An event of alice's with this number; `delivered` is what its receipt says.
fn publish(accounts: &mut Accounts, seq: u64, delivered: u32) -> Result<bool, String> {
    let call = CallId(100 + seq);
    let (by, kind, payload) = (user("alice"), kind("a.b"), payload_of(call, false));
    accounts.called(&Asked::Publish { call, by, kind, payload, to_all: false });
    let result = Ok(Receipt { seq, delivered, dropped: 0 });
    accounts.look(&given(vec![Output::Published { call, result }]))
}

fn message(category: Category, seq: u64, text: &str, call: CallId) -> Message {
    let (kind, payload, by) = (kind(text), payload_of(call, false), user("alice").user);
    Message { seq, category, kind, payload, by, to_all: false, at: Time::from_millis(1_000) }
}

fn event(number: u64, seq: u64) -> Output {
    let message = Arc::new(message(Category::Event, seq, "a.b", CallId(100 + seq)));
    let item = Item::Message { number, message, correlation: None };
    Output::Deliver { connection: HERE, subscription: SUB, item }
}

fn gap(from: u64, to: u64) -> Output {
    let item = Item::Gap(Gap { from, to });
    Output::Deliver { connection: HERE, subscription: SUB, item }
}

fn ended(gap: Option<(u64, u64)>) -> Output {
    let gap = gap.map(|(from, to)| Gap { from, to });
    let cause = machines::kernel::bus::io::Cause::Unsubscribed;
    Output::Ended { connection: HERE, subscription: SUB, cause, gap }
}

/// What the checker says after four events, of which these came.
fn after_four(outputs: Vec<Output>) -> Result<bool, String> {
    let mut accounts = opened();
    for seq in 1..=4 {
        publish(&mut accounts, seq, 1).unwrap();
    }
    accounts.look(&given(outputs))
}

/// K442: Goal: items and gaps that account for all pass, and nothing else does.
#[test]
fn whoever_is_told_of_every_message_once_and_in_order_has_no_complaint() {
    assert_eq!(after_four(vec![event(1, 1), event(2, 2), ended(Some((3, 4)))]), Ok(true));
    assert_eq!(after_four(vec![gap(1, 3), event(4, 4), ended(None)]), Ok(true));
    let wrong = |outputs, part: &str| {
        let told = after_four(outputs).expect_err(part);
        assert!(told.contains(part), "{told}");
    };
    wrong(vec![event(1, 1), event(3, 3)], "told 3 to 3 when 2 was due");
    wrong(vec![event(1, 1), event(2, 3)], "1 events are lost, and gaps tell of 0");
    wrong(vec![event(1, 2), event(2, 1)], "1 events are lost");
    wrong(vec![event(1, 1), event(2, 1)], "event 1, which is not due");
    wrong(vec![gap(1, 2), event(3, 4)], "3 events are lost, and gaps tell of 2");
    wrong(vec![gap(2, 1)], "told 2 to 1 when 1 was due");
    wrong(vec![event(1, 1), ended(None)], "3 events are lost, and gaps tell of 0");
    wrong(vec![ended(Some((1, 3)))], "4 events are lost, and gaps tell of 3");
    wrong(vec![gap(1, 4), ended(Some((5, 9)))], "9 numbers for 4 to 4 messages");
    wrong(vec![ended(Some((1, 4))), event(5, 5)], "is not open");
    wrong(vec![ended(Some((1, 4))), ended(None)], "ended twice");
}

/// K442: a call has a number like an event, and comes once.
#[test]
fn calls_are_accounted_for_as_well() {
    let call = |number, call| {
        let message = Arc::new(message(Category::Command, 9, "do", CallId(call)));
        let item = Item::Message { number, message, correlation: Some(CorrelationId(number)) };
        Output::Deliver { connection: HERE, subscription: SUB, item }
    };
    let asked = || {
        let mut accounts = opened();
        let payload = payload_of(CallId(7), false);
        let (call, by) = (CallId(7), user("bob"));
        accounts.called(&Asked::Send(Ask { call, by, kind: kind("do"), payload, timeout: None }));
        accounts
    };
    assert_eq!(asked().look(&given(vec![call(1, 7), ended(None)])), Ok(true));
    assert_eq!(asked().look(&given(vec![ended(Some((1, 1)))])), Ok(true), "it was in the queue");
    assert_eq!(asked().look(&given(vec![ended(None)])), Ok(true), "it was refused");
    let twice = asked().look(&given(vec![call(1, 7), call(2, 7)])).unwrap_err();
    assert!(twice.contains("call 7 is over, or comes twice"), "{twice}");
    let answered = Output::Answered { call: CallId(7), result: Err(refusal(None)) };
    let late = asked().look(&given(vec![answered, call(1, 7)])).unwrap_err();
    assert!(late.contains("call 7 is over"), "{late}");
}

/// K303, K306: receipts say who has it, and nobody gets more than it can take.
#[test]
fn receipts_and_credits_are_checked() {
    assert_eq!(publish(&mut opened(), 1, 1), Ok(false));
    let told = publish(&mut opened(), 1, 0).unwrap_err();
    assert!(told.contains("0 were told to have 1, and 1 have it"), "{told}");
    let mut accounts = opened();
    for seq in 1..=11 {
        publish(&mut accounts, seq, 1).unwrap();
    }
    let told = accounts.look(&given((1..=11).map(|n| event(n, n)).collect())).unwrap_err();
    assert!(told.contains("more than it can take"), "{told}");
}

fn refusal(retry_at: Option<u64>) -> Refusal {
    let refusal = Refusal::new(Code::CircuitOpen, "open");
    match retry_at {
        Some(at) => refusal.retry_at(at),
        None => refusal,
    }
}

fn breakers(at: u64, state: BreakerState, retry_at: Option<u64>) -> Event {
    let retry_at = retry_at.map(Time::from_millis);
    let view = BreakerView { kind: kind("do"), state, failures: 0, retry_at };
    Event::Breakers { at: Time::from_millis(at), breakers: vec![view] }
}

fn invoke(call: u64) -> Event {
    let message = Arc::new(message(Category::Command, call, "do", CallId(call)));
    let until = Time::from_millis(2_000);
    Event::Given(Output::Invoke { correlation: CorrelationId(call), message, until })
}

fn circuits(events: &[Event]) -> Result<bool, String> {
    let mut circuits = Circuits::default();
    events.iter().try_fold(false, |looked, event| Ok(circuits.look(event)? || looked))
}

/// K443: Goal: a call while open and a second one in HalfOpen are seen, and nothing else.
#[test]
fn calls_that_a_breaker_must_not_let_through_are_seen() {
    let (open, half) = (BreakerState::Open, BreakerState::HalfOpen);
    assert_eq!(circuits(&[invoke(1), invoke(2)]), Ok(false), "closed");
    assert_eq!(circuits(&[breakers(1_000, half, None), invoke(1)]), Ok(true), "the probe");
    let told = circuits(&[breakers(1_000, open, Some(1_500)), invoke(1)]).unwrap_err();
    assert!(told.contains("while its breaker is open"), "{told}");
    let told = circuits(&[breakers(1_000, half, None), invoke(1), invoke(2)]).unwrap_err();
    assert!(told.contains("calls 1 and 2 of do probe at a time"), "{told}");
    let told = circuits(&[invoke(1), breakers(1_999, half, None), invoke(2)]).unwrap_err();
    assert!(told.contains("calls 1 and 2"), "an earlier call is under way: {told}");
    let after = [invoke(1), breakers(2_000, half, None), invoke(2)];
    assert_eq!(circuits(&after), Ok(true), "it has run out");
}

/// K443: the handler's answer ends a call, also for a caller who has given up.
#[test]
fn a_reply_ends_a_call_and_someone_elses_does_not() {
    let half_open = || breakers(1_000, BreakerState::HalfOpen, None);
    let reply = |from| {
        let mut circuits = Circuits::default();
        for event in [half_open(), invoke(1)] {
            circuits.look(&event).unwrap();
        }
        let (correlation, result) = (CorrelationId(1), Err("no".to_owned()));
        circuits.called(&Asked::Reply { from, correlation, result });
        circuits.look(&invoke(2))
    };
    assert_eq!(reply(Replier::InProcess), Ok(true));
    assert!(reply(Replier::Connection(HERE)).is_err());
}

/// T4: the same seed gives the same run, and another seed another one.
#[test]
fn a_run_repeats_itself_and_seeds_differ() {
    let scenario = Scenario::parse("small.toml", SMALL).unwrap();
    let run = |seed| lab().run(&scenario, seed, Keep::default()).unwrap();
    let first = run(0);
    assert_eq!(first.outcome.ended, Ended::Passed);
    assert_eq!(first.outcome.strikes["recovery"], 2);
    assert_eq!(run(0).outcome, first.outcome);
    assert_ne!(run(1).outcome.hash, first.outcome.hash);
    for property in ["K442", "K443"] {
        assert!(first.outcome.armed[property] > 10, "{:?}", first.outcome.armed);
    }
}

/// K300: whoever had a connection with a process that died has none, and nothing to answer.
#[test]
fn a_process_that_dies_takes_all_connections_along() {
    let script = crate::keeper::io::Script::Mixed;
    let work = Work { callers: 4, think: (1, 1), bytes: 1, keys: 1, records: None, script };
    let mut talkers = <Talkers as Crowd<Hub>>::new(&work);
    talkers.saw(&[invoke(1)]);
    assert!(talkers.has_something());
    talkers.lost();
    assert!(!talkers.has_something());
}

/// T50: what a bus cannot have is refused with its place.
#[test]
fn a_bus_with_a_disk_is_refused() {
    let wrong = |text: &str| Scenario::parse("b.toml", text).expect_err("wrong").to_string();
    let told = wrong(&SMALL.replace("callers = 12", "disk = \"1ms\""));
    assert!(told.contains("a bus keeps nothing: leave out disk"), "{told}");
    let told = wrong(&SMALL.replace("\"kill\"", "\"torn\""));
    assert!(told.contains("a bus has no network and no disk; it has kill, pause, jump"), "{told}");
}
