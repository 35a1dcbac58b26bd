//! Seeds: as they are written, and the addresses that they stand for (C55, C107).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::join_all;
use machines::cluster::identity::Allowed;
use machines::cluster::ids::{Addr, NodeId};
use machines::cluster::swim::io::Seed;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tracing::warn;

use crate::config::ConfigError;

/// The most addresses taken, over all seeds (C107).
const ADDRS_MAX: usize = 64;

/// A seed as written: `host:port`, `[v6]:port` or `NODEID@host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedSpec {
    /// Who it must be, if that was given.
    pub node: Option<NodeId>,
    /// `host:port`; the host may be a name.
    pub target: String,
}

impl fmt::Display for SeedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(f, "{node}@")?;
        }
        f.write_str(&self.target)
    }
}

impl FromStr for SeedSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("{what} in \"{text}\"; expected \"host:port\" or \"NODEID@host:port\"")
        };
        let (node, target) = match text.split_once('@') {
            None => (None, text),
            Some((id, target)) => {
                let id = NodeId::parse(id).ok_or_else(|| wrong("bad node id"))?;
                (Some(id), target)
            }
        };
        let (host, port) = target.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(wrong("bad port"));
        }
        let bare_v6 = host.contains(':') && !host.starts_with('[');
        if host.is_empty() || bare_v6 || host.contains(char::is_whitespace) {
            return Err(wrong("bad host"));
        }
        Ok(Self { node, target: target.to_owned() })
    }
}

/// A name that could not be resolved. It is asked for again later.
#[derive(Debug)]
pub struct Unresolved {
    /// The seed.
    pub seed: SeedSpec,
    /// Why.
    pub error: io::Error,
}

/// What the names of the seeds stand for just now.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The addresses, at most 64.
    pub seeds: Vec<Seed>,
    /// The names that stand for nothing.
    pub unresolved: Vec<Unresolved>,
    /// How many addresses more there were.
    pub left_out: usize,
}

/// Refuses seeds none of which could ever be linked with; warns of single ones.
///
/// # Errors
///
/// Names the first of them.
pub fn check(seeds: &[SeedSpec], allowed: &Allowed) -> Result<(), ConfigError> {
    let is_stranger = |seed: &&SeedSpec| seed.node.is_some_and(|node| !allowed.has(node));
    let strangers: Vec<&SeedSpec> = seeds.iter().filter(is_stranger).collect();
    let Some(first) = strangers.first() else {
        return Ok(());
    };
    if strangers.len() == seeds.len() {
        let why = format!("{first} is not on the allowlist, so this node could never join");
        return Err(ConfigError::of("seeds", why));
    }
    for seed in strangers {
        warn!(%seed, "this seed is not on the allowlist and will be refused");
    }
    Ok(())
}

/// Resolves the names, all at once; a name with several addresses counts as several seeds, and one
/// that takes longer than `patience` as unresolved. The order is that of `specs`.
/// `own` is left out: a node does not join through itself.
pub async fn resolve(specs: &[SeedSpec], own: Addr, patience: Duration) -> Resolved {
    let ask = |target: String| async move { lookup_host(target).await.map(Vec::from_iter) };
    resolve_by(specs, own, patience, ask).await
}

/// [`resolve`], by whoever can be asked.
async fn resolve_by<F: Future<Output = io::Result<Vec<SocketAddr>>>>(
    specs: &[SeedSpec],
    own: Addr,
    patience: Duration,
    ask: impl Fn(String) -> F,
) -> Resolved {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let asked = specs.iter().map(|spec| timeout(patience, ask(spec.target.clone())));
    let mut seeds: Vec<Seed> = Vec::new();
    let mut unresolved = Vec::new();
    for (spec, answer) in specs.iter().zip(join_all(asked).await) {
        match answer.unwrap_or_else(|_| Err(late())) {
            Ok(mut found) => {
                // The order of a name server is not ours to depend on.
                found.sort_unstable();
                for addr in found {
                    push(&mut seeds, spec.node, addr, own);
                }
            }
            Err(error) => unresolved.push(Unresolved { seed: spec.clone(), error }),
        }
    }
    let left_out = seeds.len().saturating_sub(ADDRS_MAX);
    seeds.truncate(ADDRS_MAX);
    Resolved { seeds, unresolved, left_out }
}

