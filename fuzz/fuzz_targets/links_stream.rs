//! `fuzz::links::links_stream` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _meant = fuzz::links::links_stream(bytes);
});
