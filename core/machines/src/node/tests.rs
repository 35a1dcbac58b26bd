use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::io::{Call, Reply};
use super::*;
use crate::cluster::config::{Profile, Reloadable};
use crate::cluster::counters::Counter;
use crate::cluster::identity::StaticKey;
use crate::cluster::ids::{Conn, Entropy};
use crate::cluster::router::io::SendError;
use crate::cluster::wire::{Name, State, schema};

/// Nodes on a network without delay or loss.
struct Net {
    now: Instant,
    nodes: Vec<Node>,
    inputs: VecDeque<(usize, Input)>,
    /// Either end of a stream → the other.
    streams: BTreeMap<(usize, Conn), (usize, Conn)>,
    accepted: u64,
    drawn: u8,
    replies: Vec<(usize, CallId, Reply)>,
    delivered: Vec<(usize, Vec<u8>)>,
    stored: Vec<(usize, Session)>,
    /// What was told of names that come late.
    late: Vec<(u32, Duration)>,
    calls: u64,
}

fn addr(node: usize) -> Addr {
    let last = u8::try_from(node).unwrap() + 1;
    Addr::new(IpAddr::from([10, 0, 0, last]), 7_400, 7_400).unwrap()
}

fn key(node: usize) -> StaticKey {
    StaticKey::from_secret([u8::try_from(node).unwrap() + 1; 32])
}

pub(super) fn params(node: usize, nodes: usize, session: u32) -> NodeParams {
    let seeds = (0..nodes).filter(|other| *other != node);
    NodeParams {
        config: ClusterConfig::of(Profile::Lan, "demo"),
        schemas: schema::hashes(),
        key: key(node),
        session: Session(session),
        instance: Instance(u64::from(session) * 100 + node as u64),
        addr: addr(node),
        meta: Meta::EMPTY,
        allowed: Arc::new(Allowed::only((0..nodes).map(|node| key(node).public()))),
        seeds: seeds.map(|other| Seed { addr: addr(other), node: None }).collect(),
        choices: Choices::new(7).scoped(node as u64),
        suite: Suite::Noise,
    }
}

impl Net {
    fn new(nodes: usize) -> Self {
        let start = |node| Node::new(Instant::START, params(node, nodes, 1));
        let mut net = Self {
            now: Instant::START,
            nodes: (0..nodes).map(start).collect(),
            inputs: VecDeque::new(),
            streams: BTreeMap::new(),
            accepted: 0,
            drawn: 0,
            replies: Vec::new(),
            delivered: Vec::new(),
            stored: Vec::new(),
            late: Vec::new(),
            calls: 0,
        };
        for node in 0..nodes {
            net.drain(node);
        }
        net
    }

    fn entropy(&mut self) -> Entropy {
        self.drawn += 1;
        Entropy([self.drawn; 64])
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            while let Some((node, input)) = self.inputs.pop_front() {
                self.nodes[node].handle(self.now, input);
                self.drain(node);
            }
            let due = (0..self.nodes.len()).min_by_key(|node| self.nodes[*node].deadline());
            let due = due.unwrap();
            if self.nodes[due].deadline() > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(self.nodes[due].deadline());
            self.nodes[due].handle(self.now, Input::Tick);
            self.drain(due);
        }
    }

    fn call(&mut self, node: usize, request: Call) -> Vec<Reply> {
        self.calls += 1;
        let call = CallId(self.calls);
        self.inputs.push_back((node, Input::Call { call, request }));
        self.run(Duration::from_secs(6));
        let own = |(at, id, reply): &(usize, CallId, Reply)| {
            (*at == node && *id == call).then(|| reply.clone())
        };
        self.replies.iter().filter_map(own).collect()
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].poll() {
            self.perform(node, output);
        }
    }

    fn perform(&mut self, node: usize, output: Output) {
        let at = |to: std::net::SocketAddr| (0..self.nodes.len()).find(|n| addr(*n).tcp() == to);
        match output {
            Output::Dial { conn, addr: to } => {
                let to = at(to).unwrap();
                let other = Conn(2 * self.accepted + 1);
                self.accepted += 1;
                self.streams.insert((node, conn), (to, other));
                self.streams.insert((to, other), (node, conn));
                let entropy = self.entropy();
                let source = IpAddr::V6(addr(node).ip());
                self.inputs.push_back((to, Input::Accepted { conn: other, source, entropy }));
                let entropy = self.entropy();
                self.inputs.push_back((node, Input::Connected { conn, entropy }));
            }
            Output::Write { conn, bytes } => {
                let count = u32::try_from(bytes.len()).unwrap();
                self.inputs.push_back((node, Input::Wrote { conn, count }));
                if let Some((to, conn)) = self.streams.get(&(node, conn)).copied() {
                    self.inputs.push_back((to, Input::Bytes { conn, bytes }));
                }
            }
            Output::Close { conn } => {
                if let Some((to, other)) = self.streams.remove(&(node, conn)) {
                    self.streams.remove(&(to, other));
                    self.inputs.push_back((to, Input::Closed { conn: other }));
                }
            }
            Output::Draw { conn } => {
                let entropy = self.entropy();
                self.inputs.push_back((node, Input::Drawn { conn, entropy }));
            }
            Output::Datagram { to, bytes } => {
                self.inputs.push_back((at(to).unwrap(), Input::Datagram(bytes)));
            }
            Output::StoreSession { session, .. } => {
                self.stored.push((node, session));
                self.inputs.push_back((node, Input::SessionStored(session)));
            }
            Output::Reply { call, reply } => self.replies.push((node, call, reply)),
            Output::Deliver { payload, .. } => self.delivered.push((node, payload)),
            Output::Event(Event::NamesLate { members, ttl_least }) => {
                self.late.push((members, ttl_least));
            }
            Output::Event(_) => {}
            Output::Stop(reason) => panic!("node {node} stopped: {reason:?}"),
        }
    }

    fn states(&self, observer: usize) -> Vec<State> {
        self.nodes[observer].swim().members().map(|member| member.state).collect()
    }
}

