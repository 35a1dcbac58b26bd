//! What a node is started with: file, environment and flags, in this order, the last one wins.
//!
//! Every error names the key, where its value came from, and what would be right (C108).
//!
//! | source | spelled |
//! |---|---|
//! | file | `lockstep.toml` in the working folder, or `--config PATH` |
//! | environment | `LOCKSTEP_BIND=127.0.0.1:7400`, `LOCKSTEP_SEEDS=a:7400,b:7400` |
//! | flags | `--bind 127.0.0.1:7400`, or for any key `--set period=500ms` |
//!
//! What is in a table, as `run_lease_ms` in `[kernel]`, is `LOCKSTEP_KERNEL__RUN_LEASE_MS` in the
//! environment, and `--set kernel.run_lease_ms=90000` ([`kernel`]).

pub mod kernel;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile as FigmentProfile, Provider};
use machines::cluster::config::{ClusterConfig, ConfigInvalid, Profile};
use machines::ledger::journal::io as journal;
use machines::ledger::snapshot::SnapshotConfig;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use self::kernel::KernelTable;
use crate::log::{LogFormat, LogLevel};
use crate::seeds::SeedSpec;
use crate::span::{Bytes, Count, Span};

/// The file that is read from the working folder if no other is named.
pub const FILE: &str = "lockstep.toml";
/// What the names of environment variables begin with.
pub const PREFIX: &str = "LOCKSTEP_";
/// The keys that are taken up while a node runs, when it is told to reload (C108). The allowlist's
/// file is watched besides (C24); everything else needs a restart.
pub const RELOADABLE: [&str; 7] = [
    "seeds",
    "accept_rate_source",
    "accept_burst_source",
    "accept_rate_total",
    "backoff_base",
    "backoff_cap",
    "backoff_long",
];
/// The most seeds (C107).
const SEEDS_MAX: usize = 64;

/// A value, or a relation between values, with which no node can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key as the configuration file spells it, if it is about one.
    pub key: Option<String>,
    /// Where the value came from, if it came from anywhere.
    pub source: Option<String>,
    /// What is wrong and what would be right, on one line.
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.why)?;
        match &self.source {
            Some(source) => write!(f, " (in {source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// An error about `key`, wherever its value came from.
    pub fn of(key: &str, why: impl Into<String>) -> Self {
        Self { key: Some(key.to_owned()), source: None, why: why.into() }
    }
}

/// Whom to link with (C24, C107).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Anyone with a key; shown as `OPEN`.
    Any,
    /// The keys in this file.
    File(PathBuf),
}

/// The named sets of values of C62.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileName {
    /// One machine or one rack.
    Local,
    /// One site.
    #[default]
    Lan,
}

