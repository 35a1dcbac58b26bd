//! Unit tests of the router: every step of C80, every error, every outcome.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks what it asks about")]

use std::time::Duration;

use super::*;
use crate::cluster::ids::{Incarnation, Life};
use crate::cluster::wire::Meta;

const ME: NodeId = NodeId::from_bytes([1; 16]);
const PEER: NodeId = NodeId::from_bytes([2; 16]);
const MINE: ActorId = ActorId(7);
const THEIRS: ActorId = ActorId(9);

/// A router with a clock, and short words for what happens to it.
struct Bench {
    now: Instant,
    router: Router,
}

fn addr() -> Addr {
    Addr::new([10, 0, 0, 2].into(), 7400, 7400).unwrap()
}

fn hello(session: u32, instance: u64, seen: u64, link_index: u32) -> Hello {
    Hello {
        life: Life { session: Session(session), incarnation: Incarnation(0) },
        instance: Instance(instance),
        seen,
        ordinal: 1,
        link_index,
        addr: addr(),
        version_max: 1,
    }
}

fn event(node: NodeId, session: u32, kind: MemberEventKind) -> Input {
    Input::Member(MemberEvent {
        index: 0,
        node,
        life: Life { session: Session(session), incarnation: Incarnation(0) },
        addr: Some(addr()),
        meta: Meta::EMPTY,
        kind,
    })
}

fn to(session: u32) -> Ref {
    Ref { node: PEER, session: Session(session), actor: THEIRS }
}

fn here(session: u32, actor: ActorId) -> Ref {
    Ref { node: ME, session: Session(session), actor }
}

fn send_to(call: u64, to: Ref) -> Input {
    Input::Send {
        call: CallId(call),
        from: MINE,
        to,
        tag: 5,
        payload: vec![1, 2, 3],
        tracked: true,
    }
}

fn ask_to(call: u64, to: Ref, wait_ms: u64) -> Input {
    Input::Ask {
        call: CallId(call),
        from: MINE,
        to,
        wait: Duration::from_millis(wait_ms),
        tag: 5,
        payload: vec![4],
    }
}

fn arriving(number: u64) -> Input {
    Input::Frame {
        from: PEER,
        frame: UserFrame::Send { number, to: MINE, from: THEIRS, tag: 5, payload: vec![8] },
    }
}

fn confirm(upto: u64) -> Input {
    Input::Frame { from: PEER, frame: UserFrame::Confirm { upto } }
}

impl Bench {
    fn new() -> Self {
        Self::with(RouterConfig::standard(), &LinksConfig::standard())
    }

    fn with(config: RouterConfig, links: &LinksConfig) -> Self {
        Self {
            now: Instant::from_millis(1_000),
            router: Router::new(ME, Session(3), config, links),
        }
    }

    /// A peer in session 4 that is a member, linked in instance 1.
    fn linked() -> Self {
        let mut bench = Self::new();
        bench.input(event(PEER, 4, MemberEventKind::Join));
        bench.input(Input::Open(MINE));
        bench.up(4, 1, 0, 1);
        bench
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.router.handle(self.now, input);
        std::iter::from_fn(|| self.router.poll()).collect()
    }

    fn wait(&mut self, ms: u64) -> Vec<Output> {
        self.now = self.now + Duration::from_millis(ms);
        self.input(Input::Tick)
    }

    fn up(&mut self, session: u32, instance: u64, seen: u64, link_index: u32) -> Vec<Output> {
        self.input(Input::LinkUp { peer: PEER, hello: hello(session, instance, seen, link_index) })
    }

    fn down(&mut self, reason: CloseReason) -> Vec<Output> {
        self.input(Input::LinkDown { peer: PEER, reason })
    }

    fn written(&mut self, number: u64) {
        let none = self.input(Input::Written { to: PEER, number });
        assert_eq!(none, []);
    }

    fn sent(&mut self, to: Ref) -> Result<u64, SendError> {
        sent(&self.input(send_to(1, to)))
    }
}

fn sent(outputs: &[Output]) -> Result<u64, SendError> {
    let sent = outputs.iter().find_map(|output| match output {
        Output::Sent { result, .. } => Some(*result),
        _ => None,
    });
    sent.expect("a send is answered at once")
}

fn outcomes(outputs: &[Output]) -> Vec<(u64, Outcome)> {
    let outcomes = outputs.iter().filter_map(|output| match output {
        Output::Outcome { call, outcome } => Some((call.0, *outcome)),
        _ => None,
    });
    outcomes.collect()
}

