//! Saboteurs of membership: one for each of C136–C144.
//!
//! What a node hears reaches its `Swim` inside one step, beyond the boundary. So these saboteurs
//! listen to a copy of the links first; a step in which something is to be twisted they carry out
//! by hand, part by part, and every other step is the production node's own.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a saboteur twists the few inputs and outputs that its promise speaks of"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::{Incarnation, Life, NodeId, Session};
use machines::cluster::links::io as links;
use machines::cluster::swim::Swim;
use machines::cluster::swim::io as swim;
use machines::cluster::swim::io::{Lane, MemberEventKind, SyncStep};
use machines::cluster::wire::{Body, Entry, Fact, Frame, MemberRow, Message, State, SyncBody};
use machines::node::Node;
use machines::node::io::{Event, Input, Output};
use toml::Spanned;

use super::{Sabotaged, Saboteur, Turn, Turned};
use crate::guest::Birth;
use crate::host::place_of;
use crate::lab::Sabotage;
use crate::scenario::file::{Fault, File, Word};

/// Returns the saboteurs of C136–C144.
#[must_use]
pub fn all() -> Vec<Sabotage<Sabotaged<Node>>> {
    vec![
        entry("alive-at-equal-life", "C136", "flapping-link", (turn_alive, |_| {}))
            .about("takes Alive for news at the very life that is accused"),
        entry("forgets-refutations", "C137", "flapping-link", (turn_forgetful, |_| {}))
            .about("believes an accusation that was refuted before"),
        entry("blind-to-one", "C138", "crash-detected", (turn_blind, kill_the_unseen))
            .about("never finds that one of the members does not answer"),
        entry("no-refutation", "C139", "slow-member", (turn_deaf, |_| {}))
            .about("does not hear accusations of itself"),
        entry("no-reprobe", "C140", "partition-heals", (turn_unforgiving, split_longer))
            .about("never dials the dead again"),
        entry("session-not-synced", "C141", "mass-restart", (turn_unsynced, |_| {}))
            .about("starts before its session is on the disk"),
        entry("left-below-dead", "C142", "leave-and-return", (turn_left, |_| {}))
            .about("takes Left for Dead"),
        entry("left-is-dead-to-one", "C144", "leave-and-return", (turn_left_on_one, |_| {}))
            .about("takes Left for Dead, on one node"),
        entry("forgets-silently", "C143", "crash-detected", (turn_hushed, forget_soon))
            .about("does not tell of a death, and forgets the dead"),
        entry("no-join-on-revival", "C143", "partition-heals", (turn_silent, |_| {}))
            .about("does not tell that a dead member is back"),
        entry("undoes-updates", "C144", "address-change", (turn_stubborn, |_| {}))
            .about("goes back to what it knew before, on one node"),
    ]
}

/// Seeds within which each must be found.
const SEEDS: u64 = 20;

type How = (Turn<Node>, fn(&mut File));

fn entry(
    name: &'static str,
    property: &'static str,
    scenario: &'static str,
    (turn, change): How,
) -> Sabotage<Sabotaged<Node>> {
    let kind = Turned { inner: (), turn: Some(turn) };
    Sabotage { name, about: "", property, scenario, seeds: SEEDS, kind, change }
}

/// Changes what a membership machine is told: the fact that it hears instead, if any.
type Twist = fn(&Swim, Fact) -> Option<Fact>;

/// A node that hears something else than it is told.
#[derive(Clone, Debug)]
struct Twisted {
    twist: Twist,
    told: Vec<Output>,
}

impl Twisted {
    fn boxed(twist: Twist) -> Box<dyn Saboteur<Node>> {
        Box::new(Self { twist, told: Vec::new() })
    }
}

impl Saboteur<Node> for Twisted {
    fn before(&mut self, node: &mut Node, now: Instant, input: Input) -> Vec<Input> {
        let Some(heard) = link_input(&input) else {
            return vec![input];
        };
        let differs = overhear(node, now, heard.clone()).iter().any(|output| {
            let told = swim_input(output);
            told.is_some_and(|told| twisted(node.swim(), self.twist, told.clone()) != told)
        });
        if !differs {
            return vec![input];
        }
        let mut hands = Hands { node, now, twist: self.twist, told: &mut self.told };
        hands.links(heard);
        Vec::new()
    }

    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        outputs.append(&mut self.told);
    }
}

