//! The router under any sequence of sends, asks, frames, links and times.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machines::cluster::config::{LinksConfig, RouterConfig};
use machines::cluster::ids::{ActorId, CallId, Incarnation, Instance, Life, NodeId, Ref, Session};
use machines::cluster::router::Router;
use machines::cluster::router::io::{Delivery, Input, Output, Request};
use machines::cluster::swim::io::{DeadCause, MemberEvent, MemberEventKind};
use machines::cluster::wire::{BounceCode, CloseReason, Hello, Meta, UserFrame};

use crate::cursor::{Cursor, NODES, START, addr, id};

const ASKS_MAX: u32 = 4;
const UNCONFIRMED_MAX: u32 = 6;
const QUEUE_BYTES_MAX: u32 = 200;
const MESSAGE_BYTES_MAX: u32 = 100;

fn small() -> Router {
    let config = RouterConfig {
        message_bytes_max: MESSAGE_BYTES_MAX,
        unconfirmed_max: UNCONFIRMED_MAX,
        asks_max: ASKS_MAX,
        confirm_items: 3,
        ..RouterConfig::standard()
    };
    let links = LinksConfig {
        link_queue_bytes_max: QUEUE_BYTES_MAX,
        dial_queue_bytes_max: QUEUE_BYTES_MAX,
        dial_queue_items_max: 3,
        ..LinksConfig::standard()
    };
    Router::new(id(0), Session(1), config, &links)
}

/// What the links beside the router know: they keep its contract, whatever the bytes are.
#[derive(Debug, Default)]
struct Links {
    up: BTreeSet<NodeId>,
    /// The last number accepted from a peer; it counts on from link to link.
    seen: BTreeMap<NodeId, u64>,
    /// Frames that were given and not written.
    queue: BTreeMap<NodeId, VecDeque<u64>>,
    requests: VecDeque<Request>,
    deliveries: VecDeque<Delivery>,
}

impl Links {
    /// The number of the next frame from `peer`: above all before it.
    fn number(&mut self, peer: NodeId, skip: u8) -> u64 {
        let seen = self.seen.entry(peer).or_default();
        *seen += 1 + u64::from(skip);
        *seen
    }

    fn take(&mut self, output: &Output) {
        if let Output::Frame { to, frame, .. } = output {
            assert!(self.up.contains(to), "frames are given to a link that is up");
            if let UserFrame::Send { number, .. }
            | UserFrame::Ask { number, .. }
            | UserFrame::Reply { number, .. } = frame
            {
                self.queue.entry(*to).or_default().push_back(*number);
            }
        } else if let Output::Deliver { delivery, request, .. } = output {
            self.deliveries.push_back(*delivery);
            self.requests.extend(*request);
        }
    }
}

fn actor(cursor: &mut Cursor<'_>) -> ActorId {
    ActorId(cursor.below(4).into())
}

fn to(cursor: &mut Cursor<'_>) -> Ref {
    Ref { node: cursor.node(), session: cursor.session(), actor: actor(cursor) }
}

fn payload(cursor: &mut Cursor<'_>) -> Vec<u8> {
    vec![0; cursor.byte().into()]
}

fn code(cursor: &mut Cursor<'_>) -> BounceCode {
    let codes = [BounceCode::StaleRef, BounceCode::NoActor, BounceCode::MailboxFull];
    codes[usize::from(cursor.below(3))]
}

fn frame(cursor: &mut Cursor<'_>, links: &mut Links, from: NodeId) -> UserFrame {
    let (tag, to) = (0, actor(cursor));
    match cursor.below(5) {
        0 => UserFrame::Confirm { upto: cursor.number().into() },
        1 => UserFrame::Bounce { number: cursor.number().into(), code: code(cursor) },
        2 => UserFrame::Reply {
            number: links.number(from, 0),
            request: cursor.number().into(),
            status: 0,
            tag,
            payload: payload(cursor),
        },
        3 => UserFrame::Send {
            number: links.number(from, cursor.below(2)),
            to,
            from: ActorId(9),
            tag,
            payload: payload(cursor),
        },
        _ => UserFrame::Ask {
            number: links.number(from, 0),
            to,
            from: ActorId(9),
            request: cursor.number().into(),
            wait_ms: cursor.number(),
            tag,
            payload: payload(cursor),
        },
    }
}

