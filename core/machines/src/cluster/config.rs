//! Every limit and interval of the cluster's machines, with the legal ranges (C62, C107, C108).

use std::time::Duration;

use super::swim::{Bounds, log2_ceil};
use super::wire::MemberRow;

/// A named set of the values of C62.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// One machine or one rack.
    Local,
    /// One site; the default.
    Lan,
}

/// The longest probe period. With [`FACTOR_MAX`] it keeps every bound of C50 far below the 584
/// years that nanoseconds in 64 bits can tell.
const PERIOD_MAX: Duration = Duration::from_secs(3_600);
/// The greatest multiple that a parameter may ask for.
const FACTOR_MAX: u32 = 100;
/// The most events that a watcher may fall behind: what a mailbox can hold.
const WATCH_BUFFER_MAX: u32 = 1 << 20;

/// Parameters of membership (C62).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SwimConfig {
    /// T: the time between probe rounds.
    pub period: Duration,
    /// When a probe without answer asks helpers.
    pub probe_timeout: Duration,
    /// How much longer until the round has failed.
    pub indirect_timeout: Duration,
    /// K: helpers asked.
    pub helpers: u32,
    /// G: the gossip tick.
    pub gossip_tick: Duration,
    /// F: members told at each tick.
    pub gossip_fanout: u32,
    /// λ: sends of a fact are λ·⌈log₂(N+1)⌉.
    pub retransmit: u32,
    /// α: the least suspicion is α·S(N)·T.
    pub suspicion_min: u32,
    /// β: the longest suspicion is β times the least.
    pub suspicion_max: u32,
    /// The worst health score.
    pub health_max: u32,
    /// X: the time between syncs, for up to 32 members.
    pub sync: Duration,
    /// Q: the time between re-probes of the dead, and between tries to join.
    pub reprobe: Duration,
    /// How long the dead are remembered.
    pub forget_after: Duration,
    /// How long those that left are remembered (C60).
    pub forget_left_after: Duration,
    /// The most relays for others at a time (C47).
    pub relays_max: u32,
    /// The most rows (C107).
    pub members_max: u32,
    /// The most remembered sessions of forgotten nodes (C60).
    pub sessions_max: u32,
    /// How long `leave` lasts at the most (C56).
    pub leave_timeout: Duration,
    /// Events kept for a watcher that is behind (C45).
    pub watch_buffer: u32,
}

/// Parameters of links and handshakes (C107).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinksConfig {
    /// The least version spoken.
    pub version_min: u16,
    /// The greatest version spoken.
    pub version_max: u16,
    /// Features offered.
    pub features: u32,
    /// Features required; a subset of those offered.
    pub required: u32,
    /// How long a dial may take to connect.
    pub connect_timeout: Duration,
    /// How long one step of a handshake may take.
    pub step_timeout: Duration,
    /// How long a handshake may take in all.
    pub handshake_timeout: Duration,
    /// Accepted connections a second, per source and in all, and the burst per source.
    pub accept_rate_source: u32,
    /// The most connections of one source at once, after a rest.
    pub accept_burst_source: u32,
    /// Accepted connections a second from all sources.
    pub accept_rate_total: u32,
    /// The most handshakes not yet up, in all.
    pub half_open_max: u32,
    /// The most handshakes not yet up, of one source.
    pub half_open_source_max: u32,
    /// The first redial delay.
    pub backoff_base: Duration,
    /// The longest redial delay.
    pub backoff_cap: Duration,
    /// The delay after a refusal that time does not mend.
    pub backoff_long: Duration,
    /// A stream that sent nothing for so long sends a Keepalive.
    pub keepalive: Duration,
    /// A link without traffic for so long closes.
    pub link_idle: Duration,
    /// The most links.
    pub links_max: u32,
    /// The age of an epoch at which it is renewed.
    pub rekey_after: Duration,
    /// The age of an epoch at which its link closes.
    pub reject_after: Duration,
    /// How long old receive keys live.
    pub rekey_grace: Duration,
    /// The longest message body, in bytes.
    pub message_bytes_max: u32,
    /// The most queued user bytes of a link.
    pub link_queue_bytes_max: u32,
    /// The most user bytes that wait for a dial.
    pub dial_queue_bytes_max: u32,
    /// The most user messages that wait for a dial.
    pub dial_queue_items_max: u32,
    /// The most unsent bytes in a socket.
    pub unsent_bytes_max: u32,
}