/// Carries out a step as a node does, as far as membership is concerned.
struct Hands<'a> {
    node: &'a mut Node,
    now: Instant,
    twist: Twist,
    told: &'a mut Vec<Output>,
}

impl Hands<'_> {
    fn links(&mut self, input: links::Input) {
        let links = self.node.parts_mut().links;
        links.handle(self.now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| links.poll()).collect();
        for output in outputs {
            self.after_links(output);
        }
    }

    fn after_links(&mut self, output: links::Output) {
        if let Some(input) = swim_input(&output) {
            let input = twisted(self.node.swim(), self.twist, input);
            return self.swim(input);
        }
        self.told.push(match output {
            links::Output::Dial { conn, addr } => Output::Dial { conn, addr },
            links::Output::Write { conn, bytes } => Output::Write { conn, bytes },
            links::Output::Close { conn } => Output::Close { conn },
            links::Output::Draw { conn } => Output::Draw { conn },
            links::Output::Datagram { to, bytes } => Output::Datagram { to, bytes },
            // Nothing of membership.
            _ => return,
        });
    }

    fn swim(&mut self, input: swim::Input) {
        let swim = self.node.parts_mut().swim;
        swim.handle(self.now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| swim.poll()).collect();
        for output in outputs {
            self.after_swim(output);
        }
    }

    fn after_swim(&mut self, output: swim::Output) {
        let input = match output {
            swim::Output::Send { to, addr, lane, message } => {
                links::Input::Message { to, addr, lane, message }
            }
            swim::Output::Want { peer, addr } => links::Input::Want { peer, addr },
            swim::Output::Dial { peer, addr } => links::Input::Dial { peer, addr },
            swim::Output::DialSeed { seed } => links::Input::DialSeed { seed },
            swim::Output::Known { node: peer, session } => {
                links::Input::SessionKnown { peer, session }
            }
            swim::Output::SelfChanged { life, addr } => links::Input::SelfChanged { life, addr },
            swim::Output::Sync { to, step, rows } => {
                let body = SyncBody { rows, digests: Vec::new() };
                let frame = match step {
                    SyncStep::First => Frame::Sync1(body),
                    SyncStep::Second => Frame::Sync2(body, Vec::new()),
                    SyncStep::Third => Frame::Sync3(Vec::new()),
                };
                let addr = self.node.swim().member(to).and_then(|member| member.addr);
                links::Input::Frame { to, addr, process: None, frame }
            }
            swim::Output::Event(event) => {
                return self.told.push(Output::Event(Event::Member(event)));
            }
            swim::Output::Joined => return self.told.push(Output::Event(Event::Joined)),
            swim::Output::Name { .. }
            | swim::Output::SessionBehind { .. }
            | swim::Output::UsedUp
            | swim::Output::Departed => return,
        };
        self.links(input);
    }
}

/// What the links hear of an input of the node.
fn link_input(input: &Input) -> Option<links::Input> {
    match input {
        Input::Datagram(bytes) => Some(links::Input::Datagram(bytes.clone())),
        Input::Bytes { conn, bytes } => {
            Some(links::Input::Bytes { conn: *conn, bytes: bytes.clone() })
        }
        _ => None,
    }
}

/// What the links would say to an input.
fn overhear(node: &Node, now: Instant, input: links::Input) -> Vec<links::Output> {
    let mut links = node.links().clone();
    links.handle(now, input);
    std::iter::from_fn(|| links.poll()).collect()
}

/// What membership hears of an output of the links.
fn swim_input(output: &links::Output) -> Option<swim::Input> {
    let sync =
        |from, step, rows: &[MemberRow]| swim::Input::Sync { from, step, rows: rows.to_vec() };
    match output {
        links::Output::Message { from, lane, message } => {
            Some(swim::Input::Received { from: *from, lane: *lane, message: message.clone() })
        }
        links::Output::Frame { from, frame: Frame::Sync1(body) } => {
            Some(sync(*from, SyncStep::First, &body.rows))
        }
        links::Output::Frame { from, frame: Frame::Sync2(body, _) } => {
            Some(sync(*from, SyncStep::Second, &body.rows))
        }
        links::Output::Frame { from, frame: Frame::Sync3(_) } => {
            Some(sync(*from, SyncStep::Third, &[]))
        }
        links::Output::LinkUp { peer, hello, seed, .. } => Some(swim::Input::LinkUp {
            peer: *peer,
            life: hello.life,
            addr: hello.addr,
            seed: *seed,
        }),
        links::Output::LinkDown { peer, .. } => Some(swim::Input::LinkDown { peer: *peer }),
        links::Output::Unreachable { peer, seed, .. } => {
            Some(swim::Input::Unreachable { peer: *peer, seed: *seed })
        }
        links::Output::Rejected { peer, .. } => Some(swim::Input::Rejected { peer: *peer }),
        _ => None,
    }
}

