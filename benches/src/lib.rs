//! Criterion benchmarks beside named peers, and the bars that they must meet.
//!
//! Each benchmark writes what it measured to `target/bars/`, or leaves it in `target/criterion/`.
//! The last one, `verdict`, reads both beside `thresholds.toml` and prints the table (T81).

pub mod bars;
pub mod counting;
pub mod interleaved;
pub mod on_core;
pub mod results;
pub mod rig;
pub mod sessions;

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

/// Says whether this is `cargo bench`: anything else, such as `cargo test --benches`, only wants to
/// see that the benchmarks run, and gets sizes of a thousandth.
#[must_use]
pub fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Returns `full` if this is measured, else `small`.
#[must_use]
pub fn sized(full: u32, small: u32) -> u32 {
    if is_measured() { full } else { small }
}

/// Returns [`rounds`] if this is measured, else one.
#[must_use]
pub fn turns(default: u32) -> u32 {
    if is_measured() { rounds(default) } else { 1 }
}

/// Measures an area of a benchmark if it is wanted, and keeps what was measured under its name.
///
/// # Panics
///
/// If `target/bars` cannot be written.
pub fn area(bench: &str, name: &str, run: impl FnOnce(&mut results::Results)) {
    if is_wanted(name) {
        let mut results = results::Results::default();
        run(&mut results);
        if is_measured() {
            results.save(&format!("{bench}-{name}")).expect("target/bars can be written");
        }
    }
}

/// Says whether the areas named on the command line contain `area`; without any, all run.
#[must_use]
pub fn is_wanted(area: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let first = named.next();
    first.is_none_or(|first| std::iter::once(first).chain(named).any(|name| name == area))
}
