//! Entries of `[[node]]`, understood: what single nodes speak, and from when (C22).

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use machines::cluster::config::ClusterConfig;
use toml::Spanned;

use super::file::{File, Node};
use super::{At, faults, span};
use crate::build::{Build, config_of};

/// The features, by bit (section 2.1 of the cluster's specification).
const FEATURES: [&str; 3] = ["lifecycle", "rotation", "load-reports"];
/// The greatest version of a scenario.
const VERSION_MAX: u16 = 9;
/// The most entries.
const ENTRIES_MAX: usize = 32;

/// Compiles the entries of `file`, for `nodes` nodes that are configured as `plain` otherwise.
pub(super) fn compile(
    file: &File,
    nodes: u32,
    quiet_at: u64,
    plain: &Arc<ClusterConfig>,
) -> Result<Vec<Build>, At> {
    if let Some(entry) = file.node.get(ENTRIES_MAX) {
        return Err((entry.nodes.span(), format!("more than {ENTRIES_MAX} entries in all")));
    }
    let compiled = file.node.iter().map(|entry| build(entry, nodes, quiet_at));
    let builds = compiled.collect::<Result<Vec<Build>, At>>()?;
    // Whatever a process of a node can be given began with some entry about that node.
    for (entry, build) in file.node.iter().zip(&builds) {
        for node in &build.nodes {
            let checked = config_of(plain, &builds, *node, build.from).links.check();
            checked.map_err(|invalid| (place(entry, invalid.key), invalid.to_string()))?;
        }
    }
    Ok(builds)
}

fn build(entry: &Node, nodes: u32, quiet_at: u64) -> Result<Build, At> {
    Ok(Build {
        nodes: named(&entry.nodes, nodes)?,
        from: from(entry, quiet_at)?,
        version_min: version(entry.version_min.as_ref())?,
        version_max: version(entry.version_max.as_ref())?,
        features: features(entry.features.as_ref())?,
        required: features(entry.required.as_ref())?,
    })
}

fn named(named: &Spanned<toml::Value>, nodes: u32) -> Result<BTreeSet<u32>, At> {
    let wrong = || (named.span(), "must be \"all\" or a list of nodes".to_owned());
    let listed = faults::listed(named, nodes, &wrong)?;
    Ok(listed.into_iter().collect())
}

/// Nothing starts anew once every fault has healed.
fn from(entry: &Node, quiet_at: u64) -> Result<u64, At> {
    let Some(word) = &entry.from else {
        return Ok(0);
    };
    let place = word.0.span();
    let from = span::span(word.text()).map_err(|why| (place.clone(), why))?;
    if from >= quiet_at {
        let quiet_at = span::write(quiet_at);
        return Err((place, format!("must be before the quiet period begins at {quiet_at}")));
    }
    Ok(from)
}

fn version(version: Option<&Spanned<u16>>) -> Result<Option<u16>, At> {
    match version {
        Some(version) if !(1..=VERSION_MAX).contains(version.get_ref()) => {
            Err((version.span(), format!("must be a version, 1 to {VERSION_MAX}")))
        }
        Some(_) | None => Ok(version.map(|version| *version.get_ref())),
    }
}

fn features(names: Option<&Spanned<Vec<String>>>) -> Result<Option<u32>, At> {
    let Some(names) = names else {
        return Ok(None);
    };
    let mut bits = 0;
    for name in names.get_ref() {
        let Some(bit) = FEATURES.iter().position(|feature| feature == name) else {
            let what = format!("{name:?} is no feature; there are {}", FEATURES.join(", "));
            return Err((names.span(), what));
        };
        bits |= 1 << bit;
    }
    Ok(Some(bits))
}

/// Returns where `key` stands, or the entry if another entry gave it.
fn place(entry: &Node, key: &str) -> Range<usize> {
    let place = match key {
        "version_min" => entry.version_min.as_ref().map(Spanned::span),
        "version_max" => {
            entry.version_max.as_ref().or(entry.version_min.as_ref()).map(Spanned::span)
        }
        "required" => entry.required.as_ref().or(entry.features.as_ref()).map(Spanned::span),
        _ => None,
    };
    place.unwrap_or_else(|| entry.nodes.span())
}