#[test]
fn three_nodes_join_and_link_with_each_other() {
    let mut net = Net::new(3);
    net.run(Duration::from_secs(20));
    for node in 0..3 {
        assert_eq!(net.states(node), [State::Alive; 3], "node {node}");
        assert_eq!(net.nodes[node].links().up(), 2, "node {node}");
        let status = net.nodes[node].status(net.now);
        assert!(status.joined);
        assert_eq!(status.members.iter().filter(|member| member.linked).count(), 2);
    }
}

#[test]
fn a_name_registered_on_one_node_is_found_on_another_and_a_message_gets_there() {
    let mut net = Net::new(3);
    net.run(Duration::from_secs(5));
    let opened = net.call(0, Call::Open);
    let [Reply::Opened(Ok(clock))] = opened[..] else { panic!("{opened:?}") };
    let name = Name::new("clock").unwrap();
    let register =
        Call::Register { name: name.clone(), actor: clock.actor, ttl: None, manual: false };
    assert_eq!(net.call(0, register), [Reply::Registered(Ok(()))]);
    assert_eq!(net.call(2, Call::Lookup(name.clone())), [Reply::Found(Some(clock))]);

    let payload = b"what time is it".to_vec();
    let send = Call::Send { from: ActorId::NODE, to: clock, tag: 1, payload, tracked: true };
    let outcome = Reply::Outcome(crate::cluster::router::io::Outcome::Delivered);
    assert_eq!(net.call(2, send), [Reply::Sent(Ok(1)), outcome]);
    assert_eq!(net.delivered, [(0, b"what time is it".to_vec())]);

    assert_eq!(net.call(0, Call::Close(clock.actor)), [Reply::Done]);
    assert_eq!(net.call(2, Call::Lookup(name)), [Reply::Found(None)]);
}

#[test]
fn a_node_that_leaves_is_left_and_not_dead() {
    let mut net = Net::new(3);
    net.run(Duration::from_secs(5));
    let id = net.nodes[1].id();
    assert_eq!(net.call(1, Call::Leave), [Reply::Left]);
    assert!(net.nodes[1].has_left());
    let state = net.nodes[0].swim().member(id).map(|member| member.state);
    assert_eq!(state, Some(State::Left));
    assert_eq!(net.nodes[0].links().up(), 1);
}

#[test]
fn a_rolled_back_session_heals_by_itself() {
    // C27: node 2 comes back in session 1, while the others know it in session 5.
    let mut net = Net::new(3);
    net.nodes[2] = Node::new(Instant::START, params(2, 3, 5));
    net.drain(2);
    net.run(Duration::from_secs(20));
    for stream in net.streams.keys().filter(|(node, _)| *node == 2).copied().collect::<Vec<_>>() {
        net.perform(2, Output::Close { conn: stream.1 });
    }
    net.nodes[2] = Node::new(net.now, params(2, 3, 1));
    net.drain(2);
    net.run(Duration::from_secs(40));
    assert_eq!(net.stored, [(2, Session(6))]);
    assert_eq!(net.nodes[2].session(), Session(6));
    let id = net.nodes[2].id();
    let held = net.nodes[0].swim().member(id).unwrap();
    assert_eq!((held.life.session, held.state), (Session(6), State::Alive));
}

