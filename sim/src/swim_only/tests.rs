//! Goal: C136–C144 hold for whole clusters, and each is broken by its saboteur.
//! Method: small clusters in virtual time; the same story with and without the sabotage.

use std::collections::BTreeMap;
use std::time::Duration;

use machines::cluster::ids::{Life, Session};
use machines::cluster::swim::io::{Input, Lane, MemberEventKind};
use machines::cluster::wire::{Body, Entry, Fact, Message, State};
use machines::time::nanos;

use super::measure::{accuracy, first_suspicion, heal_time, rates, spread, without_lifeguard};
use super::*;

const SECOND: u64 = 1_000_000_000;

/// C136: no row falls, none is above its subject, and nobody holds itself Suspect or Dead.
#[derive(Default)]
struct Rows(BTreeMap<(u32, u32), (u32, Life, State)>);

impl Rows {
    fn check(&mut self, world: &SwimOnly) -> Result<(), String> {
        for observer in world.able() {
            for member in world.swim(observer).members() {
                let subject = number_of(member.node);
                let own = world.swim(subject).life();
                if observer == subject && member.state != State::Alive {
                    return Err(format!("{observer} holds itself {:?}", member.state));
                }
                if member.state != State::Left && member.life > own {
                    return Err(format!("{observer} holds {subject} above its own life"));
                }
                let run = world.nodes[observer as usize].session;
                let key = (observer, subject);
                if let Some((before, life, state)) = self.0.get(&key)
                    && *before == run
                    && (*life, *state) > (member.life, member.state)
                {
                    return Err(format!("{observer}'s row of {subject} fell"));
                }
                self.0.insert(key, (run, member.life, member.state));
            }
        }
        Ok(())
    }
}

/// C143: the index has no gap, and goes up to the snapshot.
fn gapless(world: &SwimOnly) -> bool {
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let follows = world.seen().iter().all(|seen| {
        let due = next.insert(seen.observer, seen.index + 1);
        due.is_none_or(|due| due == seen.index)
    });
    follows && next.iter().all(|(n, next)| world.swim(*n).snapshot().index == *next)
}

fn setup(seed: u64, members: u32, sabotage: Sabotage) -> Setup {
    Setup { sabotage, ..Setup::new(seed, members) }
}

/// Lets `from` tell `to` that `about` is suspected in `life`.
fn accuse(world: &mut SwimOnly, (from, to): (u32, u32), about: u32, life: Life) {
    let fact = Fact::Suspect { node: node_id(about), life, accuser: node_id(from) };
    let message = Message { body: Body::Gossip, entries: vec![Entry::Fact(fact)] };
    let input = Input::Received { from: node_id(from), lane: Lane::Datagram, message };
    world.tell(to, input);
}

fn false_accusation(sabotage: Sabotage) -> (SwimOnly, Result<(), String>) {
    let mut world = SwimOnly::settled(setup(3, 8, sabotage));
    let mut rows = Rows::default();
    let mut result = Ok(());
    let life = world.swim(5).life();
    accuse(&mut world, (1, 2), 5, life);
    for _ in 0..400 {
        world.run(SECOND / 10);
        result = result.and_then(|()| rows.check(&world));
    }
    // The old accusation comes again, late.
    accuse(&mut world, (1, 2), 5, life);
    for _ in 0..100 {
        world.run(SECOND / 10);
        result = result.and_then(|()| rows.check(&world));
    }
    (world, result)
}

#[test]
fn c136_rows_never_fall_and_a_false_accusation_kills_nobody() {
    let (world, rows) = false_accusation(Sabotage::None);
    assert_eq!(rows, Ok(()));
    assert_eq!(world.verdicts().false_deaths, 0);
    assert!(world.all_agree());
    assert!(gapless(&world));
}

#[test]
fn c139_catches_machines_that_do_not_refute() {
    let (world, _) = false_accusation(Sabotage::NoRefutation);
    assert!(world.verdicts().false_deaths > 0);
}

#[test]
fn c144_catches_machines_that_believe_the_last_writer() {
    let (_, rows) = false_accusation(Sabotage::LastWriterWins);
    assert!(rows.is_err());
}

