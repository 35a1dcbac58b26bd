//! Goal: no input of a committed corpus breaks a target, and nothing close to one does (T80).
//! Method: run each target over its corpus, then over each input cut short or with a byte changed.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Target};

/// Inputs this long and shorter are changed at each byte.
const CHANGED_LEN_MAX: usize = 400;

fn path(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(part)
}

/// Lists what is in a folder, without the hidden, in order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.expect("the folder stays").path());
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|n| n.as_encoded_bytes()[0] == b'.');
    let mut paths: Vec<_> = paths.filter(|path| !hidden(path)).collect();
    paths.sort();
    paths
}

/// Names what is in a folder, without endings.
fn stems(folder: &Path) -> BTreeSet<String> {
    let paths = entries(folder);
    let stems = paths.iter().filter_map(|path| path.file_stem()?.to_str());
    stems.map(str::to_owned).collect()
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = entries(&path("corpus").join(target));
    assert!(!paths.is_empty(), "corpus/{target} is empty");
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

fn run(target: Target, bytes: &[u8], path: &Path) -> bool {
    catch_unwind(|| target(bytes)).unwrap_or_else(|_| panic!("{path:?}: broken by {bytes:02x?}"))
}

/// T80: every entry once, without a fuzzer.
#[test]
fn every_corpus_replays_and_means_something() {
    for (name, target) in TARGETS {
        let mut meant = 0;
        for (path, bytes) in corpus(name) {
            meant += u32::from(run(*target, &bytes, &path));
        }
        assert!(meant > 0, "nothing in corpus/{name} means anything");
    }
}

#[test]
fn inputs_close_to_a_corpus_break_nothing() {
    for (name, target) in TARGETS {
        for (path, bytes) in corpus(name) {
            for at in 0..bytes.len().min(CHANGED_LEN_MAX) {
                run(*target, &bytes[..at], &path);
                for byte in [0, 1, 0x7F, 0xFF, bytes[at] ^ 1, bytes[at].wrapping_add(1)] {
                    let mut changed = bytes.clone();
                    changed[at] = byte;
                    run(*target, &changed, &path);
                }
            }
        }
    }
}

/// T80: the decoders and the machines that there are.
#[test]
fn every_decoder_and_every_machine_has_a_target() {
    let decoders = ["frame", "handshake", "message", "sync", "scenario_file", "session_file"];
    let machines = ["links_handshake", "links_stream", "node", "registry", "router", "swim"];
    let durable = ["commands", "record", "recovery", "snapshot"];
    for wanted in decoders.into_iter().chain(machines).chain(durable) {
        assert!(TARGETS.iter().any(|(name, _)| *name == wanted), "no target {wanted}");
    }
}

/// T80.
#[test]
fn every_target_has_a_corpus_and_a_libfuzzer_binary_and_the_other_way_round() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stems(&path("corpus")), targets);
    assert_eq!(stems(&path("fuzz_targets")), targets);
    let manifest = fs::read_to_string(path("libfuzzer/Cargo.toml")).unwrap();
    for name in &targets {
        let line = format!("path = \"../fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&line), "no [[bin]] for {name}");
    }
}
