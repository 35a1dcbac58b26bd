//! The table `[kernel]`: what of the kernel can be set (K25 and section 2.1 of its rules).
//!
//! | key | unit, default |
//! |---|---|
//! | `run_lease_ms`, `slot_lease_ms` | 1 s to 1 h; 60000 |
//! | `reservation_lease_ms`, `task_lease_ms` | 1 s to 1 h; 120000, 30000 |
//! | `ageing_ms`, `cleanup_interval_ms` | 30000, 300000 |
//! | `approval_ttl_ms`, `drain_ms` | up to 30 days; 900000, 30000 |
//! | `soft_percent`, `max_escalations`, `max_lost` | 1 to 100: 80; 1; 3 |
//! | `step_limit`, `executor_max`, `tick_batch` | 100, 1024, 256 |
//! | `default_service`, `rate_enforced_calls` | `"flow_service"`; none |
//! | `terminated_retention_ms`, `zombie_retention_ms` | 1 h, 24 h (K360) |
//! | `interrupt_retention_ms`, `dispatch_retention_ms` | 24 h, 10 min |
//! | `envelope_retention_ms` | 1 h |
//! | `[kernel.limits]` | each from 1 to 10 times its default (K25) |
//! | `[kernel.default_quota]`, `[kernel.quota_ceiling]` | as a quota; -1 is unlimited (K23) |
//! | `[kernel.default_rate]` | `burst`, `minute`, `hour`, `day`: 10, 60, 1000, 10000 (K130) |
//! | `[kernel.interrupts.KIND]` | `default_ttl_ms` (0 is none), `auto_expire`, |
//! | | `require_response`, `on_expiry` (K150) |
//! | `[kernel.bus]` | `timeout_default_ms`, `timeout_max_ms`, `failure_threshold`, |
//! | | `reset_timeout_ms`, `excluded_types` (K305, K308) |

use std::collections::BTreeMap;

use machines::kernel::Refusal;
use machines::kernel::bus::BusRules;
use machines::kernel::config::{InterruptConfig, KernelConfig, Limits, RateConfig};
use machines::kernel::ids::{Endpoint, MessageType, ServiceName};
use machines::kernel::names::{ExpiryPolicy, InterruptKind};
use machines::kernel::quota::Quota;
use serde::Deserialize;

use super::ConfigError;
use crate::span::{Flag, Most, Number, Words};

/// Declares a table that replaces single values of `$target`.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident of $target:ty { $($key:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = "a table of keys and values")]
        pub struct $name {
            $($key: Option<$type>,)*
        }

        impl $name {
            fn put(&self, into: &mut $target) {
                $(if let Some(value) = self.$key {
                    into.$key = value.into();
                })*
            }
        }
    };
}

table! {
    /// What bounds every command (K25).
    LimitTable of Limits {
        id_bytes: Number,
        name_bytes: Number,
        text_bytes: Number,
        raw_input_bytes: Number,
        json_bytes: Number,
        json_depth: Number,
        entries: Number,
        envelope_bytes: Number,
        stages: Number,
        rules: Number,
        expression_depth: Number,
        expression_nodes: Number,
        path_segments: Number,
        branches: Number,
        closed_attempts: Number,
        processes: Number,
        processes_of_user: Number,
        children: Number,
        tree_depth: Number,
        interrupts_pending: Number,
        interrupts: Number,
        reservations: Number,
        services: Number,
        slots: Number,
        dispatches_waiting: Number,
        rate_keys: Number,
        subscriptions: Number,
        subscription_types: Number,
        subscription_queue: Number,
        amount: Number,
        span_ms: Number,
        lease_ms: Number,
        page: Number,
    }
}

table! {
    /// A quota (2.3).
    QuotaTable of Quota {
        max_llm_calls: Most,
        max_tool_calls: Most,
        max_agent_hops: Most,
        max_iterations: Most,
        max_input_tokens: Most,
        max_output_tokens: Most,
        max_context_tokens: Most,
        timeout_ms: Most,
        soft_timeout_ms: Most,
        max_inference_requests: Most,
        max_inference_input_chars: Most,
        rate_limit_rpm: Most,
        rate_limit_rph: Most,
        rate_limit_burst: Most,
    }
}

