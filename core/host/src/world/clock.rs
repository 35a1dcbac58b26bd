//! Monotonic time, counted from the start of the node.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use machines::Instant;
use machines::kernel::Time;
use runtime::Clock;

/// The operating system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Starts to count.
    #[must_use]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::START + self.start.elapsed()
    }

    fn wall(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis()); // A clock before 1970: 1970.
        Time::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    async fn sleep_until(&self, at: Instant) {
        // A moment that the operating system cannot count to is never reached.
        match self.start.checked_add(Duration::from_nanos(at.as_nanos())) {
            Some(at_system) if at != Instant::FAR => {
                tokio::time::sleep_until(at_system.into()).await;
            }
            Some(_) | None => std::future::pending().await,
        }
    }
}