fn push(seeds: &mut Vec<Seed>, node: Option<NodeId>, found: SocketAddr, own: Addr) {
    let Some(addr) = Addr::new(found.ip(), found.port(), found.port()) else {
        return;
    };
    let seed = Seed { addr, node };
    if addr != own && !seeds.contains(&seed) {
        seeds.push(seed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "521f8f5d132ea5fb81be5786a868d693";
    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn seeds_print_as_they_are_written() {
        for text in ["db:7400", "[::1]:7400", "10.0.0.1:1"] {
            assert_eq!(text.parse::<SeedSpec>().unwrap().to_string(), text);
        }
        let with_id = format!("{ID}@db:7400");
        assert_eq!(with_id.parse::<SeedSpec>().unwrap().to_string(), with_id);
    }

    #[test]
    fn a_malformed_seed_says_what_is_expected() {
        for (text, what) in [
            ("db", "no port"),
            ("db:0", "bad port"),
            ("db:http", "bad port"),
            (":7400", "bad host"),
            ("::1:7400", "bad host"),
            ("521f@db:7400", "bad node id"),
        ] {
            let error = text.parse::<SeedSpec>().expect_err(text);
            assert!(error.starts_with(what), "{error}");
            assert!(error.contains("expected \"host:port\""), "{error}");
        }
    }

    #[test]
    fn a_node_is_not_its_own_seed_and_repeats_count_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let addr = |port: u16| Addr::new(std::net::Ipv4Addr::LOCALHOST.into(), port, port).unwrap();
        let specs: Vec<SeedSpec> =
            ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:2"].map(|text| text.parse().unwrap()).into();
        let resolved = runtime.block_on(resolve(&specs, addr(1), PATIENCE));
        assert!(resolved.unresolved.is_empty());
        let expected = Seed { addr: addr(2), node: None };
        assert_eq!(resolved.seeds, vec![expected]);
        assert_eq!(resolved.left_out, 0);
    }

    #[test]
    fn addresses_beyond_the_most_are_counted_and_not_lost_in_silence() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let own = Addr::new(std::net::Ipv4Addr::LOCALHOST.into(), 1, 1).unwrap();
        let specs: Vec<SeedSpec> =
            (2..=71).map(|port| format!("127.0.0.1:{port}").parse().unwrap()).collect();
        let resolved = runtime.block_on(resolve(&specs, own, PATIENCE));
        assert_eq!((resolved.seeds.len(), resolved.left_out), (ADDRS_MAX, 6));
    }

    /// C55: each seed has its own time; one that nobody answers for holds up no other.
    #[test]
    fn a_name_that_is_not_answered_for_leaves_the_other_seeds_alone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let own = Addr::new(std::net::Ipv4Addr::LOCALHOST.into(), 1, 1).unwrap();
        let specs: Vec<SeedSpec> =
            ["slow:2", "127.0.0.1:3", "slow:4", "127.0.0.1:5"].map(|s| s.parse().unwrap()).into();
        let ask = |target: String| async move {
            match target.parse() {
                Ok(addr) => Ok(vec![addr]),
                Err(_) => std::future::pending().await,
            }
        };
        let resolved = runtime.block_on(resolve_by(&specs, own, Duration::from_millis(50), ask));
        let ports: Vec<u16> = resolved.seeds.iter().map(|seed| seed.addr.tcp().port()).collect();
        assert_eq!(ports, [3, 5]);
        let unresolved: Vec<&SeedSpec> =
            resolved.unresolved.iter().map(|gone| &gone.seed).collect();
        assert_eq!(unresolved, [&specs[0], &specs[2]]);
    }
}
