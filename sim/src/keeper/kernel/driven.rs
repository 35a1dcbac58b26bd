//! Those who break what is promised of processes that the node drives (K251, K290, K294).

use machines::Instant;
use machines::codec::Wire;
use machines::keeper::Keeper;
use machines::keeper::io::{self as keeper, Call};
use machines::kernel::ids::ProcessId;
use machines::kernel::json::Json;
use machines::kernel::principal::Principal;
use machines::kernel::sessions::Session;
use machines::kernel::sessions::report::Report;
use machines::kernel::{Command, CommandBody};

use super::services::rows_of;
use super::{Clerk, Turn};

/// A call that nobody waits for.
const NOBODYS: Call = Call(u64::MAX);

impl Clerk {
    /// Lets whoever asks what to do ask as the node.
    pub(super) fn turn_driven_before(&self, command: &mut Command) {
        if let (true, CommandBody::NextInstruction { .. }) =
            (self.turned(Turn::TellsAnybody), &command.body)
        {
            command.by = Principal::node();
        }
    }

    /// Changes what was executed, or what is worked on, behind everybody's back.
    pub(super) fn turn_driven_after(
        &mut self,
        now: Instant,
        wall_ms: u64,
        pid: Option<&ProcessId>,
    ) {
        match (self.turn, pid) {
            (Some(Turn::ForgetsDriven), Some(pid)) => {
                self.change(pid, |process| process.driven = false);
            }
            (Some(Turn::ReportsAhead), _) => {
                if let Some(report) = self.ahead() {
                    let body = CommandBody::ReportAgentResult(Box::new(report));
                    let by = Principal::node();
                    let command = Box::new(Command { by, worker: None, rate: None, body });
                    self.answered.push(NOBODYS);
                    self.input(now, wall_ms, keeper::Input::Command { call: NOBODYS, command });
                }
            }
            (_, _) => {}
        }
    }

    /// Makes up what came of an attempt that somebody works on.
    fn ahead(&mut self) -> Option<Report> {
        let kernel = self.keeper.as_mut().and_then(Keeper::kernel_mut)?;
        let found = rows_of(kernel, "sessions").into_iter().find_map(|(key, row)| {
            let session = Session::from_bytes(&row).expect("a row that was frozen");
            let (id, attempt) = session.attempts.into_iter().next()?;
            let pid = ProcessId::from_bytes(&key).expect("a row that was frozen");
            Some((pid, id, attempt.agent))
        });
        let (pid, id, agent) = found?;
        let mut report = Report::of_failed_dispatch((&pid, &id, &agent), "");
        (report.success, report.error, report.error_kind) = (true, None, None);
        report.output = Some(Json::object([("v", Json::from("made up"))]));
        Some(report)
    }
}
