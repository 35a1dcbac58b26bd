//! What the operator does: set limits and take them back, clean up, cancel, end; and in a scenario
//! of its own, drain and shut down.

use machines::Choices;
use machines::kernel::CommandBody;
use machines::kernel::housekeeping::StopMode;
use machines::kernel::quota::{Limit, QuotaField};
use machines::kernel::rates::{Scope, ScopeConfig};
use machines::kernel::services::ServiceStatus;

use super::{CREWS, Script, Services, USERS, endpoint, pick, place, service, user};

impl Services {
    /// The operator's next deed.
    pub(super) fn operate(&mut self, caller: u32, choices: &mut Choices) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        if self.work.script == Script::Drain && choices.choose("operator.stops", who, 50) == 49 {
            return Some(stop(who, choices));
        }
        let number = choices.choose("operator.user", who, USERS);
        let pid = pick(&self.pids[place(number)], 4, who, choices);
        Some(match (choices.choose("operator.deed", who, 14), pid) {
            (0..=2, _) => limit(number, who, choices),
            (3, _) => CommandBody::ResetRateLimits { user: user(number) },
            (4..=6, _) => CommandBody::Cleanup,
            (7, _) => {
                let dispatch = pick(&self.dispatches, 20, who, choices)?;
                CommandBody::CancelDispatch { dispatch }
            }
            (8 | 9, _) => {
                let service = service(choices.choose("services.any", who, 2 * CREWS));
                let status = ServiceStatus::Healthy;
                CommandBody::UpdateHealth { service, status }
            }
            (10, _) if choices.choose("operator.gone", who, 4) == 3 => {
                let service = service(choices.choose("services.any", who, 2 * CREWS));
                CommandBody::UnregisterService { service }
            }
            (11, Some(pid)) => {
                CommandBody::Terminate { pid, message: "stop".to_owned(), force: true }
            }
            (12, Some(pid)) => {
                let most = Limit::at_most(choices.choose("operator.burst", who, 6));
                CommandBody::AdjustQuota { pid, quota: vec![(QuotaField::RateLimitBurst, most)] }
            }
            _ => CommandBody::Cleanup,
        })
    }
}

/// Sets or clears the limit of some scope.
fn limit(number: u64, who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let whose = Some(user(number)).filter(|_| choices.choose("operator.whose", who, 2) == 1);
    let scope = Scope { user: whose, endpoint: endpoint(who, choices) };
    let mut some = |site| match choices.choose(site, who, 12) {
        none if none >= 10 => None,
        most => Some(Limit::at_most(most)),
    };
    let (burst, minute) = (some("operator.burst"), some("operator.minute"));
    let minute = minute.and_then(Limit::most).map(|most| Limit::at_most(10 + 5 * most));
    let config = ScopeConfig { burst, minute, ..ScopeConfig::default() };
    let config = Some(config).filter(|_| choices.choose("operator.clear", who, 3) > 0);
    CommandBody::SetRateLimit { scope, config }
}

/// Lets the node drain, or shuts it down: with a deadline that work outlives, or with more time.
fn stop(who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let deadline_ms = Some(100 + choices.choose("operator.deadline", who, 1_500));
    match choices.choose("operator.stop", who, 4) {
        0 => CommandBody::Drain { deadline_ms },
        1 => CommandBody::Shutdown { mode: StopMode::Terminate, deadline_ms },
        _ => CommandBody::Shutdown { mode: StopMode::Preserve, deadline_ms },
    }
}
