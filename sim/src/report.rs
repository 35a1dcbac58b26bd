//! What a campaign tells: a table, `sim.json`, and its sections of `reports/summary.md` (T82).

pub mod summary;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::run::{ARMED, Campaign, MARKS, REFUSALS, STRIKES};
use crate::saboteur::Hunt;
use summary::Section;

/// Tables of counts besides the marks: table, heading, what is counted. A line more shows a table
/// more; the counts themselves come from `run::tables`.
const TABLES: [(&str, &str, &str); 3] = [
    (REFUSALS, "Refusals to start (T22)", "reason"),
    (STRIKES, "Faults that struck (T20)", "kind"),
    (ARMED, "Looks at each property (T31)", "property"),
];

/// Returns the campaign as a table in plain text, with its failures below.
#[must_use]
pub fn table(campaign: &Campaign) -> String {
    let mut text = String::new();
    let width = campaign.scenarios.iter().map(|s| s.scenario.len()).max().unwrap_or(8).max(8);
    let _ = writeln!(
        text,
        "{:width$}  {:>6} {:>6} {:>6} {:>5} {:>5} {:>11} {:>9} {:>8}  hash",
        "scenario", "seeds", "passed", "failed", "unfin", "twice", "events", "virtual", "wall"
    );
    for s in &campaign.scenarios {
        let _ = writeln!(
            text,
            "{:width$}  {:>6} {:>6} {:>6} {:>5} {:>5} {:>11} {:>8.0}s {:>7.1}s  {}",
            s.scenario,
            s.seeds,
            s.passed,
            s.failed,
            s.unfinished,
            s.same,
            s.events,
            s.virtual_ns as f64 / 1e9,
            s.wall_ns as f64 / 1e9,
            s.hash
        );
    }
    for (table, heading, _) in TABLES {
        let counts = counts(campaign, table);
        let counts: Vec<String> = counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
        if !counts.is_empty() {
            let _ = writeln!(text, "\n{heading}: {}", counts.join(", "));
        }
    }
    failures(&mut text, campaign);
    let (events, virtual_s) = totals(campaign);
    let seconds = campaign.seconds.max(0.001);
    let _ = writeln!(
        text,
        "\n{:.1} s: {:.0} events/s, {:.0} s of virtual time a second{}",
        seconds,
        events / seconds,
        virtual_s / seconds,
        if campaign.complete { "" } else { "; ended before all seeds were run" }
    );
    text
}

fn failures(text: &mut String, campaign: &Campaign) {
    for s in &campaign.scenarios {
        for example in &s.examples {
            let _ = writeln!(text, "\n{} seed {}: {}", s.scenario, example.seed, example.violation);
            let file = example.shrunk.as_ref().unwrap_or(&example.file);
            if !file.is_empty() {
                let _ = writeln!(text, "  cargo sim replay {file}");
            }
            if let Some(note) = &example.note {
                let _ = writeln!(text, "  {note}");
            }
        }
        for missed in &s.missed {
            let _ = writeln!(text, "\n{}: no seed brought about {missed}", s.scenario);
        }
        for parted in &s.parted {
            let _ = writeln!(text, "\n{}: not deterministic: {parted}", s.scenario);
        }
        for broken in &s.broken {
            let _ = writeln!(text, "\n{}: {broken}", s.scenario);
        }
    }
}

fn totals(campaign: &Campaign) -> (f64, f64) {
    let events: u64 = campaign.scenarios.iter().map(|s| s.events).sum();
    let virtual_ns: u64 = campaign.scenarios.iter().map(|s| s.virtual_ns).sum();
    (events as f64, virtual_ns as f64 / 1e9)
}

/// Sums up a table of counts over all scenarios.
#[must_use]
pub fn counts<'a>(campaign: &'a Campaign, table: &str) -> BTreeMap<&'a str, u64> {
    let mut sums = BTreeMap::new();
    let tables = campaign.scenarios.iter().filter_map(|s| s.counts.get(table));
    for (what, count) in tables.flatten() {
        *sums.entry(what.as_str()).or_insert(0) += count;
    }
    sums
}

