//! Drain and stop (K362, K363).

use machines::kernel::housekeeping::StopMode;
use machines::kernel::names::TerminalReason;
use machines::kernel::state::State;
use machines::kernel::{Code, Time};

use super::dispatch::Stage;
use super::{Answer, Kernel, Note, Wrong};

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Its deadline.
    pub until: Time,
    /// How it ends in a stop, if it does.
    pub stop: Option<StopMode>,
    /// Whether something was live when it was stopped.
    pub cut: bool,
    /// Whether the node has stopped.
    pub stopped: bool,
}

impl Kernel {
    /// K362: nothing new is taken on.
    pub(super) fn only_serving(&self) -> Answer {
        match self.drain.is_some() && !self.is(Wrong::DrainTakesOn) {
            true => Err(Code::Draining),
            false => Ok(()),
        }
    }

    fn only_trusted(&self) -> Answer {
        match self.is_trusted() {
            true => Ok(()),
            false => Err(Code::PermissionDenied),
        }
    }

    /// No attempt and no try is live (K363).
    fn at_rest(&self) -> bool {
        let attempts = self.sessions.keys().any(|pid| self.has_live_attempt(pid));
        !attempts && !self.dispatches.values().any(|one| matches!(one.stage, Stage::Running(_)))
    }

    /// When the node stops by itself (K363).
    pub(super) fn stops_at(&self) -> Option<Time> {
        let drain = self.drain.filter(|drain| drain.stop.is_some() && !drain.stopped)?;
        Some(drain.until)
    }

    /// K362, and with `stop` K363.
    pub(super) fn start_drain(&mut self, asked: Option<u64>, stop: Option<StopMode>) -> Answer {
        self.only_trusted()?;
        if asked.is_some_and(|asked| asked == 0 || asked > self.config.limits.span_ms) {
            return Err(Code::BadValue);
        }
        let before = self.drain;
        if before.is_some_and(|before| before.stopped) {
            return Ok(());
        }
        let usual = self.now.plus(self.config.drain_ms);
        let until = match (asked, before) {
            (Some(asked), _) => self.now.plus(asked),
            // One that is under way keeps its deadline; a first stop has its own.
            (None, Some(before)) if stop.is_none() || before.stop.is_some() => before.until,
            (None, _) => usual,
        };
        let stop = stop.or(before.and_then(|before| before.stop));
        if let Some(mode) = stop.filter(|_| self.at_rest()) {
            self.stop_now(mode);
            return Ok(());
        }
        self.set_drain(Drain { until, stop, cut: false, stopped: false });
        Ok(())
    }

    fn set_drain(&mut self, drain: Drain) {
        if self.drain != Some(drain) {
            self.drain = Some(drain);
            self.note(Note::Draining);
        }
    }

    /// K363: a second signal, or the driver once all is at rest.
    pub(super) fn stop(&mut self, mode: StopMode) -> Answer {
        self.only_trusted()?;
        if !self.drain.is_some_and(|drain| drain.stopped) {
            self.stop_now(mode);
        }
        Ok(())
    }

    /// The deadline has come (K363).
    pub(super) fn stop_at_deadline(&mut self) {
        if let Some(mode) = self.drain.and_then(|drain| drain.stop) {
            self.stop_now(mode);
        }
    }

    fn stop_now(&mut self, mode: StopMode) {
        let until = self.drain.map_or(self.now, |drain| drain.until.min(self.now));
        let cut = !self.at_rest();
        self.set_drain(Drain { until, stop: Some(mode), cut, stopped: false });
        if mode == StopMode::Terminate && !self.is(Wrong::StopSpares) {
            while let Some(pid) = self.first_live() {
                self.end(&pid, TerminalReason::KernelShutdown, None);
            }
        }
        if let Some(drain) = &mut self.drain {
            drain.stopped = true;
        }
        self.note(Note::Stopped(!cut));
    }

    /// Which ends first is not said: by state and pid, as the kernel has it. One that ends with its
    /// parent ends as such (K84).
    fn first_live(&self) -> Option<super::ProcessId> {
        let live = self.processes.iter().filter(|(_, one)| one.is_live());
        live.min_by_key(|(pid, one)| (one.state, (*pid).clone())).map(|(pid, _)| pid.clone())
    }

    /// Says in what the machine's drain differs.
    #[must_use]
    pub fn drain_differs(&self, state: &State) -> Option<String> {
        let real = (state.drains_until(), state.is_stopped(), state.was_cut(), state.at_rest());
        let drain = self.drain.as_ref();
        let stopped = drain.is_some_and(|drain| drain.stopped);
        let cut = drain.is_some_and(|drain| drain.cut);
        let model = (drain.map(|drain| drain.until), stopped, cut, self.at_rest());
        (model != real).then(|| format!("drain: {real:?}, not {model:?}"))
    }
}
