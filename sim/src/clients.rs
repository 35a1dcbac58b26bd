//! The users of the nodes: they open endpoints, hold names, look them up, send and ask.
//!
//! Each node has one client, which lives and dies with the node's process. What a client does next
//! is asked at `client.op`; 0 is nothing, so a shrinker removes operations by answering 0.

use std::collections::VecDeque;
use std::time::Duration;

use machines::Choices;
use machines::cluster::ids::{ActorId, CallId, Ref};
use machines::cluster::router::io::Request;
use machines::cluster::wire::{BounceCode, Meta, Name};
use machines::node::io::{Call, Output, Reply};

/// Stands in every payload, name and metadata, so that it can be looked for on the wire (C131).
pub const CANARY: [u8; 16] = *b"lockstep-canary!";

/// How much the clients do: mean operations a second of the whole cluster, times 1,000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Registrations.
    pub register: u32,
    /// Withdrawals.
    pub unregister: u32,
    /// Look-ups.
    pub lookup: u32,
    /// Tracked sends.
    pub send: u32,
    /// Requests.
    pub ask: u32,
    /// Endpoints closed and opened anew.
    pub reopen: u32,
    /// How many names there are.
    pub names: u32,
    /// The longest payload beyond its head, in bytes.
    pub payload: u32,
    /// How long an answer is waited for.
    pub wait: Duration,
    /// How long an answer takes at the most, in nanoseconds.
    pub answer_span: u64,
    /// Deliveries that endpoints do not take, of a million.
    pub not_taken: u32,
}

impl Work {
    /// Operations a thousand seconds, in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.register as u64
            + self.unregister as u64
            + self.lookup as u64
            + self.send as u64
            + self.ask as u64
            + self.reopen as u64
    }
}

/// The client of one node.
#[derive(Clone, Debug, Default)]
struct Client {
    endpoint: Option<Ref>,
    opening: Option<CallId>,
    held: Vec<Name>,
}

/// All clients of a run.
#[derive(Clone, Debug)]
pub struct Clients {
    work: Work,
    clients: Vec<Client>,
    /// References that were seen, of dead sessions too; the newest last.
    known: VecDeque<Ref>,
    calls: u64,
    messages: u64,
}

/// References remembered.
const KNOWN_MAX: usize = 64;

/// What a client does about an output.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Nothing.
    None,
    /// A call, after so many nanoseconds.
    Call(u64, CallId, Call),
}

impl Clients {
    /// Makes the clients of `nodes` nodes.
    #[must_use]
    pub fn new(work: Work, nodes: u32) -> Self {
        Self {
            work,
            clients: vec![Client::default(); nodes as usize],
            known: VecDeque::new(),
            calls: 0,
            messages: 0,
        }
    }

    /// Says whether the clients do anything at all.
    #[must_use]
    pub const fn are_busy(&self) -> bool {
        self.work.total() > 0
    }

    /// Names the next call.
    pub fn name_call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// The process of `node` started: its client opens an endpoint.
    pub fn started(&mut self, node: u32) -> (CallId, Call) {
        let call = self.name_call();
        self.clients[node as usize] = Client { opening: Some(call), ..Client::default() };
        (call, Call::Open)
    }

    /// The process of `node` ended.
    pub fn ended(&mut self, node: u32) {
        self.clients[node as usize] = Client::default();
    }

    /// Returns how long the client of `node` waits before its next operation, in nanoseconds.
    pub fn pause(&self, node: u32, choices: &mut Choices) -> u64 {
        let clients = self.clients.len() as u64;
        let mean = 1_000_000_000_000 * clients / self.work.total().max(1);
        // 0 is benign: the longest wait.
        (2 * mean).max(2) - choices.choose("client.wait", [u64::from(node), 0], (2 * mean).max(2))
    }

    /// Returns what the client of `node` does next; in the quiet period names stay as they are.
    pub fn next(&mut self, node: u32, quiet: bool, choices: &mut Choices) -> Option<Call> {
        let who = [u64::from(node), 0];
        let own = self.clients[node as usize].endpoint?;
        let work = self.work.clone();
        // One chance in eight that nothing is done: a benign answer must exist.
        let idle = work.total().div_ceil(7);
        let mut drawn = choices.choose("client.op", who, idle + work.total());
        if drawn < idle {
            return None;
        }
        drawn -= idle;
        let mut falls = |weight: u32| {
            let here = drawn < u64::from(weight);
            drawn = drawn.wrapping_sub(if here { 0 } else { u64::from(weight) });
            here
        };
        if falls(work.register) {
            return (!quiet).then(|| self.register(node, own, choices)).flatten();
        }
        if falls(work.unregister) {
            return (!quiet).then(|| self.unregister(node)).flatten();
        }
        if falls(work.lookup) {
            return self.some_name(node, choices).map(Call::Lookup);
        }
        if falls(work.send) {
            return self.send(node, own, choices);
        }
        if falls(work.ask) {
            return self.ask(node, own, choices);
        }
        (!quiet).then(|| self.clients[node as usize].endpoint.take()).flatten()?;
        self.clients[node as usize].held.clear();
        Some(Call::Close(own.actor))
    }

