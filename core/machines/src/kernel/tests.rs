//! Goal: the life and the budget of processes by examples (sections 3, 4 and 14).

mod methods;
mod service_methods;
mod session_methods;

use super::CommandBody;
use super::config::KernelConfig;
use super::names::{ProcessState, TerminalReason};
use super::principal::Role;
use super::quota::{Amounts, Limit, QuotaField};
use super::rig::{
    Rig, calls, limits, operator, pid, record, reserve, rsv, settle, submit, told, user, worker,
};

fn terminate(name: &str, force: bool) -> CommandBody {
    CommandBody::Terminate { pid: pid(name), message: "enough".to_owned(), force }
}

fn to(name: &str, to: ProcessState) -> CommandBody {
    CommandBody::TransitionState { pid: pid(name), to, reason: "because".to_owned() }
}

/// K63: a chosen pid makes a submit idempotent, and nobody else's.
#[test]
fn a_repeated_submit_is_known_and_a_different_one_is_refused() {
    let mut rig = Rig::new();
    let (alice, bob) = (user("alice"), user("bob"));
    let body = |name| CommandBody::Submit(Box::new(submit(name)));
    assert_eq!(told(rig.say(&alice, body("a"))), "1 events");
    assert_eq!(told(rig.say(&alice, body("a"))), "0 events");
    let other = super::lifecycle::Submit { driven: true, ..submit("a") };
    let other = CommandBody::Submit(Box::new(other));
    let refused = "submit_conflict: process a exists with different content";
    assert_eq!(told(rig.say(&alice, other)), refused);
    let refused = "permission_denied: process a belongs to another user";
    assert_eq!(told(rig.say(&bob, body("a"))), refused);
}

/// K64: nobody but an operator gets more than the ceiling; what is not given is the default.
#[test]
fn a_quota_above_the_ceiling_is_refused() {
    let mut config = KernelConfig::new();
    config.quota_ceiling.max_llm_calls = Limit::at_most(1_000);
    let mut rig = Rig::with(config);
    let greedy = || {
        let quota = limits(&[(QuotaField::MaxLlmCalls, 5_000)]);
        let greedy = super::lifecycle::Submit { quota, ..submit("a") };
        CommandBody::Submit(Box::new(greedy))
    };
    let refused = "quota_above_ceiling: max_llm_calls: 5000, at most 1000";
    assert_eq!(told(rig.say(&user("alice"), greedy())), refused);
    assert_eq!(told(rig.say(&operator(), greedy())), "1 events");
    assert_eq!(rig.process("a").quota.max_tool_calls, Limit::at_most(50));
}

/// K65, K70, K78, K79: New, Ready, Running under a lease, and Ready again when it ends.
#[test]
fn a_claim_that_is_not_renewed_ends() {
    let mut rig = Rig::new();
    rig.ready(&user("alice"), submit("a"));
    assert_eq!(rig.state("a"), ProcessState::Ready);
    assert_eq!(told(rig.say(&worker("w"), CommandBody::NextRunnable)), "1 events");
    assert_eq!(rig.state("a"), ProcessState::Running);
    let refused = "no_runnable: no process waits to be run";
    assert_eq!(told(rig.say(&worker("w"), CommandBody::NextRunnable)), refused);

    // Half of the lease is over: what the holder does renews it.
    rig.pass(31_000);
    assert_eq!(told(rig.say(&worker("w"), record("a", calls(1)))), "2 events");
    rig.pass(59_999);
    assert_eq!(rig.state("a"), ProcessState::Running);
    rig.pass(1);
    assert_eq!(rig.state("a"), ProcessState::Ready);
    assert_eq!(rig.process("a").account.used.elapsed_ms, 91_000, "K111: time in Running");
}

/// K74: who works for nobody else gets only its own.
#[test]
fn a_user_claims_only_its_own() {
    let mut rig = Rig::new();
    rig.ready(&user("alice"), submit("a"));
    let refused = "no_runnable: no process waits to be run";
    assert_eq!(told(rig.say(&user("bob"), CommandBody::NextRunnable)), refused);
    assert_eq!(told(rig.say(&user("alice"), CommandBody::NextRunnable)), "1 events");
}

