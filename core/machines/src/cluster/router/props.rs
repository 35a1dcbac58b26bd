//! Properties of two routers whose link drops, reconnects, and loses what was on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cluster::ids::{Incarnation, Life};
use crate::cluster::wire::Meta;

const ACTOR: ActorId = ActorId(5);

#[derive(Clone, Debug)]
enum Step {
    Send {
        side: usize,
    },
    Ask {
        side: usize,
        wait_ms: u64,
    },
    /// A peer's actor answers the oldest request that it has.
    Answer {
        side: usize,
    },
    /// So many frames leave the queue for the wire.
    Write {
        side: usize,
        count: usize,
    },
    /// So many frames leave the wire; `taken` says whether the gate takes them.
    Read {
        side: usize,
        count: usize,
        taken: bool,
    },
    Cut,
    Up,
    DialFails {
        side: usize,
    },
    Wait {
        ms: u64,
    },
    /// A false death, as one side sees it.
    Blink {
        side: usize,
    },
    Restart {
        side: usize,
    },
    /// The actor of one side ends, or is there again.
    Actor {
        side: usize,
        open: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0..2_usize;
    prop_oneof![
        8 => side.clone().prop_map(|side| Step::Send { side }),
        3 => (side.clone(), 1..200_u64).prop_map(|(side, wait_ms)| Step::Ask { side, wait_ms }),
        3 => side.clone().prop_map(|side| Step::Answer { side }),
        8 => (side.clone(), 1..4_usize).prop_map(|(side, count)| Step::Write { side, count }),
        8 => (side.clone(), 1..4_usize, prop::bool::weighted(0.8))
            .prop_map(|(side, count, taken)| Step::Read { side, count, taken }),
        2 => Just(Step::Cut),
        4 => Just(Step::Up),
        1 => side.clone().prop_map(|side| Step::DialFails { side }),
        3 => (0..90_u64).prop_map(|ms| Step::Wait { ms }),
        1 => side.clone().prop_map(|side| Step::Blink { side }),
        1 => side.clone().prop_map(|side| Step::Restart { side }),
        1 => (side, any::<bool>()).prop_map(|(side, open)| Step::Actor { side, open }),
    ]
}

/// One end: a router, and what the links beside it hold.
struct End {
    router: Router,
    session: u32,
    instance: u64,
    /// Frames that the links have and have not written.
    queue: VecDeque<UserFrame>,
    /// Frames on their way from this end.
    wire: VecDeque<UserFrame>,
    /// Of which instance of the peer so many numbers were accepted.
    seen: (u64, u64),
    requests: VecDeque<Request>,
    /// Of each send: its outcome, once.
    outcomes: BTreeMap<u64, Vec<Outcome>>,
    answers: BTreeMap<u64, u32>,
}

/// What happened to a call at the receiving end.
#[derive(Default)]
struct Arrivals {
    delivered: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

struct World {
    now: Instant,
    ends: [End; 2],
    up: bool,
    link_index: u32,
    calls: u64,
    arrivals: Arrivals,
    taken: bool,
}

fn id(side: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(side).unwrap() + 1; 16])
}

fn addr() -> Addr {
    Addr::new([10, 0, 0, 1].into(), 7400, 7400).unwrap()
}

fn life(session: u32) -> Life {
    Life { session: Session(session), incarnation: Incarnation(0) }
}

fn event(side: usize, session: u32, kind: MemberEventKind) -> Input {
    Input::Member(MemberEvent {
        index: 0,
        node: id(side),
        life: life(session),
        addr: Some(addr()),
        meta: Meta::EMPTY,
        kind,
    })
}

impl End {
    fn new(side: usize, session: u32, instance: u64) -> Self {
        let (config, links) = (RouterConfig::standard(), LinksConfig::standard());
        Self {
            router: Router::new(id(side), Session(session), config, &links),
            session,
            instance,
            queue: VecDeque::new(),
            wire: VecDeque::new(),
            seen: (0, 0),
            requests: VecDeque::new(),
            outcomes: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }
}

impl World {
    fn new() -> Self {
        let ends = [End::new(0, 1, 10), End::new(1, 1, 20)];
        let mut world = Self {
            now: Instant::from_millis(1),
            ends,
            up: false,
            link_index: 0,
            calls: 0,
            arrivals: Arrivals::default(),
            taken: true,
        };
        for side in 0..2 {
            world.start(side);
        }
        world
    }

    /// Tells a fresh router what it needs to know.
    fn start(&mut self, side: usize) {
        let peer = self.ends[1 - side].session;
        self.input(side, Input::Open(ACTOR));
        self.input(side, event(1 - side, peer, MemberEventKind::Join));
    }

    fn input(&mut self, side: usize, input: Input) {
        self.ends[side].router.handle(self.now, input);
        while let Some(output) = self.ends[side].router.poll() {
            self.output(side, output);
        }
    }

