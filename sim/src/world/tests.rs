use std::time::Duration;

use machines::cluster::config::Profile;
use machines::cluster::identity;
use machines::cluster::ids::Session;

use super::*;
use crate::host::State;
use crate::plan::{Act, Change, DiskFault, Links};
use crate::ring::{Ring, RingKind};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn setup(seed: u64, plan: Vec<Planned>) -> Setup<Ring> {
    Setup {
        seed,
        overrides: Arc::default(),
        nodes: 3,
        strangers: 0,
        duration: 20 * SECOND,
        quiet_at: 15 * SECOND,
        steps_max: 1_000_000,
        start_span: 0,
        contacts: 2,
        plain: Conditions { delay_min: MS, delay_span: MS, ..Conditions::default() },
        ties: true,
        plan: Arc::new(plan),
        work: Work::default(),
        config: Arc::new(ClusterConfig::of(Profile::Lan, "ring")),
        builds: Arc::default(),
        cipher: Cipher::Null,
        kind: RingKind { period: 10 * MS, streams: true, ..RingKind::default() },
    }
}

fn ran(setup: Setup<Ring>) -> World<Ring> {
    let mut world = World::new(Arc::new(setup), Vec::new());
    let outcome = world.run();
    assert_eq!(outcome.ended, Ended::Passed);
    world
}

fn fault(at: u64, until: u64, act: Act) -> Vec<Planned> {
    vec![Planned { at: at * SECOND, until: Some(until * SECOND), act }]
}

fn links(change: Change) -> Act {
    Act::Links(Links::Pairs(vec![(0, 1)]), change)
}

#[test]
fn a_calm_ring_loses_nothing() {
    let world = ran(setup(1, vec![]));
    for node in 0..3 {
        let ring = world.guest(node).unwrap();
        assert!((1_990..=2_000).contains(&ring.received), "{}", ring.received);
        assert!(ring.stream_bytes > 190_000);
        assert_eq!((ring.stream_errors, ring.stream_ends), (0, 0));
    }
}