/// K60, K410: what the table does not list is refused, naming what is legal.
#[test]
fn a_transition_that_is_not_in_the_table_is_refused() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.say(&alice, CommandBody::Submit(Box::new(submit("a")))).unwrap();
    let refused = "illegal_transition: new -> running: legal are ready, terminated";
    assert_eq!(told(rig.say(&alice, to("a", ProcessState::Running))), refused);
    assert_eq!(told(rig.say(&alice, to("a", ProcessState::New))), "0 events", "to where it is");
    for next in [ProcessState::Ready, ProcessState::Running, ProcessState::Waiting] {
        assert_eq!(told(rig.say(&alice, to("a", next))), "1 events");
    }
    assert_eq!(rig.process("a").wait.as_deref(), Some("because"));
    for next in [ProcessState::Ready, ProcessState::Running, ProcessState::Blocked] {
        assert_eq!(told(rig.say(&alice, to("a", next))), "1 events");
    }
    let gone = "process_not_found: process not found: x";
    assert_eq!(told(rig.say(&alice, to("x", ProcessState::Ready))), gone);
}

/// K82, K84: a running process wants force, and takes its descendants along.
#[test]
fn what_ends_takes_its_children_along() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let child =
        |name, parent: &str| super::lifecycle::Submit { parent: Some(pid(parent)), ..submit(name) };
    rig.ready(&alice, child("b", "a"));
    rig.ready(&alice, child("c", "b"));
    rig.ready(&alice, child("d", "a"));
    rig.say(&alice, to("a", ProcessState::Running)).unwrap();
    let refused = "force_required: process a is running: use force";
    assert_eq!(told(rig.say(&alice, terminate("a", false))), refused);
    let before = rig.events.len();
    assert_eq!(told(rig.say(&alice, terminate("a", true))), "4 events");
    let ended = rig.events[before..].iter();
    let ended: Vec<_> = ended.map(|event| event.subject.pid.clone().unwrap()).collect();
    assert_eq!(ended, [pid("a"), pid("b"), pid("c"), pid("d")], "depth first, in order of pid");
    assert_eq!(rig.process("c").terminal_reason, Some(TerminalReason::ParentTerminated));
    assert_eq!(told(rig.say(&alice, terminate("a", true))), "0 events");
    let late = CommandBody::Submit(Box::new(child("e", "a")));
    assert_eq!(told(rig.say(&alice, late)), "parent_terminal: parent a has ended");
}

/// K84, K25: a tree is at most eight deep.
#[test]
fn a_tree_of_processes_is_not_too_deep() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("p1"));
    for depth in 2..=8 {
        let parent = Some(pid(&format!("p{}", depth - 1)));
        rig.ready(&alice, super::lifecycle::Submit { parent, ..submit(&format!("p{depth}")) });
    }
    let deeper = super::lifecycle::Submit { parent: Some(pid("p8")), ..submit("p9") };
    let refused = "too_deep: tree depth 9, at most 8";
    assert_eq!(told(rig.say(&alice, CommandBody::Submit(Box::new(deeper)))), refused);
}

/// K101, K102, K410: a reservation fits at every level, or is refused where it does not.
#[test]
fn a_reservation_beyond_any_budget_above_is_refused() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 10)]);
    rig.ready(&alice, super::lifecycle::Submit { quota, ..submit("a") });
    rig.ready(&alice, super::lifecycle::Submit { parent: Some(pid("a")), ..submit("b") });
    assert_eq!(told(rig.say(&alice, record("a", calls(10)))), "2 events", "and a warning");
    let refused = "quota_exceeded: llm_calls: 10 used, 0 held, limit 10";
    assert_eq!(told(rig.say(&alice, reserve("a", "r", calls(1)))), refused);
    assert_eq!(
        told(rig.say(&alice, reserve("b", "r", calls(1)))),
        format!("{refused}, of ancestor a")
    );
}

/// K102: it is the first resource in order that is told of, and then the nearest level.
#[test]
fn of_several_shortages_the_first_resource_is_told() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 3), (QuotaField::MaxToolCalls, 3)]);
    rig.ready(&alice, super::lifecycle::Submit { quota, ..submit("a") });
    let quota = limits(&[(QuotaField::MaxToolCalls, 2)]);
    let below = super::lifecycle::Submit { quota, parent: Some(pid("a")), ..submit("b") };
    rig.ready(&alice, below);
    let mut refused = |llm_calls, tool_calls| {
        let amounts = Amounts { llm_calls, tool_calls, ..Amounts::ZERO };
        told(rig.say(&alice, reserve("b", "r", amounts)))
    };
    let above = "quota_exceeded: llm_calls: 0 used, 0 held, limit 3, of ancestor a";
    assert_eq!(refused(4, 4), above);
    assert_eq!(refused(3, 4), "quota_exceeded: tool_calls: 0 used, 0 held, limit 2");
}