fn twisted(swim: &Swim, twist: Twist, input: swim::Input) -> swim::Input {
    match input {
        swim::Input::Received { from, lane, mut message } => {
            let entries = message.entries.into_iter().filter_map(|entry| match entry {
                Entry::Fact(fact) => twist(swim, fact).map(Entry::Fact),
                Entry::Name(name) => Some(Entry::Name(name)),
            });
            message.entries = entries.collect();
            swim::Input::Received { from, lane, message }
        }
        swim::Input::Sync { from, step, rows } => {
            let rows = rows.into_iter().filter_map(|row| twisted_row(swim, twist, from, row));
            swim::Input::Sync { from, step, rows: rows.collect() }
        }
        input => input,
    }
}

fn twisted_row(swim: &Swim, twist: Twist, from: NodeId, row: MemberRow) -> Option<MemberRow> {
    let Some(fact) = fact_of(from, &row) else {
        return Some(row);
    };
    let (life, state) = standing(&twist(swim, fact)?);
    Some(MemberRow { life, state, ..row })
}

/// The fact that a row of a sync is.
fn fact_of(from: NodeId, row: &MemberRow) -> Option<Fact> {
    let (node, life, accuser) = (row.node, row.life, from);
    match row.state {
        State::Alive => row.addr.map(|addr| Fact::Alive { node, life, addr, meta: row.meta }),
        State::Suspect => Some(Fact::Suspect { node, life, accuser }),
        State::Dead => Some(Fact::Dead { node, life, accuser }),
        State::Left => Some(Fact::Left { node, session: life.session }),
    }
}

fn standing(fact: &Fact) -> (Life, State) {
    match *fact {
        Fact::Alive { life, .. } => (life, State::Alive),
        Fact::Suspect { life, .. } => (life, State::Suspect),
        Fact::Dead { life, .. } => (life, State::Dead),
        Fact::Left { session, .. } => {
            (Life { session, incarnation: Incarnation::LEFT }, State::Left)
        }
    }
}

fn subject(fact: &Fact) -> NodeId {
    match *fact {
        Fact::Alive { node, .. }
        | Fact::Suspect { node, .. }
        | Fact::Dead { node, .. }
        | Fact::Left { node, .. } => node,
    }
}

/// C136: Alive counts at the very life that is accused, as if it were one higher.
fn turn_alive(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Twisted::boxed(|swim, fact| {
        let Some(held) = swim.member(subject(&fact)) else {
            return Some(fact);
        };
        let accused = matches!(held.state, State::Suspect | State::Dead);
        match fact {
            Fact::Alive { node, life, addr, meta } if accused && life == held.life => {
                let incarnation = Incarnation(life.incarnation.0 + 1);
                let life = Life { incarnation, ..life };
                Some(Fact::Alive { node, life, addr, meta })
            }
            fact => Some(fact),
        }
    })
}

/// C139: nobody hears what is said against it.
fn turn_deaf(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Twisted::boxed(|swim, fact| match fact {
        Fact::Suspect { node, .. } | Fact::Dead { node, .. } if node == swim.node() => None,
        fact => Some(fact),
    })
}

/// C142: who left is taken for dead.
fn turn_left(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Twisted::boxed(|swim, fact| match (fact, swim.member(subject(&fact))) {
        (Fact::Left { node, session }, Some(held)) if held.state != State::Left => {
            let same = held.life.session == session;
            let life = if same { held.life } else { Life::first_of(session) };
            Some(Fact::Dead { node, life, accuser: node })
        }
        (fact, _) => Some(fact),
    })
}

