//! `fuzz::kernel::commands` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _meant = fuzz::kernel::commands(bytes);
});
