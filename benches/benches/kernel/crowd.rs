//! Among a million processes and among a thousand: `kernel/lifecycle_scale` (K452), `kernel/root`
//! (K461), `kernel/tick` (K456).

use std::hint::black_box;
use std::time::Duration;

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::rig::{Rig, USERS, command, node, operator, pid, plain, user, worker};
use benches::{sized, turns};
use machines::kernel::budget::Record;
use machines::kernel::config::KernelConfig;
use machines::kernel::ids::ProcessId;
use machines::kernel::lifecycle::Submit;
use machines::kernel::principal::Principal;
use machines::kernel::quota::{Amounts, Limit, Quota};
use machines::kernel::{Command, CommandBody};

const DAY_MS: u64 = 24 * 3_600_000;
/// Deadlines of a process that runs: of its lease, and of its two timeouts.
const DEADLINES: u32 = 3;
/// How long a run lease is (K78).
const LEASE_MS: u64 = 60_000;

/// A kernel with live processes.
struct Crowd {
    rig: Rig,
    pids: Vec<ProcessId>,
    next: u64,
}

pub(crate) fn run(results: &mut Results) {
    let mut small = Crowd::of(1_000);
    let mut large = Crowd::of(sized(1_000_000, 2_000));
    lifecycle(results, &mut small, &mut large);
    root(results, &mut small, &mut large);
    tick(results, &mut small, &mut large);
}

/// K452: submit, schedule, claim, terminate.
fn lifecycle(results: &mut Results, small: &mut Crowd, large: &mut Crowd) {
    let times = sized(200, 5);
    Case::new("kernel/lifecycle_scale", times.into(), Unit::NanosecondsEach)
        .timed("among-1000000", || large.lives(times))
        .timed("among-1000", || small.lives(times))
        .measure(turns(15), results);
}

/// K461: the root after one event.
fn root(results: &mut Results, small: &mut Crowd, large: &mut Crowd) {
    let times = sized(200, 5);
    Case::new("kernel/root", times.into(), Unit::NanosecondsEach)
        .timed("among-1000000", || large.roots(times))
        .timed("among-1000", || small.roots(times))
        .measure(turns(15), results);
}

/// K456: with nothing due, and when deadlines fire.
fn tick(results: &mut Results, small: &mut Crowd, large: &mut Crowd) {
    small.claim_all(1_000 / DEADLINES + 1);
    large.claim_all(sized(1_000_000, 2_000) / DEADLINES + 1);
    let times = sized(20_000, 10);
    Case::new("kernel/tick/idle", times.into(), Unit::NanosecondsEach)
        .on_core("of-1000000", || large.ticks(times))
        .on_core("of-1000", || small.ticks(times))
        .measure(turns(15), results);
    let batch = KernelConfig::new().tick_batch;
    Case::new("kernel/tick/fire", batch, Unit::NanosecondsEach)
        .timed("of-1000000", || large.fire(batch))
        .timed("of-1000", || small.fire(batch))
        .measure(turns(25), results);
}

impl Crowd {
    fn of(processes: u32) -> Self {
        let timeout_ms = Limit::at_most(20 * DAY_MS);
        let soft_timeout_ms = Limit::at_most(19 * DAY_MS);
        let default_quota = Quota { timeout_ms, soft_timeout_ms, ..Quota::DEFAULT };
        let mut rig = Rig::of(KernelConfig { default_quota, ..KernelConfig::new() });
        let pids = rig.crowd(processes);
        let _ = rig.kernel.root();
        Self { rig, pids, next: 0 }
    }

    fn lives(&mut self, times: u32) -> Duration {
        let (by, worker) = (user(1), worker());
        let pids: Vec<_> = (0..u64::from(times)).map(|at| pid(self.next + at)).collect();
        self.next += u64::from(times);
        let commands: Vec<_> = pids.iter().flat_map(|pid| life(pid, &by, &worker)).collect();
        let start = OnCore::thread();
        for command in &commands {
            black_box(self.rig.execute(command));
        }
        let took = start.elapsed();
        for pid in pids {
            self.rig.run(&operator(), CommandBody::CleanupProcess { pid });
        }
        took
    }

    fn roots(&mut self, times: u32) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..times {
            self.next += 1;
            let at = self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.pids.len() as u64;
            let pid = self.pids[usize::try_from(at).expect("it is below a length")].clone();
            let amounts = Amounts { tokens_in: 1, ..Amounts::ZERO };
            let record = Record { pid, amounts, agent_hops: 0, attempt: None, record: None };
            self.rig.run(&operator(), CommandBody::RecordUsage(Box::new(record)));
            let start = OnCore::thread();
            black_box(self.rig.kernel.root());
            took += start.elapsed();
        }
        took
    }

    /// Lets so many processes run.
    fn claim_all(&mut self, count: u32) {
        for at in 0..count as usize {
            let pid = self.pids[at].clone();
            self.rig.run(&user(at as u64 % USERS), CommandBody::Schedule { pid });
            self.rig.run(&worker(), CommandBody::NextRunnable);
        }
    }

    fn ticks(&mut self, times: u32) {
        let tick = command(&node(), CommandBody::Tick);
        for _ in 0..times {
            let events = self.rig.execute(&tick);
            assert!(events.is_empty(), "nothing is due");
        }
    }

    /// Lets a batch of run leases end, which puts their processes back into the ready set; then all
    /// of those are claimed again.
    fn fire(&mut self, batch: u64) -> Duration {
        self.rig.now = self.rig.now.plus(LEASE_MS);
        let tick = command(&node(), CommandBody::Tick);
        let start = OnCore::thread();
        let events = self.rig.execute(&tick);
        let took = start.elapsed();
        assert!(events.len() as u64 >= batch, "a whole batch is due");
        for _ in 0..batch {
            self.rig.run(&worker(), CommandBody::NextRunnable);
        }
        took
    }
}

fn life(pid: &ProcessId, by: &Principal, worker: &Principal) -> [Command; 4] {
    let submit = Submit { pid: Some(pid.clone()), ..plain() };
    let (pid, message, force) = (pid.clone(), "enough".to_owned(), true);
    [
        command(by, CommandBody::Submit(Box::new(submit))),
        command(by, CommandBody::Schedule { pid: pid.clone() }),
        command(worker, CommandBody::NextRunnable),
        command(by, CommandBody::Terminate { pid, message, force }),
    ]
}