fn asked(outputs: &[Output]) -> Vec<Result<Answer, AskError>> {
    let asked = outputs.iter().filter_map(|output| match output {
        Output::Asked { result, .. } => Some(result.clone()),
        _ => None,
    });
    asked.collect()
}

fn frames(outputs: &[Output]) -> Vec<UserFrame> {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Frame { frame, .. } => Some(frame.clone()),
        _ => None,
    });
    frames.collect()
}

fn gaps(outputs: &[Output]) -> Vec<(u64, u64, Option<Outcome>)> {
    let gaps = outputs.iter().filter_map(|output| match output {
        Output::Gap(gap) => Some((gap.first, gap.last, gap.outcome)),
        _ => None,
    });
    gaps.collect()
}

fn delivered(outputs: &[Output]) -> Vec<Delivery> {
    let delivered = outputs.iter().filter_map(|output| match output {
        Output::Deliver { delivery, .. } => Some(*delivery),
        _ => None,
    });
    delivered.collect()
}

fn dials(outputs: &[Output]) -> usize {
    let dial = |output: &&Output| matches!(output, Output::Want { .. });
    outputs.iter().filter(dial).count()
}

// C80, step by step.

#[test]
fn step_1_a_local_reference_of_this_session_is_delivered_and_of_another_is_stale() {
    let mut bench = Bench::new();
    bench.input(Input::Open(MINE));
    let outputs = bench.input(send_to(1, here(3, MINE)));
    assert_eq!(sent(&outputs), Ok(1));
    assert_eq!(delivered(&outputs).len(), 1);
    for session in [2, 4] {
        assert_eq!(bench.sent(here(session, MINE)), Err(SendError::StaleRef));
    }
}

#[test]
fn step_2_a_node_that_is_not_known_has_no_route() {
    let mut bench = Bench::new();
    assert_eq!(bench.sent(to(4)), Err(SendError::NoRoute));
}

#[test]
fn step_2_a_node_whose_key_was_revoked_has_no_route() {
    let mut bench = Bench::linked();
    bench.down(CloseReason::Revoked);
    bench.input(event(PEER, 4, MemberEventKind::Dead(DeadCause::Revoked)));
    assert_eq!(bench.sent(to(4)), Err(SendError::NoRoute));
}

/// Step 2 comes before steps 3 and 4, and no event tells of a key that is revoked after its death.
#[test]
fn step_2_a_node_that_died_before_its_key_was_revoked_has_no_route() {
    let mut bench = Bench::linked();
    bench.input(event(PEER, 4, MemberEventKind::Dead(DeadCause::Timeout)));
    assert_eq!(bench.sent(to(4)), Err(SendError::NodeDown));
    bench.input(Input::Allowed(Arc::new(Allowed::only([[7; 32]]))));
    assert_eq!(bench.sent(to(4)), Err(SendError::NoRoute));
    assert_eq!(bench.sent(to(3)), Err(SendError::NoRoute), "not stale");
    bench.input(Input::Allowed(Arc::new(Allowed::Any)));
    assert_eq!(bench.sent(to(4)), Err(SendError::NodeDown));
}

#[test]
fn step_3_a_reference_below_the_members_session_is_stale() {
    let mut bench = Bench::linked();
    assert_eq!(bench.sent(to(3)), Err(SendError::StaleRef));
    bench.input(event(PEER, 5, MemberEventKind::Join));
    assert_eq!(bench.sent(to(4)), Err(SendError::StaleRef));
}

#[test]
fn step_4_a_member_that_is_dead_or_left_in_that_session_is_down() {
    for kind in [MemberEventKind::Dead(DeadCause::Timeout), MemberEventKind::Left] {
        let mut bench = Bench::linked();
        bench.input(event(PEER, 4, kind));
        assert_eq!(bench.sent(to(4)), Err(SendError::NodeDown));
    }
}

#[test]
fn step_5_a_link_in_the_references_session_carries_it() {
    let mut bench = Bench::linked();
    let outputs = bench.input(send_to(1, to(4)));
    assert_eq!(sent(&outputs), Ok(1));
    assert_eq!(frames(&outputs).len(), 1);
    assert_eq!(dials(&outputs), 0);
}

#[test]
fn step_6_a_link_in_a_higher_session_makes_it_stale() {
    let mut bench = Bench::linked();
    bench.down(CloseReason::PeerRestarted);
    bench.up(5, 2, 0, 2);
    assert_eq!(bench.sent(to(4)), Err(SendError::StaleRef));
}

