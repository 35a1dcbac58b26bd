//! Who asks the kernel for things, by the script of the scenario; now and then, to be told some.

use machines::Choices;
use machines::kernel::Command;
use machines::kernel::event::Event;

use super::driven::Driven;
use super::flows::Flows;
use super::io::{Crowd, Heard, Script, Work};
use super::kernel::asked::Asked;
use super::kernel::{Clerk, Reply};
use super::questions::Curious;
use super::services::Services;
use super::users::Users;

/// The crowd of one run.
#[derive(Clone, Debug)]
pub struct Crowds {
    crowd: One,
    curious: Curious,
}

/// What the callers live for.
#[derive(Clone, Debug)]
enum One {
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
        let crowd = match work.script {
            Script::Mixed | Script::Queue => One::Users(Users::new(work)),
            Script::Flows | Script::ForkJoin | Script::Approvals => One::Flows(Flows::new(work)),
            Script::Services | Script::Drain => One::Services(Services::new(work)),
            Script::Executor => One::Driven(Driven::new(work)),
        };
        Self { crowd, curious: Curious::new(work) }
    }

    fn next(&mut self, caller: u32, wall_ms: u64, choices: &mut Choices) -> Option<Command> {
        match &mut self.crowd {
            One::Users(crowd) => crowd.next(caller, wall_ms, choices),
            One::Flows(crowd) => crowd.next(caller, wall_ms, choices),
            One::Services(crowd) => crowd.next(caller, wall_ms, choices),
            One::Driven(crowd) => crowd.next(caller, wall_ms, choices),
        }
    }

    fn question(&mut self, caller: u32, choices: &mut Choices) -> Option<Asked> {
        self.curious.question(caller, choices)
    }

    fn heard(&mut self, caller: u32, request: &Command, heard: Heard<'_, Reply>) {
        self.curious.heard(caller, request, &heard);
        match &mut self.crowd {
            One::Users(crowd) => crowd.heard(caller, request, heard),
            One::Flows(crowd) => crowd.heard(caller, request, heard),
            One::Services(crowd) => crowd.heard(caller, request, heard),
            One::Driven(crowd) => crowd.heard(caller, request, heard),
        }
    }

    fn saw(&mut self, events: &[Event]) {
        match &mut self.crowd {
            One::Users(_) | One::Flows(_) | One::Services(_) => {}
            One::Driven(crowd) => crowd.saw(events),
        }
    }

    fn is_short(&self) -> bool {
        match &self.crowd {
            One::Users(crowd) => crowd.is_short(),
            One::Flows(_) | One::Services(_) | One::Driven(_) => false,
        }
    }
}