/// K105: the ledger records what happened, even if it is more than was reserved.
#[test]
fn settling_charges_what_was_used_at_every_level() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.ready(&alice, super::lifecycle::Submit { parent: Some(pid("a")), ..submit("b") });
    rig.say(&alice, reserve("b", "r", calls(2))).unwrap();
    assert_eq!(rig.process("a").account.held, calls(2));
    rig.say(&alice, settle("b", "r", calls(5))).unwrap();
    for name in ["a", "b"] {
        let account = rig.process(name).account;
        assert_eq!((account.used.amounts, account.held), (calls(5), Amounts::ZERO));
        assert_eq!(account.unreserved, calls(3));
    }
}

/// K108: reserving, settling and releasing again answer as before; otherwise they are refused.
#[test]
fn a_closed_reservation_stays_as_it_was_closed() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let release = || CommandBody::Release { pid: pid("a"), reservation: rsv("r") };
    assert_eq!(told(rig.say(&alice, reserve("a", "r", calls(2)))), "1 events");
    assert_eq!(told(rig.say(&alice, reserve("a", "r", calls(2)))), "0 events");
    let refused = "reservation_conflict: reservation r exists with different content";
    assert_eq!(told(rig.say(&alice, reserve("a", "r", calls(3)))), refused);
    assert_eq!(told(rig.say(&alice, settle("a", "r", calls(1)))), "1 events");
    assert_eq!(told(rig.say(&alice, settle("a", "r", calls(1)))), "0 events");
    assert_eq!(told(rig.say(&alice, reserve("a", "r", calls(2)))), "0 events", "long since done");
    let refused = "reservation_closed: reservation r was settled";
    assert_eq!(told(rig.say(&alice, settle("a", "r", calls(2)))), refused);
    assert_eq!(told(rig.say(&alice, release())), refused);
    let unknown = "reservation_not_found: reservation not found: q";
    assert_eq!(told(rig.say(&alice, settle("a", "q", calls(2)))), unknown);
}

/// K107, K410: the call may have been made.
#[test]
fn a_reservation_that_is_never_settled_is_charged_in_full() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&alice, reserve("a", "r", calls(2))).unwrap();
    rig.pass(119_999);
    assert_eq!(rig.process("a").account.held, calls(2));
    rig.pass(1);
    assert_eq!(rig.process("a").account.used.amounts, calls(2));
    let refused = "reservation_closed: reservation r was charged at the end of its lease";
    assert_eq!(told(rig.say(&alice, settle("a", "r", calls(2)))), refused);
}

/// K111, K112: time counts while it runs, and no other time.
#[test]
fn a_process_ends_when_its_running_time_is_used_up() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::TimeoutMs, 10_000)]);
    rig.ready(&alice, super::lifecycle::Submit { quota, ..submit("a") });
    rig.pass(1_000_000);
    rig.say(&alice, to("a", ProcessState::Running)).unwrap();
    rig.pass(6_000);
    rig.say(&alice, to("a", ProcessState::Waiting)).unwrap();
    rig.pass(1_000_000);
    rig.say(&alice, to("a", ProcessState::Ready)).unwrap();
    rig.say(&alice, to("a", ProcessState::Running)).unwrap();
    rig.pass(3_999);
    assert_eq!(rig.state("a"), ProcessState::Running);
    let before = rig.events.len();
    rig.pass(1);
    assert_eq!(rig.process("a").terminal_reason, Some(TerminalReason::TimeoutExceeded));
    assert_eq!(rig.kinds(before), ["process.terminated"], "a warning would come too late");
}