#[test]
fn step_7_without_a_link_it_waits_for_a_dial_and_goes_out_when_that_is_up() {
    let mut bench = Bench::new();
    bench.input(event(PEER, 4, MemberEventKind::Join));
    let outputs = bench.input(send_to(1, to(4)));
    assert_eq!((sent(&outputs), dials(&outputs)), (Ok(1), 1));
    assert_eq!(frames(&outputs), []);
    assert_eq!(frames(&bench.up(4, 1, 0, 1)).len(), 1);
}

#[test]
fn step_7_a_failed_dial_is_not_sent() {
    let mut bench = Bench::new();
    bench.input(event(PEER, 4, MemberEventKind::Join));
    bench.input(send_to(1, to(4)));
    let outputs = bench.input(Input::Unreachable { peer: PEER });
    assert_eq!(outcomes(&outputs), [(1, Outcome::NotSent)]);
    assert_eq!(frames(&bench.up(4, 1, 0, 1)), []);
}

#[test]
fn a_session_ahead_of_membership_is_dialled_and_never_reaches_the_one_before() {
    let mut bench = Bench::linked();
    let outputs = bench.input(send_to(1, to(5)));
    assert_eq!((sent(&outputs), dials(&outputs)), (Ok(1), 1));
    // The dial is answered by the link that is up: there is no such session.
    let outputs = bench.up(4, 1, 0, 1);
    assert_eq!(outcomes(&outputs), [(1, Outcome::NotSent)]);
    assert_eq!(frames(&outputs), []);

    bench.input(send_to(2, to(5)));
    bench.down(CloseReason::PeerRestarted);
    let outputs = bench.up(5, 2, 0, 2);
    assert_eq!(frames(&outputs).len(), 1, "it waited for this session");
    assert_eq!(outcomes(&outputs), []);
}

#[test]
fn what_waits_for_one_session_never_reaches_the_next() {
    let mut bench = Bench::new();
    bench.input(event(PEER, 4, MemberEventKind::Join));
    bench.input(send_to(1, to(4)));
    let outputs = bench.up(5, 2, 0, 1); // It restarted between the send and the dial (C145).
    assert_eq!(outcomes(&outputs), [(1, Outcome::NotSent)]);
    assert_eq!(frames(&outputs), []);
}

#[test]
fn a_suspect_is_routed_to_and_the_dead_are_again_when_heard_of() {
    let mut bench = Bench::linked();
    bench.input(event(PEER, 4, MemberEventKind::Suspect));
    assert_eq!(bench.sent(to(4)), Ok(1));
    bench.input(event(PEER, 4, MemberEventKind::Dead(DeadCause::Told)));
    bench.down(CloseReason::MemberDead);
    assert_eq!(bench.sent(to(4)), Err(SendError::NodeDown));
    bench.input(event(PEER, 4, MemberEventKind::Join));
    bench.up(4, 1, 0, 2);
    assert_eq!(bench.sent(to(4)), Ok(2), "numbers go on (C81, C82)");
}

// Refusals (C87).

#[test]
fn a_full_link_queue_is_busy_until_something_is_written() {
    let links = LinksConfig { link_queue_bytes_max: 100, ..LinksConfig::standard() };
    let mut bench = Bench::with(RouterConfig::standard(), &links);
    bench.input(event(PEER, 4, MemberEventKind::Join));
    bench.up(4, 1, 0, 1);
    let sent: Vec<_> = (0..4).map(|_| bench.sent(to(4))).collect();
    assert_eq!(sent, [Ok(1), Ok(2), Ok(3), Err(SendError::Busy)]);
    bench.written(1);
    assert_eq!(bench.sent(to(4)), Ok(4));
}

#[test]
fn a_full_dial_queue_is_busy_by_items_and_by_bytes() {
    for (items, bytes) in [(2, 1 << 20), (1_024, 62)] {
        let links = LinksConfig {
            dial_queue_items_max: items,
            dial_queue_bytes_max: bytes,
            ..LinksConfig::standard()
        };
        let mut bench = Bench::with(RouterConfig::standard(), &links);
        bench.input(event(PEER, 4, MemberEventKind::Join));
        let sent: Vec<_> = (0..3).map(|_| bench.sent(to(4))).collect();
        assert_eq!(sent, [Ok(1), Ok(2), Err(SendError::Busy)]);
    }
}

