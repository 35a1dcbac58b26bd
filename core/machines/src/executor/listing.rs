//! What the executor drives already when it begins: what it held in the run before (K290, K294).

use super::hold::Hold;
use super::{Errand, Executor, pause};
use crate::Instant;
use crate::kernel::Refusal;
use crate::kernel::names::ProcessState;
use crate::kernel::principal::Principal;
use crate::kernel::query::page::ListProcesses;
use crate::kernel::query::view::ProcessControlBlock;
use crate::kernel::query::{Query, Told};

/// In which states a process can be under a run lease (K78).
const STATES: [ProcessState; 2] = [ProcessState::Running, ProcessState::Waiting];

/// How far it is with what there was.
#[derive(Clone, Debug)]
pub(super) enum Listing {
    /// It has not begun.
    Before,
    /// The next page is asked for at this time.
    Next { state: usize, token: String, at: Instant, refused: u32 },
    /// A page is on its way.
    Asked { state: usize, token: String, refused: u32 },
    /// All of it is held, or there is no place for it.
    Done,
}

impl Listing {
    pub(super) const fn at_start(at: Instant) -> Self {
        Self::Next { state: 0, token: String::new(), at, refused: 0 }
    }

    /// Says whether all that there was is found.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// When the next page is asked for.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self {
            Self::Next { at, .. } => Some(*at),
            Self::Before | Self::Asked { .. } | Self::Done => None,
        }
    }
}

impl Executor {
    /// Asks for the next page, if it is time.
    pub(super) fn list(&mut self) {
        let Listing::Next { state, token, at, refused } = &self.listing else {
            return;
        };
        if *at > self.clocks.0 {
            return;
        }
        let (state, token, refused) = (*state, token.clone(), *refused);
        let list = ListProcesses {
            state: STATES.get(state).copied(),
            user: None,
            page_size: 0, // The usual.
            page_token: token.clone(),
        };
        self.listing = Listing::Asked { state, token, refused };
        self.query(Errand::List, Query::ListProcesses(Box::new(list)));
    }

    /// Holds what a page has of its own, and asks for the next.
    pub(super) fn listed(&mut self, told: Result<&Told, &Refusal>) {
        let Listing::Asked { state, token, refused } = &self.listing else {
            return;
        };
        let (state, token, refused, now) = (*state, token.clone(), *refused, self.clocks.0);
        match told {
            Ok(Told::Processes(page)) => {
                let next = page.next_page_token.clone();
                let state = if next.is_empty() { state + 1 } else { state };
                self.listing = match state < STATES.len() {
                    true => Listing::Next { state, token: next, at: now, refused: 0 },
                    false => Listing::Done,
                };
                page.processes.iter().for_each(|process| self.find_again(process));
            }
            Ok(_) | Err(_) => {
                let at = now + pause(refused);
                self.listing = Listing::Next { state, token, at, refused: refused + 1 };
            }
        }
    }

    /// Holds a process again that it held in the run before.
    fn find_again(&mut self, process: &ProcessControlBlock) {
        let node = Principal::node().user;
        let own = process.run_lease.as_ref().is_some_and(|run| run.holder.user == node);
        if !own || !process.driven || self.held.contains_key(&process.pid) {
            return;
        }
        if self.held.len() >= self.held_max {
            // Its lease ends, and then it waits for its turn.
            crate::sometimes!("executor: there is no place for what it held");
            return;
        }
        let waits = process.state == ProcessState::Waiting;
        self.held.insert(process.pid.clone(), Hold::found(waits));
        self.ask_now(&process.pid);
    }
}
