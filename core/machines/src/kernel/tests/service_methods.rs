//! Goal: the methods of section 12 that are about services do what they are for, for those who may
//! use them (K370). Method: as `methods`. The worker `v` owns the services; `w` works for others.

use super::methods::{EVERYONE, OPERATORS, let_through_in, query_in, world};
use crate::kernel::dispatch::rig::{
    acquire, at_once, bind, dispatch, done, dsp, health, info, queued, register, renew, svc,
};
use crate::kernel::dispatch::{ServiceRequest, Task};
use crate::kernel::ids::LeaseId;
use crate::kernel::query::services::ListServices;
use crate::kernel::query::{Query, Told};
use crate::kernel::reply::Done;
use crate::kernel::rig::{Rig, node, operator, pid, user, worker};
use crate::kernel::services::{ServiceMode, ServiceStatus};
use crate::kernel::{CommandBody, Refusal};

/// W P, and the node itself.
const WORKERS: [&str; 4] = ["holder", "worker", "operator", "node"];

/// The service's owner, P, and the node itself.
const SERVICE_OWNERS: [&str; 3] = ["worker", "operator", "node"];

/// W of the service's owner, P.
const SERVERS: [&str; 2] = ["worker", "operator"];

/// The world, in which the worker `v` has the services `p`, bound, and `q`.
fn serving() -> Rig {
    let mut rig = world();
    let v = worker("v");
    rig.say(&v, register(info("p", ServiceMode::Push, 2))).unwrap();
    rig.say(&v, register(info("q", ServiceMode::Pull, 2))).unwrap();
    rig.say(&node(), bind("p")).unwrap();
    rig
}

fn command(body: impl Fn() -> CommandBody) -> Vec<&'static str> {
    let_through_in(serving, |rig, by| rig.say(by, body()).map(|_| ()))
}

fn of_process(request: ServiceRequest) -> ServiceRequest {
    ServiceRequest { pid: Some(pid("a")), ..request }
}

/// Row 26: W P.
#[test]
fn row_26_register_service() {
    assert_eq!(command(|| register(info("n", ServiceMode::Pull, 1))), WORKERS);
    let mut rig = serving();
    let (_, reply) = rig.answered(&worker("v"), register(info("n", ServiceMode::Pull, 1))).unwrap();
    let Done::Service(shown) = reply.done else { panic!("no service") };
    assert_eq!((&shown.service.info.name, shown.current_load), (&svc("n"), 0));
    let again = rig.answered(&worker("v"), register(info("n", ServiceMode::Pull, 1))).unwrap();
    assert_eq!((again.0, again.1.done), (vec![], Done::Service(shown)), "K6");
}

/// Row 27: the service's owner or P.
#[test]
fn row_27_unregister_service() {
    let through = let_through_in(serving, |rig, by| {
        let body = CommandBody::UnregisterService { service: svc("q") };
        assert_eq!(rig.answered(by, body)?.1.done, Done::Nothing);
        assert!(rig.kernel.state().service(&svc("q")).is_none());
        Ok(())
    });
    assert_eq!(through, SERVICE_OWNERS);
}

/// Row 28: N.
#[test]
fn row_28_register_handler() {
    assert_eq!(command(|| bind("p")), ["node"]);
    assert_eq!(command(|| CommandBody::UnbindHandler { service: svc("p") }), ["node"]);
    let mut rig = serving();
    rig.say(&node(), CommandBody::UnbindHandler { service: svc("p") }).unwrap();
    assert!(rig.say(&operator(), dispatch(at_once("d", "p"))).is_err(), "nobody is there");
    let (_, reply) = rig.answered(&node(), bind("p")).unwrap();
    assert_eq!(reply.done, Done::Nothing);
    rig.say(&operator(), dispatch(at_once("d", "p"))).unwrap();
}