#[test]
fn too_many_without_an_outcome_are_busy() {
    let config = RouterConfig { unconfirmed_max: 2, ..RouterConfig::standard() };
    let mut bench = Bench::with(config, &LinksConfig::standard());
    bench.input(event(PEER, 4, MemberEventKind::Join));
    bench.up(4, 1, 0, 1);
    assert_eq!((bench.sent(to(4)), bench.sent(to(4))), (Ok(1), Ok(2)));
    bench.written(2);
    assert_eq!(bench.sent(to(4)), Err(SendError::Busy));
    bench.input(confirm(1));
    assert_eq!(bench.sent(to(4)), Ok(3));
}

#[test]
fn a_message_above_the_limit_is_too_large_also_for_a_neighbour() {
    let config = RouterConfig { message_bytes_max: 30, ..RouterConfig::standard() };
    let mut bench = Bench::with(config, &LinksConfig::standard());
    bench.input(event(PEER, 4, MemberEventKind::Join));
    assert_eq!(bench.sent(to(4)), Err(SendError::TooLarge));
    assert_eq!(bench.sent(here(3, MINE)), Err(SendError::TooLarge));
}

/// C56, C88: Draining.
#[test]
fn a_leaving_node_sends_nothing_and_bounces_what_comes() {
    let mut bench = Bench::linked();
    bench.input(Input::Leave);
    assert_eq!(bench.sent(to(4)), Err(SendError::Draining));
    let outputs = bench.input(ask_to(2, to(4), 10));
    let refused = AskError::Refused(SendError::Draining);
    assert_eq!(asked(&outputs), [Err(refused)]);
    let code = BounceCode::Draining;
    let outputs = bench.input(arriving(1));
    assert_eq!(frames(&outputs), [UserFrame::Bounce { number: 1, code }]);
}

// Outcomes (C84) and what a closed link does to them (C39).

#[test]
fn a_confirm_delivers_what_was_written_and_no_more() {
    let mut bench = Bench::linked();
    for call in 1..=3 {
        bench.input(send_to(call, to(4)));
    }
    bench.written(2);
    let outputs = bench.input(confirm(3));
    let delivered = [(1, Outcome::Delivered), (2, Outcome::Delivered)];
    assert_eq!(outcomes(&outputs), delivered);
    assert_eq!(bench.router.outstanding(PEER), (1, 31));
}

/// C88: a bounce resolves its number alone.
#[test]
fn a_bounce_names_its_number_and_the_rest_is_delivered() {
    let mut bench = Bench::linked();
    for call in 1..=3 {
        bench.input(send_to(call, to(4)));
    }
    bench.written(3);
    let code = BounceCode::MailboxFull;
    let bounce = UserFrame::Bounce { number: 2, code };
    let bounce = Input::Frame { from: PEER, frame: bounce };
    let outputs = bench.input(bounce.clone());
    assert_eq!(outcomes(&outputs), [(2, Outcome::Bounced(code))]);
    assert_eq!(bench.input(bounce), [], "a bounce counts once");
    let rest = [(1, Outcome::Delivered), (3, Outcome::Delivered)];
    assert_eq!(outcomes(&bench.input(confirm(3))), rest);
}

#[test]
fn a_reconnect_loses_what_was_not_seen_and_keeps_what_was_not_written() {
    let mut bench = Bench::linked();
    for call in 1..=4 {
        bench.input(send_to(call, to(4)));
    }
    assert_eq!(bench.input(confirm(0)), [], "it knows this process");
    bench.written(3);
    let outputs = bench.down(CloseReason::Reset);
    assert_eq!((outcomes(&outputs), dials(&outputs)), (vec![], 1));
    let outputs = bench.up(4, 1, 1, 2);
    assert_eq!(outcomes(&outputs), [(2, Outcome::Lost), (3, Outcome::Lost)]);
    assert_eq!(gaps(&outputs), [(2, 3, Some(Outcome::Lost))]);
    assert_eq!(frames(&outputs), [], "the links have number 4; nothing is resent (C85)");
    bench.written(4);
    let rest = [(1, Outcome::Delivered), (4, Outcome::Delivered)];
    assert_eq!(outcomes(&bench.input(confirm(4))), rest);
}