/// What of the links' limits can change while a node runs: rates and back-off (C108).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reloadable {
    /// [`LinksConfig::accept_rate_source`].
    pub accept_rate_source: u32,
    /// [`LinksConfig::accept_burst_source`].
    pub accept_burst_source: u32,
    /// [`LinksConfig::accept_rate_total`].
    pub accept_rate_total: u32,
    /// [`LinksConfig::backoff_base`].
    pub backoff_base: Duration,
    /// [`LinksConfig::backoff_cap`].
    pub backoff_cap: Duration,
    /// [`LinksConfig::backoff_long`].
    pub backoff_long: Duration,
}

/// Parameters of the registry (C107).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegistryConfig {
    /// The most names of one owner.
    pub names_per_node_max: u32,
    /// The most names in all.
    pub names_max: u32,
    /// How long a look-up may take.
    pub lookup_timeout: Duration,
    /// The ttl of a registration that names none: at least [`ClusterConfig::ttl_least`].
    pub default_ttl: Duration,
    /// How long hints are kept (C75).
    pub hint_keep: Duration,
    /// Events kept for a watcher that is behind (C79).
    pub watch_buffer: u32,
    /// The most look-ups in flight.
    pub lookups_max: u32,
}

/// Parameters of routing (C82–C87).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouterConfig {
    /// Accepted messages after which a Confirm goes back (C84).
    pub confirm_items: u32,
    /// The time after which a Confirm goes back (C84).
    pub confirm_after: Duration,
    /// The longest message, in bytes.
    pub message_bytes_max: u32,
    /// The most sends to one peer whose outcome is not known.
    pub unconfirmed_max: u32,
    /// The most asks in flight.
    pub asks_max: u32,
    /// The most open endpoints of this node.
    pub endpoints_max: u32,
}

/// Parameters of all machines of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterConfig {
    /// The cluster's name; its hash is in every handshake.
    pub cluster: String,
    /// Membership.
    pub swim: SwimConfig,
    /// Links.
    pub links: LinksConfig,
    /// Registry.
    pub registry: RegistryConfig,
    /// Routing.
    pub router: RouterConfig,
}

/// A configuration that cannot be: which key, and why (C108).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigInvalid {
    /// The key as the configuration file spells it.
    pub key: &'static str,
    /// What would be right.
    pub why: String,
}

impl std::fmt::Display for ConfigInvalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl std::error::Error for ConfigInvalid {}

