//! What happens in the golden folder of this version: a little of everything, and a clean stop.

use std::time::Duration;

use super::{Golden, recovered, root};
use crate::keeper::io::Input;
use crate::keeper::rig::{Disk, Rig, params};
use crate::kernel::CommandBody;
use crate::kernel::budget::{Record, Reserve};
use crate::kernel::dispatch::{ServiceRequest, Target};
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::ids::{
    DispatchId, Endpoint, EnvelopeId, ProcessId, ReservationId, ServiceName, ServiceType, UserId,
};
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::json::{Json, JsonLimits};
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::InterruptKind;
use crate::kernel::pipeline::PipelineConfig;
use crate::kernel::pipeline::limits::FlowLimits;
use crate::kernel::principal::{Principal, Role};
use crate::kernel::quota::{Amounts, Limit};
use crate::kernel::rates::{Scope, ScopeConfig};
use crate::kernel::rig::submit;
use crate::kernel::services::ServiceInfo;
use crate::kernel::sessions::Pipeline;
use crate::kernel::sessions::start::{EnvelopeChoice, Initialize};
use crate::ledger::snapshot::SnapshotConfig;

pub(super) const ABOUT: &str =
    "A keeper's data folder after a clean stop: one segment, and the snapshot of its middle.";

/// Records until a snapshot is due.
const SNAPSHOT: u64 = 10;

fn by(name: &str, role: Role) -> Principal {
    Principal::new(UserId::parse("user", name).unwrap(), &[role])
}

fn json(text: &str) -> Json {
    Json::parse("golden", text.as_bytes(), &JsonLimits::DEFAULT).unwrap()
}

fn pid(name: &str) -> ProcessId {
    ProcessId::parse("pid", name).unwrap()
}

fn pipeline() -> Pipeline {
    let agent = r#"{"name": "draft", "has_llm": true, "model_role": "m"}"#;
    let text = format!(
        r#"{{"name": "golden", "stages": [{{"name": "draft", "agent_config": {agent}}}]}}"#
    );
    Pipeline::new(PipelineConfig::parse(&json(&text), &FlowLimits::DEFAULT).unwrap())
}

/// Who asks for what, in order.
fn commands() -> Vec<(Principal, CommandBody)> {
    let (alice, worker) = (by("alice", Role::User), by("w", Role::Worker));
    let operator = by("op", Role::Operator);
    let service = ServiceName::parse("service", "s").unwrap();
    let kind = ServiceType::parse("service_type", "t").unwrap();
    let info = ServiceInfo { max_concurrent: 2, ..ServiceInfo::new(service.clone(), kind) };
    let metadata = [("colour".into(), json(r#"{"name":"green"}"#))].into_iter().collect();
    let quota = Vec::new();
    let first = Submit { metadata, quota, ..submit("a") };
    let child = Submit { parent: Some(pid("a")), ..submit("b") };
    let submitted = |submit| CommandBody::Submit(Box::new(submit));
    let endpoint = || Endpoint::parse("endpoint", "e").unwrap();
    let user = alice.user.clone();
    let scope = Scope { user: Some(user.clone()), endpoint: Endpoint::whole() };
    let config = Some(ScopeConfig { burst: Some(Limit::at_most(3)), ..ScopeConfig::default() });
    let amounts = Amounts { llm_calls: 2, ..Amounts::ZERO };
    let reservation = Some(ReservationId::parse("reservation_id", "r").unwrap());
    let reserve = Reserve { pid: pid("a"), reservation, attempt: None, amounts, lease_ms: None };
    let record = Record { pid: pid("b"), amounts, agent_hops: 1, attempt: None, record: None };
    let id = Some(EnvelopeId::parse("envelope_id", "e").unwrap());
    let new = NewEnvelope { id, raw_input: "hello".to_owned(), ..NewEnvelope::default() };
    let envelope = EnvelopeChoice::New(Box::new(new));
    let start = Initialize { pid: pid("b"), pipeline: pipeline(), envelope, force: false };
    let dispatch = Some(DispatchId::parse("dispatch_id", "d").unwrap());
    let request = ServiceRequest::new(Target::Name { name: service.clone() }, "run", Json::NULL);
    let request = ServiceRequest { dispatch, pid: Some(pid("a")), queue: true, ..request };
    let asked = Box::new(NewInterrupt {
        question: Some("how long?".into()),
        ..NewInterrupt::new(InterruptKind::Clarification)
    });
    let acquire = CommandBody::AcquireSlot { service: service.clone(), pid: None, lease_ms: None };
    let (message, force) = ("enough".to_owned(), true);
    vec![
        (operator, CommandBody::SetRateLimit { scope, config }),
        (alice.clone(), submitted(first)),
        (alice.clone(), submitted(submit("gone"))),
        (alice.clone(), CommandBody::Schedule { pid: pid("a") }),
        (alice.clone(), submitted(child)),
        (alice.clone(), CommandBody::CheckRateLimit { user, endpoint: endpoint(), record: true }),
        (worker.clone(), CommandBody::RegisterService(Box::new(info))),
        (worker.clone(), acquire),
        (alice.clone(), CommandBody::Reserve(Box::new(reserve))),
        (alice.clone(), CommandBody::Dispatch(Box::new(request))),
        (alice.clone(), CommandBody::InitializeSession(Box::new(start))),
        (alice.clone(), CommandBody::NextInstruction { pid: pid("b") }),
        (alice.clone(), CommandBody::RecordUsage(Box::new(record))),
        (worker.clone(), CommandBody::LeaseTasks { service, max: 1 }),
        (alice.clone(), CommandBody::CreateInterrupt { pid: pid("a"), interrupt: asked }),
        (alice.clone(), CommandBody::Terminate { pid: pid("gone"), message, force }),
        (alice, CommandBody::CleanupProcess { pid: pid("gone") }),
    ]
}

/// Lets a keeper keep the story, and stops it.
pub(super) fn written() -> Golden {
    let mut params = params(1);
    params.snapshots = SnapshotConfig { records: SNAPSHOT, ..params.snapshots };
    let mut rig = Rig::with(Disk::default(), params);
    rig.settle();
    for (by, body) in commands() {
        rig.pass(Duration::from_millis(7));
        rig.settle();
        rig.say(&by, body).unwrap_or_else(|refusal| panic!("{refusal}"));
    }
    rig.input(Input::Stop);
    rig.settle();
    assert_eq!(rig.told, [format!("snapshot of {SNAPSHOT}"), "stopped".to_owned()]);
    // Spare segments are all zeros, and nobody needs them.
    let mut files = rig.disk.now.clone();
    files.retain(|_, bytes| bytes.iter().any(|byte| *byte != 0));
    let loaded = recovered(&files).unwrap();
    let (record, events) = (loaded.report.record, loaded.report.events);
    Golden { snapshot: SNAPSHOT, record, events, root: root(&loaded), files }
}