    fn output(&mut self, side: usize, output: Output) {
        let end = &mut self.ends[side];
        match output {
            Output::Want { .. } | Output::Gap(_) | Output::Sent { result: Ok(_), .. } => {}
            Output::Frame { frame, .. } => {
                assert!(self.up, "frames are given to a link that is up");
                match frame {
                    UserFrame::Confirm { .. } | UserFrame::Bounce { .. } => {
                        end.wire.push_back(frame);
                    }
                    UserFrame::Send { .. } | UserFrame::Ask { .. } | UserFrame::Reply { .. } => {
                        end.queue.push_back(frame);
                    }
                }
            }
            Output::Deliver { delivery, request, payload, .. } => {
                self.delivered(side, delivery, request, &payload)
            }
            Output::Sent { call, .. } => {
                end.outcomes.remove(&call.0);
            }
            Output::Outcome { call, outcome } => {
                let known = end.outcomes.get_mut(&call.0);
                known.expect("of a send that was queued").push(outcome);
            }
            Output::Asked { call, .. } => {
                let count = end.answers.get_mut(&call.0);
                *count.expect("of an ask that was made") += 1;
            }
        }
    }

    fn delivered(
        &mut self,
        side: usize,
        delivery: Delivery,
        request: Option<Request>,
        payload: &[u8],
    ) {
        let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
        let (call, session) = (word(0), word(8));
        assert_eq!(session, u64::from(self.ends[side].session), "C145");
        assert!(self.arrivals.delivered.insert(call), "C146: once");
        if !self.taken {
            self.arrivals.refused.insert(call);
            let code = BounceCode::MailboxFull;
            self.ends[side].router.handle(self.now, Input::NotTaken { delivery, code });
        } else if let Some(request) = request {
            self.ends[side].requests.push_back(request);
        }
    }

    /// The payload says which call it is and for which session it is meant.
    fn draft(&mut self, side: usize) -> (CallId, Ref, Vec<u8>) {
        self.calls += 1;
        let session = self.ends[1 - side].session;
        let to = Ref { node: id(1 - side), session: Session(session), actor: ACTOR };
        let mut payload = self.calls.to_le_bytes().to_vec();
        payload.extend(u64::from(session).to_le_bytes());
        (CallId(self.calls), to, payload)
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send { side } => {
                let (call, to, payload) = self.draft(side);
                self.ends[side].outcomes.insert(call.0, Vec::new());
                let (from, tag, tracked) = (ACTOR, 0, true);
                self.input(side, Input::Send { call, from, to, tag, payload, tracked });
            }
            Step::Ask { side, wait_ms } => {
                let (call, to, payload) = self.draft(side);
                self.ends[side].answers.insert(call.0, 0);
                let (from, tag, wait) = (ACTOR, 0, Duration::from_millis(wait_ms));
                self.input(side, Input::Ask { call, from, to, wait, tag, payload });
            }
            Step::Answer { side } => {
                if let Some(request) = self.ends[side].requests.pop_front() {
                    let (status, tag, payload) = (0, 0, vec![]);
                    self.input(side, Input::Answer { request, status, tag, payload });
                }
            }
            Step::Write { side, count } => self.write(side, count),
            Step::Read { side, count, taken } => self.read(side, count, taken),
            Step::Cut => self.cut(CloseReason::Reset),
            Step::Up => self.link(),
            Step::DialFails { side } => {
                if !self.up {
                    self.ends[side].queue.clear();
                    self.input(side, Input::Unreachable { peer: id(1 - side) });
                }
            }
            Step::Wait { ms } => {
                self.now = self.now + Duration::from_millis(ms);
                self.input(0, Input::Tick);
                self.input(1, Input::Tick);
            }
            Step::Blink { side } => {
                self.cut(CloseReason::Reset);
                let session = self.ends[1 - side].session;
                self.ends[side].queue.clear();
                let dead = MemberEventKind::Dead(DeadCause::Timeout);
                self.input(side, event(1 - side, session, dead));
                self.input(side, event(1 - side, session, MemberEventKind::Join));
            }
            Step::Restart { side } => self.restart(side),
            Step::Actor { side, open } => {
                let input = match open {
                    true => Input::Open(ACTOR),
                    false => Input::Close(ACTOR),
                };
                self.input(side, input);
            }
        }
    }

    fn write(&mut self, side: usize, count: usize) {
        for _ in 0..count {
            if !self.up {
                return;
            }
            let Some(frame) = self.ends[side].queue.pop_front() else {
                return;
            };
            let (to, number) = (id(1 - side), number_of(&frame));
            self.ends[side].wire.push_back(frame);
            self.input(side, Input::Written { to, number });
        }
    }

    fn read(&mut self, side: usize, count: usize, taken: bool) {
        self.taken = taken;
        for _ in 0..count {
            let Some(frame) = self.ends[1 - side].wire.pop_front() else {
                break;
            };
            if !matches!(frame, UserFrame::Confirm { .. } | UserFrame::Bounce { .. }) {
                let number = number_of(&frame);
                assert!(number > self.ends[side].seen.1, "numbers rise (C82)");
                self.ends[side].seen.1 = number;
            }
            let from = id(1 - side);
            self.input(side, Input::Frame { from, frame });
        }
        self.taken = true;
    }

