//! Time on a core: what other work on the machine takes is no part of it.
//!
//! Wall time on a shared machine is mostly the others'. Whatever waits for nothing is measured so;
//! whatever waits for a disk is not.

use std::time::Duration;

/// Whose time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Of this thread.
    Thread,
    /// Of all threads of this process.
    Process,
}

/// Measures time on a core; wall time where the system does not tell it.
#[derive(Clone, Copy, Debug)]
pub struct OnCore {
    whose: Whose,
    start: Duration,
}

impl OnCore {
    /// Begins to measure the time of this thread.
    #[must_use]
    pub fn thread() -> Self {
        Self { whose: Whose::Thread, start: now(Whose::Thread) }
    }

    /// Begins to measure the time of all threads of this process.
    #[must_use]
    pub fn process() -> Self {
        Self { whose: Whose::Process, start: now(Whose::Process) }
    }

    /// Returns the time since the beginning; of the thread only in the same thread.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        now(self.whose).saturating_sub(self.start)
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn now(whose: Whose) -> Duration {
    /// The system's `struct timespec`.
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanos: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    // The system's interface fixes these numbers.
    let clock = match whose {
        Whose::Process => 2,
        Whose::Thread => 3,
    };
    let mut time = Time { seconds: 0, nanos: 0 };
    // SAFETY: `time` is as the system's library has it on 64-bit Linux, and lives through the call.
    let failed = unsafe { clock_gettime(clock, &raw mut time) };
    assert_eq!(failed, 0, "Linux has these clocks");
    let seconds = u64::try_from(time.seconds).expect("time does not run backwards");
    Duration::from_secs(seconds) + Duration::from_nanos(time.nanos.unsigned_abs())
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn now(_whose: Whose) -> Duration {
    use std::sync::LazyLock;
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_this_thread_is_time_of_the_thread_and_of_the_process() {
        // That of the process begins first and ends last.
        let process = OnCore::process();
        let thread = OnCore::thread();
        let sum: u64 = std::hint::black_box((0..1_000_000_u64).map(|n| n * n).sum());
        assert!(sum > 0);
        let thread = thread.elapsed();
        assert!(thread > Duration::ZERO);
        assert!(process.elapsed() >= thread);
    }
}
