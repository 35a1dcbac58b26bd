//! What the node knows of services, rates and itself (13.3).

use std::collections::BTreeMap;

use machines::kernel::dispatch::{ServiceResponse, Task};
use machines::kernel::housekeeping::Cleaned;
use machines::kernel::interrupts::fold::InterruptCounts;
use machines::kernel::names::{Priority, ProcessState};
use machines::kernel::query::services::{ShownDispatch, ShownService};
use machines::kernel::query::status::{ProcessCounts, SystemStatus, SystemUsage};
use machines::kernel::rates::{RateResult, WindowUsage};
use machines::kernel::services::ServiceStatus;
use machines::kernel::services::desk::ServiceStats;
use serde_json::{Value, json};

use super::{amounts, joined, limit, metadata, plain, present};

/// Shows a service (13.3: ServiceInfo), and whose it is.
pub(super) fn service(of: &ShownService) -> Value {
    let ShownService { service: known, current_load } = of;
    let info = &known.info;
    json!({
        "name": info.name.as_str(),
        "service_type": info.service_type.as_str(),
        "mode": info.mode.name(),
        "version": info.version,
        "capabilities": info.capabilities.iter().map(|one| one.as_str()).collect::<Vec<_>>(),
        "max_concurrent": info.max_concurrent,
        "current_load": current_load,
        "status": known.status.name(),
        "last_health_check_at_ms": known.last_health_check.as_millis(),
        "health_ttl_ms": limit(info.health_ttl_ms),
        "metadata": metadata(&info.metadata),
        "owner": known.owner.as_str(),
    })
}

/// Shows a task to its worker (13.2: LeaseTasks).
pub(super) fn task(of: &Task) -> Value {
    present(json!({
        "dispatch_id": of.dispatch.as_str(),
        "pid": of.pid.as_ref().map(|pid| pid.as_str()),
        "lease": of.lease.as_str(),
        "lease_until_ms": of.lease_until.as_millis(),
        "method": &*of.method,
        "data": plain(&of.data),
        "try_number": of.try_number,
        "deadline_at_ms": of.deadline_at.as_millis(),
        "metadata": metadata(&of.metadata),
    }))
}

/// Shows how far a dispatch is; its response once it has ended.
pub(super) fn dispatch(of: &ShownDispatch) -> Value {
    present(json!({
        "dispatch_id": of.dispatch.as_str(),
        "pid": of.pid.as_ref().map(|pid| pid.as_str()),
        "service": of.service.as_str(),
        "tries": of.tries,
        "response": of.response.as_ref().map(response),
    }))
}

/// Shows how a dispatch ended (13.3: ServiceResponse).
pub(super) fn response(of: &ServiceResponse) -> Value {
    present(json!({
        "dispatch_id": of.dispatch.as_str(),
        "success": of.success,
        "data": of.data.as_ref().map(plain),
        "error": of.error.as_deref(),
        "error_code": of.error_code.as_deref(),
        "tries": of.tries,
        "duration_ms": of.duration_ms,
        "metadata": metadata(&of.metadata),
    }))
}

/// Counts services (K213).
pub(super) fn stats(of: &ServiceStats) -> Value {
    json!({
        "total_services": of.total_services,
        "healthy_services": of.healthy_services,
        "unhealthy_services": of.unhealthy_services,
        "total_handlers": of.total_handlers,
        "total_load": of.total_load,
        "total_capacity": of.total_capacity,
    })
}

/// Shows whether a hit is allowed (13.3: RateLimitResult).
pub(super) fn rate(of: &RateResult) -> Value {
    present(json!({
        "allowed": of.allowed,
        "limit_type": of.limit_type.name(),
        "reason": of.reason,
        "current_count": of.current_count,
        "limit": limit(of.limit),
        "remaining": limit(of.remaining),
        "retry_after_ms": of.retry_after_ms,
    }))
}

/// Shows one window of a rate (13.2: GetRateLimitUsage).
pub(super) fn window(of: &WindowUsage) -> Value {
    json!({
        "limit_type": of.window.name(),
        "current": of.current,
        "limit": limit(of.limit),
        "remaining": limit(of.remaining),
        "reset_in_ms": of.reset_in,
    })
}

/// Counts what a cleanup removed (K361).
pub(super) fn cleaned(of: &Cleaned) -> Value {
    let Cleaned { buried, processes, envelopes, interrupts, dispatches, rates } = of;
    json!({
        "buried": buried,
        "processes": processes,
        "envelopes": envelopes,
        "interrupts": interrupts,
        "dispatches": dispatches,
        "rates": rates,
    })
}

/// Counts interrupts (K174).
pub(super) fn interrupt_counts(of: &InterruptCounts) -> Value {
    json!({
        "created": of.created,
        "pending": of.pending(),
        "resolved": of.resolved,
        "expired": of.expired,
        "cancelled": of.cancelled,
    })
}

/// Counts processes (K86).
pub(super) fn counts(of: &ProcessCounts) -> Value {
    json!({
        "counts_by_state": by_state(of),
        "total": of.total,
        "queue_depth": of.queue_depth,
    })
}

fn by_state(of: &ProcessCounts) -> BTreeMap<&'static str, u64> {
    ProcessState::ALL.iter().map(|state| (state.name(), of.by_state.of(*state))).collect()
}

/// Sums over all time (2.5: SystemUsage).
pub(super) fn system_usage(of: &SystemUsage) -> Value {
    let processes = json!({
        "processes_total": of.processes_total,
        "processes_active": of.processes_active,
    });
    joined([processes, amounts(&of.used)])
}

/// Shows the node in numbers (13.3: SystemStatus).
pub(super) fn status(of: &SystemStatus) -> Value {
    let by_priority: BTreeMap<&str, u64> =
        Priority::ALL.iter().map(|priority| priority.name()).zip(of.by_priority).collect();
    let by_status: BTreeMap<&str, u64> =
        ServiceStatus::ALL.iter().map(|status| status.name()).zip(of.services_by_status).collect();
    let by_type: BTreeMap<&str, u64> =
        of.services_by_type.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    let busiest = of
        .busiest
        .iter()
        .map(|(user, count)| json!({ "user_id": user.as_str(), "minute_count": count }));
    let processes = json!({
        "started_at_ms": of.started_at.as_millis(),
        "uptime_ms": of.uptime_ms,
        "epoch": of.epoch,
        "draining": of.draining,
        "processes_by_state": by_state(&of.processes),
        "processes_by_priority": by_priority,
        "queue_depth": of.processes.queue_depth,
        "usage": system_usage(&of.resources),
        "reservations": of.reservations,
        "last_event": of.last_event,
        "state_root": of.state_root.to_string(),
    });
    let rest = json!({
        "services_by_type": by_type,
        "services_by_status": by_status,
        "handlers": of.services.total_handlers,
        "total_load": of.services.total_load,
        "total_capacity": of.services.total_capacity,
        "interrupts": interrupt_counts(&of.interrupts),
        "sessions_active": of.sessions_active,
        "sessions_in_group": of.sessions_in_group,
        "dispatches_waiting": of.dispatches.waiting,
        "dispatches_running": of.dispatches.running,
        "rate_keys": of.rate_keys,
        "busiest": busiest.collect::<Value>(),
    });
    joined([processes, rest])
}
