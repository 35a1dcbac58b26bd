//! Which versions and features the processes of single nodes speak: the builds of a rolling
//! upgrade (C22).
//!
//! A build differs from another only in what its handshakes offer. There is one version of the wire
//! formats so far; a later one stands for a build to come, with the layouts of today and a schema
//! hash of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machines::cluster::config::{ClusterConfig, LinksConfig};
use machines::cluster::wire::{Preface, schema};

/// What some nodes speak from a moment on. What is absent stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// Which nodes.
    pub nodes: BTreeSet<u32>,
    /// Processes that start at this moment or later have it.
    pub from: u64,
    /// The least version spoken.
    pub version_min: Option<u16>,
    /// The greatest version spoken.
    pub version_max: Option<u16>,
    /// Features offered.
    pub features: Option<u32>,
    /// Features required.
    pub required: Option<u32>,
}

impl Build {
    fn install(&self, links: &mut LinksConfig) {
        links.version_min = self.version_min.unwrap_or(links.version_min);
        links.version_max = self.version_max.unwrap_or(links.version_max);
        links.features = self.features.unwrap_or(links.features);
        links.required = self.required.unwrap_or(links.required);
    }
}

/// Returns the configuration of a process of `node` that starts at `at`: `plain`, with what
/// `builds` say of it, the last one last.
#[must_use]
pub fn config_of(
    plain: &Arc<ClusterConfig>,
    builds: &[Build],
    node: u32,
    at: u64,
) -> Arc<ClusterConfig> {
    let mut config = Arc::clone(plain);
    for build in builds.iter().filter(|build| build.from <= at && build.nodes.contains(&node)) {
        build.install(&mut Arc::make_mut(&mut config).links);
    }
    config
}

/// Returns the schema hash of each version that `links` speak.
#[must_use]
pub fn schemas(links: &LinksConfig) -> BTreeMap<u16, [u8; 16]> {
    let mut hashes = schema::hashes();
    for version in links.version_min..=links.version_max {
        let to_come = || Preface::schema_hash_of(&format!("version {version}, to come"));
        hashes.entry(version).or_insert_with(to_come);
    }
    hashes
}