/// T2, T4, T10: nothing but the seed decides.
#[test]
fn the_same_seed_gives_the_same_hash_and_another_seed_another() {
    let hash = |seed| ran(setup(seed, vec![])).outcome().hash;
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn an_extra_unused_question_per_step_leaves_the_hash() {
    // T13.
    let mut plain = World::new(Arc::new(setup(3, vec![])), Vec::new());
    let mut asked = plain.clone();
    while plain.step() {}
    while asked.step() {
        asked.ask_in_vain();
    }
    assert_eq!(plain.outcome(), asked.outcome());
}

/// T1, T6: a world is a value.
#[test]
fn a_copied_world_goes_on_like_the_original() {
    let mut world =
        World::new(Arc::new(setup(3, fault(2, 9, links(Change::Loss(500_000))))), vec![]);
    while world.now() < 5 * SECOND {
        world.step();
    }
    let mut copy = world.clone();
    assert_eq!(world.run(), copy.run());
}

#[test]
fn a_cut_of_one_direction_stops_that_direction_only() {
    let world = ran(setup(1, fault(5, 10, links(Change::Cut))));
    let received = |node| world.guest(node).unwrap().received;
    assert!((1_480..1_520).contains(&received(1)), "{}", received(1));
    assert!(received(0) > 1_990 && received(2) > 1_990);
    let ring = world.guest(1).unwrap();
    assert_eq!((ring.stream_errors, ring.stream_ends), (0, 0), "streams outlive short cuts");
    assert!(ring.stream_bytes > 190_000, "what was held up came later");
}

#[test]
fn loss_and_duplication_change_what_arrives() {
    let lossy = ran(setup(1, fault(0, 15, links(Change::Loss(300_000)))));
    let received = lossy.guest(1).unwrap().received;
    assert!((1_450..1_650).contains(&received), "{received}");
    let doubled = ran(setup(1, fault(0, 15, links(Change::Duplicate(300_000)))));
    let received = doubled.guest(1).unwrap().received;
    assert!((2_350..2_550).contains(&received), "{received}");
}

#[test]
fn tampered_streams_arrive_changed_and_fragments_do_not() {
    let tampered = ran(setup(1, fault(1, 15, links(Change::Tamper(100_000)))));
    assert!(tampered.guest(1).unwrap().stream_errors > 50);
    let pieces = ran(setup(1, fault(1, 15, links(Change::Fragment))));
    assert_eq!(pieces.guest(1).unwrap().stream_errors, 0);
    assert!(pieces.events() > ran(setup(1, vec![])).events() + 1_000);
}

#[test]
fn a_killed_node_comes_back_in_its_next_session() {
    let act = Act::Kill { node: 1, power: false, wipe: false };
    let world = ran(setup(1, fault(5, 8, act)));
    assert!(world.host(1).is_up());
    assert_eq!(world.host(1).session().0, 2);
    let ring = world.guest(1).unwrap();
    assert!((1_100..1_210).contains(&ring.received), "{}", ring.received);
    assert!(world.guest(0).unwrap().stream_ends >= 1, "its peers were told");
    assert!(ring.stream_bytes > 100_000, "and dialled again");
}

#[test]
fn a_wiped_node_starts_over_and_a_lost_sync_repeats_a_session() {
    let wipe = Act::Kill { node: 1, power: true, wipe: true };
    assert_eq!(ran(setup(1, fault(5, 8, wipe))).host(1).session().0, 1);
    let mut plan = fault(0, 14, Act::Disk(1, DiskFault::LostSync));
    plan.extend(fault(5, 6, Act::Kill { node: 1, power: true, wipe: false }));
    assert_eq!(ran(setup(1, plan)).host(1).session().0, 1, "the first start left no trace");
}

#[test]
fn a_full_disk_holds_up_a_start_until_there_is_room() {
    let mut plan = fault(4, 10, Act::Disk(1, DiskFault::Full));
    plan.extend(fault(5, 6, Act::Kill { node: 1, power: false, wipe: false }));
    let world = ran(setup(1, plan));
    assert!(world.outcome().refusals["disk-full"] >= 3);
    assert!(world.host(1).started_at() >= 10 * SECOND);
}

#[test]
fn a_paused_node_answers_nothing_and_then_everything() {
    let mut world = World::new(Arc::new(setup(1, fault(5, 8, Act::Pause(1)))), Vec::new());
    let received_at = |world: &mut World<Ring>, at: u64| {
        while world.now() < at * SECOND {
            world.step();
        }
        world.guest(1).unwrap().received
    };
    let before = received_at(&mut world, 6);
    assert_eq!(received_at(&mut world, 7), before);
    assert!(received_at(&mut world, 9) > before + 350);
}

#[test]
fn a_slow_node_falls_behind() {
    let world = ran(setup(1, fault(1, 15, Act::Slow(1, 50 * MS))));
    let received = world.guest(1).unwrap().received;
    assert!(received < 1_990, "{received}");
}

#[test]
fn a_fast_clock_ticks_more_often() {
    let world = ran(setup(1, fault(0, 15, Act::Drift(0, 10_000))));
    let received = world.guest(1).unwrap().received;
    assert!((2_010..2_020).contains(&received), "{received}");
}

#[test]
fn a_clock_that_jumps_back_stands_still() {
    let plan =
        vec![Planned { at: 5 * SECOND, until: None, act: Act::Jump(0, -(3_000 * 1_000_000)) }];
    let received = ran(setup(1, plan)).guest(1).unwrap().received;
    assert!((1_690..1_710).contains(&received), "{received}");
}

/// T3: nothing happens between two events, so a thousand hours in which a ring rarely speaks cost
/// as many events as it has things to say.
#[test]
fn time_jumps_to_the_next_event_however_far() {
    let hour = 3_600 * SECOND;
    let seldom = RingKind { period: hour, ..RingKind::default() };
    let long = Setup { duration: 1_000 * hour, quiet_at: 999 * hour, ..setup(1, vec![]) };
    let mut world = World::new(Arc::new(Setup { kind: seldom, ..long }), Vec::new());
    let mut longest = 0;
    loop {
        let before = world.now();
        if !world.step() {
            break;
        }
        longest = longest.max(world.now() - before);
    }
    assert_eq!(world.outcome().ended, Ended::Passed);
    assert!(world.guest(0).unwrap().received >= 998);
    assert!(longest > hour - SECOND, "the longest step took {longest} ns of virtual time");
    assert!(world.events() < 10_000, "{} events", world.events());
}

/// T5, T30: a violation says which property, with what evidence and when, and the run ends there.
#[test]
fn a_violation_names_its_property_its_evidence_and_its_time_and_ends_the_run() {
    let (lab, case) = (crate::planted::lab(), crate::planted::planted());
    let keep = crate::lab::Keep { trace: true, ..Default::default() };
    let ran = lab.run_case(&case, keep).unwrap();
    let Ended::Violated(violation) = &ran.outcome.ended else {
        panic!("the planted failure shows: {:?}", ran.outcome.ended);
    };
    assert_eq!(violation.property, "ONCE");
    assert!(violation.evidence.contains("came twice to node 1"), "{violation}");
    let copied = 4 * SECOND..13 * SECOND;
    assert!(copied.contains(&violation.at), "datagrams are copied from 4 s on: {violation}");
    assert_eq!(violation.at, ran.outcome.at);
    assert_eq!(ran.trace.last().map(|line| line.at), Some(violation.at));
}

/// T5.
#[test]
fn a_run_over_its_step_bound_is_unfinished() {
    let mut world = World::new(Arc::new(Setup { steps_max: 100, ..setup(1, vec![]) }), Vec::new());
    assert_eq!(world.run().ended, Ended::Unfinished);
}

#[test]
fn clients_call_as_often_as_asked() {
    let work = Work { lookup: 20_000, wait: Duration::from_secs(1), ..Work::default() };
    let mut world = World::new(Arc::new(Setup { work, ..setup(1, vec![]) }), vec![]).tracing();
    world.run();
    let calls = world.take_trace().iter().filter(|line| line.detail.contains("Lookup")).count();
    assert!((280..420).contains(&calls), "{calls} look-ups in 20 s at 20/s, one in eight idle");
}

#[test]
fn an_attacker_sends_what_it_overheard() {
    let world = ran(setup(1, fault(5, 10, Act::Forge(10 * MS))));
    let received: u64 = (0..3).map(|node| world.guest(node).unwrap().received).sum();
    assert!(received > 3 * 1_990 + 200, "{received}");
}

fn kill(node: u32) -> Act {
    Act::Kill { node, power: false, wipe: false }
}

fn at_time(plan: Vec<Planned>, millis: u64) -> World<Ring> {
    let mut world = World::new(Arc::new(setup(1, plan)), Vec::new());
    while world.now() < millis * MS {
        world.step();
    }
    world
}

/// C7, C27: as in production, a process whose session cannot be stored ends.
#[test]
fn a_burnt_session_that_a_full_disk_refuses_ends_the_process() {
    let full = fault(3, 8, Act::Disk(1, DiskFault::Full));
    let mut world = World::new(Arc::new(setup(1, full)), Vec::new());
    while world.now() < 4 * SECOND {
        assert!(world.step());
    }
    let burnt = Session(world.host(1).session().0 + 1);
    let (offset, bytes) = identity::session_slot(burnt, world.host(1).id());
    world.store(1, (burnt, offset, bytes));
    assert_eq!(world.host(1).state(), State::Down);
    assert_eq!(world.run().ended, Ended::Passed);
    assert!(world.host(1).is_up() && world.host(1).started_at() >= 8 * SECOND);
    assert_eq!(world.host(1).session(), burnt, "nobody used it");
}

#[test]
fn a_start_that_the_disk_refused_is_not_tried_again_once_the_node_was_killed() {
    let mut plan = fault(2, 8, Act::Disk(0, DiskFault::Full));
    plan.extend(fault(3, 4, kill(0)));
    plan.push(Planned { at: 5_500 * MS, until: Some(14 * SECOND), act: kill(0) });
    let world = ran(setup(1, plan));
    assert!(world.outcome().refusals["disk-full"] >= 2, "4 s and 5 s are refused");
    assert!(world.host(0).is_up());
    assert!(world.host(0).started_at() >= 14 * SECOND, "it is dead until its window ends");
}

#[test]
fn a_node_that_is_killed_for_ever_before_it_starts_never_starts() {
    let plan = vec![Planned { at: 0, until: None, act: kill(1) }];
    let started = Setup { start_span: SECOND, ..setup(1, plan) };
    assert!(!ran(started).host(1).is_up());
}

/// Of two windows on one node, the end of the shorter leaves the longer in force (T20).
#[test]
fn the_end_of_one_window_does_not_end_another_of_its_kind() {
    let both = |act: Act| {
        let mut plan = fault(2, 12, act.clone());
        plan.extend(fault(4, 6, act));
        plan
    };
    let slow = at_time(both(Act::Slow(1, 5 * MS)), 8_000);
    assert_eq!(slow.host(1).slow(), 5 * MS);

    let dead = ran(setup(1, both(kill(1))));
    assert!(dead.host(1).started_at() >= 12 * SECOND);

    let mut full = both(Act::Disk(1, DiskFault::Full));
    full.extend(fault(7, 8, kill(1)));
    assert!(ran(setup(1, full)).host(1).started_at() >= 12 * SECOND);

    let mut stalled = both(Act::Disk(1, DiskFault::Stall));
    stalled.extend(fault(7, 8, kill(1)));
    assert!(ran(setup(1, stalled)).host(1).started_at() >= 12 * SECOND);

    let drift = |until| vec![Planned { at: 0, until: Some(until), act: Act::Drift(0, 10_000) }];
    let mut twice = drift(15 * SECOND);
    twice.extend(fault(4, 6, Act::Drift(0, 10_000)));
    let ticks = |plan| ran(setup(1, plan)).guest(1).unwrap().received;
    assert!(ticks(twice).abs_diff(ticks(drift(15 * SECOND))) <= 3);
}

#[test]
fn the_end_of_one_revocation_puts_back_that_node_only() {
    let mut plan = fault(2, 12, Act::Revoke(1));
    plan.extend(fault(4, 6, Act::Revoke(2)));
    let allowed = |millis| {
        let world = at_time(plan.clone(), millis);
        [0, 1, 2].map(|node| world.allowed().has(world.host(node).id()))
    };
    assert_eq!(allowed(3_000), [true, false, true]);
    assert_eq!(allowed(5_000), [true, false, false]);
    assert_eq!(allowed(8_000), [true, false, true]);
    assert_eq!(allowed(13_000), [true, true, true]);
}

#[test]
fn clocks_begin_apart_by_what_is_drawn_for_each_and_0_is_true_time() {
    let most = 3_600 * SECOND;
    let plan: Vec<Planned> =
        (0..3).map(|node| Planned { at: 0, until: None, act: Act::Offset(node, most) }).collect();
    let ahead = |world: &World<Ring>| {
        let now = world.now();
        [0, 1, 2].map(|node| world.host(node).clock.clone().read(now).as_nanos() - now)
    };
    let world = ran(setup(1, plan.clone()));
    let drawn = ahead(&world);
    assert!(drawn.iter().all(|by| (1..=most).contains(by)), "{drawn:?}");
    assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2]);
    assert_eq!(world.outcome().strikes["offset"], 3);
    assert!(world.guest(1).unwrap().received >= 1_990, "an offset harms nobody");

    let site = "clock.offset".to_owned();
    let zero = [machines::choices::Override { site, who: None, nth: None, answer: 0 }];
    let overrides = Arc::new(zero.into_iter().collect());
    let world = ran(Setup { overrides, ..setup(1, plan) });
    assert_eq!(ahead(&world), [0; 3]);
    assert!(!world.outcome().strikes.contains_key("offset"));
}

