//! `kernel/reserve` (K458): a part of the budget is reserved and settled, deep in a tree of
//! processes and at its root.

use std::time::Duration;

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::rig::{Rig, command, plain, user};
use benches::{sized, turns};
use machines::kernel::budget::Reserve;
use machines::kernel::config::KernelConfig;
use machines::kernel::ids::{ProcessId, ReservationId};
use machines::kernel::lifecycle::Submit;
use machines::kernel::quota::{Amounts, Limit, Quota};
use machines::kernel::{Command, CommandBody};

const AMOUNTS: Amounts = Amounts { llm_calls: 1, tokens_in: 800, tokens_out: 200, ..Amounts::ZERO };

/// A process in a tree.
struct Leaf {
    rig: Rig,
    pid: ProcessId,
    number: u64,
}

impl Leaf {
    /// Makes a process with so many ancestors less one.
    fn at(depth: u32) -> Self {
        let most = Limit::at_most(1 << 40);
        let default_quota = Quota {
            max_llm_calls: most,
            max_input_tokens: most,
            max_output_tokens: most,
            ..Quota::DEFAULT
        };
        let mut rig = Rig::of(KernelConfig { default_quota, ..KernelConfig::new() });
        let by = user(1);
        let mut parent = None;
        for _ in 0..depth {
            let submit = Submit { parent, ..plain() };
            let events = rig.run(&by, CommandBody::Submit(Box::new(submit)));
            parent = events[0].subject.pid.clone();
        }
        let pid = parent.expect("there is one at least");
        let mut leaf = Self { rig, pid, number: 0 };
        leaf.work(100); // As many closed ones are remembered as will be (K108).
        leaf
    }

    fn work(&mut self, times: u32) -> Duration {
        let commands: Vec<_> = (0..times).flat_map(|_| self.pair()).collect();
        let start = OnCore::thread();
        for command in &commands {
            let events = self.rig.execute(command);
            assert!(!events.is_empty(), "each is new");
        }
        start.elapsed()
    }

    fn pair(&mut self) -> [Command; 2] {
        self.number += 1;
        let reservation = ReservationId::parse("reservation_id", &format!("r-{}", self.number));
        let (pid, id) = (self.pid.clone(), reservation.expect("it is an id"));
        let reserve = Reserve {
            pid: pid.clone(),
            reservation: Some(id.clone()),
            attempt: None,
            amounts: AMOUNTS,
            lease_ms: None,
        };
        let settle = CommandBody::Settle { pid, reservation: id, actual: AMOUNTS };
        let by = user(1);
        [command(&by, CommandBody::Reserve(Box::new(reserve))), command(&by, settle)]
    }
}

pub(crate) fn run(results: &mut Results) {
    let times = sized(300, 5);
    let (mut deep, mut flat) = (Leaf::at(8), Leaf::at(1));
    Case::new("kernel/reserve", times.into(), Unit::NanosecondsEach)
        .timed("depth-8", || deep.work(times))
        .timed("depth-1", || flat.work(times))
        .measure(turns(25), results);
}
