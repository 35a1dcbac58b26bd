//! `kernel/poll` (K455): a poll that changes nothing, early and late in the life of a session.

use std::hint::black_box;

use benches::interleaved::Case;
use benches::results::{Results, Unit};
use benches::rig::{Rig, command, plain, user};
use benches::sessions::{endless, json, report, start, task};
use benches::{sized, turns};
use machines::kernel::ids::ProcessId;
use machines::kernel::principal::Principal;
use machines::kernel::quota::{Limit, QuotaField};
use machines::kernel::{Command, CommandBody};

/// A process in an endless session.
struct Desk {
    rig: Rig,
    poll: Command,
}

impl Desk {
    /// Goes through so many attempts.
    fn after(attempts: u32) -> Self {
        let (mut rig, by) = (Rig::new(), user(1));
        let pid = submit(&mut rig, &by);
        let output = json("{'text': 'a word'}");
        rig.run(&by, start(&pid, &endless()));
        let poll = command(&by, CommandBody::NextInstruction { pid: pid.clone() });
        rig.execute(&poll);
        for _ in 0..attempts {
            let task = task(&rig.kernel, rig.now, &pid).expect("it never ends");
            rig.run(&by, report(&pid, &task, &output));
        }
        Self { rig, poll }
    }

    fn poll(&mut self, times: u32) {
        for _ in 0..times {
            let events = self.rig.execute(&self.poll);
            assert!(events.is_empty(), "a repeated poll makes no event");
            black_box(self.rig.kernel.reply(self.rig.now, &self.poll, &events));
        }
    }
}

/// Submits a process that may do as much as it likes.
fn submit(rig: &mut Rig, by: &Principal) -> ProcessId {
    let quota = QuotaField::ALL.iter().map(|field| (*field, Limit::UNLIMITED)).collect();
    let submit = machines::kernel::lifecycle::Submit { quota, ..plain() };
    let events = rig.run(by, CommandBody::Submit(Box::new(submit)));
    events[0].subject.pid.clone().expect("the event is of the process")
}

pub(crate) fn run(results: &mut Results) {
    let times = sized(1_000, 10);
    let (mut early, mut late) = (Desk::after(10), Desk::after(sized(10_000, 100)));
    Case::new("kernel/poll", times.into(), Unit::NanosecondsEach)
        .on_core("after-10000", || late.poll(times))
        .on_core("after-10", || early.poll(times))
        .measure(turns(25), results);
}
