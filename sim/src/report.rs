//! What a campaign tells: a table, `reports/sim.json` and a section of `reports/summary.md` (T82).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::run::Campaign;

const BEGIN: &str = "<!-- sim: begin -->";
const END: &str = "<!-- sim: end -->";

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
    for s in &campaign.scenarios {
        for example in &s.examples {
            let _ = writeln!(text, "\n{} seed {}: {}", s.scenario, example.seed, example.violation);
            let file = example.shrunk.as_ref().unwrap_or(&example.file);
            let _ = writeln!(text, "  cargo sim replay {file}");
        }
        for missed in &s.missed {
            let _ = writeln!(text, "\n{}: no seed reached the mark {missed}", s.scenario);
        }
        for unarmed in &s.unarmed {
            let _ = writeln!(text, "\n{}: no run ever looked at {unarmed}", s.scenario);
        }
        for parted in &s.parted {
            let _ = writeln!(text, "\n{}: not deterministic: {parted}", s.scenario);
        }
        for broken in &s.broken {
            let _ = writeln!(text, "\n{}: {broken}", s.scenario);
        }
    }
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

fn totals(campaign: &Campaign) -> (f64, f64) {
    let events: u64 = campaign.scenarios.iter().map(|s| s.events).sum();
    let virtual_ns: u64 = campaign.scenarios.iter().map(|s| s.virtual_ns).sum();
    (events as f64, virtual_ns as f64 / 1e9)
}

/// Sums up the hits of every mark over all scenarios.
#[must_use]
pub fn marks(campaign: &Campaign) -> BTreeMap<&str, u64> {
    let mut marks = BTreeMap::new();
    for (mark, hits) in campaign.scenarios.iter().flat_map(|s| &s.marks) {
        *marks.entry(mark.as_str()).or_insert(0) += hits;
    }
    marks
}

/// Lists the marks in the source of the machines: what stands in `sometimes!("…")` (T25).
#[must_use]
pub fn marks_in_source(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && let Ok(text) = std::fs::read_to_string(&path)
                && !path.ends_with("marks.rs")
            {
                found.extend(marks_in(&text));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn marks_in(text: &str) -> Vec<String> {
    let calls = text.split("sometimes!(").skip(1);
    let literal = |rest: &str| {
        let rest = rest.trim_start().strip_prefix('"')?;
        rest.split_once('"').map(|(mark, _)| mark.to_owned())
    };
    calls.filter_map(literal).collect()
}

/// Writes `sim.json` and the section of `summary.md` into `reports`.
///
/// # Errors
///
/// Why a file cannot be written.
pub fn write(reports: &Path, campaign: &Campaign, known_marks: &[String]) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", reports.display());
    std::fs::create_dir_all(reports).map_err(told)?;
    let json = serde_json::to_string_pretty(campaign).map_err(|error| error.to_string())?;
    std::fs::write(reports.join("sim.json"), json).map_err(told)?;
    let path = reports.join("summary.md");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(&path, spliced(&before, &section(campaign, known_marks))).map_err(told)
}

/// Replaces this section of a summary, or adds it.
fn spliced(before: &str, section: &str) -> String {
    let section = format!("{BEGIN}\n{section}{END}");
    match (before.find(BEGIN), before.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{section}{}", &before[..begin], &before[end + END.len()..])
        }
        _ if before.is_empty() => format!("# Reports\n\n{section}\n"),
        _ => format!("{}\n\n{section}\n", before.trim_end()),
    }
}

fn section(campaign: &Campaign, known_marks: &[String]) -> String {
    let mut text = String::from("## Scenarios\n\nMade by `cargo sim run`.\n\n");
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
    let hits = marks(campaign);
    text.push_str("\n## Marks\n\n| mark | hits |\n| --- | --- |\n");
    for mark in known_marks {
        let _ = writeln!(text, "| {mark} | {} |", hits.get(mark.as_str()).unwrap_or(&0));
    }
    let never = known_marks.iter().filter(|mark| !hits.contains_key(mark.as_str()));
    let never: Vec<&str> = never.map(String::as_str).collect();
    let _ = writeln!(
        text,
        "\nNever hit: {}.",
        if never.is_empty() { "none".to_owned() } else { never.join(", ") }
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_itself_and_leaves_the_rest() {
        let once = spliced("# Reports\n\nkept\n", "one\n");
        let twice = spliced(&format!("{once}after\n"), "two\n");
        assert!(twice.contains("kept") && twice.contains("after") && twice.contains("two"));
        assert!(!twice.contains("one"));
    }

    #[test]
    fn marks_are_found_in_source_over_line_breaks() {
        let text = "sometimes!(\"a.b\", x); sometimes!(\n    \"c.d\",\n  y)";
        assert_eq!(marks_in(text), ["a.b", "c.d"]);
    }
}
