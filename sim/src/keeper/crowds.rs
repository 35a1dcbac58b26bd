//! Who asks the kernel for things, by the script of the scenario.

use machines::Choices;
use machines::kernel::Command;
use machines::kernel::event::Event;

use super::driven::Driven;
use super::flows::Flows;
use super::io::{Crowd, Heard, Script, Work};
use super::kernel::{Clerk, Reply};
use super::services::Services;
use super::users::Users;

/// The crowd of one run.
#[derive(Clone, Debug)]
pub enum Crowds {
    /// Users, workers and an operator of processes and budgets.
    Users(Users),
    /// Users, workers and an operator of pipelines.
    Flows(Flows),
    /// Services, their workers and those who call them.
    Services(Services),
    /// Users and workers of pipelines that the node drives.
    Driven(Driven),
}

impl Crowd<Clerk> for Crowds {
    fn new(work: &Work) -> Self {
        match work.script {
            Script::Mixed | Script::Queue => Self::Users(Users::new(work)),
            Script::Flows | Script::ForkJoin | Script::Approvals => Self::Flows(Flows::new(work)),
            Script::Services | Script::Drain => Self::Services(Services::new(work)),
            Script::Executor => Self::Driven(Driven::new(work)),
        }
    }

    fn next(&mut self, caller: u32, wall_ms: u64, choices: &mut Choices) -> Option<Command> {
        match self {
            Self::Users(crowd) => crowd.next(caller, wall_ms, choices),
            Self::Flows(crowd) => crowd.next(caller, wall_ms, choices),
            Self::Services(crowd) => crowd.next(caller, wall_ms, choices),
            Self::Driven(crowd) => crowd.next(caller, wall_ms, choices),
        }
    }

    fn heard(&mut self, caller: u32, request: &Command, heard: Heard<'_, Reply>) {
        match self {
            Self::Users(crowd) => crowd.heard(caller, request, heard),
            Self::Flows(crowd) => crowd.heard(caller, request, heard),
            Self::Services(crowd) => crowd.heard(caller, request, heard),
            Self::Driven(crowd) => crowd.heard(caller, request, heard),
        }
    }

    fn saw(&mut self, events: &[Event]) {
        match self {
            Self::Users(_) | Self::Flows(_) | Self::Services(_) => {}
            Self::Driven(crowd) => crowd.saw(events),
        }
    }

    fn is_short(&self) -> bool {
        match self {
            Self::Users(crowd) => crowd.is_short(),
            Self::Flows(_) | Self::Services(_) | Self::Driven(_) => false,
        }
    }
}