table! {
    /// A rate (K130).
    RateTable of RateConfig {
        burst: Most,
        minute: Most,
        hour: Most,
        day: Most,
    }
}

/// Interrupts of one kind (K150).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table of keys and values")]
pub struct InterruptTable {
    default_ttl_ms: Option<Number>,
    auto_expire: Option<Flag>,
    require_response: Option<Flag>,
    on_expiry: Option<String>,
}

/// The bus (K305, K308).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table of keys and values")]
pub struct BusTable {
    timeout_default_ms: Option<Number>,
    timeout_max_ms: Option<Number>,
    failure_threshold: Option<Number>,
    reset_timeout_ms: Option<Number>,
    excluded_types: Option<Words>,
}

/// What is set of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table of keys and values, as [kernel]")]
pub struct KernelTable {
    limits: LimitTable,
    default_quota: QuotaTable,
    quota_ceiling: QuotaTable,
    default_rate: RateTable,
    interrupts: BTreeMap<String, InterruptTable>,
    bus: BusTable,
    rate_enforced_calls: Option<Words>,
    default_service: Option<String>,
    ageing_ms: Option<Number>,
    run_lease_ms: Option<Number>,
    reservation_lease_ms: Option<Number>,
    task_lease_ms: Option<Number>,
    slot_lease_ms: Option<Number>,
    soft_percent: Option<Number>,
    approval_ttl_ms: Option<Number>,
    max_escalations: Option<Number>,
    max_lost: Option<Number>,
    step_limit: Option<Number>,
    executor_max: Option<Number>,
    tick_batch: Option<Number>,
    cleanup_interval_ms: Option<Number>,
    drain_ms: Option<Number>,
    terminated_retention_ms: Option<Number>,
    zombie_retention_ms: Option<Number>,
    interrupt_retention_ms: Option<Number>,
    dispatch_retention_ms: Option<Number>,
    envelope_retention_ms: Option<Number>,
}

impl KernelTable {
    /// Returns the kernel's configuration, checked.
    ///
    /// # Errors
    ///
    /// Names the first key that is wrong.
    pub fn config(&self) -> Result<KernelConfig, ConfigError> {
        let mut config = KernelConfig::new();
        self.limits.put(&mut config.limits);
        self.default_quota.put(&mut config.default_quota);
        self.quota_ceiling.put(&mut config.quota_ceiling);
        self.default_rate.put(&mut config.default_rate);
        self.put_numbers(&mut config);
        self.put_names(&mut config)?;
        for (kind, table) in &self.interrupts {
            let known = InterruptKind::ALL.iter().find(|known| known.name() == kind);
            let Some(known) = known else {
                let names: Vec<&str> = InterruptKind::ALL.iter().map(|kind| kind.name()).collect();
                let why = format!("there is no such kind; expected one of {}", names.join(", "));
                return Err(ConfigError::of(&format!("kernel.interrupts.{kind}"), why));
            };
            table.put(*known, &mut config.interrupts[usize::from(known.number() - 1)])?;
        }
        self.bus.put(&mut config.bus)?;
        config.check().map_err(|refusal| located(&refusal))?;
        // What must not wait for longer than anything else may (K25).
        let most = config.limits.span_ms;
        let spans = [("drain_ms", config.drain_ms), ("approval_ttl_ms", config.approval_ttl_ms)];
        match spans.into_iter().find(|(_, span)| !(1..=most).contains(span)) {
            Some((key, span)) => {
                let why = format!("{span}: must be in 1..={most}");
                Err(ConfigError::of(&format!("kernel.{key}"), why))
            }
            None => Ok(config),
        }
    }

