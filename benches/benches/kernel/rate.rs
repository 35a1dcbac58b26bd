//! `kernel/rate` (K457): a hit is checked and recorded, with few and many hits before it, among few
//! and many keys.

use std::time::Duration;

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::rig::{Rig, command, operator, user_id};
use benches::{sized, turns};
use machines::kernel::config::{KernelConfig, RateConfig};
use machines::kernel::ids::Endpoint;
use machines::kernel::quota::Limit;
use machines::kernel::{Command, CommandBody};

/// Keys whose hits are counted.
const HIT: u64 = 20;

fn hit(user: u64) -> Command {
    let endpoint = Endpoint::whole();
    let (user, record) = (user_id(user), true);
    command(&operator(), CommandBody::CheckRateLimit { user, endpoint, record })
}

/// A kernel in which nothing is too often, that has so many keys with so many hits each, all within
/// ten seconds: a key's row has one counter for each slot in which it was hit, 50 at most a window.
fn kernel(keys: u64, hits: u32) -> Rig {
    let most = Limit::at_most(1_000_000_000);
    let default_rate = RateConfig { burst: most, minute: most, hour: most, day: most };
    let mut rig = Rig::of(KernelConfig { default_rate, ..KernelConfig::new() });
    let commands: Vec<_> = (0..keys).map(hit).collect();
    for _ in 0..hits {
        for command in &commands {
            rig.execute(command);
        }
        rig.now = rig.now.plus(u64::from(10_000 / hits));
    }
    rig
}

pub(crate) fn run(results: &mut Results) {
    hits(results);
    keys(results);
}

/// Each run begins with as many hits as before.
fn hits(results: &mut Results) {
    let commands: Vec<_> = (0..HIT).map(hit).collect();
    let (few, many) = (kernel(HIT, 100), kernel(HIT, sized(10_000, 100)));
    let times = sized(50, 1);
    let once = |rig: &Rig| {
        let mut took = Duration::ZERO;
        for _ in 0..times {
            let mut rig = rig.clone();
            let start = OnCore::thread();
            commands.iter().for_each(|command| drop(rig.execute(command)));
            took += start.elapsed();
        }
        took
    };
    Case::new("kernel/rate/hits", HIT * u64::from(times), Unit::NanosecondsEach)
        .timed("after-10000", || once(&many))
        .timed("after-100", || once(&few))
        .measure(turns(25), results);
}

fn keys(results: &mut Results) {
    let mut few = Hits::among(1_000);
    let mut many = Hits::among(sized(200_000, 2_000).into());
    let times = u64::from(sized(1_000, 10));
    Case::new("kernel/rate/keys", times, Unit::NanosecondsEach)
        .timed("of-200000", || many.once(times))
        .timed("of-1000", || few.once(times))
        .measure(turns(25), results);
}

/// Hits of keys in no order.
struct Hits {
    rig: Rig,
    keys: u64,
    next: u64,
}

impl Hits {
    fn among(keys: u64) -> Self {
        Self { rig: kernel(keys, 1), keys, next: 0 }
    }

    fn once(&mut self, times: u64) -> Duration {
        let key = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.keys;
        let commands: Vec<_> = (self.next..self.next + times).map(|at| hit(key(at))).collect();
        self.next += times;
        let start = OnCore::thread();
        for command in &commands {
            self.rig.execute(command);
        }
        start.elapsed()
    }
}
