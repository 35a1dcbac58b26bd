//! What workers do: take tasks and end them, well, badly, late and twice; hold slots; say how their
//! services are. And what the node does for those that it calls by itself.

use machines::Choices;
use machines::kernel::CommandBody;
use machines::kernel::dispatch::Completion;
use machines::kernel::ids::{Capability, LeaseId, ServiceName, ServiceType};
use machines::kernel::json::Json;
use machines::kernel::pipeline::kinds::ErrorKind;
use machines::kernel::quota::Limit;
use machines::kernel::services::{ServiceInfo, ServiceMode, ServiceStatus};

use super::{CREWS, Services, id, pick, place, remember, service};

/// Longer than a worker has a task.
const LATE_MS: u64 = 1_300;

impl Services {
    /// A worker's next deed; `None` if it oversleeps.
    pub(super) fn serve(
        &mut self,
        caller: u32,
        crew: u64,
        wall_ms: u64,
        choices: &mut Choices,
    ) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        let me = &mut self.callers[caller as usize];
        if choices.choose("worker.crash", who, 60) == 59 {
            me.tasks.clear();
            me.slots.clear();
        }
        let Some(lease) = me.tasks.front().cloned() else {
            return Some(self.look_for_work(caller, crew, choices));
        };
        Some(match choices.choose("worker.task", who, 12) {
            0..=6 => {
                me.tasks.pop_front();
                remember(&mut me.old, lease.clone());
                complete(lease, who, choices)
            }
            7 => complete(lease, who, choices), // It completes it again, perhaps differently.
            8 => renew(lease, who, choices),
            9 => {
                me.asleep_until = wall_ms + LATE_MS;
                return None;
            }
            10 => match pick(&me.old, 8, who, choices) {
                Some(old) => complete(old, who, choices),
                None => complete(lease, who, choices),
            },
            _ => {
                let lease = me.tasks.pop_front().expect("there is a first");
                remember(&mut me.old, lease); // It forgets the task.
                let (service, max) = (own_pulled(crew), 1);
                CommandBody::LeaseTasks { service, max }
            }
        })
    }

    fn look_for_work(&mut self, caller: u32, crew: u64, choices: &mut Choices) -> CommandBody {
        let who = [u64::from(caller), 0];
        let me = &self.callers[caller as usize];
        match choices.choose("worker.deed", who, 20) {
            0..=8 => {
                let max = u32::try_from(1 + choices.choose("worker.max", who, 3)).expect("few");
                CommandBody::LeaseTasks { service: own_pulled(crew), max }
            }
            9..=10 => {
                let service = any(who, choices);
                let lease_ms = Some(1_000 + choices.choose("worker.lease", who, 1_000));
                CommandBody::AcquireSlot { service, pid: None, lease_ms }
            }
            11..=12 => match pick(&me.slots, 3, who, choices) {
                Some(lease) => CommandBody::ReleaseSlot { lease },
                None => register(crew, who, choices),
            },
            13 => match pick(&me.slots, 3, who, choices) {
                Some(lease) => renew(lease, who, choices),
                None => register(crew, who, choices),
            },
            14 => match pick(&me.old, 8, who, choices) {
                Some(lease) => complete(lease, who, choices),
                None => register(crew, who, choices),
            },
            15 => {
                let status = choices.choose("worker.health", who, 6);
                let status = ServiceStatus::ALL.get(place(status)).copied();
                let (service, status) =
                    (own(crew, who, choices), status.unwrap_or(ServiceStatus::Healthy));
                CommandBody::UpdateHealth { service, status }
            }
            16 if choices.choose("worker.gone", who, 6) == 5 => {
                CommandBody::UnregisterService { service: own(crew, who, choices) }
            }
            17 => {
                let request = self.request(caller, None, choices);
                CommandBody::Dispatch(Box::new(request))
            }
            _ => register(crew, who, choices),
        }
    }

    /// The node binds the handlers of its services, and answers for them.
    pub(super) fn answer_calls(
        &mut self,
        caller: u32,
        choices: &mut Choices,
    ) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        let pushed = 1 + 2 * choices.choose("node.service", who, CREWS);
        Some(match choices.choose("node.deed", who, 12) {
            0..=1 => CommandBody::BindHandler { service: service(pushed) },
            2 if choices.choose("node.unbind", who, 4) == 3 => {
                CommandBody::UnbindHandler { service: service(pushed) }
            }
            3 => {
                // A handler that never answers.
                let lost = self.calls.pop_front()?;
                remember(&mut self.callers[caller as usize].old, lost);
                return None;
            }
            _ => complete(self.calls.pop_front()?, who, choices),
        })
    }
}

fn own_pulled(crew: u64) -> ServiceName {
    service(2 * crew)
}

fn own(crew: u64, who: [u64; 2], choices: &mut Choices) -> ServiceName {
    service(2 * crew + choices.choose("worker.own", who, 2))
}

fn any(who: [u64; 2], choices: &mut Choices) -> ServiceName {
    service(choices.choose("services.any", who, 2 * CREWS))
}

fn renew(lease: LeaseId, who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let lease_ms = Some(1_000 + choices.choose("worker.renew", who, 1_000));
    CommandBody::RenewLease { lease, pid: None, lease_ms }
}

/// Says what a service is; seldom, something else than before.
fn register(crew: u64, who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let number = 2 * crew + choices.choose("worker.own", who, 2);
    let pulled = number.is_multiple_of(2);
    let kind = id(ServiceType::parse("type", "flow"));
    let mut info = ServiceInfo::new(service(number), kind);
    info.mode = if pulled { ServiceMode::Pull } else { ServiceMode::Push };
    info.max_concurrent = 3;
    if choices.choose("worker.differs", who, 10) == 9 {
        info.max_concurrent = 4;
    }
    if pulled {
        info.health_ttl_ms = Limit::at_most(700);
        info.capabilities.insert(id(Capability::parse("capability", "think")));
    }
    CommandBody::RegisterService(Box::new(info))
}

fn complete(lease: LeaseId, who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let failed = |kind| (false, None, Some("it broke".to_owned()), kind);
    let (success, data, error, error_kind) = match choices.choose("worker.result", who, 8) {
        0 => failed(Some(ErrorKind::Tool)),
        1 => failed(Some(ErrorKind::Llm)),
        2 => failed(None),
        3 => failed(Some(ErrorKind::Policy)),
        4 => (true, None, None, None),
        _ => (true, Some(Json::from(true)), None, None),
    };
    CommandBody::CompleteTask(Box::new(Completion { lease, success, data, error, error_kind }))
}
