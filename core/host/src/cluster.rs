//! The machine that production runs, and its status in the words of C120 and C121.

use std::collections::BTreeMap;
use std::time::Duration;

use machines::Instant;
use machines::cluster::counters::{Counter, Counters, Labelled, Timing};
use machines::cluster::ids::NodeId;
use machines::cluster::wire::{BounceCode, CloseReason, Code, FrameKind, State};
pub use machines::node::Node as ClusterMachine;
use machines::node::{self, RejectStatus};

use crate::status::{
    Bucket, HistogramStatus, KernelStatus, LinkStatus, MemberStatus, NameStatus, RefusalStatus,
    Status,
};

/// Returns everything of C121. What the machine does not know of itself is left to the caller:
/// the allowlist's file, and the kernel.
pub(crate) fn report(now: Instant, node: &ClusterMachine) -> Status {
    let status = node.status(now);
    let own = status.node;
    Status {
        id: own.to_string(),
        public_key: hex(&status.public_key),
        addr: status.addr.tcp().to_string(),
        cluster: status.cluster,
        session: status.session.0,
        instance: format!("{:016x}", status.instance.0),
        version: status.version,
        features: status.features,
        allow: String::new(),
        allow_error: None,
        uptime_ms: now.as_nanos() / 1_000_000,
        joined: status.joined,
        health: status.health,
        kernel: KernelStatus::default(),
        members: status.members.iter().map(|row| member(own, row)).collect(),
        links: status.links.iter().filter_map(link).collect(),
        names: status
            .names
            .iter()
            .filter(|name| name.holder.node == own)
            .map(|name| NameStatus {
                name: name.name.as_str().to_owned(),
                actor: name.holder.actor.0,
            })
            .collect(),
        rejects: status.rejects.iter().rev().map(refusal).collect(),
        counters: counters(&status.counters),
        gauges: status.gauges.iter().map(gauge).collect(),
        histograms: histograms(&status.counters),
    }
}

/// Returns the membership table.
pub(crate) fn members(now: Instant, node: &ClusterMachine) -> Vec<MemberStatus> {
    let status = node.status(now);
    let rows = status.members.iter();
    rows.map(|row| member(status.node, row)).collect()
}

fn member(own: NodeId, row: &node::MemberStatus) -> MemberStatus {
    MemberStatus {
        id: row.node.to_string(),
        addr: row.addr.map(|addr| addr.tcp().to_string()),
        state: match row.state {
            State::Alive => "alive",
            State::Suspect => "suspect",
            State::Dead => "dead",
            State::Left => "left",
        }
        .to_owned(),
        since_ms: row.age_ms,
        session: row.life.session.0,
        incarnation: row.life.incarnation.0,
        meta: String::from_utf8_lossy(row.meta.as_bytes()).into_owned(),
        own: row.node == own,
        linked: row.linked,
        rtt_us: row.rtt_ns.map(|nanos| nanos / 1_000),
    }
}

/// A peer that was never linked with has nothing to show.
fn link(row: &node::LinkStatus) -> Option<LinkStatus> {
    (row.up || row.last_close.is_some()).then(|| LinkStatus {
        peer: row.peer.to_string(),
        direction: match (row.up, row.dialled) {
            (true, true) => "out",
            (true, false) => "in",
            (false, true | false) => "none",
        }
        .to_owned(),
        age_ms: row.age_ms,
        epoch: row.epoch,
        queue_bytes: row.queue_bytes,
        last_close: row.last_close.map(|reason| format!("{reason:?}")),
    })
}

fn refusal((ago_ms, reject): &(u32, RejectStatus)) -> RefusalStatus {
    RefusalStatus {
        ago_ms: *ago_ms,
        source: reject.source.to_string(),
        node: reject.peer.map(|peer| peer.to_string()),
        code: format!("{:?}", reject.code),
        inbound: reject.inbound,
    }
}

