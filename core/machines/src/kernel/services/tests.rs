//! Goal: every rule of K190–K196 and K213 by an example.

use super::event::SlotEvent;
use super::*;
use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::rig::{
    acquire, bind, dispatch, done, dsp, granted, health, info, kind_of, queued, register, renew,
    svc,
};
use crate::kernel::dispatch::{ServiceRequest, Target};
use crate::kernel::event::Body;
use crate::kernel::json::Json;
use crate::kernel::rig::{Rig, node, operator, pid, reserve, submit, told, user, worker};
use crate::kernel::services::desk::ServiceStats;

use ServiceMode::Pull;

fn release(lease: &LeaseId) -> CommandBody {
    CommandBody::ReleaseSlot { lease: lease.clone() }
}

/// K190, K410: once, by workers and operators, and with bounds that make sense.
#[test]
fn a_name_is_taken_once_unless_nothing_differs() {
    let mut rig = Rig::new();
    assert_eq!(rig.hear(register(info("s", Pull, 2))), "1 events");
    assert_eq!(rig.hear(register(info("s", Pull, 2))), "0 events");
    let refused = "service_exists: service s exists with different content";
    assert_eq!(rig.hear(register(info("s", Pull, 3))), refused);
    assert_eq!(told(rig.say(&worker("v"), register(info("s", Pull, 2)))), refused);
    let refused = "bad_value: max_concurrent must be at least 1";
    assert_eq!(rig.hear(register(info("t", Pull, 0))), refused);
    let refused = "too_many: max_concurrent: 65537, at most 65536";
    assert_eq!(rig.hear(register(info("t", Pull, 65_537))), refused);
    let refused = "permission_denied: only workers and operators register services";
    assert_eq!(told(rig.say(&user("alice"), register(info("t", Pull, 2)))), refused);
    let never = ServiceInfo { health_ttl_ms: Limit::at_most(0), ..info("t", Pull, 2) };
    assert_eq!(rig.hear(register(never)), "bad_value: health_ttl_ms: 0 is not in 1..=2592000000");
    let ever = ServiceInfo { health_ttl_ms: Limit::at_most(2_592_000_001), ..info("t", Pull, 2) };
    let refused = "too_large: health_ttl_ms: 2592000001, at most 2592000000";
    assert_eq!(rig.hear(register(ever)), refused, "K25");
}

/// K25: there are so many services and no more.
#[test]
fn one_service_too_many_is_refused() {
    let mut config = KernelConfig::new();
    config.limits.services = 1;
    let mut rig = Rig::with(config);
    rig.work(register(info("s", Pull, 2)));
    assert_eq!(rig.hear(register(info("t", Pull, 2))), "too_many: services: at most 1");
}

/// K190: slots and dispatches of a service go with it.
#[test]
fn what_a_service_had_to_do_is_lost_with_it() {
    let mut rig = Rig::served(2);
    let slot = granted(&rig.work(acquire("p"))[0]).unwrap();
    rig.work(dispatch(queued("run", "p")));
    rig.work(dispatch(queued("wait", "p")));
    let gone = CommandBody::UnregisterService { service: svc("p") };
    let refused = "permission_denied: service p belongs to another user";
    assert_eq!(told(rig.say(&worker("v"), gone.clone())), refused);
    let before = rig.events.len();
    rig.work(gone.clone());
    let kinds = ["dispatch.finished", "dispatch.finished", "slot.released", "service.unregistered"];
    assert_eq!(rig.kinds(before), kinds);
    assert_eq!((rig.stage("run"), rig.stage("wait")), ("lost", "lost"));
    assert_eq!(rig.hear(release(&slot)), format!("lease_not_found: lease not found: {slot}"));
    assert_eq!(rig.hear(gone), "service_not_found: unknown service: p");
    assert_eq!(rig.kernel.state.desks.stats().total_load, 0);
}

/// K191: by type, by what they can do, and only those with room, in order of name.
#[test]
fn services_are_listed_by_type_and_capability() {
    let mut rig = Rig::new();
    let can = |name: &str| Capability::parse("capability", name).unwrap();
    for (name, what) in [("b", "draw"), ("a", "write"), ("c", "draw")] {
        let capabilities = [can(what)].into();
        rig.work(register(ServiceInfo { capabilities, ..info(name, Pull, 1) }));
    }
    let other = ServiceInfo { service_type: kind_of("inference"), ..info("d", Pull, 1) };
    rig.work(register(other));
    rig.work(acquire("b"));
    let list = |of: Option<&str>, what: Option<&str>, accepting| {
        let (of, what) = (of.map(kind_of), what.map(can));
        let views = rig.kernel.state.list_services(of.as_ref(), what.as_ref(), accepting);
        views.map(|view| view.service.info.name.to_string()).collect::<Vec<_>>().concat()
    };
    assert_eq!(list(None, None, false), "abcd");
    assert_eq!(list(Some("flow"), None, false), "abc");
    assert_eq!(list(Some("flow"), Some("draw"), false), "bc");
    assert_eq!(list(None, Some("draw"), true), "c");
    assert_eq!(list(Some("worker"), None, false), "");
    assert_eq!(rig.kernel.state.can_accept(&svc("b")), Ok(false));
    assert!(rig.kernel.state.can_accept(&svc("x")).is_err());
}

