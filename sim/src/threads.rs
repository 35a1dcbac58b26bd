//! Independent work on several threads: seeds, candidates, saboteurs (T2).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Returns how many threads this machine runs at once.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Does `one(0)`, `one(1)`, … `one(count - 1)` on `jobs` threads; the results are in that order.
///
/// # Panics
///
/// If `one` does, or if the operating system gives no thread.
pub fn in_parallel<T: Send>(jobs: usize, count: usize, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            // Relaxed: the counter hands out numbers, and nothing else.
            let place = next.fetch_add(1, Relaxed);
            if place >= count {
                return done;
            }
            done.push((place, one(place)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.clamp(1, count.max(1))).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        let mut all: Vec<(usize, T)> = Vec::with_capacity(count);
        for done in joined {
            match done {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::in_parallel;

    #[test]
    fn results_are_in_order_whatever_the_number_of_threads() {
        let squares: Vec<usize> = (0..100).map(|n| n * n).collect();
        for jobs in [0, 1, 2, 7] {
            assert_eq!(in_parallel(jobs, 100, |n| n * n), squares);
        }
        assert!(in_parallel(2, 0, |n| n).is_empty());
    }
}