/// Row 29: O H P of its pid; without one W P.
#[test]
fn row_29_dispatch() {
    let concerned = ["owner", "holder", "operator", "node"];
    assert_eq!(command(|| dispatch(of_process(at_once("d", "p")))), concerned);
    assert_eq!(command(|| dispatch(at_once("d", "p"))), WORKERS);
    let mut rig = serving();
    for _ in 0..2 {
        let (_, reply) = rig.answered(&operator(), dispatch(queued("d", "q"))).unwrap();
        assert_eq!(reply.done, Done::Dispatched { dispatch: dsp("d"), response: None }, "K6");
    }
    let (_, reply) = rig.answered(&operator(), dispatch(at_once("e", "p"))).unwrap();
    assert_eq!(reply.done, Done::Dispatched { dispatch: dsp("e"), response: None });
}

/// Row 30: O H P of its pid, which it must have.
#[test]
fn row_30_dispatch_inference() {
    let body = || CommandBody::DispatchInference(Box::new(of_process(at_once("d", "p"))));
    assert_eq!(command(body), ["owner", "holder", "operator", "node"]);
    let mut rig = serving();
    rig.say(&user("alice"), body()).unwrap();
    let Ok(Told::Use(used)) = rig.query(&user("alice"), &Query::GetUsage { pid: pid("a") }) else {
        panic!("no use")
    };
    assert_eq!(used.used.amounts.inference_requests, 1, "K212: a try has started");
}

/// Services: get_service, list_services, can_accept, get_stats (anyone), update_health (its owner,
/// P).
#[test]
fn services_are_shown_counted_and_reported_on() {
    for query in [
        Query::GetService { service: svc("q") },
        Query::ListServices(Box::<ListServices>::default()),
        Query::CanAccept { service: svc("q") },
        Query::GetServiceStats { service: None },
    ] {
        assert_eq!(query_in(serving, &query), EVERYONE);
    }
    assert_eq!(command(|| health("q", ServiceStatus::Degraded)), SERVICE_OWNERS);

    let mut rig = serving();
    let (_, reply) = rig.answered(&worker("v"), health("q", ServiceStatus::Unhealthy)).unwrap();
    let Done::Service(shown) = reply.done else { panic!("no service") };
    assert_eq!(shown.service.status, ServiceStatus::Unhealthy);
    let asked = |query| rig.query(&user("bob"), &query).unwrap();
    assert_eq!(asked(Query::CanAccept { service: svc("q") }), Told::CanAccept(false));
    assert_eq!(asked(Query::GetService { service: svc("q") }), Told::Service(shown));
    let open = ListServices { accepting_only: true, ..ListServices::default() };
    let Told::Services(services) = asked(Query::ListServices(Box::new(open))) else {
        panic!("no services")
    };
    let names = services.iter().map(|shown| &shown.service.info.name);
    assert_eq!(names.collect::<Vec<_>>(), [&svc("p")]);
    let Told::ServiceStats(all) = asked(Query::GetServiceStats { service: None }) else {
        panic!("no counts")
    };
    assert_eq!((all.total_services, all.healthy_services, all.total_handlers), (2, 1, 1));
    let Told::ServiceStats(one) = asked(Query::GetServiceStats { service: Some(svc("q")) }) else {
        panic!("no counts")
    };
    assert_eq!((one.total_services, one.unhealthy_services), (1, 1));
    let gone = rig.query(&user("bob"), &Query::GetService { service: svc("x") }).unwrap_err();
    assert_eq!(gone.to_string(), "service_not_found: unknown service: x");
    let Ok(Told::Status(status)) = rig.query(&operator(), &Query::GetSystemStatus) else {
        panic!("no status")
    };
    assert_eq!((status.services.total_services, status.services_by_status), (2, [1, 0, 1, 0]));
    assert_eq!(query_in(serving, &Query::GetSystemStatus), OPERATORS);
}