macro_rules! config {
    ($($(#[doc = $doc:literal])* $key:ident : $type:ty => $($part:ident).+ = $field:ident,)*) => {
        /// The configuration of a node; keys are those of the file (C107).
        ///
        /// Relative paths are looked up in `data`. The options at the end replace single values
        /// of the profile (C62) and of the defaults (C107).
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            /// The cluster's name; nodes of other clusters are refused.
            pub cluster: String,
            /// Where to listen, with TCP and UDP. Port 0 takes a free one.
            #[serde(default = "default_bind", deserialize_with = "addr")]
            pub bind: SocketAddr,
            /// Where others find this node; `bind` if that is a definite address.
            #[serde(default, deserialize_with = "some_addr")]
            pub advertise: Option<SocketAddr>,
            /// The folder of all files that are not given by an absolute path.
            #[serde(default = "default_data")]
            pub data: PathBuf,
            /// The secret key, mode 0600.
            #[serde(default = "default_key_file")]
            pub key_file: PathBuf,
            /// The durable count of starts (C7).
            #[serde(default = "default_session_file")]
            pub session_file: PathBuf,
            /// Whom to link with.
            #[serde(default = "default_allow")]
            pub allow: Allow,
            /// Members to join through.
            #[serde(default, deserialize_with = "seeds")]
            pub seeds: Vec<SeedSpec>,
            /// The base of all intervals.
            #[serde(default)]
            pub profile: ProfileName,
            /// The node's own words, shown to all members; at most 64 bytes.
            #[serde(default)]
            pub meta: String,
            /// The least level that is logged.
            #[serde(default)]
            pub log: LogLevel,
            /// How log lines look.
            #[serde(default)]
            pub log_format: LogFormat,
            /// How large the files of the journal are: 1 MiB to 1 GiB (L10).
            #[serde(default = "default_segment")]
            pub segment: Bytes,
            /// How long a file of the journal is kept after its last record (L43).
            #[serde(default = "default_journal_keep")]
            pub journal_keep: Span,
            /// After how many records a snapshot is due (L40).
            #[serde(default = "default_snapshot_records")]
            pub snapshot_records: Count,
            /// After how many bytes of records a snapshot is due (L40).
            #[serde(default = "default_snapshot_bytes")]
            pub snapshot_bytes: Bytes,
            /// What is set of the kernel; each start records it (K11).
            #[serde(default)]
            pub kernel: KernelTable,
            $($(#[doc = $doc])* #[serde(default)] pub $key: Option<$type>,)*
        }

        impl Config {
            /// A configuration with all defaults.
            #[must_use]
            pub fn new(cluster: &str) -> Self {
                Self {
                    cluster: cluster.to_owned(),
                    bind: default_bind(),
                    advertise: None,
                    data: default_data(),
                    key_file: default_key_file(),
                    session_file: default_session_file(),
                    allow: default_allow(),
                    seeds: Vec::new(),
                    profile: ProfileName::default(),
                    meta: String::new(),
                    log: LogLevel::default(),
                    log_format: LogFormat::default(),
                    segment: default_segment(),
                    journal_keep: default_journal_keep(),
                    snapshot_records: default_snapshot_records(),
                    snapshot_bytes: default_snapshot_bytes(),
                    kernel: KernelTable::default(),
                    $($key: None,)*
                }
            }

            /// Lists the keys that have other values in `other`.
            #[must_use]
            pub fn differences(&self, other: &Self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                let mut note = |key, differs| if differs { keys.push(key) };
                note("cluster", self.cluster != other.cluster);
                note("bind", self.bind != other.bind);
                note("advertise", self.advertise != other.advertise);
                note("data", self.data != other.data);
                note("key_file", self.key_file != other.key_file);
                note("session_file", self.session_file != other.session_file);
                note("allow", self.allow != other.allow);
                note("seeds", self.seeds != other.seeds);
                note("profile", self.profile != other.profile);
                note("meta", self.meta != other.meta);
                note("log", self.log != other.log);
                note("log_format", self.log_format != other.log_format);
                note("segment", self.segment != other.segment);
                note("journal_keep", self.journal_keep != other.journal_keep);
                note("snapshot_records", self.snapshot_records != other.snapshot_records);
                note("snapshot_bytes", self.snapshot_bytes != other.snapshot_bytes);
                note("kernel", self.kernel != other.kernel);
                // A default that is written out, or no longer, changes nothing.
                let (mine, theirs) = (self.unchecked(), other.unchecked());
                $({
                    let differs = mine.$($part).+.$field != theirs.$($part).+.$field;
                    note(stringify!($key), self.$key != other.$key && differs);
                })*
                keys
            }

            /// Puts the single values over those of the profile.
            fn apply(&self, cluster: &mut ClusterConfig) {
                $(if let Some(value) = self.$key {
                    cluster.$($part).+.$field = value.into();
                })*
            }
        }
    };
}

config! {
    /// T: the time between probe rounds.
    period: Span => swim = period,
    /// When a probe without answer asks helpers.
    probe_timeout: Span => swim = probe_timeout,
    /// How much longer until the round has failed.
    indirect_timeout: Span => swim = indirect_timeout,
    /// K: helpers asked.
    helpers: Count => swim = helpers,
    /// G: the gossip tick.
    gossip_tick: Span => swim = gossip_tick,
    /// F: members told at each tick.
    gossip_fanout: Count => swim = gossip_fanout,
    /// λ: sends of a fact are λ·⌈log₂(N+1)⌉.
    retransmit: Count => swim = retransmit,
    /// α: the least suspicion is α·S(N)·T.
    suspicion_min: Count => swim = suspicion_min,
    /// β: the longest suspicion is β times the least.
    suspicion_max: Count => swim = suspicion_max,
    /// The worst health score.
    health_max: Count => swim = health_max,
    /// X: the time between syncs.
    sync: Span => swim = sync,
    /// Q: the time between re-probes of the dead, and between tries to join.
    reprobe: Span => swim = reprobe,
    /// How long the dead are remembered.
    forget_after: Span => swim = forget_after,
    /// The most relays for others at a time.
    relays_max: Count => swim = relays_max,
    /// The most members.
    members_max: Count => swim = members_max,
    /// How long leaving may take.
    leave_timeout: Span => swim = leave_timeout,
    /// Events kept for a watcher that is behind.
    watch_buffer: Count => swim = watch_buffer,
    /// How long a dial may take to connect.
    connect_timeout: Span => links = connect_timeout,
    /// How long one step of a handshake may take.
    step_timeout: Span => links = step_timeout,
    /// How long a handshake may take in all.
    handshake_timeout: Span => links = handshake_timeout,
    /// Accepted connections a second, of one source.
    accept_rate_source: Count => links = accept_rate_source,
    /// The most connections of one source at once, after a rest.
    accept_burst_source: Count => links = accept_burst_source,
    /// Accepted connections a second, of all sources.
    accept_rate_total: Count => links = accept_rate_total,
    /// The most handshakes not yet up, in all.
    half_open_max: Count => links = half_open_max,
    /// The most handshakes not yet up, of one source.
    half_open_source_max: Count => links = half_open_source_max,
    /// The first redial delay.
    backoff_base: Span => links = backoff_base,
    /// The longest redial delay.
    backoff_cap: Span => links = backoff_cap,
    /// The delay after a refusal that time does not mend.
    backoff_long: Span => links = backoff_long,
    /// A stream that sent nothing for so long sends a Keepalive.
    keepalive: Span => links = keepalive,
    /// A link without traffic for so long closes.
    link_idle: Span => links = link_idle,
    /// The most links.
    max_links: Count => links = links_max,
    /// The age of an epoch at which its keys are renewed.
    rekey_after: Span => links = rekey_after,
    /// The age of an epoch at which its link closes.
    reject_after: Span => links = reject_after,
    /// How long old receive keys live.
    rekey_grace: Span => links = rekey_grace,
    /// The longest message.
    max_message: Bytes => links = message_bytes_max,
    /// The most queued user bytes of a link.
    link_queue: Bytes => links = link_queue_bytes_max,
    /// The most user bytes that wait for a dial.
    dial_queue: Bytes => links = dial_queue_bytes_max,
    /// The most user messages that wait for a dial.
    dial_queue_items: Count => links = dial_queue_items_max,
    /// The most unsent bytes in a socket.
    unsent_max: Bytes => links = unsent_bytes_max,
    /// The most names of one node.
    names_per_node: Count => registry = names_per_node_max,
    /// The most names in all.
    names_max: Count => registry = names_max,
    /// How long a look-up may take.
    lookup_timeout: Span => registry = lookup_timeout,
    /// How long copies of a name live, if its registration does not say.
    default_ttl: Span => registry = default_ttl,
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl From<Count> for u32 {
    fn from(count: Count) -> Self {
        count.0
    }
}

impl From<Bytes> for u32 {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl Config {
    /// Returns `path`, looked up in the data folder unless it is absolute.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        self.data.join(path)
    }

    /// Returns the machines' configuration, checked (C108).
    ///
    /// # Errors
    ///
    /// Names the first key that is wrong.
    pub fn cluster(&self) -> Result<ClusterConfig, ConfigError> {
        let cluster = self.unchecked();
        cluster.check().map_err(invalid)?;
        self.check()?;
        Ok(cluster)
    }

    /// Returns the limits of the journal, and when snapshots are due, checked.
    ///
    /// # Errors
    ///
    /// Names the first key that is wrong.
    pub fn ledger(&self) -> Result<(journal::Config, SnapshotConfig), ConfigError> {
        let limits = journal::Limits {
            segment_bytes: self.segment.0.into(),
            journal_keep: self.journal_keep.0,
            ..journal::Limits::STANDARD
        };
        let checked = journal::Config::new(limits).map_err(|_| {
            let bytes = self.segment.0;
            let why = format!("{bytes} bytes: must be a multiple of 4KiB from 1MiB to 1GiB");
            ConfigError::of("segment", why)
        })?;
        if self.snapshot_records.0 == 0 {
            return Err(ConfigError::of("snapshot_records", "must be at least 1"));
        }
        if self.snapshot_bytes.0 == 0 {
            return Err(ConfigError::of("snapshot_bytes", "must be at least 1"));
        }
        let snapshots = SnapshotConfig {
            records: self.snapshot_records.0.into(),
            bytes: self.snapshot_bytes.0.into(),
            ..SnapshotConfig::STANDARD
        };
        Ok((checked, snapshots))
    }

    /// Returns how long the kernel may drain (K362).
    #[must_use]
    pub fn drain(&self) -> Duration {
        let kernel = self.kernel.config().unwrap_or_default();
        Duration::from_millis(kernel.drain_ms)
    }

    /// Takes over from `other` what can change while a node runs: [`RELOADABLE`].
    pub(crate) fn reload(&mut self, other: &Self) {
        self.seeds.clone_from(&other.seeds);
        self.accept_rate_source = other.accept_rate_source;
        self.accept_burst_source = other.accept_burst_source;
        self.accept_rate_total = other.accept_rate_total;
        self.backoff_base = other.backoff_base;
        self.backoff_cap = other.backoff_cap;
        self.backoff_long = other.backoff_long;
    }

    fn unchecked(&self) -> ClusterConfig {
        let profile = match self.profile {
            ProfileName::Local => Profile::Local,
            ProfileName::Lan => Profile::Lan,
        };
        let mut cluster = ClusterConfig::of(profile, &self.cluster);
        self.apply(&mut cluster);
        cluster.router.message_bytes_max = cluster.links.message_bytes_max;
        cluster.registry.watch_buffer = cluster.swim.watch_buffer;
        cluster
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.bind.ip().is_unspecified() && self.advertise.is_none() {
            let why = format!(
                "is required because bind is {}: the address at which others reach this node",
                self.bind
            );
            return Err(ConfigError::of("advertise", why));
        }
        if let Some(advertise) = self.advertise
            && (advertise.ip().is_unspecified() || advertise.ip().is_multicast())
        {
            let why = format!("{advertise} is not the address of one machine");
            return Err(ConfigError::of("advertise", why));
        }
        if self.seeds.len() > SEEDS_MAX {
            let why = format!("{} are too many; at most {SEEDS_MAX}", self.seeds.len());
            return Err(ConfigError::of("seeds", why));
        }
        if self.meta.len() > machines::cluster::wire::META_MAX {
            return Err(ConfigError::of("meta", "must be at most 64 bytes"));
        }
        Ok(())
    }
}

fn invalid(error: ConfigInvalid) -> ConfigError {
    ConfigError::of(error.key, error.why)
}

fn default_bind() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7_400))
}

fn default_data() -> PathBuf {
    PathBuf::from(".")
}

const fn default_segment() -> Bytes {
    Bytes(64 << 20)
}

const fn default_journal_keep() -> Span {
    Span(Duration::from_secs(7 * 24 * 3_600))
}

const fn default_snapshot_records() -> Count {
    Count(100_000)
}

const fn default_snapshot_bytes() -> Bytes {
    Bytes(256 << 20)
}

fn default_key_file() -> PathBuf {
    PathBuf::from("node.key")
}

fn default_session_file() -> PathBuf {
    PathBuf::from("node.session")
}

fn default_allow() -> Allow {
    Allow::File(PathBuf::from("allowlist"))
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            None if text == "any" => Ok(Self::Any),
            Some(_) | None => Err(serde::de::Error::invalid_value(
                serde::de::Unexpected::Str(&text),
                &"\"file:PATH\", or \"any\" to link with anyone",
            )),
        }
    }
}

