//! Goal: a bar that is missed says so, and one that was not measured is never called held.

use super::*;
use crate::results::Measured;

const TEXT: &str = r#"
[chosen]
default_lane = "ours"

[[bar]]
id = "rate"
about = "more is better"
cases = ["a", "b"]
ours = "ours"
peers = ["slow", "fast"]
each = 1.0
mean = 1.2

[[bar]]
id = "limit"
about = "less is better"
cases = ["memory"]
ours = "row"
limit = 256.0
"#;

fn results(figures: &[(&str, f64, Unit)]) -> Results {
    let mut results = Results::default();
    for (id, value, unit) in figures {
        results.add(Measured { id: (*id).to_owned(), value: *value, unit: *unit, range: None });
    }
    results
}

fn verdicts(figures: &[(&str, f64, Unit)]) -> Vec<(String, Verdict)> {
    let rows = Thresholds::parse(TEXT).unwrap().judge(&results(figures));
    rows.into_iter().map(|row| (row.name, row.verdict)).collect()
}

fn absent() -> Verdict {
    Verdict::Absent("cargo bench-all".to_owned())
}

#[test]
fn the_best_peer_counts_and_the_mean_has_a_bar_of_its_own() {
    let rate = Unit::PerSecond;
    let found = verdicts(&[
        ("a/ours", 110.0, rate),
        ("a/slow", 10.0, rate),
        ("a/fast", 100.0, rate),
        ("b/ours", 90.0, rate),
        ("b/slow", 10.0, rate),
        ("b/fast", 100.0, rate),
        ("memory/row", 256.0, Unit::Bytes),
    ]);
    let expected = [
        ("rate a/ours", Verdict::Held),
        ("rate b/ours", Verdict::Missed),
        ("rate geometric mean", Verdict::Missed),
        ("limit memory/row", Verdict::Held),
    ];
    assert_eq!(found, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
}

#[test]
fn a_figure_without_all_its_peers_is_not_judged() {
    let found = verdicts(&[
        ("a/ours", 500.0, Unit::PerSecond),
        ("a/slow", 10.0, Unit::PerSecond),
        ("memory/row", 257.0, Unit::Bytes),
    ]);
    let expected = [
        ("rate a/ours", absent()),
        ("rate b/ours", absent()),
        ("limit memory/row", Verdict::Missed),
    ];
    assert_eq!(found, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
}

#[test]
fn a_time_is_judged_the_other_way_round() {
    let text = TEXT.replace("mean = 1.2", "");
    let time = Unit::NanosecondsEach;
    let figures = [("a/ours", 50.0, time), ("a/slow", 200.0, time), ("a/fast", 100.0, time)];
    let rows = Thresholds::parse(&text).unwrap().judge(&results(&figures));
    assert_eq!(rows[0].verdict, Verdict::Held);
    assert_eq!(rows[0].beside, "fast 100.0 ns");
}

#[test]
fn a_bar_needs_a_ratio_or_a_limit_and_not_both() {
    for wrong in [
        TEXT.replace("limit = 256.0", ""),
        TEXT.replace("each = 1.0\nmean = 1.2", ""),
        TEXT.replace("each = 1.0", "each = 1.0\nlimit = 3.0"),
        TEXT.replace("limit = 256.0", "limit = 256.0\nspeed = 1"),
    ] {
        assert!(Thresholds::parse(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_thresholds_of_this_project_are_well_formed() {
    let text = include_str!("../../thresholds.toml");
    let thresholds = Thresholds::parse(text).unwrap();
    assert!(thresholds.bar.iter().any(|bar| bar.id == "G461"));
}

#[test]
fn the_table_names_what_was_missed() {
    let figures = [("memory/row", 300.0, Unit::Bytes)];
    let rows = Thresholds::parse(TEXT).unwrap().judge(&results(&figures));
    let table = table(&rows);
    assert!(table.contains("MISSED"), "{table}");
    assert!(table.contains("not measured: `cargo bench-all`"), "{table}");
}