/// C1: a node is a value: what it was told, and when, decides all of it.
#[test]
fn equal_histories_have_equal_digests() {
    let mut first = Net::new(3);
    let mut second = Net::new(3);
    first.run(Duration::from_secs(10));
    second.run(Duration::from_secs(10));
    let digest = |net: &Net| net.nodes.iter().map(crate::digest::Digest::of).collect::<Vec<_>>();
    assert_eq!(digest(&first), digest(&second));
    second.run(Duration::from_secs(1));
    assert_ne!(digest(&first), digest(&second));
}

/// C10: an actor's number is above 0, and not given again in its session.
#[test]
fn an_actor_that_ended_never_lends_its_number_to_another() {
    let mut node = Node::new(Instant::START, params(0, 1, 1));
    let mut opened = Vec::new();
    for _ in 0..3 {
        while node.poll().is_some() {}
        node.handle(Instant::START, Input::Call { call: CallId(1), request: Call::Open });
        while let Some(output) = node.poll() {
            if let Output::Reply { reply: Reply::Opened(Ok(at)), .. } = output {
                opened.push(at.actor);
                assert!(node.router().has_actor(at.actor));
            }
        }
        let request = Call::Close(opened[opened.len() - 1]);
        node.handle(Instant::START, Input::Call { call: CallId(2), request });
    }
    assert_eq!(opened, [ActorId(1), ActorId(2), ActorId(3)]);
}

/// C150: what a caller opens is bounded like what a peer sends; what it closes makes room.
#[test]
fn an_endpoint_over_the_cap_is_refused_until_one_is_closed() {
    let mut params = params(0, 1, 1);
    params.config.router.endpoints_max = 2;
    let mut node = Node::new(Instant::START, params);
    while node.poll().is_some() {}
    let mut call = |request| {
        node.handle(Instant::START, Input::Call { call: CallId(1), request });
        let mut replies = Vec::new();
        while let Some(output) = node.poll() {
            if let Output::Reply { reply, .. } = output {
                replies.push(reply);
            }
        }
        for (what, size, most) in node.sizes() {
            assert!(size <= most, "{size} {what}, of {most}");
        }
        replies
    };
    let opened = |replies: Vec<Reply>| match replies[..] {
        [Reply::Opened(Ok(at))] => Ok(at.actor),
        [Reply::Opened(Err(why))] => Err(why),
        _ => panic!("{replies:?}"),
    };
    assert_eq!(opened(call(Call::Open)), Ok(ActorId(1)));
    assert_eq!(opened(call(Call::Open)), Ok(ActorId(2)));
    for _ in 0..3 {
        assert_eq!(opened(call(Call::Open)), Err(io::OpenError::Full));
    }
    assert_eq!(call(Call::Close(ActorId(1))), [Reply::Done]);
    assert_eq!(opened(call(Call::Open)), Ok(ActorId(3)), "no number is lost with a refusal");
    assert_eq!(opened(call(Call::Open)), Err(io::OpenError::Full));
}

/// C149: five members need what four do not, when hints are not kept; each is told once.
#[test]
fn a_cluster_that_outgrows_its_ttl_is_told_so_once() {
    let late = |nodes: usize| {
        let mut net = Net::new(nodes);
        for node in 0..nodes {
            let mut params = params(node, nodes, 1);
            params.config.registry.hint_keep = Duration::ZERO;
            net.nodes[node] = Node::new(Instant::START, params);
            net.drain(node);
        }
        net.run(Duration::from_secs(20));
        let counts = net.nodes.iter().map(|node| node.counters().get(Counter::NamesLate));
        (counts.collect::<Vec<_>>(), net.late)
    };
    assert_eq!(late(4), (vec![0; 4], Vec::new()));
    let (counts, told) = late(5);
    assert_eq!(counts, [1; 5]);
    assert_eq!(told.len(), 5);
    assert!(told.iter().all(|told| *told == (5, Duration::from_secs(180))), "{told:?}");
}

