//! What a node counts (C111–C117, C120): every counter exists from the start, at 0.
//!
//! Counters are no part of a machine's state: they hash to nothing, so that refused input leaves
//! the hash as it was (C133). Nor are timings, which are counted in buckets, in integers.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use super::wire::Code;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal),* $(,)?) => {
        /// A counter without a label. The metric is `cluster_` and [`Counter::name`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Counter { $($(#[doc = $doc])* $variant),* }

        impl Counter {
            /// Every counter, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the name, without the prefix.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

counters! {
    /// A connection that spoke another protocol.
    HsBadMagic = "hs_bad_magic",
    /// A handshake that was too slow.
    HsTimeout = "hs_timeout",
    /// A connection over a rate or a half-open cap.
    HsBusy = "hs_busy",
    /// A handshake record of a wrong kind, length or content.
    HsMalformed = "hs_malformed",
    /// A handshake record that did not open.
    HsBadCrypto = "hs_bad_crypto",
    /// Bytes after a Close.
    LinkAfterClose = "link_after_close",
    /// A record of an impossible length.
    RecLength = "rec_length",
    /// A record that did not open.
    RecBadTag = "rec_bad_tag",
    /// A body longer than `max_message`.
    FrameTooLarge = "frame_too_large",
    /// Fragments that do not fit together.
    FrameFragment = "frame_fragment",
    /// An own frame that was longer than `max_message`: a sync of too many names.
    FrameDropped = "frame_dropped",
    /// A frame out of turn.
    FrameUnexpected = "frame_unexpected",
    /// A datagram with a wrong form.
    DgMalformed = "dg_malformed",
    /// A datagram for no link.
    DgNoLink = "dg_no_link",
    /// A datagram seen before.
    DgReplay = "dg_replay",
    /// A datagram older than the window.
    DgOld = "dg_old",
    /// A datagram that did not open.
    DgBadTag = "dg_bad_tag",
    /// An authentic datagram that does not decode.
    DgBody = "dg_body",
    /// An Ack or Nack that no round awaits.
    AckUnexpected = "ack_unexpected",
    /// A PingReq for a node that is not allowed, or over the cap.
    RelayRefused = "relay_refused",
    /// A fact about a node that is not allowed.
    FactNotAllowed = "fact_not_allowed",
    /// A suspicion of a node that is not known.
    FactUnknown = "fact_unknown",
    /// A fact that says nothing new.
    FactStale = "fact_stale",
    /// A fact of the same life with another address or metadata.
    FactConflict = "fact_conflict",
    /// A fact of an incarnation of my session that I was never in: another process had it (C27).
    SelfAhead = "self_ahead",
    /// A row over `members_max`.
    MembersFull = "members_full",
    /// A second sync while one runs.
    SyncBusy = "sync_busy",
    /// A name over a cap.
    NamesFull = "names_full",
    /// A reply to no query.
    NameUnexpected = "name_unexpected",
    /// A user frame number not above the last.
    NumberRepeat = "number_repeat",
    /// A user frame number that jumped ahead.
    GapReceived = "gap_received",
    /// Timers that came so late that this node must have slept (C53).
    Stalls = "stalls",
    /// Probe rounds that failed.
    ProbeFailed = "probe_failed",
    /// Refutations of accusations against this node.
    Refutations = "refutations",
    /// Independent confirmations of a suspicion.
    SuspicionConfirmations = "suspicion_confirmations",
    /// Bytes of gossiped entries sent.
    GossipBytes = "gossip_bytes",
    /// Two owners held one name.
    NameConflicts = "name_conflicts",
    /// The cluster outgrew `default_ttl`: names may be missed (C149).
    NamesLate = "names_late",
    /// Gaps reported.
    Gaps = "gaps",
    /// Datagrams sent.
    DatagramsOut = "datagrams_out",
    /// Datagrams accepted.
    DatagramsIn = "datagrams_in",
    /// Stream bytes sent.
    StreamBytesOut = "stream_bytes_out",
    /// Stream bytes read.
    StreamBytesIn = "stream_bytes_in",
    /// Replies that came too late or to no request.
    ReplyUnexpected = "reply_unexpected",
}

impl Counter {
    /// Returns the counter of the handshakes that end with `code`, if it has one of its own; else
    /// they are counted under [`Labelled::HsReject`] (C111).
    #[must_use]
    pub const fn of_code(code: Code) -> Option<Self> {
        match code {
            Code::BadMagic => Some(Self::HsBadMagic),
            Code::Busy => Some(Self::HsBusy),
            Code::BadCrypto => Some(Self::HsBadCrypto),
            Code::Malformed => Some(Self::HsMalformed),
            Code::Timeout => Some(Self::HsTimeout),
            Code::VersionMismatch
            | Code::SchemaMismatch
            | Code::FeatureMissing
            | Code::WrongCluster
            | Code::NotAllowed
            | Code::SelfConnect
            | Code::WrongPeer
            | Code::StaleSession
            | Code::DuplicateLink
            | Code::Downgraded
            | Code::Draining
            | Code::Revoked => None,
        }
    }
}

/// A family of counters with one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Labelled {
    /// `hs_reject{code}`: handshakes ended, either side; label: [`Code`](super::wire::Code).
    HsReject,
    /// `frame_malformed{kind}`; label: the frame's kind byte.
    FrameMalformed,
    /// `bounce{code}`; label: [`BounceCode`](super::wire::BounceCode).
    Bounce,
    /// `link_down{reason}`; label: [`CloseReason`](super::wire::CloseReason).
    LinkDown,
    /// `dials{result}`; label: 0 up, else the [`Code`](super::wire::Code); 255 unreachable.
    Dials,
    /// `rekeys{result}`; label: 0 done, 1 failed.
    Rekeys,
    /// `member_events{kind}`; label: the event's number.
    MemberEvents,
    /// `sync{role,result}`; label: 0 asked, 1 answered, 2 timed out.
    Sync,
    /// `lookups{result}`; label: 0 found, 1 not found.
    Lookups,
    /// `sends{outcome}`; label: the outcome's number.
    Sends,
    /// `asks{outcome}`; label: the outcome's number.
    Asks,
    /// `stream_bytes{dir,class}`: bytes of records; label: 3 · direction (0 out, 1 in) + class.
    StreamBytes,
}

