//! Saboteurs of questions, answers and what follows from them (K426, K427, K436, K438, K441).

use machines::codec::Wire;
use machines::keeper::Keeper;
use machines::keeper::io as keeper;
use machines::kernel::Time;
use machines::kernel::ids::{InterruptId, ProcessId};
use machines::kernel::interrupts::approval::Use;
use machines::kernel::interrupts::interrupt::Interrupt;
use machines::kernel::names::{ExpiryPolicy, ProcessState};
use machines::kernel::process::Process;
use machines::kernel::ready::Key;
use machines::kernel::sessions::report::Report;
use machines::kernel::sessions::{Standing, Work};

use super::services::rows_of;
use super::{Clerk, Turn, answered, rewrite};

impl Clerk {
    /// K426: lists those who wait for an answer that comes with this input, or for whom the time of
    /// their question is over then.
    pub(super) fn about_to_wake(&mut self, now: Time, input: &keeper::Input) -> Vec<ProcessId> {
        if !self.turned(Turn::ForgetsWake) {
            return Vec::new();
        }
        let id = match input {
            keeper::Input::Command { command, .. } => answered(&command.body).cloned(),
            _ => None,
        };
        let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) else {
            return Vec::new();
        };
        if id.is_none() && kernel.next_deadline().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let rows = rows_of(kernel, "interrupts").into_iter();
        let asked = rows.map(|(_, row)| Interrupt::from_bytes(&row).expect("it was frozen"));
        let ends = |asked: &Interrupt| {
            let closes = id.as_ref() == Some(&asked.id);
            asked.blocking && (closes || asked.due_at().is_some_and(|due| due <= now))
        };
        asked.filter(ends).map(|asked| asked.pid).collect()
    }

    /// K426: lets those who have become Ready wait on, for nothing.
    pub(super) fn forget_wake(&mut self, waking: &[ProcessId]) {
        for pid in waking {
            let woken =
                |process: &Process| process.state == ProcessState::Ready && !process.is_held();
            if !self.kernel().and_then(|kernel| kernel.process(pid)).is_some_and(woken) {
                continue;
            }
            self.change(pid, |process| {
                (process.state, process.ready_at) = (ProcessState::Waiting, None);
            });
            let wanted = Key::Waiting { id: pid.clone() }.to_bytes();
            self.put_rows("ready", |key, row| Some(row).filter(|_| *key != *wanted));
        }
    }

    /// K427: what asks leave and is about to expire does as if it asked none.
    pub(super) fn take_silence_for_yes(&mut self, now: Time) {
        let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) else {
            return;
        };
        if kernel.next_deadline().is_none_or(|due| due > now) {
            return;
        }
        rewrite(kernel, "interrupts", |_, row| {
            let mut asked = Interrupt::from_bytes(&row).expect("a row that was frozen");
            if asked.kind.asks_leave() && asked.due_at().is_some_and(|due| due <= now) {
                asked.on_expiry = ExpiryPolicy::Continue;
            }
            asked.to_bytes()
        });
    }

    /// K436: branches are merged as they come in: the one that reports now comes after those that
    /// did, and before all others.
    pub(super) fn merge_on_arrival(&mut self, report: &Report) {
        self.change_session(&report.pid, |session| {
            let attempt = session.attempts.get(&report.attempt);
            let stage = attempt.map(|attempt| attempt.stage.clone());
            let place = session.works.iter().position(|work| Some(&work.stage) == stage.as_ref());
            if let Some(place) = place.filter(|_| session.group.is_some()) {
                let work = session.works.remove(place);
                let done = |work: &&Work| work.standing == Standing::Done;
                let ahead = session.works.iter().filter(done).count();
                session.works.insert(ahead, work);
            }
        });
    }

    /// K438: whoever was answered begins at the first stage again.
    pub(super) fn begin_again(&mut self, id: &InterruptId) {
        let asked = self.kernel().and_then(|kernel| kernel.state().interrupt(id));
        let Some(pid) = asked.filter(|asked| !asked.is_pending()).map(|asked| asked.pid.clone())
        else {
            return;
        };
        self.change_session(&pid, |session| {
            let first = session.pipeline.stages.first().map(|stage| stage.name.clone());
            let idle = session.attempts.is_empty() && session.group.is_none();
            if let Some(first) = first.filter(|_| idle && session.ended.is_none()) {
                let visit = session.visits.get(&first).copied().unwrap_or(1);
                session.works = vec![Work {
                    stage: first.clone(),
                    visit,
                    tries: 0,
                    failures: 0,
                    lost: 0,
                    standing: Standing::Due,
                    output: None,
                    failure: None,
                    asked: false,
                }];
                session.position = first;
            }
        });
    }

    /// K441: nobody looks again at what is done with leave: the kernel hears of what was shown.
    pub(super) fn skip_recheck(&self, wanted: &mut Use) {
        let asked = self.kernel().and_then(|kernel| kernel.state().interrupt(&wanted.interrupt));
        let Some(asked) = asked else {
            return;
        };
        if let (Some(target), Some(params)) = (&asked.target, asked.approved_params()) {
            wanted.action.clone_from(&target.action);
            wanted.params.clone_from(params);
        }
    }
}
