//! A kernel with a clock, as benchmarks drive it: commands are expected to be taken.

use machines::kernel::config::KernelConfig;
use machines::kernel::decision::ulid;
use machines::kernel::event::Event;
use machines::kernel::ids::{ProcessId, UserId};
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{OnExhausted, Priority};
use machines::kernel::principal::{Principal, Role};
use machines::kernel::process::Metadata;
use machines::kernel::quota::QuotaPatch;
use machines::kernel::{At, Command, CommandBody, Kernel, Time};

/// Users among whom processes are dealt out (K453).
pub const USERS: u64 = 1_000;

/// A kernel and its clock.
#[derive(Clone, Debug)]
pub struct Rig {
    /// The kernel.
    pub kernel: Kernel,
    /// What the clock says.
    pub now: Time,
    /// What was decided when, if it is to be written down.
    pub log: Option<Vec<(At, Command)>>,
    nonce: u64,
}

impl Rig {
    /// Makes a kernel of the default configuration that has started.
    #[must_use]
    pub fn new() -> Self {
        Self::of(KernelConfig::new())
    }

    /// Makes a kernel that has started.
    ///
    /// # Panics
    ///
    /// If the configuration is wrong.
    #[must_use]
    pub fn of(config: KernelConfig) -> Self {
        let kernel = Kernel::new(config.clone()).expect("the configuration is legal");
        let now = Time::from_millis(1_700_000_000_000);
        let mut rig = Self { kernel, now, log: None, nonce: 0 };
        rig.run(&node(), CommandBody::Start { config: Box::new(config) });
        rig
    }

    /// Returns what the next decision takes from outside.
    pub fn at(&mut self) -> At {
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        At { now: self.now, nonce }
    }

    /// Decides and applies, as the keeper does.
    ///
    /// # Panics
    ///
    /// If the command is refused.
    pub fn execute(&mut self, command: &Command) -> Vec<Event> {
        let at = self.at();
        if let Some(log) = &mut self.log {
            log.push((at, command.clone()));
        }
        let events = self.kernel.execute(at, command);
        events.unwrap_or_else(|refusal| panic!("{refusal}: {:?}", command.body))
    }

    /// The same of a command's body.
    pub fn run(&mut self, by: &Principal, body: CommandBody) -> Vec<Event> {
        self.execute(&command(by, body))
    }

    /// Submits a process without a session, which gets minted ids, and returns its own.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn submit(&mut self, by: &Principal) -> ProcessId {
        let events = self.run(by, CommandBody::Submit(Box::new(plain())));
        events[0].subject.pid.clone().expect("the event is of the process")
    }

    /// Submits so many processes, of [`USERS`] users in turn.
    pub fn crowd(&mut self, processes: u32) -> Vec<ProcessId> {
        let users: Vec<_> = (0..USERS).map(user).collect();
        (0..processes as usize).map(|at| self.submit(&users[at % users.len()])).collect()
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

/// Says what a process is to be that is given nothing.
#[must_use]
pub const fn plain() -> Submit {
    Submit {
        pid: None,
        request: None,
        user: None,
        session: None,
        priority: Priority::Normal,
        quota: QuotaPatch::new(),
        parent: None,
        on_exhausted: OnExhausted::Terminate,
        driven: false,
        metadata: Metadata::new(),
    }
}

/// Says who asks for what.
#[must_use]
pub fn command(by: &Principal, body: CommandBody) -> Command {
    Command { by: by.clone(), worker: None, rate: None, body }
}

/// Names a user.
///
/// # Panics
///
/// Never: the name is an id.
#[must_use]
pub fn user_id(number: u64) -> UserId {
    UserId::parse("user", &format!("user-{number:04}")).expect("it is an id")
}

/// Makes a user without further roles.
#[must_use]
pub fn user(number: u64) -> Principal {
    Principal::new(user_id(number), &[Role::User])
}

/// Makes a worker.
#[must_use]
pub fn worker() -> Principal {
    Principal::new(user_id(0), &[Role::Worker])
}

/// Makes an operator.
#[must_use]
pub fn operator() -> Principal {
    Principal::new(user_id(0), &[Role::Operator])
}

/// Makes the node itself.
#[must_use]
pub fn node() -> Principal {
    Principal::node()
}

/// Makes the id of a process in the form that the kernel mints, in no order.
///
/// # Panics
///
/// Never: a ULID is an id.
#[must_use]
pub fn pid(number: u64) -> ProcessId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let text = format!("prc_{}", ulid(Time::from_millis(1_700_000_000_000), random));
    ProcessId::parse("pid", &text).expect("a ULID is an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_as_large_as_it_was_asked_to_be() {
        let mut rig = Rig::new();
        let pids = rig.crowd(10);
        assert_eq!((pids.len(), rig.kernel.state().process_count()), (10, 10));
        assert!(rig.kernel.process(&pids[9]).is_some());
    }

    #[test]
    fn ids_of_different_numbers_differ() {
        let all: std::collections::BTreeSet<_> = (0..1_000).map(pid).collect();
        assert_eq!(all.len(), 1_000);
    }
}
