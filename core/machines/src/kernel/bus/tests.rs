//! Unit tests of the bus: who hears what, queues, calls, middleware, breakers, limits.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks what it asks about")]

use super::*;
use crate::kernel::bus::io::{CallId, ConnectionId, Overflow};
use crate::kernel::bus::middleware::Middleware;
use crate::kernel::bus::pattern::Pattern;
use crate::kernel::config::KernelConfig;
use crate::kernel::principal::Role;

const HERE: ConnectionId = ConnectionId(1);
const THERE: ConnectionId = ConnectionId(2);

/// A bus with a clock, and short words for what happens to it.
struct Bench {
    now: Time,
    bus: Bus,
    calls: u64,
}

fn kind(text: &str) -> MessageType {
    MessageType::parse("type", text).unwrap()
}

fn payload(text: &str) -> Payload {
    text.as_bytes().into()
}

fn party(name: &str, role: Role) -> Principal {
    Principal::new(UserId::parse("user", name).unwrap(), &[role])
}

fn user(name: &str) -> Principal {
    party(name, Role::User)
}

fn worker(name: &str) -> Principal {
    party(name, Role::Worker)
}

fn operator(name: &str) -> Principal {
    party(name, Role::Operator)
}

fn node(name: &str) -> Principal {
    party(name, Role::Node)
}

fn small() -> BusConfig {
    BusConfig { queue_max: 3, subscriptions_max: 20, types_max: 4, ..BusConfig::standard() }
}

/// The refusal's code and text.
fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (&'static str, String) {
    let refusal = result.unwrap_err();
    (refusal.code.as_str(), refusal.text)
}

fn is(code: &'static str, text: &str) -> (&'static str, String) {
    (code, text.to_owned())
}

impl Bench {
    fn new(config: BusConfig) -> Self {
        Self { now: Time::from_millis(1_000_000), bus: Bus::new(config), calls: 0 }
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.bus.handle(self.now, input);
        std::iter::from_fn(|| self.bus.poll()).collect()
    }

    fn wait(&mut self, millis: u64) -> Vec<Output> {
        self.now = self.now.plus(millis);
        self.tell(Input::Tick)
    }