/// Lists the marks in the source of the machines: what stands in `sometimes!("…")` (T25).
///
/// # Errors
///
/// If a folder or file cannot be read, a mark is no literal, or there is no mark at all: then the
/// list shows nothing.
pub fn marks_in_source(folder: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let told = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(told)? {
            let path = entry.map_err(told)?.path();
            // What counts marks has none of its own.
            if path.file_stem().is_some_and(|stem| stem == "marks") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).map_err(told)?;
                let marks = marks_in(&text).map_err(|why| format!("{}: {why}", path.display()))?;
                found.extend(marks);
            }
        }
    }
    found.sort();
    found.dedup();
    match found.is_empty() {
        true => Err(format!("{}: no mark found (T25)", folder.display())),
        false => Ok(found),
    }
}

fn marks_in(text: &str) -> Result<Vec<String>, String> {
    let literal = |rest: &str| {
        let rest = rest.trim_start().strip_prefix('"')?;
        rest.split_once('"').map(|(mark, _)| mark.to_owned())
    };
    let calls = text.split("sometimes!(").skip(1);
    calls.map(|rest| literal(rest).ok_or_else(|| "a mark is no literal".to_owned())).collect()
}

/// Writes `sim.json` and the sections on scenarios and marks into `folder`.
///
/// # Errors
///
/// Why a file cannot be written.
pub fn write(folder: &Path, campaign: &Campaign, known_marks: &[String]) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(told)?;
    let json = serde_json::to_string_pretty(campaign).map_err(|error| error.to_string())?;
    std::fs::write(folder.join("sim.json"), json).map_err(told)?;
    summary::put(folder, Section::Scenarios, &scenarios(campaign))?;
    summary::put(folder, Section::Marks, &marks(campaign, known_marks))
}

fn scenarios(campaign: &Campaign) -> String {
    let mut text = String::from("Made by `cargo sim run`.\n\n");
    text.push_str(
        "| scenario | seeds | passed | failed | unfinished | same hash twice | virtual time |\n",
    );
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for s in &campaign.scenarios {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {:.0} s |",
            s.scenario,
            s.seeds,
            s.passed,
            s.failed,
            s.unfinished,
            s.same,
            s.virtual_ns as f64 / 1e9
        );
    }
    for (table, heading, what) in TABLES {
        let _ = writeln!(text, "\n### {heading}\n\n| {what} | count |\n| --- | --- |");
        for (what, count) in counts(campaign, table) {
            let _ = writeln!(text, "| {what} | {count} |");
        }
    }
    text
}

fn marks(campaign: &Campaign, known: &[String]) -> String {
    let hits = counts(campaign, MARKS);
    let mut text = String::from("Made by `cargo sim run`.\n\n| mark | hits |\n| --- | --- |\n");
    for mark in known {
        let _ = writeln!(text, "| {mark} | {} |", hits.get(mark.as_str()).unwrap_or(&0));
    }
    let never = known.iter().filter(|mark| !hits.contains_key(mark.as_str()));
    let never: Vec<&str> = never.map(String::as_str).collect();
    let never = if never.is_empty() { "none".to_owned() } else { never.join(", ") };
    let _ = writeln!(text, "\nNever hit: {never}.");
    text
}

/// Returns the section on saboteurs (T32).
#[must_use]
pub fn saboteurs(hunts: &[Hunt]) -> String {
    let found = hunts.iter().filter(|hunt| hunt.seeds.is_some()).count();
    let mut text = format!(
        "Made by `cargo sim saboteurs`: {found} of {} found.\n\n\
         | property | saboteur | scenario | found after seeds | of | virtual time |\n\
         | --- | --- | --- | --- | --- | --- |\n",
        hunts.len()
    );
    for hunt in hunts {
        let seeds = hunt.seeds.map_or_else(|| "**missed**".to_owned(), |seeds| seeds.to_string());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {seeds} | {} | {:.1} s |",
            hunt.property,
            hunt.saboteur,
            hunt.scenario,
            hunt.budget,
            hunt.virtual_ns as f64 / 1e9
        );
    }
    text
}

#[cfg(test)]
mod tests;
