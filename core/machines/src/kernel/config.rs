//! Configuration of the kernel, which is part of its state (K11, K25).

use std::collections::BTreeSet;

use crate::wire_struct;

use super::bus::BusRules;
use super::ids::{Endpoint, ServiceName};
use super::names::{ExpiryPolicy, InterruptKind};
use super::quota::{Limit, Quota};
use super::refusal::{Code, Refusal};
use super::time::Millis;

/// Declares the limits of K25 with their defaults.
macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident = $default:literal),* $(,)?) => {
        /// What bounds every command (K25). Each may be set from 1 to ten times its default.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct Limits {
            $($(#[$doc])* pub $field: u64),*
        }

        wire_struct!(Limits { $($field),* });

        impl Limits {
            /// The defaults of K25.
            pub const DEFAULT: Self = Self { $($field: $default),* };

            /// Finds the first limit that is out of its range, and says so.
            fn check(&self) -> Result<(), Refusal> {
                $(if self.$field < 1 || self.$field > $default * 10 {
                    return Err(Refusal::new(Code::BadValue, format!(
                        "limits.{}: {} is not in 1..={}",
                        stringify!($field), self.$field, $default * 10_u64,
                    )));
                })*
                Ok(())
            }
        }
    };
}

/// Refuses what is below `least` as `bad_value`, and above `most` as `too_large` (K25).
fn check_range(field: &str, asked: Millis, least: Millis, most: Millis) -> Result<(), Refusal> {
    if asked < least {
        return Err(bad(format!("{field}: {asked} is not in {least}..={most}")));
    }
    match asked > most {
        true => Err(Refusal::new(Code::TooLarge, format!("{field}: {asked}, at most {most}"))),
        false => Ok(()),
    }
}

impl Limits {
    /// Checks a TTL, timeout or deadline that a caller asks for (K25).
    pub(super) fn check_span(&self, field: &str, span: Millis) -> Result<(), Refusal> {
        check_range(field, span, 1, self.span_ms)
    }

    /// Checks how long a lease is asked for (K25).
    pub(super) fn check_lease(&self, field: &str, lease: Millis) -> Result<(), Refusal> {
        check_range(field, lease, LEASE_MS_MIN, self.lease_ms)
    }
}

limits! {
    /// Bytes of an id.
    id_bytes = 128,
    /// Bytes of a name.
    name_bytes = 128,
    /// Bytes of a question, message, reason or error.
    text_bytes = 16_384,
    /// Bytes of `raw_input`.
    raw_input_bytes = 1_048_576,
    /// Canonical bytes of one JSON payload.
    json_bytes = 1_048_576,
    /// Depth of JSON.
    json_depth = 64,
    /// Entries of a map or list.
    entries = 1_024,
    /// Canonical bytes of an envelope.
    envelope_bytes = 3_145_728,
    /// Stages of a pipeline.
    stages = 256,
    /// Routing rules of a stage.
    rules = 64,
    /// Depth of an expression.
    expression_depth = 16,
    /// Nodes of an expression.
    expression_nodes = 256,
    /// Segments of a field's path.
    path_segments = 8,
    /// Branches of a fork.
    branches = 64,
    /// Closed attempts remembered of a session.
    closed_attempts = 64,
    /// Processes, in all states.
    processes = 2_000_000,
    /// Live processes of a user.
    processes_of_user = 1_000_000,
    /// Children of a process.
    children = 1_024,
    /// Depth of a tree of processes.
    tree_depth = 8,
    /// Pending interrupts of a process.
    interrupts_pending = 16,
    /// Interrupts over the life of a process.
    interrupts = 1_000,
    /// Open reservations of a process.
    reservations = 256,
    /// Services.
    services = 4_096,
    /// Slots of a service.
    slots = 65_536,
    /// Dispatches that wait for a service.
    dispatches_waiting = 1_024,
    /// Keys of rates.
    rate_keys = 262_144,
    /// Subscriptions of the bus.
    subscriptions = 10_000,
    /// Types in one subscription.
    subscription_types = 64,
    /// Messages that wait for one subscription.
    subscription_queue = 256,
    /// One amount in one command.
    amount = 1_099_511_627_776,
    /// The longest TTL, timeout or deadline, in milliseconds.
    span_ms = 2_592_000_000,
    /// The longest lease, in milliseconds.
    lease_ms = 3_600_000,
    /// The largest page.
    page = 1_000,
    /// Bytes that the events of one decision may take in the journal. An envelope is at most a
    /// half of it, other content a quarter ([`KernelConfig::check`]), so that what follows has
    /// room too.
    decision_bytes = 8_388_608,
}

