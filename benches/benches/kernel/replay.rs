//! `kernel/replay` (K459): events a second that are applied, beside those that are decided, applied
//! and encoded. The commands are sessions of three stages, from submission to end.

use std::hint::black_box;

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::rig::{Rig, USERS, user};
use benches::sessions::{live, output_1k, three_stages};
use benches::{sized, turns};
use machines::kernel::part::KernelPart;
use machines::ledger::fold::put_event;

pub(crate) fn run(results: &mut Results) {
    let before = Rig::new();
    let mut rig = before.clone();
    rig.log = Some(Vec::new());
    let (pipeline, output) = (three_stages(), output_1k());
    let mut events = Vec::new();
    for session in 0..u64::from(sized(300, 3)) {
        events.extend(live(&mut rig, &user(session % USERS), &pipeline, &output));
        rig.now = rig.now.plus(1);
    }
    let commands = rig.log.take().expect("it was written down");
    Case::new("kernel/replay", events.len() as u64, Unit::PerSecond)
        .timed("apply", || {
            let mut kernel = before.kernel.clone();
            let start = OnCore::thread();
            events.iter().for_each(|event| kernel.apply(event));
            let took = start.elapsed();
            assert_eq!(kernel.last_event(), rig.kernel.last_event(), "all are applied");
            took
        })
        .timed("decide-apply-encode", || {
            let mut kernel = before.kernel.clone();
            let start = OnCore::thread();
            for (at, command) in &commands {
                let events = kernel.execute(*at, command).expect("it was taken before");
                let mut body = Vec::new();
                events.iter().for_each(|event| put_event::<KernelPart>(&mut body, event));
                black_box(body);
            }
            let took = start.elapsed();
            assert_eq!(kernel.last_event(), rig.kernel.last_event(), "the same is decided");
            took
        })
        .measure(turns(15), results);
}
