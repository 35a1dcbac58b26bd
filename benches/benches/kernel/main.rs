//! The kernel: K452 to K462. `cargo bench --bench kernel -- schedule` measures one area alone.
//!
//! Whatever is compared takes turns, in rounds of some milliseconds of time on a core; the median
//! of the rounds counts. `kernel/memory_idle` (K451) is a program of its own: its allocator counts.

mod bus;
mod crowd;
mod poll;
mod rate;
mod replay;
mod report;
mod reserve;
mod schedule;
mod sessions;

use benches::area;

fn main() {
    area("kernel", "schedule", schedule::run);
    area("kernel", "report", report::run);
    area("kernel", "poll", poll::run);
    area("kernel", "rate", rate::run);
    area("kernel", "reserve", reserve::run);
    area("kernel", "replay", replay::run);
    area("kernel", "sessions", sessions::run);
    area("kernel", "bus", bus::run);
    area("kernel", "crowd", crowd::run);
}