/// C80, steps 3 and 4: what membership knows as Dead counts, whether an event told so or not.
#[test]
fn a_node_known_as_dead_fences_its_old_sessions() {
    let mut bench = Bench::linked();
    bench.input(Input::Known { peer: PEER, session: Session(9) });
    assert_eq!(bench.sent(to(4)), Err(SendError::StaleRef));
    assert_eq!(bench.sent(to(9)), Err(SendError::NodeDown));
    bench.input(event(PEER, 10, MemberEventKind::Join));
    assert_eq!(bench.sent(to(9)), Err(SendError::StaleRef));
    assert_eq!(bench.sent(to(10)), Ok(1));
}

/// C84, C146: a Confirm counts what one instance sent; due as its link gives way to that of the
/// next one, it goes to neither.
#[test]
fn the_confirm_of_an_old_instance_never_reaches_the_new_link() {
    for late in [false, true] {
        let mut bench = Bench::linked();
        bench.input(arriving(1));
        let pause = if late { 60 } else { 10 };
        bench.now = bench.now + Duration::from_millis(pause);
        let mut outputs = bench.down(CloseReason::PeerRestarted);
        outputs.extend(bench.up(5, 2, 0, 2));
        outputs.extend(bench.wait(100));
        assert_eq!(frames(&outputs), [], "late: {late}");
    }
}

/// C83: a dialler that never heard our Welcome may say what it saw of the process before this one.
#[test]
fn a_count_of_a_peer_that_was_never_heard_proves_nothing() {
    let mut bench = Bench::linked();
    bench.input(send_to(1, to(4)));
    bench.input(send_to(2, to(4)));
    bench.written(1);
    bench.down(CloseReason::Reset);
    let outputs = bench.up(4, 1, 7, 2);
    assert_eq!(outcomes(&outputs), [(1, Outcome::Unknown)]);
    assert_eq!(bench.sent(to(4)), Ok(3), "numbers go on");
}

#[test]
fn a_gap_names_the_senders() {
    let mut bench = Bench::linked();
    bench.input(send_to(1, to(4)));
    bench.written(1);
    bench.down(CloseReason::Silent);
    let outputs = bench.up(4, 1, 0, 2);
    let gap = Gap {
        peer: PEER,
        session: Session(4),
        first: 1,
        last: 1,
        outcome: Some(Outcome::Lost),
        senders: vec![MINE],
    };
    assert!(outputs.contains(&Output::Gap(gap)));
    assert_eq!(bench.router.counters().get(Counter::Gaps), 1);
}

#[test]
fn a_close_resolves_sends_as_its_reason_says() {
    let kept = [
        CloseReason::Idle,
        CloseReason::LinkCap,
        CloseReason::Superseded,
        CloseReason::Replaced,
        CloseReason::ProtocolError,
        CloseReason::KeyExpired,
        CloseReason::RekeyFailed,
        CloseReason::Silent,
        CloseReason::Reset,
    ];
    let ended = [
        CloseReason::Revoked,
        CloseReason::PeerRestarted,
        CloseReason::MemberDead,
        CloseReason::MemberLeft,
    ];
    let closed = |reason| {
        let mut bench = Bench::linked();
        bench.input(send_to(1, to(4)));
        bench.written(1);
        bench.input(send_to(2, to(4)));
        outcomes(&bench.down(reason))
    };
    for reason in kept {
        assert_eq!(closed(reason), [], "{reason:?}");
    }
    for reason in ended {
        let both = [(1, Outcome::Unknown), (2, Outcome::NotSent)];
        assert_eq!(closed(reason), both, "{reason:?}");
    }
    assert_eq!(closed(CloseReason::Shutdown), [(2, Outcome::NotSent)]);
}

#[test]
fn a_new_instance_ends_what_was_sent_and_counts_from_1() {
    let mut bench = Bench::linked();
    bench.input(send_to(1, to(4)));
    bench.written(1);
    bench.down(CloseReason::Reset);
    let outputs = bench.up(5, 2, 0, 2);
    assert_eq!(outcomes(&outputs), [(1, Outcome::Unknown)]);
    assert_eq!(gaps(&outputs), [(1, 1, Some(Outcome::Unknown))]);
    assert_eq!(bench.sent(to(5)), Ok(1));
    assert_eq!(gaps(&bench.input(arriving(1))), [], "they count from 1, too");
}

#[test]
fn a_renewed_session_of_the_same_process_goes_on_counting() {
    let mut bench = Bench::linked();
    bench.input(send_to(1, to(4)));
    bench.written(1);
    bench.input(arriving(1));
    bench.down(CloseReason::PeerRestarted);
    bench.up(5, 1, 1, 2);
    assert_eq!(bench.sent(to(5)), Ok(2));
    assert_eq!(gaps(&bench.input(arriving(2))), []);
}

