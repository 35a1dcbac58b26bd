//! What a node tells about itself and its cluster, as JSON and as text (C120, C121).

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a node's kernel is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelStatus {
    /// `starting`, `running`, `draining` (K362), `stopped`, `stalled` (K365), or `failed`.
    pub state: String,
    /// Why, if it does not run.
    pub why: Option<String>,
    /// How far it is; not told while it is ahead of the disk (K5), nor when it has ended.
    #[serde(flatten)]
    pub at: Option<KernelAt>,
}

/// How far a kernel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelAt {
    /// The last record of its journal.
    pub record: u64,
    /// The number of the last event.
    pub events: u64,
    /// The state root after them.
    pub root: String,
}

impl KernelStatus {
    /// A kernel of which nothing more is known.
    pub(crate) fn of(state: &str, why: impl Into<String>) -> Self {
        Self { state: state.to_owned(), why: Some(why.into()), at: None }
    }
}

impl fmt::Display for KernelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state)?;
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}

/// One row of the membership table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The node's id.
    pub id: String,
    /// Where it listens, if known.
    pub addr: Option<String>,
    /// `alive`, `suspect`, `dead` or `left`.
    pub state: String,
    /// How long it has been in this state.
    pub since_ms: u32,
    /// Its session.
    pub session: u32,
    /// Its incarnation in that session.
    pub incarnation: u32,
    /// Its own words; bytes that are no text are shown as U+FFFD.
    pub meta: String,
    /// Whether this is the node that answers.
    pub own: bool,
    /// Whether a link with it is up.
    pub linked: bool,
    /// How long it took to answer the last probe that it answered by itself.
    pub rtt_us: Option<u64>,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// With whom.
    pub peer: String,
    /// `in` if they dialled, `out` if we did; `none` if the link is down.
    pub direction: String,
    /// How long it has been up.
    pub age_ms: u32,
    /// How often its keys were renewed.
    pub epoch: u32,
    /// Bytes of users that wait to be sent.
    pub queue_bytes: u32,
    /// Why the last link with this peer closed, if one did.
    pub last_close: Option<String>,
}

/// A handshake that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalStatus {
    /// How long ago.
    pub ago_ms: u32,
    /// Where it came from, or was dialled to.
    pub source: String,
    /// Who, if that was known by then.
    pub node: Option<String>,
    /// Why, as C23 names it.
    pub code: String,
    /// Whether they dialled.
    pub inbound: bool,
}

/// A name that this node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameStatus {
    /// The name.
    pub name: String,
    /// The actor that it stands for.
    pub actor: u64,
}

/// How spans of time are distributed (C120).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistogramStatus {
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum_seconds: f64,
    /// How many were at most as long as each bound.
    pub buckets: Vec<Bucket>,
}

/// One bound of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The bound, in seconds.
    pub le: f64,
    /// How many were at most as long.
    pub count: u64,
}

