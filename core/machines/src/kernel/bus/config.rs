//! Every limit of the bus (K25, K305, K306, K308).

use std::collections::BTreeSet;

use super::middleware::Middleware;
use crate::kernel::config::KernelConfig;
use crate::kernel::ids::MessageType;
use crate::kernel::time::Millis;
use crate::wire_struct;

/// What the kernel's configuration says of the bus (2.1, K305, K308).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BusRules {
    /// How long a call waits for its answer if it does not say.
    pub timeout_default_ms: Millis,
    /// How long a call may wait.
    pub timeout_max_ms: Millis,
    /// How many failures in a row open a breaker; 0 is never.
    pub failure_threshold: u64,
    /// How long it stays open.
    pub reset_timeout_ms: Millis,
    /// Types without a breaker.
    pub excluded_types: BTreeSet<MessageType>,
}

wire_struct!(BusRules {
    timeout_default_ms,
    timeout_max_ms,
    failure_threshold,
    reset_timeout_ms,
    excluded_types,
});

impl BusRules {
    /// The defaults of K305 and K308.
    pub const DEFAULT: Self = Self {
        timeout_default_ms: 30_000,
        timeout_max_ms: 300_000,
        failure_threshold: 5,
        reset_timeout_ms: 30_000,
        excluded_types: BTreeSet::new(),
    };
}

/// Parameters of circuit breakers (K308).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BreakerConfig {
    /// How many failures in a row open a breaker; 0 is never.
    pub failure_threshold: u32,
    /// How long it stays open.
    pub reset_timeout_ms: Millis,
    /// Types without a breaker.
    pub excluded_types: BTreeSet<MessageType>,
    /// The most types whose failures are remembered.
    pub breakers_max: u32,
}

/// Parameters of the bus.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// The most subscriptions.
    pub subscriptions_max: u32,
    /// The most types, and the most handles, in one subscription.
    pub types_max: u32,
    /// The most messages in the queue of one subscription (K306).
    pub queue_max: u32,
    /// The most bytes of a type.
    pub name_bytes_max: u32,
    /// The most bytes of a payload.
    pub payload_bytes_max: u32,
    /// The most bytes of a handler's error.
    pub error_bytes_max: u32,
    /// The most commands and queries under way.
    pub calls_max: u32,
    /// The most types that the node's process handles.
    pub bound_max: u32,
    /// How long a call waits for its answer if it does not say (K305).
    pub timeout_default_ms: Millis,
    /// How long a call may wait.
    pub timeout_max_ms: Millis,
    /// Circuit breakers.
    pub breaker: BreakerConfig,
    /// In the order of `before` (K307).
    pub middleware: Vec<Middleware>,
}

impl BusConfig {
    /// The defaults of K25, K305 and K308, without middleware.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            subscriptions_max: 10_000,
            types_max: 64,
            queue_max: 256,
            name_bytes_max: 128,
            payload_bytes_max: 1 << 20,
            error_bytes_max: 16 << 10,
            calls_max: 65_536,
            bound_max: 4_096,
            timeout_default_ms: 30_000,
            timeout_max_ms: 300_000,
            breaker: BreakerConfig {
                failure_threshold: 5,
                reset_timeout_ms: 30_000,
                excluded_types: BTreeSet::new(),
                breakers_max: 4_096,
            },
            middleware: Vec::new(),
        }
    }

    /// Makes what a kernel's configuration says, with this middleware.
    #[must_use]
    pub fn of(config: &KernelConfig, middleware: Vec<Middleware>) -> Self {
        let (limits, rules) = (&config.limits, &config.bus);
        let narrow = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
        let standard = Self::standard();
        let breaker = BreakerConfig {
            failure_threshold: narrow(rules.failure_threshold),
            reset_timeout_ms: rules.reset_timeout_ms,
            excluded_types: rules.excluded_types.clone(),
            ..standard.breaker
        };
        Self {
            subscriptions_max: narrow(limits.subscriptions),
            types_max: narrow(limits.subscription_types),
            queue_max: narrow(limits.subscription_queue),
            name_bytes_max: narrow(limits.name_bytes),
            payload_bytes_max: narrow(limits.json_bytes),
            error_bytes_max: narrow(limits.text_bytes),
            timeout_default_ms: rules.timeout_default_ms,
            timeout_max_ms: rules.timeout_max_ms,
            breaker,
            middleware,
            ..standard
        }
    }

    /// Asserts what the bus relies on.
    pub(super) fn assert_sound(&self) {
        assert!(self.queue_max > 0, "a queue has room for a message");
        assert!(self.timeout_default_ms > 0, "a call may take some time");
        assert!(self.timeout_default_ms <= self.timeout_max_ms, "what is usual is allowed");
        assert!(self.breaker.reset_timeout_ms > 0, "an open breaker is open for a while");
    }
}