fn addr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::invalid_value(
            serde::de::Unexpected::Str(&text),
            &"an IP address and a port, like \"127.0.0.1:7400\"",
        )
    })
}

fn some_addr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    addr(deserializer).map(Some)
}

/// Seeds as a list, or as one string with commas, as the environment has them.
fn seeds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SeedSpec>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<SeedSpec>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of \"host:port\" or \"NODEID@host:port\"")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(E::custom)).collect()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut seeds = Vec::new();
            while let Some(text) = list.next_element::<String>()? {
                seeds.push(text.parse().map_err(serde::de::Error::custom)?);
            }
            Ok(seeds)
        }
    }
    deserializer.deserialize_any(List)
}

/// Where values come from: a file, the environment, the command line.
#[derive(Debug)]
pub struct Sources {
    figment: Figment,
}

impl Sources {
    /// Takes the file (`None`: [`FILE`], if there is one), the environment, and `flags`.
    ///
    /// # Errors
    ///
    /// A named file that is not there.
    pub fn new(file: Option<&Path>, flags: Vec<(String, String)>) -> Result<Self, ConfigError> {
        if let Some(path) = file
            && !path.is_file()
        {
            return Err(ConfigError {
                key: None,
                source: Some("the command line".to_owned()),
                why: format!("there is no configuration file {}", path.display()),
            });
        }
        let file = file.unwrap_or(Path::new(FILE));
        let base = match file.exists() {
            true => Figment::from(Toml::file_exact(file)),
            false => Figment::new(),
        };
        let figment = base.merge(Environment).merge(Flags(flags));
        Ok(Self { figment })
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let config: Config = self.figment.extract().map_err(|error| self.error(error))?;
        let located = |mut error: ConfigError| {
            error.source = error.key.as_ref().and_then(|key| self.source_of(key));
            // A default that does not fit what was given: that is what is to be mended.
            error.source = error.source.or_else(|| {
                let mut words = error.why.split(|c: char| !c.is_ascii_lowercase() && c != '_');
                words.find_map(|word| self.source_of(word))
            });
            error
        };
        config.cluster().map_err(&located)?;
        config.kernel.config().map_err(located)?;
        Ok(config)
    }