/// The longest span that a value may have: no sum or multiple of a few of them overflows (C108).
const SPAN_MAX: Duration = Duration::from_secs(366 * 86_400);
/// The fewest members that a configuration must serve: of fewer, each syncs with its only peer.
const MEMBERS_LEAST: u32 = 3;
/// The shortest `max_message`: all that links say among themselves, and a record, fit into it.
const MESSAGE_MIN: u32 = 64 << 10;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl SwimConfig {
    /// Returns the values of C62 for `profile`.
    #[must_use]
    pub const fn of(profile: Profile) -> Self {
        let lan = Self {
            period: ms(1_000),
            probe_timeout: ms(200),
            indirect_timeout: ms(300),
            helpers: 3,
            gossip_tick: ms(200),
            gossip_fanout: 3,
            retransmit: 3,
            suspicion_min: 4,
            suspicion_max: 6,
            health_max: 8,
            sync: ms(30_000),
            reprobe: ms(10_000),
            forget_after: Duration::from_secs(24 * 3_600),
            forget_left_after: Duration::from_secs(3_600),
            relays_max: 64,
            members_max: 10_000,
            sessions_max: 65_536,
            leave_timeout: ms(5_000),
            watch_buffer: 1_024,
        };
        match profile {
            Profile::Lan => lan,
            Profile::Local => Self {
                period: ms(500),
                probe_timeout: ms(100),
                indirect_timeout: ms(150),
                gossip_tick: ms(100),
                sync: ms(15_000),
                reprobe: ms(5_000),
                forget_after: Duration::from_secs(3_600),
                ..lan
            },
        }
    }

    /// Checks the relations and ranges of C62.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`] names the first key that is wrong.
    pub fn check(&self) -> Result<(), ConfigInvalid> {
        spans(&[
            (self.period, "period"),
            (self.probe_timeout, "probe_timeout"),
            (self.indirect_timeout, "indirect_timeout"),
            (self.gossip_tick, "gossip_tick"),
            (self.sync, "sync"),
            (self.reprobe, "reprobe"),
            (self.forget_after, "forget_after"),
            (self.forget_left_after, "forget_left_after"),
            (self.leave_timeout, "leave_timeout"),
        ])?;
        let waited = self.probe_timeout + self.indirect_timeout;
        check(!self.period.is_zero(), "period", "must be above 0")?;
        check(!self.probe_timeout.is_zero(), "probe_timeout", "must be above 0")?;
        check(!self.indirect_timeout.is_zero(), "indirect_timeout", "must be above 0")?;
        let fits = waited.as_nanos() * 100 <= self.period.as_nanos() * 55;
        check(fits, "probe_timeout", "probe_timeout + indirect_timeout must be <= 0.55 period")?;
        check(!self.gossip_tick.is_zero(), "gossip_tick", "must be above 0")?;
        check(!self.sync.is_zero(), "sync", "must be above 0")?;
        check(!self.reprobe.is_zero(), "reprobe", "must be above 0")?;
        check(self.period <= PERIOD_MAX, "period", "must be at most 1 h")?;
        let factor = |factor: u32| (1..=FACTOR_MAX).contains(&factor);
        check(factor(self.gossip_fanout), "gossip_fanout", "must be 1 to 100")?;
        check(factor(self.retransmit), "retransmit", "must be 1 to 100")?;
        check(factor(self.suspicion_min), "suspicion_min", "must be 1 to 100")?;
        check(factor(self.suspicion_max), "suspicion_max", "must be 1 to 100")?;
        check(self.health_max <= FACTOR_MAX, "health_max", "must be at most 100")?;
        check(self.helpers <= FACTOR_MAX, "helpers", "must be at most 100")?;
        check(self.members_max >= 1, "members_max", "must be at least 1")?;
        check(self.relays_max >= 1, "relays_max", "must be at least 1")?;
        let buffer = (1..=WATCH_BUFFER_MAX).contains(&self.watch_buffer);
        check(buffer, "watch_buffer", "must be 1 to 1048576")
    }
}

