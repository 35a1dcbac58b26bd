//! The bounds of C50 for the parameters of a run, in integers.

use machines::cluster::config::ClusterConfig;
use machines::time::nanos;

/// What C50 promises for one configuration and number of nodes. All spans are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    nodes: u64,
    period: u64,
    tick: u64,
    reprobe: u64,
    sync: u64,
    retransmit: u64,
    fanout: u64,
    suspicion_min: u64,
    suspicion_factor: u64,
    redial: u64,
}

/// ⌈log₂ n⌉.
const fn log2_ceil(n: u64) -> u64 {
    match n {
        0 | 1 => 0,
        n => (u64::BITS - (n - 1).leading_zeros()) as u64,
    }
}

impl Bounds {
    /// Computes the bounds for `nodes` nodes.
    #[must_use]
    pub fn new(config: &ClusterConfig, nodes: u32) -> Self {
        let swim = &config.swim;
        let nodes = u64::from(nodes.max(2));
        let period = nanos(swim.period);
        let scale = (301 * log2_ceil(nodes)).max(1_000);
        Self {
            nodes,
            period,
            tick: nanos(swim.gossip_tick),
            reprobe: nanos(swim.reprobe),
            sync: nanos(swim.sync),
            retransmit: u64::from(swim.retransmit),
            fanout: u64::from(swim.gossip_fanout),
            suspicion_min: u64::from(swim.suspicion_min) * scale * period / 1_000,
            suspicion_factor: u64::from(swim.suspicion_max),
            redial: {
                let links = &config.links;
                let tried = links.handshake_timeout.max(links.connect_timeout);
                2 * nanos(tried) + nanos(links.backoff_cap)
            },
        }
    }

    /// D(N): how long a fact takes to reach all.
    #[must_use]
    pub const fn dissemination(&self) -> u64 {
        2 * log2_ceil(self.nodes) * self.tick
    }

    /// W(N): how long gossip of N facts takes.
    #[must_use]
    pub const fn flood(&self) -> u64 {
        let sends = self.retransmit * log2_ceil(self.nodes + 1);
        self.nodes * sends * self.tick / (25 * self.fanout)
    }

    /// H(N): agreement after a heal.
    #[must_use]
    pub const fn heal(&self) -> u64 {
        2 * self.reprobe + 2 * self.dissemination() + self.flood()
    }

    /// X(N): how often a node syncs with another.
    #[must_use]
    pub const fn sync_every(&self) -> u64 {
        self.sync * (1 + log2_ceil(self.nodes).saturating_sub(5))
    }

    /// X(N)·⌈log₂N⌉: how much longer until the lives are the same.
    #[must_use]
    pub const fn same_lives(&self) -> u64 {
        self.sync_every() * log2_ceil(self.nodes)
    }

    /// B(N): a crash is known to all, if an observer's health was never worse than `health`.
    #[must_use]
    pub const fn detection(&self, health: u64) -> u64 {
        let longest = self.suspicion_min * self.suspicion_factor;
        2 * (self.nodes - 1) * (1 + health) * self.period + longest
    }

    /// How long a pair of nodes that wants a link may be without one (C134). Where a connection
    /// may take longer than a handshake, that counts: a dial begun in vain must end first.
    #[must_use]
    pub const fn redial(&self) -> u64 {
        self.redial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machines::cluster::config::Profile;

    #[test]
    fn the_bounds_are_those_of_the_table() {
        let config = ClusterConfig::of(Profile::Lan, "demo");
        let ms = |nanos: u64| nanos / 1_000_000;
        let five = Bounds::new(&config, 5);
        assert_eq!(ms(five.dissemination()), 1_200);
        assert_eq!(ms(five.detection(0)), 32_000);
        assert_eq!(ms(five.heal()) / 100, 224 + 1);
        let many = Bounds::new(&config, 1_000);
        assert_eq!(ms(many.dissemination()), 4_000);
        assert_eq!(ms(many.detection(0)) / 1_000, 2_070);
        assert_eq!(ms(many.heal()) / 1_000, 108);
    }
}
