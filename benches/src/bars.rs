//! The bars of `thresholds.toml`, and whether they hold (T81).

use std::fmt::Write;

use serde::Deserialize;

use crate::results::{Results, Unit};

/// Everything in `thresholds.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// What the measurements decided.
    pub chosen: Chosen,
    /// The bars.
    pub bar: Vec<Bar>,
}

/// Choices that rest on measurements, and are changed only by new ones.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// The default user lane (G61).
    pub default_lane: String,
}

/// One bar: a ratio to the best of the named peers, or an absolute limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// The rule.
    pub id: String,
    /// What is measured.
    pub about: String,
    /// How to measure it.
    #[serde(default = "bench_all")]
    pub run: String,
    /// The cases; a figure is named `<case>/<contender>`.
    pub cases: Vec<String>,
    /// Our contender.
    pub ours: String,
    /// The peers, of which the best counts.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Our figure over the best peer's, in each case.
    pub each: Option<f64>,
    /// The same in the geometric mean over the cases.
    pub mean: Option<f64>,
    /// An absolute limit for our figure.
    pub limit: Option<f64>,
}

fn bench_all() -> String {
    "cargo bench-all".to_owned()
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The rule and the case.
    pub name: String,
    /// Our figure.
    pub measured: String,
    /// The peer's, or the limit.
    pub beside: String,
    /// Ours over the peer's, if there is one.
    pub ratio: Option<f64>,
    /// What was wanted.
    pub wanted: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Held,
    /// It does not.
    Missed,
    /// This was not measured in the last run: how to.
    Absent(String),
}

impl Thresholds {
    /// Parses `thresholds.toml`.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let thresholds: Self = toml::from_str(text).map_err(|why| why.to_string())?;
        for bar in &thresholds.bar {
            let relative = bar.each.is_some() || bar.mean.is_some();
            if relative == bar.peers.is_empty() || relative == bar.limit.is_some() {
                let id = &bar.id;
                return Err(format!("{id}: give peers with a ratio, or a limit alone"));
            }
        }
        Ok(thresholds)
    }

    /// Compares every bar with `results`.
    #[must_use]
    pub fn judge(&self, results: &Results) -> Vec<Row> {
        self.bar.iter().flat_map(|bar| bar.judge(results)).collect()
    }
}

impl Bar {
    fn judge(&self, results: &Results) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut ratios = Vec::new();
        let mut more_is_better = true;
        for case in &self.cases {
            let Some(ours) = results.find(&format!("{case}/{}", self.ours)) else {
                rows.push(self.absent(case));
                continue;
            };
            more_is_better = ours.unit.more_is_better();
            let measured = ours.unit.show(ours.value);
            if let Some(limit) = self.limit {
                rows.push(Row {
                    name: format!("{} {case}/{}", self.id, self.ours),
                    measured,
                    beside: String::new(),
                    ratio: None,
                    wanted: wanted(ours.unit, &ours.unit.show(limit)),
                    verdict: verdict(more_is_better, ours.value, limit),
                });
            } else if let Some((peer, value)) = self.best_peer(case, results) {
                let ratio = ours.value / value;
                ratios.push(ratio);
                rows.push(Row {
                    name: format!("{} {case}/{}", self.id, self.ours),
                    measured,
                    beside: format!("{peer} {}", ours.unit.show(value)),
                    ratio: Some(ratio),
                    wanted: self
                        .each
                        .map_or(String::new(), |each| wanted(ours.unit, &format!("{each}×"))),
                    verdict: self
                        .each
                        .map_or(Verdict::Held, |each| verdict(more_is_better, ratio, each)),
                });
            } else {
                rows.push(self.absent(case));
            }
        }
        if let Some(mean) = self.mean
            && ratios.len() == self.cases.len()
        {
            let product: f64 = ratios.iter().product();
            let ratio = product.powf(1.0 / ratios.len() as f64);
            rows.push(Row {
                name: format!("{} geometric mean", self.id),
                measured: String::new(),
                beside: String::new(),
                ratio: Some(ratio),
                wanted: format!("{} {mean}×", if more_is_better { '≥' } else { '≤' }),
                verdict: verdict(more_is_better, ratio, mean),
            });
        }
        rows
    }

    /// Finds the best peer of a case; `None` unless every named peer was measured.
    fn best_peer<'a>(&'a self, case: &str, results: &Results) -> Option<(&'a str, f64)> {
        let mut best: Option<(&str, f64)> = None;
        for peer in &self.peers {
            let measured = results.find(&format!("{case}/{peer}"))?;
            let better = best.is_none_or(|(_, value)| {
                (measured.value > value) == measured.unit.more_is_better()
            });
            if better {
                best = Some((peer, measured.value));
            }
        }
        best
    }

    fn absent(&self, case: &str) -> Row {
        Row {
            name: format!("{} {case}/{}", self.id, self.ours),
            measured: "–".to_owned(),
            beside: String::new(),
            ratio: None,
            wanted: String::new(),
            verdict: Verdict::Absent(self.run.clone()),
        }
    }
}

fn wanted(unit: Unit, figure: &str) -> String {
    let sign = if unit.more_is_better() { '≥' } else { '≤' };
    format!("{sign} {figure}")
}

fn verdict(more_is_better: bool, value: f64, bar: f64) -> Verdict {
    match value == bar || (value > bar) == more_is_better {
        true => Verdict::Held,
        false => Verdict::Missed,
    }
}

/// Prints the rows as a table in Markdown, which a terminal shows well enough.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut cells = vec![["bar", "measured", "peer", "ratio", "wanted", ""].map(str::to_owned)];
    for row in rows {
        let verdict = match &row.verdict {
            Verdict::Held => "held".to_owned(),
            Verdict::Missed => "MISSED".to_owned(),
            Verdict::Absent(run) => format!("not measured: `{run}`"),
        };
        cells.push([
            row.name.clone(),
            row.measured.clone(),
            row.beside.clone(),
            row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}×")),
            row.wanted.clone(),
            verdict,
        ]);
    }
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, row) in cells.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            write!(text, "| {cell:<width$} ").expect("a string takes everything");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in widths {
                write!(text, "|{:-<1$}", "", width + 2).expect("a string takes everything");
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests;