/// Everything that `lockstep status` prints (C121).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's id.
    pub id: String,
    /// Its public key, as allowlists have it.
    pub public_key: String,
    /// Where others find it.
    pub addr: String,
    /// The cluster's name.
    pub cluster: String,
    /// The session in use.
    pub session: u32,
    /// Tells this process from others with the same key and session.
    pub instance: String,
    /// The greatest version of the wire formats that it speaks.
    pub version: u16,
    /// The feature bits that it offers.
    pub features: u32,
    /// `OPEN`, or the allowlist file.
    pub allow: String,
    /// What is wrong with the allowlist file, if the list in use is an older one (C24).
    pub allow_error: Option<String>,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Whether it has joined (C55).
    pub joined: bool,
    /// Its health score; 0 is healthy (C49).
    pub health: u32,
    /// How its kernel is (K365).
    pub kernel: KernelStatus,
    /// The membership table.
    pub members: Vec<MemberStatus>,
    /// The links.
    pub links: Vec<LinkStatus>,
    /// The names that it holds.
    pub names: Vec<NameStatus>,
    /// The last refused handshakes, newest first.
    pub rejects: Vec<RefusalStatus>,
    /// All counters, by name and label: those of the machines are `cluster_…`, those of the
    /// sockets `host_…`.
    pub counters: BTreeMap<String, u64>,
    /// What is counted anew each time, by name and label.
    pub gauges: BTreeMap<String, u64>,
    /// Distributions of spans of time, by name.
    pub histograms: BTreeMap<String, HistogramStatus>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("node", self.id.clone()),
            ("public key", self.public_key.clone()),
            ("address", self.addr.clone()),
            ("cluster", self.cluster.clone()),
            ("session", format!("{}, instance {}", self.session, self.instance)),
            ("version", format!("{}, features {:#b}", self.version, self.features)),
            ("allow", self.allow.clone()),
            ("up for", span(self.uptime_ms)),
            ("joined", self.joined.to_string()),
            ("health", format!("{} (0 is healthy)", self.health)),
            ("kernel", self.kernel.to_string()),
        ];
        for (key, value) in rows {
            writeln!(f, "{key:<11} {value}")?;
        }
        if let Some(error) = &self.allow_error {
            writeln!(f, "{:<11} {error}; an older list is in use", "WARNING")?;
        }
        section(f, "members", &members_table(&self.members))?;
        section(f, "links", &links_table(&self.links))?;
        let names = self.names.iter();
        let names = names.map(|name| vec![name.name.clone(), format!("actor {}", name.actor)]);
        section(f, "names", &table(&["NAME", "ACTOR"], names))?;
        section(f, "refused handshakes", &refusals_table(&self.rejects))?;
        section(f, "gauges", &metrics_table(self.gauges.iter()))?;
        section(f, "spans of time", &histograms_table(&self.histograms))?;
        let counters = self.counters.iter().filter(|(_, count)| **count > 0);
        section(f, "counters above 0", &metrics_table(counters))
    }
}

/// Lays out the membership table for people.
#[must_use]
pub fn members_table(members: &[MemberStatus]) -> String {
    let rows = members.iter().map(|member| {
        vec![
            member.id.clone(),
            member.addr.clone().unwrap_or_else(|| "-".to_owned()),
            match member.own {
                true => format!("{} (this node)", member.state),
                false => member.state.clone(),
            },
            span(member.since_ms),
            format!("{}.{}", member.session, member.incarnation),
            match member.linked {
                true => "up".to_owned(),
                false => "-".to_owned(),
            },
            member.rtt_us.map_or_else(|| "-".to_owned(), round_trip),
            member.meta.clone(),
        ]
    });
    let heads = ["NODE", "ADDRESS", "STATE", "FOR", "LIFE", "LINK", "RTT", "META"];
    table(&heads, rows)
}