    fn publish_to(
        &mut self,
        by: Principal,
        of: &str,
        to_all: bool,
    ) -> (Result<Receipt, Refusal>, Vec<Output>) {
        let call = self.call();
        let payload = payload(&call.0.to_string());
        let mut outputs = self.tell(Input::Publish { call, by, kind: kind(of), payload, to_all });
        match outputs.pop() {
            Some(Output::Published { call: answered, result }) => {
                assert_eq!(answered, call);
                (result, outputs)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Publishes as ann, and returns how many got it and how many were lost.
    fn publish(&mut self, of: &str) -> (u32, u32) {
        let receipt = self.publish_to(user("ann"), of, false).0.unwrap();
        (receipt.delivered, receipt.dropped)
    }

    fn try_subscribe(
        &mut self,
        by: Principal,
        types: &[&str],
        handles: &[&str],
        overflow: Overflow,
    ) -> Result<SubscriptionNumber, Refusal> {
        let call = self.call();
        let types = types.iter().map(|text| Pattern::parse("types", text).unwrap()).collect();
        let handles = handles.iter().map(|text| kind(text)).collect();
        let wish = Subscribe { call, by, connection: HERE, types, handles, overflow };
        match self.tell(Input::Subscribe(wish)).as_slice() {
            [Output::Subscribed { call: answered, result }] => {
                assert_eq!(*answered, call);
                result.clone()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ann subscribes.
    fn listen(&mut self, types: &[&str]) -> SubscriptionNumber {
        self.try_subscribe(user("ann"), types, &[], Overflow::DropOldest).unwrap()
    }

    /// Ann handles.
    fn handle(&mut self, handles: &[&str]) -> SubscriptionNumber {
        self.try_subscribe(user("ann"), &[], handles, Overflow::DropOldest).unwrap()
    }

    fn bind(&mut self, of: &str) -> Result<(), Refusal> {
        let call = self.call();
        match self.tell(Input::Bind { call, kind: kind(of) }).as_slice() {
            [Output::Bound { result, .. }] => result.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Takes up to `credit` items, in short: numbers, and gaps in brackets.
    fn pull(&mut self, subscription: SubscriptionNumber, credit: u32) -> Vec<String> {
        short(&self.tell(Input::Pull { subscription, credit }))
    }

    fn ask_as(&mut self, by: Principal, of: &str, timeout: Option<u64>) -> (CallId, Vec<Output>) {
        let call = self.call();
        let ask = Ask { call, by, kind: kind(of), payload: payload("?"), timeout };
        (call, self.tell(Input::Query(ask)))
    }

    /// Ann asks, and is refused at once.
    fn refusal(&mut self, of: &str, timeout: Option<u64>) -> (&'static str, String) {
        let (call, outputs) = self.ask_as(user("ann"), of, timeout);
        refused(answer(&outputs, call).expect("an answer at once"))
    }

    /// Ann asks a handler in process, which is called.
    fn ask(&mut self, of: &str) -> (CallId, CorrelationId) {
        let (call, outputs) = self.ask_as(user("ann"), of, None);
        match outputs.as_slice() {
            [Output::Invoke { correlation, .. }] => (call, *correlation),
            other => panic!("{other:?}"),
        }
    }

    fn reply(&mut self, correlation: CorrelationId, result: Result<&str, &str>) -> Vec<Output> {
        let result = result.map(payload).map_err(str::to_owned);
        self.tell(Input::Reply { from: Replier::InProcess, correlation, result })
    }

    /// Asks and lets the handler fail, so many times.
    fn fail(&mut self, of: &str, times: u32) {
        for _ in 0..times {
            let (_, correlation) = self.ask(of);
            self.reply(correlation, Err("no"));
        }
    }

    fn state(&self, of: &str) -> Option<(BreakerState, u32, Option<Time>)> {
        let views = self.bus.breakers(self.now);
        let view = views.into_iter().find(|view| view.kind == kind(of))?;
        Some((view.state, view.failures, view.retry_at))
    }
}

fn short(outputs: &[Output]) -> Vec<String> {
    let show = |output: &Output| match output {
        Output::Deliver { item: Item::Message { number, .. }, .. } => format!("{number}"),
        Output::Deliver { item: Item::Gap(gap), .. } => format!("[{}-{}]", gap.from, gap.to),
        other => format!("{other:?}"),
    };
    outputs.iter().map(show).collect()
}

fn answer(outputs: &[Output], of: CallId) -> Option<Result<Answer, Refusal>> {
    let mut found = outputs.iter().filter_map(|output| match output {
        Output::Answered { call, result } if *call == of => Some(result.clone()),
        _ => None,
    });
    let first = found.next();
    assert!(found.next().is_none(), "answered twice");
    first
}

// Events.

#[test]
fn events_reach_whoever_named_the_type_a_prefix_or_everything() {
    let mut bench = Bench::new(small());
    for types in [&["a.b"][..], &["a.*"], &["*"], &["a.b.c"], &["a"], &["a.b", "a.*", "*"]] {
        bench.listen(types);
    }
    let (result, _) = bench.publish_to(user("ann"), "a.b", false);
    assert_eq!(result, Ok(Receipt { seq: 1, delivered: 4, dropped: 0 }), "K301");
    let heard: Vec<bool> =
        (1..=6).map(|id| bench.pull(SubscriptionNumber(id), 9) == ["1"]).collect();
    assert_eq!(heard, [true, true, true, false, false, true], "each once");
    assert_eq!(bench.publish("a.bc"), (3, 0), "a.*, * and the last");
    assert_eq!(bench.publish("ab"), (2, 0));
}

#[test]
fn a_prefix_stops_at_a_dot() {
    let below = Pattern::parse("types", "a.b.*").unwrap();
    for (text, hit) in [("a.b.c", true), ("a.b.c.d", true), ("a.b", false), ("a.bc.d", false)] {
        assert_eq!(below.matches(&kind(text)), hit, "{text}");
    }
    assert_eq!(below.to_string(), "a.b.*");
    assert!(Pattern::All.matches(&kind("x")));
    for wrong in ["", ".*", "**", "a*", "*.a", "a.*.b", "a b"] {
        assert!(Pattern::parse("types", wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_nodes_own_types_are_reserved() {
    let mut bench = Bench::new(small());
    let (result, _) = bench.publish_to(operator("root"), "lockstep.token", false);
    assert_eq!(refused(result), is("bad_name", "event_type: \"lockstep.\" is reserved"), "K410");
    let text = "query_type: \"lockstep.\" is reserved";
    assert_eq!(bench.refusal("lockstep.x", None), is("bad_name", text));
    let call = bench.call();
    let (by, kind, payload) = (user("ann"), kind("lockstep.x"), payload("?"));
    let ask = Ask { call, by, kind, payload, timeout: None };
    let outputs = bench.tell(Input::Send(ask));
    let refusal = refused(answer(&outputs, call).unwrap());
    assert_eq!(refusal, is("bad_name", "command_type: \"lockstep.\" is reserved"));
    let taken = bench.try_subscribe(user("ann"), &[], &["lockstep.x"], Overflow::DropOldest);
    assert_eq!(refused(taken), is("bad_name", "handles: \"lockstep.\" is reserved"));
    bench.listen(&["lockstep.*"]);
    let (result, _) = bench.publish_to(node("ann"), "lockstep.token", false);
    assert_eq!(result.unwrap().delivered, 1, "the node speaks on behalf of ann (K292)");
}

#[test]
fn a_message_reaches_its_users_subscriptions_and_those_of_workers_and_operators() {
    let mut bench = Bench::new(small());
    for by in [user("ann"), user("bob"), worker("w"), operator("o"), node("n")] {
        bench.try_subscribe(by, &["x"], &[], Overflow::DropOldest).unwrap();
    }
    assert_eq!(bench.publish("x"), (4, 0), "all but bob (K302)");
    assert_eq!(bench.pull(SubscriptionNumber(2), 1), Vec::<String>::new());
    let (refusal, _) = bench.publish_to(worker("ann"), "x", true);
    let text = "to_all: only an operator may publish to all";
    assert_eq!(refused(refusal), is("permission_denied", text));
    let (result, outputs) = bench.publish_to(operator("o"), "x", true);
    assert_eq!(result.unwrap().delivered, 5);
    assert_eq!(short(&outputs), ["1"], "to bob, who waited for it");
}

#[test]
fn an_event_for_nobody_is_a_success() {
    let mut bench = Bench::new(small());
    assert_eq!(bench.publish("x"), (0, 0), "K303");
    bench.listen(&["x"]);
    assert_eq!(
        bench.pull(SubscriptionNumber(1), 5),
        Vec::<String>::new(),
        "what was before is not seen"
    );
    let (result, _) = bench.publish_to(user("ann"), "x", false);
    assert_eq!(result, Ok(Receipt { seq: 2, delivered: 1, dropped: 0 }));
}

#[test]
fn a_payload_that_is_too_large_is_refused() {
    let mut bench = Bench::new(BusConfig { payload_bytes_max: 0, ..small() });
    let (result, _) = bench.publish_to(user("ann"), "x", false);
    assert_eq!(refused(result), is("too_large", "payload_json: 1 bytes, at most 0"));
    let text = "payload_json: 1 bytes, at most 0";
    assert_eq!(bench.refusal("x", None), is("too_large", text));
    assert_eq!(BusConfig::standard().payload_bytes_max, 1_048_576, "K25");
}

// Queues.

#[test]
fn a_full_queue_loses_its_oldest_and_says_so() {
    let mut bench = Bench::new(small());
    let id = bench.listen(&["x"]);
    let receipts: Vec<_> = (0..6).map(|_| bench.publish("x")).collect();
    assert_eq!(receipts, [(1, 0), (1, 0), (1, 0), (1, 1), (1, 1), (1, 1)], "K303");
    assert_eq!(bench.pull(id, 2), ["[1-3]", "4"], "one marker, merged, at the head (K306)");
    assert_eq!(bench.publish("x"), (1, 0));
    assert_eq!(bench.publish("x"), (1, 1));
    assert_eq!(bench.pull(id, 9), ["[5-5]", "6", "7", "8"]);
    assert_eq!(bench.bus.counters().dropped, 4);
}

#[test]
fn a_connection_that_can_take_more_gets_events_at_once() {
    let mut bench = Bench::new(small());
    let id = bench.listen(&["x"]);
    assert!(bench.pull(id, 2).is_empty());
    let delivered: Vec<_> =
        (0..3).map(|_| short(&bench.publish_to(user("ann"), "x", false).1)).collect();
    assert_eq!(delivered, [vec!["1".to_owned()], vec!["2".to_owned()], vec![]]);
    assert_eq!(bench.pull(id, 1), ["3"]);
}

#[test]
fn a_slow_subscriber_that_wants_all_or_nothing_is_ended() {
    let mut bench = Bench::new(small());
    let id = bench.try_subscribe(user("ann"), &["x"], &[], Overflow::Disconnect).unwrap();
    assert_eq!(bench.pull(id, 1), Vec::<String>::new());
    for _ in 0..4 {
        bench.publish("x");
    }
    let (result, outputs) = bench.publish_to(user("ann"), "x", false);
    assert_eq!(result, Ok(Receipt { seq: 5, delivered: 0, dropped: 4 }), "K306");
    let gap = Some(Gap { from: 2, to: 5 });
    let cause = Cause::SlowSubscriber;
    assert_eq!(outputs, [Output::Ended { connection: HERE, subscription: id, cause, gap }]);
    assert_eq!(bench.publish("x"), (0, 0));
    assert!(bench.tell(Input::Unsubscribe(id)).is_empty(), "repeatable (K309)");
}

#[test]
fn what_a_subscription_did_not_get_is_told_at_its_end() {
    let mut bench = Bench::new(small());
    let id = bench.listen(&["x"]);
    for _ in 0..5 {
        bench.publish("x");
    }
    assert_eq!(bench.pull(id, 2), ["[1-2]", "3"]);
    let gap = Some(Gap { from: 4, to: 5 });
    let cause = Cause::Unsubscribed;
    let ended = Output::Ended { connection: HERE, subscription: id, cause, gap };
    assert_eq!(bench.tell(Input::Unsubscribe(id)), [ended]);
    let quiet = bench.listen(&["x"]);
    let cause = Cause::Disconnected;
    let ended = Output::Ended { connection: HERE, subscription: quiet, cause, gap: None };
    assert!(bench.tell(Input::Disconnected(THERE)).is_empty());
    assert_eq!(bench.tell(Input::Disconnected(HERE)), [ended]);
    assert_eq!(quiet.id().as_str(), "sub_00000000000000000000000002", "in the form of K20");
}

// Commands and queries.

#[test]
fn a_query_brings_the_handlers_data_and_a_command_only_its_success() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    let (call, correlation) = bench.ask("x");
    let answered = answer(&bench.reply(correlation, Ok("42")), call);
    assert_eq!(answered, Some(Ok(Answer::Success(Some(payload("42"))))), "K304");
    let (call, correlation) = bench.ask("x");
    let answered = answer(&bench.reply(correlation, Err("no such")), call);
    assert_eq!(answered, Some(Ok(Answer::Failure("no such".to_owned()))));
    let call = bench.call();
    let (by, kind, payload) = (user("ann"), kind("x"), payload("?"));
    let outputs = bench.tell(Input::Send(Ask { call, by, kind, payload, timeout: None }));
    let [Output::Invoke { correlation, message, .. }] = outputs.as_slice() else {
        panic!("{outputs:?}");
    };
    assert_eq!(message.category, Category::Command);
    let answered = answer(&bench.reply(*correlation, Ok("ignored")), call);
    assert_eq!(answered, Some(Ok(Answer::Success(None))));
}

#[test]
fn a_call_without_handler_is_refused() {
    let mut bench = Bench::new(small());
    assert_eq!(bench.refusal("x", None), is("no_handler", "no handler registered for x"), "K304");
    bench.bind("x").unwrap();
    assert_eq!(refused(bench.bind("x")), is("handler_exists", "a handler is registered for x"));
    let second = bench.try_subscribe(user("ann"), &["y"], &["z", "x"], Overflow::DropOldest);
    assert_eq!(refused(second), is("handler_exists", "a handler is registered for x"));
    assert!(!bench.bus.has_handler(&kind("z")), "all or nothing");
    bench.tell(Input::Unbind(kind("x")));
    bench.tell(Input::Unbind(kind("x")));
    assert_eq!(bench.refusal("x", None).0, "no_handler");
}

#[test]
fn a_handler_hears_only_whom_its_user_may_hear() {
    let mut bench = Bench::new(small());
    let id = bench.handle(&["x"]);
    bench.pull(id, 9);
    let (call, outputs) = bench.ask_as(user("bob"), "x", None);
    let refusal = refused(answer(&outputs, call).unwrap());
    assert_eq!(refusal, is("no_handler", "no handler registered for x"), "K302");
    for by in [user("ann"), operator("o"), node("n")] {
        assert_eq!(short(&bench.ask_as(by, "x", None).1).len(), 1);
    }
    bench.tell(Input::Unsubscribe(id));
    let id = bench.try_subscribe(worker("w"), &[], &["x"], Overflow::DropOldest).unwrap();
    bench.pull(id, 9);
    assert_eq!(short(&bench.ask_as(user("bob"), "x", None).1), ["1"]);
}

#[test]
fn a_remote_handler_is_called_through_its_subscription() {
    let mut bench = Bench::new(small());
    let id = bench.try_subscribe(user("ann"), &["e"], &["x"], Overflow::DropOldest).unwrap();
    bench.publish("e");
    let (call, outputs) = bench.ask_as(user("ann"), "x", None);
    assert!(outputs.is_empty(), "the connection cannot take it yet");
    let outputs = bench.tell(Input::Pull { subscription: id, credit: 2 });
    let correlation = match outputs.as_slice() {
        [_, Output::Deliver { item: Item::Message { number: 2, correlation, .. }, .. }] => {
            correlation.unwrap()
        }
        other => panic!("{other:?}"),
    };
    let reply = |from| Input::Reply { from, correlation, result: Ok(payload("4")) };
    assert!(bench.tell(reply(Replier::Connection(THERE))).is_empty());
    assert!(bench.tell(reply(Replier::InProcess)).is_empty());
    assert_eq!(bench.bus.counters().replies_dropped, 2, "not theirs to answer");
    let outputs = bench.tell(reply(Replier::Connection(HERE)));
    assert_eq!(answer(&outputs, call), Some(Ok(Answer::Success(Some(payload("4"))))));
}

#[test]
fn replies_that_are_late_repeated_or_unknown_are_dropped_and_counted() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    let (_, correlation) = bench.ask("x");
    bench.reply(correlation, Ok(""));
    assert!(bench.reply(correlation, Ok("")).is_empty(), "repeated");
    let (_, late) = bench.ask("x");
    bench.wait(30_000);
    assert!(bench.reply(late, Ok("")).is_empty());
    assert!(bench.reply(CorrelationId(99), Ok("")).is_empty(), "unknown");
    assert_eq!(bench.bus.counters().replies_dropped, 3, "K305");
}

#[test]
fn a_call_times_out_at_the_millisecond() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    let (call, correlation) = bench.ask("x");
    assert_eq!(bench.bus.deadline(), bench.now.plus(30_000), "K305");
    assert!(bench.wait(29_999).is_empty());
    bench.now = bench.now.plus(1);
    let outputs = bench.reply(correlation, Ok("too late"));
    let refusal = refused(answer(&outputs, call).unwrap());
    assert_eq!(refusal, is("query_timeout", "query x timed out after 30.00s"));
    assert_eq!(bench.bus.counters().timed_out, 1);
    assert_eq!(bench.bus.deadline(), Time::FAR);
    let call = bench.call();
    let (by, kind, payload) = (user("ann"), kind("x"), payload("?"));
    bench.tell(Input::Send(Ask { call, by, kind, payload, timeout: Some(1_500) }));
    let refusal = refused(answer(&bench.wait(1_500), call).unwrap());
    assert_eq!(refusal, is("query_timeout", "command x timed out after 1.50s"));
}

#[test]
fn a_timeout_is_a_millisecond_to_five_minutes() {
    let mut bench = Bench::new(small());
    let text = "timeout_ms: 360000, at most 300000";
    assert_eq!(bench.refusal("x", Some(360_000)), is("bad_value", text), "K410");
    assert_eq!(bench.refusal("x", Some(0)), is("bad_value", "timeout_ms: 0, at least 1"));
    assert_eq!(bench.refusal("x", Some(300_000)).0, "no_handler");
}

#[test]
fn a_handler_that_disconnects_fails_its_open_calls() {
    let mut bench = Bench::new(small());
    let id = bench.handle(&["x", "y"]);
    let calls = ["x", "y", "x"].map(|of| bench.ask_as(user("ann"), of, None).0);
    bench.pull(id, 1);
    let outputs = bench.tell(Input::Disconnected(HERE));
    let refusals = calls.map(|call| refused(answer(&outputs, call).unwrap()));
    let lost = |of: &str| is("handler_lost", &format!("handler of {of} was lost"));
    assert_eq!(refusals, [lost("x"), lost("y"), lost("x")], "K305");
    assert_eq!(bench.refusal("x", None).0, "no_handler", "it goes with its connection (K304)");
    assert_eq!(bench.bus.counters().handlers_lost, 3);
}

#[test]
fn a_call_that_its_handlers_queue_loses_fails_at_once() {
    let mut bench = Bench::new(small());
    let id = bench.handle(&["x"]);
    let (first, _) = bench.ask_as(user("ann"), "x", None);
    for _ in 0..2 {
        bench.ask_as(user("ann"), "x", None);
    }
    let (_, outputs) = bench.ask_as(user("ann"), "x", None);
    assert_eq!(refused(answer(&outputs, first).unwrap()).0, "handler_lost");
    assert_eq!(bench.pull(id, 9), ["[1-1]", "2", "3", "4"]);
}

/// K305: a call ends once, in the counters as well.
#[test]
fn a_call_whose_time_was_up_in_the_queue_is_not_lost_as_well() {
    let mut bench = Bench::new(small());
    let id = bench.handle(&["x"]);
    bench.ask_as(user("ann"), "x", Some(10));
    bench.wait(10);
    for _ in 0..3 {
        bench.ask_as(user("ann"), "x", None);
    }
    assert_eq!(bench.pull(id, 9), ["[1-1]", "2", "3", "4"], "its place is what the queue lost");
    let counters = bench.bus.counters();
    assert_eq!((counters.timed_out, counters.handlers_lost, counters.dropped), (1, 0, 1));
}

#[test]
fn a_call_that_has_ended_is_not_handed_out() {
    let mut bench = Bench::new(small());
    let id = bench.handle(&["x"]);
    bench.ask_as(user("ann"), "x", Some(10));
    bench.ask_as(user("ann"), "x", Some(20));
    bench.wait(10);
    assert_eq!(bench.pull(id, 9), ["[1-1]", "2"], "nothing is lost without a marker (K306)");
}

#[test]
fn a_caller_that_gave_up_gets_no_answer() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    let (call, correlation) = bench.ask("x");
    assert!(bench.tell(Input::GiveUp(call)).is_empty());
    assert!(bench.tell(Input::GiveUp(call)).is_empty());
    assert!(bench.reply(correlation, Ok("")).is_empty());
    assert_eq!(bench.bus.counters().replies_dropped, 0, "it was awaited by the bus");
}

#[test]
fn a_reply_that_is_too_large_is_the_handlers_error() {
    let config = BusConfig { payload_bytes_max: 2, error_bytes_max: 2, ..small() };
    let mut bench = Bench::new(config);
    bench.bind("x").unwrap();
    for (reply, text) in [
        (Ok("abc"), "payload_json: 3 bytes, at most 2"),
        (Err("abc"), "error: 3 bytes, at most 2"),
        (Err("ab"), "ab"),
    ] {
        let (call, correlation) = bench.ask("x");
        let answered = answer(&bench.reply(correlation, reply), call);
        assert_eq!(answered, Some(Ok(Answer::Failure(text.to_owned()))));
    }
}

#[test]
fn calls_under_way_are_bounded() {
    let mut bench = Bench::new(BusConfig { calls_max: 1, ..small() });
    bench.bind("x").unwrap();
    let (_, correlation) = bench.ask("x");
    assert_eq!(bench.refusal("x", None), is("overloaded", "calls under way: at most 1"));
    bench.reply(correlation, Ok(""));
    bench.ask("x");
}

#[test]
#[should_panic(expected = "no two unanswered calls have the same id")]
fn a_question_is_asked_once() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    for _ in 0..2 {
        let ask = Ask {
            call: CallId(7),
            by: user("ann"),
            kind: kind("x"),
            payload: payload(""),
            timeout: None,
        };
        bench.tell(Input::Send(ask));
    }
}

// Middleware.

fn watch(name: &'static str, before: fn(&Message) -> Verdict) -> Middleware {
    let after = |message: &Message, seen: Seen<'_>| {
        let payload = String::from_utf8_lossy(&message.payload);
        Some(match seen {
            Seen::Published(Ok(receipt)) => format!("{payload} to {}", receipt.delivered),
            Seen::Published(Err(refusal)) | Seen::Answered(Err(refusal)) => refusal.text.clone(),
            Seen::Answered(Ok(answer)) => format!("{answer:?}"),
        })
    };
    Middleware { name, before, after }
}

fn change(message: &Message) -> Verdict {
    Verdict::Change([&message.payload[..], b"+"].concat().into())
}

fn stop(message: &Message) -> Verdict {
    match message.kind.as_str() {
        "stop" => Verdict::Abort("not today".to_owned()),
        "fail" => Verdict::Fail("cannot tell".to_owned()),
        "quiet" => Verdict::Change([].into()),
        _ => Verdict::Pass,
    }
}

fn with_middleware() -> Bench {
    let middleware =
        vec![watch("first", change), watch("second", stop), watch("third", |_| Verdict::Pass)];
    Bench::new(BusConfig { middleware, ..small() })
}

fn notes(outputs: &[Output]) -> Vec<(&'static str, &str)> {
    let notes = outputs.iter().filter_map(|output| match output {
        Output::Note { middleware, text } => Some((*middleware, text.as_str())),
        _ => None,
    });
    notes.collect()
}

#[test]
fn middleware_sees_results_in_reverse_order() {
    let mut bench = with_middleware();
    let id = bench.listen(&["*"]);
    let (result, outputs) = bench.publish_to(user("ann"), "x", false);
    assert_eq!(result.unwrap().delivered, 1);
    let expected = [("third", "2+ to 1"), ("second", "2+ to 1"), ("first", "2+ to 1")];
    assert_eq!(notes(&outputs), expected, "K307");
    match bench.tell(Input::Pull { subscription: id, credit: 1 }).as_slice() {
        [Output::Deliver { item: Item::Message { message, .. }, .. }] => {
            assert_eq!(message.payload, payload("2+"), "changed");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_middleware_that_stops_a_message_is_the_last_to_run() {
    let mut bench = with_middleware();
    bench.listen(&["*"]);
    bench.bind("stop").unwrap();
    let (result, outputs) = bench.publish_to(user("ann"), "stop", false);
    assert_eq!(refused(result), is("aborted", "not today"), "K307");
    assert_eq!(notes(&outputs), [("second", "not today"), ("first", "not today")]);
    let (result, outputs) = bench.publish_to(user("ann"), "fail", false);
    assert_eq!(refused(result), is("internal", "cannot tell"));
    assert_eq!(notes(&outputs).len(), 2);
    let (call, outputs) = bench.ask_as(user("ann"), "stop", None);
    assert_eq!(refused(answer(&outputs, call).unwrap()), is("aborted", "not today"));
    assert_eq!(notes(&outputs), [("second", "not today"), ("first", "not today")]);
    assert_eq!(bench.pull(SubscriptionNumber(1), 9), Vec::<String>::new());
    let (result, _) = bench.publish_to(user("ann"), "x", false);
    assert_eq!(result.unwrap().seq, 1, "what was stopped has no number");
}

#[test]
fn middleware_sees_how_calls_end() {
    let mut bench = with_middleware();
    bench.bind("x").unwrap();
    let (call, outputs) = bench.ask_as(user("ann"), "y", None);
    assert_eq!(refused(answer(&outputs, call).unwrap()).0, "no_handler");
    assert_eq!(notes(&outputs)[0], ("third", "no handler registered for y"));
    let (call, _) = bench.ask("x");
    bench.tell(Input::GiveUp(call));
    let outputs = bench.wait(30_000);
    assert_eq!(notes(&outputs)[0], ("third", "query x timed out after 30.00s"));
    assert_eq!(outputs.len(), 3, "and nobody else");
}

#[test]
fn what_a_middleware_makes_too_large_is_refused() {
    let middleware = vec![watch("only", change)];
    let mut bench = Bench::new(BusConfig { middleware, payload_bytes_max: 1, ..small() });
    let (result, outputs) = bench.publish_to(user("ann"), "x", false);
    assert_eq!(refused(result).0, "too_large");
    assert_eq!(notes(&outputs), [("only", "payload_json: 2 bytes, at most 1")]);
}

// Breakers.

#[test]
fn five_failures_in_a_row_open_the_breaker() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    bench.bind("y").unwrap();
    bench.fail("x", 4);
    let (_, correlation) = bench.ask("x");
    bench.reply(correlation, Ok(""));
    bench.fail("x", 4);
    assert_eq!(bench.state("x"), Some((BreakerState::Closed, 4, None)), "a success ends the row");
    bench.fail("x", 1);
    let until = bench.now.plus(30_000);
    assert_eq!(bench.state("x"), Some((BreakerState::Open, 0, Some(until))), "K308");
    bench.wait(17_660);
    let text = "circuit of x is open for 12.34s";
    assert_eq!(bench.refusal("x", None), is("circuit_open", text));
    bench.ask("y");
    assert_eq!(bench.state("y"), None, "each type has its own");
}

fn opened() -> Bench {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    bench.fail("x", 5);
    bench
}

#[test]
fn half_open_lets_one_probe_through_and_its_success_closes() {
    let mut bench = opened();
    bench.wait(29_999);
    assert_eq!(bench.refusal("x", None), is("circuit_open", "circuit of x is open for 0.00s"));
    let (call, outputs) = bench.ask_as(user("ann"), "x", None);
    let refusal = answer(&outputs, call).unwrap().unwrap_err();
    assert_eq!(refusal.retry_at, Some(bench.now.as_millis() + 1), "K308: the time left");
    bench.wait(1);
    assert_eq!(bench.state("x"), Some((BreakerState::HalfOpen, 0, None)));
    let (_, probe) = bench.ask("x");
    let text = "circuit of x is half-open: a call is under way";
    assert_eq!(bench.refusal("x", None), is("circuit_open", text), "K308");
    assert_eq!(bench.state("x"), Some((BreakerState::HalfOpen, 0, None)));
    bench.reply(probe, Ok(""));
    assert_eq!(bench.state("x"), Some((BreakerState::Closed, 0, None)));
    bench.ask("x");
    bench.ask("x");
}

#[test]
fn a_probe_that_fails_opens_for_a_full_period() {
    let mut bench = opened();
    bench.wait(40_000);
    let (call, probe) = bench.ask("x");
    bench.tell(Input::GiveUp(call));
    bench.wait(5);
    assert_eq!(bench.refusal("x", None).0, "circuit_open", "given up, but not ended (K308)");
    bench.reply(probe, Err("no"));
    let until = bench.now.plus(30_000);
    assert_eq!(bench.state("x"), Some((BreakerState::Open, 0, Some(until))));
    bench.wait(30_000);
    let (call, _) = bench.ask("x");
    bench.tell(Input::GiveUp(call));
    bench.wait(30_000);
    let until = bench.now.plus(30_000);
    assert_eq!(bench.state("x"), Some((BreakerState::Open, 0, Some(until))), "by its timeout");
}

#[test]
fn timeouts_and_lost_handlers_are_failures() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    bench.ask("x");
    bench.ask("x");
    bench.wait(30_000);
    assert_eq!(bench.state("x"), Some((BreakerState::Closed, 2, None)));
    for _ in 0..3 {
        bench.ask("x");
    }
    bench.tell(Input::Unbind(kind("x")));
    assert_eq!(bench.state("x").unwrap().0, BreakerState::Open);
    assert_eq!(bench.refusal("x", None).0, "no_handler");
    bench.bind("x").unwrap();
    assert_eq!(bench.refusal("x", None).0, "circuit_open", "a new handler does not close it");
}

#[test]
fn an_opening_is_dated_by_the_deadline_however_late_the_tick() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    for _ in 0..5 {
        bench.ask("x");
    }
    let until = bench.bus.deadline().plus(30_000);
    bench.wait(45_000);
    assert_eq!(bench.state("x"), Some((BreakerState::Open, 0, Some(until))));
}

#[test]
fn calls_from_before_the_opening_do_not_count_and_are_waited_for() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    let (_, outputs) = bench.ask_as(user("ann"), "x", Some(200_000));
    let Some(Output::Invoke { correlation: old, .. }) = outputs.first() else { panic!() };
    let (_, good) = bench.ask("x");
    bench.fail("x", 5);
    bench.reply(good, Ok(""));
    assert_eq!(bench.state("x").unwrap().0, BreakerState::Open, "a success of before");
    bench.wait(30_000);
    let text = "circuit of x is half-open: a call is under way";
    assert_eq!(bench.refusal("x", None), is("circuit_open", text), "K443");
    bench.reply(*old, Err("no"));
    assert_eq!(bench.state("x"), Some((BreakerState::HalfOpen, 0, None)), "a failure of before");
    let (_, probe) = bench.ask("x");
    bench.reply(probe, Ok(""));
    assert_eq!(bench.state("x"), Some((BreakerState::Closed, 0, None)));
}

#[test]
fn calls_that_wait_in_a_queue_are_refused_when_the_breaker_opens() {
    let breaker = BreakerConfig { failure_threshold: 1, ..BusConfig::standard().breaker };
    let mut bench = Bench::new(BusConfig { breaker, ..small() });
    let id = bench.handle(&["x"]);
    bench.ask_as(user("ann"), "x", Some(10));
    let (waiting, _) = bench.ask_as(user("ann"), "x", None);
    let outputs = bench.wait(10);
    let text = "circuit of x is open for 30.00s";
    assert_eq!(refused(answer(&outputs, waiting).unwrap()), is("circuit_open", text));
    assert_eq!(bench.pull(id, 9), ["[1-1]", "[2-2]"], "no handler is called (K443)");
}

#[test]
fn a_threshold_of_zero_never_opens_and_excluded_types_have_no_breaker() {
    let standard = BusConfig::standard().breaker;
    let never = BreakerConfig { failure_threshold: 0, ..standard.clone() };
    let excluded_types = [kind("x")].into();
    let excluded = BreakerConfig { excluded_types, ..standard };
    for breaker in [never, excluded] {
        let mut bench = Bench::new(BusConfig { breaker, ..small() });
        bench.bind("x").unwrap();
        bench.fail("x", 20);
        assert_eq!(bench.state("x"), None, "K308");
    }
}

#[test]
fn a_reset_closes_and_what_was_under_way_counts_no_more() {
    let mut bench = opened();
    bench.bind("y").unwrap();
    bench.fail("y", 1);
    bench.wait(30_000);
    let (_, probe) = bench.ask("x");
    bench.tell(Input::ResetBreaker(Some(kind("x"))));
    assert_eq!(bench.state("x"), Some((BreakerState::Closed, 0, None)), "K308");
    assert_eq!(bench.state("y"), Some((BreakerState::Closed, 1, None)));
    bench.reply(probe, Err("no"));
    assert_eq!(bench.state("x"), Some((BreakerState::Closed, 0, None)));
    bench.fail("x", 5);
    bench.tell(Input::ResetBreaker(None));
    assert_eq!(bench.state("x"), Some((BreakerState::Closed, 0, None)));
    assert_eq!(bench.state("y"), Some((BreakerState::Closed, 0, None)));
    bench.tell(Input::ResetBreaker(Some(kind("unknown"))));
}

#[test]
fn breakers_that_are_closed_make_room_and_open_ones_stay() {
    let breaker =
        BreakerConfig { failure_threshold: 2, breakers_max: 2, ..BusConfig::standard().breaker };
    let mut bench = Bench::new(BusConfig { breaker, ..small() });
    for of in ["a", "b", "c", "d"] {
        bench.bind(of).unwrap();
    }
    bench.fail("a", 2);
    bench.fail("b", 1);
    bench.wait(1);
    bench.fail("c", 2);
    assert_eq!((bench.state("b"), bench.state("a").unwrap().0), (None, BreakerState::Open));
    bench.fail("d", 5);
    assert_eq!(bench.state("d"), None);
    assert_eq!(bench.bus.failures_uncounted(), 5);
    bench.wait(29_999);
    bench.fail("d", 1);
    assert_eq!(bench.state("d"), Some((BreakerState::Closed, 1, None)), "a was half-open");
    assert_eq!(bench.state("a"), None);
}

// Subscribing, listing, clearing.

#[test]
fn a_subscription_needs_a_type_or_a_handle() {
    let mut bench = Bench::new(small());
    let nothing = bench.try_subscribe(user("ann"), &[], &[], Overflow::DropOldest);
    assert_eq!(refused(nothing), is("required", "types or handles is required"), "K410");
    let many = ["a", "b", "c", "d", "e"];
    let types = bench.try_subscribe(user("ann"), &many, &[], Overflow::DropOldest);
    assert_eq!(refused(types), is("too_many", "types: 5, at most 4"));
    let handles = bench.try_subscribe(user("ann"), &[], &many, Overflow::DropOldest);
    assert_eq!(refused(handles), is("too_many", "handles: 5, at most 4"));
    for _ in 0..20 {
        bench.listen(&["x"]);
    }
    let over = bench.try_subscribe(user("ann"), &["x"], &[], Overflow::DropOldest);
    assert_eq!(refused(over), is("too_many", "subscriptions: 21, at most 20"));
    bench.tell(Input::Unsubscribe(SubscriptionNumber(3)));
    bench.listen(&["x"]);
    let standard = BusConfig::standard();
    let limits = (standard.subscriptions_max, standard.types_max, standard.queue_max);
    assert_eq!(limits, (10_000, 64, 256), "K25");
}

#[test]
fn the_kernels_configuration_has_the_rules_of_the_bus() {
    let mut config = KernelConfig::new();
    let bus = BusConfig::of(&config, Vec::new());
    assert_eq!(format!("{bus:?}"), format!("{:?}", BusConfig::standard()));
    config.limits.subscription_queue = 7;
    config.bus.failure_threshold = 0;
    let bus = BusConfig::of(&config, Vec::new());
    assert_eq!((bus.queue_max, bus.breaker.failure_threshold), (7, 0));
    config.bus.timeout_default_ms = 300_001;
    assert_eq!(
        &*config.check().unwrap_err().text,
        "bus.timeout_default_ms: 300001, at most 300000"
    );
}

#[test]
fn a_type_of_129_bytes_is_refused() {
    let mut bench = Bench::new(small());
    let long = "x".repeat(129);
    let (result, _) = bench.publish_to(user("ann"), &long, false);
    assert_eq!(refused(result), is("bad_name", "event_type: 129 bytes, at most 128"), "K25");
    assert_eq!(bench.refusal(&long, None), is("bad_name", "query_type: 129 bytes, at most 128"));
    assert_eq!(refused(bench.bind(&long)), is("bad_name", "type: 129 bytes, at most 128"));
    for (types, handles) in [(vec![long.as_str()], vec![]), (vec![], vec![long.as_str()])] {
        let told = bench.try_subscribe(user("ann"), &types, &handles, Overflow::DropOldest);
        assert_eq!(told.unwrap_err().code.as_str(), "bad_name");
    }
    assert_eq!(bench.publish(&"x".repeat(128)), (0, 0));
}

#[test]
fn types_handled_in_process_are_bounded() {
    let mut bench = Bench::new(BusConfig { bound_max: 1, ..small() });
    bench.bind("x").unwrap();
    assert_eq!(refused(bench.bind("y")), is("too_many", "handlers: 2, at most 1"));
    bench.tell(Input::Unbind(kind("x")));
    bench.bind("y").unwrap();
}

#[test]
fn lists_show_handlers_subscribers_and_types() {
    let mut bench = Bench::new(small());
    bench.bind("q").unwrap();
    let ann =
        bench.try_subscribe(user("ann"), &["e", "f.*"], &["h"], Overflow::DropOldest).unwrap();
    let bob = bench.try_subscribe(user("bob"), &["*"], &[], Overflow::DropOldest).unwrap();
    assert!(bench.bus.has_handler(&kind("q")) && bench.bus.has_handler(&kind("h")), "K309");
    assert!(!bench.bus.has_handler(&kind("e")));
    let listed = |by, of| bench.bus.subscribers(&by, &kind(of));
    assert_eq!(listed(operator("o"), "e"), [ann, bob]);
    assert_eq!(listed(user("ann"), "f.g"), [ann], "others' are not shown (K27)");
    assert_eq!(listed(worker("w"), "e"), []);
    assert_eq!(listed(operator("o"), "z"), [bob]);
    assert_eq!(bench.bus.registered_types(), ["e", "h", "q"].map(kind));
    bench.tell(Input::Unsubscribe(ann));
    assert_eq!(bench.bus.registered_types(), [kind("q")]);
    assert!(!bench.bus.has_handler(&kind("h")), "it goes with its subscription");
}

#[test]
fn clear_drops_subscriptions_handlers_calls_and_breakers() {
    let mut bench = opened();
    bench.bind("y").unwrap();
    let id = bench.try_subscribe(user("ann"), &["*"], &["z"], Overflow::DropOldest).unwrap();
    bench.publish("e");
    let (y, _) = bench.ask("y");
    let (z, _) = bench.ask_as(user("ann"), "z", None);
    let outputs = bench.tell(Input::Clear);
    let (cause, gap) = (Cause::Cleared, Some(Gap { from: 1, to: 2 }));
    assert_eq!(outputs[0], Output::Ended { connection: HERE, subscription: id, cause, gap });
    for call in [y, z] {
        assert_eq!(refused(answer(&outputs, call).unwrap()).0, "handler_lost", "K309");
    }
    assert!(bench.bus.registered_types().is_empty() && bench.bus.breakers(bench.now).is_empty());
    assert!(bench.bus.within().iter().all(|(_, held, _)| *held == 0));
    assert_eq!(bench.listen(&["*"]), SubscriptionNumber(2), "no number comes twice");
    bench.bind("y").unwrap();
    bench.ask("y");
}

#[test]
fn a_clock_that_jumps_backwards_makes_time_stand_still() {
    let mut bench = Bench::new(small());
    bench.bind("x").unwrap();
    bench.wait(5_000);
    let then = bench.now;
    bench.now = Time::from_millis(3);
    bench.ask("x");
    assert_eq!(bench.bus.deadline(), then.plus(30_000), "K7");
    assert!(bench.tell(Input::Tick).is_empty());
}

/// Something of everything that a bus remembers, and all that comes of it.
fn story(bench: &mut Bench) -> Vec<Output> {
    let id = bench.listen(&["a.*", "*"]);
    bench.bind("x").unwrap();
    bench.bind("y").unwrap();
    let mut all = Vec::new();
    for _ in 0..5 {
        all.extend(bench.publish_to(user("ann"), "a.b", false).1);
    }
    bench.fail("x", 5);
    all.extend(bench.ask_as(user("ann"), "x", None).1);
    all.extend(bench.ask_as(user("ann"), "y", Some(70)).1);
    all.extend(bench.tell(Input::Pull { subscription: id, credit: 9 }));
    all.extend(bench.wait(60));
    all
}

/// K300. Goal: nothing but its inputs decides what a bus does, and a start begins with nothing.
/// Method: the same story twice, in two buses; then a look at a third.
#[test]
fn a_bus_is_deterministic_volatile_and_delivers_at_most_once() {
    let (mut one, mut other) = (Bench::new(small()), Bench::new(small()));
    let told = story(&mut one);
    assert_eq!(told, story(&mut other), "K300");
    assert_eq!(one.bus.breakers(one.now), other.bus.breakers(other.now));
    assert_eq!((one.bus.counters(), one.bus.deadline()), (other.bus.counters(), one.now.plus(10)));
    assert_eq!(short(&told)[2..], ["[1-2]", "3", "4", "5"]);
    assert!(one.pull(SubscriptionNumber(1), 9).is_empty(), "nothing is delivered twice (K300)");

    let mut new = Bench::new(small());
    new.now = one.now;
    let listening = new.bus.subscribers(&operator("o"), &kind("a.b"));
    assert!(listening.is_empty(), "K300: empty after a start");
    assert!(new.bus.registered_types().is_empty());
    assert!(!new.bus.has_handler(&kind("x")));
    assert!(new.bus.breakers(new.now).is_empty());
    assert_eq!((new.bus.counters(), new.bus.deadline()), (&BusCounters::default(), Time::FAR));
    assert!(new.bus.within().iter().all(|(_, size, _)| *size == 0), "{:?}", new.bus.within());
    let (_, outputs) = new.ask_as(user("ann"), "x", None);
    assert_eq!(refused(answer(&outputs, CallId(1)).unwrap()).0, "no_handler");
    assert!(new.pull(SubscriptionNumber(1), 9).is_empty());
}