impl Labelled {
    /// Every family, in the order of the specification.
    pub const ALL: &'static [Self] = &[
        Self::HsReject,
        Self::FrameMalformed,
        Self::Bounce,
        Self::LinkDown,
        Self::Dials,
        Self::Rekeys,
        Self::MemberEvents,
        Self::Sync,
        Self::Lookups,
        Self::Sends,
        Self::Asks,
        Self::StreamBytes,
    ];

    /// Returns the name, without the prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HsReject => "hs_reject",
            Self::FrameMalformed => "frame_malformed",
            Self::Bounce => "bounce",
            Self::LinkDown => "link_down",
            Self::Dials => "dials",
            Self::Rekeys => "rekeys",
            Self::MemberEvents => "member_events",
            Self::Sync => "sync",
            Self::Lookups => "lookups",
            Self::Sends => "sends",
            Self::Asks => "asks",
            Self::StreamBytes => "stream_bytes",
        }
    }
}

/// A span of time whose distribution is counted; the metric is `cluster_` and [`Timing::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timing {
    /// From a Ping to its Ack, without helpers (C46).
    ProbeRtt,
    /// From the dial, or the accepted connection, until the link is up.
    Handshake,
}

impl Timing {
    /// Every timing, in the order of the specification.
    pub const ALL: &'static [Self] = &[Self::ProbeRtt, Self::Handshake];

    /// Returns the name, without the prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProbeRtt => "probe_rtt_seconds",
            Self::Handshake => "handshake_seconds",
        }
    }
}

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// How spans of time are distributed: how many were at most each bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; Self::BOUNDS.len()],
    count: u64,
    sum: u64,
}

impl Histogram {
    /// The bounds, in nanoseconds. What is longer than all of them is counted and summed only.
    pub const BOUNDS: [u64; 16] = [
        100 * MICRO,
        250 * MICRO,
        500 * MICRO,
        MILLI,
        2_500 * MICRO,
        5 * MILLI,
        10 * MILLI,
        25 * MILLI,
        50 * MILLI,
        100 * MILLI,
        250 * MILLI,
        500 * MILLI,
        SECOND,
        2_500 * MILLI,
        5 * SECOND,
        10 * SECOND,
    ];

    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { buckets: [0; Self::BOUNDS.len()], count: 0, sum: 0 }
    }

    /// Counts one span of so many nanoseconds.
    pub fn add(&mut self, nanos: u64) {
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(nanos);
    }

    /// Returns how many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns their sum, in nanoseconds.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// Lists each bound, and how many were at most as long.
    pub fn up_to(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let sums = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        Self::BOUNDS.into_iter().zip(sums)
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

const COUNT: usize = Counter::ALL.len();

/// The counters of one machine, or of a whole node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    plain: [u64; COUNT],
    labelled: BTreeMap<(Labelled, u8), u64>,
    timings: [Histogram; Timing::ALL.len()],
}

impl Counters {
    /// All counters at 0.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            plain: [0; COUNT],
            labelled: BTreeMap::new(),
            timings: [const { Histogram::new() }; Timing::ALL.len()],
        }
    }

    /// Adds 1.
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `amount`.
    pub fn add(&mut self, counter: Counter, amount: u64) {
        self.plain[counter as usize] += amount;
    }

    /// Adds 1 under a label.
    pub fn count_labelled(&mut self, family: Labelled, label: u8) {
        self.add_labelled(family, label, 1);
    }

    /// Adds `amount` under a label.
    pub fn add_labelled(&mut self, family: Labelled, label: u8, amount: u64) {
        *self.labelled.entry((family, label)).or_insert(0) += amount;
    }

    /// Counts a span of so many nanoseconds.
    pub fn time(&mut self, timing: Timing, nanos: u64) {
        self.timings[timing as usize].add(nanos);
    }

    /// Returns how spans of time were distributed.
    #[must_use]
    pub const fn timing(&self, timing: Timing) -> &Histogram {
        &self.timings[timing as usize]
    }

    /// Returns a count.
    #[must_use]
    pub const fn get(&self, counter: Counter) -> u64 {
        self.plain[counter as usize]
    }

    /// Returns a count under a label.
    #[must_use]
    pub fn get_labelled(&self, family: Labelled, label: u8) -> u64 {
        self.labelled.get(&(family, label)).copied().unwrap_or(0)
    }

    /// Lists the labelled counts that are not 0.
    pub fn labelled(&self) -> impl Iterator<Item = (Labelled, u8, u64)> + '_ {
        self.labelled.iter().map(|((family, label), count)| (*family, *label, *count))
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.plain.iter_mut().zip(other.plain) {
            *mine += theirs;
        }
        for (key, count) in &other.labelled {
            *self.labelled.entry(*key).or_insert(0) += count;
        }
        for (mine, theirs) in self.timings.iter_mut().zip(&other.timings) {
            mine.merge(theirs);
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash for Counters {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests;