fn links_table(links: &[LinkStatus]) -> String {
    let rows = links.iter().map(|link| {
        vec![
            link.peer.clone(),
            link.direction.clone(),
            span(link.age_ms),
            link.epoch.to_string(),
            link.queue_bytes.to_string(),
            link.last_close.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let heads = ["PEER", "DIRECTION", "AGE", "EPOCH", "QUEUE", "LAST CLOSE"];
    table(&heads, rows)
}

fn refusals_table(refusals: &[RefusalStatus]) -> String {
    let rows = refusals.iter().map(|refusal| {
        vec![
            format!("{} ago", span(refusal.ago_ms)),
            match refusal.inbound {
                true => format!("from {}", refusal.source),
                false => format!("to {}", refusal.source),
            },
            refusal.node.clone().unwrap_or_else(|| "-".to_owned()),
            refusal.code.clone(),
        ]
    });
    table(&["WHEN", "WHERE", "NODE", "CODE"], rows)
}

fn metrics_table<'a>(metrics: impl Iterator<Item = (&'a String, &'a u64)>) -> String {
    let rows = metrics.map(|(name, count)| vec![name.clone(), count.to_string()]);
    table(&["NAME", "COUNT"], rows)
}

fn histograms_table(histograms: &BTreeMap<String, HistogramStatus>) -> String {
    let rows = histograms.iter().map(|(name, histogram)| {
        let HistogramStatus { count, buckets, .. } = histogram;
        // A quantile is known as the least bound that is not below it.
        let at_most = |percent: u64| {
            let wanted = (count * percent).div_ceil(100);
            let bound = buckets.iter().find(|bucket| bucket.count >= wanted);
            match (*count, bound) {
                (0, _) => "-".to_owned(),
                (_, Some(bucket)) => format!("{}s", bucket.le),
                (_, None) => "longer".to_owned(),
            }
        };
        vec![name.clone(), count.to_string(), at_most(50), at_most(99)]
    });
    table(&["NAME", "COUNT", "50% WITHIN", "99% WITHIN"], rows)
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, table: &str) -> fmt::Result {
    match table.is_empty() {
        true => writeln!(f, "\n{title}: none"),
        false => write!(f, "\n{title}:\n{table}"),
    }
}

/// Lays out rows in columns; nothing for no rows.
fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.insert(0, heads.iter().map(|head| (*head).to_owned()).collect());
    let width = |column: usize| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:<width$}  ").expect("writing to a string cannot fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Shows microseconds: `740us`, `1.5ms`.
fn round_trip(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}us"),
        1_000.. => format!("{}.{}ms", micros / 1_000, micros % 1_000 / 100),
    }
}

/// Shows milliseconds with two units at most: `3m 5s`.
fn span(millis: impl Into<u64>) -> String {
    let millis = millis.into();
    let rounded = match millis {
        0..10_000 => millis,
        10_000..3_600_000 => millis / 1_000 * 1_000,
        3_600_000..86_400_000 => millis / 60_000 * 60_000,
        86_400_000.. => millis / 3_600_000 * 3_600_000,
    };
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> MemberStatus {
        MemberStatus {
            id: "521f8f5d132ea5fb81be5786a868d693".to_owned(),
            addr: Some("127.0.0.1:7400".to_owned()),
            state: "alive".to_owned(),
            since_ms: 185_400,
            session: 3,
            incarnation: 1,
            meta: String::new(),
            own: true,
            linked: false,
            rtt_us: None,
        }
    }

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_spaces() {
        let mut other = member();
        other.addr = None;
        other.own = false;
        other.rtt_us = Some(1_540);
        let text = members_table(&[member(), other]);
        let lines: Vec<&str> = text.lines().collect();
        let column = lines[0].find("STATE").unwrap();
        assert!(lines[1][column..].starts_with("alive (this node)"));
        assert!(lines[2][column..].starts_with("alive  "));
        assert!(lines.iter().all(|line| line.trim_end() == *line));
        assert!(text.contains("3m 5s"), "{text}");
        assert!(lines[2].ends_with("1.5ms"), "{text}");
    }

    #[test]
    fn a_quantile_is_the_least_bound_that_is_not_below_it() {
        let bucket = |le, count| Bucket { le, count };
        let of = |count, buckets| {
            let histogram = HistogramStatus { count, sum_seconds: 0.0, buckets };
            let text = histograms_table(&BTreeMap::from([("x".to_owned(), histogram)]));
            let row = text.lines().nth(1).unwrap();
            row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(0, vec![bucket(0.1, 0)]), ["x", "0", "-", "-"]);
        let buckets = vec![bucket(0.1, 49), bucket(0.25, 99), bucket(1.0, 100)];
        assert_eq!(of(100, buckets), ["x", "100", "0.25s", "0.25s"]);
        assert_eq!(of(3, vec![bucket(0.1, 2)]), ["x", "3", "0.1s", "longer"]);
    }

    #[test]
    fn no_rows_make_no_table() {
        assert_eq!(members_table(&[]), "");
    }
}