/// K113, K114, K117: one warning, one notice, and both again when the limit was raised.
#[test]
fn warnings_are_told_once_until_the_limit_is_raised() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 10)]);
    rig.ready(&alice, super::lifecycle::Submit { quota, ..submit("a") });
    let mut tell = |by: &super::principal::Principal, body| {
        let before = rig.events.len();
        rig.say(by, body).unwrap();
        rig.kinds(before)
    };
    assert_eq!(tell(&alice, record("a", calls(7))), ["quota.recorded"]);
    assert_eq!(tell(&alice, record("a", calls(1))), ["quota.recorded", "quota.warning"]);
    assert_eq!(tell(&alice, record("a", calls(1))), ["quota.recorded"]);
    assert_eq!(tell(&alice, record("a", calls(2))), ["quota.recorded", "quota.exceeded"]);
    let adjust = |most| CommandBody::AdjustQuota {
        pid: pid("a"),
        quota: limits(&[(QuotaField::MaxLlmCalls, most)]),
    };
    assert_eq!(tell(&operator(), adjust(20)), ["quota.adjusted"]);
    assert_eq!(tell(&alice, record("a", calls(5))), ["quota.recorded", "quota.warning"]);
    assert_eq!(tell(&alice, adjust(4)), ["quota.adjusted", "quota.exceeded"], "owners may lower");
    let refused = "permission_denied: max_llm_calls: only an operator raises it above 4";
    assert_eq!(told(rig.say(&alice, adjust(5))), refused);
}

/// K85, K122, K360: Terminated, then Zombie with what was reserved charged, then nothing.
#[test]
fn what_is_over_is_kept_for_a_while() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let reserved = super::budget::Reserve {
        pid: pid("a"),
        reservation: Some(rsv("r")),
        attempt: None,
        amounts: calls(3),
        lease_ms: Some(3_600_000),
    };
    rig.say(&alice, CommandBody::Reserve(Box::new(reserved))).unwrap();
    rig.say(&alice, terminate("a", false)).unwrap();
    let live = "process_terminal: process a has ended";
    assert_eq!(told(rig.say(&alice, record("a", calls(1)))), live);
    rig.pass(3_600_000);
    assert_eq!(rig.state("a"), ProcessState::Zombie);
    assert_eq!(rig.process("a").account.used.amounts, calls(3));
    rig.pass(24 * 3_600_000);
    assert_eq!(rig.kernel.process(&pid("a")), None);
    assert_eq!(rig.kernel.next_deadline(), None, "nothing is left to do");
}

/// K7, K449: time in events never decreases, whatever the clock does.
#[test]
fn a_clock_that_jumps_back_makes_time_stand_still() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let then = rig.now;
    rig.now = super::Time::from_millis(5);
    rig.say(&alice, record("a", calls(1))).unwrap();
    assert_eq!(rig.events.last().unwrap().time, then);
    assert!(rig.events.is_sorted_by_key(|event| event.time));
}

/// K74, K290: what the node drives is claimed by nobody else, by name neither.
#[test]
fn a_driven_process_is_not_claimed_by_its_name() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, super::lifecycle::Submit { driven: true, ..submit("a") });
    for by in [&alice, &operator()] {
        let refused = "not_holder: process a is driven by the node";
        assert_eq!(told(rig.say(by, to("a", ProcessState::Running))), refused);
    }
    rig.say(&alice, to("a", ProcessState::Ready)).unwrap();
    rig.say(&super::rig::node(), CommandBody::NextRunnable).unwrap();
    rig.say(&alice, to("a", ProcessState::Blocked)).unwrap();
    rig.say(&alice, to("a", ProcessState::Ready)).unwrap();
    assert_eq!(rig.state("a"), ProcessState::Ready, "its owner stops it, and lets it go again");
}

/// K26: nobody passes for the node by its name, whatever else it may.
#[test]
fn a_user_of_the_nodes_name_is_refused() {
    use super::execution::token::Token;
    use super::sessions::rig::{linear, start, success};
    let mut rig = Rig::new();
    let (alice, node) = (user("alice"), super::rig::node());
    rig.ready(&alice, super::lifecycle::Submit { driven: true, ..submit("p") });
    rig.say(&alice, start(linear(), "e", false)).unwrap();
    let poll = CommandBody::NextInstruction { pid: pid("p") };
    rig.say(&node, poll).unwrap();
    let session = rig.kernel.state().session(&pid("p")).unwrap();
    let attempt = session.attempts.keys().next().unwrap().clone();
    let report = || CommandBody::ReportAgentResult(Box::new(success(&attempt, "draft", "{}")));
    let refused = "permission_denied: user \"node\" is the node itself: take another name";
    for role in [Role::User, Role::Worker, Role::Operator] {
        let by = super::principal::Principal::new(node.user.clone(), &[role]);
        assert_eq!(told(rig.say(&by, report())), refused);
        let query = super::query::Query::GetProcess { pid: pid("p") };
        assert_eq!(rig.query(&by, &query).unwrap_err().to_string(), refused);
        let text = std::sync::Arc::from("la");
        let token = Token { pid: pid("p"), attempt: attempt.clone(), index: 0, text };
        let wrong = rig.kernel.check_token(&by, None, &token).unwrap_err();
        assert_eq!(wrong.to_string(), refused);
    }
    assert!(told(rig.say(&node, report())).ends_with("events"));
}