/// C144: who left is taken for dead, by one node alone.
fn turn_left_on_one(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    match birth.node == CHOSEN + 1 {
        true => turn_left(birth),
        false => Twisted::boxed(|_, fact| Some(fact)),
    }
}

/// C137: after a refutation, keeps how it was before, and goes back when an accusation that it
/// refutes is heard again.
#[derive(Clone, Debug, Default)]
struct Forgetful {
    before: Option<Swim>,
    accused: BTreeMap<NodeId, Swim>,
}

fn turn_forgetful(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Forgetful::default())
}

impl Forgetful {
    /// Who is accused in what is heard, in a life that the node knows to be refuted.
    fn refuted(&self, node: &Node, heard: &swim::Input) -> Option<NodeId> {
        let facts: Vec<Fact> = match heard {
            swim::Input::Received { message, .. } => {
                let fact = |entry: &Entry| match entry {
                    Entry::Fact(fact) => Some(*fact),
                    Entry::Name(_) => None,
                };
                message.entries.iter().filter_map(fact).collect()
            }
            swim::Input::Sync { from, rows, .. } => {
                rows.iter().filter_map(|row| fact_of(*from, row)).collect()
            }
            _ => Vec::new(),
        };
        facts.iter().map(|fact| (subject(fact), standing(fact))).find_map(
            |(about, (life, state))| {
                let held = node.swim().member(about)?;
                let accuses = matches!(state, State::Suspect | State::Dead) && life < held.life;
                (accuses && self.accused.contains_key(&about)).then_some(about)
            },
        )
    }
}

impl Saboteur<Node> for Forgetful {
    fn before(&mut self, node: &mut Node, now: Instant, input: Input) -> Vec<Input> {
        if let Some(heard) = link_input(&input) {
            let told = overhear(node, now, heard);
            let refuted = told.iter().filter_map(swim_input);
            let refuted = refuted.filter_map(|heard| self.refuted(node, &heard)).next();
            if let Some(swim) = refuted.and_then(|about| self.accused.remove(&about)) {
                *node.parts_mut().swim = swim;
            }
        }
        self.before = Some(node.swim().clone());
        vec![input]
    }

    fn after(&mut self, node: &mut Node, _: Instant, _: &mut Vec<Output>) {
        let Some(before) = self.before.take() else {
            return;
        };
        let suspects = before.members().filter(|member| member.state == State::Suspect);
        for suspect in suspects {
            let held = node.swim().member(suspect.node);
            if held.is_some_and(|held| held.state == State::Alive) {
                self.accused.insert(suspect.node, before.clone());
            }
        }
    }
}

/// Who is struck by [`Blind`] and [`Stubborn`].
const CHOSEN: u32 = 1;

/// C138: takes every Ping to one member for answered.
#[derive(Clone, Debug, Default)]
struct Blind {
    asked: Vec<(NodeId, u32)>,
    told: Vec<Output>,
}

fn turn_blind(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Blind::default())
}

impl Saboteur<Node> for Blind {
    fn before(&mut self, node: &mut Node, now: Instant, input: Input) -> Vec<Input> {
        if node.swim().deadline() <= now {
            let mut swim = node.swim().clone();
            swim.handle(now, swim::Input::Tick);
            let outputs = std::iter::from_fn(|| swim.poll());
            self.asked.extend(outputs.filter_map(|output| match output {
                swim::Output::Send { to, addr, message, .. } => match message.body {
                    Body::Ping { seq } if is_chosen(addr.udp().ip()) => Some((to, seq)),
                    _ => None,
                },
                _ => None,
            }));
        }
        vec![input]
    }

    fn after(&mut self, node: &mut Node, now: Instant, outputs: &mut Vec<Output>) {
        for (from, seq) in std::mem::take(&mut self.asked) {
            let message = Message { body: Body::Ack { seq }, entries: Vec::new() };
            let answer = swim::Input::Received { from, lane: Lane::Datagram, message };
            let mut hands = Hands { node, now, twist: |_, fact| Some(fact), told: &mut self.told };
            hands.swim(answer);
        }
        outputs.append(&mut self.told);
    }
}

fn is_chosen(ip: std::net::IpAddr) -> bool {
    place_of(ip).is_some_and(|(place, _)| place == CHOSEN)
}

