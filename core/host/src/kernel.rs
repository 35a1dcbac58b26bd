//! The machine that production runs, and its status in the words of C120 and C121.

use std::collections::BTreeMap;

use machines::Instant;
use machines::cluster::counters::{Counter, Counters, Labelled};
use machines::cluster::ids::NodeId;
use machines::cluster::wire::{BounceCode, CloseReason, Code, State};
pub use machines::node::Node as Kernel;
use machines::node::{self, RejectStatus};

use crate::status::{LinkStatus, MemberStatus, NameStatus, RefusalStatus, Status};

/// Returns everything of C121. What the machine does not know of itself is left to the caller:
/// the allowlist's file.
pub(crate) fn report(now: Instant, node: &Kernel) -> Status {
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
    }
}

/// Returns the membership table.
pub(crate) fn members(now: Instant, node: &Kernel) -> Vec<MemberStatus> {
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
    let plain = Counter::ALL.iter().map(|counter| {
        let name = format!("cluster_{}", counter.name());
        (name, counters.get(*counter))
    });
    let labelled = counters.labelled().map(|(family, label, count)| {
        let name = format!("cluster_{}{{{}}}", family.name(), label_of(family, label));
        (name, count)
    });
    plain.chain(labelled).collect()
}

/// Names a label where it has a name.
fn label_of(family: Labelled, label: u8) -> String {
    let named = match family {
        Labelled::HsReject => Code::from_u8(label).map(|code| format!("{code:?}")),
        Labelled::Dials if label == 0 => Some("Up".to_owned()),
        Labelled::Dials if label == u8::MAX => Some("Unreachable".to_owned()),
        Labelled::Dials => Code::from_u8(label).map(|code| format!("{code:?}")),
        Labelled::LinkDown => CloseReason::from_u8(label).map(|reason| format!("{reason:?}")),
        Labelled::Bounce => BounceCode::from_u8(label).map(|code| format!("{code:?}")),
        Labelled::FrameMalformed
        | Labelled::Rekeys
        | Labelled::MemberEvents
        | Labelled::Sync
        | Labelled::Lookups
        | Labelled::Sends
        | Labelled::Asks => None,
    };
    named.unwrap_or_else(|| label.to_string())
}

/// Spells bytes as allowlists do.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