impl Limits {
    /// Lists what one command can bring: name, limit, and which part of a decision it may be.
    fn contents(&mut self) -> [(&'static str, &mut u64, u64); 4] {
        let whole = self.decision_bytes;
        // All that wait at a service may start at once: when a handler is bound.
        let starts = self.ends(6, 10 * self.id_bytes + END_BYTES);
        [
            ("dispatches_waiting", &mut self.dispatches_waiting, starts),
            ("envelope_bytes", &mut self.envelope_bytes, whole / 2),
            ("json_bytes", &mut self.json_bytes, whole / 4),
            ("raw_input_bytes", &mut self.raw_input_bytes, whole / 4),
        ]
    }
}

/// Dispatches of a process that have not ended, at the most: they end with it, in one decision
/// (K82). No field of [`Limits`], since it follows from what a decision takes.
pub const DISPATCHES_OPEN_MAX: u64 = 1_024;
/// Where a decision takes next to nothing, so many things may end with a process all the same. It
/// is enough from records of 128 KiB on; shorter ones are for tests.
const ENDS_MIN: u64 = 16;
/// Bytes of the events of one end beside ids of the caller's.
const END_BYTES: u64 = 512;

impl Limits {
    /// Returns how many dispatches of a process may be open. The end of each, and the start of one
    /// that waits for its slot, tell 20 ids; all of them are three eighths of a decision.
    #[must_use]
    pub fn dispatches_open(&self) -> u64 {
        self.ends(3, 20 * self.id_bytes + END_BYTES).min(DISPATCHES_OPEN_MAX)
    }

    /// Returns how many interrupts a process may have over its life: as many approvals lapse with
    /// it, in an eighth of a decision.
    #[must_use]
    pub fn interrupts_of_life(&self) -> u64 {
        self.ends(1, 4 * self.id_bytes + END_BYTES / 2).min(self.interrupts)
    }

    /// Returns how many ends of so many bytes fit into a part of a decision.
    fn ends(&self, eighths: u64, bytes: u64) -> u64 {
        (self.decision_bytes / 8 * eighths / bytes).max(ENDS_MIN)
    }
}

/// The shortest lease there is, in milliseconds (K25).
pub const LEASE_MS_MIN: Millis = 1_000;

/// How requests of one key are limited (2.5, K130).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateConfig {
    /// In any ten seconds.
    pub burst: Limit,
    /// In any minute.
    pub minute: Limit,
    /// In any hour.
    pub hour: Limit,
    /// In any day.
    pub day: Limit,
}

wire_struct!(RateConfig { burst, minute, hour, day });

impl RateConfig {
    /// The defaults of K130.
    pub const DEFAULT: Self = Self {
        burst: Limit::at_most(10),
        minute: Limit::at_most(60),
        hour: Limit::at_most(1_000),
        day: Limit::at_most(10_000),
    };
}

/// How interrupts of one kind behave unless told otherwise (K150, K151).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterruptConfig {
    /// How long it waits.
    pub default_ttl: Option<Millis>,
    /// Whether it expires by itself.
    pub auto_expire: bool,
    /// Whether an answer must say something.
    pub require_response: bool,
    /// What happens when it expires.
    pub on_expiry: ExpiryPolicy,
}

wire_struct!(InterruptConfig { default_ttl, auto_expire, require_response, on_expiry });

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

impl InterruptConfig {
    /// The defaults of K150.
    #[must_use]
    pub const fn of(kind: InterruptKind) -> Self {
        let (ttl, auto_expire, require_response, on_expiry) = match kind {
            InterruptKind::Clarification => (24 * HOUR, true, true, ExpiryPolicy::Fail),
            InterruptKind::Confirmation => (HOUR, true, true, ExpiryPolicy::Deny),
            InterruptKind::AgentReview => (30 * MINUTE, true, true, ExpiryPolicy::Deny),
            InterruptKind::Checkpoint => (0, false, false, ExpiryPolicy::Continue),
            InterruptKind::ResourceExhausted | InterruptKind::Timeout => {
                (5 * MINUTE, true, false, ExpiryPolicy::Fail)
            }
            InterruptKind::SystemError => (HOUR, true, false, ExpiryPolicy::Fail),
        };
        let default_ttl = if ttl == 0 { None } else { Some(ttl) };
        Self { default_ttl, auto_expire, require_response, on_expiry }
    }
}