/// K194: Degraded takes half, rounded up; what was granted stays.
#[test]
fn capacity_follows_health_and_granted_slots_stay() {
    let mut rig = Rig::new();
    rig.work(register(info("s", Pull, 3)));
    rig.work(acquire("s"));
    rig.work(acquire("s"));
    rig.work(health("s", ServiceStatus::Degraded));
    assert_eq!(rig.hear(acquire("s")), "service_at_capacity: service at capacity: s");
    for status in [ServiceStatus::Unhealthy, ServiceStatus::Unknown] {
        rig.work(health("s", status));
        assert_eq!(rig.hear(acquire("s")), "service_unhealthy: service unhealthy: s");
    }
    assert_eq!(rig.load("s"), 2);
    rig.work(health("s", ServiceStatus::Healthy));
    assert_eq!(rig.hear(acquire("s")), "1 events");
    let refused = "permission_denied: service s belongs to another user";
    let body = health("s", ServiceStatus::Healthy);
    assert_eq!(told(rig.say(&user("alice"), body.clone())), refused);
    assert_eq!(told(rig.say(&operator(), body)), "1 events");
}

/// K195: silence makes a service Unknown, then Unhealthy; a report starts anew.
#[test]
fn a_service_that_says_nothing_is_believed_less_and_less() {
    let mut rig = Rig::new();
    let remote = ServiceInfo { health_ttl_ms: Limit::at_most(30_000), ..info("s", Pull, 2) };
    rig.work(register(remote));
    rig.pass(29_999);
    assert_eq!(rig.status("s"), ServiceStatus::Healthy);
    rig.work(health("s", ServiceStatus::Degraded));
    rig.pass(29_999);
    assert_eq!(rig.status("s"), ServiceStatus::Degraded);
    rig.pass(1);
    assert_eq!(rig.status("s"), ServiceStatus::Unknown);
    rig.pass(59_999);
    assert_eq!(rig.status("s"), ServiceStatus::Unknown);
    rig.pass(1);
    assert_eq!(rig.status("s"), ServiceStatus::Unhealthy);
    assert_eq!(rig.kernel.next_deadline(), None, "it cannot get worse");
}

/// K195: work that goes on is a report.
#[test]
fn a_worker_that_goes_on_keeps_its_service_healthy() {
    let mut rig = Rig::served(2);
    let ttl = Limit::at_most(20_000);
    rig.work(register(ServiceInfo { health_ttl_ms: ttl, ..info("r", Pull, 2) }));
    rig.work(dispatch(ServiceRequest { try_timeout_ms: 200_000, ..queued("d", "r") }));
    let events = rig.work(CommandBody::LeaseTasks { service: svc("r"), max: 1 });
    let lease = granted(&events[0]).unwrap();
    rig.pass(15_000);
    assert_eq!(rig.hear(renew(&lease)), "1 events");
    rig.pass(19_999);
    assert_eq!(rig.status("r"), ServiceStatus::Healthy, "the renewal was a report");
    rig.pass(1);
    assert_eq!(rig.status("r"), ServiceStatus::Unknown);
    let before = rig.events.len();
    rig.work(renew(&lease));
    assert_eq!(rig.kinds(before), ["service.health_changed", "dispatch.renewed"]);
    assert_eq!(rig.status("r"), ServiceStatus::Healthy, "and lifts Unknown");
    rig.pass(19_000);
    rig.work(done(&lease, "x"));
    rig.pass(19_999);
    assert_eq!(rig.status("r"), ServiceStatus::Healthy, "and so is a completion");
}

