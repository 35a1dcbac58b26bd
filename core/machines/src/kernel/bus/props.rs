//! Properties of the bus: queues against a sequential model (K306, K442), breakers against
//! another (K308, K443), and whatever happens (K442, and one answer to each call). Sabotaged
//! variants must be caught.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker picks what it looks at")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

use super::breaker::State;
use super::io::{CallId, ConnectionId, Overflow};
use super::pattern::Pattern;
use super::*;
use crate::kernel::principal::Role;

fn kind(text: &str) -> MessageType {
    MessageType::parse("type", text).unwrap()
}

fn party(nth: u8) -> Principal {
    let role = match nth {
        2 => Role::Worker,
        3 => Role::Operator,
        _ => Role::User,
    };
    Principal::new(UserId::parse("user", &format!("u{nth}")).unwrap(), &[role])
}

const TYPES: [&str; 4] = ["a", "a.b", "a.b.c", "d"];
const PATTERNS: [&str; 5] = ["a", "a.*", "a.b.*", "*", "d"];

fn tell(bus: &mut Bus, now: u64, input: Input) -> Vec<Output> {
    bus.handle(Time::from_millis(now), input);
    std::iter::from_fn(|| bus.poll()).collect()
}

/// Says how a run fails that must fail, if it does; the same runs every time.
fn caught<T: std::fmt::Debug>(
    steps: impl Strategy<Value = T>,
    run: impl Fn(T) -> Result<(), String>,
) -> Option<String> {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    match runner.run(&steps, |steps| run(steps).map_err(TestCaseError::fail)) {
        Ok(()) => None,
        Err(TestError::Fail(reason, _)) => Some(reason.message().to_owned()),
        Err(TestError::Abort(reason)) => panic!("the run was given up: {reason}"),
    }
}

/// K442: what each subscription got and did not get is 1 … n, each once, in order.
#[derive(Default)]
struct Accounts {
    /// The number that must come next.
    next: BTreeMap<SubscriptionNumber, u64>,
    ended: BTreeSet<SubscriptionNumber>,
}

impl Accounts {
    fn see(&mut self, output: &Output) -> Result<(), String> {
        let (id, from, to) = match output {
            Output::Deliver { subscription, item: Item::Message { number, .. }, .. } => {
                (*subscription, *number, *number)
            }
            Output::Deliver { subscription, item: Item::Gap(gap), .. } => {
                (*subscription, gap.from, gap.to)
            }
            Output::Ended { subscription, gap, .. } => {
                if !self.ended.insert(*subscription) {
                    return Err(format!("K442: {subscription} ended twice"));
                }
                let Some(gap) = gap else {
                    return Ok(());
                };
                return self.account(*subscription, gap.from, gap.to);
            }
            _ => return Ok(()),
        };
        match self.ended.contains(&id) {
            true => Err(format!("K442: {id} got something after its end")),
            false => self.account(id, from, to),
        }
    }

    fn account(&mut self, id: SubscriptionNumber, from: u64, to: u64) -> Result<(), String> {
        let next = self.next.entry(id).or_insert(1);
        if from != *next || to < from {
            return Err(format!("K442: {id} was told {from} to {to} when {next} was due"));
        }
        *next = to + 1;
        Ok(())
    }
}

// Queues.

#[derive(Clone, Debug)]
enum Step {
    Publish { by: u8, of: usize, to_all: bool },
    Pull { nth: usize, credit: u32 },
    Subscribe { by: u8, patterns: Vec<usize>, overflow: Overflow },
    Unsubscribe { nth: usize },
}

fn overflow() -> impl Strategy<Value = Overflow> {
    prop_oneof![3 => Just(Overflow::DropOldest), 1 => Just(Overflow::Disconnect)]
}

fn queue_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0..4_u8, 0..TYPES.len(), any::<bool>())
            .prop_map(|(by, of, to_all)| Step::Publish { by, of, to_all }),
        4 => (0..6_usize, 1..4_u32).prop_map(|(nth, credit)| Step::Pull { nth, credit }),
        3 => (0..4_u8, vec(0..PATTERNS.len(), 1..3), overflow())
            .prop_map(|(by, patterns, overflow)| Step::Subscribe { by, patterns, overflow }),
        1 => (0..6_usize).prop_map(|nth| Step::Unsubscribe { nth }),
    ];
    vec(step, 1..60)
}

