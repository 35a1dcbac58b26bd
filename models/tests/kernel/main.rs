//! Goal: the kernel is its sequential reference: the same answers, and the same state after each.
//! Method: 10,000 random sequences of commands by several users, workers, operators and the node,
//! with small steps of time, jumps to just before, at and after the next deadline, pauses longer
//! than every lease, and clocks that go back. After each command all that can be seen is compared.
//! A sequence that fails is shrunk and printed. Models that are wrong on purpose must all be told
//! apart within the same sequences.

mod calls;
mod draw;
mod flows;
mod papers;
mod run;
mod shrink;
mod steps;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use models::reference::kernel::Wrong;

use draw::Draw;
use run::{Failure, Met, run};
use shrink::shrink;
use steps::Case;

/// Sequences to be run.
const CASES: u64 = 10_000;

/// Takes another number of them from the environment, while something is being changed.
fn cases() -> u64 {
    let asked = std::env::var("KERNEL_CASES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(CASES)
}

/// Threads that run them.
const THREADS: u64 = 4;

/// Runs the sequences of the numbers below `cases`, and returns the first failure that was met.
fn search(cases: u64, wrong: Option<Wrong>) -> (Option<(u64, Failure)>, Met) {
    let next = AtomicU64::new(0);
    let work = || {
        let mut met = Met::default();
        loop {
            // Relaxed: only the number matters.
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= cases {
                return (None, met);
            }
            if let Err(failure) = run(&Case::draw(&mut Draw::new(seed)), wrong, &mut met) {
                next.store(cases, Ordering::Relaxed);
                return (Some((seed, failure)), met);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut all = (None, Met::default());
        for thread in threads {
            let (failure, met) = thread.join().expect("no thread panics");
            all.0 = all.0.or(failure);
            all.1.add(&met);
        }
        all
    })
}

#[test]
fn the_kernel_is_its_reference() {
    let (failure, met) = search(cases(), None);
    println!("{met}");
    if let Some((seed, failure)) = failure {
        let case = shrink(Case::draw(&mut Draw::new(seed)), None);
        let last = run(&case, None, &mut Met::default()).err().unwrap_or(failure);
        let Failure { step, command, told } = last;
        panic!("sequence {seed}, shrunk:\n{case}\nstep {step}: {told}\n\n{command}");
    }
    met.check();
}

#[test]
fn every_wrong_reference_is_told_apart() {
    let mut missed = Vec::new();
    for wrong in Wrong::ALL {
        match search(cases(), Some(wrong)).0 {
            Some((seed, failure)) => println!("{wrong:?}: sequence {seed}: {}", failure.told),
            None => missed.push(wrong),
        }
    }
    assert_eq!(missed, [], "nobody would notice these");
}