impl LinksConfig {
    /// Returns the defaults of C107.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            version_min: 1,
            version_max: 1,
            features: 0,
            required: 0,
            connect_timeout: ms(3_000),
            step_timeout: ms(2_000),
            handshake_timeout: ms(6_000),
            accept_rate_source: 50,
            accept_burst_source: 100,
            accept_rate_total: 500,
            half_open_max: 128,
            half_open_source_max: 16,
            backoff_base: ms(100),
            backoff_cap: ms(10_000),
            backoff_long: ms(60_000),
            keepalive: ms(10_000),
            link_idle: ms(300_000),
            links_max: 1_024,
            rekey_after: ms(120_000),
            reject_after: ms(180_000),
            rekey_grace: ms(10_000),
            message_bytes_max: 16 << 20,
            link_queue_bytes_max: 4 << 20,
            dial_queue_bytes_max: 1 << 20,
            dial_queue_items_max: 1_024,
            unsent_bytes_max: 64 << 10,
        }
    }

    /// Returns what of these can change while a node runs (C108).
    #[must_use]
    pub const fn reloadable(&self) -> Reloadable {
        Reloadable {
            accept_rate_source: self.accept_rate_source,
            accept_burst_source: self.accept_burst_source,
            accept_rate_total: self.accept_rate_total,
            backoff_base: self.backoff_base,
            backoff_cap: self.backoff_cap,
            backoff_long: self.backoff_long,
        }
    }

    /// Changes what can change while a node runs (C108).
    pub const fn reload(&mut self, limits: Reloadable) {
        self.accept_rate_source = limits.accept_rate_source;
        self.accept_burst_source = limits.accept_burst_source;
        self.accept_rate_total = limits.accept_rate_total;
        self.backoff_base = limits.backoff_base;
        self.backoff_cap = limits.backoff_cap;
        self.backoff_long = limits.backoff_long;
    }

    /// Checks the relations and ranges of C107.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`] names the first key that is wrong.
    pub fn check(&self) -> Result<(), ConfigInvalid> {
        spans(&[
            (self.backoff_base, "backoff_base"),
            (self.backoff_cap, "backoff_cap"),
            (self.backoff_long, "backoff_long"),
            (self.keepalive, "keepalive"),
            (self.link_idle, "link_idle"),
            (self.rekey_after, "rekey_after"),
            (self.reject_after, "reject_after"),
            (self.rekey_grace, "rekey_grace"),
        ])?;
        let step = |span: Duration| (ms(10)..=ms(60_000)).contains(&span);
        check(self.version_min >= 1, "version_min", "must be at least 1")?;
        check(self.version_min <= self.version_max, "version_max", "must be >= version_min")?;
        check(self.required & !self.features == 0, "required", "must be among the features")?;
        check(step(self.connect_timeout), "connect_timeout", "must be 10 ms to 60 s")?;
        check(step(self.step_timeout), "step_timeout", "must be 10 ms to 60 s")?;
        check(step(self.handshake_timeout), "handshake_timeout", "must be 10 ms to 60 s")?;
        check(self.accept_rate_source >= 1, "accept_rate_source", "must be at least 1")?;
        check(self.accept_burst_source >= 1, "accept_burst_source", "must be at least 1")?;
        check(self.accept_rate_total >= 1, "accept_rate_total", "must be at least 1")?;
        check(self.half_open_max >= 1, "half_open_max", "must be at least 1")?;
        check(self.half_open_source_max >= 1, "half_open_source_max", "must be at least 1")?;
        check(!self.backoff_base.is_zero(), "backoff_base", "must be above 0")?;
        check(self.backoff_base <= self.backoff_cap, "backoff_cap", "must be >= backoff_base")?;
        check(self.backoff_cap <= self.backoff_long, "backoff_long", "must be >= backoff_cap")?;
        check(!self.keepalive.is_zero(), "keepalive", "must be above 0")?;
        check(self.link_idle >= self.keepalive * 2, "link_idle", "must be >= 2 keepalive")?;
        check(self.links_max >= 1, "max_links", "must be at least 1")?;
        let renewed = self.rekey_after + ms(20_000) <= self.reject_after;
        check(renewed, "reject_after", "must be >= rekey_after + 20 s")?;
        let message = (MESSAGE_MIN..=64 << 20).contains(&self.message_bytes_max);
        check(message, "max_message", "must be 64 KiB to 64 MiB")?;
        check(self.unsent_bytes_max >= 1, "unsent_max", "must be at least 1 byte")
    }
}

impl RegistryConfig {
    /// Returns the defaults of C107.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            names_per_node_max: 4_096,
            names_max: 65_536,
            lookup_timeout: ms(1_000),
            default_ttl: ms(60_000),
            hint_keep: Duration::from_secs(3_600),
            watch_buffer: 1_024,
            lookups_max: 4_096,
        }
    }

    /// Checks the ranges of C72 and C107.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`] names the first key that is wrong.
    pub fn check(&self) -> Result<(), ConfigInvalid> {
        spans(&[(self.lookup_timeout, "lookup_timeout"), (self.hint_keep, "hint_keep")])?;
        check(self.names_per_node_max >= 1, "names_per_node", "must be at least 1")?;
        let room = self.names_max >= self.names_per_node_max;
        check(room, "names_max", "must be >= names_per_node")?;
        check(!self.lookup_timeout.is_zero(), "lookup_timeout", "must be above 0")?;
        let ttl = (ms(1_000)..=ms(3_600_000)).contains(&self.default_ttl);
        check(ttl, "default_ttl", "must be 1 s to 1 h")
    }
}

