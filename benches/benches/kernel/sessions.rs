//! `kernel/sessions` (K460): sessions of three stages through the keeper, whose journal writes into
//! memory. So all of a node's way is measured but the disk: commands, decisions, records and their
//! hashes, replies that wait until they are durable.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant as Stopwatch};

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::rig::{command, pid, plain, user};
use benches::sessions::{output_1k, report, start, task_of, three_stages};
use benches::{sized, turns};
use machines::Instant;
use machines::cluster::ids::NodeId;
use machines::keeper::io::{Action, Call, Decided, File, Input, Op, Output};
use machines::keeper::{Keeper, KeeperParams};
use machines::kernel::config::KernelConfig;
use machines::kernel::ids::ProcessId;
use machines::kernel::lifecycle::Submit;
use machines::kernel::principal::Principal;
use machines::kernel::reply::Done;
use machines::kernel::sessions::instruction::InstructionBody;
use machines::kernel::{CommandBody, Time};
use machines::ledger::journal::io::{Config, Limits};
use machines::ledger::snapshot::SnapshotConfig;

/// Sessions that go on at the same time: so many replies wait for one sync.
const TOGETHER: u64 = 64;

/// A keeper, its disk in memory, and what it has replied.
struct Node {
    keeper: Keeper,
    disk: BTreeMap<File, Vec<u8>>,
    waiting: VecDeque<(Op, Action)>,
    replies: VecDeque<(Call, Decided)>,
    start: Stopwatch,
    calls: u64,
    sessions: u64,
}

impl Node {
    fn new() -> Self {
        let params = KeeperParams {
            node: NodeId::from_bytes([7; 16]),
            kernel: KernelConfig::new(),
            journal: Config::new(Limits::STANDARD).expect("the standard limits are legal"),
            snapshots: SnapshotConfig::STANDARD,
            seed: [7; 32],
        };
        let keeper = Keeper::new(Instant::START, wall(Instant::START), params);
        let mut node = Self {
            keeper: keeper.expect("the configuration is legal"),
            disk: BTreeMap::new(),
            waiting: VecDeque::new(),
            replies: VecDeque::new(),
            start: Stopwatch::now(),
            calls: 0,
            sessions: 0,
        };
        node.drain();
        node.settle();
        node
    }

    fn hand(&mut self, input: Input) {
        let now = Instant::START + self.start.elapsed();
        self.keeper.handle(now, wall(now), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.keeper.poll() {
            match output {
                Output::Disk(op, action) => self.waiting.push_back((op, action)),
                Output::Reply(call, decided) => {
                    let decided = decided.unwrap_or_else(|refusal| panic!("{refusal}"));
                    self.replies.push_back((call, decided));
                }
                Output::Started(_)
                | Output::Events { .. }
                | Output::Effect(_)
                | Output::Snapshot { .. } => {}
                Output::Answer(..)
                | Output::Batch(..)
                | Output::Ended(..)
                | Output::Refused(_)
                | Output::SnapshotFailed { .. }
                | Output::Stalled(_)
                | Output::Stopped => panic!("nothing fails here: {output:?}"),
            }
        }
    }

    /// Completes all operations.
    fn settle(&mut self) {
        while let Some((op, action)) = self.waiting.pop_front() {
            let input = self.perform(op, action);
            self.hand(input);
        }
    }

    fn perform(&mut self, op: Op, action: Action) -> Input {
        match action {
            Action::List(_) => return Input::Listed(op, Vec::new()),
            Action::Create { file, zeros } => {
                let zeros = usize::try_from(zeros).expect("it fits into memory");
                self.disk.insert(file, vec![0; zeros]);
            }
            Action::Write { file, offset, bytes } => {
                let all = self.disk.get_mut(&file).expect("written files were made");
                let start = usize::try_from(offset).expect("it fits into memory");
                all.resize(all.len().max(start + bytes.len()), 0);
                all[start..start + bytes.len()].copy_from_slice(&bytes);
            }
            Action::Rename { from, to } => {
                let bytes = self.disk.remove(&from).expect("renamed files are there");
                self.disk.insert(to, bytes);
            }
            Action::Remove(file) => drop(self.disk.remove(&file)),
            Action::Sync(_) | Action::SyncDir(_) => {}
            Action::Read { .. } => panic!("an empty folder has nothing to read"),
        }
        Input::Done(op)
    }

    /// Gives all commands, then completes what the disk has to do; returns the replies in order.
    fn say(&mut self, by: &Principal, bodies: Vec<CommandBody>) -> Vec<Decided> {
        let first = self.calls + 1;
        for body in bodies {
            self.calls += 1;
            let command = Box::new(command(by, body));
            self.hand(Input::Command { call: Call(self.calls), command });
        }
        self.settle();
        let replies: Vec<_> = self.replies.drain(..).collect();
        let calls = replies.iter().map(|(call, _)| call.0);
        assert!(calls.eq(first..=self.calls), "every command is answered, in order");
        replies.into_iter().map(|(_, decided)| decided).collect()
    }

    /// Goes through sessions from submission to end.
    fn live(&mut self, groups: u64) -> Duration {
        let (by, pipeline, output) = (user(1), three_stages(), output_1k());
        let began = OnCore::thread();
        for _ in 0..groups {
            let pids: Vec<_> = (0..TOGETHER).map(|at| pid(self.sessions + at)).collect();
            self.sessions += TOGETHER;
            self.say(&by, pids.iter().map(submit).collect());
            self.say(&by, pids.iter().map(|pid| start(pid, &pipeline)).collect());
            let poll = |pid: &ProcessId| CommandBody::NextInstruction { pid: pid.clone() };
            let mut told = self.say(&by, pids.iter().map(poll).collect());
            for _ in 0..3 {
                let told_each = pids.iter().zip(told.drain(..));
                let reports = told_each.map(|(pid, decided)| {
                    let task = task_of(instruction(decided)).expect("there are three stages");
                    report(pid, &task, &output)
                });
                let reports = reports.collect();
                told = self.say(&by, reports);
            }
            let ended = told.into_iter().all(|decided| task_of(instruction(decided)).is_none());
            assert!(ended, "there are three stages");
        }
        began.elapsed()
    }
}

fn wall(now: Instant) -> Time {
    Time::from_millis(1_700_000_000_000 + now.as_nanos() / 1_000_000)
}

fn submit(pid: &ProcessId) -> CommandBody {
    CommandBody::Submit(Box::new(Submit { pid: Some(pid.clone()), ..plain() }))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only one reply is expected")]
fn instruction(decided: Decided) -> InstructionBody {
    match decided.reply.done {
        Done::Instruction(instruction) => instruction.body,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn run(results: &mut Results) {
    let groups = u64::from(sized(20, 1));
    let mut node = Node::new();
    Case::new("kernel/sessions", groups * TOGETHER, Unit::PerSecond)
        .timed("keeper", || node.live(groups))
        .measure(turns(9), results);
}