/// A subscription as a list of numbers: what waits, and what was lost and not told yet.
struct Model {
    id: SubscriptionNumber,
    by: u8,
    patterns: Vec<Pattern>,
    overflow: Overflow,
    published: u64,
    credit: u32,
    /// (number in the subscription, number on the bus).
    waiting: Vec<(u64, u64)>,
    lost: Vec<u64>,
    ended: bool,
}

/// What a subscription is given: a message (its number, its number on the bus), a gap, or its end.
#[derive(Debug, PartialEq)]
enum Given {
    Message(u64, u64),
    Gap(u64, u64),
    End(Option<(u64, u64)>),
}

impl Model {
    fn hears(&self, by: u8, of: &str, to_all: bool) -> bool {
        // Written out, not by the code that is tested.
        let named = self.patterns.iter().any(|pattern| match pattern.to_string().as_str() {
            "*" => true,
            text => match text.strip_suffix('*') {
                Some(prefix) => of.starts_with(prefix),
                None => of == text,
            },
        });
        !self.ended && named && (to_all || self.by >= 2 || self.by == by)
    }

    /// Returns what it is given, whether it has the message, and how many it lost.
    fn publish(&mut self, seq: u64, queue_max: usize) -> (Vec<Given>, u32, u32) {
        self.published += 1;
        let number = self.published;
        if self.waiting.len() == queue_max {
            if self.overflow == Overflow::Disconnect {
                let lost = u32::try_from(self.waiting.len()).unwrap() + 1;
                self.waiting.push((number, seq));
                return (self.end(), 0, lost);
            }
            self.lost.push(self.waiting.remove(0).0);
            self.waiting.push((number, seq));
            return (self.give(0), 1, 1);
        }
        self.waiting.push((number, seq));
        (self.give(0), 1, 0)
    }

    fn give(&mut self, credit: u32) -> Vec<Given> {
        self.credit += credit;
        let mut given = Vec::new();
        while self.credit > 0 && !(self.lost.is_empty() && self.waiting.is_empty()) {
            self.credit -= 1;
            match self.lost.as_slice() {
                [] => {
                    let (number, seq) = self.waiting.remove(0);
                    given.push(Given::Message(number, seq));
                }
                [first, ..] => {
                    given.push(Given::Gap(*first, self.lost[self.lost.len() - 1]));
                    self.lost.clear();
                }
            }
        }
        given
    }

    fn end(&mut self) -> Vec<Given> {
        self.ended = true;
        self.lost.extend(self.waiting.drain(..).map(|(number, _)| number));
        let first = self.lost.first().copied();
        vec![Given::End(first.map(|first| (first, self.lost[self.lost.len() - 1])))]
    }
}

fn given(outputs: &[Output], to: SubscriptionNumber) -> Vec<Given> {
    let one = |output: &Output| match output {
        Output::Deliver { subscription, item, .. } if *subscription == to => Some(match item {
            Item::Message { number, message, .. } => Given::Message(*number, message.seq),
            Item::Gap(gap) => Given::Gap(gap.from, gap.to),
        }),
        Output::Ended { subscription, gap, .. } if *subscription == to => {
            Some(Given::End(gap.map(|gap| (gap.from, gap.to))))
        }
        _ => None,
    };
    outputs.iter().filter_map(one).collect()
}

const QUEUE: u32 = 4;

fn queue_bus() -> Bus {
    Bus::new(BusConfig { queue_max: QUEUE, ..BusConfig::standard() })
}

fn wish(call: u64, by: u8, patterns: &[usize], overflow: Overflow) -> Subscribe {
    let types =
        patterns.iter().map(|nth| Pattern::parse("types", PATTERNS[*nth]).unwrap()).collect();
    let connection = ConnectionId(u64::from(by));
    Subscribe { call: CallId(call), by: party(by), connection, types, handles: vec![], overflow }
}

/// What somebody must be given.
type Due = (SubscriptionNumber, Vec<Given>);

/// The bus beside the models of its subscriptions.
struct QueueRig {
    bus: Bus,
    models: Vec<Model>,
    seq: u64,
}