    fn cut(&mut self, reason: CloseReason) {
        if !self.up {
            return;
        }
        self.up = false;
        for side in 0..2 {
            self.ends[side].wire.clear();
        }
        for side in 0..2 {
            let peer = id(1 - side);
            self.input(side, Input::LinkDown { peer, reason });
        }
    }

    fn link(&mut self) {
        if self.up {
            return;
        }
        self.up = true;
        self.link_index += 1;
        let hellos = [0, 1].map(|side| {
            let instance = self.ends[1 - side].instance;
            let end = &mut self.ends[side];
            if end.seen.0 != instance {
                end.seen = (instance, 0);
                end.queue.clear(); // The links keep nothing for another instance.
            }
            Hello {
                life: life(end.session),
                instance: Instance(end.instance),
                seen: end.seen.1,
                ordinal: 1,
                link_index: self.link_index,
                addr: addr(),
                version_max: 1,
            }
        });
        for side in 0..2 {
            let (peer, hello) = (id(1 - side), hellos[1 - side]);
            self.input(side, Input::LinkUp { peer, hello });
        }
    }

    fn restart(&mut self, side: usize) {
        self.cut(CloseReason::Reset);
        let old = &self.ends[side];
        self.ends[side] = End::new(side, old.session + 1, old.instance + 1);
        self.start(side);
        // Every second time the link is the first to tell.
        let session = self.ends[side].session;
        if session.is_multiple_of(2) {
            let dead = MemberEventKind::Dead(DeadCause::Restarted);
            self.input(1 - side, event(side, session - 1, dead));
            self.input(1 - side, event(side, session, MemberEventKind::Join));
        } else {
            self.link();
        }
    }

    /// Lets everything that is under way arrive.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.link();
            for side in 0..2 {
                self.write(side, usize::MAX);
                self.read(1 - side, usize::MAX, true);
            }
            self.run(Step::Wait { ms: 60 });
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for end in &self.ends {
            for (call, outcomes) in &end.outcomes {
                prop_assert_eq!(outcomes.len(), 1, "call {} has one outcome", call);
                let delivered = self.arrivals.delivered.contains(call);
                let refused = self.arrivals.refused.contains(call);
                match outcomes[0] {
                    Outcome::Delivered => prop_assert!(delivered && !refused),
                    Outcome::Bounced(BounceCode::MailboxFull) => prop_assert!(refused),
                    Outcome::Bounced(_) | Outcome::NotSent | Outcome::Lost => {
                        prop_assert!(!delivered, "call {} was {:?}", call, outcomes[0]);
                    }
                    Outcome::Unknown => {}
                }
            }
            for (call, count) in &end.answers {
                prop_assert_eq!(*count, 1, "ask {} has one answer", call);
            }
            prop_assert_eq!(end.router.asks_open(), 0);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// C145, C146, C147: nothing arrives twice, nor in a session that it was not meant for; every
    /// send and every ask ends once, and ends as the receiver saw it.
    #[test]
    fn every_send_ends_once_and_as_it_was(steps in prop::collection::vec(step(), 0..150)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.settle();
        world.check()?;
        for side in 0..2 {
            prop_assert_eq!(world.ends[side].router.outstanding(id(1 - side)), (0, 0));
        }
    }

    /// C150: whatever a peer sends, nothing panics and nothing grows beyond its caps.
    #[test]
    fn arbitrary_frames_stay_within_caps(
        frames in prop::collection::vec((0..6_u8, 0..200_u64, any::<u32>()), 0..300),
    ) {
        let mut world = World::new();
        world.link();
        for (kind, number, word) in frames {
            world.run(Step::Send { side: 0 });
            world.write(0, 1);
            let frame = match kind {
                0 => UserFrame::Confirm { upto: number },
                1 => UserFrame::Bounce { number, code: BounceCode::Refused },
                2 => {
                    let request = word.into();
                    UserFrame::Reply { number, request, status: 0, tag: 0, payload: vec![] }
                }
                3 => {
                    let (to, from) = (ActorId(word.into()), ACTOR);
                    UserFrame::Send { number, to, from, tag: 0, payload: vec![] }
                }
                4 => UserFrame::Confirm { upto: u64::MAX },
                _ => UserFrame::Ask {
                    number,
                    to: ActorId(word.into()),
                    from: ACTOR,
                    request: number,
                    wait_ms: 0,
                    tag: 0,
                    payload: vec![],
                },
            };
            world.input(0, Input::Frame { from: id(1), frame });
            let (count, bytes) = world.ends[0].router.outstanding(id(1));
            prop_assert!(count <= 300);
            prop_assert!(bytes <= 4 << 20);
            prop_assert_eq!(world.ends[0].router.peers(), 1);
        }
        for outcomes in world.ends[0].outcomes.values() {
            prop_assert!(outcomes.len() <= 1);
        }
    }
}
