//! `fuzz::scenario::scenario_file` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _meant = fuzz::scenario::scenario_file(bytes);
});