fn member(cursor: &mut Cursor<'_>) -> MemberEvent {
    let kind = match cursor.below(5) {
        0..=2 => MemberEventKind::Join,
        3 => MemberEventKind::Dead(DeadCause::Timeout),
        _ => MemberEventKind::Left,
    };
    let (index, node, life) = (0, cursor.other(), cursor.life());
    MemberEvent { index, node, life, addr: Some(addr(1)), meta: Meta::EMPTY, kind }
}

fn link_up(cursor: &mut Cursor<'_>, peer: NodeId) -> Input {
    let hello = Hello {
        life: Life { session: cursor.session(), incarnation: Incarnation(0) },
        instance: Instance(cursor.below(3).into()),
        seen: cursor.number().into(),
        ordinal: 1,
        link_index: 1,
        addr: addr(1),
        version_max: 1,
    };
    Input::LinkUp { peer, hello }
}

/// One input, or `None` if the links could not give it now.
fn input(cursor: &mut Cursor<'_>, links: &mut Links, call: CallId) -> Option<Input> {
    Some(match cursor.below(20) {
        0 => Input::Tick,
        1 => Input::Open(actor(cursor)),
        2 => Input::Close(actor(cursor)),
        3..=5 => Input::Send {
            call,
            from: actor(cursor),
            to: to(cursor),
            tag: 0,
            payload: payload(cursor),
            tracked: cursor.flag(),
        },
        6 | 7 => Input::Ask {
            call,
            from: actor(cursor),
            to: to(cursor),
            wait: cursor.wait(),
            tag: 0,
            payload: payload(cursor),
        },
        8 => Input::Cancel(CallId(cursor.number().into())),
        9 => Input::Answer {
            request: links.requests.pop_front()?,
            status: cursor.byte(),
            tag: 0,
            payload: payload(cursor),
        },
        10 => Input::NotTaken { delivery: links.deliveries.pop_back()?, code: code(cursor) },
        11 | 12 => {
            let from = cursor.other();
            let frame = frame(cursor, links, from);
            links.up.contains(&from).then_some(Input::Frame { from, frame })?
        }
        13 | 14 => {
            let peer = cursor.other();
            links.queue.remove(&peer);
            links.up.insert(peer).then(|| link_up(cursor, peer))?
        }
        15 => {
            let peer = cursor.other();
            links.queue.remove(&peer);
            let reason = CloseReason::Reset;
            links.up.remove(&peer).then_some(Input::LinkDown { peer, reason })?
        }
        16 => {
            let peer = cursor.other();
            (!links.up.contains(&peer)).then_some(Input::Unreachable { peer })?
        }
        17 => {
            let to = cursor.other();
            let number = links.queue.get_mut(&to)?.pop_front()?;
            match cursor.below(4) {
                0 => Input::NotQueued { to, number },
                _ => Input::Written { to, number },
            }
        }
        18 => Input::Member(member(cursor)),
        _ => match cursor.below(8) {
            0 => Input::Leave,
            1 => Input::Renewed(cursor.session()),
            _ => Input::Member(member(cursor)),
        },
    })
}

/// What a router owes its caller.
#[derive(Debug, Default)]
struct Watch {
    /// Sends without an answer; with whether an outcome is wanted.
    sends: BTreeMap<CallId, bool>,
    /// Accepted sends without an outcome.
    open: BTreeSet<CallId>,
    asks: BTreeSet<CallId>,
}

impl Watch {
    fn asked(&mut self, input: &Input) {
        if let Input::Send { call, tracked, .. } = input {
            self.sends.insert(*call, *tracked);
        } else if let Input::Ask { call, .. } = input {
            self.asks.insert(*call);
        }
    }

    /// C87: one answer to a send. C84: one outcome at most, of a tracked and accepted send. C86:
    /// one answer to an ask.
    fn told(&mut self, output: &Output) {
        match output {
            Output::Sent { call, result } => {
                let tracked = self.sends.remove(call).expect("C87: an answer to no send");
                if let (true, Ok(_)) = (tracked, result) {
                    self.open.insert(*call);
                }
            }
            Output::Outcome { call, .. } => {
                assert!(self.open.remove(call), "C84: an outcome that no one waits for");
            }
            Output::Asked { call, .. } => {
                assert!(self.asks.remove(call), "C86: an answer to no ask");
            }
            Output::Want { .. }
            | Output::Frame { .. }
            | Output::Deliver { .. }
            | Output::Gap(_) => {}
        }
    }