/// How long what is over is kept (K360).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retention {
    /// Terminated until Zombie.
    pub terminated_ms: Millis,
    /// Zombie until removed.
    pub zombie_ms: Millis,
    /// Closed interrupts.
    pub interrupt_ms: Millis,
    /// Finished dispatches.
    pub dispatch_ms: Millis,
    /// Envelopes that serve no process.
    pub envelope_ms: Millis,
}

wire_struct!(Retention { terminated_ms, zombie_ms, interrupt_ms, dispatch_ms, envelope_ms });

impl Retention {
    /// The defaults of K360.
    pub const DEFAULT: Self = Self {
        terminated_ms: HOUR,
        zombie_ms: 24 * HOUR,
        interrupt_ms: 24 * HOUR,
        dispatch_ms: 10 * MINUTE,
        envelope_ms: HOUR,
    };
}

/// What decides how the kernel behaves (section 2.1). It is recorded at every start (K11).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelConfig {
    /// What bounds every command.
    pub limits: Limits,
    /// The quota of a process that is given none.
    pub default_quota: Quota,
    /// The most that anyone but an operator may ask for (K64).
    pub quota_ceiling: Quota,
    /// The rate of keys that are given none (K130).
    pub default_rate: RateConfig,
    /// The calls for which the server demands a rate, by their names (K136).
    pub rate_enforced_calls: BTreeSet<Endpoint>,
    /// The service of stages that name none.
    pub default_service: ServiceName,
    /// How long a wait is worth one band (K71).
    pub ageing_ms: Millis,
    /// How long a claim lasts (K78).
    pub run_lease_ms: Millis,
    /// How long a reservation lasts.
    pub reservation_lease_ms: Millis,
    /// How long a worker has a task (K205).
    pub task_lease_ms: Millis,
    /// How long a slot is held (K196).
    pub slot_lease_ms: Millis,
    /// From which part of a limit a warning is recorded, in per cent (K113).
    pub soft_percent: u64,
    /// How interrupts behave, in the order of their kinds (K150).
    pub interrupts: [InterruptConfig; 7],
    /// How long an approval can be used (K171).
    pub approval_ttl_ms: Millis,
    /// How often an interrupt is escalated (K164).
    pub max_escalations: u64,
    /// How often lost work is handed out again (K210, K272).
    pub max_lost: u64,
    /// Route-only steps in one decision (K241).
    pub step_limit: u64,
    /// Processes that the executor drives at once (K290).
    pub executor_max: u64,
    /// Deadlines handled by one decision (K10).
    pub tick_batch: u64,
    /// Time between cleanups (K361).
    pub cleanup_interval_ms: Millis,
    /// How long draining may take (K362).
    pub drain_ms: Millis,
    /// How long what is over is kept.
    pub retention: Retention,
    /// Timeouts and breakers of the bus (K305, K308).
    pub bus: BusRules,
}

wire_struct!(KernelConfig {
    limits,
    default_quota,
    quota_ceiling,
    default_rate,
    rate_enforced_calls,
    default_service,
    ageing_ms,
    run_lease_ms,
    reservation_lease_ms,
    task_lease_ms,
    slot_lease_ms,
    soft_percent,
    interrupts,
    approval_ttl_ms,
    max_escalations,
    max_lost,
    step_limit,
    executor_max,
    tick_batch,
    cleanup_interval_ms,
    drain_ms,
    retention,
    bus,
});

