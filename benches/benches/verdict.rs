//! The last benchmark: reads what the others measured and prints which bars hold (T81).
//!
//! `cargo bars` runs it alone, over the last run, and fails if a bar is missed.

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use benches::bars::{Thresholds, Verdict, table};
use benches::results::Results;
use benches::workspace;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let strict = std::env::args().any(|argument| argument == "--strict");
    let thresholds = fs::read_to_string(workspace().join("benches/thresholds.toml"))?;
    let rows = Thresholds::parse(&thresholds)?.judge(&Results::load()?);
    let table = table(&rows);

    let count = |wanted: fn(&Verdict) -> bool| rows.iter().filter(|r| wanted(&r.verdict)).count();
    let held = count(|verdict| *verdict == Verdict::Held);
    let missed = count(|verdict| *verdict == Verdict::Missed);
    let absent = rows.len() - held - missed;
    let summary = format!("{held} held, {missed} missed, {absent} not measured");
    println!("\n{table}\n{summary}");

    let folder = workspace().join("reports");
    fs::create_dir_all(&folder)?;
    let report = format!(
        "# Bars\n\nWritten by `cargo bench-all` from `benches/thresholds.toml` and what was \
         measured\non this machine: {}.\n\n{table}\n{summary}\n",
        machine(),
    );
    fs::write(folder.join("bars.md"), report)?;
    Ok(match strict && missed + absent > 0 {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Names the processor, as far as Linux tells.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    format!("{model}, {cores} cores")
}