    /// Reads where the data folder is, and nothing else.
    ///
    /// # Errors
    ///
    /// The value, or the file, cannot be read.
    pub fn data(&self) -> Result<PathBuf, ConfigError> {
        self.path("data", default_data)
    }

    /// Reads where the key is, with the data folder in front.
    ///
    /// # Errors
    ///
    /// The value, or the file, cannot be read.
    pub fn key_file(&self) -> Result<PathBuf, ConfigError> {
        Ok(self.data()?.join(self.path("key_file", default_key_file)?))
    }

    fn path(&self, key: &str, default: fn() -> PathBuf) -> Result<PathBuf, ConfigError> {
        if self.figment.contains(key) {
            let path = self.figment.extract_inner(key);
            return path.map_err(|error| self.error(error));
        }
        // A file with a mistake would else look like one without the key.
        let all: Result<Dict, _> = self.figment.extract();
        all.map(|_| default()).map_err(|error| self.error(error))
    }

    fn error(&self, error: figment::Error) -> ConfigError {
        use figment::error::Kind;
        let mut key = (!error.path.is_empty()).then(|| error.path.join("."));
        let why = match &error.kind {
            Kind::UnknownField(name, known) => {
                // Of a table the path is told, of its keys it may be.
                if key.as_ref().is_none_or(|key| key.rsplit('.').next() != Some(name)) {
                    key = Some(key.map_or(name.clone(), |table| format!("{table}.{name}")));
                }
                unknown(name, known)
            }
            Kind::MissingField(name) => {
                key = Some(name.to_string());
                match name.as_ref() {
                    "cluster" => "is required: the name that all nodes of one cluster share".into(),
                    other => format!("{other} is required"),
                }
            }
            Kind::InvalidType(..)
            | Kind::InvalidValue(..)
            | Kind::Message(_)
            | Kind::UnknownVariant(..)
            | Kind::InvalidLength(..)
            | Kind::DuplicateField(_)
            | Kind::ISizeOutOfRange(_)
            | Kind::USizeOutOfRange(_)
            | Kind::Unsupported(_)
            | Kind::UnsupportedKey(..) => one_line(&error.kind.to_string()),
        };
        let source = match &key {
            Some(key) => self.source_of(key),
            None => None,
        };
        let source = source.or_else(|| error.metadata.as_ref().map(named));
        ConfigError { key, source, why }
    }

