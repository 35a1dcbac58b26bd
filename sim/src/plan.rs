//! The fault plan of a run: what happens to which nodes and links, and when (T20, T21).

use crate::net::Conditions;

/// One fault with its window of true time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub at: u64,
    /// When it is over; `None` if it stays.
    pub until: Option<u64>,
    /// What it is.
    pub act: Act,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Some links behave otherwise.
    Links(Links, Change),
    /// Streams on some links are reset.
    Reset(Links),
    /// The process dies; it starts again at the end of the window.
    Kill {
        /// Whose.
        node: u32,
        /// The whole machine goes: peers are not told.
        power: bool,
        /// The disk is empty afterwards.
        wipe: bool,
    },
    /// The process is not scheduled.
    Pause(u32),
    /// Every step costs this time.
    Slow(u32, u64),
    /// The disk misbehaves.
    Disk(u32, DiskFault),
    /// The clock jumps by so much.
    Jump(u32, i64),
    /// The clock is ahead of true time from the start, by a span drawn up to so much.
    Offset(u32, u64),
    /// The clock runs so many parts per million fast.
    Drift(u32, i32),
    /// The node leaves the cluster, and joins again at the end of the window.
    Leave(u32),
    /// The node listens at another address from now on.
    Move(u32),
    /// Everyone else takes the node off its allowlist.
    Revoke(u32),
    /// Another process starts in the same data folder: only of a keeper.
    Second(u32),
    /// An attacker sends replayed, changed and invented bytes, one every so often.
    Forge(u64),
}

/// What goes wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// A crash keeps parts of what was not synced.
    Torn,
    /// A sync reports done, and is not.
    LostSync,
    /// One bit flips, at once.
    Rot,
    /// Writes land elsewhere.
    Misdirected,
    /// Reads fail.
    ReadError,
    /// Writes fail.
    Full,
    /// Nothing ends while it lasts.
    Stall,
    /// A share of syncs fails, in millionths: only of the files of a keeper.
    FailedSync(u32),
    /// A share of writes fails: only of the files of a keeper.
    FailedWrite(u32),
}

/// A set of links, each in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Links {
    /// Every link.
    All,
    /// These, as (from, to).
    Pairs(Vec<(u32, u32)>),
    /// All to and from these nodes.
    Touching(Vec<u32>),
    /// Those between groups; a node in no group keeps its links.
    Across {
        /// The groups.
        groups: Vec<Vec<u32>>,
        /// Only from an earlier group to a later one.
        forward_only: bool,
    },
}

impl Links {
    /// Says whether the link from `from` to `to` is in the set.
    #[must_use]
    pub fn has(&self, from: u32, to: u32) -> bool {
        match self {
            Self::All => true,
            Self::Pairs(pairs) => pairs.contains(&(from, to)),
            Self::Touching(nodes) => nodes.contains(&from) || nodes.contains(&to),
            Self::Across { groups, forward_only } => {
                let group = |node| groups.iter().position(|group| group.contains(&node));
                match (group(from), group(to)) {
                    (Some(a), Some(b)) if *forward_only => a < b,
                    (Some(a), Some(b)) => a != b,
                    (None, _) | (_, None) => false,
                }
            }
        }
    }
}

/// How links behave otherwise. Shares are of a million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Datagrams are lost.
    Loss(u32),
    /// Datagrams come twice.
    Duplicate(u32),
    /// Datagrams are held back, by at most so many nanoseconds.
    Reorder(u32, u64),
    /// Datagrams arrive changed.
    Corrupt(u32),
    /// Stream bytes arrive changed.
    Tamper(u32),
    /// The delay is this and up to so much more.
    Delay(u64, u64),
    /// So many bytes a second, and so many may wait.
    Bandwidth(u64, u64),
    /// Longer datagrams are dropped.
    Mtu(u32),
    /// Nothing crosses.
    Cut,
    /// Streams lose the borders of writes.
    Fragment,
}

impl Change {
    /// Makes `conditions` so.
    pub fn apply(&self, conditions: &mut Conditions) {
        match *self {
            Self::Loss(share) => conditions.loss = share,
            Self::Duplicate(share) => conditions.duplicate = share,
            Self::Reorder(share, span) => {
                conditions.reorder = share;
                conditions.reorder_span = span;
            }
            Self::Corrupt(share) => conditions.corrupt = share,
            Self::Tamper(share) => conditions.tamper = share,
            Self::Delay(min, span) => {
                conditions.delay_min = min;
                conditions.delay_span = span;
            }
            Self::Bandwidth(rate, queue) => {
                conditions.rate = rate;
                conditions.queue = queue;
            }
            Self::Mtu(mtu) => conditions.mtu = mtu,
            Self::Cut => conditions.cut = true,
            Self::Fragment => conditions.fragment = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_cuts_between_groups_and_spares_the_unnamed() {
        let groups = vec![vec![0, 1], vec![2]];
        let both = Links::Across { groups: groups.clone(), forward_only: false };
        assert!(both.has(0, 2) && both.has(2, 1));
        assert!(!both.has(0, 1) && !both.has(3, 2));
        let forward = Links::Across { groups, forward_only: true };
        assert!(forward.has(0, 2) && !forward.has(2, 0));
    }
}