/// A crash that is found, with the dead member's last Alive heard again.
fn echo(sabotage: Sabotage) -> Result<(), String> {
    let mut world = SwimOnly::settled(setup(4, 6, sabotage));
    let mut rows = Rows::default();
    let life = world.swim(3).life();
    accuse(&mut world, (1, 2), 3, life);
    let fact = Fact::Alive { node: node_id(3), life, addr: node_addr(3), meta: Meta::EMPTY };
    world.crash(3);
    let input = Input::Received {
        from: node_id(1),
        lane: Lane::Datagram,
        message: Message { body: Body::Gossip, entries: vec![Entry::Fact(fact)] },
    };
    world.tell(2, input);
    rows.check(&world)
}

#[test]
fn c136_catches_machines_that_accept_alive_at_equal_life() {
    assert_eq!(echo(Sabotage::None), Ok(()));
    assert!(echo(Sabotage::AliveAtEqualLife).is_err());
}

fn crash(sabotage: Sabotage, seed: u64) -> Option<u64> {
    let mut world = SwimOnly::settled(Setup { loss_permille: 100, ..setup(seed, 8, sabotage) });
    world.run(3 * SECOND);
    world.crash(4);
    let bound = Bounds::crash_at(&SwimConfig::of(Profile::Lan), 8, 8);
    world.run_until(nanos(bound), SECOND / 10, |world| world.all_hold(4, State::Dead))
}

#[test]
fn c138_a_crash_is_known_to_all_and_a_blind_cluster_is_caught() {
    for seed in 0..10 {
        assert!(crash(Sabotage::None, seed).is_some(), "seed {seed}");
    }
    assert_eq!(crash(Sabotage::BlindTo(4), 1), None);
}

fn split(sabotage: Sabotage, seed: u64) -> Option<u64> {
    let mut world = SwimOnly::settled(setup(seed, 10, sabotage));
    for n in 0..5 {
        world.split(n, 1);
    }
    world.run(150 * SECOND);
    assert!(world.able().all(|n| world.swim(n).member_count() == 5));
    world.heal();
    let bounds = world.bounds();
    let healed = world.run_until(nanos(bounds.heal), SECOND / 10, SwimOnly::all_members)?;
    let rounds = u32::BITS - 9_u32.leading_zeros();
    let span = nanos(bounds.heal) + nanos(bounds.sync) * u64::from(rounds);
    world.run_until(span, SECOND / 10, SwimOnly::all_agree)?;
    assert!(gapless(&world));
    Some(healed)
}

#[test]
fn c140_a_partition_heals_and_one_without_reprobes_is_caught() {
    for seed in 0..5 {
        assert!(split(Sabotage::None, seed).is_some(), "seed {seed}");
    }
    assert_eq!(split(Sabotage::NoReprobe, 1), None);
}

fn mass_restart(sabotage: Sabotage) -> bool {
    let mut world = SwimOnly::settled(setup(6, 12, sabotage));
    for n in 0..12 {
        world.run(10 * SECOND / 12);
        let seeds: &[u32] = if n == 0 { &[1] } else { &[0] };
        world.restart(n, seeds);
    }
    let heal = nanos(world.bounds().heal);
    let agreed = world.run_until(heal, SECOND / 10, SwimOnly::all_agree).is_some();
    let fenced = world.able().all(|n| {
        let mut members = world.swim(n).members();
        members.all(|member| member.life.session == Session(2))
    });
    agreed && fenced
}

#[test]
fn c141_a_mass_restart_agrees_and_a_session_not_kept_is_caught() {
    assert!(mass_restart(Sabotage::None));
    assert!(!mass_restart(Sabotage::SessionNotSynced));
}

fn leaver(sabotage: Sabotage) -> bool {
    let mut world = SwimOnly::settled(setup(7, 9, sabotage));
    world.tell(3, Input::Leave);
    world.run(30 * SECOND);
    assert!(world.nodes[3].departed, "C56");
    world.all_hold(3, State::Left)
}

#[test]
fn c142_a_leaver_is_left_and_a_death_in_its_place_is_caught() {
    assert!(leaver(Sabotage::None));
    assert!(!leaver(Sabotage::LeftBelowDead));
}

#[test]
fn c143_catches_a_revival_without_a_join() {
    let revived = |sabotage| {
        let mut world = SwimOnly::settled(setup(8, 6, sabotage));
        world.split(2, 1);
        world.run(120 * SECOND);
        world.heal();
        world.run(60 * SECOND);
        let joins = |seen: &&Seen| seen.kind == MemberEventKind::Join;
        (gapless(&world), world.seen().iter().filter(joins).count())
    };
    assert_eq!(revived(Sabotage::None), (true, 10), "five and five come back");
    assert!(!revived(Sabotage::NoJoinOnRevival).0);
}