/// K195: so is a renewal that makes no lease longer.
#[test]
fn a_renewal_is_heard_even_if_the_lease_is_long_enough() {
    let mut rig = Rig::served(2);
    let ttl = Limit::at_most(30_000);
    rig.work(register(ServiceInfo { health_ttl_ms: ttl, ..info("r", Pull, 2) }));
    rig.work(dispatch(ServiceRequest { try_timeout_ms: 4_000_000, ..queued("d", "r") }));
    let events = rig.work(CommandBody::LeaseTasks { service: svc("r"), max: 1 });
    let lease = granted(&events[0]).unwrap();
    let hour =
        CommandBody::RenewLease { lease: lease.clone(), pid: None, lease_ms: Some(3_600_000) };
    assert_eq!(rig.hear(hour), "1 events");
    for _ in 0..3 {
        rig.pass(29_999);
        assert_eq!(rig.hear(renew(&lease)), "1 events");
        assert_eq!(rig.status("r"), ServiceStatus::Healthy);
    }
    rig.pass(30_000);
    assert_eq!(rig.status("r"), ServiceStatus::Unknown, "nobody renewed");
    rig.work(renew(&lease));
    assert_eq!(rig.status("r"), ServiceStatus::Healthy);
    rig.pass(3_600_000 - 120_000);
    assert_eq!(rig.stage("d"), "running", "the lease is as long as it was");
}

/// K196, K410: a slot is its holder's until it is released, once, or its lease ends.
#[test]
fn a_slot_comes_back_once() {
    let mut rig = Rig::served(1);
    let lease = granted(&rig.work(acquire("q"))[0]).unwrap();
    assert_eq!(rig.hear(acquire("q")), "service_at_capacity: service at capacity: q");
    let refused = "not_holder: somebody else holds the lease";
    assert_eq!(told(rig.say(&worker("v"), release(&lease))), refused);
    assert_eq!(told(rig.say(&worker("v"), renew(&lease))), refused);
    rig.pass(40_000);
    assert_eq!(rig.hear(renew(&lease)), "1 events");
    rig.pass(59_999);
    assert_eq!(rig.load("q"), 1);
    assert_eq!(rig.hear(release(&lease)), "1 events");
    let refused = format!("lease_not_found: lease not found: {lease}");
    assert_eq!(rig.hear(release(&lease)), refused);
    assert_eq!(rig.hear(renew(&lease)), refused);
    rig.work(acquire("q"));
    rig.pass(60_000);
    assert_eq!(rig.load("q"), 0, "a crashed worker's slot comes back");
    let asked = |lease_ms| CommandBody::AcquireSlot { service: svc("q"), pid: None, lease_ms };
    assert_eq!(rig.hear(asked(Some(999))), "bad_value: lease_ms: 999 is not in 1000..=3600000");
    let refused = "too_large: lease_ms: 3600001, at most 3600000";
    assert_eq!(rig.hear(asked(Some(3_600_001))), refused, "K25");
    assert_eq!(rig.hear(acquire("x")), "service_not_found: unknown service: x");
}

/// K196, K27, K370: for a process, by those who may act for it.
#[test]
fn a_slot_for_a_process_is_for_those_who_may_act_for_it() {
    let mut rig = Rig::served(2);
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let body = CommandBody::AcquireSlot { service: svc("q"), pid: Some(pid("a")), lease_ms: None };
    assert_eq!(told(rig.say(&alice, body.clone())), "1 events");
    assert_eq!(rig.events.last().unwrap().subject.pid, Some(pid("a")));
    let refused = "permission_denied: process a belongs to another user";
    assert_eq!(told(rig.say(&user("bob"), body)), refused);
    let refused = "permission_denied: only workers and operators call services without a process";
    assert_eq!(told(rig.say(&alice, acquire("q"))), refused);
}

/// K192: only the node binds, only for services that it calls itself.
#[test]
fn handlers_are_the_nodes() {
    let mut rig = Rig::served(1);
    assert_eq!(told(rig.say(&node(), bind("p"))), "0 events", "it takes the place of the first");
    let refused = "permission_denied: only the node itself does this";
    assert_eq!(rig.hear(bind("p")), refused);
    let refused = "bad_value: service q is served by workers that ask";
    assert_eq!(told(rig.say(&node(), bind("q"))), refused);
    assert_eq!(told(rig.say(&node(), bind("x"))), "service_not_found: unknown service: x");
    let unbind = || CommandBody::UnbindHandler { service: svc("p") };
    assert_eq!(told(rig.say(&node(), unbind())), "1 events");
    assert_eq!(told(rig.say(&node(), unbind())), "0 events");
    assert_eq!(rig.hear(acquire("p")), "no_handler: no handler for service: p");
}

/// K11: bindings go with the node; slots have their full length again.
#[test]
fn a_restart_drops_bindings_and_gives_leases_their_length_again() {
    let mut rig = Rig::served(2);
    rig.work(acquire("q"));
    rig.now = rig.now.plus(10_000_000);
    rig.start_again();
    assert_eq!(rig.hear(acquire("p")), "no_handler: no handler for service: p");
    rig.pass(59_999);
    assert_eq!(rig.load("q"), 1);
    rig.pass(1);
    assert_eq!(rig.load("q"), 0);
}

