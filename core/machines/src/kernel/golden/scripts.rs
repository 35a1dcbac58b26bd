//! What golden vectors tell: each a short story that a kernel of this program decides.

use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::rig::{
    acquire, bind, dispatch, done, failed, granted, health, info, queued, register, renew, retried,
    svc,
};
use crate::kernel::envelopes::EnvelopePatch;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::housekeeping::StopMode;
use crate::kernel::ids::{Endpoint, EnvelopeId, UserId};
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::interrupts::rig::{
    HOUR, MINUTE, approved, cancel, consume, new, pay, resolve, says,
};
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{InterruptKind, ProcessState};
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::principal::Principal;
use crate::kernel::quota::{Limit, QuotaField};
use crate::kernel::rates::{Scope, ScopeConfig};
use crate::kernel::rig::{
    Rig, calls, limits, node, operator, pid, record, reserve, rsv, settle, submit, user, worker,
};
use crate::kernel::services::{ServiceMode, ServiceStatus};
use crate::kernel::sessions::rig::{Desk, agent, json, linear, output_key, pipeline};

/// A vector's name, what it is about, and how it comes about.
pub(super) type Script = (&'static str, &'static str, fn() -> Rig);

/// All there are.
pub(super) const SCRIPTS: &[Script] = &[
    ("starts_and_stops", "Two starts, a drain, and stops of both modes (K11, K362, K363).", starts),
    ("a_life", "Submit, schedule, claim, wait, renew, release, end, removal (section 3).", life),
    ("a_tree", "A parent's end ends all below it; cleanup leaves nothing (K84, K85).", tree),
    ("budgets", "Reserve, settle, release, expire, record, adjust, warn (section 5).", budgets),
    ("rates", "Hits, limits set and cleared, counters dropped and swept (section 6).", rates),
    ("questions", "Asked, answered, withdrawn, expired, removed (section 7).", questions),
    ("approvals", "Leave that is used, that lapses by time and with its process.", approvals),
    ("services", "Registered, healthy and not, bound and unbound, gone (K190-K195).", services),
    ("slots", "Acquired, renewed, released, and recovered at their leases' end (K196).", slots),
    ("dispatches", "Queued, tried, failed, tried again, done, removed (K200-K212).", dispatches),
    ("a_service_goes", "What a service had to do is lost with it (K190).", a_service_goes),
    ("envelopes", "Made, changed, copied, removed (2.4).", envelopes),
    ("a_session", "Two stages in a row with checkpoints, and the removal of all (K291).", session),
    ("failures", "A stage fails, is tried again, times out, and ends it (K269-K271).", failures),
    ("branches", "A fork of three joins and merges (K273-K278).", branches),
    ("a_lost_worker", "A worker is lost; its attempt is handed out again (K79, K272).", lost),
];

fn alice() -> Principal {
    user("alice")
}

fn terminate(name: &str) -> CommandBody {
    CommandBody::Terminate { pid: pid(name), message: "enough".to_owned(), force: true }
}

fn to(name: &str, to: ProcessState) -> CommandBody {
    CommandBody::TransitionState { pid: pid(name), to, reason: "so it is".to_owned() }
}

fn clean_up(name: &str) -> CommandBody {
    CommandBody::CleanupProcess { pid: pid(name) }
}

impl Rig {
    /// Says what nobody refuses.
    fn did(&mut self, by: &Principal, body: CommandBody) {
        self.say(by, body).unwrap_or_else(|refusal| panic!("{refusal}"));
    }
}

fn starts() -> Rig {
    let mut rig = Rig::new();
    let op = operator();
    rig.ready(&alice(), submit("a"));
    rig.did(&op, CommandBody::Drain { deadline_ms: Some(9_000) });
    rig.did(&op, CommandBody::Stop { mode: StopMode::Preserve });
    rig.pass(5_000);
    let config = KernelConfig { ageing_ms: 45_000, ..KernelConfig::new() };
    rig.did(&node(), CommandBody::Start { config: Box::new(config) });
    rig.did(&op, CommandBody::Shutdown { mode: StopMode::Terminate, deadline_ms: None });
    rig
}

