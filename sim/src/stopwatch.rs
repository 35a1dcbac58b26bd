//! Time on a core, for what is measured beside other work on the same machine.

use std::time::{Duration, Instant};

/// Measures this thread's time on a core where the system tells it, else wall time: other
/// processes on the machine are no part of the answer.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    wall: Instant,
    core: Option<u64>,
}

impl Stopwatch {
    /// Starts to measure.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: Instant::now(), core: core_nanos() }
    }

    /// Returns the time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match (self.core, core_nanos()) {
            (Some(before), Some(after)) if after > before => Duration::from_nanos(after - before),
            (Some(_) | None, Some(_) | None) => self.wall.elapsed(),
        }
    }
}

/// Nanoseconds that this thread spent on a core, on Linux.
fn core_nanos() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Returns the time on a core of all ended and awaited children of this process, on Linux.
#[must_use]
pub fn of_children() -> Option<Duration> {
    /// The unit of the file, which the system's interface fixes.
    const TICK_MS: u64 = 10;
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may have spaces; what follows it has not.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(13).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(Duration::from_millis((user + system) * TICK_MS))
}