impl QueueRig {
    /// Applies a step to both; returns what the bus gave and what it should have given.
    fn step(&mut self, call: u64, step: Step) -> Result<(Vec<Output>, Vec<Due>), String> {
        match step {
            Step::Publish { by, of, to_all } => {
                self.publish(CallId(call), by, TYPES[of], to_all && by == 3)
            }
            Step::Pull { nth, credit } => {
                let Some(model) = self.models.get_mut(nth) else {
                    return Ok((Vec::new(), Vec::new()));
                };
                let due = model.give(if model.ended { 0 } else { credit });
                let due = vec![(model.id, due)];
                let input = Input::Pull { subscription: model.id, credit };
                Ok((tell(&mut self.bus, 1, input), due))
            }
            Step::Subscribe { by, patterns, overflow } => {
                let wish = wish(call, by, &patterns, overflow);
                self.subscribe(by, wish)?;
                Ok((Vec::new(), Vec::new()))
            }
            Step::Unsubscribe { nth } => {
                let Some(model) = self.models.get_mut(nth) else {
                    return Ok((Vec::new(), Vec::new()));
                };
                let due = if model.ended { Vec::new() } else { model.end() };
                let due = vec![(model.id, due)];
                Ok((tell(&mut self.bus, 1, Input::Unsubscribe(model.id)), due))
            }
        }
    }

    fn publish(
        &mut self,
        call: CallId,
        by: u8,
        of: &str,
        to_all: bool,
    ) -> Result<(Vec<Output>, Vec<Due>), String> {
        let (kind, payload) = (kind(of), [].into());
        let input = Input::Publish { call, by: party(by), kind, payload, to_all };
        let mut outputs = tell(&mut self.bus, 1, input);
        self.seq += 1;
        let (mut delivered, mut dropped, mut due) = (0, 0, Vec::new());
        for model in self.models.iter_mut().filter(|model| model.hears(by, of, to_all)) {
            let (given, got, lost) = model.publish(self.seq, QUEUE as usize);
            delivered += got;
            dropped += lost;
            due.push((model.id, given));
        }
        let result = Ok(Receipt { seq: self.seq, delivered, dropped });
        let published = Output::Published { call, result };
        match outputs.pop() {
            Some(last) if last == published => Ok((outputs, due)),
            last => Err(format!("{last:?}, not {published:?}")),
        }
    }

    fn subscribe(&mut self, by: u8, wish: Subscribe) -> Result<(), String> {
        let id = SubscriptionNumber(self.models.len() as u64 + 1);
        self.models.push(Model {
            id,
            by,
            patterns: wish.types.clone(),
            overflow: wish.overflow,
            published: 0,
            credit: 0,
            waiting: Vec::new(),
            lost: Vec::new(),
            ended: false,
        });
        let subscribed = [Output::Subscribed { call: wish.call, result: Ok(id) }];
        match tell(&mut self.bus, 1, Input::Subscribe(wish)) {
            outputs if outputs == subscribed => Ok(()),
            outputs => Err(format!("{outputs:?}")),
        }
    }
}

/// Runs the bus beside the model and compares everything that is given to anyone.
fn queues_agree(steps: Vec<Step>) -> Result<(), String> {
    let mut rig = QueueRig { bus: queue_bus(), models: Vec::new(), seq: 0 };
    for (call, step) in (0_u64..).zip(steps) {
        let (outputs, due) = rig.step(call, step)?;
        let mut count = 0;
        for (id, due) in &due {
            let given = given(&outputs, *id);
            if given != *due {
                return Err(format!("{id} was given {given:?}, not {due:?}"));
            }
            count += due.len();
        }
        if count != outputs.len() {
            return Err(format!("somebody else was given something: {outputs:?}"));
        }
    }
    Ok(())
}

