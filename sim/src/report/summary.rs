//! `reports/summary.md`: sections that replace themselves, each with its command (T82).

use std::fmt::Write as _;
use std::path::Path;

/// A section of the summary. They stand in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Scenarios × seeds × result.
    Scenarios,
    /// Saboteurs found.
    Saboteurs,
    /// Models complete or bounded.
    Models,
    /// Marks hit.
    Marks,
    /// Entries of the fuzz corpora.
    Corpora,
    /// Bars held.
    Bars,
}

const ORDER: [Section; 6] = [
    Section::Scenarios,
    Section::Saboteurs,
    Section::Models,
    Section::Marks,
    Section::Corpora,
    Section::Bars,
];

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Self::Scenarios => "scenarios",
            Self::Saboteurs => "saboteurs",
            Self::Models => "models",
            Self::Marks => "marks",
            Self::Corpora => "corpora",
            Self::Bars => "bars",
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Scenarios => "Scenarios",
            Self::Saboteurs => "Saboteurs",
            Self::Models => "Models",
            Self::Marks => "Marks",
            Self::Corpora => "Corpora",
            Self::Bars => "Bars",
        }
    }

    fn begin(self) -> String {
        format!("<!-- {}: begin -->", self.name())
    }

    fn end(self) -> String {
        format!("<!-- {}: end -->", self.name())
    }
}

/// Writes a section into `summary.md` of `folder`, in place of its last version.
///
/// # Errors
///
/// Why the file cannot be written.
pub fn put(folder: &Path, section: Section, text: &str) -> Result<(), String> {
    let path = folder.join("summary.md");
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(folder).map_err(told)?;
    let before = match std::fs::read_to_string(&path) {
        Ok(before) => before,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(told(error)),
    };
    std::fs::write(&path, spliced(&before, section, text)).map_err(told)
}

/// Replaces a section of a summary, or adds it in its place.
fn spliced(before: &str, section: Section, text: &str) -> String {
    let (begin, end) = (section.begin(), section.end());
    let block = format!("{begin}\n## {}\n\n{}\n{end}", section.heading(), text.trim_end());
    match (before.find(&begin), before.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            return format!("{}{block}{}", &before[..from], &before[to + end.len()..]);
        }
        (Some(_) | None, Some(_) | None) => {}
    }
    let before = if before.is_empty() { "# Reports\n" } else { before };
    let later = ORDER.iter().skip_while(|other| **other != section).skip(1);
    match later.filter_map(|other| before.find(&other.begin())).min() {
        Some(at) => format!("{}{block}\n\n{}", &before[..at], &before[at..]),
        None => format!("{}\n\n{block}\n", before.trim_end()),
    }
}

/// Writes the sections that tell what other commands left under `root`: models, corpora and bars.
///
/// # Errors
///
/// Why a file cannot be read or written.
pub fn gather(root: &Path, folder: &Path) -> Result<(), String> {
    put(folder, Section::Models, &models(root)?)?;
    put(folder, Section::Corpora, &corpora(&root.join("fuzz/corpus"))?)?;
    put(folder, Section::Bars, &bars(root))
}

/// The totals of `reports/models.md`.
fn models(root: &Path) -> Result<String, String> {
    let path = root.join("reports/models.md");
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(&path).map_err(told)?;
    let totals = text.lines().find(|line| line.contains("models complete"));
    let totals = totals.ok_or_else(|| format!("{}: has no totals", path.display()))?;
    Ok(format!(
        "Made by `cargo test -p models`, then `cargo run -p models --example report`; all of them \
         stand in\n`models.md`.\n\n{totals}\n"
    ))
}

/// Counts the entries of each corpus.
fn corpora(folder: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut rows = Vec::new();
    for target in std::fs::read_dir(folder).map_err(told)? {
        let target = target.map_err(told)?;
        if !target.path().is_dir() {
            continue;
        }
        let (mut entries, mut bytes) = (0_u64, 0_u64);
        for entry in std::fs::read_dir(target.path()).map_err(told)? {
            entries += 1;
            bytes += entry.and_then(|entry| entry.metadata()).map_err(told)?.len();
        }
        rows.push((target.file_name().to_string_lossy().into_owned(), entries, bytes));
    }
    rows.sort();
    let all: u64 = rows.iter().map(|(_, entries, _)| entries).sum();
    let mut text = format!(
        "Counted by `cargo sim run`; `cargo test -p fuzz` runs each of the {all} entries once.\n\n\
         | target | entries | bytes |\n| --- | --- | --- |\n"
    );
    for (target, entries, bytes) in rows {
        let _ = writeln!(text, "| {target} | {entries} | {bytes} |");
    }
    Ok(text)
}

/// The table that the benchmarks left, if they were run on this machine.
fn bars(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("reports/bars.md"));
    let table = text.ok().map(|text| text.trim_start_matches("# Bars").trim().to_owned());
    table.unwrap_or_else(|| {
        "Not measured on this machine: `cargo bench-all`, then `cargo sim report`.".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;
    use crate::run::Campaign;

    #[test]
    fn a_section_replaces_itself_and_leaves_the_rest() {
        let once = spliced("# Reports\n\nkept\n", Section::Marks, "one\n");
        let twice = spliced(&format!("{once}after\n"), Section::Marks, "two\n");
        assert!(twice.contains("kept") && twice.contains("after") && twice.contains("two"));
        assert!(!twice.contains("one"));
    }

    #[test]
    fn sections_stand_in_one_order_whichever_came_first() {
        let mut text = String::new();
        for section in [Section::Bars, Section::Scenarios, Section::Models, Section::Saboteurs] {
            text = spliced(&text, section, "…");
        }
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(headings, ["## Scenarios", "## Saboteurs", "## Models", "## Bars"]);
        assert!(text.starts_with("# Reports\n\n"));
    }

    /// T82: scenarios, saboteurs, models, marks, corpora, bars, each with the command that made it.
    #[test]
    fn a_summary_has_every_section_and_its_command() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = std::env::temp_dir().join(format!("lockstep-whole-{}", std::process::id()));
        let campaign = Campaign { scenarios: Vec::new(), seconds: 1.0, complete: true };
        report::write(&folder, &campaign, &["a.mark".to_owned()]).unwrap();
        put(&folder, Section::Saboteurs, &report::saboteurs(&[])).unwrap();
        gather(&root, &folder).unwrap();
        let made = std::fs::read_to_string(folder.join("summary.md")).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let committed = std::fs::read_to_string(root.join("reports/summary.md")).unwrap();
        for text in [made, committed] {
            let headings: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
            let all = ["Scenarios", "Saboteurs", "Models", "Marks", "Corpora", "Bars"];
            assert_eq!(headings, all);
            for section in ORDER {
                let body = text.split(&section.begin()).nth(1);
                let body = body.and_then(|rest| rest.split(&section.end()).next()).unwrap();
                assert!(body.contains("`cargo "), "{section:?} names no command: {body}");
            }
        }
    }

    #[test]
    fn what_other_commands_left_in_this_repository_is_gathered() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = std::env::temp_dir().join(format!("lockstep-summary-{}", std::process::id()));
        gather(&root, &folder).unwrap();
        let text = std::fs::read_to_string(folder.join("summary.md")).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(text.contains("models complete,"), "{text}");
        assert!(text.contains("| scenario_file | "), "{text}");
        assert!(text.contains("## Bars"), "{text}");
        assert!(gather(Path::new("/nowhere"), &folder).is_err());
    }
}