/// K213: counts are those of the services.
#[test]
fn statistics_are_counted_as_things_happen() {
    let mut rig = Rig::served(3);
    rig.work(acquire("q"));
    rig.work(health("p", ServiceStatus::Unhealthy));
    let stats = ServiceStats {
        total_services: 2,
        healthy_services: 1,
        unhealthy_services: 1,
        total_handlers: 1,
        total_load: 1,
        total_capacity: 6,
    };
    assert_eq!(rig.kernel.state.desks.stats(), stats);
    let view = rig.kernel.state.service(&svc("q")).unwrap();
    assert_eq!(ServiceStats::of(view.service, view.current_load).total_load, 1);
    assert_eq!(rig.kernel.state.desks.by_status(ServiceStatus::Unhealthy), 1);
    let types: Vec<_> = rig.kernel.state.desks.by_type().collect();
    assert_eq!(types, [(&kind_of("flow"), 2)]);
}

/// K78, K107: the same command renews the lease of a run and of a reservation.
#[test]
fn one_command_renews_every_lease() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&worker("w"), CommandBody::NextRunnable).unwrap();
    let run = rig.process("a").run_lease.clone().unwrap().lease;
    assert_eq!(rig.hear(renew(&run)), "0 events", "more than half is left");
    rig.pass(31_000);
    let refused = "not_holder: somebody else holds the lease";
    assert_eq!(told(rig.say(&worker("v"), renew(&run))), refused);
    assert_eq!(rig.hear(renew(&run)), "1 events");

    rig.say(&alice, reserve("a", "r", crate::kernel::rig::calls(1))).unwrap();
    rig.pass(59_000);
    let reservation = LeaseId::parse("lease", "r").unwrap();
    assert_eq!(told(rig.say(&user("bob"), renew(&reservation))), refused);
    assert_eq!(told(rig.say(&alice, renew(&reservation))), "1 events");
    rig.pass(119_999);
    assert_eq!(rig.process("a").reservations.len(), 1);
    rig.pass(1);
    assert_eq!(rig.process("a").reservations.len(), 0, "charged at the end");
    let refused = "lease_not_found: lease not found: r";
    assert_eq!(told(rig.say(&alice, renew(&reservation))), refused);
}

/// K202: the most room for its size; without room, the fewest that wait; ties by name.
#[test]
fn a_type_stands_for_its_service_with_the_most_room() {
    let mut rig = Rig::new();
    rig.work(register(info("b", Pull, 4)));
    rig.work(register(info("a", Pull, 1)));
    let by_type = |id: &str, queue| {
        let target = Target::Type { service_type: kind_of("flow"), capability: None };
        let request = ServiceRequest::new(target, "run", Json::NULL);
        dispatch(ServiceRequest { dispatch: Some(dsp(id)), queue, ..request })
    };
    let chosen =
        |rig: &Rig, id: &str| rig.kernel.state.dispatch(&dsp(id)).unwrap().service.to_string();
    rig.work(by_type("d1", false));
    assert_eq!(chosen(&rig, "d1"), "a", "a tie");
    rig.work(by_type("d2", false));
    assert_eq!(chosen(&rig, "d2"), "b", "the other one is taken");
    rig.work(health("b", ServiceStatus::Unhealthy));
    let refused = rig.hear(by_type("d3", false));
    assert_eq!(refused, "service_at_capacity: service at capacity: a", "a tie by name");
    rig.work(by_type("d3", true));
    assert_eq!(chosen(&rig, "d3"), "a");
    let refused = rig.hear(by_type("d4", false));
    assert_eq!(refused, "service_unhealthy: service unhealthy: b", "fewer wait there");
    let target = Target::Type { service_type: kind_of("none"), capability: None };
    let unknown = dispatch(ServiceRequest::new(target, "run", Json::NULL));
    assert_eq!(rig.hear(unknown), "service_not_found: unknown service: none");
}

/// Section 10: what is told of a slot says whose it is.
#[test]
fn events_of_slots_name_service_and_holder() {
    let mut rig = Rig::served(1);
    let events = rig.work(acquire("q"));
    let Body::Slot { event: SlotEvent::Acquired { service, holder, .. } } = &events[0].body else {
        panic!("{events:?}");
    };
    assert_eq!((service, holder.user.as_str()), (&svc("q"), "w"));
    assert_eq!(events[0].subject.user.as_ref().map(UserId::as_str), Some("w"));
}
