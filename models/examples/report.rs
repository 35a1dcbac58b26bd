//! Writes `reports/models.md` from what the models left in `target/models/`:
//! `cargo test -p models && cargo run -p models --example report`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The commands that made the report.
const COMMANDS: &str = "cargo test -p models\ncargo run -p models --example report";

/// What the tables mean, and what they do not show.
const READING: &str = "\
`complete` is every interleaving and every stale read that loom's memory model allows.
`bounded(preemptions=n)` leaves out executions with more than *n* preemptions. shuttle's runs are
samples and sequentially consistent. stateright's models are `complete within` the faults that they
name: every order of what may happen, states being told apart by 64-bit digests. A search that
ends by a limit is a failed test.

loom 0.7 remembers one last access of each atomic. When a thread loads a word and then exchanges
it, its own load hides the loads that other threads made before, and loom never tries the exchange
before those. `models::atomics::Shadowed` puts a relaxed store to an unread shadow before each
load; all models run with it.

A twin does one step wrong, or loses all orderings, and must fail. In the tables of orderings one
half of one ordering is removed at a time; what no model misses is listed in the test with the
reason: another edge does the same work, or loom's own limits.

Known limits: lane models have 1 or 2 senders, blocks and rings of 1 and 2 slots; load buffering is
not explored, and only the last 7 stores of a word can be read (loom). That a credit is always a
free slot (`ring`, E3) needs three senders on other hardware than x86-64 to fail; no model has
them. In the models of links time stands still until nothing is under way; what was written at once
arrives at once. Membership goes on in every order only up to its horizon, then fairly.
";

fn main() -> io::Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let text = report(&outcomes(&target.join("models"))?);
    fs::create_dir_all(root.join("reports"))?;
    fs::write(root.join("reports/models.md"), text)
}

/// Reads (kind, name) → outcome of every model, twin and table.
fn outcomes(folder: &Path) -> io::Result<BTreeMap<(String, String), String>> {
    let mut outcomes = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path())?;
        let Some((head, outcome)) = text.split_once(": ") else { continue };
        let Some((kind, name)) = head.split_once(' ') else { continue };
        outcomes.insert((kind.to_owned(), name.to_owned()), outcome.trim_end().to_owned());
    }
    Ok(outcomes)
}

fn report(outcomes: &BTreeMap<(String, String), String>) -> String {
    let of = |kind: &str| {
        let kind = kind.to_owned();
        outcomes
            .iter()
            .filter(move |((of, _), _)| *of == kind)
            .map(|((_, name), told)| (name, told))
    };
    let complete = of("model").filter(|(_, told)| told.ends_with(", complete")).count();
    let within = of("model").filter(|(_, told)| told.contains("complete within")).count();
    let bounded = of("model").filter(|(_, told)| told.contains("bounded(")).count();
    let mut text = format!(
        "# Models\n\nMade by\n\n```text\n{COMMANDS}\n```\n\n\
         {complete} models complete, {within} complete within stated bounds, {bounded} bounded; \
         {} twins caught; {} files with each ordering removed.\n\n{READING}\n",
        of("twin").count(),
        of("orderings").count(),
    );
    text.push_str("| model | explored | how far |\n|---|---|---|\n");
    for (name, told) in of("model") {
        let (count, bound) = told.split_once(", ").unwrap_or((told, ""));
        line(&mut text, &format!("| {name} | {count} | {bound} |"));
    }
    text.push_str("\n| twin | what caught it |\n|---|---|\n");
    for (name, told) in of("twin") {
        let told = told.trim_start_matches("caught: ").replace('|', "\\|");
        line(&mut text, &format!("| {name} | {told} |"));
    }
    for (name, told) in of("orderings") {
        line(&mut text, &format!("\n## Orderings of {name}, each removed\n\n{}", told.trim()));
    }
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}
