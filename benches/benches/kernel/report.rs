//! `kernel/report` (K454): a report with an output of 1 KiB is decided, applied and answered, and
//! the next task is handed out with it; beside the encoding and hashing of the same events alone.

use std::hint::black_box;

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::rig::{Rig, command, plain, user};
use benches::sessions::{output_1k, report, start, task, three_stages};
use benches::{sized, turns};
use machines::kernel::event::Event;
use machines::kernel::part::KernelPart;
use machines::kernel::{Command, CommandBody};
use machines::ledger::fold::put_event;
use machines::ledger::record::{self, Chain, Fields, Kind};

/// A kernel whose processes each have a first task, and what reports it.
struct Desk {
    rig: Rig,
    reports: Vec<Command>,
}

impl Desk {
    fn new(processes: u32) -> Self {
        let (mut rig, by) = (Rig::new(), user(1));
        let (pipeline, output) = (three_stages(), output_1k());
        let mut reports = Vec::new();
        for _ in 0..processes {
            let events = rig.run(&by, CommandBody::Submit(Box::new(plain())));
            let pid = events[0].subject.pid.clone().expect("the event is of the process");
            rig.run(&by, start(&pid, &pipeline));
            rig.run(&by, CommandBody::NextInstruction { pid: pid.clone() });
            let task = task(&rig.kernel, rig.now, &pid).expect("the session begins");
            reports.push(command(&by, report(&pid, &task, &output)));
        }
        Self { rig, reports }
    }

    /// Takes all reports; returns the events of each.
    fn work(&mut self) -> Vec<Vec<Event>> {
        let (rig, reports) = (&mut self.rig, &self.reports);
        let decided = reports.iter().map(|command| {
            let events = rig.execute(command);
            black_box(rig.kernel.reply(rig.now, command, &events));
            events
        });
        decided.collect()
    }
}

/// Makes one record of the events of a decision (L3), and returns its hash.
pub(crate) fn record(number: u64, chain: &Chain, events: &[Event], out: &mut Vec<u8>) -> Chain {
    let mut body = Vec::new();
    for event in events {
        put_event::<KernelPart>(&mut body, event);
    }
    let count = u32::try_from(events.len()).expect("few");
    let fields = Fields { kind: Kind::Events, number, time_ms: 1, synced: 0, count };
    record::encode(&fields, &body, chain, out)
}

pub(crate) fn run(results: &mut Results) {
    let processes = sized(200, 5);
    let decided = Desk::new(processes).work();
    assert!(decided.iter().all(|events| events.len() > 1), "the next task is handed out");
    Case::new("kernel/report", processes.into(), Unit::NanosecondsEach)
        .timed("kernel", || {
            let mut desk = Desk::new(processes);
            let start = OnCore::thread();
            black_box(desk.work());
            start.elapsed()
        })
        .on_core("encode-and-hash", || {
            let mut chain = [0; 32];
            for (number, events) in (1..).zip(&decided) {
                let mut out = Vec::new();
                chain = record(number, &chain, events, &mut out);
                black_box(&out);
            }
        })
        .measure(turns(25), results);
}