/// K11: the time while the node was down is nobody's, and leases have their full length again.
#[test]
fn a_restart_takes_no_time_from_anyone() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&alice, to("a", ProcessState::Running)).unwrap();
    rig.say(&alice, reserve("a", "r", calls(1))).unwrap();
    rig.now = rig.now.plus(10_000_000);
    let node = super::principal::Principal::new(
        super::ids::UserId::parse("user", "node").unwrap(),
        &[super::principal::Role::Node],
    );
    let config = Box::new(KernelConfig::new());
    let start =
        super::Command { by: node, worker: None, rate: None, body: CommandBody::Start { config } };
    rig.kernel.execute(super::At { now: rig.now, nonce: [9; 16] }, &start).unwrap();
    assert_eq!(rig.process("a").elapsed(rig.now), 0);
    rig.pass(59_999);
    assert_eq!(rig.state("a"), ProcessState::Running);
    assert_eq!(rig.process("a").account.held, calls(1));
}

/// K65: no time left is enough to refuse, and 0 allows none (K23).
#[test]
fn a_process_without_any_time_is_not_scheduled() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::TimeoutMs, 0)]);
    let hasty = super::lifecycle::Submit { quota, ..submit("a") };
    rig.say(&alice, CommandBody::Submit(Box::new(hasty))).unwrap();
    let refused = "quota_exceeded: timeout_exceeded: 0 of 0";
    let schedule = || CommandBody::Schedule { pid: pid("a") };
    assert_eq!(told(rig.say(&alice, schedule())), refused);
    assert_eq!(told(rig.say(&alice, to("a", ProcessState::Ready))), refused);
}

/// K122: whichever way a process becomes Zombie, what it still holds is charged, at every level.
#[test]
fn a_zombie_holds_nothing_above() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let child = super::lifecycle::Submit { parent: Some(pid("a")), ..submit("b") };
    rig.ready(&alice, child);
    rig.say(&alice, reserve("b", "r", calls(3))).unwrap();
    rig.say(&alice, terminate("b", false)).unwrap();
    rig.say(&alice, to("b", ProcessState::Zombie)).unwrap();
    let above = &rig.process("a").account;
    assert_eq!((above.held, above.used.amounts), (calls(0), calls(3)));
}

/// K6, K108: a reservation for another time is another reservation.
#[test]
fn the_same_reservation_with_another_lease_is_a_conflict() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let with = |lease_ms| {
        let mut body = reserve("a", "r", calls(1));
        if let CommandBody::Reserve(reserve) = &mut body {
            reserve.lease_ms = lease_ms;
        }
        body
    };
    rig.say(&alice, with(Some(5_000))).unwrap();
    assert_eq!(told(rig.say(&alice, with(Some(5_000)))), "0 events");
    let refused = "reservation_conflict: reservation r exists with different content";
    assert_eq!(told(rig.say(&alice, with(None))), refused);
}

/// K78: every accepted command of the holder that names the process extends its lease.
#[test]
fn an_owner_that_runs_its_process_and_lowers_its_limits_goes_on() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&alice, CommandBody::NextRunnable).unwrap();
    rig.pass(40_000);
    let quota = limits(&[(QuotaField::MaxToolCalls, 5)]);
    rig.say(&alice, CommandBody::AdjustQuota { pid: pid("a"), quota }).unwrap();
    rig.pass(40_000);
    assert_eq!(rig.state("a"), ProcessState::Running);
}