#[test]
fn an_answer_to_a_dial_changes_nothing() {
    let mut bench = Bench::linked();
    bench.input(send_to(1, to(4)));
    bench.written(1);
    assert_eq!(bench.up(4, 1, 0, 1), [], "the same Hello is the same link");
    let delivered = [(1, Outcome::Delivered)];
    assert_eq!(outcomes(&bench.input(confirm(1))), delivered);
}

// Receiving.

#[test]
fn a_confirm_goes_back_after_50_ms_or_64_messages() {
    let mut bench = Bench::linked();
    assert_eq!(frames(&bench.input(arriving(1))), []);
    assert_eq!(frames(&bench.wait(49)), []);
    assert_eq!(frames(&bench.wait(1)), [UserFrame::Confirm { upto: 1 }]);
    for number in 2..=65 {
        assert_eq!(frames(&bench.input(arriving(number))), []);
    }
    assert!(bench.router.deadline() <= bench.now.plus_nanos(1));
    assert_eq!(frames(&bench.wait(1)), [UserFrame::Confirm { upto: 65 }]);
    assert_eq!(bench.router.deadline(), Instant::FAR);
}

#[test]
fn a_refusal_by_the_gate_goes_before_the_confirm_that_covers_it() {
    let mut bench = Bench::linked();
    bench.input(arriving(1));
    bench.now = bench.now + Duration::from_secs(1); // The Confirm is long due.
    let delivery = Delivery { node: PEER, number: 1 };
    let code = BounceCode::MailboxFull;
    let outputs = bench.input(Input::NotTaken { delivery, code });
    assert_eq!(frames(&outputs), [UserFrame::Bounce { number: 1, code }]);
    assert_eq!(frames(&bench.wait(0)), [UserFrame::Confirm { upto: 1 }]);
}

/// C84, C88: what the old link may have lost.
#[test]
fn bounces_and_confirms_are_repeated_on_the_next_link() {
    let mut bench = Bench::linked();
    bench.input(Input::Close(MINE));
    bench.input(arriving(1));
    bench.down(CloseReason::Reset);
    let code = BounceCode::NoActor;
    let again = [UserFrame::Bounce { number: 1, code }, UserFrame::Confirm { upto: 1 }];
    assert_eq!(frames(&bench.up(4, 1, 0, 2)), again);
}

/// C88, C115: NoActor, `bounce`.
#[test]
fn a_missing_actor_bounces_and_is_counted() {
    let mut bench = Bench::linked();
    bench.input(Input::Close(MINE));
    let outputs = bench.input(arriving(1));
    let code = BounceCode::NoActor;
    assert_eq!(frames(&outputs), [UserFrame::Bounce { number: 1, code }]);
    let counted = bench.router.counters();
    assert_eq!(counted.get_labelled(Labelled::Bounce, code as u8), 1);
}

/// C85, C115: `gap_received`, `number_repeat`.
#[test]
fn a_jump_is_accepted_and_reported_and_a_repeat_is_neither() {
    let mut bench = Bench::linked();
    let outputs = bench.input(arriving(3));
    assert_eq!(gaps(&outputs), [(1, 2, None)]);
    assert_eq!(delivered(&outputs).len(), 1);
    assert_eq!(bench.input(arriving(3)), []);
    assert_eq!(bench.router.counters().get(Counter::GapReceived), 1);
    assert_eq!(bench.router.counters().get(Counter::NumberRepeat), 1);
}

#[test]
fn a_frame_without_a_link_has_no_authority() {
    let mut bench = Bench::linked();
    bench.down(CloseReason::Reset);
    assert_eq!(bench.input(arriving(1)), []);
}

// Requests (C86).

#[test]
fn an_ask_is_answered_once() {
    let mut bench = Bench::linked();
    let outputs = bench.input(ask_to(1, to(4), 250));
    let [UserFrame::Ask { request, wait_ms, .. }] = frames(&outputs)[..] else {
        panic!("one request goes out: {outputs:?}");
    };
    assert_eq!(wait_ms, 250);
    bench.written(1);
    assert_eq!(asked(&bench.input(confirm(1))), []);
    let reply = |number| Input::Frame {
        from: PEER,
        frame: UserFrame::Reply { number, request, status: 0, tag: 6, payload: vec![9] },
    };
    let answer = Answer { status: 0, tag: 6, payload: vec![9] };
    assert_eq!(asked(&bench.input(reply(1))), [Ok(answer)]);
    assert_eq!(asked(&bench.input(reply(2))), []);
    assert_eq!(bench.router.counters().get(Counter::ReplyUnexpected), 1);
    assert_eq!(asked(&bench.wait(1_000)), []);
}