impl RouterConfig {
    /// Returns the defaults of C84 and C107.
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            confirm_items: 64,
            confirm_after: ms(50),
            message_bytes_max: 16 << 20,
            unconfirmed_max: 65_536,
            asks_max: 65_536,
            endpoints_max: 1 << 20,
        }
    }

    /// Checks the ranges of C84, and that there can be an endpoint.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`] names the first key that is wrong.
    pub fn check(&self) -> Result<(), ConfigInvalid> {
        spans(&[(self.confirm_after, "confirm_after")])?;
        check(self.endpoints_max >= 1, "endpoints_max", "must be at least 1")
    }
}

impl ClusterConfig {
    /// Returns the defaults for `profile`, in the cluster `cluster`.
    #[must_use]
    pub fn of(profile: Profile, cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            swim: SwimConfig::of(profile),
            links: LinksConfig::standard(),
            registry: RegistryConfig::standard(),
            router: RouterConfig::standard(),
        }
    }

    /// Checks everything (C108).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`] names the first key that is wrong.
    pub fn check(&self) -> Result<(), ConfigInvalid> {
        check(!self.cluster.is_empty(), "cluster", "must be given")?;
        self.swim.check()?;
        self.links.check()?;
        self.registry.check()?;
        self.router.check()?;
        let ttl = self.ttl_least(MEMBERS_LEAST);
        check(
            self.registry.default_ttl >= ttl,
            "default_ttl",
            &format!("must be >= 2 sync, or names are missed: {ttl:?}, or a shorter sync"),
        )?;
        let sync = self.sync_bytes_max();
        check(
            sync <= u64::from(self.links.message_bytes_max),
            "max_message",
            &format!("must hold a sync of members_max rows and names_max names: {sync} bytes"),
        )
    }

    /// Returns the least ttl of a name with which `members` members agree who holds it, and all
    /// find it, within the bounds of C149.
    ///
    /// Copies of a name are vouched for by syncs alone, each X(N) and with one member (C54, C76).
    /// Two owners of one name settle it where the entry of one is live when it reaches the other
    /// (C74): so a ttl lasts two syncs. A member that holds neither a copy nor a hint asks three
    /// others (C77): of four members one of those is the owner; of more all three may have
    /// forgotten, so there a copy and the hint that it leaves last twice as long as what is new
    /// takes to reach all by syncs, X(N)·⌈log₂N⌉.
    ///
    /// Up to 32 members X(N) is the same; [`ClusterConfig::check`] refuses what is too short for
    /// any cluster, and a node that sees its cluster outgrow its ttl tells it.
    #[must_use]
    pub fn ttl_least(&self, members: u32) -> Duration {
        let sync = Bounds::of(&self.swim, members).sync;
        let reached = match members {
            0..=4 => Duration::ZERO,
            _ => sync * 2 * log2_ceil(members),
        };
        reached.saturating_sub(self.registry.hint_keep).max(sync * 2)
    }

    /// Returns how long the longest Sync2 is: every row and digest of `members_max` nodes, and
    /// `names_max` live names (C54). Names that ended are not counted: they go after a while, and a
    /// sync that they make too long is counted `frame_dropped` until then.
    fn sync_bytes_max(&self) -> u64 {
        const ROW: u64 = MemberRow::LEN_MIN as u64 + 64;
        const DIGEST: u64 = 28;
        const NAME: u64 = 46 + 128;
        const COUNTS: u64 = 4 * 4;
        let (members, names) = (self.swim.members_max, self.registry.names_max);
        COUNTS + u64::from(members) * (ROW + DIGEST) + u64::from(names) * NAME
    }
}

/// Checks that no span is so long that sums overflow.
fn spans(all: &[(Duration, &'static str)]) -> Result<(), ConfigInvalid> {
    let longest =
        |(span, key): &(Duration, &'static str)| check(*span <= SPAN_MAX, key, "is over a year");
    all.iter().try_for_each(longest)
}

fn check(holds: bool, key: &'static str, why: &str) -> Result<(), ConfigInvalid> {
    match holds {
        true => Ok(()),
        false => Err(ConfigInvalid { key, why: why.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
