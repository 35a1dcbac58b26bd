//! `reports/membership.md`: membership measured beside its bars (C138, C139, C160–C166).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use machines::time::nanos;

use super::measure::{
    Rates, accuracy, crash_known, first_suspicion, heal_time, rates, slow_members, spread,
    without_lifeguard,
};
use super::{Bounds, Sabotage, Setup};

/// What came of measuring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The report.
    pub text: String,
    /// The bars that were missed: rule and case.
    pub missed: Vec<String>,
}

/// Measures C138, C139 and C160–C166. A quick measurement takes few seeds and no large clusters:
/// it shows that the measurement works, and misses a bar only if it is missed by far.
#[must_use]
pub fn report(quick: bool) -> Measured {
    let mut sheet = Sheet { rows: String::new(), judged: Vec::new(), quick };
    first_suspicions(&mut sheet);
    crashes(&mut sheet);
    facts(&mut sheet);
    traffic(&mut sheet);
    slow(&mut sheet);
    late(&mut sheet);
    heals(&mut sheet);
    sheet.finish()
}

/// A report in the making.
struct Sheet {
    rows: String,
    /// Rule, case, and whether the bar was held.
    judged: Vec<(&'static str, String, bool)>,
    quick: bool,
}

impl Sheet {
    /// Begins a table.
    fn table(&mut self, heading: &str, columns: &[&str]) {
        let rule = vec!["---"; columns.len()].join(" | ");
        let columns = columns.join(" | ");
        let _ = writeln!(self.rows, "\n## {heading}\n\n| {columns} |\n| {rule} |");
    }

    fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.rows, "| {} |", cells.join(" | "));
    }

    /// Returns how many seeds to take of those that the specification names.
    fn seeds(&self, full: u32) -> u32 {
        if self.quick { full.div_ceil(20).max(2).min(full) } else { full }
    }

    /// Says whether a cluster of this size is measured.
    fn takes(&self, members: u32) -> bool {
        !self.quick || members <= 128
    }

    fn judge(&mut self, rule: &'static str, case: &str, holds: bool) -> String {
        self.judged.push((rule, case.to_owned(), holds));
        if holds { "met".to_owned() } else { "**MISSED**".to_owned() }
    }

    fn finish(self) -> Measured {
        let mut rules: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for (rule, _, holds) in &self.judged {
            let (met, all) = rules.entry(rule).or_default();
            (*met, *all) = (*met + u32::from(*holds), *all + 1);
        }
        let flag = if self.quick { " --quick" } else { "" };
        let mut text = format!(
            "# Membership, measured\n\nMade by `cargo sim bench membership{flag}`. Production \
             `Swim` machines with default parameters, in virtual\ntime: the same seeds give the \
             same figures on any machine.\n\n| rule | cases met |\n| --- | --- |\n"
        );
        for (rule, (met, all)) in rules {
            let _ = writeln!(text, "| {rule} | {met} of {all} |");
        }
        text.push_str(&self.rows);
        let missed = self.judged.iter().filter(|(_, _, holds)| !holds);
        let missed = missed.map(|(rule, case, _)| format!("{rule} ({case})")).collect();
        Measured { text, missed }
    }
}

fn setup(members: u32, loss_permille: u32) -> Setup {
    Setup { loss_permille, ..Setup::new(1, members) }
}

fn case(members: u32, loss_permille: u32) -> String {
    format!("N = {members}, {} % loss", loss_permille / 10)
}

/// Thousandths as a decimal.
fn milli(value: u64) -> String {
    format!("{}.{:03}", value / 1_000, value % 1_000)
}

/// Nanoseconds as seconds.
fn seconds(value: u64) -> String {
    match value {
        u64::MAX => "never".to_owned(),
        value => format!("{} s", milli(value / 1_000_000)),
    }
}

fn first_suspicions(sheet: &mut Sheet) {
    sheet.table(
        "First suspicion of a crash (C160)",
        &["N", "loss", "seeds", "mean", "99 %", "mean at most 1.6 T"],
    );
    for (members, full) in [(10, 400), (16, 400), (32, 400), (100, 400), (128, 100), (1_000, 20)] {
        for loss in [0, 100] {
            if !sheet.takes(members) {
                continue;
            }
            let setup = setup(members, loss);
            let first = first_suspicion(&setup, sheet.seeds(full));
            // A handful of seeds is spread around the mean: 1.58 T in theory, 1.6 T the bar.
            let bar = nanos(setup.config.period) * if sheet.quick { 32 } else { 16 } / 10;
            let held = sheet.judge("C160", &case(members, loss), first.mean() <= bar);
            sheet.row(&[
                members.to_string(),
                format!("{} %", loss / 10),
                first.runs().to_string(),
                seconds(first.mean()),
                seconds(first.within(990)),
                format!("{}: {held}", seconds(bar)),
            ]);
        }
    }
}

