//! What a kernel answers next (K428): the same few questions and commands, put to two that should
//! be the same. Roots cover tables alone; what follows from tables is seen in what comes of it
//! (K12).

use machines::codec::Wire;
use machines::kernel::event::Event;
use machines::kernel::ids::{ProcessId, ServiceName, UserId, WorkerId};
use machines::kernel::principal::{Holder, Principal, Role};
use machines::kernel::process::Process;
use machines::kernel::query::Answer;
use machines::kernel::reply::Reply;
use machines::kernel::services::Service;
use machines::kernel::{At, Command, CommandBody, Kernel, Refusal, Time};

use super::services::{operator, rows_of};
use crate::keeper::questions::of_the_node;

/// How many claims are made.
const CLAIMS: u32 = 4;
/// So many are polled, and so many services asked for work.
const ASKED_MAX: usize = 6;
/// How much time passes, all at once.
const PASSES_MS: u64 = 2_500;
/// How many decisions are made about what is due then.
const TICKS_MAX: u32 = 40;

/// What came of one thing.
#[derive(Debug, PartialEq)]
enum Came {
    Did(Vec<Event>, Box<Reply>),
    Refused(Box<Refusal>),
    Told(Result<Answer, Refusal>),
    Due(Option<Time>),
}

/// Everything that was asked of one kernel, in words, and what came of it.
#[derive(Debug)]
pub struct Answers(Vec<(String, Came)>);

/// One kernel that is asked.
struct Asking<'a> {
    kernel: &'a mut Kernel,
    now: Time,
    came: Vec<(String, Came)>,
}

/// Asks a kernel all of it when the wall clock shows `wall_ms`. It is another one after that.
pub fn next_answers(kernel: &mut Kernel, wall_ms: u64) -> Answers {
    let now = kernel.now(Time::from_millis(wall_ms));
    let mut asking = Asking { kernel, now, came: Vec::new() };
    asking.queries();
    asking.claims();
    asking.polls();
    asking.tasks();
    asking.now = now.plus(PASSES_MS);
    asking.ticks();
    asking.queries();
    asking.claims();
    Answers(asking.came)
}

impl Answers {
    /// Says what came otherwise first, if anything did.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut pairs = self.0.iter().zip(&other.0);
        let first = pairs.find(|(one, other)| one != other);
        if let Some(((asked, one), (_, other))) = first {
            return Some(format!("{asked}: {one:?}, and not {other:?}"));
        }
        let counts = (self.0.len(), other.0.len());
        (counts.0 != counts.1).then(|| format!("{} answers, and not {}", counts.0, counts.1))
    }
}

impl Asking<'_> {
    fn command(&mut self, by: Principal, worker: Option<WorkerId>, body: CommandBody) {
        let asked = format!("{body:?}");
        let command = Command { by, worker, rate: None, body };
        let at = At { now: self.now, nonce: [1; 16] };
        let came = match self.kernel.execute(at, &command) {
            Ok(events) => {
                let reply = self.kernel.reply(self.now, &command, &events);
                Came::Did(events, Box::new(reply))
            }
            Err(refusal) => Came::Refused(Box::new(refusal)),
        };
        self.came.push((asked, came));
    }

    /// What follows from processes, interrupts and services is counted, and what is due next known.
    fn queries(&mut self) {
        let due = Came::Due(self.kernel.next_deadline());
        self.came.push(("when is anything due?".to_owned(), due));
        for query in of_the_node() {
            let told = self.kernel.query(self.now, &operator(), &query);
            self.came.push((format!("{query:?}"), Came::Told(told)));
        }
    }

    fn claims(&mut self) {
        let worker = Principal::new(user("worker"), &[Role::Worker]);
        let own = Principal::new(user("user0"), &[Role::User]);
        self.command(own, None, CommandBody::NextRunnable);
        for _ in 0..CLAIMS {
            self.command(worker.clone(), None, CommandBody::NextRunnable);
        }
        self.command(Principal::node(), None, CommandBody::NextRunnable);
    }

    /// Whoever holds a process asks what to do.
    fn polls(&mut self) {
        let held = rows_of(self.kernel, "processes").into_iter().filter_map(|(key, row)| {
            let process = Process::from_bytes(&row).expect("a row that was frozen");
            let pid = ProcessId::from_bytes(&key).expect("a row that was frozen");
            process.run_lease.map(|run| (pid, run.holder))
        });
        let held: Vec<(ProcessId, Holder)> = held.take(ASKED_MAX).collect();
        for (pid, Holder { user, worker }) in held {
            let by = Principal::new(user, &[Role::Worker]);
            self.command(by, Some(worker), CommandBody::NextInstruction { pid });
        }
    }

    /// Workers of services ask for work.
    fn tasks(&mut self) {
        let services = rows_of(self.kernel, "services").into_iter().map(|(key, row)| {
            let service = Service::from_bytes(&row).expect("a row that was frozen");
            (ServiceName::from_bytes(&key).expect("a row that was frozen"), service.owner)
        });
        let services: Vec<(ServiceName, UserId)> = services.take(ASKED_MAX).collect();
        for (service, owner) in services {
            let by = Principal::new(owner, &[Role::Worker]);
            self.command(by, None, CommandBody::LeaseTasks { service, max: 2 });
        }
    }

    /// Lets all act that is due (K10).
    fn ticks(&mut self) {
        for _ in 0..TICKS_MAX {
            if self.kernel.next_deadline().is_none_or(|due| due > self.now) {
                return;
            }
            self.command(Principal::node(), None, CommandBody::Tick);
        }
    }
}

fn user(name: &str) -> UserId {
    UserId::parse("user", name).expect("a name is an id")
}