/// K442 over the outputs that `spoil` leaves.
fn accounts_hold(
    steps: Vec<Step>,
    spoil: impl Fn(&Output) -> Option<Output>,
) -> Result<(), String> {
    let (mut bus, mut accounts, mut made) = (queue_bus(), Accounts::default(), 0);
    let clear = Step::Unsubscribe { nth: usize::MAX };
    for (call, step) in (0_u64..).zip(steps.into_iter().chain([clear])) {
        let input = match step {
            Step::Publish { by, of, to_all } => {
                let (call, kind, payload) = (CallId(call), kind(TYPES[of]), [].into());
                Input::Publish { call, by: party(by), kind, payload, to_all: to_all && by == 3 }
            }
            Step::Pull { nth, credit } => {
                Input::Pull { subscription: SubscriptionNumber(nth as u64 + 1), credit }
            }
            Step::Subscribe { by, patterns, overflow } => {
                made += 1;
                Input::Subscribe(wish(call, by, &patterns, overflow))
            }
            Step::Unsubscribe { nth: usize::MAX } => Input::Clear,
            Step::Unsubscribe { nth } => Input::Unsubscribe(SubscriptionNumber(nth as u64 + 1)),
        };
        for output in tell(&mut bus, 1, input).iter().filter_map(&spoil) {
            accounts.see(&output)?;
        }
    }
    match accounts.ended.len() == made {
        true => Ok(()),
        false => Err("K442: a subscription has no end".to_owned()),
    }
}

/// The sabotage of K442: what a full queue loses leaves no marker.
fn without_markers(output: &Output) -> Option<Output> {
    match output {
        Output::Deliver { item: Item::Gap(_), .. } => None,
        other => Some(other.clone()),
    }
}

#[test]
fn a_loss_without_a_marker_is_caught() {
    let found = caught(queue_steps(), |steps| accounts_hold(steps, without_markers));
    assert!(found.is_some_and(|found| found.contains("K442")));
    let honest = caught(queue_steps(), |steps| accounts_hold(steps, |o| Some(o.clone())));
    assert_eq!(honest, None, "the same runs pass without the sabotage");
}

// Breakers.

#[derive(Clone, Debug)]
enum BreakerStep {
    Ask { of: usize, timeout: u64 },
    Reply { nth: usize, ok: bool },
    GiveUp { nth: usize },
    Wait { millis: u64 },
    Rebind { of: usize },
    Reset { of: usize },
}

fn breaker_steps() -> impl Strategy<Value = Vec<BreakerStep>> {
    let step = prop_oneof![
        8 => (0..2_usize, 1..3_000_u64).prop_map(|(of, timeout)| BreakerStep::Ask { of, timeout }),
        6 => (any::<usize>(), any::<bool>())
            .prop_map(|(nth, ok)| BreakerStep::Reply { nth, ok }),
        1 => any::<usize>().prop_map(|nth| BreakerStep::GiveUp { nth }),
        5 => prop_oneof![0..20_u64, 900..1_100_u64].prop_map(|millis| BreakerStep::Wait { millis }),
        1 => (0..2_usize).prop_map(|of| BreakerStep::Rebind { of }),
        1 => (0..2_usize).prop_map(|of| BreakerStep::Reset { of }),
    ];
    vec(step, 1..80)
}

const THRESHOLD: u32 = 2;
const RESET: u64 = 1_000;

/// K308 in the words of the rule, for one type.
#[derive(Clone, Debug)]
struct Rule {
    /// Whether a call has ever failed: before that there is nothing to reset.
    failed: bool,
    failures: u32,
    open_until: Option<u64>,
    probe: Option<CorrelationId>,
    /// Calls of which the rule knows: those begun since it last opened, closed or was reset.
    known: BTreeSet<CorrelationId>,
    under_way: BTreeMap<CorrelationId, (u64, CallId)>,
}

impl Rule {
    const fn new() -> Self {
        Self {
            failed: false,
            failures: 0,
            open_until: None,
            probe: None,
            known: BTreeSet::new(),
            under_way: BTreeMap::new(),
        }
    }

    fn is_open(&self, now: u64) -> bool {
        self.probe.is_none() && self.open_until.is_some_and(|until| now < until)
    }

    fn is_half_open(&self, now: u64) -> bool {
        self.open_until.is_some() && !self.is_open(now)
    }

    /// Why a call at `now` is refused, if it is: how long it is open yet.
    fn refuses(&self, now: u64) -> Option<Option<u64>> {
        match self.open_until {
            Some(until) if self.is_open(now) => Some(Some(until - now)),
            Some(_) => (!self.under_way.is_empty()).then_some(None),
            None => None,
        }
    }