    fn put_numbers(&self, config: &mut KernelConfig) {
        let retention = &mut config.retention;
        for (given, value) in [
            (self.ageing_ms, &mut config.ageing_ms),
            (self.run_lease_ms, &mut config.run_lease_ms),
            (self.reservation_lease_ms, &mut config.reservation_lease_ms),
            (self.task_lease_ms, &mut config.task_lease_ms),
            (self.slot_lease_ms, &mut config.slot_lease_ms),
            (self.soft_percent, &mut config.soft_percent),
            (self.approval_ttl_ms, &mut config.approval_ttl_ms),
            (self.max_escalations, &mut config.max_escalations),
            (self.max_lost, &mut config.max_lost),
            (self.step_limit, &mut config.step_limit),
            (self.executor_max, &mut config.executor_max),
            (self.tick_batch, &mut config.tick_batch),
            (self.cleanup_interval_ms, &mut config.cleanup_interval_ms),
            (self.drain_ms, &mut config.drain_ms),
            (self.terminated_retention_ms, &mut retention.terminated_ms),
            (self.zombie_retention_ms, &mut retention.zombie_ms),
            (self.interrupt_retention_ms, &mut retention.interrupt_ms),
            (self.dispatch_retention_ms, &mut retention.dispatch_ms),
            (self.envelope_retention_ms, &mut retention.envelope_ms),
        ] {
            *value = given.map_or(*value, u64::from);
        }
    }

    fn put_names(&self, config: &mut KernelConfig) -> Result<(), ConfigError> {
        if let Some(name) = &self.default_service {
            let service = ServiceName::parse("default_service", name);
            config.default_service = service.map_err(|refusal| located(&refusal))?;
        }
        if let Some(Words(calls)) = &self.rate_enforced_calls {
            let calls = calls.iter().map(|call| Endpoint::parse("rate_enforced_calls", call));
            let calls: Result<_, Refusal> = calls.collect();
            config.rate_enforced_calls = calls.map_err(|refusal| located(&refusal))?;
        }
        Ok(())
    }
}

impl InterruptTable {
    fn put(&self, kind: InterruptKind, into: &mut InterruptConfig) -> Result<(), ConfigError> {
        if let Some(ttl) = self.default_ttl_ms {
            into.default_ttl = Some(ttl.0).filter(|ttl| *ttl > 0);
        }
        into.auto_expire = self.auto_expire.map_or(into.auto_expire, bool::from);
        into.require_response = self.require_response.map_or(into.require_response, bool::from);
        if let Some(name) = &self.on_expiry {
            let suits = || ExpiryPolicy::ALL.iter().filter(|policy| policy.suits(kind));
            let Some(policy) = suits().find(|policy| policy.name() == name) else {
                let names: Vec<&str> = suits().map(|policy| policy.name()).collect();
                let why = format!("\"{name}\": expected one of {}", names.join(", "));
                let key = format!("kernel.interrupts.{}.on_expiry", kind.name());
                return Err(ConfigError::of(&key, why));
            };
            into.on_expiry = *policy;
        }
        Ok(())
    }
}

impl BusTable {
    fn put(&self, into: &mut BusRules) -> Result<(), ConfigError> {
        for (given, value) in [
            (self.timeout_default_ms, &mut into.timeout_default_ms),
            (self.timeout_max_ms, &mut into.timeout_max_ms),
            (self.failure_threshold, &mut into.failure_threshold),
            (self.reset_timeout_ms, &mut into.reset_timeout_ms),
        ] {
            *value = given.map_or(*value, u64::from);
        }
        if let Some(Words(types)) = &self.excluded_types {
            let types = types.iter().map(|name| MessageType::parse("bus.excluded_types", name));
            let types: Result<_, Refusal> = types.collect();
            into.excluded_types = types.map_err(|refusal| located(&refusal))?;
        }
        Ok(())
    }
}

/// Says in the words of the configuration what the kernel refuses.
fn located(refusal: &Refusal) -> ConfigError {
    let text: &str = &refusal.text;
    let Some((field, why)) = text.split_once(": ") else {
        return ConfigError::of("kernel", text);
    };
    let kind = InterruptKind::ALL.iter().any(|kind| kind.name() == field);
    let key = format!("kernel.{}{field}", if kind { "interrupts." } else { "" });
    ConfigError::of(&key, why.replace(" is not in ", ": must be in "))
}