/// C150: a name that ended is remembered beside those that are held, within the cap of both.
#[test]
fn names_that_ended_do_not_break_the_cap_of_names() {
    let mut params = params(0, 1, 1);
    params.config.registry.names_per_node_max = 1;
    params.config.registry.names_max = 1;
    let mut node = Node::new(Instant::START, params);
    while node.poll().is_some() {}
    let name = |text| Name::new(text).unwrap();
    let actor = ActorId(1);
    let register = |name| Call::Register { name, actor, ttl: None, manual: false };
    let calls = [Call::Open, register(name("a")), Call::Unregister(name("a")), register(name("b"))];
    for request in calls {
        node.handle(Instant::START, Input::Call { call: CallId(1), request });
        while node.poll().is_some() {}
    }
    assert_eq!(node.registry().sizes().0, 2, "the one held and the one that ended");
    for (what, size, most) in node.sizes() {
        assert!(size <= most, "{size} {what}, of {most}");
    }
}

/// C133: also right after an input that came late, what is refused changes nothing.
#[test]
fn a_refused_datagram_leaves_no_trace() {
    let mut node = Node::new(Instant::START, params(0, 1, 1));
    let mut seen = 0;
    for _ in 0..20 {
        while node.poll().is_some() {}
        let late = node.deadline();
        node.handle(late, Input::Meta(Meta::EMPTY));
        while node.poll().is_some() {}
        node.handle(late, Input::Tick);
        while node.poll().is_some() {}
        if node.deadline() > late {
            let before = crate::digest::Digest::of(&node);
            node.handle(late, Input::Datagram(vec![1; 40]));
            assert_eq!(node.poll(), None);
            assert_eq!(crate::digest::Digest::of(&node), before);
            seen += 1;
        }
    }
    assert!(seen > 0, "some input came late");
}

/// C23, C32: a peer that refuses this node is not dialled anew for each send.
#[test]
fn sends_to_a_node_that_refuses_us_do_not_dial_each_time() {
    let mut net = Net::new(3);
    let mut wary = params(1, 3, 1);
    wary.allowed = Arc::new(Allowed::only([1, 2].map(|node| key(node).public())));
    net.nodes[1] = Node::new(Instant::START, wary);
    net.drain(1);
    net.run(Duration::from_secs(40));
    let to = Ref { node: net.nodes[1].id(), session: Session(1), actor: ActorId(1) };
    assert!(net.nodes[0].swim().member(to.node).is_some(), "known by gossip");
    let before = net.accepted;
    for call in 0..100 {
        let payload = b"are you there".to_vec();
        let request = Call::Send { from: ActorId::NODE, to, tag: 1, payload, tracked: true };
        net.inputs.push_back((0, Input::Call { call: CallId(1_000 + call), request }));
        net.run(Duration::from_millis(10));
    }
    let dials = net.accepted - before;
    assert!(dials <= 2, "{dials} dials in a second, with a delay of a minute");
}

/// C27, C80: what is known of a node that was never a member here fences it all the same.
#[test]
fn the_session_of_a_node_that_was_met_dead_is_known_to_links_and_router() {
    use crate::cluster::swim::io as swim;
    use crate::cluster::wire::{Body, Entry, Fact, Message};
    let mut net = Net::new(2);
    for node in 0..2 {
        let open = NodeParams { allowed: Arc::new(Allowed::Any), ..params(node, 2, 1) };
        net.nodes[node] = Node::new(Instant::START, open);
        net.drain(node);
    }
    net.run(Duration::from_secs(5));
    let (gone, accuser) = (key(7).node(), net.nodes[1].id());
    let life = Life { session: Session(9), incarnation: Incarnation(0) };
    let entries = vec![Entry::Fact(Fact::Dead { node: gone, life, accuser })];
    let message = Message { body: Body::Gossip, entries };
    let (from, lane) = (net.nodes[0].id(), swim::Lane::Datagram);
    let membership = net.nodes[1].parts_mut().swim;
    membership.handle(net.now, swim::Input::Received { from, lane, message });
    while membership.poll().is_some() {}
    net.run(Duration::from_secs(2));

    assert_eq!(net.nodes[0].swim().member(gone).map(|row| row.state), Some(State::Dead));
    assert_eq!(net.nodes[0].links().peers[&gone].session(), Session(9));
    for (session, refused) in [(1, SendError::StaleRef), (9, SendError::NodeDown)] {
        let to = Ref { node: gone, session: Session(session), actor: ActorId(3) };
        let send = Call::Send { from: ActorId::NODE, to, tag: 1, payload: vec![], tracked: true };
        assert_eq!(net.call(0, send), [Reply::Sent(Err(refused))], "session {session}");
    }
}