/// A session is torn where power fails between its write and its sync; C7 bears that.
#[test]
fn a_torn_start_is_a_session_less_and_no_refusal() {
    let mut torn = 0;
    for seed in 0..20 {
        let mut plan = fault(0, 14, Act::Disk(1, DiskFault::Torn));
        for at in [0, 1_000, 2_000, 3_000] {
            let power = Act::Kill { node: 1, power: true, wipe: false };
            let at = at * MS + MS / 2;
            plan.push(Planned { at, until: Some(at + SECOND - MS / 2), act: power.clone() });
        }
        let outcome = ran(setup(seed, plan)).outcome();
        assert!(outcome.refusals.is_empty(), "{:?}", outcome.refusals);
        torn += outcome.strikes.get("torn").unwrap_or(&0);
    }
    assert!(torn > 20, "{torn} writes were torn");
}

#[test]
fn what_strikes_is_counted_and_what_does_not_is_not() {
    let strikes = |plan| ran(setup(1, plan)).outcome().strikes;
    assert!(strikes(vec![]).is_empty());
    let cut = strikes(fault(5, 10, links(Change::Cut)));
    assert_eq!(cut.keys().collect::<Vec<_>>(), [&"cut"]);
    assert!(cut["cut"] >= 480, "{cut:?}");
    let torn = strikes(fault(5, 10, Act::Disk(0, DiskFault::Torn)));
    assert!(torn.is_empty(), "nothing was being written: {torn:?}");
}

/// T13: one more tie at one node moves no tie at another.
#[test]
fn a_tie_is_decided_by_who_is_tied() {
    let streams = Vec::new();
    let who = |due: Due| due.who(&streams);
    let all = [
        who(Due::Timer(1)),
        who(Due::Timer(2)),
        who(Due::Wake(1)),
        who(Due::Datagram { to: 1, bytes: vec![] }),
        who(Due::Begin(1)),
    ];
    let different: std::collections::BTreeSet<u64> = all.into_iter().collect();
    assert_eq!(different.len(), all.len());
    assert_eq!(who(Due::Datagram { to: 1, bytes: vec![7] }), all[3], "but not by what it says");
}