    fn began(&mut self, now: u64, correlation: CorrelationId, until: u64, call: CallId) {
        if self.is_half_open(now) {
            self.probe = Some(correlation);
        }
        self.known.insert(correlation);
        self.under_way.insert(correlation, (until, call));
    }

    fn ended(&mut self, at: u64, correlation: CorrelationId, ok: bool) {
        self.under_way.remove(&correlation);
        let known = self.known.remove(&correlation);
        let was_probe = self.probe == Some(correlation);
        if !known || (self.open_until.is_some() && !was_probe) {
            return;
        }
        self.failed |= !ok;
        if was_probe {
            self.probe = None;
            self.open_until = (!ok).then_some(at + RESET);
            self.known.clear();
            self.failures = 0;
            return;
        }
        self.failures = if ok { 0 } else { self.failures + 1 };
        if self.failures == THRESHOLD {
            self.failures = 0;
            self.open_until = Some(at + RESET);
            self.known.clear();
        }
    }

    fn reset(&mut self) {
        if self.failed {
            let under_way = std::mem::take(&mut self.under_way);
            *self = Self { under_way, failed: true, ..Self::new() };
        }
    }
}

/// Sabotage: asks while the breakers in a state that `lift` names do as if they were closed.
fn lifted(bus: &mut Bus, now: u64, input: Input, lift: fn(State, Time) -> bool) -> Vec<Output> {
    let mut before: Vec<(MessageType, State)> = Vec::new();
    for (of, breaker) in &mut bus.breakers.table {
        if lift(breaker.state, Time::from_millis(now)) {
            before.push((of.clone(), breaker.state));
            breaker.state = State::Closed { failures: 0 };
        }
    }
    let outputs = tell(bus, now, input);
    for (of, state) in before {
        bus.breakers.table.get_mut(&of).unwrap().state = state;
    }
    outputs
}

/// The sabotage of K443: a call passes while the probe is under way.
fn two_probes(bus: &mut Bus, now: u64, input: Input) -> Vec<Output> {
    lifted(bus, now, input, |state, _| match state {
        State::Probing { .. } => true,
        State::Open { .. } | State::Closed { .. } => false,
    })
}

/// Another: a call passes while the breaker is open.
fn never_open(bus: &mut Bus, now: u64, input: Input) -> Vec<Output> {
    lifted(bus, now, input, |state, now| match state {
        State::Open { until } => now < until,
        State::Probing { .. } | State::Closed { .. } => false,
    })
}

/// How a rig asks its bus; sabotage puts its own way here.
type Tell = fn(&mut Bus, u64, Input) -> Vec<Output>;

/// The bus beside the rule, for two types.
struct BreakerRig {
    bus: Bus,
    ask: Tell,
    kinds: [MessageType; 2],
    rules: [Rule; 2],
    now: u64,
    /// Callers that wait.
    waiting: BTreeSet<CallId>,
}

impl BreakerRig {
    fn new(ask: Tell) -> Self {
        let config = BusConfig::standard();
        let breaker = BreakerConfig {
            failure_threshold: THRESHOLD,
            reset_timeout_ms: RESET,
            ..config.breaker.clone()
        };
        let mut bus = Bus::new(BusConfig { breaker, ..config });
        let kinds = [kind("x"), kind("y")];
        for (nth, of) in (0_u64..).zip(&kinds) {
            tell(&mut bus, 0, Input::Bind { call: CallId(nth), kind: of.clone() });
        }
        let rules = [Rule::new(), Rule::new()];
        Self { bus, ask, kinds, rules, now: 1_000, waiting: BTreeSet::new() }
    }

    /// Asks, and compares what comes of it with the rule.
    fn ask(&mut self, call: CallId, of: usize, timeout: u64) -> Result<(), String> {
        let (by, kind, payload) = (party(0), self.kinds[of].clone(), [].into());
        let query = Ask { call, by, kind: kind.clone(), payload, timeout: Some(timeout) };
        let outputs = (self.ask)(&mut self.bus, self.now, Input::Query(query));
        let (now, rule) = (self.now, &mut self.rules[of]);
        match (outputs.as_slice(), rule.refuses(now)) {
            ([Output::Invoke { .. }], _) if rule.is_open(now) => {
                Err("K443: a handler was called while open".to_owned())
            }
            ([Output::Invoke { .. }], _)
                if rule.is_half_open(now) && !rule.under_way.is_empty() =>
            {
                Err("K443: a second call in half-open".to_owned())
            }
            ([Output::Invoke { correlation, .. }], None) => {
                rule.began(now, *correlation, now + timeout, call);
                self.waiting.insert(call);
                Ok(())
            }
            ([output], Some(left)) => {
                let at = Time::from_millis(now);
                let result = Err(Reason::CircuitOpen { kind, left, at }.into());
                match *output == (Output::Answered { call, result }) {
                    true => Ok(()),
                    false => Err(format!("{output:?} with {left:?} left")),
                }
            }
            (other, expected) => Err(format!("{other:?}, not {expected:?}")),
        }
    }