#[test]
fn an_ask_ends_in_every_other_way_too() {
    let ended = |end: &dyn Fn(&mut Bench) -> Vec<Output>| {
        let mut bench = Bench::linked();
        bench.input(ask_to(1, to(4), 250));
        let outputs = end(&mut bench);
        assert_eq!(asked(&bench.wait(1_000)), [], "once");
        assert_eq!(bench.router.asks_open(), 0);
        let results = asked(&outputs);
        assert_eq!(results.len(), 1, "{outputs:?}");
        results[0].clone().expect_err("there is no answer")
    };
    assert_eq!(ended(&|b| b.wait(250)), AskError::Timeout);
    let cancelled = ended(&|b| b.input(Input::Cancel(CallId(1))));
    assert_eq!(cancelled, AskError::Cancelled);
    let code = BounceCode::TypeUnknown;
    let bounced = ended(&|b| {
        b.written(1);
        b.input(confirm(1)); // Confirmed, then bounced after all.
        let frame = UserFrame::Bounce { number: 1, code };
        b.input(Input::Frame { from: PEER, frame })
    });
    assert_eq!(bounced, AskError::Bounced(code));
    let lost = ended(&|b| {
        b.written(1);
        b.down(CloseReason::Reset);
        b.up(4, 1, 0, 2)
    });
    let not_executed = AskError::LinkLost { perhaps_executed: false };
    assert_eq!(lost, not_executed);
    let revoked = ended(&|b| {
        b.written(1);
        b.down(CloseReason::Revoked)
    });
    let perhaps = AskError::LinkLost { perhaps_executed: true };
    assert_eq!(revoked, perhaps);
    let unreachable = ended(&|b| {
        b.down(CloseReason::Reset);
        b.input(Input::Unreachable { peer: PEER })
    });
    assert_eq!(unreachable, not_executed);
    let dead = ended(&|b| {
        b.written(1);
        b.input(confirm(1));
        b.input(event(PEER, 4, MemberEventKind::Dead(DeadCause::Timeout)))
    });
    assert_eq!(dead, AskError::NodeDown);
}

#[test]
fn an_ask_that_cannot_be_queued_is_refused() {
    let mut bench = Bench::linked();
    let outputs = bench.input(ask_to(1, to(3), 250));
    let stale = AskError::Refused(SendError::StaleRef);
    assert_eq!(asked(&outputs), [Err(stale)]);
}

#[test]
fn too_many_asks_are_busy() {
    let config = RouterConfig { asks_max: 1, ..RouterConfig::standard() };
    let mut bench = Bench::with(config, &LinksConfig::standard());
    bench.input(event(PEER, 4, MemberEventKind::Join));
    assert_eq!(asked(&bench.input(ask_to(1, to(4), 250))), []);
    let busy = AskError::Refused(SendError::Busy);
    assert_eq!(asked(&bench.input(ask_to(2, to(4), 250))), [Err(busy)]);
}

#[test]
fn the_wait_that_travels_is_what_is_left_and_nobody_waiting_is_not_sent() {
    let mut bench = Bench::new();
    bench.input(event(PEER, 4, MemberEventKind::Join));
    bench.input(ask_to(1, to(4), 100));
    bench.input(ask_to(2, to(4), 500));
    assert_eq!(asked(&bench.wait(200)), [Err(AskError::Timeout)]);
    let outputs = bench.up(4, 1, 0, 1);
    let [UserFrame::Ask { number, wait_ms, .. }] = frames(&outputs)[..] else {
        panic!("only the second goes out: {outputs:?}");
    };
    assert_eq!((number, wait_ms), (2, 300));
    assert_eq!(bench.router.outstanding(PEER).0, 1);
}

/// C86, C88: TooLate.
#[test]
fn a_request_without_time_left_bounces_too_late() {
    let mut bench = Bench::linked();
    let frame = UserFrame::Ask {
        number: 1,
        to: MINE,
        from: THEIRS,
        request: 77,
        wait_ms: 0,
        tag: 5,
        payload: vec![],
    };
    let outputs = bench.input(Input::Frame { from: PEER, frame });
    let code = BounceCode::TooLate;
    assert_eq!(frames(&outputs), [UserFrame::Bounce { number: 1, code }]);
    assert_eq!(delivered(&outputs), []);
}