fn crashes(sheet: &mut Sheet) {
    sheet.table(
        "A crash is known to all (C138)",
        &["N", "loss", "seeds", "99 %", "worst", "99 % within B99(N)"],
    );
    for (members, full) in [(16, 200), (128, 100), (1_000, 4)] {
        for loss in [0, 100] {
            if !sheet.takes(members) {
                continue;
            }
            let setup = setup(members, loss);
            let known = crash_known(&setup, sheet.seeds(full));
            let bar = Bounds::of(&setup.config, members).crash_99;
            let held = sheet.judge("C138", &case(members, loss), known.share_within(bar) >= 990);
            sheet.row(&[
                members.to_string(),
                format!("{} %", loss / 10),
                known.runs().to_string(),
                seconds(known.within(990)),
                seconds(known.worst()),
                format!("{}: {held}", seconds(nanos(bar))),
            ]);
        }
    }
}

fn facts(sheet: &mut Sheet) {
    sheet.table(
        "A fact reaches all (C161)",
        &["N", "loss", "seeds", "mean", "99 %", "99 % within D(N)"],
    );
    for (members, full) in
        [(3, 400), (10, 400), (16, 400), (32, 400), (100, 400), (128, 400), (300, 400), (1_000, 8)]
    {
        for loss in [0, 100] {
            if !sheet.takes(members) {
                continue;
            }
            let setup = setup(members, loss);
            let all = spread(&setup, sheet.seeds(full));
            let bar = Bounds::of(&setup.config, members).dissemination;
            let held = sheet.judge("C161", &case(members, loss), all.share_within(bar) >= 990);
            sheet.row(&[
                members.to_string(),
                format!("{} %", loss / 10),
                all.runs().to_string(),
                seconds(all.mean()),
                seconds(all.within(990)),
                format!("{}: {held}", seconds(nanos(bar))),
            ]);
        }
    }
}

fn traffic(sheet: &mut Sheet) {
    sheet.table(
        "Messages and bytes per member and period, quiet (C162, C163, C165)",
        &[
            "N",
            "loss",
            "datagrams at most 2.05 + 14 q",
            "gossip ticks",
            "bytes at most 80, or 100 at 1 %",
            "turned Suspect",
            "false deaths",
            "bytes of a sync at most 80 N + 12",
        ],
    );
    let mut lossless = Vec::new();
    for (members, span) in [(3, 600), (10, 600), (16, 600), (32, 6_000), (128, 300), (1_000, 20)] {
        for loss in [0, 10, 100] {
            if !sheet.takes(members) {
                continue;
            }
            let span = if sheet.quick { span.min(300) } else { span };
            let got = rates(&setup(members, loss), Duration::from_secs(span));
            if loss == 0 && members >= 10 {
                lossless.push(got.bytes_milli);
            }
            traffic_row(sheet, members, loss, got);
        }
    }
    let least = lossless.iter().min().copied().unwrap_or(0);
    let most = lossless.iter().max().copied().unwrap_or(u64::MAX);
    let even = most.saturating_sub(least) * 50 <= most;
    let held = sheet.judge("C163", "equal within 2 % from N = 10", even);
    let _ = writeln!(
        sheet.rows,
        "\nBytes without loss from N = 10 on: {} to {}, within 2 %: {held}.",
        milli(least),
        milli(most)
    );
}