/// K25, K410: names that a command leaves in the state are as long as ids may be, whoever is named.
#[test]
fn whoever_is_named_has_a_name_of_a_legal_length() {
    let mut rig = Rig::new();
    let (alice, long) = (user("alice"), "x".repeat(129));
    rig.ready(&alice, submit("a"));
    let told_of = |field: &str| format!("bad_id: {field}: 129 bytes, at most 128");
    assert_eq!(told(rig.say(&user(&long), CommandBody::NextRunnable)), told_of("user_id"));
    let worker = super::ids::WorkerId::parse("worker", &long).ok();
    let (by, body) = (alice.clone(), CommandBody::NextRunnable);
    let command = super::Command { by, worker, rate: None, body };
    let at = super::decision::At { now: rig.now, nonce: [9; 16] };
    assert_eq!(told(rig.kernel.decide(at, &command)), told_of("worker_id"));
    let named = super::ids::UserId::parse("user", &long).ok();
    let foreign = super::lifecycle::Submit { user: named.clone(), ..submit("b") };
    let body = CommandBody::Submit(Box::new(foreign));
    assert_eq!(told(rig.say(&operator(), body)), told_of("user_id"));
    let new = super::envelopes::command::NewEnvelope { user: named, ..Default::default() };
    let body = CommandBody::CreateEnvelope(Box::new(new));
    assert_eq!(told(rig.say(&operator(), body)), told_of("user_id"));
    let attempt = super::ids::AttemptId::parse("attempt", &long).ok();
    let mut asked = reserve("a", "r", calls(1));
    if let CommandBody::Reserve(reserve) = &mut asked {
        reserve.attempt.clone_from(&attempt);
    }
    assert_eq!(told(rig.say(&alice, asked)), told_of("attempt_id"));
    let mut used = record("a", calls(1));
    if let CommandBody::RecordUsage(record) = &mut used {
        record.attempt = attempt;
    }
    assert_eq!(told(rig.say(&alice, used)), told_of("attempt_id"));
}

/// K78, K107: a reservation that is named as the run lease keeps its own end.
#[test]
fn a_run_lease_and_a_reservation_of_its_name_are_two() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&alice, CommandBody::NextRunnable).unwrap();
    let name = rig.process("a").run_lease.clone().unwrap().lease.to_string();
    let mut body = reserve("a", &name, calls(1));
    if let CommandBody::Reserve(reserve) = &mut body {
        reserve.lease_ms = Some(3_600_000);
    }
    rig.say(&alice, body).unwrap();
    let until = |rig: &Rig| rig.process("a").reservations[&rsv(&name)].until;
    let before = until(&rig);
    rig.pass(31_000);
    rig.say(&alice, record("a", calls(1))).unwrap();
    let run = rig.process("a").run_lease.clone().unwrap();
    assert_eq!((run.until, until(&rig)), (rig.now.plus(60_000), before));
}

/// K102: one that was removed is skipped, and those above it are not.
#[test]
fn a_grandchild_settles_with_its_grandparent_when_its_parent_is_gone() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    for (child, parent) in [("b", "a"), ("c", "b")] {
        let child = super::lifecycle::Submit { parent: Some(pid(parent)), ..submit(child) };
        rig.ready(&alice, child);
    }
    rig.say(&alice, reserve("c", "r", calls(3))).unwrap();
    rig.say(&alice, terminate("b", false)).unwrap();
    rig.say(&alice, CommandBody::CleanupProcess { pid: pid("b") }).unwrap();
    assert_eq!(rig.process("a").account.held, calls(3));
    assert_eq!(rig.process("c").parent, Some(pid("a")));
    rig.say(&alice, settle("c", "r", calls(2))).unwrap();
    let above = &rig.process("a").account;
    assert_eq!((above.held, above.used.amounts), (calls(0), calls(2)));
    rig.say(&alice, CommandBody::CleanupProcess { pid: pid("c") }).unwrap();
    assert!(rig.process("a").children.is_empty());
}

/// K102: another process with the pid of a parent that is gone is nobody's parent.
#[test]
fn a_pid_that_is_used_again_inherits_no_children() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let child = super::lifecycle::Submit { parent: Some(pid("a")), ..submit("b") };
    rig.ready(&alice, child);
    rig.say(&alice, reserve("b", "r", calls(3))).unwrap();
    rig.say(&alice, terminate("a", false)).unwrap();
    rig.say(&alice, CommandBody::CleanupProcess { pid: pid("a") }).unwrap();
    rig.ready(&user("bob"), submit("a"));
    rig.say(&alice, settle("b", "r", calls(3))).unwrap();
    assert_eq!(rig.process("a").account.used.amounts, calls(0));
    assert_eq!(rig.process("b").parent, None);
}