/// Only the one that nobody sees crashes, while links of others come and go all the time: what
/// does not concern observer and crashed is no excuse.
fn kill_the_unseen(file: &mut File) {
    file.fault.retain(|fault| fault.power.is_some());
    for fault in &mut file.fault {
        let chosen = toml::Value::Array(vec![toml::Value::Integer(i64::from(CHOSEN))]);
        fault.nodes = Some(Spanned::new(0..0, chosen));
    }
    file.fault.push(Fault {
        kind: Word::new("reset"),
        at: Word::new("10s"),
        times: Some(Spanned::new(0..0, 10)),
        every: Some(Word::new("10s")),
        links: Some(Spanned::new(0..0, vec![[4, 5]])),
        ..Fault::default()
    });
}

/// C140: the dead are left alone; the checker counts on what the run's configuration says.
fn turn_unforgiving(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    let mut config = birth.config.as_ref().clone();
    config.swim.reprobe = Duration::from_secs(100_000);
    birth.config = Arc::new(config);
    Twisted::boxed(|_, fact| Some(fact))
}

/// So long that nobody gossips to those beyond any more (C52), and no message makes a link.
fn split_longer(file: &mut File) {
    file.workload = None;
    for fault in &mut file.fault {
        fault.lasts = Some(Word::new("2m"));
    }
}

/// C141: starts before its session is on the disk, and so always in the first.
fn turn_unsynced(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    birth.session = Session(1);
    Twisted::boxed(|_, fact| Some(fact))
}

/// C143: says nothing when a dead member is back, and counts its events as if that were right.
#[derive(Clone, Debug, Default)]
struct Silent {
    gone: BTreeSet<NodeId>,
    hidden: u64,
}

fn turn_silent(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Silent::default())
}

impl Saboteur<Node> for Silent {
    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        outputs.retain_mut(|output| {
            let Output::Event(Event::Member(event)) = output else {
                return true;
            };
            let hides = match event.kind {
                MemberEventKind::Join => self.gone.contains(&event.node),
                MemberEventKind::Dead(_) | MemberEventKind::Left => {
                    self.gone.insert(event.node);
                    false
                }
                MemberEventKind::Suspect | MemberEventKind::Alive | MemberEventKind::Changed => {
                    false
                }
            };
            event.index -= self.hidden;
            self.hidden += u64::from(hides);
            !hides
        });
    }
}

/// C143: says nothing when a member dies, and counts its events as if that were right.
#[derive(Clone, Debug, Default)]
struct Hushed {
    hidden: u64,
}

fn turn_hushed(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Hushed::default())
}

impl Saboteur<Node> for Hushed {
    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        outputs.retain_mut(|output| {
            let Output::Event(Event::Member(event)) = output else {
                return true;
            };
            event.index -= self.hidden;
            let hides = matches!(event.kind, MemberEventKind::Dead(_));
            self.hidden += u64::from(hides);
            !hides
        });
    }
}

/// The dead are forgotten within the run.
fn forget_soon(file: &mut File) {
    let config = file.config.get_or_insert_default();
    config.forget_after = Some(Spanned::new(0..0, "40s".to_owned()));
}

/// C144: on one node, whatever is new about one member is forgotten in the same step.
#[derive(Clone, Debug)]
struct Stubborn {
    is_me: bool,
    before: Option<Swim>,
}

fn turn_stubborn(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Stubborn { is_me: birth.node == CHOSEN + 1, before: None })
}

impl Stubborn {
    /// The life of the member that nothing new may be known of.
    fn held(swim: &Swim) -> Option<(NodeId, Life)> {
        let here = |addr: machines::cluster::ids::Addr| is_chosen(addr.udp().ip());
        let held = swim.members().find(|member| member.addr.is_some_and(here))?;
        Some((held.node, held.life))
    }
}

impl Saboteur<Node> for Stubborn {
    fn before(&mut self, node: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        self.before = self.is_me.then(|| node.swim().clone());
        vec![input]
    }

    fn after(&mut self, node: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        let Some(before) = self.before.take() else {
            return;
        };
        let Some((about, life)) = Self::held(&before) else {
            return;
        };
        if node.swim().member(about).is_some_and(|held| held.life > life) {
            *node.parts_mut().swim = before;
            outputs.retain(|output| !matches!(output, Output::Event(Event::Member(_))));
        }
    }
}
