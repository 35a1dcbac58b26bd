//! A scenario file as it is written: every value with its place, nothing yet understood (T50).

use serde::{Deserialize, Serialize};
use toml::Spanned;

/// A scenario file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What it is called; the file's name.
    pub name: Spanned<String>,
    /// What it shows and which rule it tests.
    pub about: String,
    /// Nodes.
    pub nodes: Spanned<u32>,
    /// Further nodes that are on nobody's allowlist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strangers: Option<Spanned<u32>>,
    /// How long a run takes, the quiet period included.
    pub duration: Spanned<String>,
    /// How long the last part is in which every fault has healed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Spanned<String>>,
    /// Seeds that `run` takes if it is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Spanned<u64>>,
    /// The most events of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Spanned<u64>>,
    /// `lan` or `local` (C62).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Spanned<String>>,
    /// `real` or `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<Spanned<String>>,
    /// How many others each node knows at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<Spanned<u32>>,
    /// Nodes start within this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Spanned<String>>,
    /// Whether events due at the same moment may be turned around.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ties: Option<bool>,
    /// Refusals to start that this scenario brings about, beyond the survivor rule (T22).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Spanned<String>>,
    /// One node's durable state alone, in place of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keeper: Option<Keeper>,
    /// The network without faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The properties and marks to look for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Values of C62 and C107 for every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<super::knobs::Knobs>,
    /// What single nodes speak (C22).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node: Vec<Node>,
    /// What the clients do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Faults drawn from the seed (T21).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm: Option<Swarm>,
    /// The fault plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fault: Vec<Fault>,
}

/// `[keeper]`: what is kept, and who asks.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Keeper {
    /// `"ledger"`: a small fold on journal, recovery and snapshots; `"kernel"`: the kernel;
    /// `"bus"`: the kernel's bus.
    pub subject: Spanned<String>,
    /// How many ask at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callers: Option<Spanned<u32>>,
    /// How long one of them waits between two questions; `5ms` or `1ms..20ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<Spanned<String>>,
    /// The longest text that is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Spanned<u64>>,
    /// How many keys, or processes, there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Spanned<u64>>,
    /// After so many records nothing more is changed; a run with fewer is unfinished. Of the
    /// kernel: after so many processes no more are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<Spanned<u64>>,
    /// What the callers do, by name: see [`Script`](crate::keeper::io::Script).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Spanned<String>>,
    /// How long an operation of the disk takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Spanned<String>>,
    /// A snapshot is due after so many records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Spanned<u64>>,
    /// How many read the kernel's events, and go on where they were after each of its ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<Spanned<u64>>,
    /// How long segments of the journal are kept that snapshots cover: a day where somebody reads,
    /// else not at all. Where it is given, the last reader stays away from most starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Spanned<String>>,
    /// At every operation of the disk the power is cut. So many seeds share one run and its cuts:
    /// with 24, seeds 0 to 23 make the same run, and cut it everywhere together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Spanned<u64>>,
}

/// `[network]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// One way; `5ms` or `1ms..20ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Spanned<String>>,
    /// A share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Spanned<f64>>,
    /// A share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Spanned<f64>>,
    /// A share of datagrams is held back by up to 100 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Spanned<f64>>,
    /// A share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<Spanned<f64>>,
    /// Bytes a second, per link and direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Spanned<u64>>,
    /// Bytes that may wait for a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Spanned<u64>>,
    /// The longest datagram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Spanned<u32>>,
}

/// `[check]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Properties by number; all that there are if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Vec<Spanned<String>>>,
    /// Properties that hold under conditions of their own, which this scenario keeps: looked for
    /// beside the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Spanned<String>>,
    /// Properties that are not looked for: what they need, this scenario does not give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Spanned<String>>,
    /// Marks that at least one seed must reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sometimes: Vec<Spanned<String>>,
}

/// `[[node]]`: what some nodes speak. Entries count in the order of the file: what a later one
/// says of a node stands above what an earlier one said.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// `[0, 2]` or `"all"`.
    pub nodes: Spanned<toml::Value>,
    /// Processes that start then or later have it; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Word>,
    /// The least version spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_min: Option<Spanned<u16>>,
    /// The greatest version spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_max: Option<Spanned<u16>>,
    /// Features offered, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Spanned<Vec<String>>>,
    /// Features required, some of those offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<Spanned<Vec<String>>>,
}

/// `[workload]`: operations a second of the whole cluster.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Registrations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<Spanned<f64>>,
    /// Withdrawals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unregister: Option<Spanned<f64>>,
    /// Look-ups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Spanned<f64>>,
    /// Tracked sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<Spanned<f64>>,
    /// Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<Spanned<f64>>,
    /// Endpoints closed and opened anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reopen: Option<Spanned<f64>>,
    /// How many names there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Spanned<u32>>,
    /// The longest payload beyond its head of 24 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Spanned<u32>>,
    /// How long an answer is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Spanned<String>>,
    /// How long an answer takes at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Spanned<String>>,
    /// A share of deliveries that endpoints do not take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_taken: Option<Spanned<f64>>,
}

/// `[swarm]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    /// Kinds to draw from; all that survivors bear if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<Spanned<String>>>,
    /// The most entries of each kind; 3 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<Spanned<u64>>,
    /// The least and the greatest count of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Spanned<[u32; 2]>>,
    /// Whether configuration values are drawn from their legal ranges (T24).
    #[serde(default)]
    pub knobs: bool,
}

/// `[[fault]]`: one entry of the plan. Which keys fit depends on `kind`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What happens.
    pub kind: Word,
    /// When.
    pub at: Word,
    /// How long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Word>,
    /// How often it happens; with `every`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<Spanned<u32>>,
    /// The time between two of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Word>,
    /// The time between one node and the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stagger: Option<Word>,
    /// `[0, 2]`, `"all"` or `"any"`: one drawn from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Spanned<toml::Value>>,
    /// `[[from, to], …]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<Spanned<Vec<[u32; 2]>>>,
    /// `[[0, 1], [2]]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Spanned<Vec<Vec<u32>>>>,
    /// `"both"` or `"forward"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Word>,
    /// How much is struck, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Spanned<f64>>,
    /// A delay or a range of delays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Word>,
    /// How far: of a jump (may be negative), or of a held back datagram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Word>,
    /// Parts per million of drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppm: Option<Spanned<i32>>,
    /// What each step costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Word>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Spanned<u64>>,
    /// Bytes that may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Spanned<u64>>,
    /// Bytes of the longest datagram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Spanned<u32>>,
    /// Time between two deeds of the attacker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Word>,
    /// The whole machine goes, so that peers are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Spanned<bool>>,
}

/// A text with its place.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Word(pub Spanned<String>);

impl Default for Word {
    fn default() -> Self {
        Self::new("")
    }
}

impl Word {
    /// Makes a word that stands in no file.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Spanned::new(0..0, text.to_owned()))
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get_ref()
    }
}