impl KernelConfig {
    /// Makes the default configuration (2.1).
    ///
    /// # Panics
    ///
    /// Never: the default service has a name.
    #[must_use]
    pub fn new() -> Self {
        let service = ServiceName::parse("default_service", "flow_service");
        let mut interrupts = [InterruptConfig::of(InterruptKind::Clarification); 7];
        for kind in InterruptKind::ALL {
            interrupts[usize::from(kind.number() - 1)] = InterruptConfig::of(*kind);
        }
        Self {
            limits: Limits::DEFAULT,
            default_quota: Quota::DEFAULT,
            quota_ceiling: Quota::UNLIMITED,
            default_rate: RateConfig::DEFAULT,
            rate_enforced_calls: BTreeSet::new(),
            default_service: service.expect("the default service has a name"),
            ageing_ms: 30_000,
            run_lease_ms: 60_000,
            reservation_lease_ms: 120_000,
            task_lease_ms: 30_000,
            slot_lease_ms: 60_000,
            soft_percent: 80,
            interrupts,
            approval_ttl_ms: 900_000,
            max_escalations: 1,
            max_lost: 3,
            step_limit: 100,
            executor_max: 1_024,
            tick_batch: 256,
            cleanup_interval_ms: 300_000,
            drain_ms: 30_000,
            retention: Retention::DEFAULT,
            bus: BusRules::DEFAULT,
        }
    }

    /// Lowers what decides how long a decision can be, until it fits into a record that takes
    /// `most` bytes of events. The defaults fit into a record of 8 MiB.
    #[must_use]
    pub fn within(mut self, most: u64) -> Self {
        self.limits.decision_bytes = self.limits.decision_bytes.min(most);
        for (_, limit, part) in self.limits.contents() {
            *limit = (*limit).min(part);
        }
        self
    }

    /// Returns how interrupts of a kind behave.
    #[must_use]
    pub const fn interrupt(&self, kind: InterruptKind) -> &InterruptConfig {
        &self.interrupts[kind.number() as usize - 1]
    }

    /// Checks every rule of 2.1 and K150.
    ///
    /// # Errors
    ///
    /// `bad_value` or `policy_not_allowed`, naming the field and what would be right.
    pub fn check(&self) -> Result<(), Refusal> {
        self.limits.check()?;
        for (field, limit, most) in self.limits.clone().contents() {
            if *limit > most {
                let told = format!("limits.{field}: {limit}, at most {most} for decision_bytes");
                return Err(bad(told));
            }
        }
        self.check_leases()?;
        let positive = [
            ("ageing_ms", self.ageing_ms),
            ("approval_ttl_ms", self.approval_ttl_ms),
            ("step_limit", self.step_limit),
            ("executor_max", self.executor_max),
            ("tick_batch", self.tick_batch),
            ("cleanup_interval_ms", self.cleanup_interval_ms),
            ("bus.timeout_default_ms", self.bus.timeout_default_ms),
            ("bus.reset_timeout_ms", self.bus.reset_timeout_ms),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err(bad(format!("{field}: must be at least 1")));
            }
        }
        if !(1..=100).contains(&self.soft_percent) {
            return Err(bad(format!("soft_percent: {} is not in 1..=100", self.soft_percent)));
        }
        let (usual, most) = (self.bus.timeout_default_ms, self.bus.timeout_max_ms);
        if usual > most {
            return Err(bad(format!("bus.timeout_default_ms: {usual}, at most {most}")));
        }
        check_quota("default_quota", &self.default_quota)?;
        InterruptKind::ALL.iter().try_for_each(|kind| self.check_interrupt(*kind))
    }

    fn check_leases(&self) -> Result<(), Refusal> {
        let leases = [
            ("run_lease_ms", self.run_lease_ms),
            ("reservation_lease_ms", self.reservation_lease_ms),
            ("task_lease_ms", self.task_lease_ms),
            ("slot_lease_ms", self.slot_lease_ms),
        ];
        let most = self.limits.lease_ms;
        for (field, lease) in leases {
            if !(LEASE_MS_MIN..=most).contains(&lease) {
                return Err(bad(format!("{field}: {lease} is not in {LEASE_MS_MIN}..={most}")));
            }
        }
        Ok(())
    }

    fn check_interrupt(&self, kind: InterruptKind) -> Result<(), Refusal> {
        let config = self.interrupt(kind);
        if !config.on_expiry.suits(kind) {
            let told = format!("{} cannot {} on expiry", kind.name(), config.on_expiry.name());
            return Err(Refusal::new(Code::PolicyNotAllowed, told));
        }
        // An answer to what asks leave says yes or no, whatever the configuration (K427).
        if kind.asks_leave() && !config.require_response {
            return Err(bad(format!("{}: require_response cannot be turned off", kind.name())));
        }
        let most = self.limits.span_ms;
        if let Some(ttl) = config.default_ttl.filter(|ttl| !(1..=most).contains(ttl)) {
            return Err(bad(format!("{}: default_ttl: {ttl} is not in 1..={most}", kind.name())));
        }
        match (config.auto_expire, config.default_ttl) {
            (true, None) => Err(bad(format!("{}: auto_expire needs a TTL", kind.name()))),
            (true | false, _) => Ok(()),
        }
    }
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Checks what holds between the fields of a quota (2.3).
///
/// # Errors
///
/// `bad_value` if the warning would come after the end.
pub fn check_quota(field: &str, quota: &Quota) -> Result<(), Refusal> {
    let (soft, hard) = (quota.soft_timeout_ms, quota.timeout_ms);
    match soft.most().is_some() && soft > hard {
        true => Err(bad(format!("{field}.soft_timeout_ms: {soft} is above timeout_ms, {hard}"))),
        false => Ok(()),
    }
}