#[test]
fn an_answer_goes_to_the_asker_and_not_to_its_next_session() {
    let mut bench = Bench::linked();
    let answer = |session| Input::Answer {
        request: Request { node: PEER, session: Session(session), request: 77 },
        status: 1,
        tag: 2,
        payload: vec![],
    };
    let reply = UserFrame::Reply { number: 1, request: 77, status: 1, tag: 2, payload: vec![] };
    assert_eq!(frames(&bench.input(answer(4))), [reply]);
    bench.down(CloseReason::PeerRestarted);
    bench.up(5, 2, 0, 2);
    assert_eq!(bench.input(answer(4)), []);
}

/// C84, C146, C150: of a peer that is no member, nobody tells that it died.
#[test]
fn what_was_written_to_a_peer_that_is_no_member_ends_with_its_link() {
    for reason in [CloseReason::Reset, CloseReason::Shutdown] {
        let mut bench = Bench::new();
        bench.input(Input::Open(MINE));
        bench.up(4, 1, 0, 1);
        let answer = Input::Answer {
            request: Request { node: PEER, session: Session(4), request: 77 },
            status: 1,
            tag: 2,
            payload: vec![],
        };
        assert_eq!(frames(&bench.input(answer)).len(), 1);
        bench.written(1);
        assert_eq!(sent(&bench.input(send_to(1, to(4)))), Ok(2));
        bench.written(2);
        let mut outputs = bench.down(reason);
        assert_eq!(dials(&outputs), usize::from(reason == CloseReason::Reset));
        outputs.extend(bench.input(Input::Unreachable { peer: PEER }));
        assert_eq!(outcomes(&outputs), [(1, Outcome::Unknown)], "{reason:?}");
        assert_eq!((bench.router.peers(), bench.router.peers_kept()), (1, 0), "{reason:?}");
    }
}

// Local messages (C89).

#[test]
fn a_local_message_is_delivered_bounced_or_has_no_actor() {
    let mut bench = Bench::new();
    bench.input(Input::Open(MINE));
    bench.input(send_to(1, here(3, MINE)));
    assert!(bench.router.deadline() <= bench.now.plus_nanos(1));
    let taken = bench.wait(1);
    assert_eq!(outcomes(&taken), [(1, Outcome::Delivered)]);

    let outputs = bench.input(send_to(2, here(3, MINE)));
    let code = BounceCode::MailboxFull;
    let delivery = delivered(&outputs)[0];
    let refused = bench.input(Input::NotTaken { delivery, code });
    assert_eq!(outcomes(&refused), [(2, Outcome::Bounced(code))]);
    assert_eq!(outcomes(&bench.wait(1)), []);

    let outputs = bench.input(send_to(3, here(3, THEIRS)));
    let no_actor = Outcome::Bounced(BounceCode::NoActor);
    assert_eq!(outcomes(&outputs), [(3, no_actor)]);
}

#[test]
fn a_local_request_is_answered_or_bounced() {
    let mut bench = Bench::new();
    bench.input(Input::Open(MINE));
    let outputs = bench.input(ask_to(1, here(3, MINE), 100));
    let request = outputs.iter().find_map(|output| match output {
        Output::Deliver { request, .. } => *request,
        _ => None,
    });
    let answer = Input::Answer { request: request.unwrap(), status: 0, tag: 1, payload: vec![2] };
    let answered = bench.input(answer.clone());
    assert!(matches!(asked(&answered)[..], [Ok(_)]));
    assert_eq!(asked(&bench.input(answer)), []);
    let outputs = bench.input(ask_to(2, here(3, THEIRS), 100));
    let bounced = AskError::Bounced(BounceCode::NoActor);
    assert_eq!(asked(&outputs), [Err(bounced)]);
}

#[test]
fn a_renewed_session_makes_old_local_references_stale_and_trusts_no_old_link() {
    let mut bench = Bench::linked();
    bench.input(Input::Renewed(Session(6)));
    assert_eq!(bench.sent(here(3, MINE)), Err(SendError::StaleRef));
    assert_eq!(bench.sent(here(6, MINE)), Ok(1));
    assert_eq!(delivered(&bench.input(arriving(1))), []);
}
