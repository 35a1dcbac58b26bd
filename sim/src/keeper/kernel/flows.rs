//! Those who break what sessions promise: they rewrite rows behind the kernel's back.

use std::sync::Arc;

use machines::codec::Wire;
use machines::keeper::Keeper;
use machines::kernel::ids::{ProcessId, StageName};
use machines::kernel::names::TerminalReason;
use machines::kernel::process::Process;
use machines::kernel::sessions::{Session, SessionEnd, Standing};
use machines::kernel::{CommandBody, Kernel, Time};

use super::{Clerk, Turn, rewrite};

impl Clerk {
    /// What is done to sessions before a command.
    pub(super) fn break_session_before(&mut self, body: &CommandBody) {
        match (self.turn, body) {
            (Some(Turn::IssuesPerPoll), CommandBody::NextInstruction { pid }) => {
                self.change_session(pid, |session| {
                    forget_who_works(session);
                    session.attempts.clear();
                });
            }
            (Some(Turn::IssuesAgain), CommandBody::NextInstruction { pid }) => {
                self.change_session(pid, forget_who_works);
            }
            (Some(Turn::LetsErrorsPass), CommandBody::ReportAgentResult(report))
                if !report.success =>
            {
                self.change_session(&report.pid, |session| {
                    if let Some(to) = error_next(session, report.agent.as_str()) {
                        session.edges.remove(&(session.position.clone(), to.clone()));
                        session.visits.remove(&to);
                        session.iteration = 0;
                    }
                });
            }
            (_, _) => {}
        }
    }

    /// What is done to sessions after a command.
    pub(super) fn break_session_after(&mut self, pid: &ProcessId) {
        match self.turn {
            Some(Turn::EndsOnlySession) => self.change_session(pid, |session| {
                if session.ended.is_none() && session.edges.len() > 1 {
                    let (reason, message) = (TerminalReason::Completed, Arc::from("enough"));
                    session.ended = Some(SessionEnd { reason, message });
                }
            }),
            Some(Turn::RetriesUncounted) => self.change_session(pid, |session| {
                session.works.iter_mut().for_each(|work| work.failures = 0);
            }),
            _ => {}
        }
    }

    /// K440: lets all wait on, as good as for ever, who are Blocked and would go on now.
    pub(super) fn put_off(&mut self, now: Time) {
        /// So much longer.
        const MORE_MS: u64 = 3_600_000;
        let due = self.kernel().and_then(Kernel::next_deadline);
        if due.is_none_or(|due| due > now) {
            return;
        }
        self.put_rows("processes", |_, row| {
            let mut process = Process::from_bytes(&row).expect("a row that was frozen");
            if let Some(until) = process.block.as_mut().and_then(|block| block.until.as_mut()) {
                *until = if *until <= now { now.plus(MORE_MS) } else { *until };
            }
            Some(process.to_bytes())
        });
    }

    /// Changes a session behind the kernel's back.
    pub(super) fn change_session(&mut self, pid: &ProcessId, change: impl Fn(&mut Session)) {
        let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) else {
            return;
        };
        let Some(before) = kernel.state().session(pid).cloned() else {
            return;
        };
        let mut session = before.clone();
        change(&mut session);
        if session != before {
            let (wanted, changed) = (pid.to_bytes(), session.to_bytes());
            rewrite(kernel, "sessions", |key, row| match *key == wanted {
                true => changed.clone(),
                false => row,
            });
        }
    }
}

/// Lets what somebody works on be due.
fn forget_who_works(session: &mut Session) {
    for work in session.works.iter_mut().filter(|work| work.is_live()) {
        work.standing = Standing::Due;
    }
}

/// Returns where a failure of an agent leads.
fn error_next(session: &Session, agent: &str) -> Option<StageName> {
    let failed = session.pipeline.stages.iter().find(|stage| {
        stage.agent_config.as_ref().is_some_and(|config| config.name.as_str() == agent)
    });
    failed.and_then(|stage| stage.error_next.clone())
}