#[test]
fn clusters_join_through_one_seed() {
    for members in [2, 16, 64] {
        let mut world = SwimOnly::joining(Setup::new(9, members));
        let span = 2 * SECOND + 2 * nanos(world.bounds().dissemination);
        let joined = world.run_until(span, SECOND / 20, SwimOnly::all_agree);
        assert!(joined.is_some(), "{members} members");
    }
}

#[test]
fn a_quiet_cluster_sends_two_datagrams_and_eighty_bytes_a_period() {
    for members in [10, 100] {
        let quiet = rates(&Setup::new(2, members), Duration::from_secs(60));
        assert!(quiet.datagrams_milli <= 2_050, "C162: {quiet:?}");
        assert!(quiet.bytes_milli <= 80_000, "C163: {quiet:?}");
        assert_eq!(quiet.suspected_milli, 0);
        let bound = 80 * u64::from(members) + 12;
        assert!(quiet.sync_bytes <= bound, "C163: {quiet:?}");
    }
}

/// C160, for T of the profile: members that probe half as often miss it.
#[test]
fn a_crash_is_suspected_within_one_period_and_six_tenths_on_average() {
    let crash = |config: SwimConfig| {
        let setup = Setup { config, loss_permille: 100, ..Setup::new(1, 16) };
        first_suspicion(&setup, 100).mean()
    };
    let config = SwimConfig::of(Profile::Lan);
    let bar = nanos(config.period) * 16 / 10;
    let slow = SwimConfig { period: config.period * 2, ..config.clone() };
    assert!(crash(config) <= bar, "C160");
    assert!(crash(slow) > bar, "a round every 2 T must miss the bar");
}

/// C161, and that it is F and λ which hold it.
#[test]
fn a_fact_reaches_all_in_the_time_of_dissemination() {
    let reached = |config: SwimConfig| {
        let setup = Setup { config, loss_permille: 100, ..Setup::new(1, 32) };
        let bound = Bounds::of(&setup.config, setup.members).dissemination;
        spread(&setup, 100).share_within(bound)
    };
    let config = SwimConfig::of(Profile::Lan);
    let narrow = SwimConfig { gossip_fanout: 1, retransmit: 1, ..config.clone() };
    assert!(reached(config) >= 990, "C161");
    assert!(reached(narrow) < 990, "one at a time, once: must miss the bar");
}

/// C166, and that it is the re-probes which hold it.
#[test]
fn a_half_half_split_heals_within_a_re_probe_and_a_second() {
    let healed = |sabotage| {
        let setup = setup(1, 10, sabotage);
        let bounds = Bounds::of(&setup.config, setup.members);
        let bar = setup.config.reprobe + Duration::from_secs(1) + bounds.gossip_all;
        heal_time(&setup, 20).share_within(bar)
    };
    assert!(healed(Sabotage::None) >= 990, "C166");
    // Some heal without them, by gossip that goes to those who died a short while ago (C52).
    assert!(healed(Sabotage::NoReprobe) < 990, "without them the bar must be missed");
}

#[test]
fn loss_alone_kills_nobody() {
    let lossy = Setup { loss_permille: 100, delay_spread: 50_000_000, ..Setup::new(5, 32) };
    let got = rates(&lossy, Duration::from_secs(300));
    assert_eq!(got.false_deaths, 0, "C165");
    assert!(got.suspected_milli <= 10, "C165: {got:?}");
    assert!(got.datagrams_milli <= 2_050 + 14 * 190, "C162: {got:?}");
}

#[test]
fn late_members_and_loss_kill_nobody() {
    let span = Duration::from_secs(600);
    assert_eq!(accuracy(&Setup::new(1, 16), 4, span), 0, "C139");
    assert_eq!(accuracy(&Setup::new(1, 2), 20, span), 0, "C139");
}

#[test]
fn lifeguard_spares_slow_members() {
    let span = Duration::from_secs(300);
    let on = Setup::new(1, 32);
    let off =
        Setup { config: without_lifeguard(&on.config), sabotage: Sabotage::NoBuddy, ..on.clone() };
    let with = slow_members(&on, 4, 2, span);
    let without = slow_members(&off, 4, 2, span);
    assert!(without >= 50 * with.max(1), "C164: {with} against {without}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = SwimOnly::settled(Setup { loss_permille: 50, ..Setup::new(seed, 12) });
        world.crash(1);
        world.run(60 * SECOND);
        (world.traffic(), world.seen().to_vec())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
