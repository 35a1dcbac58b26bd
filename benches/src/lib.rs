//! Criterion benchmarks beside named peers, and the bars that they must meet.
//!
//! Each benchmark writes what it measured to `target/bars/`, or leaves it in `target/criterion/`.
//! The last one, `verdict`, reads both beside `thresholds.toml` and prints the table (T81).

pub mod bars;
pub mod counting;
pub mod interleaved;
pub mod results;

use std::path::PathBuf;

/// Returns the workspace's folder: cargo runs benchmarks in that of the package.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package.parent().map_or(package.clone(), PathBuf::from)
}

/// Returns how many rounds each contender runs: `BENCH_ROUNDS`, or `default`.
#[must_use]
pub fn rounds(default: u32) -> u32 {
    std::env::var("BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(default, |rounds: u32| rounds.max(1))
}