/// Services: acquire_slot, RenewLease and release_slot, by who holds the slot.
#[test]
fn a_slot_is_acquired_renewed_and_released_by_its_holder() {
    assert_eq!(command(|| acquire("q")), WORKERS);
    let leased = |rig: &mut Rig| -> LeaseId {
        let (_, reply) = rig.answered(&worker("h"), acquire("q")).unwrap();
        let Done::Leased { lease, until } = reply.done else { panic!("no lease") };
        assert_eq!(until, rig.now.plus(60_000));
        lease
    };
    let of_slot = |act: fn(
        &mut Rig,
        &crate::kernel::principal::Principal,
        LeaseId,
    ) -> Result<(), Refusal>| {
        let_through_in(serving, |rig, by| {
            let lease = leased(rig);
            rig.now = rig.now.plus(10);
            act(rig, by, lease)
        })
    };
    let renewed = of_slot(|rig, by, lease| {
        let (_, reply) = rig.answered(by, renew(&lease))?;
        assert_eq!(reply.done, Done::Leased { lease, until: rig.now.plus(60_000) });
        Ok(())
    });
    assert_eq!(renewed, ["holder", "operator"]);
    let released = of_slot(|rig, by, lease| {
        let (_, reply) = rig.answered(by, CommandBody::ReleaseSlot { lease })?;
        assert_eq!(reply.done, Done::Nothing);
        assert_eq!(rig.kernel.state().service(&svc("q")).map(|view| view.current_load), Some(0));
        Ok(())
    });
    assert_eq!(released, ["holder", "operator"]);
}

fn leased(rig: &mut Rig) -> Vec<Task> {
    let body = CommandBody::LeaseTasks { service: svc("q"), max: 5 };
    let (_, reply) = rig.answered(&worker("v"), body).unwrap();
    let Done::Tasks(tasks) = reply.done else { panic!("no tasks") };
    tasks
}

/// Services: LeaseTasks and CompleteTask (W of the service's owner, P).
#[test]
fn tasks_are_handed_out_and_completed() {
    let body = || CommandBody::LeaseTasks { service: svc("q"), max: 5 };
    assert_eq!(command(body), SERVERS);
    let mut rig = serving();
    for id in ["d", "e", "f"] {
        rig.say(&operator(), dispatch(queued(id, "q"))).unwrap();
    }
    let tasks = leased(&mut rig);
    let told: Vec<_> = tasks.iter().map(|task| (task.dispatch.clone(), task.try_number)).collect();
    assert_eq!(told, [(dsp("d"), 1), (dsp("e"), 1)], "two fit");
    let (_, reply) = rig.answered(&worker("v"), done(&tasks[0].lease, "out")).unwrap();
    assert_eq!(reply.done, Done::Nothing);
    let (_, reply) = rig.answered(&operator(), dispatch(queued("d", "q"))).unwrap();
    let Done::Dispatched { response: Some(response), .. } = reply.done else { panic!("no end") };
    assert!(response.success, "a repeat is answered from the state (K6)");

    let completed = let_through_in(serving, |rig, by| {
        rig.say(&operator(), dispatch(queued("d", "q"))).unwrap();
        let tasks = leased(rig);
        rig.say(by, done(&tasks[0].lease, "out")).map(|_| ())
    });
    assert_eq!(completed, SERVERS);
}

/// Services: CancelDispatch (its owner, P).
#[test]
fn a_dispatch_is_cancelled_by_its_owner() {
    let through = let_through_in(serving, |rig, by| {
        rig.say(&user("alice"), dispatch(of_process(queued("d", "q")))).unwrap();
        let (_, reply) = rig.answered(by, CommandBody::CancelDispatch { dispatch: dsp("d") })?;
        let Done::Dispatched { response: Some(response), .. } = reply.done else {
            panic!("not ended")
        };
        assert!(!response.success);
        Ok(())
    });
    assert_eq!(through, ["owner", "operator", "node"]);
}