    fn source_of(&self, key: &str) -> Option<String> {
        let metadata = self.figment.find_metadata(key)?;
        match metadata.name.contains("environment") {
            true => Some(format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))),
            false => Some(named(metadata)),
        }
    }
}

fn named(metadata: &Metadata) -> String {
    match &metadata.source {
        Some(source) => source.to_string(),
        None => metadata.name.to_string(),
    }
}

/// Says which key was probably meant.
fn unknown(name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|key| (distance(name, key), key))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    match nearest {
        Some((_, key)) => format!("there is no such key; did you mean {key}?"),
        None => "there is no such key".to_owned(),
    }
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // Figment quotes a list of quoted names once more.
    lines.join(" ").trim().replace("``", "`")
}

/// Variables of the environment that begin with [`PREFIX`], as text.
#[derive(Debug)]
struct Environment;

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("the environment")
    }

    fn data(&self) -> Result<Map<FigmentProfile, Dict>, figment::Error> {
        let mut values = Dict::new();
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let Some(key) = name.strip_prefix(PREFIX).map(str::to_lowercase) else {
                continue;
            };
            let Some(value) = value.to_str() else {
                let error = figment::Error::from("is no text in UTF-8".to_owned());
                return Err(error.with_path(&key));
            };
            put(&mut values, key.split("__"), value);
        }
        Ok(FigmentProfile::Default.collect(values))
    }
}

/// Puts a value where its path says, in tables within tables.
fn put<'a>(values: &mut Dict, mut path: impl Iterator<Item = &'a str>, value: &str) {
    let Some(key) = path.next() else {
        return;
    };
    let rest: Vec<&str> = path.collect();
    if rest.is_empty() {
        values.insert(key.to_owned(), Value::from(value));
        return;
    }
    let mut table = match values.remove(key) {
        Some(Value::Dict(_, table)) => table,
        Some(_) | None => Dict::new(),
    };
    put(&mut table, rest.into_iter(), value);
    values.insert(key.to_owned(), Value::from(table));
}

/// Keys and values of the command line, as text.
#[derive(Debug)]
struct Flags(Vec<(String, String)>);

impl Provider for Flags {
    fn metadata(&self) -> Metadata {
        Metadata::named("the command line")
    }

    fn data(&self) -> Result<Map<FigmentProfile, Dict>, figment::Error> {
        let mut values = Dict::new();
        for (key, value) in &self.0 {
            // Digits are text here: a name may consist of them. Numbers are read from text.
            put(&mut values, key.split('.'), value);
        }
        Ok(FigmentProfile::Default.collect(values))
    }
}

#[cfg(test)]
mod tests;