fn bad(text: String) -> Refusal {
    Refusal::new(Code::BadValue, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Wire;

    #[test]
    fn the_defaults_keep_their_own_rules_and_come_back_from_bytes() {
        let config = KernelConfig::new();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(KernelConfig::from_bytes(&config.to_bytes()), Ok(config));
    }

    #[test]
    fn no_setting_makes_an_unanswered_confirmation_continue() {
        let mut config = KernelConfig::new();
        config.interrupts[1].on_expiry = ExpiryPolicy::Continue;
        let refused = config.check().unwrap_err();
        assert_eq!(refused.code, Code::PolicyNotAllowed);
        assert_eq!(&*refused.text, "confirmation cannot continue on expiry");
    }

    #[test]
    fn a_limit_goes_from_one_to_ten_times_its_default() {
        let with = |stages| {
            let mut config = KernelConfig::new();
            config.limits.stages = stages;
            config.check().map_err(|refusal| refusal.text.to_string())
        };
        assert_eq!((with(1), with(2_560)), (Ok(()), Ok(())));
        assert_eq!(with(0), Err("limits.stages: 0 is not in 1..=2560".to_owned()));
        assert_eq!(with(2_561), Err("limits.stages: 2561 is not in 1..=2560".to_owned()));
    }

    /// The events of a decision are one record: what a command may bring leaves room in it.
    #[test]
    fn what_a_command_brings_is_a_part_of_what_a_decision_takes() {
        let mut config = KernelConfig::new();
        config.limits.envelope_bytes = 5 << 20;
        let told = "limits.envelope_bytes: 5242880, at most 4194304 for decision_bytes";
        assert_eq!(&*config.check().unwrap_err().text, told);
        config.limits.decision_bytes = 10 << 20;
        assert_eq!(config.check(), Ok(()));
        let config = config.within(1 << 20);
        assert_eq!(config.check(), Ok(()));
        let limits = config.limits;
        assert_eq!((limits.decision_bytes, limits.envelope_bytes), (1 << 20, 1 << 19));
        assert_eq!(limits.dispatches_waiting, 438, "as many may start at once (K204)");
        assert_eq!(KernelConfig::new().within(16 << 20), KernelConfig::new(), "the defaults fit");
    }

    /// K82: what ends with a process fits into a record, whatever ids and decisions are set to.
    #[test]
    fn what_ends_with_a_process_is_a_part_of_what_a_decision_takes() {
        let ends = |change: fn(&mut Limits)| {
            let mut limits = Limits::DEFAULT;
            change(&mut limits);
            (limits.dispatches_open(), limits.interrupts_of_life())
        };
        assert_eq!(ends(|_| {}), (1_024, 1_000), "the defaults are what K25 says");
        assert_eq!(ends(|limits| limits.decision_bytes *= 10), (1_024, 1_000));
        assert_eq!(ends(|limits| limits.interrupts = 20), (1_024, 20));
        assert_eq!(ends(|limits| limits.decision_bytes = 1 << 20), (128, 170));
        assert_eq!(ends(|limits| limits.id_bytes *= 10), (120, 195));
        assert_eq!(ends(|limits| limits.decision_bytes = 1), (16, 16));
    }

    #[test]
    fn a_lease_is_from_a_second_to_an_hour() {
        let mut config = KernelConfig::new();
        config.run_lease_ms = 999;
        let refused = config.check().unwrap_err();
        assert_eq!(&*refused.text, "run_lease_ms: 999 is not in 1000..=3600000");
    }
}
