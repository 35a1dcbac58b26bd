//! `ledger/encode` (L93): a record of 300 bytes is encoded and hashed, beside BLAKE3 of 300 bytes.

use std::hint::black_box;

use benches::interleaved::Case;
use benches::results::{Results, Unit};
use benches::{sized, turns};
use machines::ledger::record::{self, Fields, Kind};

use super::driver::{BODY, RECORD};

pub(crate) fn run(results: &mut Results) {
    let times = u64::from(sized(50_000, 10));
    let body = [7; BODY];
    let bytes = [7; 300];
    Case::new("ledger/encode", times, Unit::NanosecondsEach)
        .on_core("record", || {
            let (mut chain, mut out) = ([0; 32], Vec::with_capacity(RECORD));
            for number in 1..=times {
                out.clear();
                let kind = Kind::Events;
                let fields = Fields { kind, number, time_ms: number, synced: 0, count: 1 };
                chain = record::encode(&fields, &body, &chain, &mut out);
                black_box(&out);
            }
        })
        .on_core("blake3", || {
            for _ in 0..times {
                black_box(blake3::hash(black_box(&bytes)));
            }
        })
        .measure(turns(25), results);
}