fn traffic_row(sheet: &mut Sheet, members: u32, loss: u32, got: Rates) {
    let case = case(members, loss);
    let kept = u64::from(1_000 - loss);
    let bar = 2_050 + 14 * (1_000 - kept * kept / 1_000);
    let datagrams = sheet.judge("C162", &case, got.datagrams_milli <= bar);
    let bytes_bar = match loss {
        0 => Some(80_000),
        10 => Some(100_000),
        _ => None,
    };
    let bytes = bytes_bar.map_or_else(String::new, |bar| {
        format!(": {}", sheet.judge("C163", &case, got.bytes_milli <= bar))
    });
    let suspected = match (members, loss) {
        // A short run has few suspicions: they come in groups.
        (32, 100) => {
            let bar = if sheet.quick { 20 } else { 10 };
            format!(
                " of {}: {}",
                milli(bar),
                sheet.judge("C165", &case, got.suspected_milli <= bar)
            )
        }
        _ => String::new(),
    };
    let deaths = sheet.judge("C165", &case, got.false_deaths == 0);
    // A run shorter than the time between two syncs has none.
    let sync = match got.sync_bytes {
        0 => "–".to_owned(),
        bytes => {
            let within = bytes <= 80 * u64::from(members) + 12;
            format!("{bytes}: {}", sheet.judge("C163", &case, within))
        }
    };
    sheet.row(&[
        members.to_string(),
        format!("{} %", loss / 10),
        format!("{} of {}: {datagrams}", milli(got.datagrams_milli), milli(bar)),
        milli(got.gossip_milli),
        format!("{}{bytes}", milli(got.bytes_milli)),
        format!("{}{suspected}", milli(got.suspected_milli)),
        format!("{}: {deaths}", got.false_deaths),
        sync,
    ]);
}

fn slow(sheet: &mut Sheet) {
    sheet.table(
        "False deaths with slow members, in runs of 5 minutes (C164)",
        &["N", "slow", "seeds", "with Lifeguard", "without", "50 times fewer"],
    );
    // The bar is set for 4 of 32 and 8 of 100; the other sizes are told without one.
    let sizes = [(16, 2, 20), (32, 4, 20), (100, 8, 20), (128, 16, 5), (1_000, 80, 1)];
    for (members, slow, full) in sizes {
        if !sheet.takes(members) {
            continue;
        }
        let (runs, span) = (sheet.seeds(full), Duration::from_secs(300));
        let on = Setup::new(1, members);
        let off = Setup {
            config: without_lifeguard(&on.config),
            sabotage: Sabotage::NoBuddy,
            ..on.clone()
        };
        let with = slow_members(&on, slow, runs, span);
        let without = slow_members(&off, slow, runs, span);
        let held = match members {
            32 | 100 => {
                let case = format!("{slow} of {members} slow");
                sheet.judge("C164", &case, without >= 50 * with.max(1))
            }
            _ => "–".to_owned(),
        };
        let cells = [u64::from(members), slow.into(), runs.into(), with, without];
        let mut cells = cells.map(|cell| cell.to_string()).to_vec();
        cells.push(held);
        sheet.row(&cells);
    }
}

fn late(sheet: &mut Sheet) {
    let (members, runs, minutes) = (16, sheet.seeds(100), 38);
    let got = accuracy(&Setup::new(1, members), runs, Duration::from_secs(minutes * 60));
    let hours = u64::from(members * runs) * minutes / 60;
    let held = sheet.judge("C139", "N = 16", got == 0);
    let _ = writeln!(
        sheet.rows,
        "\n## Accuracy (C139)\n\n{got} false deaths in {hours} member-hours over {runs} seeds: \
         {held}. N = {members}, 10 % loss, delays to 50 ms,\neach member up to 2 T late once in \
         20 s."
    );
}

fn heals(sheet: &mut Sheet) {
    sheet.table(
        "Heal of a half/half split (C166)",
        &["N", "seeds", "99 %", "99 % within Q + 1 s + W(N)", "H(N)"],
    );
    for (members, full) in [(2, 100), (10, 100), (16, 100), (32, 100), (128, 10), (300, 2)] {
        if !sheet.takes(members) {
            continue;
        }
        let setup = Setup::new(1, members);
        let healed = heal_time(&setup, sheet.seeds(full));
        let bounds = Bounds::of(&setup.config, members);
        let bar = setup.config.reprobe + Duration::from_secs(1) + bounds.gossip_all;
        let met = healed.share_within(bar) >= 990;
        let held = sheet.judge("C166", &format!("N = {members}"), met);
        sheet.row(&[
            members.to_string(),
            healed.runs().to_string(),
            seconds(healed.within(990)),
            format!("{}: {held}", seconds(nanos(bar))),
            seconds(nanos(bounds.heal)),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bar_is_told_and_counted() {
        let mut sheet = Sheet { rows: String::new(), judged: Vec::new(), quick: false };
        sheet.judge("C160", "N = 10", true);
        assert!(sheet.judge("C160", "N = 16", false).contains("MISSED"));
        let measured = sheet.finish();
        assert_eq!(measured.missed, ["C160 (N = 16)"]);
        assert!(measured.text.contains("| C160 | 1 of 2 |"), "{}", measured.text);
    }
}