fn life() -> Rig {
    let mut rig = Rig::new();
    let mut metadata = crate::kernel::process::Metadata::new();
    metadata.insert("colour".into(), json(r#"{"name":"green","rgb":[0,128,0]}"#));
    let quota = limits(&[(QuotaField::MaxLlmCalls, 7)]);
    rig.ready(&alice(), Submit { metadata, quota, ..submit("a") });
    rig.did(&worker("w"), CommandBody::NextRunnable);
    rig.pass(40_000);
    // The holder is heard of when less than half of its lease is left (K78).
    rig.did(&worker("w"), record("a", calls(1)));
    rig.did(&worker("w"), to("a", ProcessState::Waiting));
    rig.did(&alice(), to("a", ProcessState::Ready));
    rig.did(&worker("w"), CommandBody::NextRunnable);
    rig.did(&worker("w"), to("a", ProcessState::Blocked));
    rig.did(&alice(), terminate("a"));
    rig.did(&alice(), clean_up("a"));
    rig
}

fn tree() -> Rig {
    let mut rig = Rig::new();
    rig.ready(&alice(), submit("root"));
    for (name, parent) in [("b", "root"), ("a", "root"), ("below", "b")] {
        rig.ready(&alice(), Submit { parent: Some(pid(parent)), ..submit(name) });
    }
    rig.did(&alice(), reserve("below", "r", calls(2)));
    rig.did(&alice(), terminate("b"));
    rig.did(&alice(), clean_up("b"));
    rig.did(&alice(), terminate("root"));
    rig
}

fn budgets() -> Rig {
    let mut rig = Rig::new();
    let quota = limits(&[(QuotaField::MaxLlmCalls, 10)]);
    rig.ready(&alice(), Submit { quota, ..submit("a") });
    for (id, amount) in [("kept", 3), ("free", 2), ("late", 1)] {
        rig.did(&alice(), reserve("a", id, calls(amount)));
    }
    rig.did(&alice(), settle("a", "kept", calls(4)));
    rig.did(&alice(), CommandBody::Release { pid: pid("a"), reservation: rsv("free") });
    rig.pass(2 * MINUTE);
    rig.did(&alice(), record("a", calls(4)));
    rig.did(&alice(), record("a", calls(2)));
    let quota = limits(&[(QuotaField::MaxLlmCalls, 100)]);
    rig.did(&operator(), CommandBody::AdjustQuota { pid: pid("a"), quota });
    rig
}

fn rates() -> Rig {
    let mut rig = Rig::new();
    let alice = UserId::parse("user", "alice").unwrap();
    let endpoint = Endpoint::parse("endpoint", "e").unwrap();
    let hit = || CommandBody::CheckRateLimit {
        user: alice.clone(),
        endpoint: endpoint.clone(),
        record: true,
    };
    let scope = || Scope { user: Some(alice.clone()), endpoint: Endpoint::whole() };
    let config = ScopeConfig { burst: Some(Limit::at_most(2)), ..ScopeConfig::default() };
    let set = |config| CommandBody::SetRateLimit { scope: scope(), config };
    rig.did(&operator(), set(Some(config)));
    for _ in 0..3 {
        rig.did(&user("alice"), hit());
        rig.pass(500);
    }
    rig.did(&operator(), CommandBody::ResetRateLimits { user: alice.clone() });
    rig.did(&user("alice"), hit());
    rig.did(&operator(), set(None));
    rig.pass(26 * HOUR);
    rig
}

fn questions() -> Rig {
    let mut rig = Rig::new();
    rig.running("a");
    let asked = |text: &str| NewInterrupt {
        question: Some(text.into()),
        ..new(InterruptKind::Clarification)
    };
    let first = rig.ask("a", asked("how long?"));
    rig.did(&alice(), resolve(&first, says("a minute")));
    rig.claim("a");
    let second = rig.ask("a", asked("how far?"));
    rig.did(&alice(), cancel(&second));
    rig.claim("a");
    rig.ask("a", asked("how high?"));
    rig.pass(24 * HOUR);
    rig.did(&alice(), clean_up("a"));
    rig
}

fn approvals() -> Rig {
    let mut rig = Rig::new();
    rig.running("a");
    let leave = |rig: &mut Rig| {
        let asked = NewInterrupt { target: pay(), ..new(InterruptKind::Confirmation) };
        let id = rig.ask("a", asked);
        let yes = rig.shown(&id, approved(true));
        rig.answer(&alice(), &id, yes).unwrap();
        rig.claim("a");
        id
    };
    let used = leave(&mut rig);
    rig.did(&worker("w"), consume(&used, r#"{"to":"X","sum":10}"#, "u1"));
    leave(&mut rig);
    rig.pass(15 * MINUTE);
    rig.claim("a");
    leave(&mut rig);
    rig.did(&alice(), terminate("a"));
    rig
}

fn services() -> Rig {
    let mut rig = Rig::new();
    rig.work(register(info("p", ServiceMode::Push, 2)));
    rig.did(&node(), bind("p"));
    rig.work(health("p", ServiceStatus::Degraded));
    rig.work(health("p", ServiceStatus::Healthy));
    rig.did(&node(), CommandBody::UnbindHandler { service: svc("p") });
    rig.work(CommandBody::UnregisterService { service: svc("p") });
    rig
}

fn slots() -> Rig {
    let mut rig = Rig::served(2);
    let first = granted(&rig.work(acquire("q"))[0]).unwrap();
    rig.work(acquire("q"));
    rig.pass(20_000);
    rig.work(renew(&first));
    rig.pass(45_000);
    rig.work(CommandBody::ReleaseSlot { lease: first });
    rig
}

fn dispatches() -> Rig {
    let mut rig = Rig::served(2);
    rig.ready(&alice(), submit("a"));
    let mut retry = retried("d", "q", 1);
    retry.pid = Some(pid("a"));
    rig.did(&alice(), dispatch(retry));
    let lease = rig.tasks(1)[0].lease.clone();
    rig.pass(20_000);
    rig.work(renew(&lease));
    rig.work(failed(&lease, ErrorKind::Tool));
    rig.pass(5_000);
    let lease = rig.tasks(1)[0].lease.clone();
    rig.work(done(&lease, "all is well"));
    rig.work(dispatch(queued("pushed", "p")));
    let lease = rig.lease("pushed");
    rig.did(&node(), done(&lease, "pushed"));
    rig.pass(15 * MINUTE);
    rig
}

fn a_service_goes() -> Rig {
    let mut rig = Rig::served(1);
    rig.work(dispatch(queued("live", "p")));
    rig.work(dispatch(queued("waits", "p")));
    rig.work(CommandBody::UnregisterService { service: svc("p") });
    rig
}

fn envelopes() -> Rig {
    let mut rig = Rig::new();
    let id = EnvelopeId::parse("envelope_id", "e").unwrap();
    let new = NewEnvelope {
        id: Some(id.clone()),
        raw_input: "hello, \"Welt\" \u{1f600}".to_owned(),
        ..NewEnvelope::default()
    };
    rig.did(&alice(), CommandBody::CreateEnvelope(Box::new(new)));
    let output = json(r#"{"a":[1,-0.5,1e3],"b":null}"#);
    let outputs = [(output_key("out"), output)].into_iter().collect();
    let patch = Box::new(EnvelopePatch { outputs, ..EnvelopePatch::default() });
    let expected_version = Some(1);
    rig.did(&alice(), CommandBody::UpdateEnvelope { id: id.clone(), patch, expected_version });
    rig.did(&alice(), CommandBody::CloneEnvelope { id });
    rig.pass(2 * HOUR);
    rig
}

fn session() -> Rig {
    let stages = [agent("a", "'default_next': 'b'"), agent("b", "")].join(", ");
    let text = format!("{{'name': 'c', 'checkpoints': true, 'stages': [{stages}]}}");
    let mut desk = Desk::new(pipeline(&text));
    desk.poll();
    desk.succeed("a", "{'x': 1}");
    desk.succeed("b", "{'y': [true, 'two']}");
    desk.rig.did(&alice(), clean_up("p"));
    desk.rig
}

fn failures() -> Rig {
    let retry = "'timeout_ms': 5000, 'retry': {'max_retries': 1, 'initial_backoff_ms': 1000}";
    let stages = [agent("x", &format!("{retry}, 'error_next': 'repair'")), agent("repair", "")];
    let mut desk =
        Desk::new(pipeline(&format!("{{'name': 's', 'stages': [{}]}}", stages.join(", "))));
    desk.poll();
    desk.fail("x", ErrorKind::Tool);
    desk.rig.pass(1_000);
    desk.poll();
    desk.rig.pass(5_000);
    desk.poll();
    desk.fail("repair", ErrorKind::Llm);
    desk.rig
}

fn branches() -> Rig {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let rules = ["a", "b", "c"].map(rule).join(", ");
    let fork = format!(
        "{{'name': 'f', 'node_kind': 'Fork', 'default_next': 'next', 'routing': [{rules}]}}"
    );
    let stages = ["a", "b", "c", "next"].map(|name| agent(name, "")).join(", ");
    let mut desk = Desk::new(pipeline(&format!("{{'name': 'g', 'stages': [{fork}, {stages}]}}")));
    desk.poll();
    desk.succeed("b", "{'n': 2}");
    desk.succeed("a", "{'n': 1}");
    desk.succeed("c", "{'n': 3}");
    desk.succeed("next", "{}");
    desk.rig
}

fn lost() -> Rig {
    let mut desk = Desk::new(linear());
    desk.poll();
    desk.rig.pass(MINUTE);
    desk.poll();
    desk.succeed("draft", "{'text': 'once more'}");
    desk.rig
}