/// C53: traffic goes before a timer that is due, but not for ever.
#[test]
fn traffic_does_not_postpone_a_deadline_for_ever() {
    let mut node = Node::new(Instant::START, params(0, 1, 1));
    while node.poll().is_some() {}
    let due = node.deadline();
    for _ in 0..1_024 {
        node.handle(due, Input::Datagram(vec![1; 40]));
        while node.poll().is_some() {}
    }
    assert_eq!(node.deadline(), due);
    node.handle(due, Input::Datagram(vec![1; 40]));
    while node.poll().is_some() {}
    assert!(node.deadline() > due);
}

/// C8: a session burnt because its incarnations are used up is no jump of C27.
#[test]
fn using_up_incarnations_never_looks_like_a_key_in_use() {
    use crate::cluster::swim::io as swim;
    use crate::cluster::wire::{Body, Entry, Fact, Message};
    let mut node = Node::new(Instant::START, params(0, 2, 1));
    while node.poll().is_some() {}
    for session in 1..=8 {
        let life = Life { session: Session(session), incarnation: Incarnation::MAX };
        let fact = Fact::Suspect { node: node.id(), life, accuser: key(1).node() };
        let message = Message { body: Body::Gossip, entries: vec![Entry::Fact(fact)] };
        let (from, lane) = (key(1).node(), swim::Lane::Datagram);
        let heard = swim::Input::Received { from, lane, message };
        node.parts_mut().swim.handle(Instant::START, heard);
        // Any input lets the node carry on with what its parts gave.
        node.handle(Instant::START, Input::Wrote { conn: Conn(2), count: 0 });
        let outputs: Vec<Output> = std::iter::from_fn(|| node.poll()).collect();
        let next = Session(session + 1);
        let stored = outputs.iter().find_map(|output| {
            if let Output::StoreSession { session, .. } = output { Some(*session) } else { None }
        });
        assert_eq!(stored, Some(next), "{outputs:?}");
        node.handle(Instant::START, Input::SessionStored(next));
        while node.poll().is_some() {}
        assert_eq!(node.session(), next);
    }
}

/// C80, C146: after a peer lost its disk, references to its later sessions are still about.
#[test]
fn a_send_to_a_session_that_no_link_leads_to_is_not_sent() {
    let mut net = Net::new(2);
    net.run(Duration::from_secs(5));
    let ghost = Ref { node: net.nodes[1].id(), session: Session(9), actor: ActorId(1) };
    let payload = b"anyone there".to_vec();
    let send = Call::Send { from: ActorId::NODE, to: ghost, tag: 1, payload, tracked: true };
    let outcome = Reply::Outcome(crate::cluster::router::io::Outcome::NotSent);
    let replies = net.call(0, send);
    assert!(matches!(&replies[..], [Reply::Sent(Ok(_)), last] if *last == outcome), "{replies:?}");
}

/// Goal: rates and back-off change while a node runs (C108).
/// Method: one source connects twice at once; then again under a rate of one a second.
#[test]
fn reloaded_rates_hold_from_the_next_connection_on() {
    let mut net = Net::new(1);
    let connect = |net: &mut Net, conn| {
        let source = IpAddr::from([10, 0, 0, 9]);
        let entropy = net.entropy();
        net.nodes[0].handle(net.now, Input::Accepted { conn: Conn(conn), source, entropy });
        net.drain(0);
        net.nodes[0].counters().get(Counter::HsBusy)
    };
    assert_eq!([connect(&mut net, 101), connect(&mut net, 103)], [0, 0]);

    let links = net.nodes[0].config().links.clone();
    let limits = Reloadable {
        accept_rate_source: 1,
        accept_burst_source: 1,
        backoff_long: links.backoff_long * 2,
        ..links.reloadable()
    };
    net.nodes[0].handle(net.now, Input::Limits(limits));
    assert_eq!(net.nodes[0].poll(), None);
    assert_eq!([connect(&mut net, 105), connect(&mut net, 107)], [0, 1]);
    assert_eq!(net.nodes[0].config().links.reloadable(), limits);
    assert_eq!(net.nodes[0].links().config(), &net.nodes[0].config().links);
}

#[test]
#[should_panic(expected = "limits were checked")]
fn limits_that_were_not_checked_are_wrong_code() {
    let mut net = Net::new(1);
    let limits = net.nodes[0].config().links.reloadable();
    let limits = Reloadable { backoff_base: limits.backoff_long * 2, ..limits };
    net.nodes[0].handle(net.now, Input::Limits(limits));
}
