//! A driver for targets where there is no fuzzer: random inputs, and corpus entries with changes.
//!
//! ```text
//! cargo run --release -p fuzz --example drive -- TARGET ROUNDS [SEED [FOLDER]]
//! ```
//!
//! It prints each input that breaks the target. Of the targets that tell what they reached, it
//! keeps an input that reached something new in FOLDER. It knows nothing of coverage; libFuzzer
//! does (`fuzz/src/lib.rs`).

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::Path;
use std::{env, fs};

use fuzz::TARGETS;

/// The longest random input.
const LENGTH_MAX: u64 = 600;

type Run = fn(&[u8]) -> BTreeSet<&'static str>;

/// What a target reached.
fn telling(target: &str) -> Option<Run> {
    match target {
        "commands" => Some(fuzz::kernel::run),
        "recovery" => Some(fuzz::ledger::run),
        "node" => Some(fuzz::node::run),
        "registry" => Some(fuzz::registry::run),
        "router" => Some(fuzz::router::run),
        "swim" => Some(fuzz::swim::run),
        _ => None,
    }
}

/// Random numbers that a seed repeats (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: u64) -> usize {
        usize::try_from(self.next() % count.max(1)).expect("small counts")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    fn input(&mut self, known: &[Vec<u8>]) -> Vec<u8> {
        if known.is_empty() || self.below(4) == 0 {
            let length = self.below(LENGTH_MAX);
            return (0..length).map(|_| self.byte()).collect();
        }
        let mut bytes = known[self.below(known.len() as u64)].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() as u64 + 1);
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 => {
                    let other = &known[self.below(known.len() as u64)];
                    let from = self.below(other.len() as u64 + 1).min(other.len());
                    bytes.truncate(at);
                    bytes.extend(&other[from..]);
                }
                _ => {
                    let byte = self.byte();
                    bytes.get_mut(at).into_iter().for_each(|old| *old = byte);
                }
            }
        }
        bytes
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let name = arguments.first().expect("a target");
    let rounds: u64 = arguments.get(1).expect("rounds").parse().expect("rounds: a number");
    let seed: u64 = arguments.get(2).map_or(1, |seed| seed.parse().expect("seed: a number"));
    let folder = arguments.get(3).map(Path::new);
    let target = TARGETS.iter().find(|(own, _)| own == name).expect("a known target").1;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let read = |entry: std::io::Result<fs::DirEntry>| fs::read(entry.ok()?.path()).ok();
    let entries = fs::read_dir(corpus);
    let mut known: Vec<Vec<u8>> = entries.into_iter().flatten().filter_map(read).collect();
    let (mut random, mut told) = (Random(seed.max(1) * 0x9E37_79B9), BTreeSet::new());
    let (mut broken, mut meant) = (0_u64, 0_u64);
    for round in 0..rounds {
        let bytes = random.input(&known);
        let run = telling(name);
        let reached = catch_unwind(|| match run {
            Some(run) => run(&bytes),
            None => BTreeSet::from_iter(target(&bytes).then_some("meant")),
        });
        let Ok(reached) = reached else {
            broken += 1;
            println!("round {round}: broken by {bytes:02x?}");
            continue;
        };
        meant += u64::from(!reached.is_empty());
        let new: Vec<_> = reached.difference(&told).copied().collect();
        if !new.is_empty() {
            if let Some(folder) = folder {
                fs::create_dir_all(folder).expect("the folder");
                fs::write(folder.join(format!("{seed}-{round}")), &bytes).expect("a file");
            }
            println!("round {round}: {} bytes reach {new:?}", bytes.len());
            told.extend(new);
            known.push(bytes);
        }
    }
    println!("{name}: {rounds} rounds, {meant} meant something, {broken} broken");
}