/// K21: the caller's conversation is a label. Two processes may share it, and what becomes of one
/// is nothing to the other; neither has an orchestration session for it.
#[test]
fn a_conversation_is_only_a_label() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let session = super::ids::SessionId::parse("session_id", "talk").ok();
    for name in ["a", "b"] {
        rig.ready(&alice, super::lifecycle::Submit { session: session.clone(), ..submit(name) });
        assert_eq!(Some(&rig.process(name).session), session.as_ref());
        assert!(rig.kernel.state().session(&pid(name)).is_none());
    }
    rig.say(&alice, terminate("a", true)).unwrap();
    rig.say(&alice, CommandBody::CleanupProcess { pid: pid("a") }).unwrap();
    assert_eq!(rig.state("b"), ProcessState::Ready);
    assert_eq!(Some(&rig.process("b").session), session.as_ref());
    let bob = super::lifecycle::Submit { session, ..submit("c") };
    rig.say(&user("bob"), CommandBody::Submit(Box::new(bob))).unwrap();
    assert_eq!(rig.process("c").user.as_str(), "bob", "it says nothing of whose it is");
}

/// K22: events are counted from 1 without gaps, starts from 1, and a refusal counts for nothing.
#[test]
fn events_and_starts_are_counted_from_one() {
    let mut rig = Rig::new();
    let counted = |rig: &Rig| (rig.kernel.last_event(), rig.kernel.state().counters.epoch);
    assert_eq!(counted(&rig), (1, 1), "the start is the first");
    rig.ready(&user("alice"), submit("a"));
    assert_eq!(counted(&rig), (3, 1));
    rig.say(&user("bob"), terminate("a", true)).unwrap_err();
    assert_eq!(counted(&rig), (3, 1));
    let config = Box::new(KernelConfig::new());
    rig.run(&super::rig::node(), CommandBody::Start { config }).unwrap();
    assert_eq!(counted(&rig), (4, 2));
    assert_eq!(rig.events.len(), 4, "as many as there are");
}

/// K26: who asks is who the transport says. A request that names somebody else acts for nobody but
/// the caller, unless that is an operator; and it never gives a role.
#[test]
fn a_request_does_not_say_who_asks() {
    let mut rig = Rig::new();
    let (alice, bob) = (user("alice"), user("bob"));
    let as_alice = |name| {
        let user = Some(alice.user.clone());
        CommandBody::Submit(Box::new(super::lifecycle::Submit { user, ..submit(name) }))
    };
    let refused = "permission_denied: only operators submit for others, such as alice";
    assert_eq!(told(rig.say(&bob, as_alice("a"))), refused);
    assert_eq!(told(rig.say(&worker("w"), as_alice("a"))), refused);
    assert_eq!(told(rig.say(&operator(), as_alice("a"))), "1 events");
    assert_eq!(rig.process("a").user, alice.user, "for alice, and hers");
    let named_op = user("op");
    let refused = "permission_denied: only operators do this";
    assert_eq!(told(rig.say(&named_op, CommandBody::Cleanup)), refused, "a name is no role");
}

/// K11: a reservation gets the length again that it was given, not that of others.
#[test]
fn a_restart_gives_a_reservation_its_own_length_again() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let mut long = reserve("a", "r", calls(1));
    if let CommandBody::Reserve(reserve) = &mut long {
        reserve.lease_ms = Some(3_600_000);
    }
    rig.say(&alice, long).unwrap();
    rig.pass(3_540_000);
    let config = Box::new(KernelConfig::new());
    rig.run(&super::rig::node(), CommandBody::Start { config }).unwrap();
    rig.pass(3_599_999);
    assert_eq!(rig.process("a").account.held, calls(1));
    rig.pass(1);
    assert_eq!(rig.process("a").account.used.amounts, calls(1));
}

/// K9: a sum that cannot be counted is refused, whatever makes it.
#[test]
fn a_charge_past_what_is_counted_is_refused() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&alice, reserve("a", "r", calls(1))).unwrap();
    rig.kernel.state.processes.update(&pid("a"), |process| {
        process.account.used.amounts.llm_calls = super::quota::SUM_MAX - 5;
        process.account.used.agent_hops = super::quota::SUM_MAX - 5;
    });
    let refused = "amount_too_large: llm_calls: the sum would pass 2^63 - 1";
    assert_eq!(told(rig.say(&alice, settle("a", "r", calls(10)))), refused);
    assert_eq!(told(rig.say(&alice, super::rig::record("a", calls(10)))), refused);
    let mut hops = super::rig::record("a", calls(0));
    if let CommandBody::RecordUsage(record) = &mut hops {
        record.agent_hops = 6;
    }
    let refused = "amount_too_large: agent_hops: the sum would pass 2^63 - 1";
    assert_eq!(told(rig.say(&alice, hops)), refused);
    rig.say(&alice, settle("a", "r", calls(2))).unwrap();
}