    /// The calls under way: until when, which, of which type, whose.
    fn under_way(&self) -> Vec<(u64, CorrelationId, usize, CallId)> {
        let all = self.rules.iter().enumerate().flat_map(|(of, rule)| {
            rule.under_way.iter().map(move |(id, (until, call))| (*until, *id, of, *call))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        all
    }

    /// Lets calls end by the rule, and compares whom the bus answers.
    fn end(
        &mut self,
        calls: Vec<(u64, CorrelationId, usize, CallId)>,
        ok: bool,
        input: Input,
    ) -> Result<(), String> {
        let mut due = Vec::new();
        for (at, correlation, of, call) in calls {
            self.rules[of].ended(at, correlation, ok);
            due.extend(self.waiting.remove(&call).then_some(call));
        }
        let outputs = tell(&mut self.bus, self.now, input);
        let told = outputs.iter().map(|output| match output {
            Output::Answered { call, .. } => Ok(*call),
            other => Err(format!("{other:?}")),
        });
        let told: Vec<CallId> = told.collect::<Result<_, String>>()?;
        match told == due {
            true => Ok(()),
            false => Err(format!("answers to {told:?}, not {due:?}")),
        }
    }

    fn step(&mut self, call: CallId, step: BreakerStep) -> Result<(), String> {
        let now = self.now;
        match step {
            BreakerStep::Ask { of, timeout } => self.ask(call, of, timeout),
            BreakerStep::Reply { nth, ok } => {
                let open = self.under_way();
                let Some((_, correlation, of, call)) = open.get(nth % open.len().max(1)) else {
                    return Ok(());
                };
                let result = if ok { Ok([].into()) } else { Err(String::new()) };
                let (from, correlation) = (Replier::InProcess, *correlation);
                let input = Input::Reply { from, correlation, result };
                self.end(vec![(now, correlation, *of, *call)], ok, input)
            }
            BreakerStep::GiveUp { nth } => {
                let chosen = self.waiting.iter().nth(nth % self.waiting.len().max(1));
                let Some(call) = chosen.copied() else {
                    return Ok(());
                };
                self.waiting.remove(&call);
                self.end(Vec::new(), false, Input::GiveUp(call))
            }
            BreakerStep::Wait { millis } => {
                self.now += millis;
                let mut due = self.under_way();
                due.retain(|(until, ..)| *until <= self.now);
                self.end(due, false, Input::Tick)
            }
            BreakerStep::Rebind { of } => {
                let lost = self.under_way().into_iter().filter(|(_, _, its, _)| *its == of);
                let mut lost: Vec<_> = lost.map(|(_, id, of, call)| (now, id, of, call)).collect();
                lost.sort_unstable();
                self.end(lost, false, Input::Unbind(self.kinds[of].clone()))?;
                tell(&mut self.bus, now, Input::Bind { call, kind: self.kinds[of].clone() });
                Ok(())
            }
            BreakerStep::Reset { of } => {
                self.rules[of].reset();
                self.end(Vec::new(), false, Input::ResetBreaker(Some(self.kinds[of].clone())))
            }
        }
    }

    /// Compares the breakers as they are shown with the rule.
    fn compare(&self) -> Result<(), String> {
        let (views, now) = (self.bus.breakers(Time::from_millis(self.now)), self.now);
        for (of, rule) in self.kinds.iter().zip(&self.rules) {
            let view = views.iter().find(|view| view.kind == *of);
            let seen = view.map_or((BreakerState::Closed, 0), |view| (view.state, view.failures));
            let state = match (rule.is_open(now), rule.is_half_open(now)) {
                (true, _) => BreakerState::Open,
                (false, true) => BreakerState::HalfOpen,
                (false, false) => BreakerState::Closed,
            };
            if seen != (state, rule.failures) {
                return Err(format!("{of} is {seen:?}, not {:?}", (state, rule.failures)));
            }
        }
        Ok(())
    }
}

/// Runs the bus beside the rule, asking by `ask`.
fn breakers_agree(steps: Vec<BreakerStep>, ask: Tell) -> Result<(), String> {
    let mut rig = BreakerRig::new(ask);
    for (call, step) in (10_u64..).zip(steps) {
        rig.step(CallId(call), step)?;
        rig.compare()?;
    }
    Ok(())
}

#[test]
fn a_second_probe_is_caught() {
    let found = caught(breaker_steps(), |steps| breakers_agree(steps, two_probes));
    assert_eq!(found.as_deref(), Some("K443: a second call in half-open"));
}

#[test]
fn a_call_while_open_is_caught() {
    let found = caught(breaker_steps(), |steps| breakers_agree(steps, never_open));
    assert_eq!(found.as_deref(), Some("K443: a handler was called while open"));
}

// Whatever happens.

#[derive(Clone, Debug)]
enum Chaos {
    Publish { by: u8, of: usize },
    Ask { by: u8, of: usize, timeout: u64, query: bool },
    Reply { correlation: u64, connection: u8, ok: bool },
    GiveUp { nth: usize },
    Subscribe { by: u8, patterns: Vec<usize>, handles: Vec<usize>, overflow: Overflow },
    Pull { id: u64, credit: u32 },
    Unsubscribe { id: u64 },
    Disconnect { connection: u64 },
    Bind { of: usize },
    Unbind { of: usize },
    Wait { millis: u64 },
    Clear,
}

fn chaos() -> impl Strategy<Value = Vec<Chaos>> {
    let of = 0..TYPES.len();
    let step = prop_oneof![
        6 => (0..4_u8, of.clone()).prop_map(|(by, of)| Chaos::Publish { by, of }),
        8 => (0..4_u8, of.clone(), 1..2_000_u64, any::<bool>())
            .prop_map(|(by, of, timeout, query)| Chaos::Ask { by, of, timeout, query }),
        6 => (1..30_u64, 0..5_u8, any::<bool>())
            .prop_map(|(correlation, connection, ok)| Chaos::Reply { correlation, connection, ok }),
        1 => any::<usize>().prop_map(|nth| Chaos::GiveUp { nth }),
        4 => (0..4_u8, vec(0..PATTERNS.len(), 0..3), vec(of.clone(), 0..3), overflow())
            .prop_map(|(by, patterns, handles, overflow)| {
                Chaos::Subscribe { by, patterns, handles, overflow }
            }),
        6 => (1..12_u64, 1..4_u32).prop_map(|(id, credit)| Chaos::Pull { id, credit }),
        1 => (1..12_u64).prop_map(|id| Chaos::Unsubscribe { id }),
        1 => (0..4_u64).prop_map(|connection| Chaos::Disconnect { connection }),
        2 => of.clone().prop_map(|of| Chaos::Bind { of }),
        1 => of.prop_map(|of| Chaos::Unbind { of }),
        3 => (0..1_200_u64).prop_map(|millis| Chaos::Wait { millis }),
        1 => Just(Chaos::Clear),
    ];
    vec(step, 1..100)
}

fn chaos_input(step: Chaos, call: u64, asked: &BTreeSet<CallId>) -> Input {
    let call = CallId(call);
    match step {
        Chaos::Publish { by, of } => {
            let (kind, payload) = (kind(TYPES[of]), [].into());
            Input::Publish { call, by: party(by), kind, payload, to_all: false }
        }
        Chaos::Ask { by, of, timeout, query } => {
            let (kind, payload, timeout) = (kind(TYPES[of]), [].into(), Some(timeout));
            let ask = Ask { call, by: party(by), kind, payload, timeout };
            if query { Input::Query(ask) } else { Input::Send(ask) }
        }
        Chaos::Reply { correlation, connection, ok } => {
            let from = match connection {
                4 => Replier::InProcess,
                other => Replier::Connection(ConnectionId(u64::from(other))),
            };
            let result = if ok { Ok([].into()) } else { Err(String::new()) };
            Input::Reply { from, correlation: CorrelationId(correlation), result }
        }
        Chaos::GiveUp { nth } => {
            let chosen = asked.iter().nth(nth % asked.len().max(1));
            chosen.map_or(Input::Tick, |call| Input::GiveUp(*call))
        }
        Chaos::Subscribe { by, patterns, handles, overflow } => {
            let handles = handles.into_iter().map(|of| kind(TYPES[of])).collect();
            Input::Subscribe(Subscribe { handles, ..wish(call.0, by, &patterns, overflow) })
        }
        Chaos::Pull { id, credit } => Input::Pull { subscription: SubscriptionNumber(id), credit },
        Chaos::Unsubscribe { id } => Input::Unsubscribe(SubscriptionNumber(id)),
        Chaos::Disconnect { connection } => Input::Disconnected(ConnectionId(connection)),
        Chaos::Bind { of } => Input::Bind { call, kind: kind(TYPES[of]) },
        Chaos::Unbind { of } => Input::Unbind(kind(TYPES[of])),
        Chaos::Wait { .. } => Input::Tick,
        Chaos::Clear => Input::Clear,
    }
}

fn chaos_config() -> BusConfig {
    let config = BusConfig::standard();
    let breaker = BreakerConfig {
        failure_threshold: 2,
        reset_timeout_ms: 500,
        breakers_max: 2,
        ..config.breaker.clone()
    };
    BusConfig { queue_max: 2, subscriptions_max: 6, calls_max: 8, breaker, ..config }
}

/// K442, one answer to each call that is not given up, bounded tables, and an end to everything.
fn chaos_is_orderly(steps: Vec<Chaos>) -> Result<(), String> {
    let (mut bus, mut accounts, mut now) = (Bus::new(chaos_config()), Accounts::default(), 0);
    let (mut asked, mut last) = (BTreeSet::new(), BTreeMap::<SubscriptionNumber, u64>::new());
    let end = [Chaos::Wait { millis: 2_000 }, Chaos::Clear];
    for (call, step) in (0_u64..).zip(steps.into_iter().chain(end)) {
        if let Chaos::Wait { millis } = step {
            now += millis;
        }
        let input = chaos_input(step, call, &asked);
        match &input {
            Input::Send(ask) | Input::Query(ask) => {
                asked.insert(ask.call);
            }
            Input::GiveUp(call) => {
                asked.remove(call);
            }
            _ => {}
        }
        for output in tell(&mut bus, now, input) {
            accounts.see(&output)?;
            match output {
                Output::Answered { call, .. } if !asked.remove(&call) => {
                    return Err(format!("an answer that nobody awaits, to {call:?}"));
                }
                Output::Deliver { subscription, item: Item::Message { message, .. }, .. } => {
                    let before = last.insert(subscription, message.seq);
                    if before.is_some_and(|before| before >= message.seq) {
                        return Err(format!("K309: {subscription} got {message:?} too late"));
                    }
                }
                _ => {}
            }
        }
        if bus.deadline() <= Time::from_millis(now) {
            return Err("a deadline has passed and nothing happened".to_owned());
        }
        let over = bus.within().into_iter().find(|(_, held, most)| held > most);
        if let Some(over) = over {
            return Err(format!("{over:?}"));
        }
    }
    match asked.is_empty() && bus.registered_types().is_empty() {
        true => Ok(()),
        false => Err(format!("never answered: {asked:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// K301, K302, K303, K306, K309: everyone is given exactly what a sequential model gives.
    #[test]
    fn queues_are_those_of_a_sequential_model(steps in queue_steps()) {
        queues_agree(steps).map_err(TestCaseError::fail)?;
    }

    /// K308, K443: breakers are those of the rule, and no call passes that must not.
    #[test]
    fn breakers_are_those_of_the_rule(steps in breaker_steps()) {
        breakers_agree(steps, tell).map_err(TestCaseError::fail)?;
    }

    /// K442, K305: whatever happens, numbers are accounted for and calls answered once.
    #[test]
    fn whatever_happens_is_orderly(steps in chaos()) {
        chaos_is_orderly(steps).map_err(TestCaseError::fail)?;
    }
}
