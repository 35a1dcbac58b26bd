//! `ledger/root` (L94): the root of a table after one of its entries has changed, among a million
//! entries and among a thousand.

use std::hint::black_box;
use std::time::Duration;

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::{sized, turns};
use machines::ledger::table::Table;

/// A table of rows of about 100 bytes.
struct Rows {
    table: Table<u64, Vec<u8>>,
    rows: u64,
    changed: u64,
}

impl Rows {
    fn of(rows: u64) -> Self {
        let mut table = Table::new();
        for row in 0..rows {
            table.insert(row, vec![7; 100]);
        }
        table.root();
        Self { table, rows, changed: 0 }
    }

    /// Each change and each root is timed, and what stands between them is not.
    fn change(&mut self, times: u32) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..times {
            self.changed += 1;
            let row = self.changed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.rows;
            let value = self.changed.to_le_bytes();
            let start = OnCore::thread();
            let found = self.table.update(&row, |bytes| bytes[..8].copy_from_slice(&value));
            black_box(self.table.root());
            took += start.elapsed();
            assert!(found, "all rows are there");
        }
        took
    }
}

pub(crate) fn run(results: &mut Results) {
    let times = sized(2_000, 10);
    let mut small = Rows::of(1_000);
    let mut large = Rows::of(sized(1_000_000, 2_000).into());
    Case::new("ledger/root", times.into(), Unit::NanosecondsEach)
        .timed("among-1000000", || large.change(times))
        .timed("among-1000", || small.change(times))
        .measure(turns(25), results);
}