/// Who reserved holds the reservation, whoever runs the process by then (K27, K105, K122), and is
/// known again when it repeats (K448); nobody else is.
#[test]
fn who_reserved_settles_when_its_run_lease_is_gone() {
    let mut rig = Rig::new();
    let (alice, w, v) = (user("alice"), worker("w"), worker("v"));
    rig.ready(&alice, submit("a"));
    rig.say(&w, CommandBody::NextRunnable).unwrap();
    for id in ["r", "s", "t"] {
        rig.say(&w, reserve("a", id, calls(2))).unwrap();
    }
    rig.pass(61_000);
    assert_eq!((rig.state("a"), &rig.process("a").run_lease), (ProcessState::Ready, &None));
    let refused = "permission_denied: process a belongs to another user";
    assert_eq!(rig.say(&w, reserve("a", "r", calls(2))), Ok(vec![]), "a repeat");
    assert_eq!(told(rig.say(&w, reserve("a", "u", calls(2)))), refused, "nothing new");
    assert_eq!(told(rig.say(&w, record("a", calls(1)))), "1 events", "K109");
    assert_eq!(told(rig.say(&v, record("a", calls(1)))), refused);
    let lease = super::ids::LeaseId::parse("lease", "r").unwrap();
    let renew = |pid| CommandBody::RenewLease { lease: lease.clone(), pid, lease_ms: None };
    assert_eq!(told(rig.say(&w, renew(Some(pid("a"))))), "1 events", "K107");
    rig.pass(1);
    assert_eq!(told(rig.say(&w, renew(None))), "1 events");
    assert_eq!(told(rig.say(&v, renew(Some(pid("a"))))), refused);

    rig.say(&alice, terminate("a", true)).unwrap();
    let release = |id| CommandBody::Release { pid: pid("a"), reservation: rsv(id) };
    assert_eq!(told(rig.say(&v, settle("a", "r", calls(1)))), refused);
    assert_eq!(told(rig.say(&w, settle("a", "x", calls(1)))), refused, "what nobody reserved");
    assert_eq!(told(rig.say(&w, settle("a", "r", calls(1)))), "1 events", "K122");
    assert_eq!(rig.say(&w, settle("a", "r", calls(1))), Ok(vec![]), "K448");
    assert_eq!(told(rig.say(&v, settle("a", "r", calls(1)))), refused);
    assert_eq!(told(rig.say(&w, release("s"))), "1 events");
    assert_eq!(rig.say(&w, release("s")), Ok(vec![]));
    assert_eq!(rig.process("a").account.used.amounts, calls(2));
    rig.pass(120_000);
    let closed = "reservation_closed: reservation t was charged at the end of its lease";
    assert_eq!(told(rig.say(&w, settle("a", "t", calls(1)))), closed);
    assert_eq!(told(rig.say(&v, settle("a", "t", calls(1)))), refused);
}

/// K27: access comes before what is wrong with an argument.
#[test]
fn a_stranger_learns_nothing_of_the_arguments() {
    let mut rig = Rig::new();
    rig.ready(&user("alice"), submit("a"));
    let message = "x".repeat(17 << 10);
    let end = CommandBody::Terminate { pid: pid("a"), message, force: false };
    let refused = told(rig.say(&user("bob"), end));
    assert!(refused.starts_with("permission_denied: "), "{refused}");
}

/// K78: who asks the same question again goes on holding the process.
#[test]
fn a_repeated_question_extends_the_lease() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&alice, CommandBody::NextRunnable).unwrap();
    let ask = || {
        let mut new = super::interrupts::interrupt::NewInterrupt::new(
            super::names::InterruptKind::Clarification,
        );
        (new.key, new.blocking) = (Some("once".into()), Some(false));
        new.question = Some("what?".into());
        CommandBody::CreateInterrupt { pid: pid("a"), interrupt: Box::new(new) }
    };
    rig.say(&alice, ask()).unwrap();
    rig.pass(40_000);
    rig.say(&alice, ask()).unwrap();
    rig.pass(40_000);
    assert_eq!(rig.state("a"), ProcessState::Running);
}
