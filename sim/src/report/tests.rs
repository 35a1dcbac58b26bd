use super::*;
use crate::lab::Keep;
use crate::run::Summary;
use crate::scenario::Scenario;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn marks_are_found_in_source_over_line_breaks_and_must_be_literals() {
    let text = "sometimes!(\"a.b\", x); sometimes!(\n    \"c.d\",\n  y)";
    assert_eq!(marks_in(text), Ok(vec!["a.b".to_owned(), "c.d".to_owned()]));
    assert!(marks_in("sometimes!(name, x)").is_err());
}

#[test]
fn a_list_of_no_marks_is_an_error() {
    assert!(marks_in_source(&root().join("core/nowhere/src")).is_err());
    assert!(marks_in_source(&root().join("core/sync/src")).is_err());
}

/// T25: the list found in the source is the list of what runs can hit, and what scenarios name.
#[test]
fn the_marks_of_the_source_are_those_that_runs_hit_and_scenarios_name() {
    let marks = marks_in_source(&root().join("core/machines/src")).unwrap();
    assert!(marks.len() >= 30, "{marks:?}");
    let known = |mark: &str| marks.binary_search_by(|held| held.as_str().cmp(mark)).is_ok();
    for name in ["calm-3", "partition-heals", "rolling-restart"] {
        let path = root().join(format!("scenarios/{name}.toml"));
        let scenario = Scenario::read(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
        for mark in &scenario.sometimes {
            assert!(known(mark), "{name} names {mark}");
        }
        let hits = crate::subject::lab().run(&scenario, 0, Keep::default()).unwrap().marks;
        assert!(hits.keys().all(|mark| known(mark)), "{hits:?}");
        assert!(!hits.is_empty(), "{name} hits no mark");
    }
}

#[test]
fn a_report_shows_every_table_of_counts() {
    let counted = |what: &str| [(what.to_owned(), 7)].into();
    let mut scenario = Summary { scenario: "one".to_owned(), ..Summary::default() };
    scenario.counts.insert(REFUSALS, counted("disk-full"));
    scenario.counts.insert(MARKS, counted("a.b"));
    let campaign = Campaign { scenarios: vec![scenario], seconds: 1.0, complete: true };
    assert!(table(&campaign).contains("disk-full 7"));
    assert!(scenarios(&campaign).contains("| disk-full | 7 |"));
    let marks = marks(&campaign, &["a.b".to_owned(), "c.d".to_owned()]);
    assert!(marks.contains("| a.b | 7 |") && marks.contains("Never hit: c.d."), "{marks}");
}