/// Names all counters, also those at 0, as C120 does (C117).
fn counters(counters: &Counters) -> BTreeMap<String, u64> {
    let plain = Counter::ALL.iter().map(|counter| (metric(*counter), counters.get(*counter)));
    let known = Labelled::ALL.iter().flat_map(|family| {
        let labels = (0..=u8::MAX).filter_map(|label| Some((label, label_of(*family, label)?)));
        labels.map(|(label, name)| (named(*family, &name), counters.get_labelled(*family, label)))
    });
    // A label without a name: the kind byte of a frame that has none, say.
    let others = counters.labelled().map(|(family, label, count)| {
        let name = label_of(family, label).unwrap_or_else(|| label.to_string());
        (named(family, &name), count)
    });
    plain.chain(known).chain(others).collect()
}

/// Names a counter; a direction is a label.
fn metric(counter: Counter) -> String {
    let name = counter.name();
    if let Some(name) = name.strip_suffix("_out").filter(|_| counter == Counter::DatagramsOut) {
        return format!("cluster_{name}{{out}}");
    }
    match name.strip_suffix("_in").filter(|_| counter == Counter::DatagramsIn) {
        Some(name) => format!("cluster_{name}{{in}}"),
        None => format!("cluster_{name}"),
    }
}

fn named(family: Labelled, label: &str) -> String {
    format!("cluster_{}{{{label}}}", family.name())
}

fn gauge((name, label, count): &(&'static str, &'static str, u64)) -> (String, u64) {
    let name = match label.is_empty() {
        true => format!("cluster_{name}"),
        false => format!("cluster_{name}{{{label}}}"),
    };
    (name, *count)
}

fn histograms(counters: &Counters) -> BTreeMap<String, HistogramStatus> {
    let seconds = |nanos| Duration::from_nanos(nanos).as_secs_f64();
    let of = |timing: &Timing| {
        let histogram = counters.timing(*timing);
        let buckets = histogram.up_to();
        let status = HistogramStatus {
            count: histogram.count(),
            sum_seconds: seconds(histogram.sum()),
            buckets: buckets.map(|(bound, count)| Bucket { le: seconds(bound), count }).collect(),
        };
        (format!("cluster_{}", timing.name()), status)
    };
    Timing::ALL.iter().map(of).collect()
}

/// Names a label that a family can have.
fn label_of(family: Labelled, label: u8) -> Option<String> {
    let listed = |names: &[&str]| names.get(usize::from(label)).map(|name| (*name).to_owned());
    match family {
        Labelled::HsReject => reject_code(label).map(|code| format!("{code:?}")),
        Labelled::Dials if label == 0 => Some("Up".to_owned()),
        Labelled::Dials if label == u8::MAX => Some("Unreachable".to_owned()),
        Labelled::Dials => Code::from_u8(label).map(|code| format!("{code:?}")),
        Labelled::LinkDown => CloseReason::from_u8(label).map(|reason| format!("{reason:?}")),
        Labelled::Bounce => BounceCode::from_u8(label).map(|code| format!("{code:?}")),
        Labelled::FrameMalformed => FrameKind::from_u8(label).map(|kind| format!("{kind:?}")),
        Labelled::Rekeys => listed(&["done", "failed"]),
        Labelled::MemberEvents => listed(&[
            "join",
            "suspect",
            "alive",
            "changed",
            "left",
            "dead_timeout",
            "dead_told",
            "dead_restarted",
            "dead_revoked",
        ]),
        Labelled::Sync => listed(&["asked", "answered", "timed_out"]),
        Labelled::Lookups => listed(&["found", "not_found"]),
        Labelled::Sends => listed(&["delivered", "bounced", "not_sent", "lost", "unknown"]),
        Labelled::Asks => listed(&[
            "answered",
            "refused",
            "bounced",
            "timeout",
            "link_lost",
            "node_down",
            "cancelled",
        ]),
        Labelled::StreamBytes => {
            listed(&["out,urgent", "out,sync", "out,user", "in,urgent", "in,sync", "in,user"])
        }
    }
}

/// The codes of `hs_reject{code}`; the others have counters of their own (C111).
fn reject_code(label: u8) -> Option<Code> {
    Code::from_u8(label).filter(|code| Counter::of_code(*code).is_none())
}

/// Spells bytes as allowlists do.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