    /// Looks at what a node put out, and says what its client does about it.
    pub fn heard(&mut self, node: u32, output: &Output, choices: &mut Choices) -> Reaction {
        match output {
            Output::Reply { call, reply } => self.replied(node, *call, reply),
            Output::Deliver { to, from, delivery, request, tag, payload } => {
                self.know(*from);
                let who = [u64::from(node), to.0];
                if crate::net::strikes(choices, "client.not-taken", who, self.work.not_taken) {
                    let code = BounceCode::MailboxFull;
                    let request = Call::NotTaken { delivery: *delivery, code };
                    return Reaction::Call(0, self.name_call(), request);
                }
                match request {
                    None => Reaction::None,
                    Some(request) => self.answer(who, *request, *tag, payload.clone(), choices),
                }
            }
            Output::Dial { .. }
            | Output::Write { .. }
            | Output::Close { .. }
            | Output::Draw { .. }
            | Output::Datagram { .. }
            | Output::StoreSession { .. }
            | Output::Event(_)
            | Output::Stop(_) => Reaction::None,
        }
    }

    fn replied(&mut self, node: u32, call: CallId, reply: &Reply) -> Reaction {
        let client = &mut self.clients[node as usize];
        match reply {
            Reply::Opened(Ok(opened)) => {
                if client.opening == Some(call) {
                    client.opening = None;
                    client.endpoint = Some(*opened);
                }
                self.know(*opened);
                Reaction::None
            }
            Reply::Done if self.work.total() > 0 && client.endpoint.is_none() => {
                // The endpoint was closed: open another one.
                if client.opening.is_some() {
                    return Reaction::None;
                }
                let call = self.name_call();
                self.clients[node as usize].opening = Some(call);
                Reaction::Call(0, call, Call::Open)
            }
            Reply::Found(Some(found)) => {
                self.know(*found);
                Reaction::None
            }
            Reply::Done
            | Reply::Opened(Err(_))
            | Reply::Found(None)
            | Reply::Registered(_)
            | Reply::Sent(_)
            | Reply::Outcome(_)
            | Reply::Asked(_)
            | Reply::Left => Reaction::None,
        }
    }

    fn answer(
        &mut self,
        who: [u64; 2],
        request: Request,
        tag: u32,
        payload: Vec<u8>,
        choices: &mut Choices,
    ) -> Reaction {
        let after = match self.work.answer_span {
            0 => 0,
            span => choices.choose("client.answer", who, span),
        };
        Reaction::Call(after, self.name_call(), Call::Answer { request, status: 0, tag, payload })
    }

    fn register(&mut self, node: u32, own: Ref, choices: &mut Choices) -> Option<Call> {
        let name = self.some_name(node, choices)?;
        self.clients[node as usize].held.push(name.clone());
        Some(Call::Register { name, actor: own.actor, ttl: None, manual: false })
    }

    fn unregister(&mut self, node: u32) -> Option<Call> {
        self.clients[node as usize].held.pop().map(Call::Unregister)
    }

    fn send(&mut self, node: u32, own: Ref, choices: &mut Choices) -> Option<Call> {
        let to = self.some_ref(node, choices)?;
        let payload = self.payload(node, choices);
        Some(Call::Send { from: own.actor, to, tag: 1, payload, tracked: true })
    }

    fn ask(&mut self, node: u32, own: Ref, choices: &mut Choices) -> Option<Call> {
        let to = self.some_ref(node, choices)?;
        let payload = self.payload(node, choices);
        let wait = self.work.wait;
        Some(Call::Ask { from: own.actor, to, wait, tag: 2, payload })
    }

    fn some_ref(&self, node: u32, choices: &mut Choices) -> Option<Ref> {
        let known = self.known.len() as u64;
        if known == 0 {
            return None;
        }
        let place = choices.choose("client.target", [u64::from(node), 0], known);
        let newest_first = self.known.iter().rev();
        newest_first.copied().nth(usize::try_from(place).unwrap_or(0))
    }

    fn some_name(&self, node: u32, choices: &mut Choices) -> Option<Name> {
        let names = u64::from(self.work.names.max(1));
        let place = choices.choose("client.name", [u64::from(node), 0], names);
        name(place)
    }

    /// Returns what every node says about itself: the canary, for whoever listens on the wire.
    ///
    /// # Panics
    ///
    /// Never: the canary is shorter than the longest metadata.
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta::new(&CANARY).expect("sixteen bytes fit")
    }

    /// Lists the names that clients register.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        (0..u64::from(self.work.names)).filter_map(name).collect()
    }

    /// Makes a payload: the canary, a number that no other message has, and filling.
    fn payload(&mut self, node: u32, choices: &mut Choices) -> Vec<u8> {
        self.messages += 1;
        let mut payload = CANARY.to_vec();
        payload.extend_from_slice(&self.messages.to_le_bytes());
        if self.work.payload > 0 {
            let bound = u64::from(self.work.payload) + 1;
            let more = choices.choose("client.payload", [u64::from(node), 0], bound);
            payload.resize(payload.len() + usize::try_from(more).unwrap_or(0), 0x5a);
        }
        payload
    }

    fn know(&mut self, seen: Ref) {
        if seen.actor == ActorId::NODE || self.known.contains(&seen) {
            return;
        }
        if self.known.len() == KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(seen);
    }
}

/// Returns the name at a place of the list of names.
fn name(place: u64) -> Option<Name> {
    Name::new(&format!("lockstep-canary!/{place}"))
}