    /// C87, C86, C150.
    fn look(&self, router: &Router) {
        assert!(self.sends.is_empty(), "C87: no answer to {:?}", self.sends);
        assert_eq!(router.asks_open(), self.asks.len(), "C86: asks in flight");
        assert!(router.asks_open() <= ASKS_MAX as usize, "C150: asks");
        assert!(router.peers() <= usize::from(NODES), "C150: peers");
        for peer in (0..NODES).map(id) {
            let (items, bytes) = router.outstanding(peer);
            // Two lanes at the most, and a message longer than the queue may go alone.
            assert!(items <= 2 * UNCONFIRMED_MAX as usize, "C150: {items} items");
            assert!(bytes <= 2 * u64::from(QUEUE_BYTES_MAX), "C150: {bytes} bytes");
        }
    }
}

fn told(output: &Output) -> &'static str {
    match output {
        Output::Want { .. } => "want",
        Output::Frame { .. } => "frame",
        Output::Deliver { request: None, .. } => "deliver",
        Output::Deliver { .. } => "deliver a request",
        Output::Sent { result: Ok(_), .. } => "sent",
        Output::Sent { .. } => "not sent",
        Output::Outcome { .. } => "outcome",
        Output::Asked { result: Ok(_), .. } => "answered",
        Output::Asked { .. } => "not answered",
        Output::Gap(_) => "gap",
    }
}

/// Runs `bytes` and names what the router told.
///
/// # Panics
///
/// If a property does not hold.
#[must_use]
pub fn run(bytes: &[u8]) -> BTreeSet<&'static str> {
    let mut cursor = Cursor::new(bytes);
    let (mut router, mut watch, mut now) = (small(), Watch::default(), START);
    let mut links = Links::default();
    let mut reached = BTreeSet::new();
    let mut step = |watch: &mut Watch, links: &mut Links, now, input: Input| {
        watch.asked(&input);
        router.handle(now, input);
        while let Some(output) = router.poll() {
            watch.told(&output);
            links.take(&output);
            reached.insert(told(&output));
        }
        watch.look(&router);
    };
    for call in 0.. {
        if cursor.is_empty() {
            break;
        }
        now = now + cursor.wait();
        // What fell due is done before the links change.
        step(&mut watch, &mut links, now, Input::Tick);
        if let Some(input) = input(&mut cursor, &mut links, CallId(call)) {
            step(&mut watch, &mut links, now, input);
        }
    }
    step(&mut watch, &mut links, machines::Instant::FAR, Input::Tick);
    assert!(watch.asks.is_empty(), "C86: asks end in time");
    reached
}

/// Any sequence of inputs. Means something if a frame went out or a message was delivered.
#[must_use]
pub fn router(bytes: &[u8]) -> bool {
    let told = run(bytes);
    told.contains("frame") || told.contains("deliver")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: CallId = CallId(1);

    fn ask() -> Input {
        Input::Ask {
            call: ASK,
            from: ActorId(1),
            to: Ref { node: id(0), session: Session(1), actor: ActorId(1) },
            wait: std::time::Duration::from_secs(1),
            tag: 0,
            payload: vec![],
        }
    }

    /// The saboteur is a twin that was never asked, put in the router's place.
    #[test]
    #[should_panic(expected = "C86")]
    fn a_forgotten_ask_is_noticed() {
        let mut router = small();
        let mut watch = Watch::default();
        router.handle(START, Input::Open(ActorId(1)));
        router.handle(START, ask());
        watch.asked(&ask());
        while let Some(output) = router.poll() {
            watch.told(&output);
        }
        watch.look(&router);
        watch.look(&small());
    }

    #[test]
    #[should_panic(expected = "C84")]
    fn a_second_outcome_is_noticed() {
        use machines::cluster::router::io::Outcome;
        let mut watch = Watch { sends: [(ASK, true)].into(), ..Watch::default() };
        watch.told(&Output::Sent { call: ASK, result: Ok(1) });
        for outcome in [Outcome::Delivered, Outcome::Lost] {
            watch.told(&Output::Outcome { call: ASK, outcome });
        }
    }
}
